//! What a survivor committed to, for those who were not there.

use super::shares::{SharesStatement, commitments_digest};
use super::signature::verify;
use super::{CERTIFICATES_MAX, COMMITMENTS_MAX, NEIGHBOURS_MAX};
use crate::canonical::{Malformed, Reader, Writer};
use crate::certificate_key::CertificateKey;
use crate::context::{ContextDigest, ParticipantId, VERSION};
use crate::merkle::Hash;

/// The commitments of a survivor's proof, with what its signature of them is checked with. It holds no secret, and none
/// of the sealed shares.
///
/// The signature does not name the signer. Who it is says the certificate: a reader asks its own trust anchors for the
/// key that [`Self::certificates`] certifies for [`Self::id`], and [`Self::verify`] whether that key signed this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCommitments {
    /// Its name.
    pub id: ParticipantId,
    /// The certificate chain that it advertised, leaf first, as the deployment encodes it; opaque here. At most
    /// [`CERTIFICATES_MAX`] bytes.
    pub certificates: Vec<u8>,
    /// Its place in the roster.
    pub index: u32,
    /// To its self-mask seed.
    pub self_seed_commitment: Hash,
    /// At most [`COMMITMENTS_MAX`] bytes.
    pub commitments: Vec<u8>,
    /// For how many it sealed shares, at most [`NEIGHBOURS_MAX`].
    pub holders: u32,
    /// Of the tree over its sealed shares.
    pub root: Hash,
    /// Of all this but name and certificates, in its context.
    pub signature: [u8; 64],
}

impl SignedCommitments {
    /// Version, then the fields in their order.
    ///
    /// # Panics
    /// If a field is longer than its maximum.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { id, certificates, index, self_seed_commitment, commitments, holders, root, signature } = self;
        assert!(
            certificates.len() <= CERTIFICATES_MAX && commitments.len() <= COMMITMENTS_MAX,
            "both are bounded in the messages they are from"
        );
        let mut out = Writer::new();
        out.u16(VERSION).bytes(id.as_str().as_bytes()).bytes(certificates).u32(*index).raw(self_seed_commitment);
        out.bytes(commitments).u32(*holders).raw(root).raw(signature);
        out.finish()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Malformed`]: anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let got = input.u16("version")?;
        if got != VERSION {
            return Err(Malformed::Version { got, expected: VERSION });
        }
        let name = std::str::from_utf8(input.bytes(ParticipantId::MAX_LEN, "participant")?);
        let id = name.ok().and_then(|name| ParticipantId::new(name).ok());
        let decoded = Self {
            id: id.ok_or(Malformed::Value { field: "participant" })?,
            certificates: input.bytes(CERTIFICATES_MAX, "certificates")?.to_vec(),
            index: input.u32("index")?,
            self_seed_commitment: input.hash("self-mask seed commitment")?,
            commitments: input.bytes(COMMITMENTS_MAX, "commitments")?.to_vec(),
            holders: input.u32("holders")?,
            root: input.hash("root of the shares")?,
            signature: input.array("signature")?,
        };
        input.finish()?;
        if decoded.holders as usize > NEIGHBOURS_MAX {
            return Err(Malformed::TooLong { field: "holders", len: decoded.holders as usize, max: NEIGHBOURS_MAX });
        }
        Ok(decoded)
    }

    /// Whether this key signed these commitments in this context.
    #[must_use]
    pub fn verify(&self, context: &ContextDigest, key: &CertificateKey) -> bool {
        let statement = SharesStatement {
            context,
            dealer: self.index,
            self_seed_commitment: &self.self_seed_commitment,
            commitments: &commitments_digest(&self.commitments),
            holders: self.holders,
            root: &self.root,
        };
        verify(key, &statement.bytes(), &self.signature)
    }
}
