//! Random work and a crash at any boundary: whatever participants were asked for, the ledger counts.

use super::*;
use proptest::prelude::*;

/// One step of a run.
#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<(u64, u32, Cost, u8)>),
    Commit(u64, u32),
    Abort(u64, u32),
}

/// What happens to a step's entries.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Fine,
    /// So many of them reach the disk, in 256ths, and of the next one as large a part; the counter stays.
    Cut(u8),
    /// All reach the disk, and the counter stays.
    Uncounted,
    /// All is counted, and the program ends before it says so.
    Unsaid,
}

/// What really happened, as somebody sees it who needs no ledger.
#[derive(Default)]
struct Truth {
    /// Charges of which participants were told, or may have been.
    told: BTreeMap<ReservationId, Ask<Cost>>,
    released: BTreeMap<ReservationId, Cost>,
}

impl Truth {
    fn cost(&self) -> u64 {
        self.told.values().map(|ask| ask.event).sum()
    }

    fn cost_of(&self, who: &Name) -> u64 {
        self.told.values().filter(|ask| ask.participants.contains(who)).map(|ask| ask.event).sum()
    }
}

/// What was staged for a step.
enum Outcome {
    Decided(Vec<Ask<Cost>>, Staged<Vec<Decision>>),
    Done(Staged<()>),
}

impl Outcome {
    fn entries(&self) -> &[Vec<u8>] {
        match self {
            Self::Decided(_, staged) => staged.entries(),
            Self::Done(staged) => staged.entries(),
        }
    }

    fn after(&self) -> Counter {
        match self {
            Self::Decided(_, staged) => staged.after(),
            Self::Done(staged) => staged.after(),
        }
    }
}

struct Run {
    world: World,
    truth: Truth,
}

impl Run {
    fn new() -> Self {
        Self { world: World::new(BUDGET, Some(BUDGET * 0.9)), truth: Truth::default() }
    }

    fn step(&mut self, step: &Step, fate: Fate) {
        self.group(std::slice::from_ref(step), fate);
    }

    /// Steps that share one write. After a crash the ledger is opened again.
    fn group(&mut self, steps: &[Step], fate: Fate) {
        let before = self.world.counter;
        let outcomes: Vec<_> = steps.iter().filter_map(|step| self.stage(step)).collect();
        let entries: Vec<_> = outcomes.iter().flat_map(Outcome::entries).cloned().collect();
        let after = outcomes.last().map_or(before, Outcome::after);
        if self.write(&entries, after, fate) {
            outcomes.into_iter().for_each(|outcome| self.acknowledge(outcome));
            return;
        }
        let (ledger, recovered) = open(&self.world.entries, self.world.counter).unwrap();
        if recovered.discarded.is_some() {
            self.world.entries.pop();
        }
        self.world.counter = recovered.counter;
        self.world.ledger = ledger;
    }

    /// What the ledger makes of a step, if anything.
    fn stage(&mut self, step: &Step) -> Option<Outcome> {
        match step {
            Step::Reserve(asks) => {
                let asks: Vec<_> =
                    asks.iter().map(|&(round, attempt, event, who)| ask(round, attempt, event, who)).collect();
                let staged = self.world.ledger.reserve(asks.clone(), NOW).unwrap();
                Some(Outcome::Decided(asks, staged))
            }
            Step::Commit(round, attempt) => {
                let id = id(*round, *attempt);
                // Nobody releases what was not granted to them.
                let event = self.truth.told.get(&id)?.event;
                let staged = self.world.ledger.commit(&id, DIGEST, NOW).ok()?;
                // The release is stored first, so it is out whatever becomes of the entry.
                self.truth.released.insert(id, event);
                Some(Outcome::Done(staged))
            }
            Step::Abort(round, attempt) => {
                let id = id(*round, *attempt);
                // Honest evidence: not for what was released.
                if self.truth.released.contains_key(&id) {
                    return None;
                }
                let staged = self.world.ledger.abort(&id, evidence(), NOW).ok()?;
                self.truth.told.remove(&id);
                Some(Outcome::Done(staged))
            }
        }
    }

    /// Whether all went well.
    fn write(&mut self, entries: &[Vec<u8>], after: Counter, fate: Fate) -> bool {
        match fate {
            Fate::Cut(part) => {
                let whole = entries.len() * usize::from(part) / 256;
                self.world.entries.extend_from_slice(&entries[..whole]);
                if let Some(next) = entries.get(whole) {
                    let cut = next.len() * usize::from(part) / 256;
                    if cut > 0 {
                        self.world.entries.push(next[..cut].to_vec());
                    }
                }
            }
            Fate::Uncounted => self.world.entries.extend_from_slice(entries),
            Fate::Fine | Fate::Unsaid => {
                self.world.entries.extend_from_slice(entries);
                self.world.counter = after;
            }
        }
        matches!(fate, Fate::Fine)
    }

    fn acknowledge(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Decided(asks, staged) => {
                for (ask, decision) in asks.into_iter().zip(self.world.ledger.acknowledge(staged).unwrap()) {
                    // An abort in the same write came after it.
                    let aborted = |id| self.world.ledger.reservation(id).unwrap().status == spending::Status::Aborted;
                    if decision.is_ok() && !aborted(&ask.id) {
                        self.truth.told.insert(ask.id.clone(), ask);
                    }
                }
            }
            Outcome::Done(staged) => self.world.ledger.acknowledge(staged).unwrap(),
        }
    }

    /// Never less than the truth, never more promised than the budget.
    fn check(&self) {
        let spending = self.world.spending();
        assert!(spending.spent >= epsilon(self.truth.cost(), DELTA), "under-counted");
        assert!(spending.spent <= BUDGET, "over-promised");
        assert_eq!(spending.spent, epsilon(self.world.listed(), DELTA), "the list is what is charged");
        for who in ["p0", "p1", "p2"] {
            let who = name(who);
            let spent = self.world.ledger.spent_by(&scope("v1"), &who).unwrap().unwrap();
            assert!(spent >= epsilon(self.truth.cost_of(&who), DELTA), "under-counted {who}");
            assert!(spent <= BUDGET * 0.9, "over-promised {who}");
        }
    }
}

fn ask(round: u64, attempt: u32, event: Cost, who: u8) -> Ask<Cost> {
    let participants = (0..3).filter(|at| who >> at & 1 == 1).map(|at| name(&format!("p{at}"))).collect();
    Ask { id: id(round, attempt), scope: scope("v1"), event, participants }
}

fn step() -> impl Strategy<Value = Step> {
    let id = (1_u64..6, 1_u32..3);
    let ask = (1_u64..6, 1_u32..3, prop::sample::select(vec![500_u64, 1000, 4000]), 0_u8..8);
    prop_oneof![
        3 => prop::collection::vec(ask, 1..4).prop_map(Step::Reserve),
        2 => id.clone().prop_map(|(round, attempt)| Step::Commit(round, attempt)),
        1 => id.prop_map(|(round, attempt)| Step::Abort(round, attempt)),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Fine),
        2 => any::<u8>().prop_map(Fate::Cut),
        1 => Just(Fate::Uncounted),
        1 => Just(Fate::Unsaid),
    ]
}

/// Room for about ten charges of the middle size.
const BUDGET: f64 = 0.7;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_interleaving_and_no_crash_under_counts(
        run in prop::collection::vec((prop::collection::vec(step(), 1..4), fate()), 1..20)
    ) {
        let mut all = Run::new();
        for (steps, fate) in run {
            all.group(&steps, fate);
            all.check();
        }
        // Opening again changes nothing.
        let before = all.world.spending();
        all.world.reopen();
        prop_assert_eq!(all.world.spending(), before);
    }
}

/// One run with a crash before, within and after each entry of a batch, one after the other.
#[test]
fn a_crash_at_each_boundary_of_a_batch() {
    let batch = Step::Reserve(vec![(1, 1, 1000, 7), (2, 1, 1000, 3), (3, 1, 1000, 1), (4, 1, 9000, 1)]);
    for part in 0..=255 {
        for fate in [Fate::Cut(part), Fate::Uncounted, Fate::Unsaid] {
            let mut run = Run::new();
            run.step(&Step::Reserve(vec![(5, 1, 1000, 7)]), Fate::Fine);
            run.step(&Step::Commit(5, 1), Fate::Fine);
            run.step(&batch, fate);
            run.check();
            // What was written is charged once, however often it is asked for again.
            run.step(&batch, Fate::Fine);
            run.step(&batch, Fate::Fine);
            run.check();
            assert_eq!(run.world.spending().spent, epsilon(4000, DELTA));
        }
    }
}

/// The check above would notice a charge that was forgotten.
#[test]
#[should_panic(expected = "under-counted")]
fn the_check_notices_a_forgotten_charge() {
    let mut run = Run::new();
    run.step(&Step::Reserve(vec![(1, 1, 1000, 7)]), Fate::Fine);
    run.truth.told.insert(id(2, 1), ask(2, 1, 1, 7));
    run.check();
}
