//! What a participant's own memory does against differencing: two sums over one model, whose cohorts differ in one
//! participant, tell that one's input by their difference. No single attempt shows it. So each participant counts the
//! attempts in which it has revealed shares, and stops: by model, whatever task, round or attempt they were said to be,
//! and by round, whatever model came with them.
//!
//! A model that was changed by a hair counts as another one, and nobody can tell it from the next round's. But it needs
//! a round of its own, and the rounds of a task only go up here. So this participant helps to open at most R times the
//! limit of sums of a task of R rounds, whatever its coordinator does.
//!
//! It bounds helping, not being in a sum. Once its masked input is out, t of its neighbours open a sum without it: who is
//! cut off at that point, and asked again, is bounded by what its neighbours reveal. And sums of different rounds can
//! be compared. What hides a difference is noise.

use super::{Counted, Refusal};
use crate::canonical::{Malformed, Reader, Writer};
use crate::context::{Context, ContextDigest, NAME_MAX};
use crate::merkle::Hash;
use std::collections::BTreeSet;

/// The attempts in which this participant has revealed shares, as far back as they matter.
///
/// At most [`EXPOSURE_MODELS_MAX`] models and [`EXPOSURE_TASKS_MAX`] tasks are remembered, those over which shares were
/// revealed last. Of a task its newest round is kept: no older one is ever taken part in again. Who can make this
/// participant take part in so many tasks, or rounds, that the oldest are forgotten, has been given that many sums
/// already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// By digest of the model; that of the newest attempt stands last.
    models: Vec<(Hash, Sums)>,
    /// By task, the newest round; that of the newest attempt stands last.
    rounds: Vec<(String, u64, Sums)>,
}

/// An attempt, as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Reveal<'a> {
    /// Its task.
    pub task: &'a str,
    /// Its round.
    pub round: u64,
    /// SHA-256 of the model it is about.
    pub model: &'a [u8; 32],
    /// The attempt itself.
    pub attempt: ContextDigest,
}

impl<'a> From<&'a Context> for Reveal<'a> {
    fn from(context: &'a Context) -> Self {
        Self { task: &context.task, round: context.round, model: &context.model, attempt: context.digest() }
    }
}

impl Exposure {
    /// Whether this participant takes part in an attempt, if it reveals shares in at most `max` attempts over one
    /// model, and in at most `max` of one round. One that it has revealed shares in goes on: it says the same again.
    ///
    /// # Errors
    /// [`Refusal::TooManySums`], or [`Refusal::RoundIsOver`] for a round before one that shares were revealed in.
    pub fn check(&self, reveal: Reveal<'_>, max: u32) -> Result<(), Refusal> {
        let none = Sums::default();
        let (newest, of_round) = match self.rounds.iter().find(|(task, ..)| task == reveal.task) {
            Some((_, newest, _)) if *newest > reveal.round => {
                return Err(Refusal::RoundIsOver { round: reveal.round, newest: *newest });
            }
            Some((_, newest, sums)) if *newest == reveal.round => (*newest, sums),
            _ => (reveal.round, &none),
        };
        of_round.check(Counted::Round(newest), &reveal.attempt, max)?;
        let of_model = self.models.iter().find(|(model, _)| model == reveal.model).map_or(&none, |(_, sums)| sums);
        of_model.check(Counted::Model, &reveal.attempt, max)
    }

    /// Notes that shares are revealed in an attempt that was checked: to be stored before they are sent.
    pub fn note(&mut self, reveal: Reveal<'_>) {
        let mut of_model =
            take(&mut self.models, |(model, _)| model == reveal.model).map_or_else(Sums::default, |(_, sums)| sums);
        of_model.note(&reveal.attempt);
        self.models.push((*reveal.model, of_model));
        let mut of_round = match take(&mut self.rounds, |(task, ..)| task == reveal.task) {
            Some((_, round, sums)) if round >= reveal.round => (round, sums),
            _ => (reveal.round, Sums::default()),
        };
        of_round.1.note(&reveal.attempt);
        self.rounds.push((reveal.task.to_owned(), of_round.0, of_round.1));
        self.models.drain(..self.models.len().saturating_sub(EXPOSURE_MODELS_MAX));
        self.rounds.drain(..self.rounds.len().saturating_sub(EXPOSURE_TASKS_MAX));
    }

    /// To be stored. It is no secret; whoever stores it makes sure that a change of it is noticed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(FORMAT).count(self.models.len());
        for (model, sums) in &self.models {
            sums.write(out.raw(model));
        }
        out.count(self.rounds.len());
        for (task, round, sums) in &self.rounds {
            sums.write(out.bytes(task.as_bytes()).u64(*round));
        }
        out.finish()
    }

    /// From what was stored of it.
    ///
    /// # Errors
    /// [`Malformed`]: [`Exposure::to_bytes`] never wrote that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let got = input.u16("exposure version")?;
        if got != FORMAT {
            return Err(Malformed::Version { got, expected: FORMAT });
        }
        let models = (0..input.count(EXPOSURE_MODELS_MAX, 32, "models")?)
            .map(|_| Ok((input.hash("model")?, Sums::read(&mut input)?)))
            .collect::<Result<Vec<_>, Malformed>>()?;
        let rounds = (0..input.count(EXPOSURE_TASKS_MAX, 4, "tasks")?)
            .map(|_| {
                let task = std::str::from_utf8(input.bytes(NAME_MAX, "task")?);
                let task = task.map_err(|_| Malformed::Value { field: "task" })?.to_owned();
                Ok((task, input.u64("round")?, Sums::read(&mut input)?))
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        input.finish()?;
        Ok(Self { models, rounds })
    }
}

/// Digests of attempts in which shares were revealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sums(BTreeSet<Hash>);

impl Sums {
    fn check(&self, over: Counted, attempt: &ContextDigest, max: u32) -> Result<(), Refusal> {
        let sums = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if sums < max || self.0.contains(attempt.as_bytes()) {
            Ok(())
        } else {
            Err(Refusal::TooManySums { over, sums, max })
        }
    }

    fn note(&mut self, attempt: &ContextDigest) {
        self.0.insert(*attempt.as_bytes());
    }

    fn write(&self, out: &mut Writer) {
        out.count(self.0.len());
        for attempt in &self.0 {
            out.raw(attempt);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        // As many as are there: the limit is the participant's own, and may have been another one.
        let count = input.count(usize::MAX, 32, "attempts")?;
        (0..count).map(|_| input.hash("attempt")).collect::<Result<_, _>>().map(Self)
    }
}

/// Takes the one that is wanted out of a list that is in order.
fn take<T>(list: &mut Vec<T>, wanted: impl FnMut(&T) -> bool) -> Option<T> {
    list.iter().position(wanted).map(|at| list.remove(at))
}

/// Models that are remembered, at most.
pub const EXPOSURE_MODELS_MAX: usize = 1024;
/// Tasks whose newest round is remembered, at most.
pub const EXPOSURE_TASKS_MAX: usize = 1024;
/// Version of the stored form.
const FORMAT: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fill: u32) -> ContextDigest {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&fill.to_le_bytes());
        ContextDigest(digest)
    }

    fn reveal(round: u64, model: &Hash, attempt: u32) -> Reveal<'_> {
        Reveal { task: "task", round, model, attempt: digest(attempt) }
    }

    fn model(fill: u32) -> Hash {
        *digest(fill).as_bytes()
    }

    fn too_many(over: Counted, sums: u32, max: u32) -> Result<(), Refusal> {
        Err(Refusal::TooManySums { over, sums, max })
    }

    /// Whatever rounds and tasks the attempts are said to be of.
    #[test]
    fn sums_over_one_model_are_counted_once_each() {
        let one = model(1);
        let mut exposure = Exposure::default();
        let elsewhere = |attempt| Reveal { task: "other", ..reveal(1, &one, attempt) };
        assert_eq!(exposure.check(reveal(1, &one, 1), 0), too_many(Counted::Round(1), 0, 0));
        for attempt in [reveal(1, &one, 1), elsewhere(2)] {
            assert_eq!(exposure.check(attempt, 2), Ok(()));
            exposure.note(attempt);
            exposure.note(attempt);
        }
        let exposure = Exposure::from_bytes(&exposure.to_bytes()).expect("its own bytes");
        for attempt in [reveal(2, &one, 3), elsewhere(3), Reveal { task: "third", ..reveal(9, &one, 3) }] {
            assert_eq!(exposure.check(attempt, 2), too_many(Counted::Model, 2, 2));
            assert_eq!(exposure.check(attempt, 3), Ok(()));
        }
        // After a restart it goes on with what it has begun.
        assert_eq!(exposure.check(elsewhere(2), 2), Ok(()));
        assert_eq!(exposure.check(reveal(2, &model(2), 3), 2), Ok(()));
    }

    #[test]
    fn attempts_of_one_round_are_counted_whatever_their_models() {
        let models = [1, 2, 3].map(model);
        let mut exposure = Exposure::default();
        for (attempt, model) in (1..).zip(&models[..2]) {
            assert_eq!(exposure.check(reveal(7, model, attempt), 2), Ok(()));
            exposure.note(reveal(7, model, attempt));
        }
        let mut exposure = Exposure::from_bytes(&exposure.to_bytes()).expect("its own bytes");
        assert_eq!(exposure.check(reveal(7, &models[2], 3), 2), too_many(Counted::Round(7), 2, 2));
        assert_eq!(exposure.check(reveal(7, &models[1], 2), 2), Ok(()), "it says the same again");
        assert_eq!(exposure.check(reveal(8, &models[2], 3), 2), Ok(()));
        exposure.note(reveal(8, &models[2], 3));
        let over = Refusal::RoundIsOver { round: 7, newest: 8 };
        assert_eq!(exposure.check(reveal(7, &models[2], 3), 2), Err(over.clone()));
        assert_eq!(exposure.check(reveal(7, &models[1], 2), 2), Err(over), "not even what it has said");
    }

    /// A coordinator that has a new model for every attempt, and tries every round again later.
    #[test]
    fn rounds_times_the_limit_is_all_that_a_task_gets() {
        let (mut exposure, mut revealed) = (Exposure::default(), 0);
        let tries = (1..=6).flat_map(|round| [round; 5].into_iter().chain(1..round));
        for (attempt, round) in (0..).zip(tries) {
            let fresh = model(attempt);
            if exposure.check(reveal(round, &fresh, attempt), 3).is_ok() {
                exposure.note(reveal(round, &fresh, attempt));
                revealed += 1;
            }
        }
        assert_eq!(revealed, 6 * 3);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut exposure = Exposure::default();
        let many = u32::try_from(EXPOSURE_MODELS_MAX.max(EXPOSURE_TASKS_MAX)).expect("a small number") + 1;
        let names: Vec<String> = (0..many).map(|number| format!("task-{number}")).collect();
        let models: Vec<Hash> = (0..many).map(model).collect();
        let at = |number: u32| Reveal { task: &names[number as usize], ..reveal(2, &models[number as usize], number) };
        (0..many - 1).for_each(|number| exposure.note(at(number)));
        exposure.note(at(0));
        exposure.note(at(many - 1));
        assert_eq!((exposure.models.len(), exposure.rounds.len()), (EXPOSURE_MODELS_MAX, EXPOSURE_TASKS_MAX));
        let again = |number| Reveal { attempt: digest(many), ..at(number) };
        assert!(exposure.check(again(0), 1).is_err(), "it was used after the others");
        assert_eq!(exposure.check(again(1), 1), Ok(()), "forgotten");
        assert!(exposure.check(again(2), 1).is_err());
        assert_eq!(Exposure::from_bytes(&exposure.to_bytes()), Ok(exposure));
    }

    #[test]
    fn bytes_that_were_never_written_are_refused() {
        let mut exposure = Exposure::default();
        exposure.note(reveal(1, &model(1), 1));
        let bytes = exposure.to_bytes();
        for len in 0..bytes.len() {
            assert!(Exposure::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(Exposure::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let mut other = bytes;
        other[0] ^= 1;
        assert_eq!(Exposure::from_bytes(&other), Err(Malformed::Version { got: 0, expected: FORMAT }));
    }
}
