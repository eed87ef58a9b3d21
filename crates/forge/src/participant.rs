//! Messages of participants: types 1, 3, 5, 7 and 9.

use crate::coordinator::Delivery;
use crate::fields::{Fields, byte_string, count, header, label, statement};
use crate::{Hash, merkle};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

/// Replaces the signature at the end of a participant's message of type 1, 5 or 9.
///
/// # Panics
/// If it is shorter than a signature.
pub fn resign(message: &mut [u8], key: &SigningKey) {
    let body = message.len().checked_sub(SIGNATURE).expect("the message ends with a signature");
    let signed = [&label("message signature")[..], &message[..body]].concat();
    message[body..].copy_from_slice(&key.sign(&signed).to_bytes());
}

const SIGNATURE: usize = 64;

/// `AdvertiseKeys`, type 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// The context that it is said to be of.
    pub context: Hash,
    /// The name.
    pub id: String,
    /// Channel keys: X25519, ML-KEM.
    pub channel: ([u8; 32], Vec<u8>),
    /// Mask keys: X25519, ML-KEM.
    pub mask: ([u8; 32], Vec<u8>),
    /// The certificate chain.
    pub certificates: Vec<u8>,
}

impl Advertisement {
    /// Reads one; its signature is not looked at.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (mut fields, context) = Fields::of(message, 1)?;
        let id = String::from_utf8(fields.bytes()?.to_vec()).ok()?;
        let mut keys = || Some((fields.array()?, fields.bytes()?.to_vec()));
        let (channel, mask) = (keys()?, keys()?);
        let certificates = fields.bytes()?.to_vec();
        fields.take(SIGNATURE)?;
        fields.end()?;
        Some(Self { context, id, channel, mask, certificates })
    }

    /// Reads an honest one.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        Self::parse(message).expect("an advertisement")
    }

    /// Writes it, signed with this key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(1, &self.context);
        message.extend(byte_string(self.id.as_bytes()));
        for (x25519, kem) in [&self.channel, &self.mask] {
            message.extend_from_slice(x25519);
            message.extend(byte_string(kem));
        }
        message.extend(byte_string(&self.certificates));
        message.extend_from_slice(&[0; SIGNATURE]);
        resign(&mut message, key);
        message
    }
}

/// A pair of shares that was sealed for one holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The holder's place in the roster.
    pub holder: u32,
    /// To the share of the root, then to that of the self-mask seed.
    pub commitments: [Hash; 2],
    /// Of the pairwise mask; empty where there is none.
    pub mask_encapsulation: Vec<u8>,
    /// Of the channel; empty where there is none.
    pub channel_encapsulation: Vec<u8>,
    /// Ciphertext and tag.
    pub sealed: Vec<u8>,
}

impl Record {
    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            holder: fields.u32()?,
            commitments: [fields.array()?, fields.array()?],
            mask_encapsulation: fields.bytes()?.to_vec(),
            channel_encapsulation: fields.bytes()?.to_vec(),
            sealed: fields.bytes()?.to_vec(),
        })
    }

    /// Reads an honest one.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        let record = Self::take(&mut fields);
        record.filter(|_| fields.end().is_some()).expect("a sealed pair")
    }

    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = self.holder.to_le_bytes().to_vec();
        out.extend(self.commitments.concat());
        for part in [&self.mask_encapsulation, &self.channel_encapsulation, &self.sealed] {
            out.extend(byte_string(part));
        }
        out
    }
}

/// `ShareKeys`, type 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareKeys {
    /// The context that it is said to be of.
    pub context: Hash,
    /// The dealer's place in the roster.
    pub index: u32,
    /// To the self-mask seed.
    pub self_seed_commitment: Hash,
    /// Of the proof; empty where inputs carry none.
    pub commitments: Vec<u8>,
    /// One for each holder.
    pub records: Vec<Record>,
}

impl ShareKeys {
    /// Reads one; its signature is not looked at.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (mut fields, context) = Fields::of(message, 3)?;
        let index = fields.u32()?;
        let self_seed_commitment = fields.array()?;
        let commitments = fields.bytes()?.to_vec();
        let records = fields.list(Record::take)?;
        fields.take(SIGNATURE)?;
        fields.end()?;
        Some(Self { context, index, self_seed_commitment, commitments, records })
    }

    /// Reads an honest one.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        Self::parse(message).expect("sealed shares")
    }

    fn leaves(&self) -> Vec<Hash> {
        self.records.iter().map(|record| merkle::leaf(&record.write())).collect()
    }

    /// The dealer's signature of it as it now is.
    #[must_use]
    pub fn signature(&self, key: &SigningKey) -> [u8; 64] {
        let mut signed = statement("shares signature", &self.context);
        signed.extend(self.index.to_le_bytes());
        signed.extend(self.self_seed_commitment);
        signed.extend(Sha256::digest(&self.commitments));
        signed.extend(count(self.records.len()));
        signed.extend(merkle::root(&self.leaves()));
        key.sign(&signed).to_bytes()
    }

    /// Writes it, signed with this key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(3, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(self.self_seed_commitment);
        message.extend(byte_string(&self.commitments));
        message.extend(count(self.records.len()));
        message.extend(self.records.iter().flat_map(Record::write));
        message.extend(self.signature(key));
        message
    }

    /// What is delivered to a holder.
    ///
    /// # Panics
    /// If it is none of the holders.
    #[must_use]
    pub fn delivery(&self, holder: u32, key: &SigningKey) -> Delivery {
        let position = self.records.iter().position(|record| record.holder == holder).expect("a holder");
        Delivery {
            dealer: self.index,
            self_seed_commitment: self.self_seed_commitment,
            commitments: Sha256::digest(&self.commitments).into(),
            position: u32::try_from(position).expect("lists of a test are short"),
            record: self.records[position].write(),
            path: merkle::path(&self.leaves(), position),
            signature: self.signature(key),
        }
    }
}

/// The header of a masked input, type 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedInput {
    /// The context that it is said to be of.
    pub context: Hash,
    /// The sender's place in the roster.
    pub index: u32,
    /// Those whose masks are in it, as [`dealers`] hashes them.
    pub dealers: Hash,
    /// Bytes of the packed vector and the proof behind it.
    pub len: u64,
    /// SHA-256 of both.
    pub digest: Hash,
    /// Dealers whose shares are said not to open.
    pub complaints: Vec<u32>,
}

impl MaskedInput {
    /// Reads one; its signature is not looked at.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (mut fields, context) = Fields::of(message, 5)?;
        let index = fields.u32()?;
        let (dealers, len, digest) = (fields.array()?, fields.u64()?, fields.array()?);
        let complaints = fields.list(Fields::u32)?;
        fields.take(SIGNATURE)?;
        fields.end()?;
        Some(Self { context, index, dealers, len, digest, complaints })
    }

    /// Reads an honest one.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        Self::parse(message).expect("the header of an input")
    }

    /// The same header for other bytes.
    #[must_use]
    pub fn of(self, upload: &[u8]) -> Self {
        Self { len: upload.len() as u64, digest: Sha256::digest(upload).into(), ..self }
    }

    /// Writes it, signed with this key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(5, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(self.dealers);
        message.extend(self.len.to_le_bytes());
        message.extend(self.digest);
        message.extend(count(self.complaints.len()));
        self.complaints.iter().for_each(|dealer| message.extend(dealer.to_le_bytes()));
        message.extend([0; SIGNATURE]);
        resign(&mut message, key);
        message
    }
}

/// The hash of the dealers that an input is masked with, ascending.
#[must_use]
pub fn dealers(context: &Hash, dealers: &[u32]) -> Hash {
    let mut hashed = byte_string(&label("dealers"));
    hashed.extend(context);
    hashed.extend(count(dealers.len()));
    dealers.iter().for_each(|dealer| hashed.extend(dealer.to_le_bytes()));
    Sha256::digest(hashed).into()
}

/// `ConsistencyCheck`, type 7.
#[must_use]
pub fn consistency(context: &Hash, index: u32, signature: &[u8; 64]) -> Vec<u8> {
    [&header(7, context)[..], &index.to_le_bytes(), signature].concat()
}

/// The signature in a `ConsistencyCheck` message.
#[must_use]
pub fn consistency_signature(message: &[u8]) -> Option<[u8; 64]> {
    let (mut fields, _) = Fields::of(message, 7)?;
    fields.u32()?;
    let signature = fields.array()?;
    fields.end()?;
    Some(signature)
}

/// One share in an `Unmasking` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The dealer's place in the roster.
    pub dealer: u32,
    /// 0 for the root, 1 for the self-mask seed.
    pub role: u8,
    /// The share.
    pub share: [u8; 32],
    /// What opens its commitment.
    pub salt: [u8; 32],
}

/// `Unmasking`, type 9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmasking {
    /// The context that it is said to be of.
    pub context: Hash,
    /// The holder's place in the roster.
    pub index: u32,
    /// What it reveals.
    pub shares: Vec<Share>,
}

impl Unmasking {
    /// Reads one; its signature is not looked at.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (mut fields, context) = Fields::of(message, 9)?;
        let index = fields.u32()?;
        let shares = fields.list(|fields| {
            let (dealer, [role]) = (fields.u32()?, fields.array()?);
            Some(Share { dealer, role, share: fields.array()?, salt: fields.array()? })
        })?;
        fields.take(SIGNATURE)?;
        fields.end()?;
        Some(Self { context, index, shares })
    }

    /// Reads an honest one.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        Self::parse(message).expect("revealed shares")
    }

    /// Writes it, signed with this key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(9, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(count(self.shares.len()));
        for Share { dealer, role, share, salt } in &self.shares {
            message.extend(dealer.to_le_bytes());
            message.push(*role);
            message.extend(share);
            message.extend(salt);
        }
        message.extend([0; SIGNATURE]);
        resign(&mut message, key);
        message
    }
}
