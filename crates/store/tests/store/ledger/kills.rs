//! SIGKILL at every point of an append and of an opening, to real processes.

use super::{NOW, charged, child::Obedient, costs, id, open, reserve, scope, spent, terms};
use sordino_dp::ledger::{Standing, Status};
use std::path::Path;
use tempfile::tempdir;

/// Points of an append, in order, and whether the charge is there afterwards though nobody was told.
const APPEND: [(&str, bool); 7] = [
    ("ledger:decided", false),
    ("ledger:half", false),
    ("ledger:written", true),
    ("ledger:synced", true),
    ("counter:written", true),
    ("counter:renamed", true),
    ("counter:synced", true),
];
const COUNTER: [&str; 3] = ["counter:written", "counter:renamed", "counter:synced"];

#[test]
fn killed_anywhere_in_an_append_it_keeps_all_that_it_acknowledged() {
    for (point, kept) in APPEND {
        for acknowledged in [0, 3] {
            let folder = tempdir().unwrap();
            die_while_reserving(folder.path(), acknowledged, point);
            assert_whole(folder.path(), acknowledged, Some(kept));
        }
    }
}

#[test]
fn killed_while_it_opens_the_scope_it_opens_it_later() {
    for (point, kept) in APPEND {
        let folder = tempdir().unwrap();
        let mut child = Obedient::start(folder.path());
        child.open();
        child.arm(point);
        child.order_is_its_death("scope");
        let mut ledger = open(folder.path());
        assert_eq!(ledger.spent(&scope()).unwrap().is_some(), kept, "{point}");
        ledger.open_scope(scope(), terms(), NOW).unwrap();
        reserve(&mut ledger, 1);
        assert_eq!(ledger.entries(0, 100).unwrap().len(), 2, "{point}");
    }
}

#[test]
fn killed_while_it_cuts_off_a_tail_it_cuts_it_off_later() {
    for point in ["tail:found", "tail:cut"] {
        let folder = tempdir().unwrap();
        die_while_reserving(folder.path(), 2, "ledger:half");
        die_while_opening(folder.path(), point);
        assert_whole(folder.path(), 2, Some(false));
    }
}

#[test]
fn killed_while_it_counts_what_was_written_it_counts_it_later() {
    for first in ["ledger:written", "ledger:synced", "counter:written"] {
        for second in COUNTER {
            let folder = tempdir().unwrap();
            die_while_reserving(folder.path(), 2, first);
            die_while_opening(folder.path(), second);
            assert_whole(folder.path(), 2, Some(true));
        }
    }
}

#[test]
fn killed_while_it_makes_the_files_it_makes_them_later() {
    for point in COUNTER {
        let folder = tempdir().unwrap();
        die_while_opening(folder.path(), point);
        let mut ledger = open(folder.path());
        assert_eq!(ledger.entries(0, 1).unwrap(), [], "{point}");
        ledger.open_scope(scope(), terms(), NOW).unwrap();
        drop(ledger);
        assert_whole(folder.path(), 0, Some(false));
    }
}

/// One process after the other dies, each at its first append: what they leave behind does not add up.
#[test]
fn killed_again_and_again_it_charges_once() {
    let folder = tempdir().unwrap();
    die_while_reserving(folder.path(), 1, "ledger:half");
    for point in ["ledger:half", "ledger:decided", "ledger:half", "ledger:written"] {
        let mut child = Obedient::start(folder.path());
        child.open();
        child.arm(point);
        child.order_is_its_death("reserve 2");
    }
    assert_whole(folder.path(), 1, Some(true));
}

/// A process that opens a ledger and a scope, reserves so many rounds, and dies in the next one.
fn die_while_reserving(folder: &Path, acknowledged: u64, point: &str) {
    let mut child = Obedient::start(folder);
    child.open();
    assert_eq!(child.order("scope").unwrap(), "done");
    for round in 1..=acknowledged {
        assert_eq!(child.order(&format!("reserve {round}")).unwrap(), format!("granted {}", id(round)));
    }
    child.arm(point);
    child.order_is_its_death(&format!("reserve {}", acknowledged + 1));
}

fn die_while_opening(folder: &Path, point: &str) {
    let child = Obedient::start(folder);
    child.arm(point);
    child.order_is_its_death("open");
}

/// That what was acknowledged is charged, at most one round more is, and work goes on.
fn assert_whole(folder: &Path, acknowledged: u64, kept: Option<bool>) {
    let costs = costs(acknowledged + 2);
    let cost = |rounds: u64| costs[usize::try_from(rounds).unwrap()];
    let next = acknowledged + 1;
    let mut ledger = open(folder);
    let found = charged(&mut ledger);
    assert!(found.iter().copied().eq(1..=acknowledged) || found.iter().copied().eq(1..=next), "{found:?}");
    let found_next = found.len() as u64 == next;
    assert!(kept.is_none_or(|kept| kept == found_next), "{found:?}");
    assert_eq!(spent(&mut ledger), cost(found.len() as u64));

    // Whoever does not know asks again, and is charged once.
    for round in 1..=next {
        let standing = if round == next && !found_next { Standing::New } else { Standing::Open };
        assert_eq!(reserve(&mut ledger, round).standing, standing);
        assert_eq!(reserve(&mut ledger, round).standing, Standing::Open);
    }
    assert_eq!(spent(&mut ledger), cost(next));
    assert_eq!(reserve(&mut ledger, next + 1).standing, Standing::New);
    ledger.commit(&id(next), [3; 32], NOW).unwrap();
    let history = ledger.entries(0, 100).unwrap();
    drop(ledger);

    let mut ledger = open(folder);
    assert_eq!(spent(&mut ledger), cost(next + 1));
    assert_eq!(ledger.status(&id(next)).unwrap(), Some(Status::Committed([3; 32])));
    assert_eq!(ledger.entries(0, 100).unwrap(), history);
}
