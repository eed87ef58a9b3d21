//! ShareKeys: what a dealer seals for its neighbours, and what each of them is given with the evidence that it is that.
//! Beside it stand the commitments of its proof, where inputs carry one: signed with the shares, and shown to neighbours
//! by their digest only.

use super::signature::{Claim, Signer, verify};
use super::{COMMITMENTS_MAX, NEIGHBOURS_MAX, SHARES_PATH_MAX, begin, kind, open, read_path, write_path};
use crate::canonical::{Malformed, Reader, Writer};
use crate::certificate_key::CertificateKey;
use crate::context::{ContextDigest, VERSION};
use crate::keys::{Encapsulation, PlainShares, ShareCommitments};
use crate::labels;
use crate::merkle::{self, Hash};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// What a dealer sealed for one holder, with the commitments that the holder checks it against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedShares<'a> {
    pub(crate) holder: u32,
    pub(crate) commitments: ShareCommitments,
    /// For the pairwise mask; from the lower index to the higher one, where the context asks for ML-KEM.
    pub(crate) mask_encapsulation: Option<&'a Encapsulation>,
    /// For the channel, in this direction.
    pub(crate) channel_encapsulation: Option<&'a Encapsulation>,
    pub(crate) sealed: &'a [u8; PlainShares::SEALED_LEN],
}

impl<'a> SealedShares<'a> {
    const LEN_MIN: usize = 4 + 32 + 32 + 4 + 4 + 4 + PlainShares::SEALED_LEN;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = |encapsulation: Option<&'a Encapsulation>| encapsulation.map_or(&[][..], |bytes| &bytes[..]);
        let mut out = Writer::new();
        out.u32(self.holder).raw(&self.commitments.root).raw(&self.commitments.self_seed);
        out.bytes(bytes(self.mask_encapsulation)).bytes(bytes(self.channel_encapsulation)).bytes(self.sealed);
        out.finish()
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        let holder = input.u32("holder")?;
        let commitments =
            ShareCommitments { root: input.hash("root commitment")?, self_seed: input.hash("self-seed commitment")? };
        let mask_encapsulation = input.bytes_or_none("mask encapsulation")?;
        let channel_encapsulation = input.bytes_or_none("channel encapsulation")?;
        let sealed = input.bytes_or_none("sealed shares")?.ok_or(Malformed::Value { field: "sealed shares" })?;
        Ok(Self { holder, commitments, mask_encapsulation, channel_encapsulation, sealed })
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let decoded = Self::read(&mut input)?;
        input.finish()?;
        Ok(decoded)
    }

    /// Whether it has the encapsulations that belong there.
    pub(crate) fn has_encapsulations(&self, dealer: u32, pq: bool) -> bool {
        self.channel_encapsulation.is_some() == pq && self.mask_encapsulation.is_some() == (pq && dealer < self.holder)
    }
}

/// SHA-256 of the commitments that a dealer sent; also where there are none.
pub(crate) fn commitments_digest(commitments: &[u8]) -> Hash {
    Sha256::digest(commitments).into()
}

/// What a dealer signs.
#[derive(Clone, Copy)]
pub(crate) struct SharesStatement<'a> {
    pub(crate) context: &'a ContextDigest,
    pub(crate) dealer: u32,
    pub(crate) self_seed_commitment: &'a Hash,
    /// [`commitments_digest`].
    pub(crate) commitments: &'a Hash,
    pub(crate) holders: u32,
    /// Of the tree over its sealed shares, so that each holder can check its own.
    pub(crate) root: &'a Hash,
}

impl SharesStatement<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { context, dealer, self_seed_commitment, commitments, holders, root } = *self;
        let mut out = Writer::new();
        out.bytes(labels::SHARES_SIGNATURE).u16(VERSION).raw(&context.0).u32(dealer).raw(self_seed_commitment);
        out.raw(commitments).u32(holders).raw(root);
        out.finish()
    }
}

/// Step 1, participant: a sealed pair of shares for each neighbour, with commitments, as it was received.
#[derive(Debug, Clone)]
pub(crate) struct ShareKeys {
    pub(crate) index: u32,
    pub(crate) self_seed_commitment: Hash,
    /// Where the commitments of the proof are in the message.
    commitments: Range<usize>,
    /// [`commitments_digest`] of them.
    commitments_digest: Hash,
    /// Ascending by holder: where the bytes of its [`SealedShares`] are in the message.
    records: Vec<(u32, Range<usize>)>,
    tree: merkle::Tree,
    pub(crate) signature: [u8; 64],
    bytes: Vec<u8>,
}

impl ShareKeys {
    /// - `commitments`: at most [`COMMITMENTS_MAX`] bytes.
    /// - `records`: encoded [`SealedShares`], ascending by holder.
    pub(crate) fn encode(
        context: &ContextDigest,
        index: u32,
        (self_seed_commitment, commitments): (&Hash, &[u8]),
        records: &[Vec<u8>],
        signer: &impl Signer,
    ) -> Vec<u8> {
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf(record)).collect();
        let statement = SharesStatement {
            context,
            dealer: index,
            self_seed_commitment,
            commitments: &commitments_digest(commitments),
            holders: u32::try_from(records.len()).expect("no more than neighbours"),
            root: &merkle::root(&leaves),
        };
        let mut out = begin(kind::SHARE_KEYS, context);
        out.u32(index).raw(self_seed_commitment).bytes(commitments).count(records.len());
        for record in records {
            out.raw(record);
        }
        out.raw(&signer.sign(&statement.bytes()));
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, ContextDigest), Malformed> {
        let (mut input, context) = open(bytes, kind::SHARE_KEYS)?;
        let index = input.u32("index")?;
        let self_seed_commitment = input.hash("self-mask seed commitment")?;
        let commitments = input.bytes(COMMITMENTS_MAX, "commitments")?;
        let commitments_digest = commitments_digest(commitments);
        let behind = bytes.len() - input.rest_len();
        let commitments = behind - commitments.len()..behind;
        let count = input.count(NEIGHBOURS_MAX, SealedShares::LEN_MIN, "shares")?;
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let start = bytes.len() - input.rest_len();
            let holder = SealedShares::read(&mut input)?.holder;
            records.push((holder, start..bytes.len() - input.rest_len()));
        }
        let signature = input.array("signature")?;
        input.finish()?;
        let leaves = records.iter().map(|(_, range)| merkle::leaf(&bytes[range.clone()])).collect();
        let tree = merkle::Tree::new(leaves);
        let bytes = bytes.to_vec();
        let decoded =
            Self { index, self_seed_commitment, commitments, commitments_digest, records, tree, signature, bytes };
        Ok((decoded, context))
    }

    /// The message.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The commitments of its proof; empty where inputs carry none.
    pub(crate) fn commitments(&self) -> &[u8] {
        &self.bytes[self.commitments.clone()]
    }

    /// For how many it sealed shares.
    pub(crate) fn holders_len(&self) -> u32 {
        u32::try_from(self.records.len()).expect("the decoder bounds the list")
    }

    /// Of the tree over its sealed shares.
    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }

    pub(crate) fn is_signed_by(&self, key: &CertificateKey, context: &ContextDigest) -> bool {
        let statement = SharesStatement {
            context,
            dealer: self.index,
            self_seed_commitment: &self.self_seed_commitment,
            commitments: &self.commitments_digest,
            holders: self.holders_len(),
            root: &self.root(),
        };
        verify(key, &statement.bytes(), &self.signature)
    }

    pub(crate) fn holders(&self) -> impl Iterator<Item = u32> {
        self.records.iter().map(|(holder, _)| *holder)
    }

    pub(crate) fn sealed(&self) -> impl Iterator<Item = SealedShares<'_>> {
        self.records.iter().map(|(_, range)| self.read_again(range))
    }

    fn read_again(&self, range: &Range<usize>) -> SealedShares<'_> {
        SealedShares::decode(&self.bytes[range.clone()]).expect("it was decoded before")
    }

    /// What is delivered to a holder.
    pub(crate) fn delivery(&self, holder: u32) -> Option<Delivery<'_>> {
        let position = self.records.binary_search_by_key(&holder, |(holder, _)| *holder).ok()?;
        let (_, range) = self.records.get(position)?;
        Some(Delivery {
            dealer: self.index,
            self_seed_commitment: self.self_seed_commitment,
            commitments: self.commitments_digest,
            position: u32::try_from(position).ok()?,
            record: &self.bytes[range.clone()],
            path: self.tree.path(position)?,
            signature: self.signature,
        })
    }
}

/// One dealer's shares for the receiver, with the evidence that they are those it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) dealer: u32,
    pub(crate) self_seed_commitment: Hash,
    /// [`commitments_digest`] of what the dealer committed to: for its signature, nothing else.
    pub(crate) commitments: Hash,
    /// The receiver's place among the dealer's holders.
    pub(crate) position: u32,
    /// Encoded [`SealedShares`].
    pub(crate) record: &'a [u8],
    pub(crate) path: Vec<Hash>,
    pub(crate) signature: [u8; 64],
}

impl<'a> Delivery<'a> {
    fn write(&self, out: &mut Writer) {
        out.u32(self.dealer).raw(&self.self_seed_commitment).raw(&self.commitments);
        out.u32(self.position).bytes(self.record);
        write_path(out, &self.path);
        out.raw(&self.signature);
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            dealer: input.u32("dealer")?,
            self_seed_commitment: input.hash("self-mask seed commitment")?,
            commitments: input.hash("digest of the commitments")?,
            position: input.u32("position")?,
            record: input.bytes(RECORD_MAX, "sealed shares")?,
            path: read_path(input, SHARES_PATH_MAX)?,
            signature: input.array("signature")?,
        })
    }

    /// What the dealer has signed, if this is one of the pairs that it sealed for `holders` neighbours.
    pub(crate) fn claim<'k>(
        &self,
        context: &ContextDigest,
        holders: u32,
        key: &'k CertificateKey,
    ) -> Option<Claim<'k>> {
        let leaf = merkle::leaf(self.record);
        let root = merkle::root_of_path(&leaf, self.position as usize, holders as usize, &self.path)?;
        let statement = SharesStatement {
            context,
            dealer: self.dealer,
            self_seed_commitment: &self.self_seed_commitment,
            commitments: &self.commitments,
            holders,
            root: &root,
        };
        Some(Claim { key, statement: statement.bytes(), signature: self.signature })
    }
}

/// Bytes of encoded [`SealedShares`], at most.
const RECORD_MAX: usize = SealedShares::LEN_MIN + 2 * size_of::<Encapsulation>();

/// Step 2, coordinator: what the neighbours sealed for the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveredShares<'a> {
    pub(crate) context: ContextDigest,
    /// Ascending by dealer.
    pub(crate) deliveries: Vec<Delivery<'a>>,
}

impl<'a> DeliveredShares<'a> {
    const DELIVERY_LEN_MIN: usize = 4 + 32 + 32 + 4 + 4 + SealedShares::LEN_MIN + 4 + 64;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = begin(kind::DELIVERED_SHARES, &self.context);
        out.count(self.deliveries.len());
        self.deliveries.iter().for_each(|delivery| delivery.write(&mut out));
        out.finish()
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::DELIVERED_SHARES)?;
        let count = input.count(NEIGHBOURS_MAX, Self::DELIVERY_LEN_MIN, "shares")?;
        let deliveries = (0..count).map(|_| Delivery::read(&mut input)).collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self { context, deliveries })
    }
}
