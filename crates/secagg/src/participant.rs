//! The participant's side of one attempt: one type per state, each step takes the state by value and gives the next.
//!
//! ```text
//! Participant::advertise -> AwaitingRoster -> AwaitingShares -> AwaitingSurvivors -> AwaitingSignatures -> Finished
//!        AdvertiseKeys          ShareKeys        MaskedInput      ConsistencyCheck        Unmasking
//! ```
//! A caller stores the new state durably *before* it sends the message that came with it, and after a restart sends that
//! same message again ([`Stored`]). So a participant never advertises twice, never shares one secret in two ways, never
//! masks two inputs with one mask, never signs two survivor sets and never reveals both secrets of a neighbour.
//!
//! Whatever a coordinator says is checked before anything is computed from it. A [`Refusal`] ends the attempt for this
//! participant; it names the evidence.

#[cfg(feature = "test-util")]
mod dangerous;
mod exposure;
mod input;
mod stored;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use exposure::{EXPOSURE_MODELS_MAX, EXPOSURE_TASKS_MAX, Exposure, Reveal};
pub use input::{Attachment, AttachmentLens, Input};
pub use stored::{RestoreError, Stored};

use crate::canonical::Malformed;
use crate::certificate_key::CertificateKey;
use crate::context::{Context, ContextDigest, ParticipantId};
use crate::keys::{
    ChannelSecret, Edge, Encapsulation, End, MaskSecret, PlainShares, PublicKeys, Role, Root, SaltedShare,
    SecretScalar, SelfSeed,
};
use crate::merkle::{self, Hash};
use crate::message::{
    AdvertiseKeys, AnnouncedNeighbour, CERTIFICATES_MAX, COMMITMENTS_MAX, Claim, ConsistencySignature, DeliveredShares,
    Delivery, MaskedInput, RevealedShare, RosterAnnouncement, SealedShares, ShareKeys, SignatureList, Signer, Step,
    SurvivorList, SurvivorSet, Unmasking, advertisement_digest, claim, dealers_digest, roster_leaf, roster_statement,
    survivor_list_statement, survivors_statement, verify_all, verify_ed25519,
};
use crate::prg::{self, MaskKey, Sign};
use crate::shamir::Polynomial;
use crate::topology::{Graph, NoTopology, Topology};
use ed25519_dalek::VerifyingKey;
use rand_core::CryptoRng;
use sordino_codec::{RingVector, pack};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// Whom a participant believes: its own trust anchors, never the coordinator's word.
pub trait Trust {
    /// The key in the certificate chain, if the chain leads to a trust anchor, is valid now, and names `id` as a
    /// participant of this federation.
    ///
    /// # Errors
    /// Why it is not believed, in a few words.
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String>;

    /// The registrar's Ed25519 key, which admits principals.
    fn registrar(&self) -> &VerifyingKey;
}

/// Over what sums are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The bytes of a model.
    Model,
    /// A round of a task.
    Round(u64),
}

impl std::fmt::Display for Counted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model => out.write_str("over this model"),
            Self::Round(round) => write!(out, "of round {round}"),
        }
    }
}

/// Why a participant takes no further part in an attempt. Each names the evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Bytes that are no message of this step.
    #[error("the coordinator's message for {step} cannot be read")]
    Malformed {
        /// The step.
        step: Step,
        /// What is wrong with it.
        #[source]
        source: Malformed,
    },
    /// A message of another round, attempt, policy or model.
    #[error(
        "the coordinator's message for {step} belongs to another context (federation, task, round, attempt, policy or model)"
    )]
    WrongContext {
        /// The step.
        step: Step,
    },
    /// The input is not a vector of this attempt.
    #[error("the input has {len} values in {bits} bits, the attempt takes {expected_len} in {expected_bits}")]
    WrongInput {
        /// Values.
        len: usize,
        /// Ring.
        bits: u8,
        /// Values that belong there.
        expected_len: u64,
        /// Ring that belongs there.
        expected_bits: u8,
    },
    /// The input comes with a proof where the attempt takes none, without one where it takes one, or with commitments or a
    /// proof of another length.
    #[error("the input comes with {}, the attempt takes {}", input::listed(got.as_ref()), input::listed(expected.as_ref()))]
    WrongAttachment {
        /// What the input comes with.
        got: Option<AttachmentLens>,
        /// What belongs there.
        expected: Option<AttachmentLens>,
    },
    /// The attempt asks for longer commitments than any message holds.
    #[error("the attempt asks for {len} bytes of commitments, a message holds at most {max}")]
    CommitmentsTooLong {
        /// Bytes that are asked for.
        len: u32,
        /// Bytes that there can be.
        max: u32,
    },
    /// As many sums over this model, or of this round, as this participant's own limit allows were opened with its help.
    #[error(
        "this participant has helped to open {sums} sums {over}, its own limit is {max}: sums of cohorts that \
         differ in one participant tell that one's input"
    )]
    TooManySums {
        /// What is counted.
        over: Counted,
        /// Sums.
        sums: u32,
        /// The limit.
        max: u32,
    },
    /// The rounds of a task only go up.
    #[error("round {round} is over for this participant: it has revealed shares in round {newest}")]
    RoundIsOver {
        /// The round that was offered.
        round: u64,
        /// The newest one that it has revealed shares in.
        newest: u64,
    },
    /// Fewer participants than a sum may hold.
    #[error("the roster has {n} participants, the policy asks for at least {min}")]
    RosterTooSmall {
        /// Participants.
        n: u32,
        /// The policy's minimum.
        min: u32,
    },
    /// No graph stands the faults of the policy.
    #[error("the roster allows no safe graph")]
    NoTopology(#[from] NoTopology),
    /// The roster does not hold what this participant advertised.
    #[error("the roster does not hold this participant's own keys at place {index}")]
    NotInRoster {
        /// The claimed place.
        index: u32,
    },
    /// The registrar did not sign this roster.
    #[error("the registrar's signature of the roster of {n} participants is not valid")]
    RosterSignature {
        /// Participants.
        n: u32,
    },
    /// The registrar did not sign this survivor list.
    #[error(
        "the registrar's signature of the survivor list with {survivors} of {n} participants is not valid: others may be \
         shown another list"
    )]
    SurvivorsSignature {
        /// Survivors in the list.
        survivors: u32,
        /// Participants that it covers.
        n: u32,
    },
    /// Other neighbours than the graph has.
    #[error("the neighbours that the coordinator names are not those of the graph")]
    WrongNeighbours,
    /// A neighbour's advertisement is not the one in the roster, or not signed by its certificate.
    #[error("neighbour {id}: {why}")]
    BadNeighbour {
        /// The neighbour, or its place where it has no readable name.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// Shares that their dealer did not sign for this participant: the coordinator changed or exchanged them.
    #[error(
        "the coordinator delivers shares in the name of participant {dealer} that this one did not sign as they are"
    )]
    AlteredShares {
        /// Its place in the roster.
        dealer: u32,
    },
    /// Shares of somebody who is no neighbour, or twice of one.
    #[error("the coordinator delivers shares of participant {dealer}, who is no neighbour or was delivered before")]
    ForeignShares {
        /// Its place in the roster.
        dealer: u32,
    },
    /// Too few neighbours take part for the masks to hide anything.
    #[error("{step}: {answering} neighbours take part, {threshold} are needed")]
    TooFewNeighbours {
        /// The step.
        step: Step,
        /// Neighbours that do.
        answering: u32,
        /// The threshold.
        threshold: u32,
    },
    /// The sum would hold too few inputs.
    #[error("the survivor list has {survivors} of {n} participants, the policy asks for at least {min}")]
    TooFewSurvivors {
        /// Survivors.
        survivors: u32,
        /// Roster.
        n: u32,
        /// The policy's minimum.
        min: u32,
    },
    /// The list is of another roster.
    #[error("the survivor list is over {got} participants, the roster has {n}")]
    ForeignSurvivorList {
        /// What the list covers.
        got: u32,
        /// The roster.
        n: u32,
    },
    /// This participant was counted as a dropout: its input is not in the sum.
    #[error("the survivor list counts this participant as a dropout")]
    NotCounted,
    /// A survivor that has shared no keys.
    #[error("the survivor list names participant {index}, whose shares were never delivered")]
    UnknownSurvivor {
        /// Its place in the roster.
        index: u32,
    },
    /// A signature of the survivor set that does not verify: somebody signed another set, or nobody did.
    #[error("the signature of neighbour {signer} does not stand for the survivor list that was shown here")]
    BadSignature {
        /// The neighbour's place in the roster.
        signer: u32,
    },
    /// A signature of somebody who is no surviving neighbour, or twice of one.
    #[error(
        "the signature of participant {signer} counts for nothing: it is no surviving neighbour or was counted before"
    )]
    ForeignSignature {
        /// Its place in the roster.
        signer: u32,
    },
}

/// Who this participant is.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Its name.
    pub id: &'a ParticipantId,
    /// Its certificate chain, leaf first, as neighbours' [`Trust`] reads it; at most [`CERTIFICATES_MAX`] bytes.
    pub certificates: &'a [u8],
}

/// What every state knows.
#[derive(Clone)]
struct Session {
    context: Context,
    digest: ContextDigest,
    id: ParticipantId,
}

impl Session {
    fn mask_secret(&self, root: &Root) -> MaskSecret {
        root.mask_secret(&self.digest, self.context.pq)
    }

    fn check_context(&self, step: Step, got: &ContextDigest) -> Result<(), Refusal> {
        if *got == self.digest { Ok(()) } else { Err(Refusal::WrongContext { step }) }
    }
}

fn malformed(step: Step) -> impl FnOnce(Malformed) -> Refusal {
    move |source| Refusal::Malformed { step, source }
}

/// A neighbour whose certificate and signature were checked.
#[derive(Clone)]
struct Neighbour {
    id: ParticipantId,
    key: CertificateKey,
    /// SHA-256 of its advertisement.
    advertised: Hash,
}

/// What shares and masks for a neighbour are made with; forgotten once the input is masked.
#[derive(Clone)]
struct PeerKeys {
    channel: PublicKeys,
    mask: PublicKeys,
}

/// This participant's place in a roster whose registrar and neighbours were checked.
#[derive(Clone)]
struct Place {
    index: u32,
    topology: Topology,
    roster_root: Hash,
    /// SHA-256 of this participant's own advertisement.
    advertised: Hash,
    neighbours: BTreeMap<u32, Neighbour>,
}

impl PeerKeys {
    /// What is needed once shares are sealed: to open what comes back, and to repeat the encapsulations that were made.
    fn after_sealing(mut self, encapsulated: bool) -> Self {
        self.channel.kem = None;
        self.mask.kem = self.mask.kem.filter(|_| encapsulated);
        self
    }
}

impl Place {
    fn own_end<'a>(&'a self, session: &'a Session) -> End<'a> {
        End { index: self.index, id: &session.id, advertised: &self.advertised }
    }

    fn peer_end(&self, index: u32) -> End<'_> {
        let neighbour = &self.neighbours[&index];
        End { index, id: &neighbour.id, advertised: &neighbour.advertised }
    }
}

/// The input was encoded and fresh keys were advertised; the roster is awaited.
pub struct AwaitingRoster {
    session: Session,
    input: RingVector,
    attachment: Option<Attachment>,
    root: Root,
    channel: ChannelSecret,
    sent: Vec<u8>,
}

/// Shares were sent; the neighbours' shares are awaited.
pub struct AwaitingShares {
    session: Session,
    input: RingVector,
    /// Of the input; empty where it carries none. What it is about was sent with the shares.
    proof: Vec<u8>,
    root: Root,
    self_seed: SelfSeed,
    channel: ChannelSecret,
    place: Place,
    peers: BTreeMap<u32, PeerKeys>,
    sent: Vec<u8>,
}

/// The masked input was sent; the survivor list is awaited. Neither the input nor a secret of its own is left.
pub struct AwaitingSurvivors {
    session: Session,
    place: Place,
    /// Neighbours that shared keys, with the shares they gave, if those opened and matched their commitments.
    held: BTreeMap<u32, Option<PlainShares>>,
    sent: Vec<u8>,
}

/// A survivor set was signed; the neighbours' signatures are awaited. Of each neighbour one share is left: of the other
/// secret there is nothing to reveal any more.
pub struct AwaitingSignatures {
    session: Session,
    place: Place,
    survivors: SurvivorSet,
    reveal: BTreeMap<u32, (Role, SaltedShare)>,
    sent: Vec<u8>,
}

/// One share for each neighbour was revealed. Nothing is left to do or to tell.
pub struct Finished {
    session: Session,
    sent: Vec<u8>,
}

/// The masked input as it travels: the signed header, and the bytes that it names.
pub struct MaskedUpload {
    /// The `MaskedInput` message.
    pub header: Vec<u8>,
    /// The vector at b bits per value, `packed_len(vector_len, b)` bytes, and behind it the proof, if there is one.
    pub bytes: Vec<u8>,
}

impl AwaitingRoster {
    /// Begins an attempt with an encoded, clipped, rounded (and noised) input, and advertises fresh keys.
    ///
    /// # Errors
    /// [`Refusal::WrongInput`], [`Refusal::WrongAttachment`], [`Refusal::CommitmentsTooLong`],
    /// [`Refusal::RosterTooSmall`] for a context that allows sums of fewer than 3 inputs.
    ///
    /// # Panics
    /// If the certificate chain is longer than [`CERTIFICATES_MAX`]: it is the caller's own.
    pub fn advertise(
        context: Context,
        identity: Identity<'_>,
        input: impl Into<Input>,
        signer: &impl Signer,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Refusal> {
        assert!(
            identity.certificates.len() <= CERTIFICATES_MAX,
            "the own certificate chain is longer than any peer takes"
        );
        if context.min_survivors < SURVIVORS_FLOOR {
            return Err(Refusal::RosterTooSmall { n: context.min_survivors, min: SURVIVORS_FLOOR });
        }
        let input = input.into();
        input.check(&context)?;
        let Input { vector: input, attachment } = input;
        let session = Session { digest: context.digest(), context, id: identity.id.clone() };
        let root = Root(SecretScalar::random(rng));
        let channel = ChannelSecret::random(session.context.pq, rng);
        let sent = AdvertiseKeys {
            context: session.digest,
            id: session.id.clone(),
            channel: channel.public(),
            mask: session.mask_secret(&root).public(),
            certificates: identity.certificates.to_vec(),
        }
        .encode(signer);
        Ok(Self { session, input, attachment, root, channel, sent })
    }

    /// The advertisement, to be sent, and sent again after a restart.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.sent
    }

    /// Checks the roster and every neighbour, and shares the root and a fresh self-mask seed among them.
    ///
    /// # Errors
    /// [`Refusal`]: the roster is not one that this participant believes.
    pub fn share_keys(
        self,
        announcement: &[u8],
        trust: &impl Trust,
        signer: &impl Signer,
        rng: &mut impl CryptoRng,
    ) -> Result<AwaitingShares, Refusal> {
        let Self { session, input, attachment, root, channel, sent } = self;
        let (place, peers) = check_roster(&session, &sent, announcement, trust)?;
        let self_seed = SelfSeed(SecretScalar::random(rng));

        let t = place.topology.t;
        let of_root = Polynomial::new(root.0.scalar(), t, rng);
        let of_seed = Polynomial::new(self_seed.0.scalar(), t, rng);
        let mask_secret = session.mask_secret(&root);
        let mut records = Vec::with_capacity(peers.len());
        for (&holder, keys) in &peers {
            let neighbour = &place.neighbours[&holder];
            let plain = PlainShares {
                root: SaltedShare::new(of_root.share(holder), rng),
                self_seed: SaltedShare::new(of_seed.share(holder), rng),
            };
            let commitments = plain.commitments(&session.digest, &session.id, &neighbour.id);
            let edge = Edge {
                context: &session.digest,
                sender: &session.id,
                receiver: &neighbour.id,
                advertised: [&place.advertised, &neighbour.advertised],
                commitments: &commitments,
            };
            let sealed = channel.seal(&edge, &keys.channel, &plain, rng).ok_or_else(|| unusable(&neighbour.id))?;
            let (own, peer) = (place.own_end(&session), place.peer_end(holder));
            let mask_encapsulation = mask_secret.encapsulation(&session.digest, &own, &peer, &keys.mask);
            let record = SealedShares {
                holder,
                commitments,
                mask_encapsulation: mask_encapsulation.as_ref(),
                channel_encapsulation: sealed.encapsulation.as_ref(),
                sealed: &sealed.ciphertext,
            };
            records.push(record.encode());
        }
        let commitment = self_seed.commitment(&session.digest, &session.id);
        let Attachment { commitments, proof } = attachment.unwrap_or_default();
        let sent = ShareKeys::encode(&session.digest, place.index, (&commitment, &commitments), &records, signer);
        let peers = peers.into_iter().map(|(index, keys)| (index, keys.after_sealing(place.index < index))).collect();
        Ok(AwaitingShares { session, input, proof, root, self_seed, channel, place, peers, sent })
    }
}

/// Keys were checked when they were advertised.
fn unusable(id: &ParticipantId) -> Refusal {
    Refusal::BadNeighbour { id: id.to_string(), why: "its advertised keys are of no use".into() }
}

fn check_roster(
    session: &Session,
    own: &[u8],
    announcement: &[u8],
    trust: &impl Trust,
) -> Result<(Place, BTreeMap<u32, PeerKeys>), Refusal> {
    let step = Step::ShareKeys;
    let roster = RosterAnnouncement::decode(announcement).map_err(malformed(step))?;
    session.check_context(step, &roster.context)?;
    let RosterAnnouncement { index, n, root: roster_root, path, registrar_signature, neighbours, .. } = roster;
    let min = session.context.min_survivors;
    if n < min {
        return Err(Refusal::RosterTooSmall { n, min });
    }
    let advertised = advertisement_digest(own);
    let stands = |leaf: &Hash, index: u32, path: &[Hash]| {
        merkle::root_of_path(leaf, index as usize, n as usize, path) == Some(roster_root)
    };
    if !stands(&roster_leaf(&session.id, &advertised), index, &path) {
        return Err(Refusal::NotInRoster { index });
    }
    if !verify_ed25519(trust.registrar(), &roster_statement(&session.digest, n, &roster_root), &registrar_signature) {
        return Err(Refusal::RosterSignature { n });
    }
    let topology = Topology::derive(n, &session.context.faults)?;
    let graph = Graph::new(topology, &session.digest, &roster_root);
    if !neighbours.iter().map(|neighbour| neighbour.index).eq(graph.neighbours(index)) {
        return Err(Refusal::WrongNeighbours);
    }
    let mut place = Place { index, topology, roster_root, advertised, neighbours: BTreeMap::new() };
    let mut peers = BTreeMap::new();
    for AnnouncedNeighbour { index, advertisement, path } in &neighbours {
        let stands = |leaf: &Hash| stands(leaf, *index, path);
        let (neighbour, keys) = check_neighbour(session, *index, advertisement, stands, trust)?;
        place.neighbours.insert(*index, neighbour);
        peers.insert(*index, keys);
    }
    check_advertisements(&place, &neighbours)?;
    Ok((place, peers))
}

/// All but the signature of the advertisement.
fn check_neighbour(
    session: &Session,
    index: u32,
    bytes: &[u8],
    stands: impl Fn(&Hash) -> bool,
    trust: &impl Trust,
) -> Result<(Neighbour, PeerKeys), Refusal> {
    let refuse = |id: String, why: &str| Refusal::BadNeighbour { id, why: why.to_owned() };
    let decoded =
        AdvertiseKeys::decode(bytes).map_err(|error| refuse(format!("at place {index}"), &error.to_string()))?;
    let name = decoded.id.to_string();
    let advertised = advertisement_digest(bytes);
    if !stands(&roster_leaf(&decoded.id, &advertised)) {
        return Err(refuse(name, "its advertised keys are not those in the roster"));
    }
    if decoded.context != session.digest {
        return Err(refuse(name, "it advertised for another context: it may have been given another model"));
    }
    let key = trust.participant(&decoded.id, &decoded.certificates).map_err(|why| refuse(name.clone(), &why))?;
    let AdvertiseKeys { id, channel, mask, .. } = decoded;
    for keys in [&channel, &mask] {
        keys.check(session.context.pq).map_err(|why| refuse(name.clone(), &why.to_string()))?;
    }
    Ok((Neighbour { id, key, advertised }, PeerKeys { channel, mask }))
}

/// That every neighbour's certificate key signed what it is said to have advertised.
fn check_advertisements(place: &Place, announced: &[AnnouncedNeighbour]) -> Result<(), Refusal> {
    let neighbours = announced.iter().map(|neighbour| (&place.neighbours[&neighbour.index], neighbour));
    let refuse = |neighbour: &Neighbour| Refusal::BadNeighbour {
        id: neighbour.id.to_string(),
        why: "its certificate's key did not sign the advertised keys".into(),
    };
    let mut claims = Vec::with_capacity(announced.len());
    for (neighbour, announced) in neighbours.clone() {
        claims.push(claim(&neighbour.key, &announced.advertisement).ok_or_else(|| refuse(neighbour))?);
    }
    let neighbours: Vec<_> = neighbours.collect();
    verify_all(&claims).map_err(|at| refuse(neighbours[at].0))
}

impl AwaitingShares {
    /// The shares, to be sent, and sent again after a restart.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.sent
    }

    /// Opens the neighbours' shares and masks the input with the self mask and one mask for each of them.
    ///
    /// A neighbour that signed shares which do not open or do not match its commitments is masked with all the same, named
    /// in the header, and nothing of it will be revealed: a bad dealer gains nothing and costs one share. A coordinator
    /// that changes what was signed is refused.
    ///
    /// The upload has to be durable, together with the new state, before its first byte leaves.
    ///
    /// # Errors
    /// [`Refusal`]: altered or foreign shares, or of fewer neighbours than the threshold.
    pub fn mask_input(
        self,
        delivered: &[u8],
        signer: &impl Signer,
    ) -> Result<(AwaitingSurvivors, MaskedUpload), Refusal> {
        self.mask_input_on(NonZeroUsize::MIN, delivered, signer)
    }

    /// As [`Self::mask_input`], on so many threads; their number does not change the bits.
    ///
    /// # Errors
    /// [`Refusal`], the same.
    pub fn mask_input_on(
        self,
        threads: NonZeroUsize,
        delivered: &[u8],
        signer: &impl Signer,
    ) -> Result<(AwaitingSurvivors, MaskedUpload), Refusal> {
        let step = Step::MaskedInput;
        let Self { session, mut input, proof, root, self_seed, channel, place, peers, .. } = self;
        let delivered = DeliveredShares::decode(delivered).map_err(malformed(step))?;
        session.check_context(step, &delivered.context)?;
        let records = check_deliveries(&session, &place, &delivered)?;
        // What hides the input are the masks, and each of these dealers has one with us, whether its shares open or not:
        // refusing for shares that do not would let a few bad dealers end the attempt before anybody can blame them.
        if records.len() < place.topology.t as usize {
            let answering = u32::try_from(records.len()).expect("no more than neighbours");
            return Err(Refusal::TooFewNeighbours { step, answering, threshold: place.topology.t });
        }
        let held = open_shares(&session, &place, &peers, &channel, &records);

        let dealers: Vec<u32> = held.keys().copied().collect();
        let complaints = held.iter().filter(|(_, shares)| shares.is_none()).map(|(dealer, _)| *dealer).collect();
        let masks = own_masks(&session, &place, &peers, &session.mask_secret(&root), &self_seed, &records)?;
        prg::apply(session.context.prg, &masks, &mut input, threads);
        let mut bytes = pack(&input);
        // Wipes it.
        drop(input);
        // Vectors are large: they are not to grow by half for a proof.
        bytes.reserve_exact(proof.len());
        bytes.extend_from_slice(&proof);
        let header = MaskedInput {
            context: session.digest,
            index: place.index,
            dealers: dealers_digest(&session.digest, &dealers),
            len: bytes.len() as u64,
            digest: payload_digest(&bytes),
            complaints,
        }
        .encode(signer);
        let sent = header.clone();
        Ok((AwaitingSurvivors { session, place, held, sent }, MaskedUpload { header, bytes }))
    }
}

/// SHA-256 by the library that is fastest over many bytes.
fn payload_digest(upload: &[u8]) -> Hash {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, upload);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The pairs that were delivered, by dealer: each of a neighbour, once, and as that one signed it for this participant.
fn check_deliveries<'a>(
    session: &Session,
    place: &Place,
    delivered: &DeliveredShares<'a>,
) -> Result<BTreeMap<u32, SealedShares<'a>>, Refusal> {
    let mut records = BTreeMap::new();
    let mut claims: Vec<Claim<'_>> = Vec::with_capacity(delivered.deliveries.len());
    let mut last = None;
    for delivery in &delivered.deliveries {
        let Delivery { dealer, record, .. } = delivery;
        let altered = Refusal::AlteredShares { dealer: *dealer };
        let neighbour = place.neighbours.get(dealer).filter(|_| Some(*dealer) > last);
        let neighbour = neighbour.ok_or(Refusal::ForeignShares { dealer: *dealer })?;
        last = Some(*dealer);
        let record = SealedShares::decode(record)
            .ok()
            .filter(|record| record.holder == place.index && record.has_encapsulations(*dealer, session.context.pq));
        let claim = delivery.claim(&session.digest, place.topology.k, &neighbour.key);
        let (Some(record), Some(claim)) = (record, claim) else { return Err(altered) };
        records.insert(*dealer, record);
        claims.push(claim);
    }
    verify_all(&claims).map_err(|at| Refusal::AlteredShares { dealer: delivered.deliveries[at].dealer })?;
    Ok(records)
}

/// The shares that open and match their commitments; `None` for the others, of whose dealers nothing will be revealed.
fn open_shares(
    session: &Session,
    place: &Place,
    peers: &BTreeMap<u32, PeerKeys>,
    channel: &ChannelSecret,
    records: &BTreeMap<u32, SealedShares<'_>>,
) -> BTreeMap<u32, Option<PlainShares>> {
    let open = |(dealer, record): (&u32, &SealedShares<'_>)| {
        let neighbour = &place.neighbours[dealer];
        let edge = Edge {
            context: &session.digest,
            sender: &neighbour.id,
            receiver: &session.id,
            advertised: [&neighbour.advertised, &place.advertised],
            commitments: &record.commitments,
        };
        let plain = channel
            .open(&edge, &peers[dealer].channel.x25519, record.channel_encapsulation, record.sealed)
            .filter(|plain| plain.commitments(&session.digest, &neighbour.id, &session.id) == record.commitments);
        (*dealer, plain)
    };
    records.iter().map(open).collect()
}

/// The self mask, and one mask for each neighbour that shared keys, whether its shares were good or not.
fn own_masks(
    session: &Session,
    place: &Place,
    peers: &BTreeMap<u32, PeerKeys>,
    secret: &MaskSecret,
    self_seed: &SelfSeed,
    records: &BTreeMap<u32, SealedShares<'_>>,
) -> Result<Vec<(MaskKey, Sign)>, Refusal> {
    let own = place.own_end(session);
    let mut masks = vec![(self_seed.mask(&session.digest, &session.id), Sign::Plus)];
    for (&dealer, record) in records {
        let peer = place.peer_end(dealer);
        let sent: Option<&Encapsulation> = record.mask_encapsulation;
        let mask = secret
            .pair_mask(&session.digest, &own, &peer, &peers[&dealer].mask, sent)
            .ok_or_else(|| unusable(peer.id))?;
        masks.push(mask);
    }
    Ok(masks)
}

impl AwaitingSurvivors {
    /// The upload's header, to be sent after the upload, and sent again after a restart.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.sent
    }

    /// Checks the survivor list and signs it. From here on no other list can be signed.
    ///
    /// The registrar signs one list in an attempt: with several, a coordinator could open stretches of a sparse graph each
    /// by itself.
    ///
    /// # Errors
    /// [`Refusal`]: a list that this participant cannot stand for.
    pub fn sign_survivors(
        self,
        list: &[u8],
        trust: &impl Trust,
        signer: &impl Signer,
    ) -> Result<AwaitingSignatures, Refusal> {
        let step = Step::ConsistencyCheck;
        let Self { session, place, mut held, .. } = self;
        let list = SurvivorList::decode(list).map_err(malformed(step))?;
        session.check_context(step, &list.context)?;
        let SurvivorList { survivors, registrar_signature, .. } = list;
        let list_statement = survivor_list_statement(&session.digest, &place.roster_root, &survivors);
        if !verify_ed25519(trust.registrar(), &list_statement, &registrar_signature) {
            return Err(Refusal::SurvivorsSignature { survivors: survivors.len(), n: survivors.roster_len() });
        }
        check_survivors(&session, &place, &held, &survivors)?;

        let statement = survivors_statement(&session.digest, &place.roster_root, &survivors);
        let signature = signer.sign(&statement);
        let sent = ConsistencySignature { context: session.digest, index: place.index, signature }.encode();
        // The decision is made here: of each neighbour only the share that may be revealed is kept.
        let mut reveal = BTreeMap::new();
        while let Some((dealer, shares)) = held.pop_first() {
            let role = if survivors.contains(dealer) { Role::SelfSeed } else { Role::Root };
            if let Some(shares) = shares {
                reveal.insert(dealer, (role, shares.of_role(role).clone()));
            }
        }
        Ok(AwaitingSignatures { session, place, survivors, reveal, sent })
    }
}

fn check_survivors(
    session: &Session,
    place: &Place,
    held: &BTreeMap<u32, Option<PlainShares>>,
    survivors: &SurvivorSet,
) -> Result<(), Refusal> {
    let n = place.topology.n;
    if survivors.roster_len() != n {
        return Err(Refusal::ForeignSurvivorList { got: survivors.roster_len(), n });
    }
    let min = session.context.min_survivors;
    if survivors.len() < min {
        return Err(Refusal::TooFewSurvivors { survivors: survivors.len(), n, min });
    }
    if !survivors.contains(place.index) {
        return Err(Refusal::NotCounted);
    }
    let surviving = || place.neighbours.keys().filter(|&&neighbour| survivors.contains(neighbour));
    if let Some(&index) = surviving().find(|neighbour| !held.contains_key(neighbour)) {
        return Err(Refusal::UnknownSurvivor { index });
    }
    let answering = u32::try_from(surviving().count()).expect("no more than neighbours");
    let threshold = place.topology.t;
    if answering < threshold {
        return Err(Refusal::TooFewNeighbours { step: Step::ConsistencyCheck, answering, threshold });
    }
    Ok(())
}

impl AwaitingSignatures {
    /// The signature, to be sent, and sent again after a restart.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.sent
    }

    /// Checks that a threshold of its own neighbours signed the same set, and reveals one share for each neighbour.
    ///
    /// # Errors
    /// [`Refusal`]: too few of them did, or a signature is not what it is said to be.
    pub fn reveal(self, signatures: &[u8], signer: &impl Signer) -> Result<Finished, Refusal> {
        let step = Step::Unmasking;
        let Self { session, place, survivors, reveal, .. } = self;
        let list = SignatureList::decode(signatures).map_err(malformed(step))?;
        session.check_context(step, &list.context)?;
        let statement = survivors_statement(&session.digest, &place.roster_root, &survivors);
        let mut claims = Vec::with_capacity(list.signatures.len());
        let mut last = None;
        for (signer, signature) in &list.signatures {
            let foreign = Refusal::ForeignSignature { signer: *signer };
            let neighbour =
                place.neighbours.get(signer).filter(|_| survivors.contains(*signer) && Some(*signer) > last);
            let Some(neighbour) = neighbour else { return Err(foreign) };
            claims.push(Claim { key: &neighbour.key, statement: statement.clone(), signature: *signature });
            last = Some(*signer);
        }
        verify_all(&claims).map_err(|at| Refusal::BadSignature { signer: list.signatures[at].0 })?;
        let answering = u32::try_from(list.signatures.len()).expect("the decoder bounds the list");
        let threshold = place.topology.t;
        if answering < threshold {
            return Err(Refusal::TooFewNeighbours { step, answering, threshold });
        }
        let shares =
            reveal.into_iter().map(|(dealer, (role, salted))| RevealedShare { dealer, role, salted }).collect();
        let sent = Unmasking { context: session.digest, index: place.index, shares }.encode(signer);
        Ok(Finished { session, sent })
    }
}

impl Finished {
    /// The revealed shares, to be sent, and sent again after a restart.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.sent
    }
}

/// Two would learn each other's input from their sum.
const SURVIVORS_FLOOR: u32 = 3;
