//! What a measured cohort is asked: its context, its inputs, who falls silent, and which sum has to come out.

use super::certificates::FEDERATION;
use crate::failure::BenchError;
use sordino_codec::{Encoding, EncodingSpec, RingVector};
use sordino_secagg::{Context, Faults, Graph, Prg, Topology};
use sordino_wire::policy::{Cohort, EncodingSection, Privacy};
use std::{collections::BTreeSet, str::FromStr};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) participants: u32,
    pub(crate) faults: Faults,
    pub(crate) model_len: usize,
    /// Participants that share their keys and then fall silent: the most expensive ones.
    pub(crate) dropouts: u32,
}

impl Scenario {
    /// A context as a policy with the default encoding makes it.
    pub(crate) fn context(&self) -> Result<Context, BenchError> {
        let EncodingSection { precision_bits, max_weight, .. } = EncodingSection::default();
        let spec = EncodingSpec {
            model_len: self.model_len,
            cohort_max: self.participants,
            clip_norm: Privacy::default().clip_norm,
            max_weight,
            precision_bits,
            metrics: Vec::new(),
        };
        let encoding = Encoding::new(spec)?;
        Ok(Context {
            federation: FEDERATION.into(),
            task: TASK.into(),
            round: 1,
            attempt: 1,
            nonce: [1; 32],
            policy: [2; 32],
            model: [3; 32],
            vector_len: encoding.len() as u64,
            bits: encoding.bits(),
            prg: Prg::Aes256Ctr,
            pq: true,
            min_survivors: MIN_SURVIVORS,
            faults: self.faults,
            proof: None,
        })
    }

    /// One participant's input: any numbers whose sum stays inside the ring, the same whenever they are asked for.
    pub(crate) fn input(&self, context: &Context, number: u32) -> impl Iterator<Item = i64> + use<> {
        let max = context.bits.centered_max() / i64::from(self.participants);
        let span = 2 * max.unsigned_abs() + 1;
        let start = u64::from(number) << 32;
        (start..start + context.vector_len).map(move |at| (mix(at) % span).cast_signed() - max)
    }

    /// Participants to fall silent, such that everybody keeps a threshold of answering neighbours: where a policy did
    /// not allow for so many, chance alone would not.
    pub(crate) fn silent(
        &self,
        topology: Topology,
        context: &Context,
        roster_statement: &[u8],
    ) -> Result<BTreeSet<u32>, BenchError> {
        let wanted = self.dropouts as usize;
        let failed = BenchError::Dropouts { dropouts: wanted, threshold: topology.t };
        // The statement ends in the root of the roster, which the graph is drawn from.
        let Some(root) = roster_statement.last_chunk::<32>() else { return Err(failed) };
        let graph = Graph::new(topology, &context.digest(), root);
        let mut candidates: Vec<u32> = (0..self.participants).collect();
        candidates.sort_by_key(|&number| mix(u64::from(number)));
        let mut chosen = BTreeSet::new();
        let mut silent_neighbours = vec![0; self.participants as usize];
        for candidate in candidates {
            if chosen.len() == wanted {
                break;
            }
            let neighbours = graph.neighbours(candidate);
            if neighbours.iter().all(|&other| topology.t + silent_neighbours[other as usize] < topology.k) {
                chosen.insert(candidate);
                neighbours.iter().for_each(|&other| silent_neighbours[other as usize] += 1);
            }
        }
        if chosen.len() == wanted { Ok(chosen) } else { Err(failed) }
    }

    /// Compares the opened sum with that of the survivors' inputs.
    pub(crate) fn check(
        &self,
        opened: &RingVector,
        context: &Context,
        silent: &BTreeSet<u32>,
    ) -> Result<(), BenchError> {
        let mut expected = vec![0; opened.len()];
        for number in (0..self.participants).filter(|number| !silent.contains(number)) {
            expected.iter_mut().zip(self.input(context, number)).for_each(|(sum, value)| *sum += value);
        }
        if opened.iter_centered().eq(expected) { Ok(()) } else { Err(BenchError::WrongSum) }
    }
}

/// A share of a cohort, from 0 up to, and without, 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fraction(pub(crate) f64);

impl Fraction {
    /// So much of `n`, rounded up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32 stays in its range")]
    pub(crate) fn of(self, n: u32) -> u32 {
        // 0.1 is above a tenth in binary, and a tenth of 1,000 must still be 100.
        (f64::from(n) * self.0 - 1e-6).ceil() as u32
    }
}

impl FromStr for Fraction {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
        share.map(Self).ok_or("a share is a number from 0 to below 1, such as 0.1")
    }
}

/// The faults that a policy stands which says nothing about them.
pub(crate) fn default_faults() -> Faults {
    let Cohort { min, max_corrupt_fraction, max_dropout_fraction, .. } = Cohort::default();
    Faults { corrupt: Fraction(max_corrupt_fraction).of(min), max_dropout_fraction }
}

/// The finaliser of SplitMix64: enough to make every value different.
fn mix(at: u64) -> u64 {
    let mut z = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Name of the task of measured cohorts.
pub(crate) const TASK: &str = "bench";
const MIN_SURVIVORS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_taken() {
        assert_eq!(
            ["0.1", "0", "0.05"].map(|text| text.parse::<Fraction>().map(|share| share.of(1_000))),
            [Ok(100), Ok(0), Ok(50)]
        );
        for text in ["1", "-0.1", "nan", "a tenth", ""] {
            assert!(text.parse::<Fraction>().is_err(), "{text}");
        }
        assert_eq!(default_faults(), Faults { corrupt: 2, max_dropout_fraction: 0.2 });
    }

    #[test]
    fn a_sum_of_others_inputs_is_noticed() {
        let faults = Faults { corrupt: 0, max_dropout_fraction: 0.1 };
        let scenario = Scenario { participants: 22, faults, model_len: 50, dropouts: 2 };
        let context = scenario.context().expect("a small cohort");
        let mut sum = vec![0; 51];
        for number in 1..22 {
            sum.iter_mut().zip(scenario.input(&context, number)).for_each(|(sum, value)| *sum += value);
        }
        let opened = RingVector::from_centered(&sum, context.bits).expect("inputs whose sum fits");
        assert!(scenario.check(&opened, &context, &BTreeSet::from([0])).is_ok());
        for silent in [BTreeSet::new(), BTreeSet::from([1]), BTreeSet::from([0, 1])] {
            assert!(matches!(scenario.check(&opened, &context, &silent), Err(BenchError::WrongSum)));
        }
    }
}
