//! The protocol's messages and their bytes. `docs/protocol.md` describes them field by field.
//!
//! Every message begins with a u16 version and a u16 type, and names its context. A participant's message ends with its
//! signature over everything before it. Lengths are checked before anything is allocated.

mod committed;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod recode;
mod shares;
mod signature;
#[cfg(test)]
mod tests;

pub use committed::SignedCommitments;
pub(crate) use shares::{DeliveredShares, Delivery, SealedShares, ShareKeys};
pub use signature::Signer;
pub(crate) use signature::{Claim, claim, is_plain, verify, verify_all, verify_ed25519, verify_message};

use crate::canonical::{Malformed, Reader, Writer};
use crate::context::{ContextDigest, ParticipantId, VERSION};
use crate::keys::{PublicKeys, Role, SaltedShare, SecretScalar};
use crate::labels;
use crate::merkle::{self, Hash};
use sha2::{Digest as _, Sha256};
use signature::Unsigned;

/// The steps of an attempt, in order; names as in Bonawitz et al. 2017, Fig. 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Participants send fresh keys.
    AdvertiseKeys,
    /// Participants send sealed shares of their secrets.
    ShareKeys,
    /// Participants send their masked inputs.
    MaskedInput,
    /// Survivors sign who survived.
    ConsistencyCheck,
    /// Survivors reveal one share for each neighbour.
    Unmasking,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::AdvertiseKeys, Self::ShareKeys, Self::MaskedInput, Self::ConsistencyCheck, Self::Unmasking];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AdvertiseKeys => "AdvertiseKeys",
            Self::ShareKeys => "ShareKeys",
            Self::MaskedInput => "MaskedInput",
            Self::ConsistencyCheck => "ConsistencyCheck",
            Self::Unmasking => "Unmasking",
        }
    }

    /// The step of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// Its number, as it is stored; numbers never change.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::AdvertiseKeys => 0,
            Self::ShareKeys => 1,
            Self::MaskedInput => 2,
            Self::ConsistencyCheck => 3,
            Self::Unmasking => 4,
        }
    }

    /// The step of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.number() == number)
    }

    /// The step after it.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step > self)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// Type numbers; participants' messages are odd, the coordinator's even.
mod kind {
    pub(super) const ADVERTISE_KEYS: u16 = 1;
    pub(super) const ROSTER: u16 = 2;
    pub(super) const SHARE_KEYS: u16 = 3;
    pub(super) const DELIVERED_SHARES: u16 = 4;
    pub(super) const MASKED_INPUT: u16 = 5;
    pub(super) const SURVIVOR_LIST: u16 = 6;
    pub(super) const CONSISTENCY: u16 = 7;
    pub(super) const SIGNATURES: u16 = 8;
    pub(super) const UNMASKING: u16 = 9;
}

fn begin(kind: u16, context: &ContextDigest) -> Writer {
    let mut out = Writer::new();
    out.u16(VERSION).u16(kind).raw(&context.0);
    out
}

fn open(bytes: &[u8], kind: u16) -> Result<(Reader<'_>, ContextDigest), Malformed> {
    let mut input = Reader::new(bytes);
    let got = input.u16("version")?;
    if got != VERSION {
        return Err(Malformed::Version { got, expected: VERSION });
    }
    let got = input.u16("type")?;
    if got != kind {
        return Err(Malformed::Type { got, expected: kind });
    }
    let context = ContextDigest(input.hash("context")?);
    Ok((input, context))
}

/// Step 0, participant: fresh keys, signed with the certificate key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdvertiseKeys {
    pub(crate) context: ContextDigest,
    pub(crate) id: ParticipantId,
    pub(crate) channel: PublicKeys,
    pub(crate) mask: PublicKeys,
    /// The certificate chain, leaf first, as the deployment encodes it; opaque here.
    pub(crate) certificates: Vec<u8>,
}

/// Bytes of a certificate chain, at most.
pub const CERTIFICATES_MAX: usize = 16 * 1024;
/// Bytes of the commitments of one proof, at most.
pub const COMMITMENTS_MAX: usize = 512 * 1024;
/// Participants in a roster, at most.
pub const ROSTER_MAX: usize = 100_000;
/// Neighbours of a participant, at most.
pub const NEIGHBOURS_MAX: usize = 4_096;
const ADVERTISEMENT_MAX: usize = CERTIFICATES_MAX + 4 * 1_024;
const ROSTER_PATH_MAX: usize = merkle::path_max(ROSTER_MAX);
const SHARES_PATH_MAX: usize = merkle::path_max(NEIGHBOURS_MAX);

impl AdvertiseKeys {
    pub(crate) fn encode(&self, signer: &impl Signer) -> Vec<u8> {
        let mut out = begin(kind::ADVERTISE_KEYS, &self.context);
        out.bytes(self.id.as_str().as_bytes());
        self.channel.write(&mut out);
        self.mask.write(&mut out);
        out.bytes(&self.certificates);
        Unsigned(out.finish()).sign(signer)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::ADVERTISE_KEYS)?;
        let name = std::str::from_utf8(input.bytes(ParticipantId::MAX_LEN, "participant")?);
        let id = name.ok().and_then(|name| ParticipantId::new(name).ok());
        let id = id.ok_or(Malformed::Value { field: "participant" })?;
        let channel = PublicKeys::read(&mut input)?;
        let mask = PublicKeys::read(&mut input)?;
        let certificates = input.bytes(CERTIFICATES_MAX, "certificates")?.to_vec();
        input.raw(64, "signature")?;
        input.finish()?;
        Ok(Self { context, id, channel, mask, certificates })
    }
}

/// The certificate chain in an `AdvertiseKeys` message, for a coordinator to check before it takes the message.
///
/// Neighbours check it against their own trust anchors and refuse a roster with a chain that they do not believe: one
/// bad chain that was let in costs every neighbour the attempt.
///
/// # Errors
/// [`Malformed`]: no such message.
pub fn advertised_certificates(message: &[u8]) -> Result<Vec<u8>, Malformed> {
    AdvertiseKeys::decode(message).map(|decoded| decoded.certificates)
}

/// SHA-256 of an advertisement with its signature: names all of a participant's keys of an attempt.
pub(crate) fn advertisement_digest(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// The roster's leaf of one participant.
pub(crate) fn roster_leaf(id: &ParticipantId, advertisement: &Hash) -> Hash {
    let mut out = Writer::new();
    out.bytes(id.as_str().as_bytes()).raw(advertisement);
    merkle::leaf(&out.finish())
}

/// What the registrar signs: that exactly these principals, each once, with these keys, are in the attempt.
#[must_use]
pub fn roster_statement(context: &ContextDigest, n: u32, root: &Hash) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(labels::ROSTER_SIGNATURE).u16(VERSION).raw(&context.0).u32(n).raw(root);
    out.finish()
}

fn write_path(out: &mut Writer, path: &[Hash]) {
    out.count(path.len());
    for hash in path {
        out.raw(hash);
    }
}

fn read_path(input: &mut Reader<'_>, max: usize) -> Result<Vec<Hash>, Malformed> {
    let count = input.count(max, 32, "inclusion proof")?;
    (0..count).map(|_| input.hash("inclusion proof")).collect()
}

/// Step 1, coordinator: the roster's root, the receiver's place in it, and the neighbours' advertisements with theirs.
/// A participant can check its part of the roster without seeing everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RosterAnnouncement {
    pub(crate) context: ContextDigest,
    /// The receiver's place in the roster.
    pub(crate) index: u32,
    /// Participants in the roster.
    pub(crate) n: u32,
    pub(crate) root: Hash,
    /// From the receiver's leaf to the root.
    pub(crate) path: Vec<Hash>,
    pub(crate) registrar_signature: [u8; 64],
    /// Ascending by index.
    pub(crate) neighbours: Vec<AnnouncedNeighbour>,
}

/// A neighbour as the coordinator shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnnouncedNeighbour {
    pub(crate) index: u32,
    pub(crate) advertisement: Vec<u8>,
    /// From its leaf to the root.
    pub(crate) path: Vec<Hash>,
}

impl RosterAnnouncement {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = begin(kind::ROSTER, &self.context);
        out.u32(self.index).u32(self.n).raw(&self.root);
        write_path(&mut out, &self.path);
        out.raw(&self.registrar_signature).count(self.neighbours.len());
        for AnnouncedNeighbour { index, advertisement, path } in &self.neighbours {
            out.u32(*index).bytes(advertisement);
            write_path(&mut out, path);
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::ROSTER)?;
        let index = input.u32("index")?;
        let n = input.u32("roster size")?;
        if n as usize > ROSTER_MAX {
            return Err(Malformed::TooLong { field: "roster size", len: n as usize, max: ROSTER_MAX });
        }
        let root = input.hash("roster")?;
        let path = read_path(&mut input, ROSTER_PATH_MAX)?;
        let registrar_signature = input.array("registrar's signature")?;
        let count = input.count(NEIGHBOURS_MAX, 12, "neighbours")?;
        let neighbours = (0..count)
            .map(|_| {
                let index = input.u32("neighbour")?;
                let advertisement = input.bytes(ADVERTISEMENT_MAX, "advertisement")?.to_vec();
                Ok(AnnouncedNeighbour { index, advertisement, path: read_path(&mut input, ROSTER_PATH_MAX)? })
            })
            .collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self { context, index, n, root, path, registrar_signature, neighbours })
    }
}

/// Step 2, participant: which bytes its masked input is. The bytes themselves, b bits per value and then the proof, travel
/// beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MaskedInput {
    pub(crate) context: ContextDigest,
    pub(crate) index: u32,
    /// [`dealers_digest`] of those whose pairwise masks are in the input.
    pub(crate) dealers: Hash,
    pub(crate) len: u64,
    pub(crate) digest: Hash,
    /// Those among the dealers whose shares did not open, ascending.
    pub(crate) complaints: Vec<u32>,
}

/// SHA-256 of a list of roster indices, ascending.
///
/// An input that is masked with others than those who shared keys would spoil the sum without a trace: its masks cancel
/// against nothing. So a participant says, signed, with whom it masked, and the coordinator compares.
pub(crate) fn dealers_digest(context: &ContextDigest, dealers: &[u32]) -> Hash {
    let mut out = Writer::new();
    out.bytes(labels::DEALERS).raw(&context.0).count(dealers.len());
    for dealer in dealers {
        out.u32(*dealer);
    }
    Sha256::digest(out.finish()).into()
}

impl MaskedInput {
    pub(crate) fn encode(&self, signer: &impl Signer) -> Vec<u8> {
        let mut out = begin(kind::MASKED_INPUT, &self.context);
        out.u32(self.index).raw(&self.dealers).u64(self.len).raw(&self.digest).count(self.complaints.len());
        for dealer in &self.complaints {
            out.u32(*dealer);
        }
        Unsigned(out.finish()).sign(signer)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::MASKED_INPUT)?;
        let index = input.u32("index")?;
        let dealers = input.hash("dealers")?;
        let len = input.u64("length")?;
        let digest = input.hash("digest")?;
        let count = input.count(NEIGHBOURS_MAX, 4, "complaints")?;
        let complaints: Vec<u32> = (0..count).map(|_| input.u32("complaint")).collect::<Result<_, _>>()?;
        if !complaints.is_sorted_by(|one, next| one < next) {
            return Err(Malformed::Value { field: "complaints" });
        }
        input.raw(64, "signature")?;
        input.finish()?;
        Ok(Self { context, index, dealers, len, digest, complaints })
    }
}

/// A set of roster indices, as a bitmap: index i is bit `i % 8` of byte `i / 8`, unused bits are 0.
#[derive(Clone, PartialEq, Eq)]
pub struct SurvivorSet {
    n: u32,
    bitmap: Vec<u8>,
}

impl SurvivorSet {
    pub(crate) fn new(n: u32, members: impl Iterator<Item = u32>) -> Self {
        let mut bitmap = vec![0; n.div_ceil(8) as usize];
        for index in members {
            bitmap[index as usize / 8] |= 1 << (index % 8);
        }
        Self { n, bitmap }
    }

    fn from_bitmap(n: u32, bitmap: &[u8]) -> Option<Self> {
        let set = Self { n, bitmap: bitmap.to_vec() };
        let unused = !n.is_multiple_of(8) && bitmap.last().is_some_and(|last| last >> (n % 8) != 0);
        (bitmap.len() == n.div_ceil(8) as usize && !unused).then_some(set)
    }

    /// Whether the participant with this roster index is in it.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        index < self.n && self.bitmap[index as usize / 8] >> (index % 8) & 1 == 1
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.bitmap.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Roster indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.n).filter(|&index| self.contains(index))
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let n = input.u32("roster size")?;
        if n as usize > ROSTER_MAX {
            return Err(Malformed::TooLong { field: "roster size", len: n as usize, max: ROSTER_MAX });
        }
        let bitmap = input.bytes(ROSTER_MAX.div_ceil(8), "survivors")?;
        Self::from_bitmap(n, bitmap).ok_or(Malformed::Value { field: "survivors" })
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u32(self.n).bytes(&self.bitmap);
    }

    pub(crate) fn roster_len(&self) -> u32 {
        self.n
    }
}

impl std::fmt::Debug for SurvivorSet {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}

/// Step 3, coordinator: who survived, in the one list that the registrar signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SurvivorList {
    pub(crate) context: ContextDigest,
    pub(crate) survivors: SurvivorSet,
    pub(crate) registrar_signature: [u8; 64],
}

impl SurvivorList {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = begin(kind::SURVIVOR_LIST, &self.context);
        self.survivors.write(&mut out);
        out.raw(&self.registrar_signature);
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::SURVIVOR_LIST)?;
        let survivors = SurvivorSet::read(&mut input)?;
        let registrar_signature = input.array("registrar's signature")?;
        input.finish()?;
        Ok(Self { context, survivors, registrar_signature })
    }
}

/// What the registrar signs once in an attempt: that this is the list which everybody of this roster is shown.
pub(crate) fn survivor_list_statement(context: &ContextDigest, roster_root: &Hash, survivors: &SurvivorSet) -> Vec<u8> {
    about_survivors(labels::SURVIVOR_LIST_SIGNATURE, context, roster_root, survivors)
}

/// What a survivor signs: this set, of this roster, in this attempt, whose context holds the policy and the model.
pub(crate) fn survivors_statement(context: &ContextDigest, roster_root: &Hash, survivors: &SurvivorSet) -> Vec<u8> {
    about_survivors(labels::SURVIVORS_SIGNATURE, context, roster_root, survivors)
}

fn about_survivors(label: &[u8], context: &ContextDigest, roster_root: &Hash, survivors: &SurvivorSet) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(label).u16(VERSION).raw(&context.0).raw(roster_root);
    survivors.write(&mut out);
    out.finish()
}

/// Step 3, participant: its signature of the survivor set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsistencySignature {
    pub(crate) context: ContextDigest,
    pub(crate) index: u32,
    pub(crate) signature: [u8; 64],
}

impl ConsistencySignature {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = begin(kind::CONSISTENCY, &self.context);
        out.u32(self.index).raw(&self.signature);
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::CONSISTENCY)?;
        let decoded = Self { context, index: input.u32("index")?, signature: input.array("signature")? };
        input.finish()?;
        Ok(decoded)
    }
}

/// Step 4, coordinator: the signatures of the receiver's neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignatureList {
    pub(crate) context: ContextDigest,
    /// Ascending by signer.
    pub(crate) signatures: Vec<(u32, [u8; 64])>,
}

impl SignatureList {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = begin(kind::SIGNATURES, &self.context);
        out.count(self.signatures.len());
        for (signer, signature) in &self.signatures {
            out.u32(*signer).raw(signature);
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::SIGNATURES)?;
        let count = input.count(NEIGHBOURS_MAX, 68, "signatures")?;
        let signatures =
            (0..count).map(|_| Ok((input.u32("signer")?, input.array("signature")?))).collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self { context, signatures })
    }
}

/// One share, revealed.
#[derive(Clone)]
pub(crate) struct RevealedShare {
    pub(crate) dealer: u32,
    pub(crate) role: Role,
    pub(crate) salted: SaltedShare,
}

/// Step 4, participant: for each neighbour one share of one of its two secrets.
pub(crate) struct Unmasking {
    pub(crate) context: ContextDigest,
    pub(crate) index: u32,
    /// Ascending by dealer.
    pub(crate) shares: Vec<RevealedShare>,
}

impl Unmasking {
    const SHARE_LEN: usize = 4 + 1 + 32 + 32;

    pub(crate) fn encode(&self, signer: &impl Signer) -> Vec<u8> {
        let mut out = begin(kind::UNMASKING, &self.context);
        out.u32(self.index).count(self.shares.len());
        for RevealedShare { dealer, role, salted } in &self.shares {
            out.u32(*dealer).u8(role.byte()).raw(&salted.share.bytes()[..]).raw(&salted.salt[..]);
        }
        Unsigned(out.finish()).sign(signer)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut input, context) = open(bytes, kind::UNMASKING)?;
        let index = input.u32("index")?;
        let count = input.count(NEIGHBOURS_MAX, Self::SHARE_LEN, "shares")?;
        let shares = (0..count)
            .map(|_| {
                let dealer = input.u32("dealer")?;
                let role = Role::read(&mut input)?;
                let share =
                    SecretScalar::from_bytes(&input.array("share")?).ok_or(Malformed::Value { field: "share" })?;
                Ok(RevealedShare { dealer, role, salted: SaltedShare { share, salt: Box::new(input.array("salt")?) } })
            })
            .collect::<Result<_, _>>()?;
        input.raw(64, "signature")?;
        input.finish()?;
        Ok(Self { context, index, shares })
    }
}
