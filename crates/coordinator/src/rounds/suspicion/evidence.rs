//! Checks as sets, and who is a member of each that failed.

use sordino_secagg::ParticipantId;
use std::{cmp::Reverse, collections::BTreeSet};

/// Who was a member of which failed checks, and of which that passed.
///
/// Participants and checks are numbers in it: their places in `names`, and in the order that they were given in.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// `[participants]`: in order.
    names: Vec<&'a ParticipantId>,
    /// `[participants]`: the failed checks, and the passed ones, that each was a member of.
    histories: Vec<History>,
    /// `[failed checks]`: their members.
    members: Vec<Vec<usize>>,
    /// How many checks passed.
    passes: usize,
}

/// The checks that a participant was a member of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct History {
    /// Those that failed.
    pub(super) failed: Places,
    /// Those that passed.
    pub(super) passed: Places,
}

/// The search was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// Steps that a search may still take.
#[derive(Debug)]
pub(super) struct Nodes(pub(super) u32);

impl<'a> Evidence<'a> {
    /// - `failed`, `passed`: the members of each check. Those of passed ones alone have no number.
    /// - `others`: participants who have one, whatever they were members of.
    pub(super) fn new(
        failed: &[&'a BTreeSet<ParticipantId>],
        passed: &[&BTreeSet<ParticipantId>],
        others: &'a [ParticipantId],
    ) -> Self {
        let names: BTreeSet<_> = failed.iter().copied().flatten().chain(others).collect();
        let names: Vec<_> = names.into_iter().collect();
        let history = |id: &&ParticipantId| History { failed: Places::of(failed, id), passed: Places::of(passed, id) };
        let histories = names.iter().map(history).collect();
        let number = |id| names.binary_search(&id).expect("every member has a number");
        let members = failed.iter().map(|members| members.iter().map(number).collect()).collect();
        Self { names, histories, members, passes: passed.len() }
    }

    /// How many participants have a number.
    pub(super) fn participants(&self) -> usize {
        self.names.len()
    }

    /// How many checks failed.
    pub(super) fn failures(&self) -> usize {
        self.members.len()
    }

    /// The number of a participant that has one.
    pub(super) fn number(&self, id: &ParticipantId) -> Option<usize> {
        self.names.binary_search(&id).ok()
    }

    /// What a participant was a member of.
    pub(super) fn history(&self, member: usize) -> &History {
        &self.histories[member]
    }

    /// What somebody was a member of who never was there.
    pub(super) fn no_history(&self) -> History {
        History { failed: Places::none(self.failures()), passed: Places::none(self.passes) }
    }

    /// Who must be corrupt where at most `left` are, each with checks that prove it, none of which it could do without.
    ///
    /// # Errors
    /// [`Exhausted`] where it takes more than `nodes` steps to know.
    pub(super) fn guilty(
        &self,
        left: u32,
        nodes: &mut Nodes,
    ) -> Result<Vec<(&'a ParticipantId, Vec<usize>)>, Exhausted> {
        let (all, nobody) = (Places::all(self.failures()), Places::none(self.participants()));
        // Whoever is in every explanation is in this one. Where there is none, more are corrupt than may be.
        let Some(explanation) = self.explain(&all, left, &nobody, nodes)? else { return Ok(Vec::new()) };
        let mut guilty = Vec::new();
        for one in explanation {
            let mut barred = nobody.clone();
            barred.insert(one);
            if self.explain(&all, left, &barred, nodes)?.is_none() {
                guilty.push((one, barred));
            }
        }
        guilty.sort();
        Ok(guilty.iter().map(|(one, barred)| (self.names[*one], self.core(left, barred, nodes))).collect())
    }

    /// Checks that cannot be explained without those barred. Where the search for fewer is given up, more than it takes.
    fn core(&self, left: u32, barred: &Places, nodes: &mut Nodes) -> Vec<usize> {
        let mut core = Places::all(self.failures());
        for place in 0..self.failures() {
            let mut fewer = core.clone();
            fewer.remove(place);
            if matches!(self.explain(&fewer, left, barred, nodes), Ok(None)) {
                core = fewer;
            }
        }
        core.iter().collect()
    }

    /// At most `left` participants, none of them barred, of whom at least one is a member of each of some checks; nothing
    /// where there are no such participants.
    ///
    /// A bounded search tree: one of the members of a check that is not hit has to be taken. The next one is tried without
    /// those that were, so that no set is looked at twice. Where even as many as may be taken, each hitting as many as the
    /// best of them, would not hit all, there is nothing to look for.
    fn explain(
        &self,
        unhit: &Places,
        left: u32,
        barred: &Places,
        nodes: &mut Nodes,
    ) -> Result<Option<Vec<usize>>, Exhausted> {
        if unhit.is_empty() {
            return Ok(Some(Vec::new()));
        }
        nodes.0 = nodes.0.checked_sub(1).ok_or(Exhausted)?;
        let free = |member: &usize| !barred.contains(*member);
        let hits = |member: usize| self.histories[member].failed.shared(unhit);
        let most = (0..self.participants()).filter(free).map(hits).max().unwrap_or(0);
        if most.saturating_mul(left as usize) < unhit.len() {
            return Ok(None);
        }
        let members = unhit.iter().map(|place| &self.members[place]);
        let fewest = members.min_by_key(|members| members.iter().filter(|one| free(one)).count());
        let mut branches: Vec<_> = fewest.into_iter().flatten().copied().filter(free).collect();
        branches.sort_by_cached_key(|&member| Reverse(hits(member)));
        let mut barred = barred.clone();
        for member in branches {
            let rest = unhit.without(&self.histories[member].failed);
            if let Some(mut others) = self.explain(&rest, left - 1, &barred, nodes)? {
                others.push(member);
                return Ok(Some(others));
            }
            barred.insert(member);
        }
        Ok(None)
    }
}

impl History {
    /// What at least one of two was a member of.
    pub(super) fn with(&self, other: &Self) -> Self {
        Self { failed: self.failed.with(&other.failed), passed: self.passed.with(&other.passed) }
    }
}

/// A set of small numbers, below a limit that all sets which meet have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Places(Vec<u64>);

impl Places {
    fn none(limit: usize) -> Self {
        Self(vec![0; limit.div_ceil(BITS)])
    }

    fn all(limit: usize) -> Self {
        (0..limit).fold(Self::none(limit), |mut all, place| {
            all.insert(place);
            all
        })
    }

    /// Those of some sets that hold somebody.
    fn of(sets: &[&BTreeSet<ParticipantId>], id: &ParticipantId) -> Self {
        let mut places = Self::none(sets.len());
        sets.iter().enumerate().filter(|(_, set)| set.contains(id)).for_each(|(place, _)| places.insert(place));
        places
    }

    fn insert(&mut self, place: usize) {
        self.0[place / BITS] |= 1 << (place % BITS);
    }

    fn remove(&mut self, place: usize) {
        self.0[place / BITS] &= !(1 << (place % BITS));
    }

    fn contains(&self, place: usize) -> bool {
        self.0[place / BITS] >> (place % BITS) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many are in both.
    fn shared(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    fn with(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * BITS).filter(|place| self.contains(*place))
    }
}

const BITS: usize = u64::BITS as usize;
