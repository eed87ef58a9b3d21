//! The rules, one by one; then all of them at once under crashes.

mod crashes;
mod damage;

use std::time::Duration;

use super::*;

/// zCDP of millionths of rho: enough of an accountant for the rules (Bun, Steinke 2016, proposition 1.3).
#[derive(Debug, Clone)]
struct Zcdp {
    millionths: u64,
    delta: f64,
}

/// Millionths of rho.
type Cost = u64;

#[derive(Debug, thiserror::Error)]
#[error("not an event")]
struct NotAnEvent;

impl Account for Zcdp {
    type Event = Cost;
    type Cost = Cost;
    type Error = NotAnEvent;

    fn with_delta(delta: f64) -> Result<Self, NotAnEvent> {
        Ok(Self { millionths: 0, delta })
    }

    fn cost(event: &Cost) -> Result<Cost, NotAnEvent> {
        if *event == UNKNOWN { Err(NotAnEvent) } else { Ok(*event) }
    }

    fn epsilon_with(&self, extra: Option<&Cost>) -> Result<f64, NotAnEvent> {
        match extra {
            Some(&MIXED) => Err(NotAnEvent),
            Some(&NAN) => Ok(f64::NAN),
            Some(cost) => Ok(epsilon(self.millionths + cost, self.delta)),
            None => Ok(epsilon(self.millionths, self.delta)),
        }
    }

    fn add(&mut self, event: &Cost) -> Result<(), NotAnEvent> {
        self.millionths += event;
        Ok(())
    }

    fn encode(event: &Cost) -> Vec<u8> {
        if *event == LONG { vec![0; EVENT_MAX + 1] } else { event.to_le_bytes().to_vec() }
    }

    fn decode(bytes: &[u8]) -> Result<Cost, NotAnEvent> {
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| NotAnEvent)
    }
}

fn epsilon(millionths: u64, delta: f64) -> f64 {
    let rho = millionths as f64 / 1e6;
    rho + 2.0 * (rho * -delta.ln()).sqrt()
}

const UNKNOWN: Cost = u64::MAX;
const NAN: Cost = u64::MAX - 1;
const LONG: Cost = u64::MAX - 2;
/// Has a cost and does not compose.
const MIXED: Cost = u64::MAX - 3;
const DELTA: f64 = 1e-5;
const NOW: Duration = Duration::from_secs(1_700_000_000);
const DIGEST: [u8; 32] = [9; 32];

/// What a shell keeps, with a ledger on top.
struct World {
    entries: Vec<Vec<u8>>,
    counter: Counter,
    ledger: Ledger<Zcdp>,
}

impl World {
    fn new(total: f64, participant: Option<f64>) -> Self {
        let (ledger, _) = open(&[], Counter::start()).unwrap();
        let mut world = Self { entries: Vec::new(), counter: Counter::start(), ledger };
        let terms = Terms::new(total, DELTA, participant).unwrap();
        let staged = world.ledger.open_scope(scope("v1"), terms, NOW).unwrap();
        world.store(staged);
        world
    }

    /// Everything goes well.
    fn store<T>(&mut self, staged: Staged<T>) -> T {
        assert_eq!(self.counter, staged.before());
        self.entries.extend_from_slice(staged.entries());
        self.counter = staged.after();
        self.ledger.acknowledge(staged).unwrap()
    }

    fn reserve(&mut self, asks: Vec<Ask<Cost>>) -> Vec<Decision> {
        let staged = self.ledger.reserve(asks, NOW).unwrap();
        self.store(staged)
    }

    fn reserve_one(&mut self, ask: Ask<Cost>) -> Decision {
        self.reserve(vec![ask]).remove(0)
    }

    fn commit(&mut self, id: &ReservationId) -> Result<(), LedgerError> {
        let staged = self.ledger.commit(id, DIGEST, NOW)?;
        self.store(staged);
        Ok(())
    }

    fn abort(&mut self, id: &ReservationId) -> Result<(), LedgerError> {
        let staged = self.ledger.abort(id, evidence(), NOW)?;
        self.store(staged);
        Ok(())
    }

    fn reset(&mut self, total: f64) {
        let authorisation = Authorisation { by: name("officer"), reason: name("new consent"), digest: DIGEST };
        let terms = Terms::new(total, DELTA, None).unwrap();
        let staged = self.ledger.reset(&scope("v1"), terms, authorisation, NOW).unwrap();
        self.store(staged);
    }

    fn spending(&self) -> Spending {
        self.ledger.spent(&scope("v1")).unwrap().unwrap()
    }

    fn reopen(&mut self) {
        self.ledger = open(&self.entries, self.counter).unwrap().0;
    }

    /// Cost of everything that the ledger lists as charged.
    fn listed(&self) -> u64 {
        let scope = scope("v1");
        self.ledger.charges(&scope).map(|(_, event)| Zcdp::decode(event).unwrap()).sum()
    }

    fn records(&self) -> Vec<Record> {
        self.entries.iter().map(|bytes| Entry::read(bytes).unwrap().record).collect()
    }
}

fn open(entries: &[Vec<u8>], counter: Counter) -> Result<(Ledger<Zcdp>, Recovered), LedgerError> {
    Ledger::open(entries, counter, key(7))
}

fn key(byte: u8) -> LedgerKey {
    LedgerKey::new(&[byte; 32]).unwrap()
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn scope(version: &str) -> Scope {
    Scope { population: name("hospitals"), unit: name("participant"), data_version: name(version) }
}

fn id(round: u64, attempt: u32) -> ReservationId {
    ReservationId { task: name("task"), round, attempt }
}

fn ask(round: u64, event: Cost) -> Ask<Cost> {
    Ask { id: id(round, 1), scope: scope("v1"), event, participants: vec![name("a"), name("b")] }
}

fn evidence() -> Evidence {
    Evidence { finding: Finding::NeverUnmasked, digest: DIGEST }
}

/// A budget that seven rounds use up to the last bit.
fn seven_rounds() -> World {
    World::new(epsilon(7 * 1000, DELTA), None)
}

#[test]
fn seven_rounds_fit_exactly_and_the_eighth_is_refused_for_ever() {
    let mut world = seven_rounds();
    for round in 1..=7 {
        let granted = world.reserve_one(ask(round, 1000)).unwrap();
        assert_eq!(granted.spent, epsilon(round * 1000, DELTA));
        world.commit(&id(round, 1)).unwrap();
    }
    for _ in 0..3 {
        let before = world.spending();
        let Err(Refusal::Exhausted(why)) = world.reserve_one(ask(8, 1000)) else { panic!("granted") };
        assert_eq!((why.spent, why.asked), (epsilon(7000, DELTA), epsilon(8000, DELTA)));
        assert_eq!(why.total, why.spent);
        let after = world.spending();
        assert_eq!((after.spent, after.open, after.committed), (before.spent, 0, 7));
        assert!(after.exhausted);
        assert_eq!(after.remaining, 0.0);
        world.reopen();
    }
    assert!(matches!(world.reserve_one(ask(8, 1)), Err(Refusal::Exhausted(_))));
}

#[test]
fn epsilons_are_not_added() {
    let mut world = World::new(10.0, None);
    for round in 1..=9 {
        world.reserve_one(ask(round, 1000)).unwrap();
    }
    assert_eq!(world.spending().spent, epsilon(9000, DELTA));
    assert!(world.spending().spent < 4.0 * epsilon(1000, DELTA));
}

#[test]
fn the_same_id_is_one_charge() {
    let mut world = seven_rounds();
    let first = world.reserve_one(ask(1, 1000)).unwrap();
    assert_eq!(first.standing, Standing::New);
    world.reserve_one(ask(2, 1000)).unwrap();
    let entries = world.entries.len();
    for _ in 0..2 {
        // The order of participants does not matter.
        let mut again = ask(1, 1000);
        again.participants.reverse();
        let repeated = world.reserve_one(again).unwrap();
        assert_eq!(repeated, Granted { standing: Standing::Open, ..first.clone() });
        world.reopen();
    }
    assert_eq!(world.entries.len(), entries);
    world.commit(&id(1, 1)).unwrap();
    assert_eq!(world.reserve_one(ask(1, 1000)).unwrap().standing, Standing::Committed(DIGEST));
    // Twice in one batch.
    let both = world.reserve(vec![ask(3, 1000), ask(3, 1000)]);
    assert!(both.iter().all(Result::is_ok));
    assert_eq!(world.spending().spent, epsilon(3000, DELTA));
}

#[test]
fn the_same_id_for_something_else_is_a_conflict() {
    let mut world = seven_rounds();
    world.reserve_one(ask(1, 1000)).unwrap();
    let other_event = ask(1, 999);
    let other_cohort = Ask { participants: vec![name("a")], ..ask(1, 1000) };
    let other_scope = Ask { scope: scope("v2"), ..ask(1, 1000) };
    for ask in [other_event, other_cohort, other_scope] {
        assert!(matches!(world.reserve_one(ask), Err(Refusal::Conflict(_))));
    }
    assert_eq!(world.spending().spent, epsilon(1000, DELTA));
}

#[test]
fn another_attempt_is_another_charge() {
    let mut world = seven_rounds();
    world.reserve_one(ask(1, 1000)).unwrap();
    world.reserve_one(Ask { id: id(1, 2), ..ask(1, 1000) }).unwrap();
    assert_eq!(world.spending().spent, epsilon(2000, DELTA));
}

#[test]
fn a_reservation_that_nobody_ends_stays_spent() {
    let mut world = seven_rounds();
    world.reserve_one(ask(1, 1000)).unwrap();
    world.reopen();
    assert_eq!(world.spending().spent, epsilon(1000, DELTA));
    assert_eq!(world.ledger.open_reservations().count(), 1);
}

#[test]
fn an_abort_gives_back_once_and_its_id_is_dead() {
    let mut world = seven_rounds();
    for round in 1..=3 {
        world.reserve_one(ask(round, 1000)).unwrap();
    }
    world.commit(&id(1, 1)).unwrap();
    for _ in 0..2 {
        world.abort(&id(2, 1)).unwrap();
        assert_eq!(world.spending().spent, epsilon(2000, DELTA));
        assert_eq!(world.ledger.spent_by(&scope("v1"), &name("a")).unwrap(), Some(epsilon(2000, DELTA)));
        world.reopen();
    }
    assert!(matches!(world.reserve_one(ask(2, 1000)), Err(Refusal::Aborted(_))));
    assert!(matches!(world.commit(&id(2, 1)), Err(LedgerError::Aborted(_))));
}

#[test]
fn a_release_is_never_given_back_and_never_made_twice() {
    let mut world = seven_rounds();
    world.reserve_one(ask(1, 1000)).unwrap();
    world.commit(&id(1, 1)).unwrap();
    world.commit(&id(1, 1)).unwrap();
    assert_eq!(world.spending().committed, 1);
    assert!(matches!(world.abort(&id(1, 1)), Err(LedgerError::Committed(_))));
    assert!(matches!(world.ledger.commit(&id(1, 1), [8; 32], NOW), Err(LedgerError::Committed(_))));
    assert!(matches!(world.commit(&id(2, 1)), Err(LedgerError::UnknownReservation(_))));
    assert!(matches!(world.abort(&id(2, 1)), Err(LedgerError::UnknownReservation(_))));
    assert_eq!(world.spending().spent, epsilon(1000, DELTA));
}

#[test]
fn warnings_come_once_and_before_exhaustion_or_not_at_all() {
    let total = epsilon(10_000, DELTA);
    let mut world = World::new(total, None);
    let mut warnings = Vec::new();
    for round in 1..=10 {
        let granted = world.reserve_one(ask(round, 1000)).unwrap();
        warnings.extend(granted.warning.map(|level| (level, granted.spent / total)));
        world.reopen();
    }
    assert_eq!(warnings.len(), 2);
    let (level, share) = warnings[0];
    assert!(level == Warning::Percent80 && (0.8..0.95).contains(&share));
    let (level, share) = warnings[1];
    assert!(level == Warning::Percent95 && share >= 0.95);
    for _ in 0..3 {
        assert!(matches!(world.reserve_one(ask(11, 1000)), Err(Refusal::Exhausted(_))));
    }
    let count = |wanted: fn(&Record) -> bool| world.records().iter().filter(|record| wanted(record)).count();
    assert_eq!(count(|record| matches!(record, Record::Warning { .. })), 2);
    assert_eq!(count(|record| matches!(record, Record::Exhausted { .. })), 1);

    // A large event does not fit at half of the budget: exhausted, and no warning.
    let mut world = World::new(total, None);
    world.reserve_one(ask(1, 2000)).unwrap();
    assert!(matches!(world.reserve_one(ask(2, 9000)), Err(Refusal::Exhausted(_))));
    assert_eq!((world.spending().warning, world.spending().exhausted), (None, true));
    // A smaller one does.
    world.reserve_one(ask(3, 1000)).unwrap();
    assert!(!world.spending().exhausted);
}

#[test]
fn what_became_of_a_reservation_is_known() {
    let mut world = seven_rounds();
    assert_eq!(world.ledger.status(&id(1, 1)), None);
    for round in 1..=3 {
        world.reserve_one(ask(round, 1000)).unwrap();
    }
    world.commit(&id(2, 1)).unwrap();
    world.abort(&id(3, 1)).unwrap();
    let status = |ledger: &Ledger<Zcdp>| [1, 2, 3].map(|round| ledger.status(&id(round, 1)).unwrap());
    let expected = [Status::Open, Status::Committed(DIGEST), Status::Aborted];
    assert_eq!(status(&world.ledger), expected);
    world.reopen();
    assert_eq!(status(&world.ledger), expected);
}

#[test]
fn a_batch_is_decided_in_order_and_written_at_once() {
    let mut world = seven_rounds();
    let unknown = Ask { scope: scope("v9"), ..ask(50, 1) };
    let asks = vec![ask(1, 4000), unknown, ask(2, 4000), ask(3, 3000), ask(4, 1)];
    let staged = world.ledger.reserve(asks, NOW).unwrap();
    // Two reservations, one exhaustion, one warning, and exhausted again after a grant.
    assert_eq!(staged.entries().len(), 5);
    let decisions = world.store(staged);
    let granted: Vec<bool> = decisions.iter().map(Result::is_ok).collect();
    assert_eq!(granted, [true, false, false, true, false]);
    assert!(matches!(decisions[1], Err(Refusal::UnknownScope(_))));
}

#[test]
fn nothing_comes_out_before_what_came_before_it_is_durable() {
    let mut world = seven_rounds();
    let first = world.ledger.reserve(vec![ask(1, 1000)], NOW).unwrap();
    let repeated = world.ledger.reserve(vec![ask(1, 1000)], NOW).unwrap();
    assert!(repeated.entries().is_empty());
    assert!(matches!(world.ledger.acknowledge(repeated), Err(LedgerError::Order { .. })));
    let second = world.ledger.reserve(vec![ask(2, 1000)], NOW).unwrap();
    // Both in one write.
    let entries = [first.entries(), second.entries()].concat();
    world.entries.extend(entries);
    world.counter = second.after();
    world.ledger.acknowledge(first).unwrap();
    world.ledger.acknowledge(second).unwrap();
    world.reopen();
    assert_eq!(world.spending().spent, epsilon(2000, DELTA));
}

#[test]
fn each_participant_has_a_budget_too() {
    let mut world = World::new(100.0, Some(epsilon(2000, DELTA)));
    let with =
        |round, names: &[&str]| Ask { participants: names.iter().map(|it| name(it)).collect(), ..ask(round, 1000) };
    world.reserve_one(with(1, &["a", "b"])).unwrap();
    world.reserve_one(with(2, &["b", "c"])).unwrap();
    let Err(Refusal::Participants { names }) = world.reserve_one(with(3, &["a", "b", "c"])) else { panic!("granted") };
    assert_eq!(names, [name("b")]);
    world.reserve_one(with(3, &["a", "c"])).unwrap();
    world.reopen();
    let spent = |world: &World, who| world.ledger.spent_by(&scope("v1"), &name(who)).unwrap().unwrap();
    assert_eq!(spent(&world, "b"), epsilon(2000, DELTA));
    assert_eq!(spent(&world, "z"), 0.0);
    // What was given back can be asked for again.
    world.abort(&id(2, 1)).unwrap();
    assert_eq!((spent(&world, "b"), spent(&world, "c")), (epsilon(1000, DELTA), epsilon(1000, DELTA)));
    world.reserve_one(with(4, &["b"])).unwrap();
    let worst = world.ledger.worst_participant(&scope("v1")).unwrap();
    assert_eq!(worst, Some((&name("a"), epsilon(2000, DELTA))));
}

#[test]
fn tasks_of_one_scope_share_its_budget_and_scopes_do_not() {
    let mut world = seven_rounds();
    let other = |round| Ask { id: ReservationId { task: name("other"), round, attempt: 1 }, ..ask(round, 1000) };
    for round in 1..=4 {
        world.reserve_one(ask(round, 1000)).unwrap();
    }
    for round in 1..=3 {
        world.reserve_one(other(round)).unwrap();
    }
    assert!(matches!(world.reserve_one(other(4)), Err(Refusal::Exhausted(_))));
    let terms = Terms::new(1.0, DELTA, None).unwrap();
    let staged = world.ledger.open_scope(scope("v2"), terms, NOW).unwrap();
    world.store(staged);
    world.reserve_one(Ask { scope: scope("v2"), ..other(4) }).unwrap();
}

#[test]
fn a_scope_keeps_its_terms() {
    let mut world = World::new(5.0, None);
    let entries = world.entries.len();
    let staged = world.ledger.open_scope(scope("v1"), Terms::new(5.0, DELTA, None).unwrap(), NOW).unwrap();
    world.store(staged);
    assert_eq!(world.entries.len(), entries);
    for terms in [Terms::new(6.0, DELTA, None), Terms::new(5.0, 1e-6, None), Terms::new(5.0, DELTA, Some(1.0))] {
        let got = world.ledger.open_scope(scope("v1"), terms.unwrap(), NOW);
        assert!(matches!(got, Err(LedgerError::OtherTerms(_))));
    }
}

#[test]
fn a_reset_forgets_what_is_settled_and_nothing_else() {
    let mut world = seven_rounds();
    for round in 1..=6 {
        world.reserve_one(ask(round, 1000)).unwrap();
    }
    for round in 1..=4 {
        world.commit(&id(round, 1)).unwrap();
    }
    world.reset(epsilon(3000, DELTA));
    for _ in 0..2 {
        let spending = world.spending();
        assert_eq!((spending.spent, spending.open, spending.committed), (epsilon(2000, DELTA), 2, 0));
        assert_eq!(world.listed(), 2000);
        assert_eq!(spending.warning, None);
        world.reopen();
    }
    // Old ids stay what they are.
    assert_eq!(world.reserve_one(ask(1, 1000)).unwrap().standing, Standing::Committed(DIGEST));
    world.commit(&id(5, 1)).unwrap();
    world.abort(&id(6, 1)).unwrap();
    assert_eq!(world.spending().spent, epsilon(1000, DELTA));
    world.reserve_one(ask(7, 2000)).unwrap();
    assert!(matches!(world.reserve_one(ask(8, 1)), Err(Refusal::Exhausted(_))));
    let authorisation = Authorisation { by: name("officer"), reason: name("no such scope"), digest: DIGEST };
    let got = world.ledger.reset(&scope("v7"), Terms::new(1.0, DELTA, None).unwrap(), authorisation, NOW);
    assert!(matches!(got, Err(LedgerError::UnknownScope(_))));
}

#[test]
fn what_cannot_be_accounted_for_is_refused() {
    let mut world = seven_rounds();
    assert!(matches!(world.reserve_one(ask(1, UNKNOWN)), Err(Refusal::Event(_))));
    assert!(matches!(world.reserve_one(ask(1, MIXED)), Err(Refusal::Event(_))));
    assert!(matches!(world.reserve_one(ask(1, LONG)), Err(Refusal::Invalid(Invalid::Event { .. }))));
    let twice = Ask { participants: vec![name("a"), name("a")], ..ask(1, 1) };
    assert!(matches!(world.reserve_one(twice), Err(Refusal::Invalid(Invalid::Participants { .. }))));
    // A NaN is no permission, and leaves a ledger that can be read.
    let Err(Refusal::Exhausted(why)) = world.reserve_one(ask(1, NAN)) else { panic!("granted") };
    assert_eq!(why.asked, f64::INFINITY);
    world.reopen();
    assert_eq!(world.spending().spent, 0.0);
}

#[test]
fn bad_arguments_are_refused() {
    for bad in ["", "a\nb", "\u{7f}", &"x".repeat(129)] {
        assert!(matches!(Name::new(bad), Err(Invalid::Name { .. })), "{bad:?}");
    }
    assert!(Name::new("x".repeat(128)).is_ok());
    for (epsilon, delta) in [
        (0.0, DELTA),
        (-1.0, DELTA),
        (f64::NAN, DELTA),
        (f64::INFINITY, DELTA),
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, f64::NAN),
    ] {
        assert!(matches!(Terms::new(epsilon, delta, None), Err(Invalid::Terms { .. })));
    }
    assert!(Terms::new(1.0, DELTA, Some(f64::NAN)).is_err());
    assert!(LedgerKey::new(&[0; 32]).is_err());
    assert_eq!(format!("{:?}", key(7)), "LedgerKey");
}

/// Ten thousand rounds, with commits: the work per round does not grow.
#[test]
fn long_histories() {
    let mut world = World::new(1e6, None);
    for round in 1..=10_000 {
        world.reserve_one(ask(round, 10)).unwrap();
        world.commit(&id(round, 1)).unwrap();
    }
    world.reserve_one(ask(10_001, 10)).unwrap();
    world.abort(&id(10_001, 1)).unwrap();
    world.reopen();
    assert_eq!(world.spending().spent, epsilon(100_000, DELTA));
    assert_eq!(world.ledger.open_reservations().count(), 0);
}
