//! For each dealer, how many of its neighbours can still help to open its secrets: those who go on and hold a pair of
//! shares that opened. Counted as messages come, so that no message costs a look at the whole graph.

use super::Abort;
use super::complaints::{Complaints, dispute};
use super::roster::Roster;
use crate::context::ParticipantId;
use crate::topology::Graph;
use std::collections::BTreeMap;

/// Helpers of each dealer in one step.
pub(super) struct Helped {
    threshold: u32,
    helpers: BTreeMap<u32, u32>,
    /// Dealers with fewer helpers than the threshold.
    lacking: usize,
}

impl Helped {
    /// Nobody has answered yet.
    pub(super) fn new(roster: &Roster, dealers: impl Iterator<Item = u32>) -> Self {
        let helpers: BTreeMap<u32, u32> = dealers.map(|dealer| (dealer, 0)).collect();
        Self { threshold: roster.graph.topology().t, lacking: helpers.len(), helpers }
    }

    /// Counts a holder that answered, and that holds good shares of these dealers.
    pub(super) fn note(&mut self, dealers: impl IntoIterator<Item = u32>) {
        for dealer in dealers {
            if let Some(helpers) = self.helpers.get_mut(&dealer) {
                *helpers += 1;
                self.lacking -= usize::from(*helpers == self.threshold);
            }
        }
    }

    /// Whether every dealer has a threshold of helpers. One that does not could not be opened, and its neighbours and
    /// itself would have to refuse what an honest coordinator shows them.
    pub(super) fn is_complete(&self) -> bool {
        self.lacking == 0
    }

    /// Why the attempt cannot go on with these helpers, if it cannot.
    ///
    /// More holders that complain about a dealer than may collude are not all lying: it is to blame. Fewer may be framing
    /// it: where their word is what it lacks a threshold for, they are in dispute with it. Where it would lack one anyway,
    /// silence is the reason, and nobody is to blame.
    pub(super) fn check(
        &self,
        roster: &Roster,
        max_corrupt: u32,
        complaints: &Complaints,
        answered: impl Fn(u32) -> bool,
    ) -> Result<(), Abort> {
        if self.is_complete() {
            return Ok(());
        }
        let id = |dealer: u32| roster.member(dealer).id.clone();
        let (mut culprits, mut disputes, mut silence) = (Vec::<ParticipantId>::new(), Vec::new(), None);
        for (&dealer, &available) in self.helpers.iter().filter(|(_, helpers)| **helpers < self.threshold) {
            let neighbours = roster.graph.neighbours(dealer);
            let complaining: Vec<u32> =
                neighbours.iter().copied().filter(|&holder| complaints.stands(holder, dealer)).collect();
            let answering = neighbours.into_iter().filter(|&holder| answered(holder)).count();
            if complaining.len() > max_corrupt as usize {
                culprits.push(id(dealer));
            } else if answering >= self.threshold as usize {
                disputes.extend(complaining.into_iter().map(|holder| dispute(roster, dealer, holder)));
            } else {
                let abort = Abort::TooFewShares { dealer: id(dealer), available, threshold: self.threshold };
                silence.get_or_insert(abort);
            }
        }
        disputes.sort_unstable();
        Err(match silence {
            _ if !culprits.is_empty() => Abort::BadDealers { culprits },
            _ if !disputes.is_empty() => Abort::Disputed { disputes },
            Some(silence) => silence,
            None => unreachable!("whoever answers and does not complain is counted"),
        })
    }
}

/// Leaves those out who would get fewer shares than the threshold, and who would therefore take no further part; then
/// those who lack them; and so on.
pub(super) fn keep_helped<T>(graph: &Graph, shared: &mut BTreeMap<u32, T>) {
    let threshold = graph.topology().t as usize;
    let sharing = |dealer: u32| graph.neighbours(dealer).into_iter().filter(|other| shared.contains_key(other)).count();
    let mut helpers: BTreeMap<u32, usize> = shared.keys().map(|&dealer| (dealer, sharing(dealer))).collect();
    let mut lacking: Vec<u32> =
        helpers.iter().filter(|(_, helpers)| **helpers < threshold).map(|(dealer, _)| *dealer).collect();
    while let Some(dealer) = lacking.pop() {
        shared.remove(&dealer);
        helpers.remove(&dealer);
        for neighbour in graph.neighbours(dealer) {
            if let Some(helpers) = helpers.get_mut(&neighbour) {
                *helpers -= 1;
                // Once, when it falls below: those who were below from the beginning are on the list.
                if *helpers + 1 == threshold {
                    lacking.push(neighbour);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ContextDigest;
    use crate::topology::Topology;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Who is kept is who a look at everybody, again and again, keeps.
        #[test]
        fn whoever_is_helped_is_kept(n in 8u32..80, half in 1u32..4, spare in 0u32..3, root: [u8; 32], silent in 0u32..12) {
            let topology = Topology { n, k: 2 * half, t: 2 * half - spare.min(half) };
            let graph = Graph::new(topology, &ContextDigest([6; 32]), &root);
            let mut kept: BTreeMap<u32, ()> = (0..n).filter(|at| at * 7 % n >= silent).map(|at| (at, ())).collect();
            let mut slowly = kept.clone();
            loop {
                let helps = |at: &u32| graph.neighbours(*at).iter().filter(|other| slowly.contains_key(other)).count();
                let lacking: Vec<u32> = slowly.keys().copied().filter(|at| helps(at) < topology.t as usize).collect();
                if lacking.is_empty() {
                    break;
                }
                slowly.retain(|at, ()| !lacking.contains(at));
            }
            keep_helped(&graph, &mut kept);
            prop_assert_eq!(kept, slowly);
        }
    }
}
