//! What the registrar's signature of the survivor list is for: a coordinator that shows two lists to stretches of a sparse
//! graph opens the sum of one stretch by itself, without a single corrupt participant. Here it does so, with the protocol's
//! own code, while the registrar signs whatever it is shown; with a registrar that signs one list it gets nothing.

use super::*;
use crate::context::{Faults, Prg};
use crate::message::{
    ConsistencySignature, DeliveredShares, SignatureList, Signer, SurvivorList, Unmasking, survivor_list_statement,
};
use crate::participant::{AwaitingRoster, AwaitingSignatures, AwaitingSurvivors, Identity, Refusal, Trust};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_codec::{RingBits, RingVector};
use std::collections::BTreeSet;

const N: u32 = 100;
/// Participants whose sum is opened by itself: far fewer than a sum may hold.
const STRETCH: u32 = 20;
const MIN_SURVIVORS: u32 = 60;
/// Of the nearest helpers from the stretch: so that on either side enough remain who reveal their roots.
const DISTANCE: u32 = 4;

/// Certificates are bare keys.
struct BareKeys(VerifyingKey);

impl Trust for BareKeys {
    fn participant(&self, _: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let key: [u8; 32] = certificates.try_into().map_err(|_| "no key")?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| "no key")?;
        key.try_into().map_err(|_| "no key".into())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.0
    }
}

/// Everybody has masked its input; those of the stretch were shown the shares of those nearest only.
struct Attack {
    context: Context,
    keys: Vec<SigningKey>,
    registrar: SigningKey,
    signed: Signed,
    shared: BTreeMap<u32, ShareKeys>,
    states: BTreeMap<u32, AwaitingSurvivors>,
    /// Of the stretch.
    sum: RunningSum,
    plain: Vec<i64>,
    places: Places,
}

/// The ring, by roster index: the stretch, those on both sides of it who only help, and those who are shown the first list.
struct Places {
    stretch: BTreeSet<u32>,
    helpers: BTreeSet<u32>,
    inner: BTreeSet<u32>,
    /// For the stretch and the helpers: all but those between them and the far side.
    first: SurvivorSet,
    /// For all others: all but the helpers.
    second: SurvivorSet,
}

impl Places {
    fn new(graph: &Graph) -> Self {
        let Topology { n, k, t } = *graph.topology();
        let at = |place: u32| graph.ring()[(place % n) as usize];
        let stretch: BTreeSet<u32> = (0..STRETCH).map(at).collect();
        let each_side = t - k / 2;
        let helpers: BTreeSet<u32> =
            (DISTANCE..DISTANCE + each_side).flat_map(|step| [at(STRETCH - 1 + step), at(n - step)]).collect();
        let inner: BTreeSet<u32> = stretch.union(&helpers).copied().collect();
        let is_far = |index: &u32| graph.neighbours(*index).iter().all(|other| !stretch.contains(other));
        let first = SurvivorSet::new(n, (0..n).filter(|index| inner.contains(index) || is_far(index)));
        let second = SurvivorSet::new(n, (0..n).filter(|index| !helpers.contains(index)));
        Self { stretch, helpers, inner, first, second }
    }

    fn list_for(&self, index: u32) -> &SurvivorSet {
        if self.inner.contains(&index) { &self.first } else { &self.second }
    }
}

fn attack() -> Attack {
    let mut rng = ChaCha20Rng::seed_from_u64(71);
    let context = Context {
        federation: "example.org".into(),
        task: "digits".into(),
        round: 1,
        attempt: 1,
        nonce: [3; 32],
        policy: [1; 32],
        model: [2; 32],
        vector_len: 5,
        bits: RingBits::new(20).expect("a ring"),
        prg: Prg::Aes128Ctr,
        pq: false,
        min_survivors: MIN_SURVIVORS,
        faults: Faults { corrupt: 0, max_dropout_fraction: 0.01 },
        proof: None,
    };
    let seed = |at: u32| [u8::try_from(at).expect("few"); 32];
    let keys: Vec<SigningKey> = (0..N).map(|at| SigningKey::from_bytes(&seed(at))).collect();
    let ids: Vec<ParticipantId> =
        (0..N).map(|at| ParticipantId::new(&format!("participant-{at:03}")).expect("a name")).collect();
    let registrar = SigningKey::from_bytes(&seed(200));
    let trust = BareKeys(registrar.verifying_key());
    let key = |at: usize| CertificateKey::try_from(keys[at].verifying_key()).expect("a good key");
    let cohort = ids.iter().cloned().zip((0..).map(key)).collect();
    let timing = Timing { advertise: 1, step: 1, grace: 1, attempt: 9 };
    let mut coordinator = Coordinator::new(Setup { context: context.clone(), cohort, quorum: u32::MAX, timing }, 0);
    let opening = |coordinator: &Coordinator, step, at: usize| match coordinator.outgoing(step, &ids[at]) {
        Outgoing::Message(bytes) => bytes,
        other => unreachable!("{other:?}"),
    };

    let input = |at: usize| (0..5).map(|value| i64::try_from(at).expect("few") * 37 - value * 50).collect::<Vec<_>>();
    let mut advertised = Vec::new();
    for (at, (id, key)) in ids.iter().zip(&keys).enumerate() {
        let certificates = key.verifying_key().to_bytes();
        let values = RingVector::from_centered(&input(at), context.bits).expect("in the ring");
        let identity = Identity { id, certificates: &certificates };
        let state = AwaitingRoster::advertise(context.clone(), identity, values, key, &mut rng).expect("valid");
        coordinator.message(Step::AdvertiseKeys, id, state.message(), 0).expect("honest");
        advertised.push(state);
    }
    coordinator = coordinator.close(0).expect("everybody answered");
    let roster = coordinator.roster_to_sign().expect("a roster");
    let statement = roster.statement(|id| ids.binary_search(id).ok().map(key)).expect("honest");
    coordinator = coordinator.roster_signed(Signer::sign(&registrar, &statement), 0);
    let mut sharing = Vec::new();
    for (at, state) in advertised.into_iter().enumerate() {
        let roster = opening(&coordinator, Step::ShareKeys, at);
        let state = state.share_keys(&roster, &trust, &keys[at], &mut rng).expect("an honest roster");
        coordinator.message(Step::ShareKeys, &ids[at], state.message(), 0).expect("honest");
        sharing.push(state);
    }
    let coordinator = coordinator.close(0).expect("everybody answered");

    let mut sum = coordinator.new_sum();
    let State::MaskedInput { signed, shared, .. } = coordinator.state else { unreachable!("ShareKeys was closed") };
    let places = Places::new(&signed.roster.graph);
    let mut states = BTreeMap::new();
    for (index, state) in (0..).zip(sharing) {
        let is_shown = |dealer: &u32| !places.stretch.contains(&index) || places.inner.contains(dealer);
        let dealers = signed.roster.graph.neighbours(index).into_iter().filter(is_shown);
        let deliveries = dealers.map(|dealer| shared[&dealer].delivery(index).expect("a neighbour")).collect();
        let delivered = DeliveredShares { context: context.digest(), deliveries }.encode();
        let at = index as usize;
        let (state, upload) = state.mask_input(&delivered, &keys[at]).expect("enough neighbours");
        if places.stretch.contains(&index) {
            let mut adder = sum.begin(&ids[at]).expect("once");
            adder.push(&upload.bytes).expect("of the right length");
            adder.finish().expect("of the right length");
        }
        states.insert(index, state);
    }
    let inputs = places.stretch.iter().map(|&index| input(index as usize));
    let plain = inputs.fold(vec![0; 5], |sum, input| sum.iter().zip(input).map(|(one, other)| one + other).collect());
    Attack { context, keys, registrar, signed, shared, states, sum, plain, places }
}

impl Attack {
    fn statement(&self, survivors: &SurvivorSet) -> Vec<u8> {
        survivor_list_statement(&self.context.digest(), &self.signed.roster.tree.root(), survivors)
    }

    /// What somebody makes of its list, under the registrar's signature of another one or the same.
    fn tell(&mut self, index: u32, signed: &SurvivorSet) -> Result<AwaitingSignatures, Refusal> {
        let survivors = self.places.list_for(index).clone();
        let registrar_signature = Signer::sign(&self.registrar, &self.statement(signed));
        let list = SurvivorList { context: self.context.digest(), survivors, registrar_signature }.encode();
        let trust = BareKeys(self.registrar.verifying_key());
        let state = self.states.remove(&index).expect("told once");
        state.sign_survivors(&list, &trust, &self.keys[index as usize])
    }
}

#[test]
fn a_stretch_of_the_ring_is_not_opened_where_the_registrar_signs_one_list() {
    let mut attack = attack();
    let second = attack.places.second.clone();
    assert!(attack.places.first.len() >= MIN_SURVIVORS && second.len() >= MIN_SURVIVORS);
    let want = Refusal::SurvivorsSignature { survivors: attack.places.first.len(), n: N };
    for index in attack.places.inner.clone() {
        assert_eq!(attack.tell(index, &second).err(), Some(want.clone()), "participant {index}");
    }
    // Where the list is the one that was signed, it is believed.
    let far = (0..N).find(|&index| attack.places.first.contains(index) && !attack.places.inner.contains(&index));
    assert!(attack.tell(far.expect("somebody"), &second).is_ok());
}

/// The positive control: where the registrar signs both lists, the sum of the stretch comes off by itself, although each
/// list names enough survivors and nobody else has lied.
#[test]
fn a_stretch_of_the_ring_is_opened_where_the_registrar_signs_two_lists() {
    let mut attack = attack();
    let graph = attack.signed.roster.graph.clone();
    let (n, t) = (N, graph.topology().t as usize);
    let digest = attack.context.digest();
    assert!(!graph.ring().is_empty() && STRETCH < MIN_SURVIVORS);
    let mut signers = BTreeMap::new();
    for index in 0..n {
        let list = attack.places.list_for(index).clone();
        // Whoever has too few surviving neighbours refuses.
        if let Ok(state) = attack.tell(index, &list) {
            signers.insert(index, state);
        }
    }
    assert!(attack.places.inner.iter().all(|index| signers.contains_key(index)));
    let signatures: BTreeMap<u32, [u8; 64]> = signers
        .iter()
        .map(|(index, state)| (*index, ConsistencySignature::decode(state.message()).expect("a message").signature))
        .collect();
    let mut revealed = BTreeMap::new();
    for (index, state) in signers {
        if attack.places.helpers.contains(&index) {
            continue;
        }
        let is_inner = |index: &u32| attack.places.inner.contains(index);
        let agreeing = graph.neighbours(index).into_iter().filter(|other| is_inner(other) == is_inner(&index));
        let agreeing: Vec<_> = agreeing.filter_map(|other| Some((other, *signatures.get(&other)?))).collect();
        if agreeing.len() < t {
            continue;
        }
        let list = SignatureList { context: digest, signatures: agreeing }.encode();
        let told = state.reveal(&list, &attack.keys[index as usize]).expect("neighbours of one mind");
        let mut shares = Unmasking::decode(told.message()).expect("a message").shares;
        shares.retain(|share| match share.role {
            Role::SelfSeed => attack.places.stretch.contains(&share.dealer),
            Role::Root => attack.places.helpers.contains(&share.dealer),
        });
        revealed.insert(index, Revealed { digest: [0; 32], shares });
    }
    let Attack { context, signed, shared, sum, plain, places, .. } = attack;
    let dealt = shared.iter().filter(|(dealer, _)| places.inner.contains(dealer));
    let sharing = Sharing {
        signed,
        dealt: dealt.map(|(dealer, shared)| (*dealer, Dealt::of(shared))).collect(),
        survivors: SurvivorSet::new(n, places.stretch.iter().copied()),
        complaints: Complaints::default(),
    };
    let opened = unmask::open(&context, &digest, &sharing, &revealed, sum, NonZeroUsize::MIN).expect("its own sum");
    assert_eq!(opened.iter_centered().collect::<Vec<_>>(), plain);
}
