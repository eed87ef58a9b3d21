//! The store on real files: what it promises, and what happens when the process or the disk does not cooperate.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod crash;
mod database;
mod files;
mod ledger;
mod rounds;

use sordino_store::{AttemptStart, NewEvent, NewPrincipal, NewTask, Store};
use std::{path::Path, time::Duration};

/// A moment, in epoch milliseconds.
const NOW: i64 = 1_700_000_000_000;
const MODEL: [u8; 32] = [1; 32];

/// Waits for the writer of an earlier store, which lets go of the folder in the background.
async fn reopen(data: &Path) -> Store {
    for _ in 0..1000 {
        match Store::open(data).await {
            Err(sordino_store::StoreError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the folder stayed locked");
}

/// A task with an open attempt 1 of round 1.
async fn with_attempt(store: &Store, task: &str) {
    store.create_task(task_named(task), NOW).await.unwrap();
    store.begin_attempt(start(task, 1, 1), NOW).await.unwrap();
}

fn task_named(id: &str) -> NewTask {
    NewTask {
        id: id.into(),
        name: "sepsis".into(),
        policy_json: "{}".into(),
        policy_digest: [2; 32],
        model: MODEL,
        model_len: 650,
    }
}

fn start(task: &str, round: u64, attempt: u32) -> AttemptStart {
    AttemptStart { task: task.into(), round, attempt, model: MODEL, cohort_json: "[]".into() }
}

fn ed25519(key: u8) -> Vec<u8> {
    [&[1], &[key; 32][..]].concat()
}

fn principal(id: &str, key: u8) -> NewPrincipal {
    NewPrincipal {
        id: id.into(),
        role: "client".into(),
        verifying_key: ed25519(key),
        certificate_chain: b"PEM".to_vec(),
        fingerprint: [key; 32],
        not_after: NOW + 1000,
    }
}

fn event(body: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent { kind: 7, sender: Some("site-a".into()), body: body.into(), reveals: false }
}
