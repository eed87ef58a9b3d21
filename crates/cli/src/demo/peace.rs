//! The same rounds with everybody honest, in this process: what an attack is compared with.

use super::{Lesson, scene::Scene};
use crate::failure::{DemoError, Failure};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_codec::RingVector;
use sordino_participant::training::{BuiltinTrainer, RoundInfo, Trainer as _, evaluate};
use sordino_wire::{Policy, RoundPrivacy};
use std::{error::Error, num::NonZeroU32};

/// Accuracy of the last model on the held-out rows: the policy, the sites' rows and the order in which they are trained on are
/// those of the run, the sums those of its encoding; network, masks and proofs are left out.
///
/// Only without privacy: the rounding draws from a seed.
pub(super) fn accuracy(scene: &Scene, lesson: &Lesson) -> Result<f64, Failure> {
    honest(scene, lesson).map_err(|error| DemoError::Evaluate(error).into())
}

fn honest(scene: &Scene, lesson: &Lesson) -> Result<f64, Box<dyn Error + Send + Sync>> {
    let policy = Policy::from_toml(&scene.policy(lesson.train.rows()))?.check()?;
    let sites = NonZeroU32::new(scene.participants).ok_or("nobody takes part")?;
    let mut model = lesson.architecture.initial(scene.seed)?;
    let encoding = policy.encoding(model.layout().len(), &policy.terms(sites.get()))?;
    let rng = |number| ChaCha20Rng::seed_from_u64(scene.seed_of(number));
    let rows = scene.deal(&lesson.train)?.into_iter();
    let mut trainers: Vec<_> = rows.zip(0..).map(|(rows, number)| BuiltinTrainer::new(rows, rng(number))).collect();
    let mut rounding = ChaCha20Rng::seed_from_u64(scene.seed);
    for round in 1..=scene.rounds {
        let info = RoundInfo::of(round, policy.policy(), None);
        let mut sum = RingVector::zeros(encoding.len(), encoding.bits());
        for trainer in &mut trainers {
            let trained = trainer.train(&model, &info)?;
            let metrics = policy.policy().encoding.metrics.iter();
            let metrics: Vec<f64> =
                metrics.map(|metric| trained.metrics.get(&metric.name).copied().unwrap_or(0.0)).collect();
            let weight = u32::try_from(trained.num_examples)?;
            let update = trained.tensors.minus(&model)?;
            sum.add_assign(&encoding.encode(&update, weight, &metrics, &mut rounding)?.vector)?;
        }
        let sums = encoding.open(&sum, sites.get())?;
        model = model.plus(&encoding.aggregate(&sums, RoundPrivacy::divisor(None, sites)).mean)?;
    }
    Ok(evaluate(&model, &lesson.test)?.accuracy())
}
