//! A federation without a network: one policy, sites with rows, round after round.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sordino_codec::{Encoding, RingVector};
use sordino_dp::{Accountant, noise::NoiseRng};
use sordino_participant::training::{
    Architecture, BuiltinTrainer, Dataset, DirichletSplit, RoundInfo, Trainer as _, evaluate,
};
use sordino_wire::{CheckedPolicy, RoundPrivacy};
use std::num::NonZeroU32;

/// Anything that can go wrong, named where it is shown.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// One policy, and what follows from it alone.
pub(crate) struct Federation {
    policy: CheckedPolicy,
    architecture: Architecture,
    privacy: Option<RoundPrivacy>,
    encoding: Encoding,
    sites: NonZeroU32,
}

impl Federation {
    /// Whole cohorts, on the rows of handwritten digits and a model of one layer.
    pub(crate) fn new(policy: CheckedPolicy) -> Result<Self, Error> {
        let (train, _) = Dataset::digits();
        let architecture = Architecture::Softmax { features: train.columns(), classes: train.classes() };
        let sites = NonZeroU32::new(policy.policy().cohort.target).ok_or("a cohort of nobody")?;
        let (terms, model_len) = (policy.terms(sites.get()), architecture.parameters()?);
        let privacy = policy.round_privacy(model_len, &terms)?;
        let encoding = policy.encoding(model_len, &terms)?;
        Ok(Self { policy, architecture, privacy, encoding, sites })
    }

    pub(crate) fn policy(&self) -> &sordino_wire::Policy {
        self.policy.policy()
    }

    /// Epsilon of all rounds together, by the accountant that charges them; none without privacy.
    pub(crate) fn epsilon(&self) -> Result<Option<f64>, Error> {
        let Some(privacy) = &self.privacy else { return Ok(None) };
        let all = privacy.events().times(self.policy().task.rounds)?;
        Ok(Some(Accountant::new(self.policy().privacy.delta)?.with_all(&all)?.epsilon))
    }

    /// Trains from the first model to the last; accuracy on the held-out rows. The seed fixes the split, the order of rows
    /// and the rounding, never the noise.
    pub(crate) fn accuracy(&self, seed: u64) -> Result<f64, Error> {
        let (train, test) = Dataset::digits();
        let participants = usize::try_from(self.sites.get())?;
        let min_rows = (train.rows() / (4 * participants)).clamp(1, 20);
        let split = DirichletSplit { participants, alpha: ALPHA, min_rows, seed };
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut trainers: Vec<_> = split
            .deal(&train)?
            .into_iter()
            .map(|rows| BuiltinTrainer::new(rows, ChaCha20Rng::seed_from_u64(rng.next_u64())))
            .collect();
        let mut model = self.architecture.initial(seed)?;
        let mut state = self.policy.optimizer().initial(model.values().len());
        for round in 1..=self.policy().task.rounds {
            let info = RoundInfo::of(round, self.policy(), self.privacy.as_ref());
            let mut sum = RingVector::zeros(self.encoding.len(), self.encoding.bits());
            for trainer in &mut trainers {
                let trained = trainer.train(&model, &info)?;
                let weight = if self.privacy.is_some() { 1 } else { u32::try_from(trained.num_examples)? };
                let update = trained.tensors.minus(&model)?;
                let mut input = self.encoding.encode(&update, weight, &[], &mut rng)?.vector;
                if let Some(RoundPrivacy::Participant(round)) = &self.privacy {
                    round.add_share(&mut input, &mut NoiseRng::from_os(getrandom::fill)?)?;
                }
                sum.add_assign(&input)?;
            }
            let mut sums = self.encoding.open(&sum, self.sites.get())?;
            if let Some(RoundPrivacy::Participant(round)) = &self.privacy {
                round.add_central(&mut sums, &mut NoiseRng::from_os(getrandom::fill)?)?;
            }
            let divisor = RoundPrivacy::divisor(self.privacy.as_ref(), self.sites);
            (state, model) =
                self.policy.next_model(state.as_ref(), &model, &self.encoding.aggregate(&sums, divisor))?;
        }
        Ok(evaluate(&model, &test)?.accuracy())
    }
}

/// Concentration of the split: clearly uneven.
const ALPHA: f64 = 0.5;
