//! Who vanishes when, and when the coordinator is killed: planned from the seed before the run begins.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sordino_secagg::Step;
use std::{collections::BTreeMap, time::Duration};

/// What goes wrong in a run.
pub(super) struct Faults {
    each_round: u32,
    /// For each site, the rounds in which it vanishes, and before which step's message.
    vanish: BTreeMap<u32, Vec<(u64, Step)>>,
    /// None: it is not killed.
    kill_round: Option<u64>,
    kill_delay: Duration,
}

impl Faults {
    /// Two participants in every round, or as many as a fifth of them is.
    pub(super) fn each_round_of(participants: u32) -> u32 {
        (participants / 5).min(2)
    }

    /// Nothing.
    pub(super) fn none() -> Self {
        Self { each_round: 0, vanish: BTreeMap::new(), kill_round: None, kill_delay: Duration::ZERO }
    }

    pub(super) fn plan(participants: u32, rounds: u64, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let each_round = Self::each_round_of(participants);
        let mut vanish = BTreeMap::<u32, Vec<_>>::new();
        for round in 1..=rounds {
            let mut sites: Vec<u32> = (0..participants).collect();
            for _ in 0..each_round {
                let site = sites.swap_remove(below(&mut rng, sites.len()));
                let step = Step::ALL[below(&mut rng, Step::ALL.len())];
                vanish.entry(site).or_default().push((round, step));
            }
        }
        let kill_round = Some(rounds.div_ceil(2));
        let kill_delay = Duration::from_millis(below(&mut rng, KILL_WITHIN_MILLIS) as u64);
        Self { each_round, vanish, kill_round, kill_delay }
    }

    pub(super) fn each_round(&self) -> u32 {
        self.each_round
    }

    pub(super) fn of_site(&self, site: u32) -> &[(u64, Step)] {
        self.vanish.get(&site).map_or(&[], Vec::as_slice)
    }

    /// Whether the coordinator is to be killed in this round: the planned one, or the next one that can still be caught in the
    /// middle.
    pub(super) fn kills_in(&self, round: u64) -> bool {
        self.kill_round.is_some_and(|planned| round >= planned)
    }

    /// Whether it is to be killed at all.
    pub(super) fn kill(&self) -> bool {
        self.kill_round.is_some()
    }

    /// How long after the round was seen to collect.
    pub(super) fn kill_delay(&self) -> Duration {
        self.kill_delay
    }
}

/// Uniform below `bound`, up to a bias of 2^-32 that no demonstration shows.
fn below(rng: &mut ChaCha20Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % bound.max(1) as u64).unwrap_or(0)
}

/// Shorter than a round with dropouts can be: its first step waits for their training.
const KILL_WITHIN_MILLIS: usize = 150;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_sites_vanish_in_every_round_and_the_seed_says_which() {
        let faults = Faults::plan(10, 20, 7);
        for round in 1..=20 {
            let sites = (0..10).filter(|&site| faults.of_site(site).iter().any(|(at, _)| *at == round));
            assert_eq!(sites.count(), 2, "round {round}");
        }
        let again = Faults::plan(10, 20, 7);
        assert!((0..10).all(|site| faults.of_site(site) == again.of_site(site)));
        let steps: std::collections::BTreeSet<_> = faults.vanish.values().flatten().map(|(_, step)| *step).collect();
        assert_eq!(steps.len(), Step::ALL.len(), "every step is hit in twenty rounds");
    }
}
