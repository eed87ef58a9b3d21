//! A cohort in one process, without a network: participants with certificates, a registrar and an honest coordinator.
//! Every test file uses a part of it.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part")]

pub(crate) use sordino_forge as forge;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use aws_lc_rs::{agreement, rand::SystemRandom};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sordino_codec::{RingBits, RingVector};
use sordino_secagg::coordinator::{
    Abort, Coordinator, Millis, Outgoing, Receipt, Rejection, RunningSum, Setup, Timing,
};
use sordino_secagg::participant::{Attachment, AwaitingRoster, Identity, Input, Refusal, Stored, Trust};
use sordino_secagg::{CertificateKey, Context, Faults, ParticipantId, Prg, ProofTerms, Signer, Step, merkle};
use std::collections::{BTreeMap, BTreeSet};

/// A certificate: the participant's key, and the authority's signature of its name and key.
pub(crate) fn certify(authority: &SigningKey, id: &ParticipantId, key: &VerifyingKey) -> Vec<u8> {
    certify_key(authority, id, &certified(*key))
}

/// The same for a key of either kind.
pub(crate) fn certify_key(authority: &SigningKey, id: &ParticipantId, key: &CertificateKey) -> Vec<u8> {
    let key = key.to_bytes();
    let signature = authority.sign(&[id.as_str().as_bytes(), &key].concat());
    [&key[..], &signature[..]].concat()
}

fn certified(key: VerifyingKey) -> CertificateKey {
    key.try_into().expect("a good key")
}

/// What every participant believes.
pub(crate) struct Anchors {
    pub(crate) authority: VerifyingKey,
    pub(crate) registrar: VerifyingKey,
}

impl Trust for Anchors {
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let (key, signature) = certificates.split_last_chunk::<64>().ok_or("the certificate is too short")?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        let statement = [id.as_str().as_bytes(), key].concat();
        self.authority
            .verify_strict(&statement, &signature)
            .map_err(|_| "the authority did not sign the certificate")?;
        CertificateKey::from_bytes(key).map_err(|_| "the certificate holds no key".into())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar
    }
}

pub(crate) struct Party {
    pub(crate) id: ParticipantId,
    pub(crate) key: SigningKey,
    /// Signs in its place, if this participant has a P-256 key.
    pub(crate) p256: Option<P256Signer>,
    pub(crate) certificates: Vec<u8>,
    pub(crate) input: Vec<i64>,
    /// What its input carries, where the context asks for it.
    pub(crate) attachment: Option<Attachment>,
    pub(crate) state: Option<Stored>,
    /// The packed masked input and its proof, once there is one.
    pub(crate) upload: Vec<u8>,
}

impl Party {
    pub(crate) fn state(&self) -> &Stored {
        self.state.as_ref().expect("the participant has advertised and refused nothing")
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        self.state().message().to_vec()
    }

    pub(crate) fn certificate_key(&self) -> CertificateKey {
        self.p256.as_ref().map_or_else(|| certified(self.key.verifying_key()), P256Signer::certificate_key)
    }
}

impl Signer for Party {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.p256 {
            Some(key) => key.sign(message),
            None => Signer::sign(&self.key, message),
        }
    }
}

/// A P-256 key that signs as the protocol asks: with the smaller of the two values of s.
#[derive(Clone)]
pub(crate) struct P256Signer(EcdsaKeyPair);

impl P256Signer {
    fn new(rng: &mut ChaCha20Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let point = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &secret).expect("below the order");
        let point = point.compute_public_key().expect("a point");
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret, point.as_ref());
        Self(pair.expect("a pair"))
    }

    pub(crate) fn certificate_key(&self) -> CertificateKey {
        CertificateKey::p256(self.0.public_key().as_ref()).expect("a point of the curve")
    }
}

impl Signer for P256Signer {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        // Every second signature has the smaller s.
        std::iter::repeat_with(|| self.0.sign(&SystemRandom::new(), message).expect("it signs"))
            .map(|signature| <[u8; 64]>::try_from(signature.as_ref()).expect("64 bytes"))
            .find(|signature| signature[32] < 0x7f)
            .expect("sooner or later")
    }
}

pub(crate) struct World {
    pub(crate) context: Context,
    /// Of the roster, once it is signed.
    pub(crate) root: merkle::Hash,
    pub(crate) authority: SigningKey,
    pub(crate) registrar: SigningKey,
    pub(crate) anchors: Anchors,
    /// In the order of their names, which is that of the roster where all advertise.
    pub(crate) parties: Vec<Party>,
    coordinator: Option<Coordinator>,
    sum: Option<RunningSum>,
    rng: ChaCha20Rng,
}

/// An attempt on 37 values of 20 bits: neither fills its last cipher block or byte.
pub(crate) fn context(faults: Faults) -> Context {
    Context {
        federation: "example.org".into(),
        task: "digits".into(),
        round: 7,
        attempt: 1,
        nonce: [9; 32],
        policy: [1; 32],
        model: [2; 32],
        vector_len: 37,
        bits: bits(20),
        prg: Prg::Aes256Ctr,
        pq: true,
        min_survivors: 3,
        faults,
        proof: None,
    }
}

/// Any bytes: what a proof is, the protocol does not know.
fn attachment(terms: &ProofTerms, rng: &mut ChaCha20Rng) -> Attachment {
    let mut bytes = |len: u32| {
        let mut bytes = vec![0; len as usize];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    Attachment { commitments: bytes(terms.commitments_len), proof: bytes(terms.proof_len) }
}

pub(crate) fn bits(bits: u8) -> RingBits {
    RingBits::new(bits).expect("a ring of the test")
}

/// One of five may fall silent: a complete graph with k = 4 and t = 3.
pub(crate) const ONE_OF_FIVE: Faults = Faults { corrupt: 0, max_dropout_fraction: 0.2 };
/// Nobody may: a ring, where everybody has two neighbours and needs both.
pub(crate) const NOBODY: Faults = Faults { corrupt: 0, max_dropout_fraction: 0.0 };

const TIMING: Timing = Timing { advertise: 1_000, step: 100, grace: 10, attempt: 10_000 };

impl World {
    pub(crate) fn new(context: Context, n: usize, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let authority = signing_key(&mut rng);
        let registrar = signing_key(&mut rng);
        let anchors = Anchors { authority: authority.verifying_key(), registrar: registrar.verifying_key() };
        // A sum of all inputs stays inside the ring.
        let max = context.bits.centered_max() / i64::try_from(n).expect("a small cohort");
        let parties: Vec<Party> = (0..n)
            .map(|at| {
                let id = ParticipantId::new(&format!("participant-{at:03}")).expect("a valid name");
                let key = signing_key(&mut rng);
                let certificates = certify(&authority, &id, &key.verifying_key());
                let value = |_| (rng.next_u64() % (2 * max.unsigned_abs() + 1)).cast_signed().wrapping_sub(max);
                let input = (0..context.vector_len).map(value).collect();
                let attachment = context.proof.map(|terms| attachment(&terms, &mut rng));
                Party { id, key, p256: None, certificates, input, attachment, state: None, upload: Vec::new() }
            })
            .collect();
        let cohort = parties.iter().map(|party| (party.id.clone(), party.certificate_key())).collect();
        let coordinator = Coordinator::new(setup(&context, cohort), 0);
        let sum = Some(coordinator.new_sum());
        Self {
            context,
            root: [0; 32],
            authority,
            registrar,
            anchors,
            parties,
            coordinator: Some(coordinator),
            sum,
            rng,
        }
    }

    /// These participants have P-256 keys, before the attempt begins.
    pub(crate) fn with_p256(mut self, who: &[usize]) -> Self {
        for &at in who {
            let signer = P256Signer::new(&mut self.rng);
            let party = &mut self.parties[at];
            party.certificates = certify_key(&self.authority, &party.id, &signer.certificate_key());
            party.p256 = Some(signer);
        }
        let cohort = self.parties.iter().map(|party| (party.id.clone(), party.certificate_key())).collect();
        self.coordinator = Some(Coordinator::new(setup(&self.context, cohort), 0));
        self
    }

    /// The same people in another attempt.
    pub(crate) fn again(&self, context: Context, seed: u64) -> Self {
        let mut next = Self::new(context, self.parties.len(), seed);
        next.authority = self.authority.clone();
        next.registrar = self.registrar.clone();
        next.anchors = Anchors { authority: self.anchors.authority, registrar: self.anchors.registrar };
        for (party, before) in next.parties.iter_mut().zip(&self.parties) {
            party.key = before.key.clone();
            party.p256.clone_from(&before.p256);
            party.certificates.clone_from(&before.certificates);
        }
        let cohort = self.parties.iter().map(|party| (party.id.clone(), party.certificate_key())).collect();
        next.coordinator = Some(Coordinator::new(setup(&next.context, cohort), 0));
        next
    }

    /// Steps close a grace after so many answers.
    pub(crate) fn with_quorum(mut self, quorum: u32) -> Self {
        let cohort = self.parties.iter().map(|party| (party.id.clone(), party.certificate_key())).collect();
        self.coordinator = Some(Coordinator::new(Setup { quorum, ..setup(&self.context, cohort) }, 0));
        self
    }

    /// A whole cohort up to the point where `step` is open and nobody has answered in it.
    pub(crate) fn at(step: Step, context: Context, n: usize, seed: u64) -> Self {
        let mut world = Self::new(context, n, seed);
        world.play_until(step);
        world
    }

    pub(crate) fn play_until(&mut self, step: Step) {
        let everybody: Vec<usize> = (0..self.parties.len()).collect();
        for before in Step::ALL.into_iter().take_while(|before| *before < step) {
            self.play(before, &everybody);
            self.close().expect("everybody answered");
        }
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        self.coordinator.as_ref().expect("the attempt is not over")
    }

    pub(crate) fn coordinator_mut(&mut self) -> &mut Coordinator {
        self.coordinator.as_mut().expect("the attempt is not over")
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        *self.context.digest().as_bytes()
    }

    /// Encodes the input and makes the participant's advertisement, in a context of its own.
    pub(crate) fn advertise_in(&mut self, at: usize, context: Context) {
        let party = &mut self.parties[at];
        let vector = RingVector::from_centered(&party.input, context.bits).expect("inputs fit the ring");
        let input = Input { vector, attachment: party.attachment.clone() };
        let identity = Identity { id: &party.id, certificates: &party.certificates };
        let state = AwaitingRoster::advertise(context, identity, input, &*party, &mut self.rng).expect("a valid input");
        party.state = Some(Stored::AwaitingRoster(state));
    }

    /// The roster's leaves, while every participant's last message is its advertisement.
    pub(crate) fn leaves(&self) -> Vec<merkle::Hash> {
        self.parties.iter().map(|party| forge::roster_leaf(party.state().message())).collect()
    }

    /// What the coordinator has for the participant in `step`.
    pub(crate) fn opening(&self, step: Step, at: usize) -> Vec<u8> {
        match self.coordinator().outgoing(step, &self.parties[at].id) {
            Outgoing::Message(bytes) => bytes,
            other => unreachable!("participant {at} gets {other:?} in {step}"),
        }
    }

    /// Gives an opening, true or forged, to a copy of the participant that was restored from its stored bytes.
    pub(crate) fn answer_restored(&mut self, at: usize, opening: &[u8]) -> Result<Stored, Refusal> {
        let state = self.restored(at);
        let party = &self.parties[at];
        answer(state, opening, party, &self.anchors, &mut self.rng).map(|(state, _)| state)
    }

    /// Gives an opening to the participant itself; after a refusal it takes no further part.
    pub(crate) fn answer(&mut self, at: usize, opening: &[u8]) -> Result<(), Refusal> {
        let party = &mut self.parties[at];
        let state = party.state.take().expect("the participant has advertised and refused nothing");
        let (state, upload) = answer(state, opening, &*party, &self.anchors, &mut self.rng)?;
        party.state = Some(state);
        if let Some(upload) = upload {
            party.upload = upload;
        }
        Ok(())
    }

    /// The participant as it is after a restart.
    pub(crate) fn restored(&self, at: usize) -> Stored {
        let bytes = self.parties[at].state().to_bytes();
        Stored::from_bytes(&bytes, self.context.clone()).expect("what was stored is read again")
    }

    /// Sends the participant's last message, as it would after a restart, too.
    pub(crate) fn send(&mut self, at: usize) -> Result<Receipt, Rejection> {
        let party = &self.parties[at];
        let (step, message, upload) = (party.state().step(), party.message(), party.upload.clone());
        if step == Step::MaskedInput {
            self.send_input(at, &message, &upload)
        } else {
            self.send_bytes(step, at, &message)
        }
    }

    pub(crate) fn send_bytes(&mut self, step: Step, from: usize, bytes: &[u8]) -> Result<Receipt, Rejection> {
        let id = self.parties[from].id.clone();
        self.coordinator_mut().message(step, &id, bytes, 0)
    }

    /// An upload in two pieces, as a coordinator's shell takes it.
    pub(crate) fn send_input(&mut self, from: usize, header: &[u8], upload: &[u8]) -> Result<Receipt, Rejection> {
        let id = self.parties[from].id.clone();
        let receipt = self.coordinator().check_input(&id, header)?;
        let (one, two) = upload.split_at(upload.len() / 2);
        let mut hasher = self.coordinator().hasher();
        hasher.update(one);
        hasher.update(two);
        self.coordinator_mut().input(&id, header, &hasher.finish(), 0)?;
        if receipt == Receipt::Accepted {
            let sum = self.sum.as_mut().expect("the sum is not open");
            let mut adder = sum.begin(&id).expect("each input is added once");
            adder.push(one).expect("the length was checked");
            adder.push(two).expect("the length was checked");
            adder.finish().expect("the length was checked");
        }
        Ok(receipt)
    }

    /// Those participants do their part of a step.
    pub(crate) fn play(&mut self, step: Step, who: &[usize]) {
        for &at in who {
            if step == Step::AdvertiseKeys {
                self.advertise_in(at, self.context.clone());
            } else {
                let opening = self.opening(step, at);
                self.answer(at, &opening).expect("an honest coordinator is believed");
            }
        }
        for &at in who {
            assert_eq!(self.send(at), Ok(Receipt::Accepted), "participant {at} in {step}");
        }
    }

    /// Closes the open step, and no more.
    pub(crate) fn close_unsigned(&mut self) -> Result<(), Abort> {
        self.coordinator = Some(self.coordinator.take().expect("the attempt is not over").close(0)?);
        Ok(())
    }

    /// Closes the open step; the registrar signs the roster, or the survivor list.
    pub(crate) fn close(&mut self) -> Result<(), Abort> {
        self.close_unsigned()?;
        self.sign();
        Ok(())
    }

    /// The registrar signs what it is asked about, if it is.
    pub(crate) fn sign(&mut self) {
        let mut coordinator = self.coordinator.take().expect("the attempt is not over");
        if let Some(roster) = coordinator.roster_to_sign() {
            let statement = roster.statement(|id| self.key_of(id)).expect("who advertised has a key");
            self.root = *statement.last_chunk().expect("a statement ends with the root");
            coordinator = coordinator.roster_signed(self.registrar.sign(&statement), 0);
        }
        if let Some(survivors) = coordinator.survivors_to_sign() {
            coordinator = coordinator.survivors_signed(self.registrar.sign(&survivors.statement()), 0);
        }
        self.coordinator = Some(coordinator);
    }

    /// A signature of the roster comes while another one is awaited.
    pub(crate) fn sign_out_of_turn(&mut self) {
        self.coordinator = self.coordinator.take().map(|coordinator| coordinator.roster_signed([0; 64], 0));
    }

    pub(crate) fn key_of(&self, id: &ParticipantId) -> Option<CertificateKey> {
        self.parties.iter().find(|party| party.id == *id).map(Party::certificate_key)
    }

    /// Takes the masks off.
    pub(crate) fn open(&mut self) -> Result<Vec<i64>, Abort> {
        let sum = self.sum.take().expect("the sum is opened once");
        self.coordinator().open(sum).map(|sum| sum.iter_centered().collect())
    }

    /// The plain sum of some inputs.
    pub(crate) fn plain_sum(&self, of: &[usize]) -> Vec<i64> {
        let len = usize::try_from(self.context.vector_len).expect("a short vector");
        (0..len).map(|at| of.iter().map(|&party| self.parties[party].input[at]).sum()).collect()
    }

    /// A participant's signature of a survivor set of the whole cohort's roster.
    pub(crate) fn survivors_signature(
        &self,
        signer: usize,
        roster_root: &[u8; 32],
        members: &BTreeSet<u32>,
    ) -> [u8; 64] {
        let n = u32::try_from(self.parties.len()).expect("a small cohort");
        forge::survivors_signature(&self.digest(), roster_root, n, members.iter().copied(), &self.parties[signer].key)
    }

    pub(crate) fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.rng
    }
}

fn answer(
    state: Stored,
    opening: &[u8],
    key: &Party,
    anchors: &Anchors,
    rng: &mut ChaCha20Rng,
) -> Result<(Stored, Option<Vec<u8>>), Refusal> {
    Ok(match state {
        Stored::AwaitingRoster(state) => (Stored::AwaitingShares(state.share_keys(opening, anchors, key, rng)?), None),
        Stored::AwaitingShares(state) => {
            let (state, upload) = state.mask_input(opening, key)?;
            assert_eq!(state.message(), upload.header);
            (Stored::AwaitingSurvivors(state), Some(upload.bytes))
        }
        Stored::AwaitingSurvivors(state) => {
            (Stored::AwaitingSignatures(state.sign_survivors(opening, anchors, key)?), None)
        }
        Stored::AwaitingSignatures(state) => (Stored::Finished(state.reveal(opening, key)?), None),
        Stored::Finished(_) => unreachable!("nothing follows Unmasking"),
    })
}

fn setup(context: &Context, cohort: BTreeMap<ParticipantId, CertificateKey>) -> Setup {
    Setup { context: context.clone(), quorum: u32::MAX, cohort, timing: TIMING }
}

pub(crate) fn signing_key(rng: &mut ChaCha20Rng) -> SigningKey {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    SigningKey::from_bytes(&seed)
}

/// Time by which every deadline of the test's attempts has passed.
pub(crate) const LATE: Millis = 1_000_000;
