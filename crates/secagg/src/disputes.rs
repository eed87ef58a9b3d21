//! Who accuses whom. A holder that was dealt a pair of shares which does not open says so; either its dealer lied or it
//! does, and nobody else can tell which. What can be told is told here, from all that was said over a task.
//!
//! Of the two sides of a dispute at least one is corrupt. So a cohort without two that are in dispute cannot fail over
//! the same dispute again, and every new dispute costs the corrupt one more of those they can still spoil a sum with.
//! Whoever is in dispute with more participants of one cohort than may be corrupt in it is corrupt itself. That stands on
//! the number that may be corrupt: where more must be, nobody is called guilty, and disputes of several cohorts, in each
//! of which others may be, are no proof.

use crate::context::ParticipantId;
use std::collections::{BTreeMap, BTreeSet};

/// A holder says that the shares of a dealer do not open: one of the two lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dispute {
    /// Who dealt the shares.
    pub dealer: ParticipantId,
    /// Who was dealt them, and says that they do not open.
    pub holder: ParticipantId,
}

/// All disputes that are known, whoever accused whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disputes(BTreeMap<ParticipantId, BTreeSet<ParticipantId>>);

impl Disputes {
    /// Notes a dispute.
    pub fn note(&mut self, dispute: &Dispute) {
        let Dispute { dealer, holder } = dispute;
        if dealer != holder {
            self.0.entry(dealer.clone()).or_default().insert(holder.clone());
            self.0.entry(holder.clone()).or_default().insert(dealer.clone());
        }
    }

    /// With how many others a participant is in dispute.
    #[must_use]
    pub fn of(&self, id: &ParticipantId) -> usize {
        self.0.get(id).map_or(0, BTreeSet::len)
    }

    /// Those who are in dispute with more participants than may be corrupt, where all disputes are of one cohort.
    ///
    /// What somebody guilty is in dispute about counts against nobody else: one that accuses everybody is guilty alone.
    /// None where more than `max_corrupt` would be: then more are corrupt than the rule stands on, and the honest can no
    /// longer be told from the others.
    #[must_use]
    pub fn guilty(&self, max_corrupt: u32) -> BTreeSet<ParticipantId> {
        let mut left: BTreeMap<&ParticipantId, BTreeSet<&ParticipantId>> =
            self.0.iter().map(|(id, others)| (id, others.iter().collect())).collect();
        let mut guilty = BTreeSet::new();
        while let Some((id, others)) = left.iter().max_by_key(|(_, others)| others.len()) {
            if others.len() <= max_corrupt as usize {
                break;
            }
            let id = *id;
            guilty.insert(id.clone());
            for other in left.remove(id).into_iter().flatten() {
                if let Some(others) = left.get_mut(other) {
                    others.remove(id);
                }
            }
        }
        if guilty.len() > max_corrupt as usize { BTreeSet::new() } else { guilty }
    }

    /// Those of a list, in its order, of whom no two are in dispute: whoever comes first stays.
    pub fn apart(&self, ids: impl IntoIterator<Item = ParticipantId>) -> Vec<ParticipantId> {
        let mut barred: BTreeSet<&ParticipantId> = BTreeSet::new();
        let mut kept = Vec::new();
        for id in ids {
            if barred.contains(&id) {
                continue;
            }
            barred.extend(self.0.get(&id).into_iter().flatten());
            kept.push(id);
        }
        kept
    }
}

impl Extend<Dispute> for Disputes {
    fn extend<T: IntoIterator<Item = Dispute>>(&mut self, disputes: T) {
        disputes.into_iter().for_each(|dispute| self.note(&dispute));
    }
}

impl FromIterator<Dispute> for Disputes {
    fn from_iter<T: IntoIterator<Item = Dispute>>(disputes: T) -> Self {
        let mut all = Self::default();
        all.extend(disputes);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: char) -> ParticipantId {
        ParticipantId::new(&format!("site-00{name}")).expect("a name")
    }

    fn disputes(pairs: &str) -> Disputes {
        let dispute = |pair: &[u8]| Dispute { dealer: id(char::from(pair[0])), holder: id(char::from(pair[1])) };
        pairs.split_whitespace().map(|pair| dispute(pair.as_bytes())).collect()
    }

    fn ids(names: &str) -> Vec<ParticipantId> {
        names.chars().map(id).collect()
    }

    #[test]
    fn no_cohort_holds_both_sides_of_a_dispute() {
        let disputes = disputes("ab ac dc");
        assert_eq!(disputes.apart(ids("abcd")), ids("ad"));
        assert_eq!(disputes.apart(ids("cbad")), ids("cb"));
        assert_eq!(disputes.apart(ids("bed")), ids("bed"));
    }

    #[test]
    fn more_disputes_than_may_be_corrupt_are_no_accident() {
        let disputes = disputes("ab ac ad ba eb");
        assert_eq!((disputes.of(&id('a')), disputes.of(&id('b')), disputes.of(&id('x'))), (3, 2, 0));
        assert_eq!(disputes.guilty(2), ids("a").into_iter().collect());
        assert!(disputes.guilty(3).is_empty());
    }

    /// Each of two that accuse everybody is guilty; those they accuse are in two disputes, and are not.
    #[test]
    fn what_the_guilty_say_counts_against_nobody() {
        let liars = disputes("xa xb xc xd ya yb yc yd");
        assert_eq!(liars.of(&id('a')), 2);
        assert_eq!(liars.guilty(2), ids("xy").into_iter().collect());
        assert!(liars.guilty(1).is_empty(), "more are corrupt than may be");
        assert!(disputes("ab").guilty(0).is_empty(), "one of two, and nobody may be");
    }

    #[test]
    fn nobody_is_in_dispute_with_itself() {
        assert_eq!(disputes("aa"), Disputes::default());
    }
}
