//! What a lying coordinator or participant can write: the messages, from their description in `docs/protocol.md` and
//! not from the crate's own code.

use super::World;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use sordino_secagg::merkle::{self, Hash};
use std::collections::BTreeSet;

const VERSION: u16 = 1;

/// Takes fields from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// After the header, whose type is checked.
    fn of(message: &'a [u8], kind: u16) -> (Self, Hash) {
        let mut fields = Self(message);
        assert_eq!(fields.array(), VERSION.to_le_bytes());
        assert_eq!(fields.array(), kind.to_le_bytes());
        let context = fields.array();
        (fields, context)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as long as was asked for")
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = self.u32() as usize;
        self.take(len)
    }

    fn end(self) {
        assert!(self.0.is_empty(), "{} bytes are left", self.0.len());
    }
}

fn header(kind: u16, context: &Hash) -> Vec<u8> {
    [&VERSION.to_le_bytes()[..], &kind.to_le_bytes()[..], context].concat()
}

fn count(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("short").to_le_bytes()
}

fn byte_string(bytes: &[u8]) -> Vec<u8> {
    [&count(bytes.len())[..], bytes].concat()
}

/// Replaces the signature at the end of a participant's message.
pub(crate) fn resign(message: &mut [u8], key: &SigningKey) {
    let body = message.len() - 64;
    let statement = [b"sordino/secagg/v1/message signature", &message[..body]].concat();
    message[body..].copy_from_slice(&key.sign(&statement).to_bytes());
}

/// Puts a message into another context, without a new signature.
pub(crate) fn relabel(message: &[u8], context: &Hash) -> Vec<u8> {
    let mut message = message.to_vec();
    message[4..36].copy_from_slice(context);
    message
}

/// `AdvertiseKeys`, type 1.
#[derive(Clone)]
pub(crate) struct Advertisement {
    pub(crate) context: Hash,
    pub(crate) id: String,
    pub(crate) channel_key: [u8; 32],
    pub(crate) mask_key: [u8; 32],
    pub(crate) certificates: Vec<u8>,
}

impl Advertisement {
    pub(crate) fn read(message: &[u8]) -> Self {
        let (mut fields, context) = Fields::of(message, 1);
        let id = String::from_utf8(fields.bytes().to_vec()).expect("a name");
        let (channel_key, mask_key) = (fields.array(), fields.array());
        assert_eq!(fields.u32(), 0, "no encapsulation key in this version");
        let certificates = fields.bytes().to_vec();
        fields.take(64);
        fields.end();
        Self { context, id, channel_key, mask_key, certificates }
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(1, &self.context);
        message.extend(byte_string(self.id.as_bytes()));
        message.extend_from_slice(&self.channel_key);
        message.extend_from_slice(&self.mask_key);
        message.extend(byte_string(&[]));
        message.extend(byte_string(&self.certificates));
        message.extend_from_slice(&[0; 64]);
        resign(&mut message, key);
        message
    }
}

/// The roster's leaf for an advertisement.
pub(crate) fn leaf(advertisement: &[u8]) -> Hash {
    let id = Advertisement::read(advertisement).id;
    merkle::leaf(&[&byte_string(id.as_bytes())[..], &Sha256::digest(advertisement)[..]].concat())
}

/// The roster announcement, type 2.
#[derive(Clone)]
pub(crate) struct Roster {
    pub(crate) context: Hash,
    pub(crate) index: u32,
    pub(crate) leaves: Vec<Hash>,
    pub(crate) registrar_signature: [u8; 64],
    pub(crate) neighbours: Vec<(u32, Vec<u8>)>,
}

impl Roster {
    pub(crate) fn read(message: &[u8]) -> Self {
        let (mut fields, context) = Fields::of(message, 2);
        let index = fields.u32();
        let leaves = (0..fields.u32()).map(|_| fields.array()).collect();
        let registrar_signature = fields.array();
        let neighbours = (0..fields.u32()).map(|_| (fields.u32(), fields.bytes().to_vec())).collect();
        fields.end();
        Self { context, index, leaves, registrar_signature, neighbours }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut message = header(2, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(count(self.leaves.len()));
        message.extend(self.leaves.concat());
        message.extend(self.registrar_signature);
        message.extend(count(self.neighbours.len()));
        for (index, advertisement) in &self.neighbours {
            message.extend(index.to_le_bytes());
            message.extend(byte_string(advertisement));
        }
        message
    }

    /// Replaces a neighbour's advertisement, here and among the leaves.
    pub(crate) fn replace(&mut self, neighbour: u32, advertisement: Vec<u8>) {
        self.leaves[neighbour as usize] = leaf(&advertisement);
        let place = self.neighbours.iter_mut().find(|(index, _)| *index == neighbour).expect("a neighbour");
        place.1 = advertisement;
    }

    /// Signed by a registrar that looks at nothing.
    pub(crate) fn sign(&mut self, registrar: &SigningKey) {
        let mut statement = byte_string(b"sordino/secagg/v1/roster signature");
        statement.extend(VERSION.to_le_bytes());
        statement.extend(self.context);
        statement.extend(count(self.leaves.len()));
        statement.extend(merkle::root(&self.leaves));
        self.registrar_signature = registrar.sign(&statement).to_bytes();
    }
}

/// `ShareKeys` (type 3) and the delivered shares (type 4) hold lists of sealed shares: a peer, and 216 further bytes.
pub(crate) const SEALED_LEN: usize = 32 + 32 + 4 + 4 + 144;

#[derive(Clone)]
pub(crate) struct ShareKeys {
    pub(crate) context: Hash,
    pub(crate) index: u32,
    pub(crate) self_seed_commitment: Hash,
    pub(crate) shares: Vec<(u32, Vec<u8>)>,
}

impl ShareKeys {
    pub(crate) fn read(message: &[u8]) -> Self {
        let (mut fields, context) = Fields::of(message, 3);
        let index = fields.u32();
        let self_seed_commitment = fields.array();
        let shares = (0..fields.u32()).map(|_| (fields.u32(), fields.take(SEALED_LEN).to_vec())).collect();
        fields.take(64);
        fields.end();
        Self { context, index, self_seed_commitment, shares }
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(3, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(self.self_seed_commitment);
        message.extend(sealed(&self.shares));
        message.extend([0; 64]);
        resign(&mut message, key);
        message
    }
}

#[derive(Clone)]
pub(crate) struct Delivered {
    pub(crate) context: Hash,
    pub(crate) shares: Vec<(u32, Vec<u8>)>,
}

impl Delivered {
    pub(crate) fn read(message: &[u8]) -> Self {
        let (mut fields, context) = Fields::of(message, 4);
        let shares = (0..fields.u32()).map(|_| (fields.u32(), fields.take(SEALED_LEN).to_vec())).collect();
        fields.end();
        Self { context, shares }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        [header(4, &self.context), sealed(&self.shares)].concat()
    }
}

fn sealed(shares: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = count(shares.len()).to_vec();
    for (peer, rest) in shares {
        out.extend(peer.to_le_bytes());
        out.extend(rest);
    }
    out
}

/// The survivor list, type 6.
pub(crate) fn survivors(context: &Hash, n: u32, members: impl IntoIterator<Item = u32>) -> Vec<u8> {
    [header(6, context), survivor_set(n, members)].concat()
}

fn survivor_set(n: u32, members: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut bitmap = vec![0; n.div_ceil(8) as usize];
    members.into_iter().for_each(|index| bitmap[index as usize / 8] |= 1 << (index % 8));
    [&n.to_le_bytes()[..], &byte_string(&bitmap)].concat()
}

/// A participant's signature of a survivor set.
pub(crate) fn sign_survivors(world: &World, signer: usize, roster_root: &Hash, members: &BTreeSet<u32>) -> [u8; 64] {
    let n = u32::try_from(world.parties.len()).expect("a small cohort");
    let mut statement = byte_string(b"sordino/secagg/v1/survivors signature");
    statement.extend(VERSION.to_le_bytes());
    statement.extend(world.digest());
    statement.extend(roster_root);
    statement.extend(survivor_set(n, members.iter().copied()));
    world.parties[signer].key.sign(&statement).to_bytes()
}

/// The signature in a `ConsistencyCheck` message, type 7.
pub(crate) fn signature_of(message: &[u8]) -> [u8; 64] {
    let (mut fields, _) = Fields::of(message, 7);
    fields.u32();
    let signature = fields.array();
    fields.end();
    signature
}

/// The signature list, type 8.
pub(crate) fn signatures(context: &Hash, list: &[(u32, [u8; 64])]) -> Vec<u8> {
    let mut message = header(8, context);
    message.extend(count(list.len()));
    for (signer, signature) in list {
        message.extend(signer.to_le_bytes());
        message.extend(signature);
    }
    message
}

/// One share in an `Unmasking` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) dealer: u32,
    /// 0 for the root, 1 for the self-mask seed.
    pub(crate) role: u8,
    pub(crate) share: [u8; 32],
    pub(crate) salt: [u8; 32],
}

/// `Unmasking`, type 9.
#[derive(Clone)]
pub(crate) struct Unmasking {
    pub(crate) context: Hash,
    pub(crate) index: u32,
    pub(crate) shares: Vec<Share>,
}

impl Unmasking {
    pub(crate) fn read(message: &[u8]) -> Self {
        let (mut fields, context) = Fields::of(message, 9);
        let index = fields.u32();
        let shares = (0..fields.u32())
            .map(|_| {
                let (dealer, [role]) = (fields.u32(), fields.array());
                Share { dealer, role, share: fields.array(), salt: fields.array() }
            })
            .collect();
        fields.take(64);
        fields.end();
        Self { context, index, shares }
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = header(9, &self.context);
        message.extend(self.index.to_le_bytes());
        message.extend(count(self.shares.len()));
        for Share { dealer, role, share, salt } in &self.shares {
            message.extend(dealer.to_le_bytes());
            message.push(*role);
            message.extend(share);
            message.extend(salt);
        }
        message.extend([0; 64]);
        resign(&mut message, key);
        message
    }
}
