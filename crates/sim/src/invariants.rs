//! What must hold after every event, whatever breaks.

use crate::adversary::SUMS_MAX;
use crate::history::{Check, History, Position, Release};
use sordino_codec::RingVector;
use sordino_secagg::{Dispute, Disputes, ParticipantId, Step};
use std::collections::{BTreeMap, BTreeSet};

/// A sentence that must be true, and what makes it false if it is not.
pub type Invariant = (&'static str, fn(&History) -> Result<(), String>);

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub why: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.invariant, self.why)
    }
}

/// All of them.
pub const INVARIANTS: &[Invariant] = &[
    ("a_release_is_exactly_the_sum_of_the_survivors_inputs", a_release_is_exactly_the_sum_of_the_survivors_inputs),
    ("every_survivor_has_proved_its_input", every_survivor_has_proved_its_input),
    ("the_self_mask_over_a_bad_proof_stays_closed", the_self_mask_over_a_bad_proof_stays_closed),
    ("whoever_proves_badly_stays_named", whoever_proves_badly_stays_named),
    ("a_sum_opens_if_it_is_what_was_committed_to", a_sum_opens_if_it_is_what_was_committed_to),
    ("no_sum_is_released_that_does_not_open", no_sum_is_released_that_does_not_open),
    ("nobody_commits_twice", nobody_commits_twice),
    ("a_round_releases_one_sum", a_round_releases_one_sum),
    ("nobody_helps_to_open_too_many_sums", nobody_helps_to_open_too_many_sums),
    ("no_sum_of_fewer_than_the_minimum", no_sum_of_fewer_than_the_minimum),
    ("a_participant_says_one_thing_per_step", a_participant_says_one_thing_per_step),
    ("nobody_reveals_both_secrets_of_a_neighbour", nobody_reveals_both_secrets_of_a_neighbour),
    ("the_coordinator_never_goes_back_a_step", the_coordinator_never_goes_back_a_step),
    ("survivors_never_change_once_announced", survivors_never_change_once_announced),
    ("accepted_messages_survive_a_crash", accepted_messages_survive_a_crash),
    ("a_refused_message_changes_nothing", a_refused_message_changes_nothing),
    ("nobody_honest_is_blamed", nobody_honest_is_blamed),
    ("every_dispute_has_a_corrupt_side_and_ends_one_attempt", every_dispute_has_a_corrupt_side_and_ends_one_attempt),
    ("no_two_secrets_of_one_participant_can_be_computed", no_two_secrets_of_one_participant_can_be_computed),
    ("what_can_be_unmasked_is_one_sum_of_enough_inputs", what_can_be_unmasked_is_one_sum_of_enough_inputs),
    ("lies_are_answered_as_they_should_be", lies_are_answered_as_they_should_be),
    ("every_attempt_ends", every_attempt_ends),
];

/// Every release is the plain sum of the inputs of those it names, integer for integer; of a corrupt one that proved its
/// input, of what it committed to.
///
/// # Errors
/// The first integer that differs.
pub fn a_release_is_exactly_the_sum_of_the_survivors_inputs(history: &History) -> Result<(), String> {
    for Release { attempt, survivors, sum } in &history.releases {
        let mut expected = RingVector::zeros(sum.len(), sum.bits());
        for survivor in survivors {
            let proven = history.proofs.as_ref().and_then(|proofs| proofs.good(survivor, *attempt));
            let proven = proven.filter(|_| history.knowledge.corrupt.contains(survivor)).map(|made| &made.committed);
            let input = proven.or(history.inputs.get(survivor)).ok_or_else(|| format!("{survivor} has no input"))?;
            expected.add_assign(input).map_err(|error| error.to_string())?;
        }
        let integers = history.proofs.as_ref().map_or(sum.len(), |proofs| proofs.integers);
        if let Some(at) = (0..integers).find(|&at| expected.get(at) != sum.get(at)) {
            let (got, want) = (sum.get(at), expected.get(at));
            return Err(format!("attempt {attempt}: value {at} is {got:?}, the inputs sum to {want:?}"));
        }
    }
    Ok(())
}

/// Where inputs carry proofs, whoever is a survivor, or has only a receipt for its input, has sent a good proof of what it
/// committed to when it shared its keys, its own and of this attempt.
///
/// # Errors
/// Whose proof was bad.
pub fn every_survivor_has_proved_its_input(history: &History) -> Result<(), String> {
    let Some(proofs) = &history.proofs else { return Ok(()) };
    let lists = history.survivors.iter().flat_map(|(attempt, lists)| lists.iter().map(move |list| (*attempt, list)));
    let survivors = lists.flat_map(|(attempt, list)| list.iter().map(move |id| (attempt, id)));
    let inputs = history.receipted.iter().filter(|(.., step)| *step == Step::MaskedInput);
    let mut counted = survivors.chain(inputs.map(|(attempt, id, _)| (*attempt, id)));
    match counted.find(|(attempt, id)| proofs.good(id, *attempt).is_none()) {
        Some((attempt, id)) => Err(format!("the input of {id} counts in attempt {attempt}, and it proved nothing")),
        None => Ok(()),
    }
}

/// Nobody honest reveals a share of the self-mask seed of a participant whose proof is bad: its input stays masked.
///
/// # Errors
/// Who revealed whose.
pub fn the_self_mask_over_a_bad_proof_stays_closed(history: &History) -> Result<(), String> {
    let Some(proofs) = &history.proofs else { return Ok(()) };
    let honest = history.revealed.iter().filter(|((id, ..), _)| !history.knowledge.corrupt.contains(id));
    for ((holder, attempt, place), _) in honest.filter(|(_, roles)| roles.contains(&SELF_SEED)) {
        let dealer = proofs.places.get(&(*attempt, *place));
        if let Some(dealer) = dealer.filter(|dealer| proofs.good(dealer, *attempt).is_none()) {
            return Err(format!("{holder} revealed a share of the self mask of {dealer} in attempt {attempt}"));
        }
    }
    Ok(())
}

/// Who was told once that its proof is bad is known for it as long as the attempt lasts, through restarts too.
///
/// # Errors
/// Who is forgotten.
pub fn whoever_proves_badly_stays_named(history: &History) -> Result<(), String> {
    let (attempt, named) = &history.named;
    match history.refused_inputs.iter().find(|(of, id)| of == attempt && !named.contains(id)) {
        Some((_, id)) => Err(format!("nobody knows any more that the proof of {id} is bad in attempt {attempt}")),
        None => Ok(()),
    }
}

/// A sum opens what its survivors committed to if it is the sum of that, blindings and all, and else it does not: with
/// somebody among them who masked another input it opens only where others make good for it.
///
/// # Errors
/// The sum that was taken for another one than it is.
pub fn a_sum_opens_if_it_is_what_was_committed_to(history: &History) -> Result<(), String> {
    let Some(proofs) = &history.proofs else { return Ok(()) };
    for Check { attempt, survivors, opens } in &history.checks {
        // Who proved nothing is named by another invariant.
        let made: Vec<_> = survivors.iter().filter_map(|id| proofs.good(id, *attempt)).collect();
        let Some(first) = made.first().filter(|_| made.len() == survivors.len()) else { continue };
        let zeros = || RingVector::zeros(first.sent.len(), first.sent.bits());
        let (mut committed, mut sent) = (zeros(), zeros());
        for made in made {
            let added = committed.add_assign(&made.committed).and_then(|()| sent.add_assign(&made.sent));
            added.map_err(|error| error.to_string())?;
        }
        if *opens != (committed == sent) {
            let is = if *opens { "opens, and is not what was" } else { "does not open, and is what was" };
            return Err(format!("the sum of attempt {attempt} {is} committed to"));
        }
    }
    Ok(())
}

/// Where inputs carry proofs, sums are released that were compared with what was committed to, and no others.
///
/// # Errors
/// The attempt whose sum was not.
pub fn no_sum_is_released_that_does_not_open(history: &History) -> Result<(), String> {
    let opens = |release: &&Release| {
        let mut of_it = history.checks.iter().filter(|check| check.attempt == release.attempt);
        of_it.any(|check| check.opens && check.survivors == release.survivors)
    };
    match history.releases.iter().filter(|_| history.proofs.is_some()).find(|release| !opens(release)) {
        Some(release) => Err(format!("the sum of attempt {} was released and does not open", release.attempt)),
        None => Ok(()),
    }
}

/// An honest participant commits to one input in an attempt, through restarts too, and draws all that blinds it anew for
/// each attempt.
///
/// # Errors
/// Who committed twice, or with what it had used.
pub fn nobody_commits_twice(history: &History) -> Result<(), String> {
    history.proofs.as_ref().and_then(|proofs| proofs.repeated.clone()).map_or(Ok(()), Err)
}

/// A round ends with one sum, however often the coordinator has to open it; unless it wants more, and then participants
/// set the limit.
///
/// # Errors
/// Two releases that differ.
pub fn a_round_releases_one_sum(history: &History) -> Result<(), String> {
    let Some(first) = history.releases.first().filter(|_| !history.reruns) else { return Ok(()) };
    let differs = |other: &&Release| {
        other.attempt != first.attempt || other.survivors != first.survivors || other.sum != first.sum
    };
    match history.releases.iter().find(differs) {
        Some(other) => Err(format!("attempts {} and {} released different sums", first.attempt, other.attempt)),
        None => Ok(()),
    }
}

/// An honest participant helps to open so many sums over one model, and no more, whatever the coordinator begins.
///
/// # Errors
/// Who helped more often.
pub fn nobody_helps_to_open_too_many_sums(history: &History) -> Result<(), String> {
    let mut attempts: BTreeMap<&ParticipantId, BTreeSet<u32>> = BTreeMap::new();
    let honest = history.said.keys().filter(|(id, ..)| !history.knowledge.corrupt.contains(id));
    for (id, attempt, _) in honest.filter(|(.., step)| *step == Step::Unmasking) {
        attempts.entry(id).or_default().insert(*attempt);
    }
    match attempts.into_iter().find(|(_, attempts)| attempts.len() > SUMS_MAX as usize) {
        Some((id, attempts)) => Err(format!("{id} revealed shares in {attempts:?}, {SUMS_MAX} attempts are enough")),
        None => Ok(()),
    }
}

/// A release holds at least as many inputs as the policy asks for.
///
/// # Errors
/// The release that holds fewer.
pub fn no_sum_of_fewer_than_the_minimum(history: &History) -> Result<(), String> {
    let min = history.min_survivors as usize;
    match history.releases.iter().find(|release| release.survivors.len() < min) {
        Some(release) => Err(format!("a sum of {} inputs, the policy asks for {min}", release.survivors.len())),
        None => Ok(()),
    }
}

/// All that an honest participant ever sends in a step of an attempt is one message, if often.
///
/// # Errors
/// Who said two things, and where.
pub fn a_participant_says_one_thing_per_step(history: &History) -> Result<(), String> {
    let honest = |id: &ParticipantId| !history.knowledge.corrupt.contains(id);
    match history.said.iter().find(|((id, ..), messages)| honest(id) && messages.len() > 1) {
        Some(((id, attempt, step), messages)) => {
            Err(format!("{id} said {} things in {step} of attempt {attempt}", messages.len()))
        }
        None => Ok(()),
    }
}

/// A share of the root or a share of the self-mask seed of a neighbour leaves an honest holder, never both.
///
/// # Errors
/// Who revealed both of whom.
pub fn nobody_reveals_both_secrets_of_a_neighbour(history: &History) -> Result<(), String> {
    let honest = |id: &ParticipantId| !history.knowledge.corrupt.contains(id);
    match history.revealed.iter().find(|((id, ..), roles)| honest(id) && roles.len() > 1) {
        Some(((holder, attempt, dealer), _)) => {
            Err(format!("{holder} revealed shares of both secrets of place {dealer} in attempt {attempt}"))
        }
        None => Ok(()),
    }
}

/// Steps and attempts only go forward, through restarts too.
///
/// # Errors
/// From where to where it went back.
pub fn the_coordinator_never_goes_back_a_step(history: &History) -> Result<(), String> {
    match history.positions.windows(2).find(|pair| pair[0] > pair[1]) {
        Some(pair) => Err(format!("it stood at {:?} and then at {:?}", pair[0], pair[1])),
        None => Ok(()),
    }
}

/// Once MaskedInput is closed, the list of survivors stands.
///
/// # Errors
/// The attempt that had two.
pub fn survivors_never_change_once_announced(history: &History) -> Result<(), String> {
    match history.survivors.iter().find(|(_, lists)| lists.len() > 1) {
        Some((attempt, lists)) => Err(format!("{} different lists in attempt {attempt}", lists.len())),
        None => Ok(()),
    }
}

/// Whoever has a receipt is heard, and the journal is understood by whoever reads it.
///
/// # Errors
/// Whose message is lost.
pub fn accepted_messages_survive_a_crash(history: &History) -> Result<(), String> {
    if let Some(complaint) = history.complaints.first() {
        return Err(complaint.clone());
    }
    let Some((attempt, heard)) = &history.heard else { return Ok(()) };
    let lost = history.receipted.iter().filter(|(of, _, _)| of == attempt).find(|(_, id, step)| {
        // A step that `heard` names covers the ones before it.
        heard.get(id).copied().flatten() < Some(*step)
    });
    match lost {
        Some((_, id, step)) => {
            Err(format!("{id} has a receipt for {step}, the coordinator knows of {:?}", heard.get(id)))
        }
        None => Ok(()),
    }
}

/// A message that was rejected, and one that had been accepted before, leave no trace.
///
/// # Errors
/// What it changed.
pub fn a_refused_message_changes_nothing(history: &History) -> Result<(), String> {
    match &history.refused {
        Some(refused) if refused.before != refused.after => {
            Err(format!("a message of {} made {:?} out of {:?}", refused.from, refused.after, refused.before))
        }
        _ => Ok(()),
    }
}

/// Nobody is left out of the next attempt for what the network or somebody's crash did.
///
/// A coordinator that hears its own lies come back may blame anybody: this holds where messages to participants arrive as
/// an honest one sent them.
///
/// # Errors
/// Who was blamed.
pub fn nobody_honest_is_blamed(history: &History) -> Result<(), String> {
    let honest = history.blamed.iter().find(|id| !history.knowledge.corrupt.contains(*id));
    match honest.filter(|_| history.arrives_whole) {
        Some(id) => Err(format!("{id} is blamed for the end of an attempt, or for its proof")),
        None => Ok(()),
    }
}

/// No two honest participants are in dispute, so nobody honest is in dispute with more than may be corrupt; and an attempt
/// that ends over disputes brings one that was not known before, so that rounds come to an end.
///
/// # Errors
/// The dispute, whoever is taken for guilty, or the attempt that ended over what was known.
pub fn every_dispute_has_a_corrupt_side_and_ends_one_attempt(history: &History) -> Result<(), String> {
    let corrupt = &history.knowledge.corrupt;
    let mut known: BTreeSet<&Dispute> = BTreeSet::new();
    for (attempt, (disputes, ended_over_them)) in &history.disputes {
        let honest = |Dispute { dealer, holder }: &&Dispute| !corrupt.contains(dealer) && !corrupt.contains(holder);
        if let Some(dispute) = disputes.iter().find(honest) {
            return Err(format!("both are honest in attempt {attempt}: {dispute:?}"));
        }
        let before = known.len();
        known.extend(disputes);
        if *ended_over_them && known.len() == before {
            return Err(format!("attempt {attempt} ended over disputes that were known: {disputes:?}"));
        }
    }
    let all: Disputes = known.into_iter().cloned().collect();
    let guilty = all.guilty(history.max_corrupt).into_iter().find(|id| !corrupt.contains(id)).map(|id| id.to_string());
    guilty.map_or(Ok(()), |id| Err(format!("{id} is honest, and in dispute with more than may be corrupt")))
}

/// Coordinator and corrupt participants, with all that they saw and hold, never have a threshold of shares of both the
/// root and the self-mask seed of one honest participant.
///
/// # Errors
/// Whose.
pub fn no_two_secrets_of_one_participant_can_be_computed(history: &History) -> Result<(), String> {
    history.knowledge.keeps_secrets_apart()
}

/// The inputs that coordinator and corrupt participants can unmask, with all that they saw and hold, are in each attempt
/// one sum at most, over as many inputs as the policy asks for.
///
/// # Errors
/// Whose inputs come off otherwise.
pub fn what_can_be_unmasked_is_one_sum_of_enough_inputs(history: &History) -> Result<(), String> {
    history.knowledge.is_one_sum()
}

/// Each lie is refused by the participant that it was told, for its own reason; or believed, where it does no harm.
///
/// # Errors
/// The lie, and what became of it.
pub fn lies_are_answered_as_they_should_be(history: &History) -> Result<(), String> {
    history.surprises.first().cloned().map_or(Ok(()), Err)
}

/// An attempt is over at its deadline, counted from the last restart of the coordinator; and at the end none is open.
///
/// # Errors
/// The attempt that goes on.
pub fn every_attempt_ends(history: &History) -> Result<(), String> {
    if let Some((attempt, until)) = history.open_attempt
        && history.now > until
    {
        return Err(format!("attempt {attempt} is open at {} ms, it had to end by {until} ms", history.now));
    }
    let open = history.began.difference(&history.ended).next().filter(|_| history.is_over);
    let backwards = history.positions.last().filter(|(_, position)| history.is_over && *position != Position::Ended);
    match (open, backwards) {
        (Some(attempt), _) => Err(format!("nothing happens any more and attempt {attempt} is open")),
        (None, Some(last)) => Err(format!("nothing happens any more and the coordinator stands at {last:?}")),
        (None, None) => Ok(()),
    }
}

/// A share of the self-mask seed, in a message that reveals it.
const SELF_SEED: u8 = 1;
