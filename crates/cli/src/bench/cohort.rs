//! One measured attempt: a whole cohort in this thread, through every step, its sum compared with the plain one.

use super::{
    certificates::{Certificates, FEDERATION, Site},
    machine::Cost,
};
use crate::failure::BenchError;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_codec::{Encoding, EncodingSpec, RingBits, RingVector};
use sordino_secagg::{
    Context, Faults, Graph, ParticipantId, Prg, Step, Topology,
    coordinator::{Coordinator, Outgoing, PayloadHasher, RunningSum, Setup, Timing},
    participant::{AwaitingRoster, AwaitingShares, AwaitingSurvivors, Identity},
};
use sordino_wire::policy::{EncodingSection, Privacy};
use std::collections::{BTreeMap, BTreeSet};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) participants: u32,
    pub(crate) faults: Faults,
    pub(crate) model_len: usize,
    /// Participants that share their keys and then fall silent: the most expensive ones.
    pub(crate) dropouts: u32,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) topology: Topology,
    /// Values in the vector: the model and the weight.
    pub(crate) vector_len: usize,
    pub(crate) bits: RingBits,
    /// Bytes of one masked input.
    pub(crate) input_bytes: usize,
    /// A participant checks its roster and neighbours and makes its ShareKeys message; the median.
    pub(crate) share_keys: Cost,
    /// A survivor opens its shares, masks and packs its input; the median.
    pub(crate) mask_input: Cost,
    /// The coordinator checks an input's signature and hashes its bytes; the median.
    pub(crate) check_input: Cost,
    /// The coordinator adds an input to the sum; the median.
    pub(crate) add: Cost,
    /// The coordinator takes all masks off the sum.
    pub(crate) unmask: Cost,
}

impl Outcome {
    /// Bytes of the vector in memory.
    pub(crate) fn lane_bytes(&self) -> usize {
        self.vector_len * if self.bits.is_narrow() { size_of::<u32>() } else { size_of::<u64>() }
    }

    /// Bytes of keystream that a survivor of a complete cohort adds: one mask for each neighbour, and its own.
    pub(crate) fn keystream_bytes(&self) -> usize {
        self.lane_bytes() * (self.topology.k as usize + 1)
    }

    pub(crate) fn bytes_per_value(&self) -> f64 {
        self.input_bytes as f64 / self.vector_len as f64
    }
}

/// Runs one attempt.
pub(crate) fn run(scenario: &Scenario, federation: &Certificates) -> Result<Outcome, BenchError> {
    let sites = &federation.sites[..scenario.participants as usize];
    let context = context(scenario);
    let topology = Topology::derive(scenario.participants, &scenario.faults)?;
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let mut coordinator = begin(&context, sites);

    let mut members = Vec::with_capacity(sites.len());
    for (number, site) in (0..).zip(sites) {
        let input = RingVector::from_centered(&input(scenario, &context, number), context.bits)?;
        let identity = Identity { id: &site.id, certificates: &site.certificates };
        let state = AwaitingRoster::advertise(context.clone(), identity, input, &site.key, &mut rng)?;
        coordinator.message(Step::AdvertiseKeys, &site.id, state.message(), 0)?;
        members.push(state);
    }
    coordinator = coordinator.close(0)?;
    let roster = coordinator.roster_to_sign().ok_or_else(|| silent("the registrar"))?;
    let keys: BTreeMap<_, _> = sites.iter().map(|site| (&site.id, site.key.verifying_key())).collect();
    let statement = roster.statement(|id| keys.get(id).copied()).map_err(|id| silent(id.as_str()))?;
    let silent_ones = choose_dropouts(scenario, topology, &context, &statement)?;
    coordinator = coordinator.roster_signed(federation.registrar_signature(&statement), 0);

    let (sharing, share_keys) = share_keys(&mut coordinator, sites, members, federation, &mut rng)?;
    coordinator = coordinator.close(0)?;

    let survivors = |number: &u32| !silent_ones.contains(number);
    let surviving = (0..).zip(sites).zip(sharing).filter(|((number, _), _)| survivors(number));
    let surviving = surviving.map(|((_, site), state)| (site, state)).collect();
    let mut sum = coordinator.new_sum();
    let Masked { states, input_bytes, mask_input, check_input, add } = mask(&mut coordinator, &mut sum, surviving)?;
    coordinator = coordinator.close(0)?;
    coordinator = settle(coordinator, states)?;

    let (opened, unmask) = Cost::of(|| coordinator.open(sum));
    check(&opened?, scenario, &context, &silent_ones)?;
    let vector_len = scenario.model_len + 1;
    let bits = context.bits;
    Ok(Outcome { topology, vector_len, bits, input_bytes, share_keys, mask_input, check_input, add, unmask })
}

/// A context as a policy with the default encoding makes it.
fn context(scenario: &Scenario) -> Context {
    let EncodingSection { precision_bits, max_weight, .. } = EncodingSection::default();
    let spec = EncodingSpec {
        model_len: scenario.model_len,
        cohort_max: scenario.participants,
        clip_norm: Privacy::default().clip_norm,
        max_weight,
        precision_bits,
        metrics: Vec::new(),
    };
    let encoding = Encoding::new(spec).expect("the default encoding holds these cohorts");
    Context {
        federation: FEDERATION.into(),
        task: "bench".into(),
        round: 1,
        attempt: 1,
        nonce: [1; 32],
        policy: [2; 32],
        model: [3; 32],
        vector_len: encoding.len() as u64,
        bits: encoding.bits(),
        prg: Prg::Aes256Ctr,
        min_survivors: MIN_SURVIVORS,
        faults: scenario.faults,
    }
}

fn begin(context: &Context, sites: &[Site]) -> Coordinator {
    let cohort = sites.iter().map(|site| (site.id.clone(), site.key.verifying_key())).collect();
    let timing = Timing { advertise: 1_000, step: 1_000, grace: 1_000, attempt: 10_000 };
    Coordinator::new(Setup { context: context.clone(), cohort, quorum: u32::MAX, timing }, 0)
}

/// One participant's input: any numbers whose sum stays inside the ring, the same whenever they are asked for.
fn input(scenario: &Scenario, context: &Context, number: u32) -> Vec<i64> {
    let max = context.bits.centered_max() / i64::from(scenario.participants);
    let span = 2 * max.unsigned_abs() + 1;
    let start = u64::from(number) << 32;
    (start..start + context.vector_len).map(|at| (mix(at) % span).cast_signed() - max).collect()
}

/// The finaliser of SplitMix64: enough to make every value different.
fn mix(at: u64) -> u64 {
    let mut z = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Participants to fall silent, such that everybody keeps a threshold of answering neighbours: where a policy did not
/// allow for so many, chance alone would not.
fn choose_dropouts(
    scenario: &Scenario,
    topology: Topology,
    context: &Context,
    statement: &[u8],
) -> Result<BTreeSet<u32>, BenchError> {
    let wanted = scenario.dropouts as usize;
    let failed = BenchError::Dropouts { dropouts: wanted, threshold: topology.t };
    // The statement ends in the root of the roster, which the graph is drawn from.
    let Some(root) = statement.last_chunk::<32>() else { return Err(failed) };
    let graph = Graph::new(topology, &context.digest(), root);
    let mut candidates: Vec<u32> = (0..scenario.participants).collect();
    candidates.sort_by_key(|&number| mix(u64::from(number)));
    let mut chosen = BTreeSet::new();
    let mut silent_neighbours = vec![0; scenario.participants as usize];
    for candidate in candidates {
        if chosen.len() == wanted {
            break;
        }
        let neighbours = graph.neighbours(candidate);
        if neighbours.iter().all(|&other| topology.t + silent_neighbours[other as usize] < topology.k) {
            chosen.insert(candidate);
            neighbours.iter().for_each(|&other| silent_neighbours[other as usize] += 1);
        }
    }
    if chosen.len() == wanted { Ok(chosen) } else { Err(failed) }
}

fn share_keys(
    coordinator: &mut Coordinator,
    sites: &[Site],
    members: Vec<AwaitingRoster>,
    federation: &Certificates,
    rng: &mut ChaCha20Rng,
) -> Result<(Vec<AwaitingShares>, Cost), BenchError> {
    let mut costs = Vec::with_capacity(members.len());
    let mut states = Vec::with_capacity(members.len());
    for (site, state) in sites.iter().zip(members) {
        let announcement = fetch(coordinator, Step::ShareKeys, &site.id)?;
        let (state, cost) = Cost::of(|| state.share_keys(&announcement, federation, &site.key, rng));
        let state = state?;
        coordinator.message(Step::ShareKeys, &site.id, state.message(), 0)?;
        costs.push(cost);
        states.push(state);
    }
    Ok((states, Cost::median(costs)))
}

/// The survivors, and what it took.
struct Masked<'a> {
    states: Vec<(&'a Site, AwaitingSurvivors)>,
    input_bytes: usize,
    mask_input: Cost,
    check_input: Cost,
    add: Cost,
}

fn mask<'a>(
    coordinator: &mut Coordinator,
    sum: &mut RunningSum,
    surviving: Vec<(&'a Site, AwaitingShares)>,
) -> Result<Masked<'a>, BenchError> {
    let (mut states, mut input_bytes) = (Vec::with_capacity(surviving.len()), 0);
    let (mut masking, mut checking, mut adding) = (Vec::new(), Vec::new(), Vec::new());
    for (site, state) in surviving {
        let delivered = fetch(coordinator, Step::MaskedInput, &site.id)?;
        let (masked, cost) = Cost::of(|| state.mask_input(&delivered, &site.key));
        masking.push(cost);
        let (state, upload) = masked?;
        input_bytes = upload.packed.len();

        let (payload, cost) = Cost::of(|| {
            coordinator.check_input(&site.id, &upload.header)?;
            let mut hasher = PayloadHasher::new();
            upload.packed.chunks(CHUNK_BYTES).for_each(|chunk| hasher.update(chunk));
            Ok::<_, BenchError>(hasher.finish())
        });
        checking.push(cost);
        coordinator.input(&site.id, &upload.header, &payload?, 0)?;

        let (added, cost) = Cost::of(|| {
            let mut adder = sum.begin(&site.id)?;
            upload.packed.chunks(CHUNK_BYTES).try_for_each(|chunk| adder.push(chunk))?;
            adder.finish()
        });
        added?;
        adding.push(cost);
        states.push((site, state));
    }
    let (mask_input, check_input, add) = (Cost::median(masking), Cost::median(checking), Cost::median(adding));
    Ok(Masked { states, input_bytes, mask_input, check_input, add })
}

/// ConsistencyCheck and Unmasking, in which all survivors answer.
fn settle(mut coordinator: Coordinator, states: Vec<(&Site, AwaitingSurvivors)>) -> Result<Coordinator, BenchError> {
    let mut signed = Vec::with_capacity(states.len());
    for (site, state) in states {
        let list = fetch(&coordinator, Step::ConsistencyCheck, &site.id)?;
        let state = state.sign_survivors(&list, &site.key)?;
        coordinator.message(Step::ConsistencyCheck, &site.id, state.message(), 0)?;
        signed.push((site, state));
    }
    coordinator = coordinator.close(0)?;
    for (site, state) in signed {
        let signatures = fetch(&coordinator, Step::Unmasking, &site.id)?;
        let finished = state.reveal(&signatures, &site.key)?;
        coordinator.message(Step::Unmasking, &site.id, finished.message(), 0)?;
    }
    Ok(coordinator.close(0)?)
}

/// Compares the opened sum with that of the survivors' inputs.
fn check(
    opened: &RingVector,
    scenario: &Scenario,
    context: &Context,
    silent_ones: &BTreeSet<u32>,
) -> Result<(), BenchError> {
    let mut expected = vec![0; opened.len()];
    for number in (0..scenario.participants).filter(|number| !silent_ones.contains(number)) {
        let input = input(scenario, context, number);
        expected.iter_mut().zip(input).for_each(|(sum, value)| *sum += value);
    }
    if opened.iter_centered().eq(expected) { Ok(()) } else { Err(BenchError::WrongSum) }
}

fn fetch(coordinator: &Coordinator, step: Step, to: &ParticipantId) -> Result<Vec<u8>, BenchError> {
    match coordinator.outgoing(step, to) {
        Outgoing::Message(message) => Ok(message),
        Outgoing::Wait | Outgoing::Excluded => Err(silent(&format!("{to} in {step}"))),
    }
}

fn silent(to: &str) -> BenchError {
    BenchError::Silent(to.to_owned())
}

/// Picks the keys; the cost does not depend on it.
const SEED: u64 = 1;
const MIN_SURVIVORS: u32 = 8;
/// As uploads arrive.
const CHUNK_BYTES: usize = 1 << 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    /// A run checks its own sum, so that it ends well says that the masks were taken off; a sum of others' inputs is
    /// noticed.
    #[test]
    fn sums_are_compared() {
        let federation = Certificates::issue(22).unwrap();
        let faults = Faults { corrupt: 0, max_dropout_fraction: 0.1 };
        let scenario = Scenario { participants: 22, faults, model_len: 50, dropouts: 2 };
        let outcome = run(&scenario, &federation).unwrap();
        assert_eq!((outcome.topology.k, outcome.vector_len), (21, 51));
        assert_eq!(outcome.keystream_bytes(), 22 * outcome.lane_bytes());

        let context = context(&scenario);
        let zero = RingVector::zeros(51, context.bits);
        assert!(matches!(check(&zero, &scenario, &context, &BTreeSet::new()), Err(BenchError::WrongSum)));
    }
}
