//! What must hold in every storm, as functions named as sentences.

use crate::journal::Entry;
use sordino_wire::{
    Digest,
    api::{AttemptId, Release, Round},
};
use std::{fmt, fs, path::Path};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The sum holds the input of every survivor once, and nothing else: value by value what they wrote down, added up in the
/// clear.
pub(crate) fn the_sum_is_that_of_its_inputs(
    round: &Round,
    release: &Release,
    inputs: &Path,
    sum: &[u8],
) -> Result<usize, Violation> {
    if Digest::of(sum) != release.sum {
        return Err(Violation(format!("round {}: the sum is not the one that the Release names", round.id)));
    }
    let attempt = AttemptId { round: round.id.clone(), attempt: round.attempt };
    let violation = |what: &str| Violation(format!("round {}: {what}", attempt.round));
    let (released, []) = sum.as_chunks::<8>() else { return Err(violation("the sum ends in the middle of a value")) };
    let mut plain = vec![0i64; released.len()];
    for site in &release.survivors {
        let path = inputs.join(format!("{}.{}.{site}.i64", attempt.round.number, attempt.attempt));
        let input = fs::read(&path).map_err(|error| violation(&format!("{}: {error}", path.display())))?;
        let (input, rest) = input.as_chunks::<8>();
        if input.len() != plain.len() || !rest.is_empty() {
            return Err(violation(&format!("the input of {site} has another length than the sum")));
        }
        plain.iter_mut().zip(input).for_each(|(sum, value)| *sum = sum.wrapping_add(i64::from_le_bytes(*value)));
    }
    match plain.iter().zip(released).position(|(plain, released)| *plain != i64::from_le_bytes(*released)) {
        Some(at) => Err(violation(&format!("the sum is not exact, from value {at} on"))),
        None => Ok(plain.len()),
    }
}

/// Every survivor is of the cohort, counts once, and they are as many as the policy asks for.
pub(crate) fn the_survivors_are_enough_of_the_cohort(
    round: &Round,
    release: &Release,
    min: u32,
) -> Result<(), Violation> {
    let Release { cohort, survivors, .. } = release;
    let once = survivors.is_sorted_by(|one, next| one < next);
    if once && survivors.iter().all(|id| cohort.contains(id)) && survivors.len() >= min as usize {
        return Ok(());
    }
    Err(Violation(format!("round {}: the survivors are {survivors:?} of {cohort:?}, {min} are needed", round.id)))
}

/// A round begins with the model of the last Release: nothing is lost, and a failed round changes nothing.
pub(crate) fn the_model_follows_the_last_release(round: &Round, model: Digest) -> Result<(), Violation> {
    if round.model == model {
        return Ok(());
    }
    Err(Violation(format!("round {} began with model {}, the last Release has {model}", round.id, round.model)))
}

/// A failed round says why.
pub(crate) fn a_failure_has_a_reason(round: &Round) -> Result<(), Violation> {
    match round.failure.as_deref() {
        Some(reason) if !reason.trim().is_empty() => Ok(()),
        _ => Err(Violation(format!("round {} failed and does not say why", round.id))),
    }
}

/// What was published stays as it was, whatever is killed later.
pub(crate) fn what_has_ended_stays_as_it_was(before: &Round, now: &Round) -> Result<(), Violation> {
    if before == now {
        return Ok(());
    }
    Err(Violation(format!("round {} has changed after it ended: {before:?} became {now:?}", before.id)))
}

/// An error in a log means that somebody must act; a site that refuses an honest coordinator, or a panic, is a defect. A
/// round that failed is told as an error too, and is allowed to.
pub(crate) fn nobody_logged_an_error(who: &str, entry: &Entry) -> Result<(), Violation> {
    let bad = match entry {
        Entry::Event(_) => {
            let failed = entry.text("message").is_some_and(|message| message.starts_with("round failed"));
            entry.text("level") == Some("ERROR") && !failed
        }
        Entry::Text(line) => line.contains("panicked at") || line.starts_with("error: "),
    };
    if !bad {
        return Ok(());
    }
    let said = match entry {
        Entry::Event(fields) => serde_json::to_string(fields).unwrap_or_default(),
        Entry::Text(line) => line.clone(),
    };
    Err(Violation(format!("{who} logged {said}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use sordino_wire::api::RoundState;
    use std::collections::BTreeMap;

    fn round(survivors: &[&str], sum: &[u8]) -> Round {
        let ids = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let release = Release {
            model: Digest([2; 32]),
            sum: Digest::of(sum),
            ring_bits: 24,
            cohort: ids(&["site-0000", "site-0001", "site-0002", "site-0003"]),
            survivors: ids(survivors),
            dropouts: BTreeMap::new(),
            silent_survivors: BTreeMap::new(),
            weight: 3,
            metrics: BTreeMap::new(),
            input_bytes: 24,
            step_millis: Vec::new(),
            privacy: None,
            refused: BTreeMap::new(),
            proof: None,
            optimizer: None,
            convergence: None,
        };
        Round {
            id: "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7".parse().unwrap(),
            state: RoundState::Complete,
            attempt: 2,
            model: Digest([1; 32]),
            started_at: 0,
            ended_at: Some(1),
            failure: None,
            checks: Vec::new(),
            release: Some(release),
        }
    }

    /// Each checker is once shown to fail.
    #[test]
    fn what_does_not_hold_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for (number, values) in [(0, [1i64, 2]), (1, [10, 20]), (2, [100, 200])] {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.path().join(format!("7.2.site-000{number}.i64")), bytes).unwrap();
        }
        let sum = |values: [i64; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let three = ["site-0000", "site-0001", "site-0002"];
        let exact = |survivors: &[&str], sum: &[u8]| {
            let round = round(survivors, sum);
            the_sum_is_that_of_its_inputs(&round, round.release.as_ref().unwrap(), folder.path(), sum)
        };
        assert_eq!(exact(&three, &sum([111, 222])), Ok(2));
        assert!(exact(&three, &sum([111, 223])).unwrap_err().0.contains("from value 1 on"));
        assert!(exact(&three[..2], &sum([111, 222])).is_err(), "an input that is in the sum and not named");
        assert!(exact(&three, &sum([111, 222])[..8]).unwrap_err().0.contains("another length"));
        assert!(exact(&three, &sum([111, 222])[..15]).unwrap_err().0.contains("middle of a value"));
        assert!(exact(&["site-0000", "site-0003"], &sum([111, 222])).unwrap_err().0.contains("site-0003"));
        let other = round(&three, b"another sum");
        let release = other.release.as_ref().unwrap();
        assert!(the_sum_is_that_of_its_inputs(&other, release, folder.path(), &sum([111, 222])).is_err());

        let enough = |survivors: &[&str]| {
            let round = round(survivors, b"");
            the_survivors_are_enough_of_the_cohort(&round, round.release.as_ref().unwrap(), 3)
        };
        assert_eq!(enough(&three), Ok(()));
        assert!(enough(&three[..2]).is_err(), "too few");
        assert!(enough(&["site-0000", "site-0000", "site-0001"]).is_err(), "one counts twice");
        assert!(enough(&["site-0000", "site-0001", "site-0009"]).is_err(), "a stranger");

        let done = round(&three, b"");
        assert_eq!(the_model_follows_the_last_release(&done, Digest([1; 32])), Ok(()));
        assert!(the_model_follows_the_last_release(&done, Digest([9; 32])).is_err());
        assert_eq!(what_has_ended_stays_as_it_was(&done, &done.clone()), Ok(()));
        assert!(what_has_ended_stays_as_it_was(&done, &Round { attempt: 3, ..done.clone() }).is_err());
        assert!(a_failure_has_a_reason(&done).is_err());
        assert_eq!(a_failure_has_a_reason(&Round { failure: Some("too few".into()), ..done }), Ok(()));
    }

    #[test]
    fn errors_and_panics_are_found_in_logs() {
        let event = |level: &str, message: &str| {
            let json = serde_json::json!({ "level": level, "message": message });
            Entry::Event(json.as_object().unwrap().clone())
        };
        let text = |line: &str| Entry::Text(line.to_owned());
        for fine in [
            event("WARN", "left out"),
            event("ERROR", "round failed; the model stays as it was"),
            text("listening on 127.0.0.1:1"),
        ] {
            assert_eq!(nobody_logged_an_error("site-0000", &fine), Ok(()), "{fine:?}");
        }
        for bad in [
            event("ERROR", "refused: the coordinator was not believed"),
            text("thread 'main' panicked at crates/x.rs:1:2:"),
            text("error: the coordinator at https://localhost:1 cannot be reached"),
        ] {
            assert!(
                nobody_logged_an_error("site-0000", &bad).unwrap_err().0.starts_with("site-0000 logged"),
                "{bad:?}"
            );
        }
    }
}
