//! Files that are not as they were written: bytes that changed or are missing, and older copies.

use super::{
    KEY, NOW, ask, charged, costs, counter_in, key, ledger_in, open, reserve, scope, spent, terms, unless_locked,
};
use sordino_dp::ledger::LedgerKey;
use sordino_store::{LedgerStoreError, SiteLedger};
use std::{error::Error, fs, ops::Range, path::Path};
use tempfile::{TempDir, tempdir};

/// A ledger with a scope and rounds 1 and 2, and behind these, in one append that was not counted, rounds 3 to 5.
struct Sample {
    ledger: Vec<u8>,
    counter: Vec<u8>,
    /// Entries of the tail, with their lengths.
    tail: Vec<Range<usize>>,
    /// Bytes that are counted.
    counted: usize,
    costs: Vec<f64>,
}

impl Sample {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let mut ledger = open(folder.path());
        ledger.open_scope(scope(), terms(), NOW).unwrap();
        reserve(&mut ledger, 1);
        reserve(&mut ledger, 2);
        let (entries, counter) = read_both(folder.path());
        let counted = entries.len();
        for granted in ledger.reserve_all((3..=5).map(ask).collect(), NOW).unwrap() {
            granted.unwrap();
        }
        let (entries, _) = read_both(folder.path());
        let mut tail = Vec::new();
        let mut at = counted;
        while at < entries.len() {
            let len = u32::from_le_bytes(entries[at..at + 4].try_into().unwrap());
            tail.push(at..at + 4 + usize::try_from(len).unwrap());
            at = tail.last().unwrap().end;
        }
        assert_eq!((tail.len(), at), (3, entries.len()));
        Self { ledger: entries, counter, tail, counted, costs: costs(6) }
    }

    /// That of these entries, which have all that is counted, only those of the tail before this byte are kept; and that work
    /// goes on, which takes many syncs.
    fn assert_discarded_from(&self, entries: &[u8], damaged: usize, goes_on: bool) {
        let whole = self.tail.iter().filter(|entry| entry.end <= damaged).count();
        let kept = 2 + whole as u64;
        let folder = folder_with(Some(entries), Some(&self.counter));
        let mut ledger = open(folder.path());
        assert!(charged(&mut ledger).into_iter().eq(1..=kept), "damaged at {damaged}");
        let end = self.tail.get(whole).map_or(self.ledger.len(), |entry| entry.start);
        assert!(fs::read(ledger_in(folder.path())).unwrap() == self.ledger[..end], "damaged at {damaged}");
        if !goes_on {
            return;
        }
        // What is written next stands where the next opening finds it.
        reserve(&mut ledger, kept + 1);
        drop(ledger);
        let mut ledger = open(folder.path());
        assert!(charged(&mut ledger).into_iter().eq(1..=kept + 1), "damaged at {damaged}");
        assert_eq!(spent(&mut ledger), self.costs[usize::try_from(kept).unwrap() + 1], "damaged at {damaged}");
    }
}

#[test]
fn a_counted_entry_with_one_other_byte_is_refused() {
    let sample = Sample::new();
    let folder = folder_with(None, Some(&sample.counter));
    for at in 0..sample.counted {
        // With and without a tail.
        for (mask, len) in masks(at).into_iter().zip([sample.counted, sample.ledger.len()]) {
            let mut entries = sample.ledger[..len].to_vec();
            entries[at] ^= mask;
            fs::write(ledger_in(folder.path()), &entries).unwrap();
            match assert_refused(folder.path(), &key(KEY)) {
                LedgerStoreError::Damaged { path, .. } => assert_eq!(path, ledger_in(folder.path())),
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_uncounted_entry_with_one_other_byte_is_dropped_with_all_behind_it() {
    let sample = Sample::new();
    for at in sample.counted..sample.ledger.len() {
        let mut entries = sample.ledger.clone();
        entries[at] ^= masks(at)[0];
        sample.assert_discarded_from(&entries, at, at % 8 == 0);
    }
}

/// A loss of power may leave a file at its full length with blocks that were never written.
#[test]
fn uncounted_entries_that_became_zeros_are_dropped() {
    let sample = Sample::new();
    let (first, second, third) = (&sample.tail[0], &sample.tail[1], &sample.tail[2]);
    for zeros in [first.clone(), second.clone(), third.clone(), first.start..third.end, second.start + 9..third.end] {
        let mut entries = sample.ledger.clone();
        entries[zeros.clone()].fill(0);
        sample.assert_discarded_from(&entries, zeros.start, true);
    }
    // Longer than it ever was.
    for junk in [1, 4, 5, 100, 10_000] {
        for byte in [0, 1, 255] {
            sample.assert_discarded_from(&[&sample.ledger[..], &vec![byte; junk]].concat(), sample.ledger.len(), true);
        }
    }
}

#[test]
fn a_ledger_cut_short_loses_nothing_that_was_counted() {
    let sample = Sample::new();
    let folder = folder_with(None, Some(&sample.counter));
    for len in 0..=sample.ledger.len() {
        let entries = &sample.ledger[..len];
        if len >= sample.counted {
            sample.assert_discarded_from(entries, len, len % 8 == 0);
            continue;
        }
        fs::write(ledger_in(folder.path()), entries).unwrap();
        match assert_refused(folder.path(), &key(KEY)) {
            LedgerStoreError::Damaged { path, .. } => assert_eq!(path, ledger_in(folder.path())),
            LedgerStoreError::RolledBack { ledger, .. } => assert_eq!(ledger, ledger_in(folder.path())),
            other => panic!("{len} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_counter_with_one_other_byte_or_length_is_refused() {
    let sample = Sample::new();
    let flipped = (0..sample.counter.len()).flat_map(|at| {
        masks(at).map(|mask| {
            let mut counter = sample.counter.clone();
            counter[at] ^= mask;
            counter
        })
    });
    let cut = (0..sample.counter.len()).map(|len| sample.counter[..len].to_vec());
    let longer = [[&sample.counter[..], &[0]].concat(), sample.counter.repeat(2)];
    let folder = folder_with(Some(&sample.ledger), None);
    let empty = folder_with(None, None);
    for counter in flipped.chain(cut).chain(longer) {
        fs::write(counter_in(folder.path()), &counter).unwrap();
        match assert_refused(folder.path(), &key(KEY)) {
            LedgerStoreError::CounterDamaged { path, .. } => assert_eq!(path, counter_in(folder.path())),
            other => panic!("{other:?}"),
        }
        // Nor does a damaged counter make a new ledger.
        fs::write(counter_in(empty.path()), &counter).unwrap();
        assert!(matches!(assert_refused(empty.path(), &key(KEY)), LedgerStoreError::CounterDamaged { .. }));
    }
}

#[test]
fn an_older_copy_of_the_ledger_is_refused() {
    let folder = tempdir().unwrap();
    let mut ledger = open(folder.path());
    let mut copies = vec![fs::read(ledger_in(folder.path())).unwrap()];
    ledger.open_scope(scope(), terms(), NOW).unwrap();
    for round in 1..=3 {
        copies.push(fs::read(ledger_in(folder.path())).unwrap());
        reserve(&mut ledger, round);
    }
    drop(ledger);
    let (newest, counter) = read_both(folder.path());
    for older in copies {
        let folder = folder_with(Some(&older), Some(&counter));
        match assert_refused(folder.path(), &key(KEY)) {
            LedgerStoreError::RolledBack { ledger, counter, .. } => {
                assert_eq!((ledger, counter), (ledger_in(folder.path()), counter_in(folder.path())));
            }
            other => panic!("{other:?}"),
        }
        // The way out that the error names.
        fs::write(ledger_in(folder.path()), &newest).unwrap();
        assert_eq!(charged(&mut open(folder.path())), [1, 2, 3]);
    }
}

/// Restored in place, put in its place, gone or grown: nothing is written behind it, and nothing counted.
#[test]
fn entries_that_change_under_a_running_program_are_noticed() {
    type Change = fn(&Path, &[u8], &[u8]);
    let replace: Change = |path, older, _| {
        fs::write(path.with_extension("copy"), older).unwrap();
        fs::rename(path.with_extension("copy"), path).unwrap();
    };
    let changes: [(&str, Change, bool); 4] = [
        ("restored in place", |path, older, _| fs::write(path, older).unwrap(), true),
        ("replaced", replace, true),
        ("removed", |path, _, _| fs::remove_file(path).unwrap(), true),
        ("grown", |path, _, newest| fs::write(path, [newest, b"more"].concat()).unwrap(), false),
    ];
    for (name, change, fatal) in changes {
        let folder = tempdir().unwrap();
        let path = ledger_in(folder.path());
        let mut ledger = open(folder.path());
        ledger.open_scope(scope(), terms(), NOW).unwrap();
        reserve(&mut ledger, 1);
        let older = fs::read(&path).unwrap();
        reserve(&mut ledger, 2);
        let (newest, counter) = read_both(folder.path());

        change(&path, &older, &newest);
        let changed = fs::read(&path).ok();
        match ledger.reserve(ask(3), NOW) {
            Err(LedgerStoreError::Changed { path: named }) => assert_eq!(named, path, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!((fs::read(&path).ok(), fs::read(counter_in(folder.path())).unwrap()), (changed, counter), "{name}");
        if fatal {
            // Not only the first time.
            let again = ledger.reserve(ask(3), NOW).err().unwrap();
            let refused = matches!(again, LedgerStoreError::Changed { .. } | LedgerStoreError::RolledBack { .. });
            assert!(refused, "{name}: {again:?}");
            drop(ledger);
            // The way out that the documents name.
            fs::write(&path, &newest).unwrap();
            ledger = open(folder.path());
        }
        reserve(&mut ledger, 3);
        drop(ledger);
        assert_eq!(charged(&mut open(folder.path())), [1, 2, 3], "{name}");
    }
}

/// An older counter takes nothing away: entries that verify are kept.
#[test]
fn an_older_copy_of_the_counter_forgets_no_entry() {
    let folder = tempdir().unwrap();
    let mut ledger = open(folder.path());
    let mut counters = Vec::new();
    ledger.open_scope(scope(), terms(), NOW).unwrap();
    for round in 1..=3 {
        counters.push(fs::read(counter_in(folder.path())).unwrap());
        reserve(&mut ledger, round);
    }
    drop(ledger);
    let (entries, newest) = read_both(folder.path());
    for counter in counters {
        let folder = folder_with(Some(&entries), Some(&counter));
        assert_eq!(charged(&mut open(folder.path())), [1, 2, 3]);
        assert_eq!(read_both(folder.path()), (entries.clone(), newest.clone()));
    }
}

#[test]
fn a_missing_file_is_not_made_anew() {
    let sample = Sample::new();
    let folder = folder_with(Some(&sample.ledger), None);
    match assert_refused(folder.path(), &key(KEY)) {
        LedgerStoreError::CounterMissing { counter, ledger } => {
            assert_eq!((ledger, counter), (ledger_in(folder.path()), counter_in(folder.path())));
        }
        other => panic!("{other:?}"),
    }
    let folder = folder_with(None, Some(&sample.counter));
    match assert_refused(folder.path(), &key(KEY)) {
        LedgerStoreError::LedgerMissing { ledger, counter, entries: 3 } => {
            assert_eq!((ledger, counter), (ledger_in(folder.path()), counter_in(folder.path())));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_counter_of_another_ledger_is_refused() {
    let sample = Sample::new();
    // Under one key, with fewer entries, as many and more.
    for rounds in [0, 1, 2, 3, 4, 9] {
        let other = tempdir().unwrap();
        let mut ledger = open(other.path());
        ledger.open_scope(scope(), terms(), NOW).unwrap();
        for round in 1..=rounds {
            reserve(&mut ledger, 100 + round);
        }
        drop(ledger);
        // With the scope alone, both have come to the same.
        let same = rounds == 0;
        let counter = fs::read(counter_in(other.path())).unwrap();
        let folder = folder_with(Some(&sample.ledger), Some(&counter));
        if same {
            assert_eq!(charged(&mut open(folder.path())), [1, 2, 3, 4, 5]);
            continue;
        }
        match assert_refused(folder.path(), &key(KEY)) {
            LedgerStoreError::RolledBack { ledger, counter, .. } => {
                assert_eq!((ledger, counter), (ledger_in(folder.path()), counter_in(folder.path())));
            }
            other => panic!("{rounds} rounds: {other:?}"),
        }
    }
}

#[test]
fn another_key_is_refused() {
    let sample = Sample::new();
    let folder = folder_with(Some(&sample.ledger), Some(&sample.counter));
    let refused = assert_refused(folder.path(), &key(KEY + 1));
    assert!(matches!(refused, LedgerStoreError::CounterDamaged { .. }), "{refused:?}");
    assert!(refused.source().unwrap().to_string().contains("not the ledger's key"), "{refused:?}");
    assert_eq!(charged(&mut open(folder.path())), [1, 2, 3, 4, 5]);

    // A counter of this key, and entries of another one.
    let other = tempdir().unwrap();
    drop(SiteLedger::open(&ledger_in(other.path()), &counter_in(other.path()), key(KEY + 1)).unwrap());
    let (_, start) = read_both(other.path());
    let folder = folder_with(Some(&sample.ledger), Some(&start));
    let refused = assert_refused(folder.path(), &key(KEY + 1));
    assert!(matches!(refused, LedgerStoreError::Damaged { .. }), "{refused:?}");
}

#[test]
fn one_place_for_both_is_refused() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("one")).unwrap();
    let ledger = ledger_in(folder.path());
    for counter in [ledger.clone(), folder.path().join("one/../one/privacy")] {
        let refused = SiteLedger::open(&ledger, &counter, key(KEY)).err().unwrap();
        assert!(matches!(refused, LedgerStoreError::SamePlace { .. }), "{refused:?}");
    }
}

/// A folder with these files.
fn folder_with(ledger: Option<&[u8]>, counter: Option<&[u8]>) -> TempDir {
    let folder = tempdir().unwrap();
    for (path, bytes) in [(ledger_in(folder.path()), ledger), (counter_in(folder.path()), counter)] {
        fs::create_dir(path.parent().unwrap()).unwrap();
        if let Some(bytes) = bytes {
            fs::write(path, bytes).unwrap();
        }
    }
    folder
}

/// That it is refused, with files that nobody touches, and with an error that helps.
fn assert_refused(folder: &Path, key: &LedgerKey) -> LedgerStoreError {
    let files = || (fs::read(ledger_in(folder)).ok(), fs::read(counter_in(folder)).ok());
    let before = files();
    let (ledger, counter) = (ledger_in(folder), counter_in(folder));
    let error = unless_locked(|| match SiteLedger::open(&ledger, &counter, key.clone()) {
        Err(LedgerStoreError::Locked { .. }) => None,
        opened => Some(opened.err().expect("it was opened")),
    });
    assert!(files() == before, "{error:?}");
    let text = error.to_string();
    assert!([ledger, counter].iter().any(|path| text.contains(path.to_str().unwrap())), "{text}");
    assert!(text.contains("no task may go on; restore the newest intact copy"), "{text}");
    error
}

fn read_both(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    (fs::read(ledger_in(folder)).unwrap(), fs::read(counter_in(folder)).unwrap())
}

/// One bit, and all of them.
fn masks(at: usize) -> [u8; 2] {
    [1 << (at % 8), 0xff]
}
