//! One ledger has one program.

use super::{KEY, charged, child::Obedient, counter_in, key, ledger_in, open, reserve, try_open};
use sordino_store::{LedgerStoreError, PrivacyLedger, SiteLedger};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::tempdir;

#[tokio::test]
async fn another_program_is_refused_the_ledger_and_every_copy_with_its_counter() {
    let folder = tempdir().unwrap();
    let (ledger, counter) = (ledger_in(folder.path()), counter_in(folder.path()));
    let (ledger_copy, counter_copy) = (folder.path().join("three/privacy"), folder.path().join("four/counter"));
    let mut child = Obedient::start(folder.path());
    child.open();
    assert_eq!(child.order("scope").unwrap(), "done");
    assert_eq!(child.order("reserve 1").unwrap(), "granted task.1.1");
    for (from, to) in [(&ledger, &ledger_copy), (&counter, &counter_copy)] {
        fs::create_dir(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    let mut counter_lock = counter.clone().into_os_string();
    counter_lock.push(".lock");
    let counter_lock = PathBuf::from(counter_lock);

    assert_locked(SiteLedger::open(&ledger, &counter, key(KEY)).err(), &counter_lock);
    assert_locked(SiteLedger::open(&ledger_copy, &counter, key(KEY)).err(), &counter_lock);
    assert_locked(SiteLedger::open(&ledger, &counter_copy, key(KEY)).err(), &ledger);
    assert_locked(PrivacyLedger::open(&ledger, &counter, key(KEY)).await.err(), &counter_lock);
    assert_locked(PrivacyLedger::open(&ledger_copy, &counter, key(KEY)).await.err(), &counter_lock);

    // The first one is not disturbed by that, and what it leaves is free.
    assert_eq!(child.order("reserve 2").unwrap(), "granted task.2.1");
    child.end();
    let mut ledger = open(folder.path());
    assert_eq!(charged(&mut ledger), [1, 2]);
    reserve(&mut ledger, 3);

    // In one program it is no other.
    assert!(matches!(try_open(folder.path()), Err(LedgerStoreError::Locked { .. })));
    let mut child = Obedient::start(folder.path());
    let refused = child.order("open").unwrap();
    assert!(refused.starts_with("Locked: ") && refused.contains(counter_lock.to_str().unwrap()), "{refused}");
    drop(ledger);
    // The same process gets it once it is free.
    child.open();
    assert_eq!(child.order("reserve 3").unwrap(), "granted before task.3.1");
    child.end();
}

fn assert_locked(error: Option<LedgerStoreError>, expected: &Path) {
    match error {
        Some(LedgerStoreError::Locked { path }) => assert_eq!(path, expected),
        other => panic!("{other:?}"),
    }
}
