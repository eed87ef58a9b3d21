//! What the ledger's decisions cost, without the disk: CPU time of one core.
//!
//! `cargo bench -p sordino-dp --bench ledger`. Entries are made, authenticated and kept in memory; the accounts are those
//! of the product. A row is the mean over its rounds, and the longest round.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "results of a bench, of valid requests")]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sordino_dp::ledger::{Ask, Counter, Ledger, LedgerKey, Name, RenyiAccount, ReservationId, Scope, Terms};
use sordino_dp::{Event, Mechanism, Relation, Sampling, Unit};

fn main() {
    println!("decisions of the ledger, one core, without the disk");
    reserving("10,000 equal rounds", 10_000, 0, None, |_| gaussian(0.01, 1.0));
    reserving("10,000 rounds with noise of their own", 10_000, 0, None, |round| {
        gaussian(1.0, 50.0 + round as f64 / 7.0)
    });
    reserving("1,000 sampled rounds with noise of their own", 1_000, 0, None, |round| {
        gaussian(0.01, 1.0 + round as f64 / 700.0)
    });
    reserving("1,000 rounds of 1,000 of 2,000 participants", 1_000, 1_000, Some(1e5), |_| gaussian(1.0, 50.0));
    // A participant spends 2.5 of its 2.6 in every other round; the scope spends more, so that accounts are asked.
    reserving("1,000 rounds of 1,000 of 2,000, whose limits matter", 1_000, 1_000, Some(2.6), |_| gaussian(1.0, 50.0));
    reserving("20 rounds of 100,000 of 200,000 participants", 20, 100_000, Some(1e5), |_| gaussian(1.0, 50.0));
}

/// - `limit`: what a participant may spend; the scope may spend 10^6.
fn reserving(what: &str, rounds: u64, participants: usize, limit: Option<f64>, event: impl Fn(u64) -> Event) {
    let name = |text: String| Name::new(text).unwrap();
    let scope =
        Scope { population: name("sites".into()), unit: name("participant".into()), data_version: name("1".into()) };
    let cohorts: [Vec<_>; 2] =
        ["even", "odd"].map(|half| (0..participants).map(|at| name(format!("site-{half}-{at:06}"))).collect());
    let mut ledger = open(&[], Counter::start());
    let (mut entries, mut counter) = (Vec::new(), Counter::start());
    let terms = Terms::new(1e6, 1e-6, limit).unwrap();
    let staged = ledger.open_scope(scope.clone(), terms, Duration::ZERO).unwrap();
    entries.extend_from_slice(staged.entries());
    ledger.acknowledge(staged).unwrap();
    let (mut total, mut longest) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=rounds {
        let id = ReservationId { task: name("task".into()), round, attempt: 1 };
        let ask = Ask {
            id: id.clone(),
            scope: scope.clone(),
            event: event(round).into(),
            participants: cohorts[(round % 2) as usize].clone(),
        };
        let before = thread_cpu();
        let staged = ledger.reserve(vec![ask], Duration::ZERO).unwrap();
        entries.extend_from_slice(staged.entries());
        assert!(ledger.acknowledge(staged).unwrap().remove(0).is_ok());
        let staged = ledger.commit(&id, [1; 32], Duration::ZERO).unwrap();
        entries.extend_from_slice(staged.entries());
        counter = staged.after();
        ledger.acknowledge(staged).unwrap();
        let took = thread_cpu().saturating_sub(before);
        total += took;
        longest = longest.max(took);
    }
    let before = thread_cpu();
    let again = open(&entries, counter);
    let opening = thread_cpu().saturating_sub(before);
    assert_eq!(again.spent(&scope).unwrap().unwrap(), ledger.spent(&scope).unwrap().unwrap());
    let mean = total.as_secs_f64() / rounds as f64;
    println!(
        "  {:>9.4} ms mean, {:>9.4} ms longest, {:>7.0} ms to open again  {what}",
        mean * 1e3,
        longest.as_secs_f64() * 1e3,
        opening.as_secs_f64() * 1e3
    );
}

fn open(entries: &[Vec<u8>], counter: Counter) -> Ledger<RenyiAccount> {
    Ledger::open(entries, counter, LedgerKey::new(&[7; 32]).unwrap()).unwrap().0
}

fn gaussian(q: f64, sigma: f64) -> Event {
    let sampling = if q < 1.0 { Sampling::Poisson { q } } else { Sampling::None };
    Event::new(Unit::Participant, Relation::AddRemove, sampling, Mechanism::Gaussian { sigma }, 1).unwrap()
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
