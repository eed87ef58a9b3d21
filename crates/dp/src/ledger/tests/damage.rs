//! What is wrong with a stored ledger is found, and says what it is.

use super::*;
use proptest::prelude::*;

/// A ledger with every kind of entry.
fn every_kind() -> World {
    let mut world = World::new(epsilon(10_000, DELTA), Some(epsilon(9_900, DELTA)));
    world.reserve_one(ask(1, 8000)).unwrap();
    world.reserve_one(ask(2, 1800)).unwrap();
    world.reserve_one(ask(3, 1000)).unwrap_err();
    world.commit(&id(1, 1)).unwrap();
    world.abort(&id(2, 1)).unwrap();
    world.reset(5.0);
    world.reserve_one(ask(4, 100)).unwrap();
    world
}

#[test]
fn every_kind_is_there_and_reads_back() {
    let world = every_kind();
    let mut kinds: Vec<_> = world.records().iter().map(std::mem::discriminant).collect();
    kinds.dedup();
    assert!(kinds.len() >= 7, "{:?}", world.records());
    for bytes in &world.entries {
        let entry = Entry::read(bytes).unwrap();
        assert_eq!(entry.at, NOW);
        assert_eq!(entry.encode(), bytes[..bytes.len() - 32], "one encoding only");
    }
}

/// Each bit of each entry, one at a time.
#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let world = every_kind();
    for at in 0..world.entries.len() {
        for bit in 0..world.entries[at].len() * 8 {
            let mut entries = world.entries.clone();
            entries[at][bit / 8] ^= 1 << (bit % 8);
            match open(&entries, world.counter) {
                Err(LedgerError::Damaged { at: found, .. }) => assert_eq!(found, at as u64),
                Err(other) => panic!("entry {at}, bit {bit}: {other}"),
                Ok(_) => panic!("entry {at}, bit {bit} went unnoticed"),
            }
        }
    }
}

#[test]
fn an_entry_cut_short_anywhere_is_refused() {
    let world = every_kind();
    for at in 0..world.entries.len() {
        for len in 0..world.entries[at].len() {
            let mut entries = world.entries.clone();
            entries[at].truncate(len);
            assert!(matches!(open(&entries, world.counter), Err(LedgerError::Damaged { .. })), "{at} {len}");
        }
    }
}

#[test]
fn entries_out_of_place_are_refused() {
    let world = every_kind();
    let n = world.entries.len();
    for at in 0..n - 1 {
        let mut swapped = world.entries.clone();
        swapped.swap(at, at + 1);
        assert!(matches!(
            open(&swapped, world.counter),
            Err(LedgerError::Damaged { damage: Damage::Place { .. }, .. })
        ));
        let mut missing = world.entries.clone();
        missing.remove(at);
        assert!(matches!(open(&missing, world.counter), Err(LedgerError::Damaged { .. })));
        let mut twice = world.entries.clone();
        twice.insert(at, world.entries[at].clone());
        assert!(matches!(open(&twice, world.counter), Err(LedgerError::Damaged { .. })));
    }
}

#[test]
fn an_older_copy_is_noticed_at_every_length() {
    let world = every_kind();
    for len in 0..world.entries.len() {
        match open(&world.entries[..len], world.counter) {
            Err(LedgerError::RolledBack { entries, counter }) => {
                assert_eq!((entries, counter), (len as u64, world.counter.entries));
            }
            other => panic!("{len}: {:?}", other.map(|_| ())),
        }
    }
}

/// The same key, the same length, another history: two programs wrote, or two ledgers were mixed up.
#[test]
fn another_history_is_noticed() {
    let mut world = seven_rounds();
    world.reserve_one(ask(1, 1000)).unwrap();
    let (shared, counter) = (world.entries.clone(), world.counter);
    world.reserve_one(ask(2, 5000)).unwrap();
    // A second program that started from the same state.
    let (ledger, _) = open(&shared, counter).unwrap();
    let mut second = World { entries: shared.clone(), counter, ledger };
    second.reserve_one(ask(2, 1)).unwrap();
    assert_eq!(second.entries.len(), world.entries.len() - 1, "without the warning");
    second.reserve_one(ask(3, 1)).unwrap();
    assert!(matches!(open(&second.entries, world.counter), Err(LedgerError::Forked { .. })));
    // Entries of both do not chain, even where the number fits.
    let last = world.entries.len() - 1;
    let mut mixed = world.entries.clone();
    mixed[last] = second.entries[last].clone();
    assert!(matches!(open(&mixed, world.counter), Err(LedgerError::Damaged { damage: Damage::Chain, .. })));
    // Its staged entries do not fit the counter that moved meanwhile.
    assert_ne!(second.ledger.reserve(vec![ask(9, 1)], NOW).unwrap().before(), world.counter);
}

#[test]
fn another_key_opens_nothing() {
    let world = every_kind();
    let got = Ledger::<Zcdp>::open(&world.entries, world.counter, key(8));
    assert!(matches!(got, Err(LedgerError::Damaged { at: 0, damage: Damage::Code })));
}

#[test]
fn a_counter_of_another_ledger_fits_none() {
    let counter = Counter { entries: 0, head: [1; 32] };
    assert!(matches!(open(&[], counter), Err(LedgerError::Forked { .. })));
    let (_, recovered) = open(&[], Counter::start()).unwrap();
    assert_eq!(recovered, Recovered { counter: Counter::start(), discarded: None });
}

/// Written but not counted: kept if whole, dropped if cut short, refused if something follows.
#[test]
fn what_was_not_acknowledged_is_kept_or_dropped() {
    let mut world = seven_rounds();
    world.reserve_one(ask(1, 1000)).unwrap();
    let counter = world.counter;
    world.reserve(vec![ask(2, 1000), ask(3, 1000)]);

    let (ledger, recovered) = open(&world.entries, counter).unwrap();
    assert_eq!(recovered, Recovered { counter: world.counter, discarded: None });
    assert_eq!(ledger.spent(&scope("v1")).unwrap().unwrap().spent, epsilon(3000, DELTA));

    let last = world.entries.len() - 1;
    let mut torn = world.entries.clone();
    torn[last].truncate(40);
    let (ledger, recovered) = open(&torn, counter).unwrap();
    assert_eq!(recovered.counter.entries, last as u64);
    assert!(recovered.discarded.is_some());
    assert_eq!(ledger.spent(&scope("v1")).unwrap().unwrap().spent, epsilon(2000, DELTA));

    torn.push(world.entries[last].clone());
    assert!(matches!(open(&torn, counter), Err(LedgerError::Damaged { .. })));
}

#[test]
fn a_plain_file_comes_apart_as_it_was_put_together() {
    let world = every_kind();
    let file: Vec<u8> = world.entries.iter().flat_map(|entry| frame(entry)).collect();
    assert_eq!(split(&file), world.entries);
    for cut in 0..file.len() {
        let entries = split(&file[..cut]);
        // Everything was acknowledged, so nothing may be missing.
        let got = Ledger::<Zcdp>::open(&entries, world.counter, key(7));
        assert!(matches!(got, Err(LedgerError::Damaged { .. } | LedgerError::RolledBack { .. })), "{cut}");
        // Nothing was acknowledged, so what is whole is kept.
        let (ledger, recovered) = Ledger::<Zcdp>::open(&entries, Counter::start(), key(7)).unwrap();
        let whole = recovered.counter.entries as usize;
        assert_eq!(entries.len() - whole, usize::from(recovered.discarded.is_some()));
        assert_eq!(entries[..whole], world.entries[..whole]);
        drop(ledger);
    }
}

proptest! {
    /// No bytes make the reader panic, and what it reads has one encoding.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Entry::read(&bytes);
    }

    #[test]
    fn any_change_of_an_entry_is_read_or_refused(at in 0_usize..11, position in any::<usize>(), value in any::<u8>()) {
        let world = every_kind();
        let mut bytes = world.entries[at % world.entries.len()].clone();
        let position = position % bytes.len();
        bytes[position] = value;
        if let Ok(entry) = Entry::read(&bytes) {
            prop_assert_eq!(entry.encode(), &bytes[..bytes.len() - 32]);
        }
    }
}

/// Each bit of a counter, each length, and the key.
#[test]
fn a_counter_reads_back_and_nothing_else_does() {
    let counter = every_kind().counter;
    let bytes = counter.to_bytes(&key(7));
    assert_eq!(Counter::from_bytes(&bytes, &key(7)), Ok(counter));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Counter::from_bytes(&flipped, &key(7)), Err(Damage::Code), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert_eq!(Counter::from_bytes(&bytes[..len], &key(7)), Err(Damage::Code), "{len} bytes");
    }
    assert_eq!(Counter::from_bytes(&[&bytes[..], &[0]].concat(), &key(7)), Err(Damage::Code));
    assert_eq!(Counter::from_bytes(&bytes, &key(8)), Err(Damage::Code));
    // An entry is no counter, although its code is of the same key.
    let entry = &every_kind().entries[0];
    assert!(matches!(Counter::from_bytes(entry, &key(7)), Err(Damage::Malformed(_))));
}
