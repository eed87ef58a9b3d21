//! Groups whose sums did not fit what their members had committed to: whom that proves to be corrupt, and how the next
//! groups are drawn, so that it proves more.
//!
//! A sum to which its group's commitments do not open shows that at least one of the group's survivors sent another
//! vector than it had committed to, and not which. What it says is: one of these. Over many groups, drawn anew each time,
//! that names somebody. Somebody is guilty where the failed checks cannot all be laid to others: with it taken out of
//! them, no `max_corrupt` participants hit them all.
//!
//! That stands on two things. `max_corrupt` bounds the corrupt of the whole *federation*, those found already included: a
//! bound for each cohort would not do, since in each of them others can be corrupt. And a check lists everybody who can
//! have made it fail. Where more must be corrupt than may be, nobody is convicted: the honest can no longer be told from
//! the others.
//!
//! What an attacker can do against it:
//! - Behave now and then. A passed check proves nothing, so nothing is forgiven by it, and each group that an attacker
//!   spoils is one more check that has it as a member. A lone one can choose when to be found, and spoils as many groups
//!   until then as one that goes on; two or three spoil more, if they behave more often than not about twice as many. Were
//!   a passed check to clear its members, two could take turns in spoiling the groups of an honest one, behave in all
//!   others, and have it convicted.
//! - Frame somebody, by spoiling groups only where that one is a member. It was a member of each of them itself, so the
//!   corrupt explain every failed check, whoever they are, however they choose: no honest one is ever guilty.
//! - Hide among its own: two that spoil groups in turn are each behind half of the evidence, and it takes more groups. For
//!   more than a few corrupt ones the search may be given up, after [`NODES_MAX`] steps, and nobody is convicted then.
//!
//! How groups are drawn decides only how soon somebody is convicted, and how many sums are released until then. There,
//! and only there, passed checks count.

mod draw;
mod evidence;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]
mod tests;

use super::standing::named;
use evidence::{Evidence, Nodes};
use sordino_secagg::ParticipantId;
use sordino_store::{CheckRow, Findings, NewCheck, NewCulprit, Store, StoreError};
use std::{collections::BTreeSet, fmt};

/// What the checks of a task's groups have shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// In the order of rounds, attempts and groups.
    checks: Vec<Check>,
    /// Those who were found to be corrupt, by whatever evidence.
    culprits: BTreeSet<ParticipantId>,
    /// Participants of the federation that can be corrupt, at most.
    max_corrupt: u32,
}

/// Whether the commitments of a group's survivors opened to its sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// Round and attempt.
    pub(super) at: (u64, u32),
    /// Which group of the attempt.
    pub(super) group: u32,
    /// Whether they did.
    pub(super) passed: bool,
    /// Everybody who can have made it fail.
    pub(super) members: BTreeSet<ParticipantId>,
}

/// How large the groups of an attempt are, and how many there can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupBounds {
    /// Members of each, at least.
    pub(super) size_min: usize,
    /// Groups, at most.
    pub(super) groups_max: usize,
}

impl Suspicion {
    /// As the store has it.
    ///
    /// - `max_corrupt`: participants of the federation that can be corrupt, at most.
    pub(super) async fn load(store: &Store, task: &str, max_corrupt: u32) -> Result<Self, StoreError> {
        let checks = store.checks(task).await?.into_iter().map(Check::stored).collect::<Result<_, _>>()?;
        let culprits = store.culprits(task).await?.iter().map(|row| named(&row.id)).collect::<Result<_, _>>()?;
        Ok(Self { checks, culprits, max_corrupt })
    }

    /// Adds to what an attempt has shown the checks of its groups, and those whom they prove to be corrupt together with
    /// all checks before.
    ///
    /// - `findings`: what else it has shown. Who is a culprit by that needs no further proof.
    ///
    /// # Errors
    /// Only where `findings` names somebody who cannot be a participant.
    pub(super) fn conclude(&mut self, checks: Vec<Check>, findings: &mut Findings) -> Result<(), StoreError> {
        findings.checks.extend(checks.iter().map(Check::to_new));
        self.checks.extend(checks);
        self.note_culprits(&findings.culprits)?;
        let guilty = self.guilty();
        self.note_culprits(&guilty)?;
        findings.culprits.extend(guilty);
        Ok(())
    }

    fn note_culprits(&mut self, culprits: &[NewCulprit]) -> Result<(), StoreError> {
        for culprit in culprits {
            self.culprits.insert(named(&culprit.id)?);
        }
        Ok(())
    }

    /// Failed checks that nobody explains: none of those found to be corrupt was a member.
    fn open(&self) -> Vec<&Check> {
        self.checks.iter().filter(|check| self.is_unexplained(check)).collect()
    }

    fn is_unexplained(&self, check: &Check) -> bool {
        !check.passed && check.members.is_disjoint(&self.culprits)
    }

    /// Whether groups are to be drawn so that it comes out who spoils them.
    pub(super) fn is_open(&self) -> bool {
        !self.open().is_empty()
    }

    /// Those whom the failed checks prove to be corrupt, beside those found before.
    ///
    /// Those found before are among the `max_corrupt`, and hit every failed check that they were members of. What is left
    /// are the open checks, and as many others as there can be.
    fn guilty(&self) -> Vec<NewCulprit> {
        let (open, left) = (self.open(), self.left());
        let failed: Vec<_> = open.iter().map(|check| &check.members).collect();
        // A search that was given up has proven nothing.
        let guilty = Evidence::new(&failed, &[], &[]).guilty(left, &mut Nodes(NODES_MAX)).unwrap_or_default();
        let (max_corrupt, found) = (self.max_corrupt, self.culprits.len());
        let reason = |core: &[usize]| {
            let sums: Vec<_> = core.iter().map(|&place| open[place].to_string()).collect();
            format!(
                "sent another input than it had committed to: of at most {max_corrupt} that are corrupt {found} were known, \
                 and without it no {left} can have spoiled the sums of {}",
                sums.join(", ")
            )
        };
        guilty.iter().map(|(id, core)| NewCulprit { id: id.to_string(), reason: reason(core) }).collect()
    }

    /// Participants that can be corrupt beside those found already.
    fn left(&self) -> u32 {
        self.max_corrupt.saturating_sub(u32::try_from(self.culprits.len()).unwrap_or(u32::MAX))
    }
}

impl Check {
    fn stored(row: CheckRow) -> Result<Self, StoreError> {
        let CheckRow { round, attempt, group, passed, members } = row;
        let members = members.iter().map(|id| named(id)).collect::<Result<_, _>>()?;
        Ok(Self { at: (round, attempt), group, passed, members })
    }

    fn to_new(&self) -> NewCheck {
        let members = self.members.iter().map(ToString::to_string).collect();
        NewCheck { group: self.group, passed: self.passed, members }
    }
}

/// Round, attempt and group.
impl fmt::Display for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: (round, attempt), group, .. } = self;
        write!(out, "{round}.{attempt} group {group}")
    }
}

/// Steps of a search for those who could explain failed checks, after which it is given up. They take less than a second.
const NODES_MAX: u32 = 50_000;
