//! A round's way through its states, and every way off it.

use crate::{MODEL, NOW, event, start, task_named, with_attempt};
use sordino_store::{
    AttemptStart, CheckRow, Findings, NewCheck, NewCulprit, NewDispute, NewEvent, NewRefusal, RoundOutcome, Store,
    StoreError, Then, round_state, task_state,
};
use std::fs;
use tempfile::tempdir;

#[tokio::test]
async fn a_round_with_an_abandoned_attempt_completes_and_moves_the_task_on() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    store.append_events("t", 1, 1, 0, vec![event("a"), event("b")], NOW).await.unwrap();
    refused(store.begin_attempt(start("t", 1, 2), NOW).await, "still open");
    store.end_attempt("t", 1, 1, ("too few", Findings::default()), NOW).await.unwrap();
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
        async move { store.complete_round("t", 1, attempt, (outcome, Findings::default()), NOW + 1).await }
    };
    refused(complete(outcome("r", false), 1).await, "abandoned already");
    complete(outcome("r", false), 2).await.unwrap();
    complete(outcome("r", false), 2).await.unwrap();
    refused(complete(outcome("other", false), 2).await, "complete already");
    refused(store.fail_round("t", 1, ("late", Findings::default()), false, NOW).await, "complete already");
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
    store.complete_round("t", 2, 1, (outcome("r2", true), Findings::default()), NOW).await.unwrap();
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
    store.fail_round("t", 1, ("too few", Findings::default()), false, NOW).await.unwrap();
    store.fail_round("t", 1, ("again", Findings::default()), true, NOW).await.unwrap();
    let round = store.round("t", 1).await.unwrap().unwrap();
    assert_eq!((round.state.as_str(), round.reason.as_deref()), (round_state::FAILED, Some("too few")));
    assert_eq!(store.attempt("t", 1, 1).await.unwrap().unwrap().reason.as_deref(), Some("too few"));
    let task = store.task("t").await.unwrap().unwrap();
    assert_eq!((task.model, task.next_round, task.state.as_str()), (MODEL, 2, task_state::ACTIVE));
    refused(store.begin_attempt(start("t", 1, 2), NOW).await, "next is 2");

    store.begin_attempt(start("t", 2, 1), NOW).await.unwrap();
    store.fail_round("t", 2, ("disk", Findings::default()), true, NOW).await.unwrap();
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
    missing(store.complete_round("t", 1, 1, (outcome("r", false), Findings::default()), NOW).await);
    missing(store.fail_round("t", 1, ("x", Findings::default()), false, NOW).await);
    missing(store.end_attempt("t", 1, 1, ("x", Findings::default()), NOW).await);
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

/// A task's participants keep what the attempts before have shown of them, in whatever way those ended.
#[tokio::test]
async fn what_an_attempt_has_shown_is_there_with_its_end() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    with_attempt(&store, "u").await;
    let found = |disputes: &[(&str, &str)], culprits: &[&str]| Findings {
        disputes: disputes
            .iter()
            .map(|(dealer, holder)| NewDispute { dealer: (*dealer).into(), holder: (*holder).into() })
            .collect(),
        culprits: culprits.iter().map(|id| NewCulprit { id: (*id).into(), reason: format!("{id} lied") }).collect(),
        refusals: culprits.iter().map(|id| NewRefusal { id: (*id).into(), reason: format!("of {id}") }).collect(),
        ..Findings::default()
    };
    store.end_attempt("t", 1, 1, ("disputed", found(&[("b", "a"), ("a", "c")], &[])), NOW).await.unwrap();
    refused(store.end_attempt("t", 1, 1, ("again", found(&[("x", "y")], &["x"])), NOW).await, "abandoned already");
    store.begin_attempt(start("t", 1, 2), NOW).await.unwrap();
    store.fail_round("t", 1, ("too few", found(&[("b", "a"), ("a", "b")], &["b"])), false, NOW).await.unwrap();
    store.begin_attempt(start("t", 2, 1), NOW).await.unwrap();
    let released = (outcome("r", true), found(&[("d", "e")], &["b", "c"]));
    store.complete_round("t", 2, 1, released, NOW).await.unwrap();

    store.close().await;
    let store = crate::reopen(folder.path()).await;
    let disputes = store.disputes("t").await.unwrap().into_iter();
    let disputes: Vec<_> = disputes.map(|row| (row.dealer, row.holder, row.round, row.attempt)).collect();
    let stored = |dealer: &str, holder: &str, round, attempt| (dealer.to_owned(), holder.to_owned(), round, attempt);
    assert_eq!(
        disputes,
        [stored("a", "b", 1, 2), stored("a", "c", 1, 1), stored("b", "a", 1, 1), stored("d", "e", 2, 1)]
    );
    let culprits = store.culprits("t").await.unwrap().into_iter();
    let culprits: Vec<_> = culprits.map(|row| (row.id, row.reason, row.round, row.attempt)).collect();
    let stored = |id: &str, round, attempt| (id.to_owned(), format!("{id} lied"), round, attempt);
    assert_eq!(culprits, [stored("b", 1, 2), stored("c", 2, 1)], "as it was found first");
    // In each attempt anew, and by round.
    for (round, expected) in [(1, &[(2, "b")][..]), (2, &[(1, "b"), (1, "c")]), (3, &[])] {
        let refusals = store.refusals("t", round).await.unwrap().into_iter();
        let refusals: Vec<_> = refusals.map(|row| (row.attempt, row.id, row.reason)).collect();
        let expected = expected.iter().map(|(attempt, id)| (*attempt, (*id).to_owned(), format!("of {id}")));
        assert_eq!(refusals, expected.collect::<Vec<_>>(), "{round}");
    }
    for nothing in ["u", "nothing"] {
        assert!(store.disputes(nothing).await.unwrap().is_empty() && store.culprits(nothing).await.unwrap().is_empty());
    }
}

/// So does what the sum of each of their groups has shown, whether it fits or not.
#[tokio::test]
async fn the_checks_of_an_attempt_are_there_with_its_end() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    with_attempt(&store, "u").await;
    let check = |group, passed, members: &str| NewCheck {
        group,
        passed,
        members: members.split_whitespace().map(str::to_owned).collect(),
    };
    let found = |checks: &[NewCheck]| Findings { checks: checks.to_vec(), ..Findings::default() };
    let broken = NewCheck { members: vec!["a\nb".into()], ..check(0, false, "") };
    let refusal = store.end_attempt("t", 1, 1, ("mismatch", found(&[broken])), NOW).await;
    assert!(matches!(refusal, Err(StoreError::Invalid { .. })), "{refusal:?}");

    let [failed, lost] = [check(0, false, "d b a c"), check(0, true, "x")];
    store.end_attempt("t", 1, 1, ("mismatch", found(std::slice::from_ref(&failed))), NOW).await.unwrap();
    refused(store.end_attempt("t", 1, 1, ("again", found(&[lost])), NOW).await, "abandoned already");
    store.begin_attempt(start("t", 1, 2), NOW).await.unwrap();
    let apart = [check(1, false, "a c"), check(0, false, "d b")];
    store.fail_round("t", 1, ("mismatch", found(&apart)), false, NOW).await.unwrap();
    store.begin_attempt(start("t", 2, 1), NOW).await.unwrap();
    let halves = [check(0, true, "c d"), check(1, false, "a b"), check(2, true, "")];
    for _ in 0..2 {
        store.complete_round("t", 2, 1, (outcome("r", true), found(&halves)), NOW).await.unwrap();
    }

    store.close().await;
    let store = crate::reopen(folder.path()).await;
    let stored = |round, attempt, NewCheck { group, passed, members }: &NewCheck| CheckRow {
        round,
        attempt,
        group: *group,
        passed: *passed,
        members: members.clone(),
    };
    let [first, second] = &apart;
    let all = [stored(1, 1, &failed), stored(1, 2, second), stored(1, 2, first)].into_iter();
    let all: Vec<_> = all.chain(halves.iter().map(|check| stored(2, 1, check))).collect();
    assert_eq!(store.checks("t").await.unwrap(), all);
    for nothing in ["u", "nothing"] {
        assert!(store.checks(nothing).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn attempts_in_which_shares_may_be_revealed_are_counted_by_task_and_model() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let opens = || NewEvent { reveals: true, ..event("closed") };
    let end = |what: &'static str| (what, Findings::default());
    with_attempt(&store, "t").await;
    with_attempt(&store, "u").await;
    store.append_events("t", 1, 1, 0, vec![event("a")], NOW).await.unwrap();
    assert_eq!(store.reveals("t", &MODEL).await.unwrap(), 0);
    store.append_events("t", 1, 1, 1, vec![event("b"), opens(), event("c")], NOW).await.unwrap();
    refused(store.append_events("u", 1, 1, 1, vec![opens()], NOW).await, "next is 0");
    assert_eq!((store.reveals("t", &MODEL).await.unwrap(), store.reveals("u", &MODEL).await.unwrap()), (1, 0));
    store.append_events("t", 1, 1, 4, vec![event("d")], NOW).await.unwrap();
    // Whatever becomes of it, of its events and of its round.
    store.end_attempt("t", 1, 1, end("too few"), NOW).await.unwrap();
    store.forget_events("t", 1, 1).await.unwrap();
    store.begin_attempt(start("t", 1, 2), NOW).await.unwrap();
    assert!(!store.attempt("t", 1, 2).await.unwrap().unwrap().reveals);
    store.fail_round("t", 1, end("before anything was revealed"), false, NOW).await.unwrap();
    store.begin_attempt(start("t", 2, 1), NOW).await.unwrap();
    store.append_events("t", 2, 1, 0, vec![opens()], NOW).await.unwrap();
    store.complete_round("t", 2, 1, (outcome("r", false), Findings::default()), NOW).await.unwrap();
    store.close().await;
    let store = crate::reopen(folder.path()).await;
    assert_eq!(store.reveals("t", &MODEL).await.unwrap(), 2);
    assert_eq!(store.reveals("t", &[8; 32]).await.unwrap(), 0, "the next model");
    assert!(store.attempt("t", 1, 1).await.unwrap().unwrap().reveals);
}

/// Revealed shares are among the events of an attempt: forgotten ones are in no file of the folder, while the store is open.
#[tokio::test]
async fn what_is_forgotten_is_on_no_page_and_in_no_log() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    let secret = b"a share that was revealed, in many bytes".repeat(300);
    let told = NewEvent { body: secret.clone(), ..event("share") };
    store.append_events("t", 1, 1, 0, vec![told, event("b")], NOW).await.unwrap();
    let found = || {
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let bytes = files.filter(|path| path.is_file()).map(|path| fs::read(path).unwrap());
        bytes.map(|bytes| bytes.windows(40).filter(|window| *window == &secret[..40]).count()).sum::<usize>()
    };
    assert!(found() > 0, "the search finds what is there");
    store.end_attempt("t", 1, 1, ("too few", Findings::default()), NOW).await.unwrap();
    store.forget_events("t", 1, 1).await.unwrap();
    assert_eq!(found(), 0);
}

/// A reader that is in the middle of something, as a backup is, keeps the log as it is: no write waits for it, and the log is
/// emptied once it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_delays_wiping_and_nothing_else() {
    use sqlx::{Connection as _, SqliteConnection};
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    let database = folder.path().join("sordino.db");
    let mut reader = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
    sqlx::query("BEGIN").execute(&mut reader).await.unwrap();
    sqlx::query("SELECT COUNT(*) FROM events").fetch_one(&mut reader).await.unwrap();
    store.append_events("t", 1, 1, 0, vec![event("a")], NOW).await.unwrap();
    store.end_attempt("t", 1, 1, ("too few", Findings::default()), NOW).await.unwrap();
    store.forget_events("t", 1, 1).await.unwrap();
    let log = database.with_extension("db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0, "the reader still needs it");
    store.begin_attempt(start("t", 1, 2), NOW).await.unwrap();
    reader.close().await.unwrap();
    while fs::metadata(&log).unwrap().len() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_task_is_halted_once() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert!(matches!(store.halt_task("t", "no more sums", NOW).await, Err(StoreError::NotFound { .. })));
    store.create_task(task_named("t"), NOW).await.unwrap();
    for reason in ["no more sums", "again"] {
        store.halt_task("t", reason, NOW).await.unwrap();
    }
    let task = store.task("t").await.unwrap().unwrap();
    assert_eq!((task.state.as_str(), task.reason.as_deref()), (task_state::HALTED, Some("no more sums")));
    refused(store.begin_attempt(start("t", 1, 1), NOW).await, "task t is halted");
    with_attempt(&store, "u").await;
    store.complete_round("u", 1, 1, (outcome("r", true), Findings::default()), NOW).await.unwrap();
    refused(store.halt_task("u", "too late", NOW).await, "complete already");
}

/// A task that ends before its last round says why, in the transaction of the round that ended it.
#[tokio::test]
async fn a_task_that_ends_early_says_why() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    let then = Then::Complete { early: Some("converged".into()) };
    let ended = RoundOutcome { then, ..outcome("r", true) };
    store.complete_round("t", 1, 1, (ended, Findings::default()), NOW).await.unwrap();
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    let task = store.task("t").await.unwrap().unwrap();
    assert_eq!((task.state.as_str(), task.reason.as_deref()), (task_state::COMPLETE, Some("converged")));
    refused(store.begin_attempt(AttemptStart { model: [8; 32], ..start("t", 2, 1) }, NOW).await, "is complete");
}

/// What an optimiser goes on from is the last Release, whatever has failed since.
#[tokio::test]
async fn the_last_release_is_found_behind_rounds_that_failed() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    assert_eq!(store.last_release("t", 1).await.unwrap(), None);
    store.complete_round("t", 1, 1, (outcome("first", false), Findings::default()), NOW).await.unwrap();
    let second = AttemptStart { model: [8; 32], ..start("t", 2, 1) };
    store.begin_attempt(second, NOW).await.unwrap();
    store.fail_round("t", 2, ("nobody came", Findings::default()), false, NOW).await.unwrap();
    for before in [2, 3] {
        let row = store.last_release("t", before).await.unwrap().unwrap();
        assert_eq!((row.number, row.release_json.as_deref()), (1, Some("first")));
    }
    assert_eq!(store.last_release("t", 1).await.unwrap(), None);
}

fn outcome(release: &str, task_done: bool) -> RoundOutcome {
    let then = if task_done { Then::Complete { early: None } } else { Then::GoesOn };
    RoundOutcome { release_json: release.into(), new_model: [8; 32], model_bytes: 2600, then }
}

#[track_caller]
fn refused(result: Result<(), StoreError>, why: &str) {
    match result {
        Err(StoreError::Conflict { what }) => assert!(what.contains(why), "{what}"),
        other => panic!("{other:?} is no conflict: {why}"),
    }
}
