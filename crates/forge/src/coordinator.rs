//! Messages of the coordinator: types 2, 4, 6 and 8; and what registrar and survivors sign.

use crate::fields::{Fields, byte_string, count, header, path_bytes, statement};
use crate::participant::Advertisement;
use crate::{Hash, merkle};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

/// The roster's leaf for an advertisement.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn roster_leaf(advertisement: &[u8]) -> Hash {
    let id = Advertisement::read(advertisement).id;
    merkle::leaf(&[&byte_string(id.as_bytes())[..], &Sha256::digest(advertisement)[..]].concat())
}

/// The roster announcement, type 2, and the leaves that only the coordinator sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The context that it is said to be of.
    pub context: Hash,
    /// The receiver's place.
    pub index: u32,
    /// Everybody's leaf; not in the message.
    pub leaves: Vec<Hash>,
    /// Participants in it.
    pub n: u32,
    /// The tree hash over the leaves.
    pub root: Hash,
    /// From the receiver's leaf.
    pub path: Vec<Hash>,
    /// What the registrar is said to have signed.
    pub registrar_signature: [u8; 64],
    /// Place, advertisement and path of each neighbour.
    pub neighbours: Vec<(u32, Vec<u8>, Vec<Hash>)>,
}

impl Roster {
    /// Reads one. `leaves` are not in the message, and needed to sign it anew.
    #[must_use]
    pub fn parse(message: &[u8], leaves: Vec<Hash>) -> Option<Self> {
        let (mut fields, context) = Fields::of(message, 2)?;
        let (index, n, root, path) = (fields.u32()?, fields.u32()?, fields.array()?, fields.path()?);
        let registrar_signature = fields.array()?;
        let neighbours = fields.list(|fields| Some((fields.u32()?, fields.bytes()?.to_vec(), fields.path()?)))?;
        fields.end()?;
        Some(Self { context, index, leaves, n, root, path, registrar_signature, neighbours })
    }

    /// Reads an honest one.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(message: &[u8], leaves: Vec<Hash>) -> Self {
        Self::parse(message, leaves).expect("a roster")
    }

    /// Writes it as it now is.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut message = header(2, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(self.n.to_le_bytes());
        message.extend(self.root);
        message.extend(path_bytes(&self.path));
        message.extend(self.registrar_signature);
        message.extend(count(self.neighbours.len()));
        for (index, advertisement, path) in &self.neighbours {
            message.extend(index.to_le_bytes());
            message.extend(byte_string(advertisement));
            message.extend(path_bytes(path));
        }
        message
    }

    /// Replaces a neighbour's advertisement, here and among the leaves.
    ///
    /// # Panics
    /// If it is no neighbour.
    pub fn replace(&mut self, neighbour: u32, advertisement: Vec<u8>) {
        self.leaves[neighbour as usize] = roster_leaf(&advertisement);
        let place = self.neighbours.iter_mut().find(|(index, ..)| *index == neighbour).expect("a neighbour");
        place.1 = advertisement;
    }

    /// Signed by a registrar that looks at nothing: root and paths are those of the leaves as they now are.
    ///
    /// # Panics
    /// If there are 2^32 leaves.
    pub fn sign(&mut self, registrar: &SigningKey) {
        self.path = merkle::path(&self.leaves, self.index as usize);
        for (index, _, neighbours_path) in &mut self.neighbours {
            *neighbours_path = merkle::path(&self.leaves, *index as usize);
        }
        self.n = u32::try_from(self.leaves.len()).expect("a roster of a test is short");
        self.root = merkle::root(&self.leaves);
        let mut signed = statement("roster signature", &self.context);
        signed.extend(self.n.to_le_bytes());
        signed.extend(self.root);
        self.registrar_signature = registrar.sign(&signed).to_bytes();
    }
}

/// One dealer's shares in the delivered shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The dealer's place in the roster.
    pub dealer: u32,
    /// To the dealer's self-mask seed.
    pub self_seed_commitment: Hash,
    /// SHA-256 of what the dealer's proof commits to.
    pub commitments: Hash,
    /// The pair's place among those of the dealer.
    pub position: u32,
    /// The sealed pair, as [`crate::Record`] reads it.
    pub record: Vec<u8>,
    /// From the pair's leaf.
    pub path: Vec<Hash>,
    /// The dealer's.
    pub signature: [u8; 64],
}

/// The delivered shares, type 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The context that they are said to be of.
    pub context: Hash,
    /// One for each dealer.
    pub deliveries: Vec<Delivery>,
}

impl Delivered {
    /// Reads them.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (mut fields, context) = Fields::of(message, 4)?;
        let deliveries = fields.list(|fields| {
            Some(Delivery {
                dealer: fields.u32()?,
                self_seed_commitment: fields.array()?,
                commitments: fields.array()?,
                position: fields.u32()?,
                record: fields.bytes()?.to_vec(),
                path: fields.path()?,
                signature: fields.array()?,
            })
        })?;
        fields.end()?;
        Some(Self { context, deliveries })
    }

    /// Reads honest ones.
    ///
    /// # Panics
    /// If they are none.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        Self::parse(message).expect("delivered shares")
    }

    /// Writes them as they now are.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut message = header(4, &self.context);
        message.extend(count(self.deliveries.len()));
        for delivery in &self.deliveries {
            message.extend(delivery.dealer.to_le_bytes());
            message.extend(delivery.self_seed_commitment);
            message.extend(delivery.commitments);
            message.extend(delivery.position.to_le_bytes());
            message.extend(byte_string(&delivery.record));
            message.extend(path_bytes(&delivery.path));
            message.extend(delivery.signature);
        }
        message
    }
}

/// The survivor list, type 6, signed by a registrar that looks at nothing.
#[must_use]
pub fn survivor_list(
    context: &Hash,
    roster_root: &Hash,
    n: u32,
    members: impl IntoIterator<Item = u32>,
    registrar: &SigningKey,
) -> Vec<u8> {
    let members = survivor_set(n, members);
    let mut signed = statement("survivor list signature", context);
    signed.extend(roster_root);
    signed.extend(&members);
    [&header(6, context)[..], &members, &registrar.sign(&signed).to_bytes()].concat()
}

/// A survivor list of other members under the registrar's signature of this one.
#[must_use]
pub fn other_survivors(message: &[u8], n: u32, members: impl IntoIterator<Item = u32>) -> Option<Vec<u8>> {
    let (mut fields, context) = Fields::of(message, 6)?;
    let (_, _, signature) = (fields.u32()?, fields.bytes()?, fields.take(64)?);
    Some([&header(6, &context)[..], &survivor_set(n, members), signature].concat())
}

/// Size of the roster and members, out of a survivor list.
#[must_use]
pub fn survivors_of(message: &[u8]) -> Option<(u32, Vec<u32>)> {
    let (mut fields, _) = Fields::of(message, 6)?;
    let (n, bitmap, _) = (fields.u32()?, fields.bytes()?, fields.take(64)?);
    fields.end()?;
    let stands = |index: &u32| bitmap.get(*index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    Some((n, (0..n).filter(stands).collect()))
}

fn survivor_set(n: u32, members: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut bitmap = vec![0; n.div_ceil(8) as usize];
    members.into_iter().for_each(|index| bitmap[index as usize / 8] |= 1 << (index % 8));
    [&n.to_le_bytes()[..], &byte_string(&bitmap)].concat()
}

/// A participant's signature of a survivor set.
#[must_use]
pub fn survivors_signature(
    context: &Hash,
    roster_root: &Hash,
    n: u32,
    members: impl IntoIterator<Item = u32>,
    key: &SigningKey,
) -> [u8; 64] {
    let mut signed = statement("survivors signature", context);
    signed.extend(roster_root);
    signed.extend(survivor_set(n, members));
    key.sign(&signed).to_bytes()
}

/// The signature list, type 8.
#[must_use]
pub fn signature_list(context: &Hash, list: &[(u32, [u8; 64])]) -> Vec<u8> {
    let mut message = header(8, context);
    message.extend(count(list.len()));
    for (signer, signature) in list {
        message.extend(signer.to_le_bytes());
        message.extend(signature);
    }
    message
}
