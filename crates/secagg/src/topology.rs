//! Who shares with whom: the number of neighbours k, the threshold t, and the k-regular graph.
//!
//! k and t come from exact hypergeometric tails (Bell et al. 2020, sections 3.3 and 4; Bonawitz et al. 2017 for the
//! complete graph), for a roster of n of which c collude with the coordinator and d fall silent:
//!
//! 1. *One secret of two, and nobody is cut off.* Any two windows of k/2 successive places of the ring that do not overlap
//!    hold together fewer than 2t - k corrupt participants, except with probability 2^-80: 40 bits, and 40 more because
//!    whoever advertises last can try many keys to influence the graph. There are fewer than n^2 such pairs, so for each
//!    of them the tail is taken at 80 + 2 log2 n bits.
//! 2. *Random silence alone cuts nobody off.* No k/2 successive places hold only corrupt or silent participants, again up
//!    to 2^-80.
//! 3. *The round ends.* Everybody keeps t answering neighbours, up to 2^-30.
//!
//! The smallest even k that allows all three is taken, with the smallest t that (1) allows. Where no k below n - 1 does,
//! the graph is complete and the tails become certainties.
//!
//! # What follows from (1)
//! *One secret of two.* The coordinator needs t shares of a participant's root *and* t of its self-mask seed to see its
//! input. Honest neighbours reveal one of the two, corrupt ones both; the neighbours are two windows, one on each side,
//! so `2t > k + (corrupt neighbours)` rules it out.
//!
//! *Nobody is cut off, whoever is said to have dropped.* Corrupt participants are who they are before the ring is
//! drawn, but a coordinator sees the ring, and then chooses whom it does not hear. Let everybody who reveals have
//! signed one survivor list, and suppose that the inputs of two sets of honest participants A and B come off
//! separately. So whomever a member of A is masked with is corrupt, in A, or not on the list and its root opened. Who
//! reveals is on the list, and A has some who reveal: of any member, t neighbours reveal the seed and t are masked
//! with, which by (1) makes an honest one of them both. So has B. An honest signer is masked with all survivors beside
//! it, so those beside a signer in A are corrupt or in A. Hence who reveals stands in runs on the ring, each all in A
//! or all outside, with at least k/2 places between one in A and one outside; there are both kinds, so there are two
//! such gaps.
//!
//! Take the last of a run in A, at place p, before such a gap. It needs t signers beside it, at most k/2 of them behind
//! it: so among the next k/2 places t - k/2 are corrupt, or one, p + e, is an honest signer x in A that does not
//! reveal. As a member of A its seed is revealed by t neighbours, corrupt or not. None of them stands beyond the gap:
//! it would be beside the signer x, and so in A. Behind x, up to p, there are at most k/2 - e + 1 of them; so behind p
//! and up to p + e + k/2 at least t - k/2 + e - 1 are corrupt, and at most e - 1 of these stand before x. Either way
//! k/2 successive places of the gap hold at least t - k/2 corrupt participants. Two gaps make two windows that do not
//! overlap, with 2t - k of them: that is what (1) rules out.
//!
//! In the complete graph `2t > n - 1 + c` leaves room for one list only.
//!
//! # What does not follow
//! That there is one list. `2t > k + c` rules out that two participants of one neighbourhood reveal for different
//! lists, and nothing says so of two far apart on the ring. With a list for each of three stretches, of which the one
//! in the middle only helps, a coordinator can open the other two as sums of their own where t is below about 0.6 k
//! (`coordinator/split.rs` does so, in tests). So it is the registrar that says which list an attempt has: it signs one,
//! and participants sign no other. What is above holds while it does; a coordinator that has its key can show several
//! lists on a sparse graph, as it can invent participants on any. The complete graph holds without it.

use crate::canonical::Writer;
use crate::context::{ContextDigest, Faults};
use crate::labels;
use crate::merkle::Hash;
use crate::message::NEIGHBOURS_MAX;
use sha2::{Digest as _, Sha256};

/// Neighbours and threshold of every participant of a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// Participants in the roster.
    pub n: u32,
    /// Neighbours of each; `n - 1` in the complete graph, even otherwise.
    pub k: u32,
    /// Neighbours that must answer: shares that open a secret, signatures that settle a survivor set.
    pub t: u32,
}

/// Why no graph stands the faults that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{n} participants cannot stand {corrupt} that collude and {dropouts} that fall silent: a threshold of {threshold} is \
     needed and {answering} neighbours answer; enlarge the cohort or lower the fractions"
)]
pub struct NoTopology {
    /// Participants in the roster.
    pub n: u32,
    /// Colluding ones.
    pub corrupt: u32,
    /// Silent ones.
    pub dropouts: u32,
    /// The threshold that `2t > k + corrupt` asks for in the complete graph.
    pub threshold: u32,
    /// Neighbours that answer when all dropouts are neighbours.
    pub answering: u32,
}

impl Topology {
    /// Derives k and t for a roster of `n`.
    ///
    /// # Errors
    /// [`NoTopology`]: not even the complete graph stands these faults.
    pub fn derive(n: u32, faults: &Faults) -> Result<Self, NoTopology> {
        Self::derive_for(n, faults.corrupt, faults.dropouts(n), GRINDING_BITS + SECURITY_BITS)
    }

    fn derive_for(n: u32, corrupt: u32, dropouts: u32, security_bits: f64) -> Result<Self, NoTopology> {
        Self::derive_with(n, corrupt, dropouts, security_bits, CORRECTNESS_BITS)
    }

    fn derive_with(
        n: u32,
        corrupt: u32,
        dropouts: u32,
        security_bits: f64,
        correctness_bits: f64,
    ) -> Result<Self, NoTopology> {
        let factorials = LogFactorials::new(n);
        // No participant can take more neighbours than its messages hold.
        let most = u32::try_from(NEIGHBOURS_MAX).unwrap_or(u32::MAX);
        let sparse = (2..n.saturating_sub(1).min(most + 1)).step_by(2).find_map(|k| {
            let connected = {
                let faulty = (f64::from(corrupt) + f64::from(dropouts)) / f64::from(n);
                f64::from(n).log2() + f64::from(k / 2) * faulty.log2() <= -security_bits
            };
            if !connected {
                return None;
            }
            let t = threshold(&factorials, n, corrupt, k, security_bits);
            let silent_neighbours = factorials.quantile(n - 1, dropouts, k, correctness_bits + f64::from(n).log2());
            (t + silent_neighbours <= k).then_some(Self { n, k, t })
        });
        sparse.map_or_else(|| Self::complete(n, corrupt, dropouts), Ok)
    }

    fn complete(n: u32, corrupt: u32, dropouts: u32) -> Result<Self, NoTopology> {
        let k = n.saturating_sub(1);
        let t = (k + corrupt.min(k)) / 2 + 1;
        let answering = k.saturating_sub(dropouts);
        if t <= answering {
            Ok(Self { n, k, t })
        } else {
            Err(NoTopology { n, corrupt, dropouts, threshold: t, answering })
        }
    }

    fn is_complete(&self) -> bool {
        self.k + 1 == self.n
    }
}

/// The smallest t with which no two windows of k/2 places, of the fewer than n^2 pairs that do not overlap, hold 2t - k
/// corrupt participants. The neighbours of somebody honest are drawn out of the n - 1 others; two windows anywhere are
/// drawn out of n, which makes many corrupt ones rarer still.
fn threshold(factorials: &LogFactorials, n: u32, corrupt: u32, k: u32, security_bits: f64) -> u32 {
    let in_two_windows = factorials.quantile(n - 1, corrupt, k, security_bits + 2.0 * f64::from(n).log2());
    (k + in_two_windows) / 2 + 1
}

/// The graph of one attempt.
#[derive(Debug, Clone)]
pub struct Graph {
    topology: Topology,
    /// Place on the ring to roster index; empty for the complete graph.
    ring: Vec<u32>,
    /// Roster index to place on the ring.
    place: Vec<u32>,
}

impl Graph {
    /// The Harary graph on a ring whose order is drawn from `roster_root` and the context: the root covers every
    /// advertised key, so nobody picks the graph alone.
    #[must_use]
    pub fn new(topology: Topology, context: &ContextDigest, roster_root: &Hash) -> Self {
        if topology.is_complete() {
            return Self { topology, ring: Vec::new(), place: Vec::new() };
        }
        let mut out = Writer::new();
        out.bytes(labels::GRAPH_SEED).raw(&context.0).raw(roster_root).u32(topology.n).u32(topology.k);
        let mut draws = Draws::new(Sha256::digest(out.finish()).into());
        // Fisher and Yates, from the top.
        let mut ring: Vec<u32> = (0..topology.n).collect();
        for last in (1..topology.n).rev() {
            ring.swap(last as usize, draws.below(last + 1) as usize);
        }
        let mut place = vec![0; topology.n as usize];
        for (at, &index) in (0..).zip(&ring) {
            place[index as usize] = at;
        }
        Self { topology, ring, place }
    }

    /// Roster indices in the order of the ring; none for the complete graph.
    #[cfg(test)]
    pub(crate) fn ring(&self) -> &[u32] {
        &self.ring
    }

    /// Neighbours and threshold.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Roster indices of the neighbours of `index`, ascending; empty for an index outside of the roster.
    #[must_use]
    pub fn neighbours(&self, index: u32) -> Vec<u32> {
        let Topology { n, k, .. } = self.topology;
        if index >= n {
            return Vec::new();
        }
        if self.topology.is_complete() {
            return (0..n).filter(|&other| other != index).collect();
        }
        let place = self.place[index as usize];
        let mut neighbours: Vec<u32> = (1..=k / 2)
            .flat_map(|step| [(place + step) % n, (place + n - step) % n])
            .map(|place| self.ring[place as usize])
            .collect();
        neighbours.sort_unstable();
        neighbours
    }
}

/// Uniform integers from SHA-256 in counter mode.
struct Draws {
    seed: Hash,
    block: u64,
    words: Vec<u32>,
}

impl Draws {
    fn new(seed: Hash) -> Self {
        Self { seed, block: 0, words: Vec::new() }
    }

    fn word(&mut self) -> u32 {
        if self.words.is_empty() {
            let block = Sha256::new().chain_update(self.seed).chain_update(self.block.to_le_bytes()).finalize();
            self.block += 1;
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
            self.words = block.chunks_exact(4).rev().map(word).collect();
        }
        self.words.pop().expect("just filled")
    }

    /// Uniform below `bound`, which is not 0; draws that would favour small values are thrown away.
    fn below(&mut self, bound: u32) -> u32 {
        let fair = u32::MAX - u32::MAX % bound;
        loop {
            let word = self.word();
            if word < fair {
                return word % bound;
            }
        }
    }
}

/// log2 of factorials, for tails of the hypergeometric distribution.
struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn new(max: u32) -> Self {
        let mut sum = 0.0;
        let logs = (1..=max).map(|i| {
            sum += f64::from(i).log2();
            sum
        });
        Self(std::iter::once(0.0).chain(logs).collect())
    }

    /// log2 of "n over k".
    fn choose(&self, n: u32, k: u32) -> f64 {
        self.0[n as usize] - self.0[k as usize] - self.0[(n - k) as usize]
    }

    /// The smallest x such that more than x marked ones among `draws` out of `population`, of which `marked` are marked,
    /// have a probability of at most 2^-bits.
    fn quantile(&self, population: u32, marked: u32, draws: u32, bits: f64) -> u32 {
        let marked = marked.min(population);
        let limit = (-bits).exp2();
        let all = self.choose(population, draws);
        let mut tail = 0.0;
        // From the rarest event downwards: small terms are added first, which keeps the sum exact enough.
        let fewest = (draws + marked).saturating_sub(population);
        let mut x = draws.min(marked);
        loop {
            let unmarked = population - marked;
            tail += (self.choose(marked, x) + self.choose(unmarked, draws - x) - all).exp2();
            if tail > limit || x == fewest {
                return x;
            }
            x -= 1;
        }
    }
}

/// Probability, in bits, that a participant's input is exposed by the choice of the graph.
const SECURITY_BITS: f64 = 40.0;
/// Spare bits for a participant or coordinator that tries many keys before it advertises.
const GRINDING_BITS: f64 = 40.0;
/// Probability, in bits, that an attempt fails although no more fall silent than the policy allows for.
const CORRECTNESS_BITS: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// k and t computed independently of this code (exact tails in integers, at 40 bits), and for n = 1,000 at 20 % and
    /// 20 % also with 40 bits to spare.
    #[test]
    fn published_parameters() {
        for (n, corrupt, dropouts, bits, k, t) in [
            (100, 5, 5, 40.0, 30, 18),
            (100, 10, 20, 40.0, 54, 33),
            (100, 20, 20, 40.0, 72, 47),
            (1_000, 50, 50, 40.0, 64, 45),
            (1_000, 100, 200, 40.0, 238, 151),
            (1_000, 200, 200, 40.0, 354, 240),
            (10_000, 500, 500, 40.0, 80, 56),
            (10_000, 1_000, 2_000, 40.0, 354, 225),
            (1_000, 200, 200, 80.0, 400, 276),
        ] {
            let got = Topology::derive_for(n, corrupt, dropouts, bits);
            assert_eq!(got, Ok(Topology { n, k, t }), "n = {n}, {corrupt} corrupt, {dropouts} silent");
        }
    }

    #[test]
    fn small_rosters_are_complete() {
        let faults = Faults { corrupt: 2, max_dropout_fraction: 0.2 };
        assert_eq!(Topology::derive(10, &faults), Ok(Topology { n: 10, k: 9, t: 6 }));
        assert_eq!(Topology::derive(8, &faults), Ok(Topology { n: 8, k: 7, t: 5 }));
        let alone = Faults { corrupt: 0, max_dropout_fraction: 0.0 };
        assert_eq!(Topology::derive(3, &alone), Ok(Topology { n: 3, k: 2, t: 2 }));
    }

    #[test]
    fn what_no_graph_stands_is_refused_in_one_sentence() {
        let error = Topology::derive(10, &Faults { corrupt: 5, max_dropout_fraction: 0.3 }).expect_err("too much");
        assert_eq!(error, NoTopology { n: 10, corrupt: 5, dropouts: 3, threshold: 8, answering: 6 });
        for n in 0..3 {
            let faults = Faults { corrupt: 1, max_dropout_fraction: 0.0 };
            assert!(Topology::derive(n, &faults).is_err(), "{n} participants");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Both ends of an edge agree, everybody has k neighbours and is none of its own, and the threshold rules out
        /// that two halves of a neighbourhood open both secrets.
        #[test]
        fn graphs_are_regular_and_symmetric(n in 3u32..400, corrupt in 0u32..3, drop in 0.0f64..0.1, root: [u8; 32]) {
            let faults = Faults { corrupt, max_dropout_fraction: drop };
            let Ok(topology) = Topology::derive(n, &faults) else { return Ok(()) };
            prop_assert!(2 * topology.t > topology.k + corrupt.min(topology.k).min(1));
            let graph = Graph::new(topology, &ContextDigest([1; 32]), &root);
            let all: Vec<Vec<u32>> = (0..n).map(|index| graph.neighbours(index)).collect();
            for (index, neighbours) in (0..).zip(&all) {
                prop_assert_eq!(neighbours.len(), topology.k as usize);
                prop_assert!(neighbours.is_sorted_by(|a, b| a < b));
                for &other in neighbours {
                    prop_assert_ne!(other, index);
                    prop_assert!(all[other as usize].binary_search(&index).is_ok());
                }
            }
            prop_assert!(graph.neighbours(n).is_empty());
        }
    }

    /// Quantiles are where drawing says they are: of 200,000 neighbourhoods, as many have more marked members than the
    /// quantile as its probability allows for, and with one fewer it would be too many.
    #[test]
    fn tails_are_those_of_drawing() {
        let (population, marked, drawn, bits) = (199u32, 40u32, 30u32, 7.0);
        let quantile = LogFactorials::new(population).quantile(population, marked, drawn, bits);
        let mut draws = Draws::new([5; 32]);
        let mut members: Vec<u32> = (0..population).collect();
        let (mut above, mut at_least) = (0u32, 0u32);
        let rounds = 200_000u32;
        for _ in 0..rounds {
            let mut count = 0;
            for place in 0..drawn {
                let other = place + draws.below(population - place);
                members.swap(place as usize, other as usize);
                count += u32::from(members[place as usize] < marked);
            }
            above += u32::from(count > quantile);
            at_least += u32::from(count >= quantile);
        }
        let allowed = f64::from(rounds) * (-bits).exp2();
        // Five standard deviations of a count around `allowed`.
        let noise = 5.0 * allowed.sqrt();
        assert!(f64::from(above) <= allowed + noise, "{above} above {quantile}, {allowed} are allowed");
        assert!(f64::from(at_least) > allowed - noise, "{at_least} at {quantile} or above: it could be smaller");
    }

    /// What k and t promise, held against graphs that are really drawn, with bits so few that a wrong formula would show:
    /// no more graphs fail than the promise allows for, and with less of what it asks for more do.
    #[test]
    fn graphs_keep_what_the_tails_promise() {
        let (n, corrupt, dropouts, bits) = (150u32, 15u32, 15u32, 5.0);
        let topology = Topology::derive_with(n, corrupt, dropouts, bits, bits).expect("allowed");
        assert!(!topology.is_complete(), "{topology:?}");
        let trials = 600u32;
        let promised = f64::from(trials) * (-bits).exp2();
        let most = promised + 5.0 * promised.sqrt();
        let failures = failures(topology, corrupt, dropouts, trials);
        assert!(failures.iter().all(|&count| f64::from(count) <= most), "{failures:?} of {trials}, {topology:?}");
        // A threshold lower than it must be lets both secrets be opened; a higher one leaves too few that answer.
        let exposed = Topology { t: topology.k / 2 + 1, ..topology };
        let stuck = Topology { t: topology.k - 2, ..topology };
        let cut_off = Topology { k: 2, t: 2, ..topology };
        for (which, topology) in [exposed, cut_off, stuck].into_iter().enumerate() {
            let failures = self::failures(topology, corrupt, dropouts, trials);
            assert!(f64::from(failures[which]) > most, "{failures:?} of {trials}, {topology:?}");
        }
    }

    /// Graphs in which: somebody's two secrets can both be opened; the honest survivors are not connected; somebody keeps
    /// fewer than t answering neighbours. The first c on the roster collude, the next d are silent: the ring is random.
    fn failures(topology: Topology, corrupt: u32, dropouts: u32, trials: u32) -> [u32; 3] {
        let Topology { n, k, t } = topology;
        let mut failures = [0; 3];
        for trial in 0..trials {
            let mut root = [9; 32];
            root[..4].copy_from_slice(&trial.to_le_bytes());
            let graph = Graph::new(topology, &ContextDigest([3; 32]), &root);
            let neighbours: Vec<Vec<u32>> = (0..n).map(|index| graph.neighbours(index)).collect();
            let count = |of: &[u32], is: &dyn Fn(u32) -> bool| of.iter().filter(|&&other| is(other)).count();
            let colludes = |index: u32| index < corrupt;
            let silent = |index: u32| (corrupt..corrupt + dropouts).contains(&index);
            let honest = |index: u32| !colludes(index) && !silent(index);
            let exposed = neighbours.iter().any(|all| 2 * t as usize <= k as usize + count(all, &colludes));
            let stuck = neighbours.iter().any(|all| count(all, &|other| !silent(other)) < t as usize);
            let mut seen = vec![false; n as usize];
            let mut queue = vec![corrupt + dropouts];
            seen[(corrupt + dropouts) as usize] = true;
            while let Some(index) = queue.pop() {
                for &other in &neighbours[index as usize] {
                    if honest(other) && !std::mem::replace(&mut seen[other as usize], true) {
                        queue.push(other);
                    }
                }
            }
            let cut_off = (0..n).any(|index| honest(index) && !seen[index as usize]);
            for (failed, counted) in [exposed, cut_off, stuck].into_iter().zip(&mut failures) {
                *counted += u32::from(failed);
            }
        }
        failures
    }

    /// A coordinator that sees the ring and chooses who has dropped cuts it where corrupt participants are many. It does
    /// so in no more graphs than t promises; with a t that bounds single neighbourhoods only, it would in more.
    #[test]
    fn no_choice_of_dropouts_cuts_the_ring_more_often_than_promised() {
        let (n, corrupt, k, bits) = (400u32, 40u32, 30u32, 9.0);
        let factorials = LogFactorials::new(n);
        let promised = threshold(&factorials, n, corrupt, k, bits);
        let single = (k + factorials.quantile(n - 1, corrupt, k, bits + f64::from(n).log2())) / 2 + 1;
        assert!(single < promised, "{single}, {promised}");
        let trials = 4_000u32;
        let allowed = f64::from(trials) * (-bits).exp2();
        let cut = |t| (0..trials).filter(|&trial| is_cut(Topology { n, k, t }, corrupt, trial)).count();
        let (at_promised, at_single) = (cut(promised), cut(single));
        assert!(at_promised as f64 <= allowed, "{at_promised} of {trials} are cut at t = {promised}");
        assert!(at_single as f64 > 2.0 * allowed, "{at_single} of {trials} are cut at t = {single}: too gentle");
    }

    /// Whether the best cutting coordinator separates the honest survivors of a graph: it calls the honest ones in two
    /// windows silent, and everybody else still finds t of its neighbours among the others.
    fn is_cut(topology: Topology, corrupt: u32, trial: u32) -> bool {
        let Topology { n, k, t } = topology;
        let mut root = [7; 32];
        root[..4].copy_from_slice(&trial.to_le_bytes());
        let ring = Graph::new(topology, &ContextDigest([4; 32]), &root).ring;
        let colludes: Vec<bool> = ring.iter().map(|&index| index < corrupt).collect();
        let at = |place: u32| colludes[(place % n) as usize];
        let heavy = |first: &u32| (0..k / 2).filter(|step| at(first + step)).count() >= (t - k / 2) as usize;
        let windows: Vec<u32> = (0..n).filter(heavy).collect();
        let holds = |first: u32, place: u32| (place + n - first) % n < k / 2;
        windows.iter().flat_map(|&one| windows.iter().map(move |&other| (one, other))).any(|(one, other)| {
            let answers = |place: u32| at(place) || !(holds(one, place % n) || holds(other, place % n));
            let goes_on = |place: u32| {
                let neighbours = (1..=k / 2).flat_map(|step| [place + step, place + n - step]);
                neighbours.filter(|&other| answers(other)).count() >= t as usize
            };
            let side = |from: u32, to: u32| {
                let places = from + k / 2..if to > from { to } else { to + n };
                let mut honest = places.filter(|&place| !at(place)).peekable();
                honest.peek().is_some() && honest.all(goes_on)
            };
            let apart = one < other && !holds(one, other) && !holds(other, one);
            apart && side(one, other) && side(other, one)
        })
    }

    /// The order of the ring is uniform: over 4,000 seeds, each of 6 participants stands in each place about equally
    /// often. Chi-square with 25 degrees of freedom exceeds 70 with probability 4e-6; seeds are fixed.
    #[test]
    fn the_ring_is_a_uniform_permutation() {
        let topology = Topology { n: 6, k: 2, t: 2 };
        let mut counts = [[0u32; 6]; 6];
        for seed in 0..4_000u32 {
            let mut root = [0; 32];
            root[..4].copy_from_slice(&seed.to_le_bytes());
            let graph = Graph::new(topology, &ContextDigest([2; 32]), &root);
            for (place, &index) in graph.ring.iter().enumerate() {
                counts[place][index as usize] += 1;
            }
        }
        let expected = 4_000.0 / 6.0;
        let chi_square: f64 =
            counts.iter().flatten().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        assert!(chi_square < 70.0, "{chi_square}");
    }
}
