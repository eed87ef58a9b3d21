//! Blobs and uploads.

use crate::reopen;
use proptest::prelude::*;
use sordino_store::{SpoolError, SpoolKey, Store, StoreError};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_blob_comes_back_by_its_digest() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let blobs = store.blobs();
    let name = blobs.put(b"abc".to_vec()).await.unwrap();
    // FIPS 180-2, appendix B.1.
    assert_eq!(hex::encode(name), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(blobs.put("abc").await.unwrap(), name);
    assert_eq!(blobs.read(&name, 3).await.unwrap(), b"abc");
    assert!(matches!(blobs.read(&name, 2).await, Err(StoreError::TooLarge { len: 3, limit: 2, .. })));
    assert!(blobs.contains(&name).await.unwrap() && !blobs.contains(&[0; 32]).await.unwrap());
    assert!(matches!(blobs.open(&[0; 32]).await, Err(StoreError::NotFound { .. })));

    let mut temp = blobs.temp_file().await.unwrap();
    temp.file().write_all(b"abcd").await.unwrap();
    let kept = blobs.keep(temp).await.unwrap();
    let (mut file, len) = blobs.open(&kept).await.unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), len), ("abcd", 4));
    assert_eq!(files_in(&folder.path().join("blobs/tmp")), 0);
}

#[tokio::test]
async fn a_write_that_was_cut_off_leaves_nothing_visible() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let tmp = folder.path().join("blobs/tmp");
    let mut temp = store.blobs().temp_file().await.unwrap();
    temp.file().write_all(b"half").await.unwrap();
    temp.file().flush().await.unwrap();
    assert_eq!(files_in(&tmp), 1);
    drop(temp);
    assert_eq!(files_in(&tmp), 0);
    // A process that was killed could not even do that.
    store.close().await;
    fs::write(tmp.join("0"), b"half").unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(files_in(&tmp), 0);
    assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 1, "only the temporary folder");
    store.blobs().put("whole").await.unwrap();
}

#[tokio::test]
async fn a_damaged_blob_is_found_and_healed() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let name = store.blobs().put(vec![7; 1000]).await.unwrap();
    store.blobs().verify(&name).await.unwrap();
    let hex = hex::encode(name);
    let path = folder.path().join("blobs").join(&hex[..2]).join(&hex[2..]);
    let mut flipped = vec![7; 1000];
    flipped[999] ^= 1;
    for damage in [flipped, vec![7; 999], Vec::new()] {
        fs::write(&path, &damage).unwrap();
        assert!(matches!(store.blobs().read(&name, 1000).await, Err(StoreError::Corrupt { .. })));
        assert!(matches!(store.blobs().verify(&name).await, Err(StoreError::Corrupt { .. })));
    }
    store.blobs().put(vec![7; 1000]).await.unwrap();
    store.blobs().verify(&name).await.unwrap();
}

#[tokio::test]
async fn an_upload_resumes_where_it_stopped() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let key = key("site-a");
    let spool = store.spool();
    assert_eq!(spool.received(&key).await.unwrap(), 0);
    assert!(matches!(spool.reader(&key).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(spool.append(&key, 3, b"def", 6).await, Err(SpoolError::OffsetMismatch { received: 0 })));
    assert_eq!(spool.append(&key, 0, b"abc", 6).await.unwrap(), 3);
    assert!(matches!(spool.append(&key, 0, b"abc", 6).await, Err(SpoolError::OffsetMismatch { received: 3 })));
    assert!(matches!(spool.append(&key, 3, b"defg", 6).await, Err(SpoolError::TooLong { end: 7, expected: 6 })));
    assert!(matches!(spool.append(&key, u64::MAX, b"d", 6).await, Err(SpoolError::TooLong { .. })));
    store.close().await;

    let store = reopen(folder.path()).await;
    let spool = store.spool();
    assert_eq!(spool.received(&key).await.unwrap(), 3);
    assert_eq!(spool.append(&key, 3, b"def", 6).await.unwrap(), 6);
    let mut text = String::new();
    spool.reader(&key).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "abcdef");
    spool.remove(&key).await.unwrap();
    spool.remove(&key).await.unwrap();
    assert_eq!(spool.received(&key).await.unwrap(), 0);
}

/// Everyone sends the same chunk at once: one append counts, the others are told where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_to_one_upload_take_turns() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (chunk, chunks) = (vec![5; 100_000], 8);
    for at in 0..chunks {
        let offset = at * 100_000;
        let tries: Vec<_> = (0..6)
            .map(|_| {
                let (store, chunk) = (store.clone(), chunk.clone());
                tokio::spawn(async move { store.spool().append(&key("site-a"), offset, &chunk, 800_000).await })
            })
            .collect();
        let mut taken = 0;
        for task in tries {
            match task.await.unwrap() {
                Ok(received) => taken += u64::from(received == offset + 100_000),
                Err(SpoolError::OffsetMismatch { received }) => assert_eq!(received, offset + 100_000),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(taken, 1);
    }
    assert_eq!(store.spool().received(&key("site-a")).await.unwrap(), 800_000);
}

#[tokio::test]
async fn attempts_are_removed_one_by_one_or_swept() {
    let folder = tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let spool = store.spool();
    let keys: Vec<_> = (1..=4).map(|attempt| SpoolKey::new("t.1", 2, attempt, "a").unwrap()).collect();
    for key in &keys {
        spool.append(key, 0, b"x", 2).await.unwrap();
    }
    fs::create_dir(folder.path().join("spool/lost+found")).unwrap();
    spool.remove_attempt("t.1", 2, 1).await.unwrap();
    spool.remove_attempt("t.1", 2, 1).await.unwrap();
    assert_eq!(spool.sweep(&[("t.1".into(), 2, 3), ("gone".into(), 1, 1)]).await.unwrap(), 2);
    let mut left = Vec::new();
    for key in &keys {
        left.push(spool.received(key).await.unwrap());
    }
    assert_eq!(left, [0, 0, 1, 0]);
    assert!(folder.path().join("spool/lost+found").exists());
    assert!(matches!(spool.remove_attempt("..", 1, 1).await, Err(StoreError::Invalid { .. })));
}

#[test]
fn names_that_could_leave_the_folder_are_refused() {
    let long = "a".repeat(129);
    for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a\0b", "a b", "\u{e4}", "a\n", &long] {
        assert!(matches!(SpoolKey::new(name, 1, 1, "site"), Err(StoreError::Invalid { .. })), "{name:?}");
        assert!(matches!(SpoolKey::new("task", 1, 1, name), Err(StoreError::Invalid { .. })), "{name:?}");
    }
    SpoolKey::new("a".repeat(128), u64::MAX, u32::MAX, "A-z_0.9").unwrap();
}

/// What happens to an upload.
#[derive(Debug, Clone)]
enum Step {
    /// The next chunk, of this many bytes at most.
    Send(usize),
    /// A chunk that was sent before, or lies ahead.
    Stray(u64, usize),
    /// The coordinator restarts.
    Restart,
    /// It died in the middle of a write: this many bytes more than were acknowledged are there.
    Torn(usize),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_interleaving_of_chunks_and_restarts_gives_the_identical_file(
        whole in proptest::collection::vec(any::<u8>(), 1..5000),
        steps in proptest::collection::vec(prop_oneof![
            6 => (0usize..900).prop_map(Step::Send),
            3 => (0u64..6000, 0usize..900).prop_map(|(offset, len)| Step::Stray(offset, len)),
            1 => Just(Step::Restart),
            1 => (1usize..300).prop_map(Step::Torn),
        ], 0..16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempdir().unwrap();
            let mut store = Store::open(folder.path()).await.unwrap();
            let (key, total) = (key("site-a"), whole.len() as u64);
            let mut sent = 0;
            // Whatever was interrupted, the client goes on to the end.
            for step in steps.into_iter().chain([Step::Send(usize::MAX)]) {
                match step {
                    Step::Send(len) => {
                        let end = sent + len.min(whole.len() - sent);
                        let received = store.spool().append(&key, sent as u64, &whole[sent..end], total).await.unwrap();
                        sent = end;
                        assert_eq!(received, sent as u64);
                    }
                    Step::Stray(offset, len) => {
                        if offset != sent as u64 {
                            store.spool().append(&key, offset, &vec![0xee; len], total).await.unwrap_err();
                        }
                    }
                    Step::Restart => {
                        store.close().await;
                        store = Store::open(folder.path()).await.unwrap();
                    }
                    Step::Torn(more) => {
                        store.close().await;
                        let end = sent + more.min(whole.len() - sent);
                        let path = upload_path(folder.path());
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(path, &whole[..end]).unwrap();
                        store = Store::open(folder.path()).await.unwrap();
                        sent = end;
                    }
                }
                assert_eq!(store.spool().received(&key).await.unwrap(), sent as u64);
            }
            assert_eq!(fs::read(upload_path(folder.path())).unwrap(), whole);
            store.close().await;
        });
    }
}

fn key(participant: &str) -> SpoolKey {
    SpoolKey::new("task", 3, 1, participant).unwrap()
}

fn upload_path(data: &Path) -> PathBuf {
    data.join("spool/task.3.1/site-a")
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}
