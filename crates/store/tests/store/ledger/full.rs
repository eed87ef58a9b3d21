//! Disks that are full, for as long as they are, and renames that fail.

use super::{charged, child::Obedient, costs, counter_in, ledger_in, open, reserve, spent, try_open};
use sordino_dp::ledger::Standing;
use sordino_store::LedgerStoreError;
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::tempdir;

/// A limit on the size of files stands for the full disk of the ledger, as for the other files of the store. Round after
/// round fails at another byte of its entry, and is reserved once there is space, in the same process.
#[test]
fn a_full_disk_under_the_ledger_costs_nothing() {
    let folder = tempdir().unwrap();
    let mut child = started(folder.path());
    let ledger = ledger_in(folder.path());
    let len = || fs::metadata(&ledger).unwrap().len();
    let before = len();
    assert_eq!(child.order("reserve 1").unwrap(), "granted task.1.1");
    let entry = len() - before;
    let rounds = 2..=12;
    let costs = costs(13);
    for round in rounds.clone() {
        let (whole, room) = (len(), entry * (round - 2) / 11);
        let cost = costs[usize::try_from(round).unwrap() - 1].to_string();
        child.order(&format!("limit {}", whole + room)).unwrap();
        assert_full(&child.order(&format!("reserve {round}")).unwrap(), &ledger);
        assert_full(&child.order(&format!("reserve {round}")).unwrap(), &ledger);
        // Other answers need no space.
        assert_eq!(child.order("spent").unwrap(), cost);
        assert_eq!(child.order("reserve 1").unwrap(), "granted before task.1.1");
        assert_eq!(len(), whole, "what did not fit was left there");

        // One byte too little is too little, and enough is enough.
        child.order(&format!("limit {}", whole + entry - 1)).unwrap();
        assert_full(&child.order(&format!("reserve {round}")).unwrap(), &ledger);
        let limit = if round % 2 == 0 { (whole + entry).to_string() } else { "none".into() };
        child.order(&format!("limit {limit}")).unwrap();
        assert_eq!(child.order(&format!("reserve {round}")).unwrap(), format!("granted task.{round}.1"));
        assert_eq!(child.order(&format!("reserve {round}")).unwrap(), format!("granted before task.{round}.1"));
    }
    child.end();
    let mut ledger = open(folder.path());
    assert!(charged(&mut ledger).into_iter().eq(1..=*rounds.end()));
    assert_eq!(spent(&mut ledger), costs[12]);
}

/// The process dies while its disk is full, with whatever of the entry found room: nobody was told, so that it may be
/// charged or not, and asking again charges once.
#[test]
fn killed_with_a_full_disk_it_charges_once() {
    for room in [0, 3, 4, 60] {
        let folder = tempdir().unwrap();
        let mut child = started(folder.path());
        assert_eq!(child.order("reserve 1").unwrap(), "granted task.1.1");
        let whole = fs::metadata(ledger_in(folder.path())).unwrap().len();
        child.order(&format!("limit {}", whole + room)).unwrap();
        assert_full(&child.order("reserve 2").unwrap(), &ledger_in(folder.path()));
        assert_eq!(fs::metadata(ledger_in(folder.path())).unwrap().len(), whole + room);
        // On the way to its next answer it cuts that off.
        child.arm(if room == 4 { "tail:cut" } else { "tail:found" });
        child.order_is_its_death("spent");
        let mut ledger = open(folder.path());
        assert_eq!(charged(&mut ledger), [1]);
        assert_eq!(reserve(&mut ledger, 2).standing, Standing::New);
        assert_eq!(spent(&mut ledger), costs(2)[2]);
    }
}

/// The counter's disk is full, and the entry is on the ledger's. `/dev/full` has no room for anybody.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_counter_costs_nothing() {
    let folder = tempdir().unwrap();
    let mut child = started(folder.path());
    assert_eq!(child.order("reserve 1").unwrap(), "granted task.1.1");
    let whole = fs::read(ledger_in(folder.path())).unwrap();
    let new = counter_in(folder.path()).with_file_name("counter.new");
    symlink("/dev/full", &new).unwrap();
    for _ in 0..3 {
        assert_full(&child.order("reserve 2").unwrap(), &new);
        // The entry was written. A process that opened this would keep and count it, which the next retry is told.
        let copy = tempdir().unwrap();
        for path in [ledger_in, counter_in] {
            fs::create_dir(path(copy.path()).parent().unwrap()).unwrap();
            fs::copy(path(folder.path()), path(copy.path())).unwrap();
        }
        let mut ledger = open(copy.path());
        assert_eq!(charged(&mut ledger), [1, 2]);
        assert_eq!(reserve(&mut ledger, 2).standing, Standing::Open);
        assert_eq!(spent(&mut ledger), costs(2)[2]);
    }
    // This process takes it back.
    assert_eq!(child.order("spent").unwrap(), costs(1)[1].to_string());
    assert_eq!(fs::read(ledger_in(folder.path())).unwrap(), whole);
    fs::remove_file(&new).unwrap();
    assert_eq!(child.order("reserve 2").unwrap(), "granted task.2.1");
    child.end();
    let mut ledger = open(folder.path());
    assert_eq!(charged(&mut ledger), [1, 2]);
    assert_eq!(spent(&mut ledger), costs(2)[2]);
}

/// Where it cannot know whether the counter was replaced, the charge stands, and whoever asks again is told.
#[test]
fn a_counter_whose_rename_failed_may_have_counted() {
    let folder = tempdir().unwrap();
    let mut child = started(folder.path());
    assert_eq!(child.order("reserve 1").unwrap(), "granted task.1.1");
    child.order_and_stop("reserve 2", "counter:written");
    // Stopped, it has its ledger still.
    assert!(matches!(try_open(folder.path()), Err(LedgerStoreError::Locked { .. })));
    let counter = counter_in(folder.path());
    let aside = counter.with_file_name("aside");
    fs::rename(&counter, &aside).unwrap();
    fs::create_dir(&counter).unwrap();
    for failed in [child.go_on(), child.order("reserve 2").unwrap(), child.order("spent").unwrap()] {
        assert!(failed.starts_with("Io: ") && failed.contains(counter.to_str().unwrap()), "{failed}");
    }
    fs::remove_dir(&counter).unwrap();
    fs::rename(&aside, &counter).unwrap();
    let costs = costs(3);
    assert_eq!(child.order("spent").unwrap(), costs[2].to_string());
    assert_eq!(child.order("reserve 2").unwrap(), "granted before task.2.1");
    assert_eq!(child.order("reserve 3").unwrap(), "granted task.3.1");
    child.end();
    let mut ledger = open(folder.path());
    assert_eq!(charged(&mut ledger), [1, 2, 3]);
    assert_eq!(spent(&mut ledger), costs[3]);
}

/// A process with an open scope.
fn started(folder: &Path) -> Obedient {
    let mut child = Obedient::start(folder);
    child.open();
    assert_eq!(child.order("scope").unwrap(), "done");
    child
}

fn assert_full(answer: &str, path: &Path) {
    assert!(answer.starts_with("Full: ") && answer.contains("free space there, then try again"), "{answer}");
    assert!(answer.contains(path.to_str().unwrap()), "{answer}");
}
