//! One measured attempt: a whole cohort in this process, through every step, its sum compared with the plain one.

use super::{
    certificates::{Certificates, Neighbours, Site, SiteKey},
    machine::Cost,
    scenario::Scenario,
    shelf::Shelf,
    uploads::{Received, Uploads},
};
use crate::failure::BenchError;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_codec::{RingBits, RingVector};
use sordino_secagg::{
    Context, Step, Topology,
    coordinator::{Coordinator, Outgoing, RunningSum, Setup, Timing},
    participant::{AwaitingRoster, Identity, MaskedUpload, Refusal, Stored, Trust},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How a cohort is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    /// Threads that participants' work is spread over; the coordinator has one.
    pub(crate) threads: usize,
    /// Empty folder for the states that wait and the inputs that arrive; without it, they stay in memory.
    pub(crate) folder: Option<&'a Path>,
    /// Whether neighbours' certificates were checked in an earlier round.
    pub(crate) neighbours: Neighbours,
}

/// Participants one after the other, everything in memory, nobody known from before.
pub(crate) const PLAIN: How<'static> = How { threads: 1, folder: None, neighbours: Neighbours::New };

/// What one step came to.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) step: Step,
    /// One for each participant that answered.
    pub(crate) participants: Vec<Cost>,
    /// The coordinator makes what opens the step for everybody, takes the answers, and closes the step.
    pub(crate) coordinator: Cost,
    /// Time that passed, inputs that are made up and states that are put away included.
    pub(crate) wall: Duration,
}

impl Phase {
    pub(crate) fn total(&self) -> Cost {
        self.participants.iter().copied().sum()
    }

    pub(crate) fn median(&self) -> Cost {
        Cost::median(self.participants.clone())
    }

    /// The least: whatever disturbs makes it more.
    fn best(&self) -> Cost {
        self.participants.iter().copied().min_by_key(|cost| cost.cpu).unwrap_or(Cost::ZERO)
    }
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) topology: Topology,
    /// Values in the vector: the model and the weight.
    pub(crate) vector_len: usize,
    pub(crate) bits: RingBits,
    /// Bytes of one masked input.
    pub(crate) input_bytes: usize,
    /// Bytes of all messages of a survivor together, its input included; the most.
    pub(crate) bytes_up: usize,
    /// The five steps, in their order.
    pub(crate) phases: Vec<Phase>,
    /// What checking all neighbours' certificates takes of a participant's ShareKeys; the median.
    pub(crate) certificates: Cost,
    /// The coordinator checks an input's signature, hashes its bytes and takes it; the median.
    pub(crate) check_input: Cost,
    /// The coordinator adds an input to the sum; the median.
    pub(crate) add: Cost,
    /// The registrar checks all advertisements and signs.
    pub(crate) registrar: Cost,
    /// The coordinator takes all masks off the sum.
    pub(crate) unmask: Cost,
}

impl Outcome {
    /// A participant checks its roster and neighbours and makes its ShareKeys message; the median.
    pub(crate) fn share_keys(&self) -> Cost {
        self.phase(Step::ShareKeys).map_or(Cost::ZERO, Phase::median)
    }

    /// A survivor opens its shares, masks and packs its input; the median.
    pub(crate) fn mask_input(&self) -> Cost {
        self.phase(Step::MaskedInput).map_or(Cost::ZERO, Phase::median)
    }

    /// The quickest participant of a step.
    pub(crate) fn best(&self, step: Step) -> Cost {
        self.phase(step).map_or(Cost::ZERO, Phase::best)
    }

    fn phase(&self, step: Step) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.step == step)
    }

    /// Bytes that a participant may send at most: 1.01 times its packed vector, and 4 kB for each neighbour.
    pub(crate) fn bytes_up_limit(&self) -> f64 {
        1.01 * self.vector_len as f64 * f64::from(self.bits.get()) / 8.0 + 4e3 * f64::from(self.topology.k)
    }

    /// The ring of the sum.
    pub(crate) fn bits(&self) -> RingBits {
        self.bits
    }

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
pub(crate) fn run(scenario: &Scenario, federation: &Certificates, how: How<'_>) -> Result<Outcome, BenchError> {
    let context = scenario.context()?;
    let sites = &federation.sites[..scenario.participants as usize];
    let topology = Topology::derive(scenario.participants, &scenario.faults)?;
    if how.neighbours == Neighbours::Known {
        federation.meet(sites)?;
    }
    let mut run = Run {
        scenario,
        federation,
        sites,
        threads: how.threads.max(1),
        neighbours: how.neighbours,
        shelf: Shelf::new(scenario.participants, how.folder, &context)?,
        uploads: Uploads::new(how.folder)?,
        sum: None,
        bytes_up: vec![0; sites.len()],
        input_bytes: 0,
        received: Vec::new(),
        certificates: Vec::new(),
        phases: Vec::new(),
        context,
    };
    let everybody: Vec<u32> = (0..scenario.participants).collect();

    let coordinator = run.step(Step::AdvertiseKeys, begin(&run.context, sites), &everybody)?;
    let (signed, registrar) = Cost::of(|| sign_roster(&coordinator, sites, federation));
    let (statement, signature) = signed?;
    let silent = scenario.silent(topology, &run.context, &statement)?;
    let survivors: Vec<u32> = everybody.iter().copied().filter(|number| !silent.contains(number)).collect();
    let mut coordinator = coordinator.roster_signed(signature, 0);
    run.sum = Some(coordinator.new_sum());
    for (step, answering) in [
        (Step::ShareKeys, &everybody),
        (Step::MaskedInput, &survivors),
        (Step::ConsistencyCheck, &survivors),
        (Step::Unmasking, &survivors),
    ] {
        coordinator = run.step(step, coordinator, answering)?;
        if let Some(survivors) = coordinator.survivors_to_sign() {
            let signature = federation.registrar_signature(&survivors.statement());
            coordinator = coordinator.survivors_signed(signature, 0);
        }
    }
    let sum = run.sum.take().ok_or_else(|| silent_one("the sum"))?;
    let (opened, unmask) = Cost::of(|| coordinator.open(sum));
    scenario.check(&opened?, &run.context, &silent)?;
    Ok(run.outcome(topology, &silent, registrar, unmask))
}

fn begin(context: &Context, sites: &[Site]) -> Coordinator {
    let cohort = sites.iter().map(|site| (site.id.clone(), site.key.certificate_key())).collect();
    let timing = Timing { advertise: 1_000, step: 1_000, grace: 1_000, attempt: 10_000 };
    Coordinator::new(Setup { context: context.clone(), cohort, quorum: u32::MAX, timing }, 0)
}

fn sign_roster(
    coordinator: &Coordinator,
    sites: &[Site],
    federation: &Certificates,
) -> Result<(Vec<u8>, [u8; 64]), BenchError> {
    let roster = coordinator.roster_to_sign().ok_or_else(|| silent_one("the registrar"))?;
    let keys: BTreeMap<_, _> = sites.iter().map(|site| (&site.id, site.key.certificate_key())).collect();
    let statement = roster.statement(|id| keys.get(id).copied()).map_err(|id| silent_one(id.as_str()))?;
    let signature = federation.registrar_signature(&statement);
    Ok((statement, signature))
}

struct Run<'a> {
    scenario: &'a Scenario,
    context: Context,
    federation: &'a Certificates,
    sites: &'a [Site],
    threads: usize,
    neighbours: Neighbours,
    shelf: Shelf,
    uploads: Uploads,
    sum: Option<RunningSum>,
    bytes_up: Vec<usize>,
    input_bytes: usize,
    received: Vec<Received>,
    certificates: Vec<Cost>,
    phases: Vec<Phase>,
}

/// What a participant has to go on with.
struct Work {
    number: u32,
    state: Option<Stored>,
    opening: Vec<u8>,
}

/// What it made of it.
struct Answer {
    number: u32,
    state: Stored,
    upload: Option<MaskedUpload>,
    cost: Cost,
    /// What of it went into neighbours' certificates.
    certificates: Cost,
}

impl Run<'_> {
    /// Everybody of `numbers` fetches what opens the step, and answers; then the step is closed.
    fn step(&mut self, step: Step, mut coordinator: Coordinator, numbers: &[u32]) -> Result<Coordinator, BenchError> {
        let begin = Instant::now();
        let (mut answers_cost, mut coordinator_cost) = (Vec::with_capacity(numbers.len()), Cost::ZERO);
        for batch in numbers.chunks(self.batch()) {
            let mut work = Vec::with_capacity(batch.len());
            for &number in batch {
                let (opening, cost) = Cost::of(|| self.opening(&coordinator, step, number));
                coordinator_cost += cost;
                work.push(Work { number, state: self.shelf.take(number)?, opening: opening? });
            }
            for answer in in_parallel(self.threads, work, |work| self.answer(work)) {
                let answer = answer?;
                answers_cost.push(answer.cost);
                coordinator_cost += self.deliver(step, &mut coordinator, answer)?;
            }
        }
        let (closed, cost) = Cost::of(|| coordinator.close(0));
        coordinator_cost += cost;
        self.phases.push(Phase {
            step,
            participants: answers_cost,
            coordinator: coordinator_cost,
            wall: begin.elapsed(),
        });
        Ok(closed?)
    }

    /// Participants that work at a time: few where inputs are long, since each holds its own twice for a moment.
    fn batch(&self) -> usize {
        let vector_len = usize::try_from(self.context.vector_len).unwrap_or(usize::MAX);
        self.threads * (BATCH_VALUES / vector_len.max(1)).clamp(1, BATCH_MAX)
    }

    /// The message that opens the step for a participant; nothing opens the first.
    fn opening(&self, coordinator: &Coordinator, step: Step, number: u32) -> Result<Vec<u8>, BenchError> {
        if step == Step::AdvertiseKeys {
            return Ok(Vec::new());
        }
        let to = &self.sites[number as usize].id;
        match coordinator.outgoing(step, to) {
            Outgoing::Message(message) => Ok(message),
            Outgoing::Wait | Outgoing::Excluded => Err(silent_one(&format!("{to} in {step}"))),
        }
    }

    /// A participant's part of a step. What it is told to add is made up outside of what is measured.
    fn answer(&self, Work { number, state, opening }: Work) -> Result<Answer, BenchError> {
        let Site { id, key, certificates } = &self.sites[number as usize];
        let trust = self.federation.timed(self.neighbours);
        let done = match state {
            None => {
                let values: Vec<i64> = self.scenario.input(&self.context, number).collect();
                let input = RingVector::from_centered(&values, self.context.bits)?;
                drop(values);
                let identity = Identity { id, certificates };
                let (context, mut rng) = (self.context.clone(), randomness(number, Step::AdvertiseKeys));
                let done = Cost::of(|| AwaitingRoster::advertise(context, identity, input, key, &mut rng));
                (done.0.map(|state| (Stored::AwaitingRoster(state), None)), done.1)
            }
            Some(state) => {
                let mut rng = randomness(number, Step::ShareKeys);
                Cost::of(|| go_on(state, &opening, &trust, key, &mut rng))
            }
        };
        let (state, upload) = done.0?;
        Ok(Answer { number, state, upload, cost: done.1, certificates: trust.spent() })
    }

    /// The coordinator takes an answer; what it takes.
    fn deliver(&mut self, step: Step, coordinator: &mut Coordinator, answer: Answer) -> Result<Cost, BenchError> {
        let Answer { number, state, upload, certificates, .. } = answer;
        let from = &self.sites[number as usize].id;
        let bytes_up = &mut self.bytes_up[number as usize];
        *bytes_up += state.message().len();
        let cost = if let Some(upload) = upload {
            self.input_bytes = upload.bytes.len();
            *bytes_up += self.input_bytes;
            let sum = self.sum.as_mut().ok_or_else(|| silent_one("the sum"))?;
            let received = self.uploads.receive(coordinator, sum, from, upload)?;
            let mut cost = received.check;
            cost += received.add;
            self.received.push(received);
            cost
        } else {
            let (receipt, cost) = Cost::of(|| coordinator.message(step, from, state.message(), 0));
            receipt?;
            cost
        };
        if step == Step::ShareKeys {
            self.certificates.push(certificates);
        }
        self.shelf.put(number, state)?;
        Ok(cost)
    }

    fn outcome(self, topology: Topology, silent: &BTreeSet<u32>, registrar: Cost, unmask: Cost) -> Outcome {
        let surviving = (0..).zip(self.bytes_up).filter(|(number, _)| !silent.contains(number));
        Outcome {
            topology,
            vector_len: self.scenario.model_len + 1,
            bits: self.context.bits,
            input_bytes: self.input_bytes,
            bytes_up: surviving.map(|(_, bytes)| bytes).max().unwrap_or_default(),
            phases: self.phases,
            certificates: Cost::median(self.certificates),
            check_input: Cost::median(self.received.iter().map(|received| received.check).collect()),
            add: Cost::median(self.received.iter().map(|received| received.add).collect()),
            registrar,
            unmask,
        }
    }
}

/// A participant's next state, and its input where that is what it sends.
fn go_on(
    state: Stored,
    opening: &[u8],
    trust: &impl Trust,
    key: &SiteKey,
    rng: &mut ChaCha20Rng,
) -> Result<(Stored, Option<MaskedUpload>), Refusal> {
    Ok(match state {
        Stored::AwaitingRoster(state) => (Stored::AwaitingShares(state.share_keys(opening, trust, key, rng)?), None),
        Stored::AwaitingShares(state) => {
            let (state, upload) = state.mask_input(opening, key)?;
            (Stored::AwaitingSurvivors(state), Some(upload))
        }
        Stored::AwaitingSurvivors(state) => {
            (Stored::AwaitingSignatures(state.sign_survivors(opening, trust, key)?), None)
        }
        Stored::AwaitingSignatures(state) => (Stored::Finished(state.reveal(opening, key)?), None),
        Stored::Finished(state) => (Stored::Finished(state), None),
    })
}

/// Does the work of all items, in their order or by several threads; results are in the order of the items.
fn in_parallel<T: Send, U: Send>(threads: usize, items: Vec<T>, work: impl Fn(T) -> U + Sync) -> Vec<U> {
    if threads == 1 || items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let queue = Mutex::new(items.into_iter().enumerate());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // A poisoned queue is as good as it was: the scope passes the panic on anyway.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((at, item)) = next else { return };
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Keys of a participant in a step; the cost does not depend on them.
fn randomness(number: u32, step: Step) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(u64::from(number) << 8 | step as u64)
}

fn silent_one(to: &str) -> BenchError {
    BenchError::Silent(to.to_owned())
}

/// Values of all inputs that are worked on at a time, and participants at most, for each thread.
const BATCH_VALUES: usize = 1 << 20;
const BATCH_MAX: usize = 16;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use sordino_secagg::Faults;

    const SCENARIO: Scenario = Scenario {
        participants: 22,
        faults: Faults { corrupt: 0, max_dropout_fraction: 0.1 },
        model_len: 50,
        dropouts: 2,
    };

    /// A run checks its own sum: that it ends well says that the masks were taken off.
    #[test]
    fn cohorts_run_in_memory_by_threads_and_through_files() {
        let federation = Certificates::issue(22).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let by_file = How { folder: Some(folder.path()), ..PLAIN };
        let known = How { neighbours: Neighbours::Known, ..PLAIN };
        for how in [PLAIN, How { threads: 3, ..PLAIN }, by_file, known] {
            let outcome = run(&SCENARIO, &federation, how).unwrap();
            assert_eq!((outcome.topology.k, outcome.vector_len), (21, 51));
            assert_eq!(outcome.keystream_bytes(), 22 * outcome.lane_bytes());
            let answered: Vec<_> = outcome.phases.iter().map(|phase| phase.participants.len()).collect();
            assert_eq!(answered, [22, 22, 20, 20, 20]);
            assert!(outcome.bytes_up > outcome.input_bytes + 21 * 128);
        }
        assert_eq!(std::fs::read_dir(folder.path().join("states")).unwrap().count(), 22);
    }

    #[test]
    fn work_keeps_its_order() {
        let doubled = in_parallel(4, (0..1000).collect(), |item: u32| item * 2);
        assert!(doubled.into_iter().eq((0..1000).map(|item| item * 2)));
    }
}
