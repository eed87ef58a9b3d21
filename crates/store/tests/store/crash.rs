//! Processes that are killed in the middle of writing, and disks that are full.
//!
//! Both need a process of its own: the test starts its own binary again, with the name of an ignored test. A full disk
//! is a limit on the size of files (`ulimit -f`, with SIGXFSZ ignored so that writes fail instead of killing), since
//! that needs neither root nor a file system of its own; `SQLITE_FULL` itself is provoked in the unit tests of the
//! writer.

use crate::{NOW, event, reopen, with_attempt};
use sordino_store::{SpoolError, SpoolKey, Store, StoreError};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::tempdir;

/// Tasks whose journals are written to at the same time.
const JOURNALS: u64 = 8;
/// Events of one append, which must stay together.
const EVENTS: u64 = 3;
/// Acknowledged appends after which the process is killed.
const KILL_AFTER: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_every_acknowledged_event_is_there_and_no_append_by_half() {
    let folder = tempdir().unwrap();
    let mut child = child("crash::child_appends_until_it_is_killed", folder.path(), None);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = BTreeMap::<String, u64>::new();
    let mut note = |line: String| {
        // The harness prints the name of the test in front of its first line.
        let Some((_, line)) = line.split_once("ack ") else { return false };
        let (task, events) = line.split_once(' ').unwrap();
        acknowledged.insert(task.to_owned(), events.parse().unwrap());
        true
    };
    let mut heard = 0;
    while heard < KILL_AFTER {
        heard += usize::from(note(lines.next().expect("the child stopped by itself").unwrap()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What was still in the pipe was acknowledged too.
    for line in lines.map_while(Result::ok) {
        note(line);
    }

    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(acknowledged.len() as u64, JOURNALS);
    for (task, count) in acknowledged {
        let events = store.events(&task, 1, 1).await.unwrap();
        assert!(events.len() as u64 >= count, "{task}: {} of {count} acknowledged events", events.len());
        assert_eq!(events.len() as u64 % EVENTS, 0, "{task}: half an append");
        for (seq, row) in (0..).zip(&events) {
            assert_eq!((row.seq, &row.body), (seq, &body(&task, seq)), "{task}");
        }
        // And it goes on where it stopped.
        let next = events.len() as u64;
        store.append_events(&task, 1, 1, next, vec![event("more")], NOW).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that is killed; started by the test above"]
async fn child_appends_until_it_is_killed() {
    let Some(data) = data_of_child() else { return };
    let store = Store::open(&data).await.unwrap();
    for journal in 0..JOURNALS {
        with_attempt(&store, &format!("t{journal}")).await;
    }
    let appenders = (0..JOURNALS).map(|journal| {
        let (store, task) = (store.clone(), format!("t{journal}"));
        tokio::spawn(async move {
            for first in (0..).step_by(usize::try_from(EVENTS).unwrap()) {
                let events = (first..first + EVENTS).map(|seq| event(body(&task, seq))).collect();
                store.append_events(&task, 1, 1, first, events, NOW).await.unwrap();
                // One write call: a line is in the pipe as a whole or not at all.
                let line = format!("ack {task} {}", first + EVENTS);
                let mut out = std::io::stdout().lock();
                out.write_all(format!("{line}\n").as_bytes()).unwrap();
                out.flush().unwrap();
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_loses_nothing() {
    let folder = tempdir().unwrap();
    let mut child = child("crash::child_fills_its_disk", folder.path(), Some(FILE_LIMIT_BLOCKS));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    let acknowledged: usize =
        said.split("acknowledged=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();

    // With space again: what was accepted is there, and the upload goes on.
    let store = reopen(folder.path()).await;
    assert_eq!(store.events("t", 1, 1).await.unwrap().len(), acknowledged);
    let next = acknowledged as u64;
    store.append_events("t", 1, 1, next, vec![event("more")], NOW).await.unwrap();
    let key = SpoolKey::new("t", 1, 1, "a").unwrap();
    assert_eq!(store.spool().append(&key, 1000, &[2; 600_000], 601_000).await.unwrap(), 601_000);
    assert_eq!(fs::read_dir(folder.path().join("blobs/tmp")).unwrap().count(), 0);
    store.blobs().put(vec![1; 600_000]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process whose disk is full; started by the test above"]
async fn child_fills_its_disk() {
    let Some(data) = data_of_child() else { return };
    let store = Store::open(&data).await.unwrap();
    with_attempt(&store, "t").await;

    let full = store.blobs().put(vec![1; 600_000]).await.unwrap_err();
    assert!(matches!(&full, StoreError::Full { what } if what.contains("blobs")), "{full}");
    assert!(full.to_string().contains("free space"), "{full}");
    assert_eq!(fs::read_dir(data.join("blobs/tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(data.join("blobs")).unwrap().count(), 1);

    let key = SpoolKey::new("t", 1, 1, "a").unwrap();
    store.spool().append(&key, 0, &[2; 1000], 601_000).await.unwrap();
    let full = store.spool().append(&key, 1000, &[2; 600_000], 601_000).await.unwrap_err();
    assert!(matches!(full, SpoolError::Full { .. }), "{full}");
    assert_eq!(store.spool().received(&key).await.unwrap(), 1000, "the chunk counts wholly or not at all");
    assert_eq!(fs::metadata(data.join("spool/t.1.1/a")).unwrap().len(), 1000);

    let mut acknowledged = 0;
    while acknowledged < 1000 {
        if store.append_events("t", 1, 1, acknowledged, vec![event(vec![3; 4000])], NOW).await.is_err() {
            break;
        }
        acknowledged += 1;
    }
    assert!((1..1000).contains(&acknowledged), "the database must run into the limit, not at once");
    assert_eq!(store.events("t", 1, 1).await.unwrap().len() as u64, acknowledged, "the server keeps running");
    writeln!(std::io::stdout(), "acknowledged={acknowledged} ").unwrap();
}

/// Starts one test of this binary in a process of its own.
fn child(test: &str, data: &Path, file_limit_blocks: Option<u32>) -> Child {
    let limit = file_limit_blocks.map_or(String::new(), |blocks| format!("trap '' XFSZ; ulimit -f {blocks}; "));
    Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" --exact --ignored --nocapture \"$1\"")])
        .arg(env::current_exe().unwrap())
        .arg(test)
        .env(DATA_OF_CHILD, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Nothing where somebody runs the ignored tests by hand.
pub(crate) fn data_of_child() -> Option<PathBuf> {
    env::var_os(DATA_OF_CHILD).map(PathBuf::from)
}

fn body(task: &str, seq: u64) -> Vec<u8> {
    format!("{task}:{seq}:").repeat(50).into_bytes()
}

pub(crate) const DATA_OF_CHILD: &str = "SORDINO_STORE_TEST_DATA";
/// Largest file, in units of `ulimit -f`: 512 bytes by POSIX, 1024 in bash, so 256 or 512 kB. Both are enough for an
/// empty database and too little for what the test writes.
const FILE_LIMIT_BLOCKS: u32 = 500;
