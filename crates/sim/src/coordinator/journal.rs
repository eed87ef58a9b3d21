//! What a coordinator writes down, and what it makes of that after a crash.

use crate::history::History;
use crate::sabotage::Sabotage;
use sordino_secagg::coordinator::{Abort, Coordinator, Millis, Payload, PayloadHasher, Receipt, RunningSum};
use sordino_secagg::{ParticipantId, Step};
use std::collections::BTreeMap;

/// Something that the core was told.
#[derive(Clone)]
pub(super) enum Entry {
    Message { step: Step, from: ParticipantId, bytes: Vec<u8>, at: Millis },
    Input { from: ParticipantId, header: Vec<u8>, at: Millis },
    RefusedInput { from: ParticipantId, at: Millis },
    Closed { at: Millis },
    RosterSigned { signature: [u8; 64], at: Millis },
    SurvivorsSigned { signature: [u8; 64], at: Millis },
}

/// Tells the core what it was told before.
pub(super) fn replay(
    mut core: Coordinator,
    entry: &Entry,
    spool: &BTreeMap<ParticipantId, Vec<u8>>,
    history: &mut History,
) -> Result<Coordinator, Abort> {
    let outcome = match entry {
        Entry::Message { step, from, bytes, at } => core.message(*step, from, bytes, *at),
        Entry::Input { from, header, at } => core.input(from, header, &hash(core.hasher(), &spool[from]), *at),
        Entry::RefusedInput { from, at } => core.refuse_input(from, *at).map(|()| Receipt::Accepted),
        Entry::Closed { at } => return core.close(*at),
        Entry::RosterSigned { signature, at } => return Ok(core.roster_signed(*signature, *at)),
        Entry::SurvivorsSigned { signature, at } => return Ok(core.survivors_signed(*signature, *at)),
    };
    if outcome != Ok(Receipt::Accepted) {
        history.complaints.push(format!("an entry of the journal is answered with {outcome:?}"));
    }
    Ok(core)
}

fn forget_survivor(journal: &mut Vec<Entry>) {
    let first = journal.iter().position(|entry| matches!(entry, Entry::Input { .. }));
    let is_closed = journal.iter().filter(|entry| matches!(entry, Entry::Closed { .. })).count() >= CLOSED_WITH_INPUTS;
    if let (Some(first), true) = (first, is_closed) {
        journal.remove(first);
    }
}

/// AdvertiseKeys, ShareKeys, MaskedInput.
const CLOSED_WITH_INPUTS: usize = 3;

/// Adds a payload to the sum, in pieces, as they come from a disk.
pub(super) fn add(sum: &mut RunningSum, from: &ParticipantId, upload: &[u8]) {
    let mut adder = sum.begin(from).expect("an input enters the sum once");
    for piece in upload.chunks(PIECE) {
        adder.push(piece).expect("the length was checked");
    }
    adder.finish().expect("length and padding were checked");
}

/// Bytes of a piece; no multiple of anything.
const PIECE: usize = 61;

/// Reads a payload to its end.
pub(super) fn hash(mut hasher: PayloadHasher, upload: &[u8]) -> Payload {
    upload.chunks(PIECE).for_each(|piece| hasher.update(piece));
    hasher.finish()
}

/// What sabotage does to a journal before it is read.
pub(super) fn damage(journal: &mut Vec<Entry>, sabotage: Option<Sabotage>) {
    let told =
        |entry: &Entry| matches!(entry, Entry::Message { .. } | Entry::Input { .. } | Entry::RefusedInput { .. });
    match sabotage {
        Some(Sabotage::JournalLosesMessages) => {
            let last = journal.iter().rposition(|entry| !told(entry)).map_or(0, |at| at + 1);
            journal.truncate(last);
        }
        Some(Sabotage::JournalLosesClosings) => {
            if let Some(last) = journal.iter().rposition(|entry| matches!(entry, Entry::Closed { .. })) {
                journal.truncate(last);
            }
        }
        Some(Sabotage::SurvivorsChange) => forget_survivor(journal),
        Some(Sabotage::RefusalsAreForgotten) => {
            journal.retain(|entry| !matches!(entry, Entry::RefusedInput { .. }));
        }
        _ => {}
    }
}
