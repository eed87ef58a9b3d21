//! A round's way through its states, and every way off it.

use crate::{MODEL, NOW, event, start, task_named, with_attempt};
use sordino_store::{RoundOutcome, Store, StoreError, round_state, task_state};
use tempfile::tempdir;

#[tokio::test]
async fn a_round_with_an_abandoned_attempt_completes_and_moves_the_task_on() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    store.append_events("t", 1, 1, 0, vec![event("a"), event("b")], NOW).await.unwrap();
    refused(store.begin_attempt(start("t", 1, 2), NOW).await, "still open");
    store.end_attempt("t", 1, 1, "too few", NOW).await.unwrap();
    assert_eq!(store.round("t", 1).await.unwrap().unwrap().state, round_state::WAITING);
    refused(store.append_events("t", 1, 1, 2, vec![event("late")], NOW).await, "abandoned already");
    refused(store.begin_attempt(start("t", 1, 3), NOW).await, "cannot follow 1");
    store.begin_attempt(start("t", 1, 2), NOW).await.unwrap();
    store.append_events("t", 1, 2, 0, vec![event("c")], NOW).await.unwrap();
    store.set_round_state("t", 1, round_state::AGGREGATING).await.unwrap();

    // A restart in the middle finds it.
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    let open = store.open_rounds().await.unwrap();
    assert_eq!((open.len(), open[0].state.as_str(), open[0].attempt), (1, round_state::AGGREGATING, 2));
    assert_eq!(store.events("t", 1, 1).await.unwrap().len(), 2);
    assert_eq!(store.events("t", 1, 2).await.unwrap()[0].body, b"c");

    let complete = |outcome, attempt| {
        let store = store.clone();
        async move { store.complete_round("t", 1, attempt, outcome, NOW + 1).await }
    };
    refused(complete(outcome("r", false), 1).await, "abandoned already");
    complete(outcome("r", false), 2).await.unwrap();
    complete(outcome("r", false), 2).await.unwrap();
    refused(complete(outcome("other", false), 2).await, "complete already");
    refused(store.fail_round("t", 1, "late", false, NOW).await, "complete already");
    refused(store.set_round_state("t", 1, round_state::COLLECTING).await, "complete already");

    let task = store.task("t").await.unwrap().unwrap();
    assert_eq!((task.model, task.next_round, task.state.as_str()), ([8; 32], 2, task_state::ACTIVE));
    assert_eq!(store.model(&[8; 32]).await.unwrap().unwrap().bytes, 2600);
    assert_eq!(store.round("t", 1).await.unwrap().unwrap().release_json.as_deref(), Some("r"));
    assert!(store.open_rounds().await.unwrap().is_empty());
    store.forget_events("t", 1, 2).await.unwrap();
    assert!(store.events("t", 1, 2).await.unwrap().is_empty());

    // The next round starts from the new model only.
    refused(store.begin_attempt(start("t", 2, 1), NOW).await, "must start from model 0808");
    let mut next = start("t", 2, 1);
    next.model = [8; 32];
    store.begin_attempt(next, NOW).await.unwrap();
    refused(store.forget_events("t", 2, 1).await, "still open");
    store.complete_round("t", 2, 1, outcome("r2", true), NOW).await.unwrap();
    assert_eq!(store.task("t").await.unwrap().unwrap().state, task_state::COMPLETE);
    assert!(store.active_tasks().await.unwrap().is_empty());
    refused(store.begin_attempt(start("t", 3, 1), NOW).await, "task t is complete");
    assert_eq!(store.rounds("t", 0, 10).await.unwrap().len(), 2);
    assert_eq!(store.rounds("t", 1, 10).await.unwrap()[0].number, 2);
}

#[tokio::test]
async fn a_failed_round_keeps_the_model_and_may_halt_the_task() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    store.fail_round("t", 1, "too few", false, NOW).await.unwrap();
    store.fail_round("t", 1, "again", true, NOW).await.unwrap();
    let round = store.round("t", 1).await.unwrap().unwrap();
    assert_eq!((round.state.as_str(), round.reason.as_deref()), (round_state::FAILED, Some("too few")));
    assert_eq!(store.attempt("t", 1, 1).await.unwrap().unwrap().reason.as_deref(), Some("too few"));
    let task = store.task("t").await.unwrap().unwrap();
    assert_eq!((task.model, task.next_round, task.state.as_str()), (MODEL, 2, task_state::ACTIVE));
    refused(store.begin_attempt(start("t", 1, 2), NOW).await, "next is 2");

    store.begin_attempt(start("t", 2, 1), NOW).await.unwrap();
    store.fail_round("t", 2, "disk", true, NOW).await.unwrap();
    let task = store.task("t").await.unwrap().unwrap();
    assert_eq!((task.state.as_str(), task.reason.as_deref()), (task_state::HALTED, Some("disk")));
    refused(store.begin_attempt(start("t", 3, 1), NOW).await, "task t is halted");
}

#[tokio::test]
async fn what_does_not_exist_or_fit_is_refused() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let missing = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::NotFound { .. })));
    missing(store.begin_attempt(start("t", 1, 1), NOW).await);
    missing(store.append_events("t", 1, 1, 0, vec![event("a")], NOW).await);
    missing(store.complete_round("t", 1, 1, outcome("r", false), NOW).await);
    missing(store.fail_round("t", 1, "x", false, NOW).await);
    missing(store.end_attempt("t", 1, 1, "x", NOW).await);
    missing(store.set_round_state("t", 1, round_state::WAITING).await);
    missing(store.forget_events("t", 1, 1).await);
    let refusal = store.set_round_state("t", 1, round_state::COMPLETE).await;
    assert!(matches!(refusal, Err(StoreError::Invalid { .. })));

    store.create_task(task_named("t"), NOW).await.unwrap();
    refused(store.create_task(task_named("t"), NOW).await, "exists already");
    refused(store.begin_attempt(start("t", 2, 1), NOW).await, "next is 1");
    refused(store.begin_attempt(start("t", 1, 2), NOW).await, "cannot follow 0");
    // The refused attempt took its round with it.
    assert_eq!(store.round("t", 1).await.unwrap(), None);
    store.begin_attempt(start("t", 1, 1), NOW).await.unwrap();
    refused(store.append_events("t", 1, 1, 1, vec![event("a")], NOW).await, "next is 0");
    store.append_events("t", 1, 1, 0, vec![event("a")], NOW).await.unwrap();
    refused(store.append_events("t", 1, 1, 0, vec![event("a")], NOW).await, "next is 1");
}

fn outcome(release: &str, task_done: bool) -> RoundOutcome {
    RoundOutcome { release_json: release.into(), new_model: [8; 32], model_bytes: 2600, task_done }
}

#[track_caller]
fn refused(result: Result<(), StoreError>, why: &str) {
    match result {
        Err(StoreError::Conflict { what }) => assert!(what.contains(why), "{what}"),
        other => panic!("{other:?} is no conflict: {why}"),
    }
}
