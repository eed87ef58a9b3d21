//! Opening, joining, the group commit, idempotency keys.

use crate::{NOW, ed25519, event, principal, reopen, start, task_named, with_attempt};
use sordino_store::{
    Enrolled, IDEMPOTENCY_KEY_LIFE_MS, Idempotency, NewJoinToken, NewPrincipal, Store, StoreError, TOUCH_RESOLUTION_MS,
};
use std::{fs, os::unix::fs::PermissionsExt};
use tempfile::tempdir;

#[tokio::test]
async fn opening_twice_in_a_row_keeps_what_is_there() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("new/data");
    let store = Store::open(&data).await.unwrap();
    store.create_task(task_named("t"), NOW).await.unwrap();
    store.close().await;
    let store = Store::open(&data).await.unwrap();
    assert_eq!(store.task("t").await.unwrap().unwrap().model_len, 650);
    for (path, mode) in [("", 0o700), ("blobs", 0o700), ("spool", 0o700), ("sordino.db", 0o600)] {
        assert_eq!(fs::metadata(data.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
    assert_eq!(fs::metadata(data.join("sordino.db-wal")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_only_dropped_opens_again() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    store.append_events("t", 1, 1, 0, vec![event("a")], NOW).await.unwrap();
    drop(store);
    let store = reopen(folder.path()).await;
    assert_eq!(store.events("t", 1, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_coordinator_is_refused_until_the_first_is_closed() {
    let folder = tempdir().unwrap();
    let first = Store::open(folder.path()).await.unwrap();
    let refused = Store::open(folder.path()).await.err().unwrap();
    assert!(matches!(&refused, StoreError::Locked { path } if path.ends_with("sordino.lock")), "{refused}");
    first.close().await;
    Store::open(folder.path()).await.unwrap();
    assert!(matches!(first.create_task(task_named("t"), NOW).await, Err(StoreError::Closed)));
    assert!(matches!(first.task("t").await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_as_damaged() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("sordino.db"), vec![0x5a; 8192]).unwrap();
    let refused = Store::open(folder.path()).await.err().unwrap();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
    let folder = tempdir().unwrap();
    Store::open(folder.path()).await.unwrap().close().await;
    let options = SqliteConnectOptions::new().filename(folder.path().join("sordino.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', TRUE, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert!(matches!(Store::open(folder.path()).await, Err(StoreError::Schema(_))));
}

#[tokio::test]
async fn a_number_that_sql_cannot_hold_is_refused() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let refused = store.record_model([3; 32], None, u64::MAX, NOW).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid { .. }), "{refused}");
    assert_eq!(store.model(&[3; 32]).await.unwrap(), None);
    store.record_model([3; 32], Some("t"), 10, NOW).await.unwrap();
    store.record_model([3; 32], None, 10, NOW + 1).await.unwrap();
    assert_eq!(store.model(&[3; 32]).await.unwrap().unwrap().task.as_deref(), Some("t"));
    assert!(matches!(store.record_model([3; 32], None, 11, NOW).await, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn models_are_listed_in_the_order_of_their_digests() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.models(None, 10).await.unwrap(), []);
    for (first, task) in [(0xff, None), (0, Some("t")), (0x80, None)] {
        store.record_model([first; 32], task, 10, NOW).await.unwrap();
    }
    let listed = async |after: Option<[u8; 32]>, limit| {
        let rows = store.models(after.as_ref(), limit).await.unwrap();
        rows.iter().map(|row| row.digest[0]).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 10).await, [0, 0x80, 0xff]);
    assert_eq!(listed(None, 2).await, [0, 0x80]);
    assert_eq!(listed(Some([0x80; 32]), 2).await, [0xff]);
    // A digest that is nobody's is a place in the order too.
    assert_eq!(listed(Some([1; 32]), 1).await, [0x80]);
    assert_eq!(listed(Some([0xff; 32]), 1).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_concurrent_enrolments_with_one_token_exactly_one_wins() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    store.add_join_token(token(9, "site-a"), NOW).await.unwrap();
    let tries: Vec<_> = (0..16)
        .map(|key| {
            let store = store.clone();
            tokio::spawn(async move { (key, store.enroll(&[9; 32], principal("site-a", key), NOW).await.unwrap()) })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tries {
        match task.await.unwrap() {
            (key, Enrolled::Done) => winners.push(key),
            (_, other) => assert_eq!(other, Enrolled::TokenUsed),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.principal("site-a").await.unwrap().unwrap().verifying_key, ed25519(winners[0]));
    assert_eq!(store.join_token(&[9; 32]).await.unwrap().unwrap().used_at, Some(NOW));
}

#[tokio::test]
async fn enrolments_that_fail_change_nothing() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    store.add_principal(principal("site-b", 2), NOW).await.unwrap();
    store.add_join_token(token(9, "site-a"), NOW).await.unwrap();
    assert!(matches!(store.add_join_token(token(9, "site-c"), NOW).await, Err(StoreError::Conflict { .. })));
    let enroll = |hash: u8, who: &str, key, now| {
        let (store, who) = (store.clone(), principal(who, key));
        async move { store.enroll(&[hash; 32], who, now).await }
    };
    assert_eq!(enroll(8, "site-a", 1, NOW).await.unwrap(), Enrolled::TokenUnknown);
    assert_eq!(enroll(9, "site-a", 1, NOW + 500).await.unwrap(), Enrolled::TokenExpired);
    assert_eq!(enroll(9, "site-b", 1, NOW).await.unwrap(), Enrolled::PrincipalMismatch);
    let stolen = enroll(9, "site-a", 2, NOW).await.unwrap_err();
    assert!(matches!(stolen, StoreError::Conflict { .. }), "{stolen}");
    assert_eq!(store.principal("site-a").await.unwrap(), None);
    assert_eq!(store.principal("site-b").await.unwrap().unwrap().verifying_key, ed25519(2));
    assert_eq!(enroll(9, "site-a", 1, NOW + 499).await.unwrap(), Enrolled::Done);
    assert_eq!(enroll(9, "site-a", 1, NOW).await.unwrap(), Enrolled::TokenUsed);
}

#[tokio::test]
async fn keys_of_both_kinds_are_stored_and_no_others() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let with = |id, key: &[u8]| NewPrincipal { verifying_key: key.to_vec(), ..principal(id, key[key.len() - 1]) };
    let p256 = [&[2, 4], &[7; 64][..]].concat();
    store.add_principal(with("a", &p256), NOW).await.unwrap();
    store.add_principal(with("b", &ed25519(8)), NOW).await.unwrap();
    assert_eq!(store.principal("a").await.unwrap().unwrap().verifying_key, p256);
    assert!(matches!(store.add_principal(with("c", &p256), NOW).await, Err(StoreError::Conflict { .. })));
    for bad in [&[9; 32][..], &[9; 65], &[9]] {
        store.add_principal(with("c", bad), NOW).await.unwrap_err();
    }
    assert_eq!(store.principal("c").await.unwrap(), None);
}

#[tokio::test]
async fn principals_renew_page_and_are_touched() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for (id, key) in [("a", 1), ("b", 2), ("c", 3)] {
        store.add_principal(principal(id, key), NOW).await.unwrap();
    }
    store.add_principal(principal("b", 4), NOW + 5).await.unwrap();
    let mut promoted = principal("b", 5);
    promoted.role = "admin".into();
    assert!(matches!(store.add_principal(promoted, NOW).await, Err(StoreError::Conflict { .. })));
    let b = store.principal("b").await.unwrap().unwrap();
    assert_eq!((b.role.as_str(), b.verifying_key, b.enrolled_at), ("client", ed25519(4), NOW + 5));

    let page = store.principals(Some("a"), 1).await.unwrap();
    assert_eq!(page.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(store.principals(None, u32::MAX).await.unwrap().len(), 3);
    assert_eq!(store.principals_in_role("client").await.unwrap(), 3);
    assert_eq!(store.principals_in_role("admin").await.unwrap(), 0);

    let seen = |now| {
        let store = store.clone();
        async move {
            store.touch("a", now).await.unwrap();
            store.principal("a").await.unwrap().unwrap().last_seen
        }
    };
    assert_eq!(seen(NOW).await, Some(NOW));
    assert_eq!(seen(NOW + TOUCH_RESOLUTION_MS - 1).await, Some(NOW));
    assert_eq!(seen(NOW + TOUCH_RESOLUTION_MS).await, Some(NOW + TOUCH_RESOLUTION_MS));
    store.touch("nobody", NOW).await.unwrap();
}

/// Writes that wait for the disk together succeed and fail apart.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_commit_a_bad_write_fails_alone() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let bad = |task: usize| task % 10 == 3;
    for task in 0..40 {
        let id = format!("t{task}");
        if bad(task) {
            store.create_task(task_named(&id), NOW).await.unwrap();
        } else {
            with_attempt(&store, &id).await;
        }
    }
    let writes: Vec<_> = (0..40)
        .map(|task| {
            let (store, id) = (store.clone(), format!("t{task}"));
            tokio::spawn(async move {
                if bad(task) {
                    // It inserts the round before it finds that the attempt is not the first.
                    return store.begin_attempt(start(&id, 1, 2), NOW).await;
                }
                store.append_events(&id, 1, 1, 0, vec![event("one"), event("two")], NOW).await
            })
        })
        .collect();
    for (task, write) in writes.into_iter().enumerate() {
        let (done, id) = (write.await.unwrap(), format!("t{task}"));
        if bad(task) {
            assert!(matches!(done, Err(StoreError::Conflict { .. })), "{id}: {done:?}");
            assert_eq!(store.round(&id, 1).await.unwrap(), None, "{id}: half a write");
        } else {
            done.unwrap();
            let stored = store.events(&id, 1, 1).await.unwrap();
            assert_eq!(stored.iter().map(|row| row.seq).collect::<Vec<_>>(), [0, 1], "{id}");
        }
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_waiting_does_not_stop_its_write() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    with_attempt(&store, "t").await;
    {
        let mut append = Box::pin(store.append_events("t", 1, 1, 0, vec![event("a")], NOW));
        // Polled once: it is in the queue now.
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(append.as_mut().poll(context))).await.is_pending()
        );
    }
    // The queue keeps its order.
    store.append_events("t", 1, 1, 1, vec![event("b")], NOW).await.unwrap();
    assert_eq!(store.events("t", 1, 1).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let ask = |principal: &'static str, digest: u8, now| {
        let store = store.clone();
        async move { store.idempotent(principal, "key", [digest; 32], now).await.unwrap() }
    };
    assert_eq!(ask("a", 1, NOW).await, Idempotency::New);
    assert_eq!(ask("a", 1, NOW).await, Idempotency::InProgress);
    assert_eq!(ask("a", 2, NOW).await, Idempotency::Conflict);
    assert_eq!(ask("b", 2, NOW).await, Idempotency::New);
    store.idempotent_abandon("b", "key").await.unwrap();
    assert_eq!(ask("b", 3, NOW).await, Idempotency::New);
    store.idempotent_done("a", "key", 201, b"made".to_vec()).await.unwrap();
    assert!(matches!(store.idempotent_done("a", "key", 500, Vec::new()).await, Err(StoreError::NotFound { .. })));
    store.idempotent_abandon("a", "key").await.unwrap();
    let replay = Idempotency::Replay { status: 201, body: b"made".to_vec() };
    assert_eq!(ask("a", 1, NOW + IDEMPOTENCY_KEY_LIFE_MS - 1).await, replay);
    assert_eq!(ask("a", 1, NOW + IDEMPOTENCY_KEY_LIFE_MS).await, Idempotency::New);
}

#[tokio::test]
async fn a_request_that_died_with_its_process_can_be_tried_again() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for key in ["died", "done"] {
        assert_eq!(store.idempotent("a", key, [1; 32], NOW).await.unwrap(), Idempotency::New);
    }
    store.idempotent_done("a", "done", 200, Vec::new()).await.unwrap();
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.idempotent("a", "died", [1; 32], NOW).await.unwrap(), Idempotency::New);
    let replay = Idempotency::Replay { status: 200, body: Vec::new() };
    assert_eq!(store.idempotent("a", "done", [1; 32], NOW).await.unwrap(), replay);
}

fn token(hash: u8, who: &str) -> NewJoinToken {
    NewJoinToken {
        hash: [hash; 32],
        principal: who.into(),
        role: "client".into(),
        expires_at: NOW + 500,
        created_by: "admin-1".into(),
    }
}
