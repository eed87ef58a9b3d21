//! Tree aggregation: one noise vector per node of a binary tree over the rounds.

use zeroize::Zeroizing;

use super::state::{StateReader, StateWriter};
use crate::noise::error::{NoiseError, at_least_one, positive, up};
use crate::noise::gaussian::DiscreteGaussian;
use crate::noise::rng::{NoiseRng, SEED_LEN};
use crate::noise::variance::Ratio;

/// Cost of releasing all prefix sums of a number of rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreePlan {
    steps: u32,
    trees: u32,
    sigma: f64,
}

impl TreePlan {
    /// - `steps`: rounds of one tree.
    /// - `trees`: trees that one participant appears in, once in each.
    /// - `sigma`: standard deviation of a node's noise over the sensitivity of one round's sum.
    ///
    /// # Errors
    /// [`NoiseError::Count`] or [`NoiseError::Parameter`] for what is not positive.
    pub fn new(steps: u32, trees: u32, sigma: f64) -> Result<Self, NoiseError> {
        at_least_one("the number of steps", steps.into())?;
        at_least_one("the number of trees", trees.into())?;
        Ok(Self { steps, trees, sigma: positive("the noise multiplier", sigma)? })
    }

    /// Nodes that one round is part of, `ceil(log2(steps + 1))`.
    #[must_use]
    pub fn levels(&self) -> u32 {
        u32::BITS - self.steps.leading_zeros()
    }

    /// Multiplier of the one Gaussian event that the whole run costs: `sigma / sqrt(trees levels)`, rounded down. Its
    /// divergence is `alpha trees levels/(2 sigma^2)`.
    #[must_use]
    pub fn charged_multiplier(&self) -> f64 {
        self.sigma / up((f64::from(self.trees) * f64::from(self.levels())).sqrt())
    }
}

/// The noise of a run, round by round. Holds one seed per level; vectors are drawn again where their noise is taken back.
pub struct TreeNoise {
    steps: u32,
    /// Steps taken.
    step: u32,
    sampler: DiscreteGaussian,
    /// By level: the node whose noise is in the prefix sum, where its bit of `step` is set.
    nodes: [Option<Zeroizing<[u8; SEED_LEN]>>; u32::BITS as usize],
    /// Length of the vectors, fixed by the first.
    dim: Option<usize>,
}

impl TreeNoise {
    /// For a number of rounds, with `node` the noise of each node.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for no rounds.
    pub fn new(steps: u32, node: DiscreteGaussian) -> Result<Self, NoiseError> {
        at_least_one("the number of steps", steps.into())?;
        Ok(Self { steps, step: 0, sampler: node, nodes: [const { None }; u32::BITS as usize], dim: None })
    }

    /// Adds a round's noise to its sum. The sum of all rounds then carries the noise of the nodes that make up the step's
    /// number in binary: as many variances as it has ones.
    ///
    /// # Errors
    /// [`NoiseError::Finished`], [`NoiseError::Length`]: nothing was changed. [`NoiseError::Overflow`]: the vector must be
    /// thrown away; the step was not taken.
    pub fn add_to(&mut self, values: &mut [i64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        if self.step == self.steps {
            return Err(NoiseError::Finished { steps: self.steps });
        }
        let want = *self.dim.get_or_insert(values.len());
        if values.len() != want {
            return Err(NoiseError::Length { name: "the sum", got: values.len(), want });
        }
        // Counting up completes the node at the lowest zero, and with it those below.
        let level = self.step.trailing_ones() as usize;
        for node in self.nodes[..level].iter().flatten() {
            let mut part = NoiseRng::part(node);
            for (at, value) in values.iter_mut().enumerate() {
                *value = value.checked_sub(self.sampler.draw(&mut part)).ok_or(NoiseError::Overflow { at })?;
            }
        }
        let seed = rng.split();
        self.sampler.add_to(values, &mut NoiseRng::part(&seed))?;
        self.nodes[..level].fill_with(|| None);
        self.nodes[level] = Some(seed);
        self.step += 1;
        Ok(())
    }

    /// Steps taken.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.step
    }

    /// The state, to be sealed: who has it can take the noise off every release of the run.
    #[must_use]
    pub fn secret_state(&self) -> Zeroizing<Vec<u8>> {
        let sigma2 = self.sampler.sigma2();
        let mut out = StateWriter::with_words(6 + self.nodes.len() * SEED_LEN / 8);
        out.word(TAG).word(self.steps.into()).word(self.step.into());
        out.word(sigma2.numerator()).word(sigma2.denominator());
        // Zero for a length that is not fixed yet; there is nothing to add noise to in vectors of none.
        out.word(self.dim.unwrap_or(0) as u64);
        for seed in self.nodes.iter().flatten() {
            out.raw(&seed[..]);
        }
        out.finish()
    }

    /// The run of a state.
    ///
    /// # Errors
    /// [`NoiseError::BadState`] and what [`Ratio::new`] says of a variance that is none.
    pub fn restore(state: &[u8]) -> Result<Self, NoiseError> {
        let mut reader = StateReader::new(state, TAG)?;
        let (steps, step) = (reader.count()?, reader.count::<u32>()?);
        let sampler = DiscreteGaussian::new(Ratio::new(reader.word()?, reader.word()?)?);
        let dim = Some(reader.count()?).filter(|dim| *dim > 0);
        let mut run = Self::new(steps, sampler)?;
        if step > steps {
            return Err(NoiseError::BadState);
        }
        (run.step, run.dim) = (step, dim);
        for (level, node) in run.nodes.iter_mut().enumerate() {
            if step >> level & 1 == 1 {
                *node = Some(Zeroizing::new(reader.array()?));
            }
        }
        reader.finish()?;
        Ok(run)
    }
}

/// "sdp tree", the format's name.
const TAG: u64 = u64::from_le_bytes(*b"sdp tree");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::vectors;

    /// Epsilon of a Gaussian event over integer and fractional orders (Canonne, Kamath, Steinke 2020, proposition 12).
    fn epsilon(multiplier: f64, delta: f64, orders: &[f64]) -> (f64, f64) {
        let at = |a: f64| a / (2.0 * multiplier * multiplier) + (-1.0 / a).ln_1p() - (delta * a).ln() / (a - 1.0);
        orders.iter().map(|&a| (at(a), a)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    }

    fn orders() -> Vec<f64> {
        let fractions = (11..110).map(|a| f64::from(a) / 10.0);
        fractions.chain((11..64).map(f64::from)).chain([128.0, 256.0, 512.0, 1024.0]).collect()
    }

    /// All `tree` cases.
    #[test]
    fn tree_vectors() {
        let file = vectors::load("correlated_noise.json");
        let mut seen = 0;
        for case in file.cases("tree") {
            let trees = case.count("trees_a_client_appears_in");
            let plan = TreePlan::new(case.count("steps"), trees, case.f64("sigma")).unwrap();
            assert_eq!(plan.levels(), case.count::<u32>("levels"));
            let (epsilon, order) = epsilon(plan.charged_multiplier(), case.f64("delta"), &orders());
            vectors::close(epsilon, case.f64("eps_rdp"), "epsilon");
            assert!(epsilon >= case.f64("eps_rdp") * (1.0 - 1e-15));
            vectors::close(order, case.f64("eps_rdp_order"), "order");
            seen += 1;
        }
        assert!(seen > 0);
    }

    /// The noise of each prefix has as many node variances as its number has ones. 50,000 elements: a standard deviation
    /// of 0.63 %, five of them allowed, seven seven-sigma events would be needed to fail by chance.
    #[test]
    fn prefix_sums_carry_the_noise_of_their_nodes() {
        let sampler = DiscreteGaussian::new(Ratio::new(100, 1).unwrap());
        let mut tree = TreeNoise::new(13, sampler).unwrap();
        let mut rng = NoiseRng::predictable(31);
        let mut prefix = vec![0_i64; 50_000];
        for step in 1..=13_u32 {
            tree.add_to(&mut prefix, &mut rng).unwrap();
            let variance = prefix.iter().map(|&x| (x * x) as f64).sum::<f64>() / 50_000.0;
            let want = f64::from(step.count_ones()) * 100.0;
            assert!((variance / want - 1.0).abs() < 0.032, "step {step}: {variance}");
        }
        assert_eq!(tree.add_to(&mut prefix, &mut rng), Err(NoiseError::Finished { steps: 13 }));
    }

    #[test]
    fn a_step_that_overflows_is_not_taken() {
        let mut tree = TreeNoise::new(4, DiscreteGaussian::new(Ratio::new(100, 1).unwrap())).unwrap();
        let mut rng = NoiseRng::predictable(32);
        tree.add_to(&mut [0; 40], &mut rng).unwrap();
        assert!(matches!(tree.add_to(&mut [i64::MAX; 40], &mut rng), Err(NoiseError::Overflow { .. })));
        assert!(matches!(tree.add_to(&mut [0; 41], &mut rng), Err(NoiseError::Length { .. })));
        assert_eq!(tree.step(), 1);
        tree.add_to(&mut [0; 40], &mut rng).unwrap();
        assert_eq!(tree.step(), 2);
    }

    /// Stored after each step, restored, and none the wiser.
    #[test]
    fn a_restored_run_goes_on_as_it_would_have() {
        let sampler = DiscreteGaussian::new(Ratio::new(100, 3).unwrap());
        let (mut kept, mut stored) = (TreeNoise::new(13, sampler).unwrap(), TreeNoise::new(13, sampler).unwrap());
        for step in 0..13 {
            let state = stored.secret_state();
            stored = TreeNoise::restore(&state).unwrap();
            let (mut a, mut b) = ([7_i64; 20], [7_i64; 20]);
            kept.add_to(&mut a, &mut NoiseRng::predictable(step)).unwrap();
            stored.add_to(&mut b, &mut NoiseRng::predictable(step)).unwrap();
            assert_eq!(a, b, "step {step}");
        }
        let state = stored.secret_state();
        for len in 0..state.len() {
            assert!(TreeNoise::restore(&state[..len]).is_err(), "{len}");
        }
        assert!(TreeNoise::restore(&[&state[..], &[0]].concat()).is_err());
        let over = TreeNoise::restore(&state).unwrap().add_to(&mut [0; 20], &mut NoiseRng::predictable(1));
        assert_eq!(over, Err(NoiseError::Finished { steps: 13 }));
        let mut beyond = state.to_vec();
        beyond[16] = 14;
        assert!(TreeNoise::restore(&beyond).is_err(), "step 14 of 13");
    }

    #[test]
    fn bad_plans_are_refused() {
        assert!(TreePlan::new(0, 1, 1.0).is_err());
        assert!(TreePlan::new(1, 0, 1.0).is_err());
        assert!(TreePlan::new(1, 1, f64::NAN).is_err());
        assert_eq!(TreePlan::new(u32::MAX, 1, 1.0).unwrap().levels(), 32);
        assert!(TreeNoise::new(0, DiscreteGaussian::new(Ratio::new(1, 1).unwrap())).is_err());
    }
}
