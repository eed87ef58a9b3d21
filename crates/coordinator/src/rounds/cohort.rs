//! Who is there, and who is taken.

use super::standing::Standing;
use sordino_secagg::ParticipantId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Participants that have checked in and wait for a round.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Until when each counts as there, on the clock of [`Self::gather`].
    until: BTreeMap<ParticipantId, Duration>,
    /// Since when there have been enough.
    enough_since: Option<Duration>,
}

/// What a round that has not begun does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathering {
    /// Wait for somebody to arrive or, if there is a time, until then.
    Wait(Option<Duration>),
    /// The same, and `there` would be enough, of whom one cohort can hold no more than `usable`.
    Hindered { there: usize, usable: usize, until: Option<Duration> },
    /// Begin with these.
    Begin(BTreeSet<ParticipantId>),
}

impl Waiting {
    /// Notes that a participant is there, and will be until `until`.
    pub(super) fn arrive(&mut self, id: ParticipantId, until: Duration) {
        self.until.insert(id, until);
    }

    /// Takes a cohort of those who may be in one: at `target` at once, at `min` after `gather`; first who is asked first
    /// (see [`Standing::candidates`]). Whoever is taken has to check in again for the next.
    pub(super) fn gather<R: Ord>(
        &mut self,
        (min, target): (u32, u32),
        gather: Duration,
        standing: &Standing,
        draw: impl Fn(&ParticipantId) -> R,
        now: Duration,
    ) -> Gathering {
        self.until.retain(|_, until| *until > now);
        let there = self.until.len();
        // Who leaves next, or is back by then.
        let until = self.until.values().min().copied();
        // Ranks are drawn once, when the cohort begins, and not at every arrival.
        let usable = standing.usable(self.until.keys(), min);
        if usable < min as usize {
            self.enough_since = None;
            let hindered = there >= min as usize;
            return if hindered { Gathering::Hindered { there, usable, until } } else { Gathering::Wait(until) };
        }
        let since = *self.enough_since.get_or_insert(now);
        if usable < target as usize && now < since + gather {
            return Gathering::Wait(Some(since + gather));
        }
        let candidates = standing.candidates(self.until.keys(), min, &draw);
        let cohort: BTreeSet<_> = candidates.into_iter().take(target as usize).collect();
        self.until.retain(|id, _| !cohort.contains(id));
        self.enough_since = None;
        Gathering::Begin(cohort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sordino_secagg::Dispute;

    fn names(range: std::ops::Range<u32>) -> impl Iterator<Item = ParticipantId> {
        range.map(|i| ParticipantId::new(&format!("site-{i:04}")).expect("a name"))
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_house_begins_at_once_and_the_minimum_after_a_while() {
        let mut waiting = Waiting::default();
        let none = Standing::default();
        let gather = |waiting: &mut Waiting, now| waiting.gather((3, 5), at(10), &none, Clone::clone, at(now));
        names(0..2).for_each(|id| waiting.arrive(id, at(100)));
        assert_eq!(gather(&mut waiting, 0), Gathering::Wait(Some(at(100))));
        names(2..3).for_each(|id| waiting.arrive(id, at(100)));
        assert_eq!(gather(&mut waiting, 5), Gathering::Wait(Some(at(15))));
        assert_eq!(gather(&mut waiting, 15), Gathering::Begin(names(0..3).collect()));
        assert_eq!(gather(&mut waiting, 15), Gathering::Wait(None), "whoever was taken is gone");
        names(0..7).for_each(|id| waiting.arrive(id, at(100)));
        assert_eq!(gather(&mut waiting, 16), Gathering::Begin(names(0..5).collect()));
    }

    #[test]
    fn who_has_left_or_is_a_culprit_does_not_count() {
        let mut waiting = Waiting::default();
        names(0..3).for_each(|id| waiting.arrive(id, at(20)));
        let standing = Standing { culprits: names(0..1).collect(), ..Standing::default() };
        let hindered = Gathering::Hindered { there: 3, usable: 2, until: Some(at(20)) };
        assert_eq!(waiting.gather((3, 3), at(10), &standing, Clone::clone, at(0)), hindered);
        assert_eq!(waiting.gather((4, 4), at(10), &standing, Clone::clone, at(0)), Gathering::Wait(Some(at(20))));
        assert_eq!(waiting.gather((3, 3), at(10), &Standing::default(), Clone::clone, at(20)), Gathering::Wait(None));
    }

    /// Those who left the last attempt hanging are taken when nobody else is there.
    #[test]
    fn who_fell_silent_is_left_out_first() {
        let mut waiting = Waiting::default();
        names(0..5).for_each(|id| waiting.arrive(id, at(20)));
        let standing = Standing { silent: names(0..2).collect(), ..Standing::default() };
        let gather = |waiting: &mut Waiting| waiting.gather((3, 3), at(10), &standing, Clone::clone, at(0));
        assert_eq!(gather(&mut waiting), Gathering::Begin(names(2..5).collect()));
        names(2..3).for_each(|id| waiting.arrive(id, at(20)));
        assert_eq!(gather(&mut waiting), Gathering::Begin(names(0..3).collect()));
    }

    /// Site 0 is in dispute with 1 and 2: they are in cohorts of their own, and whose is first is drawn, where it is large enough.
    #[test]
    fn no_cohort_holds_both_sides_of_a_dispute() {
        let mut waiting = Waiting::default();
        let dispute = |dealer, holder| Dispute {
            dealer: names(dealer..dealer + 1).next().expect("one"),
            holder: names(holder..holder + 1).next().expect("one"),
        };
        let disputes = [dispute(0, 1), dispute(2, 0)].into_iter().collect();
        let standing = Standing { disputes, ..Standing::default() };
        let gather = |waiting: &mut Waiting, now| waiting.gather((3, 4), at(10), &standing, Clone::clone, at(now));
        names(0..4).for_each(|id| waiting.arrive(id, at(100)));
        assert_eq!(gather(&mut waiting, 0), Gathering::Wait(Some(at(10))), "three of the four");
        assert_eq!(gather(&mut waiting, 10), Gathering::Begin(names(1..4).collect()));
        names(1..3).for_each(|id| waiting.arrive(id, at(100)));
        let hindered = Gathering::Hindered { there: 3, usable: 2, until: Some(at(100)) };
        assert_eq!(gather(&mut waiting, 11), hindered, "0, 1 and 2");
        names(4..6).for_each(|id| waiting.arrive(id, at(100)));
        let first = [0, 4, 5].into_iter().flat_map(|i| names(i..i + 1)).collect();
        assert_eq!(gather(&mut waiting, 12), Gathering::Begin(first), "0 is not left out, but kept apart");
        names(4..6).for_each(|id| waiting.arrive(id, at(100)));
        let last = [1, 2, 4, 5].into_iter().flat_map(|i| names(i..i + 1)).collect();
        assert_eq!(gather(&mut waiting, 23), Gathering::Begin(last));
    }
}
