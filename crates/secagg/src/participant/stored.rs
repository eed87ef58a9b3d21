//! The participant's state as bytes, to be stored before its message is sent. They hold secrets: the caller encrypts.

use super::{
    Attachment, AwaitingRoster, AwaitingShares, AwaitingSignatures, AwaitingSurvivors, Finished, Neighbour, PeerKeys,
    Place, Session,
};
use crate::canonical::{Malformed, Reader, Writer};
use crate::certificate_key::CertificateKey;
use crate::context::{Context, ContextDigest, ParticipantId, VERSION};
use crate::keys::{ChannelSecret, PlainShares, PublicKeys, Role, Root, SaltedShare, SecretScalar, SelfSeed};
use crate::message::{NEIGHBOURS_MAX, ROSTER_MAX, Step, SurvivorSet};
use crate::topology::Topology;
use sordino_codec::{RingVector, pack, packed_len, unpack};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A participant's state of an attempt, whichever it is.
pub enum Stored {
    /// After AdvertiseKeys.
    AwaitingRoster(AwaitingRoster),
    /// After ShareKeys.
    AwaitingShares(AwaitingShares),
    /// After MaskedInput.
    AwaitingSurvivors(AwaitingSurvivors),
    /// After ConsistencyCheck.
    AwaitingSignatures(AwaitingSignatures),
    /// After Unmasking.
    Finished(Finished),
}

/// Why stored bytes are not a state of this attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Damaged, or written by another version.
    #[error("the stored state cannot be read")]
    Malformed(#[from] Malformed),
    /// Of another round, attempt, policy or model.
    #[error("the stored state belongs to another attempt")]
    OtherAttempt,
}

impl Stored {
    /// The step whose message was made last.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::AwaitingRoster(_) => Step::AdvertiseKeys,
            Self::AwaitingShares(_) => Step::ShareKeys,
            Self::AwaitingSurvivors(_) => Step::MaskedInput,
            Self::AwaitingSignatures(_) => Step::ConsistencyCheck,
            Self::Finished(_) => Step::Unmasking,
        }
    }

    /// Digest of the attempt's context.
    #[must_use]
    pub fn attempt(&self) -> &ContextDigest {
        &self.session().digest
    }

    /// The message of that step: sent again after a restart, the same bytes.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        match self {
            Self::AwaitingRoster(state) => &state.sent,
            Self::AwaitingShares(state) => &state.sent,
            Self::AwaitingSurvivors(state) => &state.sent,
            Self::AwaitingSignatures(state) => &state.sent,
            Self::Finished(state) => &state.sent,
        }
    }

    /// The state as bytes. They hold secrets.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // One allocation that is large enough: growing would leave copies of secrets behind.
        let mut out = Writer::with_capacity(self.size_bound());
        out.u16(VERSION).u8(self.step().number());
        let session = self.session();
        out.raw(session.digest.as_bytes()).bytes(session.id.as_str().as_bytes()).bytes(self.message());
        match self {
            Self::AwaitingRoster(state) => {
                write_input(&mut out, &state.input);
                // Of the lengths that the context names.
                if let Some(Attachment { commitments, proof }) = &state.attachment {
                    out.raw(commitments).raw(proof);
                }
                out.raw(&state.root.0.bytes()[..]).raw(&state.channel.bytes()[..]);
            }
            Self::AwaitingShares(state) => {
                write_input(&mut out, &state.input);
                out.raw(&state.proof);
                out.raw(&state.root.0.bytes()[..]).raw(&state.channel.bytes()[..]);
                out.raw(&state.self_seed.0.bytes()[..]);
                write_place(&mut out, &state.place);
                write_peers(&mut out, &state.peers);
            }
            Self::AwaitingSurvivors(state) => {
                write_place(&mut out, &state.place);
                out.count(state.held.len());
                for (dealer, shares) in &state.held {
                    out.u32(*dealer).u8(u8::from(shares.is_some()));
                    if let Some(shares) = shares {
                        let mut plain = Zeroizing::new(Vec::with_capacity(PlainShares::LEN));
                        shares.write(&mut plain);
                        out.raw(&plain);
                    }
                }
            }
            Self::AwaitingSignatures(state) => {
                write_place(&mut out, &state.place);
                state.survivors.write(&mut out);
                out.count(state.reveal.len());
                for (dealer, (role, salted)) in &state.reveal {
                    out.u32(*dealer).u8(role.byte()).raw(&salted.share.bytes()[..]).raw(&salted.salt[..]);
                }
            }
            Self::Finished(_) => {}
        }
        Zeroizing::new(out.finish())
    }

    /// The state from its bytes, for the attempt it was stored in.
    ///
    /// # Errors
    /// [`RestoreError`]: damaged bytes, or a state of another attempt.
    pub fn from_bytes(bytes: &[u8], context: Context) -> Result<Self, RestoreError> {
        let mut input = Reader::new(bytes);
        let version = input.u16("version")?;
        if version != VERSION {
            return Err(Malformed::Version { got: version, expected: VERSION }.into());
        }
        let step = Step::from_number(input.u8("state")?).ok_or(Malformed::Value { field: "state" })?;
        let digest = context.digest();
        if input.hash("context")? != *digest.as_bytes() {
            return Err(RestoreError::OtherAttempt);
        }
        let id = read_id(&mut input)?;
        let sent = input.bytes(usize::MAX, "message")?.to_vec();
        let session = Session { context, digest, id };
        let state = match step {
            Step::AdvertiseKeys => {
                let vector = read_input(&mut input, &session.context)?;
                let attachment = read_attachment(&mut input, &session.context)?;
                let root = Root(read_secret(&mut input)?);
                let channel = read_channel(&mut input, &session.context)?;
                Self::AwaitingRoster(AwaitingRoster { session, input: vector, attachment, root, channel, sent })
            }
            Step::ShareKeys => {
                let vector = read_input(&mut input, &session.context)?;
                let proof = input.raw(session.context.proof_len(), "proof")?.to_vec();
                let root = Root(read_secret(&mut input)?);
                let channel = read_channel(&mut input, &session.context)?;
                let self_seed = SelfSeed(read_secret(&mut input)?);
                let place = read_place(&mut input)?;
                let peers = read_peers(&mut input)?;
                if !peers.keys().eq(place.neighbours.keys()) {
                    return Err(Malformed::Value { field: "neighbours' keys" }.into());
                }
                Self::AwaitingShares(AwaitingShares {
                    session,
                    input: vector,
                    proof,
                    root,
                    self_seed,
                    channel,
                    place,
                    peers,
                    sent,
                })
            }
            Step::MaskedInput => {
                let place = read_place(&mut input)?;
                let held = read_held(&mut input)?;
                Self::AwaitingSurvivors(AwaitingSurvivors { session, place, held, sent })
            }
            Step::ConsistencyCheck => {
                let place = read_place(&mut input)?;
                let survivors = SurvivorSet::read(&mut input)?;
                let reveal = read_reveal(&mut input)?;
                Self::AwaitingSignatures(AwaitingSignatures { session, place, survivors, reveal, sent })
            }
            Step::Unmasking => Self::Finished(Finished { session, sent }),
        };
        input.finish()?;
        Ok(state)
    }

    fn session(&self) -> &Session {
        match self {
            Self::AwaitingRoster(state) => &state.session,
            Self::AwaitingShares(state) => &state.session,
            Self::AwaitingSurvivors(state) => &state.session,
            Self::AwaitingSignatures(state) => &state.session,
            Self::Finished(state) => &state.session,
        }
    }

    fn size_bound(&self) -> usize {
        let context = &self.session().context;
        let neighbours = match self {
            Self::AwaitingRoster(_) | Self::Finished(_) => 0,
            Self::AwaitingShares(state) => state.place.neighbours.len(),
            Self::AwaitingSurvivors(state) => state.place.neighbours.len(),
            Self::AwaitingSignatures(state) => state.place.neighbours.len(),
        };
        let vector = usize::try_from(context.vector_len).unwrap_or(0);
        FIXED_MAX
            + self.message().len()
            + packed_len(vector, context.bits).unwrap_or(0)
            + context.commitments_len()
            + context.proof_len()
            + neighbours * PER_NEIGHBOUR_MAX
    }
}

/// Bytes of a stored state beside its message, its input with what is attached to it, and its neighbours.
const FIXED_MAX: usize = 1_024 + ROSTER_MAX / 8;
/// Bytes of a stored neighbour with its shares.
const PER_NEIGHBOUR_MAX: usize = 3 * 1_024;

fn write_input(out: &mut Writer, input: &RingVector) {
    out.raw(&Zeroizing::new(pack(input)));
}

fn read_input(input: &mut Reader<'_>, context: &Context) -> Result<RingVector, Malformed> {
    let bad = Malformed::Value { field: "input" };
    let len = usize::try_from(context.vector_len).map_err(|_| bad)?;
    let bytes = packed_len(len, context.bits).ok_or(bad)?;
    unpack(input.raw(bytes, "input")?, len, context.bits).map_err(|_| bad)
}

fn read_attachment(input: &mut Reader<'_>, context: &Context) -> Result<Option<Attachment>, Malformed> {
    if context.proof.is_none() {
        return Ok(None);
    }
    let commitments = input.raw(context.commitments_len(), "commitments")?.to_vec();
    Ok(Some(Attachment { commitments, proof: input.raw(context.proof_len(), "proof")?.to_vec() }))
}

fn read_secret(input: &mut Reader<'_>) -> Result<SecretScalar, Malformed> {
    let bytes = Zeroizing::new(input.array("secret")?);
    SecretScalar::from_bytes(&bytes).ok_or(Malformed::Value { field: "secret" })
}

fn read_id(input: &mut Reader<'_>) -> Result<ParticipantId, Malformed> {
    let bytes = input.bytes(ParticipantId::MAX_LEN, "participant")?;
    let name = std::str::from_utf8(bytes).ok().and_then(|name| ParticipantId::new(name).ok());
    name.ok_or(Malformed::Value { field: "participant" })
}

fn write_place(out: &mut Writer, place: &Place) {
    let Place { index, topology: Topology { n, k, t }, roster_root, advertised, neighbours } = place;
    out.u32(*index).u32(*n).u32(*k).u32(*t).raw(roster_root).raw(advertised).count(neighbours.len());
    for (index, Neighbour { id, key, advertised }) in neighbours {
        out.u32(*index).bytes(id.as_str().as_bytes()).bytes(&key.to_bytes()).raw(advertised);
    }
}

fn write_peers(out: &mut Writer, peers: &BTreeMap<u32, PeerKeys>) {
    out.count(peers.len());
    for (index, PeerKeys { channel, mask }) in peers {
        out.u32(*index);
        channel.write(out);
        mask.write(out);
    }
}

fn read_peers(input: &mut Reader<'_>) -> Result<BTreeMap<u32, PeerKeys>, Malformed> {
    let count = input.count(NEIGHBOURS_MAX, 4 + 2 * 36, "neighbours' keys")?;
    (0..count)
        .map(|_| {
            let index = input.u32("neighbour")?;
            Ok((index, PeerKeys { channel: PublicKeys::read(input)?, mask: PublicKeys::read(input)? }))
        })
        .collect()
}

fn read_channel(input: &mut Reader<'_>, context: &Context) -> Result<ChannelSecret, Malformed> {
    let bytes = Zeroizing::new(input.array("channel keys")?);
    Ok(ChannelSecret::from_bytes(&bytes, context.pq))
}

fn read_place(input: &mut Reader<'_>) -> Result<Place, Malformed> {
    let index = input.u32("index")?;
    let topology = Topology { n: input.u32("n")?, k: input.u32("k")?, t: input.u32("t")? };
    let roster_root = input.hash("roster")?;
    let own = input.hash("own keys")?;
    let count = input.count(NEIGHBOURS_MAX, 4 + 4 + 4 + 33 + 32, "neighbours")?;
    let neighbours = (0..count)
        .map(|_| {
            let index = input.u32("neighbour")?;
            let id = read_id(input)?;
            let key = CertificateKey::from_bytes(input.bytes(CertificateKey::MAX_LEN, "certificate key")?)
                .map_err(|_| Malformed::Value { field: "certificate key" })?;
            let advertised = input.hash("advertised keys")?;
            Ok((index, Neighbour { id, key, advertised }))
        })
        .collect::<Result<BTreeMap<_, _>, Malformed>>()?;
    Ok(Place { index, topology, roster_root, advertised: own, neighbours })
}

fn read_held(input: &mut Reader<'_>) -> Result<BTreeMap<u32, Option<PlainShares>>, Malformed> {
    let count = input.count(NEIGHBOURS_MAX, 5, "shares")?;
    (0..count)
        .map(|_| {
            let dealer = input.u32("dealer")?;
            let shares = match input.u8("shares")? {
                0 => None,
                1 => {
                    let plain = PlainShares::read(input.raw(PlainShares::LEN, "shares")?);
                    Some(plain.ok_or(Malformed::Value { field: "shares" })?)
                }
                _ => return Err(Malformed::Value { field: "shares" }),
            };
            Ok((dealer, shares))
        })
        .collect()
}

fn read_reveal(input: &mut Reader<'_>) -> Result<BTreeMap<u32, (Role, SaltedShare)>, Malformed> {
    let count = input.count(NEIGHBOURS_MAX, 4 + 1 + 64, "shares")?;
    (0..count)
        .map(|_| {
            let dealer = input.u32("dealer")?;
            let role = Role::read(input)?;
            let share = read_secret(input)?;
            Ok((dealer, (role, SaltedShare { share, salt: Box::new(input.array("salt")?) })))
        })
        .collect()
}
