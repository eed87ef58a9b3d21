//! Who is there, and who is taken.

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
    /// Begin with these.
    Begin(BTreeSet<ParticipantId>),
}

impl Waiting {
    /// Notes that a participant is there, and will be until `until`.
    pub(super) fn arrive(&mut self, id: ParticipantId, until: Duration) {
        self.until.insert(id, until);
    }

    /// Takes a cohort: at `target` at once, at `min` after `gather`; the lowest ranks first. Whoever is taken has to check
    /// in again for the next.
    pub(super) fn gather<R: Ord>(
        &mut self,
        (min, target): (u32, u32),
        gather: Duration,
        excluded: &BTreeSet<ParticipantId>,
        rank: impl Fn(&ParticipantId) -> R,
        now: Duration,
    ) -> Gathering {
        self.until.retain(|_, until| *until > now);
        let there = || self.until.keys().filter(|id| !excluded.contains(id));
        let count = there().count();
        if count < min as usize {
            self.enough_since = None;
            return Gathering::Wait(self.until.values().min().copied());
        }
        let since = *self.enough_since.get_or_insert(now);
        if count < target as usize && now < since + gather {
            return Gathering::Wait(Some(since + gather));
        }
        let mut ranked: Vec<_> = there().cloned().collect();
        ranked.sort_by_cached_key(rank);
        let cohort: BTreeSet<_> = ranked.into_iter().take(target as usize).collect();
        self.until.retain(|id, _| !cohort.contains(id));
        self.enough_since = None;
        Gathering::Begin(cohort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<u32>) -> impl Iterator<Item = ParticipantId> {
        range.map(|i| ParticipantId::new(&format!("site-{i:04}")).expect("a name"))
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_house_begins_at_once_and_the_minimum_after_a_while() {
        let mut waiting = Waiting::default();
        let none = BTreeSet::new();
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
    fn who_has_left_or_is_excluded_does_not_count() {
        let mut waiting = Waiting::default();
        names(0..3).for_each(|id| waiting.arrive(id, at(20)));
        let excluded = names(0..1).collect();
        assert_eq!(waiting.gather((3, 3), at(10), &excluded, Clone::clone, at(0)), Gathering::Wait(Some(at(20))));
        assert_eq!(waiting.gather((3, 3), at(10), &BTreeSet::new(), Clone::clone, at(20)), Gathering::Wait(None));
    }

    /// Those who left the last attempt hanging are taken when nobody else is there.
    #[test]
    fn the_highest_ranks_are_left_out_first() {
        let mut waiting = Waiting::default();
        names(0..5).for_each(|id| waiting.arrive(id, at(20)));
        let silent: BTreeSet<_> = names(0..2).collect();
        let rank = |id: &ParticipantId| (silent.contains(id), id.clone());
        assert_eq!(
            waiting.gather((3, 3), at(10), &BTreeSet::new(), rank, at(0)),
            Gathering::Begin(names(2..5).collect())
        );
        names(2..3).for_each(|id| waiting.arrive(id, at(20)));
        assert_eq!(
            waiting.gather((3, 3), at(10), &BTreeSet::new(), rank, at(0)),
            Gathering::Begin(names(0..3).collect())
        );
    }
}
