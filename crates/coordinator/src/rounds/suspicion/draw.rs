//! How the next groups are drawn: so that, whoever is behind the failed checks, few could be behind them afterwards.
//!
//! With one attacker that halves the suspects: half of them are in each of two groups. With two or three it is sets of
//! participants that are suspected, and a good draw splits those. It is looked for from a plain one by exchanging two
//! members as long as that helps. Beyond that there are too many sets, and the plain draw is what there is: it deals those
//! with the most failed checks and the fewest passed ones to all groups.
//!
//! Two groups are the fewest of which one can pass, and larger groups hide their members better. Where both fail, more than
//! one attacker is at work, and of twice as many groups some may pass.

use super::{
    GroupBounds, Suspicion,
    evidence::{Evidence, History},
};
use sordino_secagg::ParticipantId;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

impl Suspicion {
    /// The groups of the next attempt: disjoint, and of equal size.
    ///
    /// Where no failed check is unexplained, one group of all. Else at least two, each of at least the smallest size; a
    /// remainder is in none. Where two do not fit, one of the smallest size, with some of those suspected left out. None
    /// where not even that fits.
    ///
    /// - `present`: who is there, none of them a culprit, in an order that was drawn by chance. There is no other chance in it.
    pub(in crate::rounds) fn draw(
        &self,
        present: Vec<ParticipantId>,
        bounds: GroupBounds,
    ) -> Vec<BTreeSet<ParticipantId>> {
        let open = self.open();
        let Some(first) = open.first() else { return vec![present.into_iter().collect()] };
        let Some(seats) = Seats::new(present.len(), bounds, self.groups_wanted()) else { return Vec::new() };
        let passed = self.checks.iter().filter(|check| check.passed && check.at >= first.at);
        let passed: Vec<_> = passed.map(|check| &check.members).collect();
        let failed: Vec<_> = open.iter().map(|check| &check.members).collect();
        let evidence = Evidence::new(&failed, &passed, &present);

        let mut dealt: Vec<_> = present.iter().filter_map(|id| Some((evidence.number(id)?, id))).collect();
        // Those with one history are as suspect as each other: they stand together, and are dealt to all groups.
        dealt.sort_by_cached_key(|(member, _)| {
            let history = evidence.history(*member);
            let score = history.failed.len() + (passed.len() - history.passed.len());
            (Reverse(score), history.clone())
        });
        if let Some(hypotheses) = Hypotheses::new(&evidence, self.left()) {
            hypotheses.improve(&evidence, &mut dealt, &seats);
        }
        let mut groups = vec![BTreeSet::new(); seats.groups];
        for ((_, id), group) in dealt.into_iter().zip(&seats.group) {
            if let Some(group) = group {
                groups[*group].insert(id.clone());
            }
        }
        groups
    }

    /// Two, and twice as many for each of the last attempts of whose groups, though there were several, all failed and are
    /// not explained.
    fn groups_wanted(&self) -> usize {
        let mut attempts: BTreeMap<(u64, u32), (usize, bool)> = BTreeMap::new();
        for check in &self.checks {
            let (groups, in_vain) = attempts.entry(check.at).or_insert((0, true));
            *groups += 1;
            *in_vain &= self.is_unexplained(check);
        }
        let in_vain = attempts.values().rev().take_while(|(groups, in_vain)| *groups > 1 && *in_vain).count();
        (0..in_vain).fold(GROUPS_MIN, |groups, _| groups.saturating_mul(2))
    }
}

/// Places in groups, in the order in which they are dealt.
struct Seats {
    groups: usize,
    /// Each seat's group; none for those left out.
    group: Vec<Option<usize>>,
}

impl Seats {
    /// As many groups as are wanted, if they fit; nothing where not even one does.
    fn new(present: usize, GroupBounds { size_min, groups_max }: GroupBounds, wanted: usize) -> Option<Self> {
        let fit = present / size_min.max(1);
        let groups = wanted.min(groups_max).min(fit).min(GROUPS_MAX);
        if fit == 0 {
            return None;
        }
        if groups < GROUPS_MIN {
            // By turns one seat and one outside, as long as there are both.
            let out = present - size_min;
            let turns =
                (0..present).map(|turn| if turn < 2 * size_min.min(out) { turn % 2 == 0 } else { size_min > out });
            return Some(Self { groups: 1, group: turns.map(|taken| taken.then_some(0)).collect() });
        }
        let seats = present / groups * groups;
        Some(Self { groups, group: (0..present).map(|seat| (seat < seats).then_some(seat % groups)).collect() })
    }
}

/// Who could be behind the failed checks: each set of as many as can be corrupt, or fewer, that hits them all.
struct Hypotheses {
    all: Vec<Hypothesis>,
    /// Participants that have a number.
    participants: usize,
}

struct Hypothesis {
    /// Who. Where they are fewer, the others have the number after the last.
    members: [usize; CORRUPT_MAX],
    /// How likely it is, beside the others.
    weight: f64,
}

impl Hypotheses {
    /// - `left`: how many can be corrupt.
    /// - returns nothing where there are none, or too many to look at.
    fn new(evidence: &Evidence<'_>, left: u32) -> Option<Self> {
        let participants = evidence.participants();
        let few = participants.checked_pow(left).is_some_and(|sets| sets <= SETS_MAX);
        let left = usize::try_from(left).ok().filter(|left| *left <= CORRUPT_MAX && few)?;
        let mut found = Vec::new();
        hitting(evidence, left, &mut Vec::new(), &evidence.no_history(), &mut found);
        let fewest = found.iter().map(|(_, passed)| *passed).min()?;
        let all = found.into_iter().map(|(members, passed)| {
            let more = i32::try_from(passed - fewest).unwrap_or(i32::MAX);
            Hypothesis { members, weight: PASSED.powi(more) }
        });
        Some(Self { all: all.collect(), participants })
    }

    /// Exchanges members of different groups, or in and out of them, as long as that makes the draw better.
    fn improve(&self, evidence: &Evidence<'_>, dealt: &mut [(usize, &ParticipantId)], seats: &Seats) {
        let mut tries = WORK_MAX / self.all.len();
        let mut best = self.cost(dealt, seats);
        let mut improved = true;
        while improved {
            improved = false;
            for (one, other) in (0..dealt.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let alike = evidence.history(dealt[one].0) == evidence.history(dealt[other].0);
                if alike || seats.group[one] == seats.group[other] {
                    continue;
                }
                if tries == 0 {
                    return;
                }
                tries -= 1;
                dealt.swap(one, other);
                let cost = self.cost(dealt, seats);
                if cost < best {
                    (best, improved) = (cost, true);
                } else {
                    dealt.swap(one, other);
                }
            }
        }
    }

    /// How many hypotheses can be expected to be left after these groups' checks, times a constant.
    ///
    /// If one of them is true and its members go on, the groups that they are in fail. Left are then all that hit those:
    /// also those that would have hit others, since a passed check proves nothing.
    fn cost(&self, dealt: &[(usize, &ParticipantId)], seats: &Seats) -> f64 {
        // Sets of groups, by their bits.
        let mut group = vec![0_u64; self.participants + 1];
        for ((member, _), of) in dealt.iter().zip(&seats.group) {
            group[*member] = of.map_or(0, |of| 1 << of);
        }
        let mut hit: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for Hypothesis { members, weight } in &self.all {
            let (likely, count) = hit.entry(members.iter().fold(0, |hit, &member| hit | group[member])).or_default();
            *likely += weight;
            *count += 1.0;
        }
        let mut left: BTreeMap<u64, f64> = BTreeMap::new();
        for (&groups, (_, count)) in &hit {
            subsets(groups, |failed| *left.entry(failed).or_default() += count);
        }
        hit.iter().map(|(failed, (likely, _))| likely * left[failed]).sum()
    }
}

/// Finds the sets that begin with `members`, and how many passed checks they were in.
///
/// - `seen`: what these were members of, together.
fn hitting(
    evidence: &Evidence<'_>,
    left: usize,
    members: &mut Vec<usize>,
    seen: &History,
    found: &mut Vec<([usize; CORRUPT_MAX], usize)>,
) {
    if seen.failed.len() == evidence.failures() {
        let mut set = [evidence.participants(); CORRUPT_MAX];
        set[..members.len()].copy_from_slice(members);
        found.push((set, seen.passed.len()));
    }
    if members.len() == left {
        return;
    }
    for next in members.last().map_or(0, |last| last + 1)..evidence.participants() {
        members.push(next);
        hitting(evidence, left, members, &seen.with(evidence.history(next)), found);
        members.pop();
    }
}

/// Each subset of a set of bits.
fn subsets(set: u64, mut each: impl FnMut(u64)) {
    let mut subset = set;
    loop {
        each(subset);
        if subset == 0 {
            return;
        }
        subset = (subset - 1) & set;
    }
}

/// Of one group, where it fails, nobody learns anything new.
const GROUPS_MIN: usize = 2;
/// A set of groups has a bit for each.
const GROUPS_MAX: usize = u64::BITS as usize;
/// Corrupt participants of whom sets are looked at.
const CORRUPT_MAX: usize = 3;
/// Sets of participants that are looked at, at most: all pairs of 1000, all triples of 100.
const SETS_MAX: usize = 1_000_000;
/// Hypotheses that are looked at to find a good draw, each as often as there are draws to compare. They take less than a
/// second.
const WORK_MAX: usize = 1 << 20;
/// How much less likely a hypothesis is for each passed check that it had a member in. Persistent attackers would have made
/// it fail, those that do so every other time as often as not.
const PASSED: f64 = 0.25;
