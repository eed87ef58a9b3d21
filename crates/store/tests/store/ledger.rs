//! The privacy ledger on real files: nothing that was acknowledged is ever forgotten.

mod budget;
mod child;
mod damage;
mod kills;
mod locks;

use sordino_dp::{
    Event, Events, Mechanism, Relation, Sampling, Unit,
    ledger::{Ask, Counter, Granted, Ledger, LedgerKey, Name, RenyiAccount, ReservationId, Scope, Status, Terms},
};
use sordino_store::{LedgerEvent, LedgerStoreError, SiteLedger};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A moment, since the epoch.
const NOW: Duration = Duration::from_secs(1_700_000_000);
const DELTA: f64 = 1e-6;
/// Enough for every test that is not about its end.
const EPSILON: f64 = 50.0;
/// As [`key`] takes it.
const KEY: u8 = 7;

/// Where a test keeps its ledger: two folders in one, as on two disks.
fn ledger_in(folder: &Path) -> PathBuf {
    folder.join("one/privacy")
}

fn counter_in(folder: &Path) -> PathBuf {
    folder.join("other/counter")
}

fn key(byte: u8) -> LedgerKey {
    LedgerKey::new(&[byte; 32]).unwrap()
}

/// Opens a ledger that nobody else has.
fn open(folder: &Path) -> SiteLedger {
    unless_locked(|| match try_open(folder) {
        Err(LedgerStoreError::Locked { .. }) => None,
        opened => Some(opened.unwrap()),
    })
}

/// Tries until there is something. Where tests share a process, each that starts another one holds copies of everybody's
/// locks for the moment before that becomes another program.
fn unless_locked<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_000_000 {
        if let Some(opened) = attempt() {
            return opened;
        }
        std::thread::yield_now();
    }
    panic!("the ledger stayed locked");
}

fn try_open(folder: &Path) -> Result<SiteLedger, LedgerStoreError> {
    SiteLedger::open(&ledger_in(folder), &counter_in(folder), key(KEY))
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn scope() -> Scope {
    Scope { population: name("wards"), unit: name("participant"), data_version: name("1") }
}

fn terms() -> Terms {
    Terms::new(EPSILON, DELTA, None).unwrap()
}

fn id(round: u64) -> ReservationId {
    ReservationId { task: name("task"), round, attempt: 1 }
}

fn gaussian(sigma: f64) -> LedgerEvent {
    let mechanism = Mechanism::Gaussian { sigma };
    Events::from(Event::new(Unit::Participant, Relation::ZeroOut, Sampling::None, mechanism, 1).unwrap())
}

fn ask(round: u64) -> Ask<LedgerEvent> {
    Ask { id: id(round), scope: scope(), event: gaussian(2.0), participants: vec![name("a"), name("b")] }
}

/// Reserves what must be granted.
fn reserve(ledger: &mut SiteLedger, round: u64) -> Granted {
    ledger.reserve(ask(round), NOW).unwrap().unwrap()
}

fn spent(ledger: &mut SiteLedger) -> f64 {
    ledger.spent(&scope()).unwrap().unwrap().spent
}

/// Which of the first rounds are charged.
fn charged(ledger: &mut SiteLedger) -> Vec<u64> {
    (1..=20).filter(|&round| ledger.status(&id(round)).unwrap() == Some(Status::Open)).collect()
}

/// What `rounds` equal releases cost, and any fewer: by the rules alone, without files.
fn costs(rounds: u64) -> Vec<f64> {
    let (mut ledger, _) = Ledger::<RenyiAccount>::open(Vec::<Vec<u8>>::new(), Counter::start(), key(1)).unwrap();
    let staged = ledger.open_scope(scope(), terms(), NOW).unwrap();
    ledger.acknowledge(staged).unwrap();
    let mut costs = vec![0.0];
    for round in 1..=rounds {
        let staged = ledger.reserve(vec![ask(round)], NOW).unwrap();
        costs.push(ledger.acknowledge(staged).unwrap().remove(0).unwrap().spent);
    }
    assert!(costs.is_sorted_by(|fewer, more| fewer < more));
    costs
}
