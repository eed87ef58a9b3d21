//! What a round does for privacy: who adds which noise, against whom that holds, and what it costs.
//!
//! Coordinator and participants derive the same from the policy, the model's length and the round's terms: the
//! coordinator to charge the ledger and to know the ring, a participant to train, to add its share, and to charge its own
//! ledger.

use crate::policy::{CheckedPolicy, Placement, Policy, PolicyError, PrivacyUnit, Schedule};
use sordino_codec::{Divisor, Encoding, RingVector, SumNoise, Sums};
use sordino_dp::noise::{Cohort, DiscreteGaussian, NoiseError, NoiseRng, NoiseShare, Ratio, RoundedBound, SumGrid};
use sordino_dp::{Event, Events, Relation, Sampling, Unit};
use std::{collections::BTreeMap, num::NonZeroU32};
use zeroize::Zeroizing;

/// What an attempt settles beside its policy. Public; it comes with the assignment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundTerms {
    /// Participants that were invited.
    pub cohort: u32,
    /// Noise multiplier of this round, at least the policy's; 0 where there is no noise.
    pub noise_multiplier: f64,
}

/// What a round does for privacy.
#[derive(Debug, Clone, PartialEq)]
pub enum RoundPrivacy {
    /// Sites protect their records while they train.
    Record(RecordRound),
    /// The sum carries noise that hides any one participant.
    Participant(ParticipantRound),
}

/// A round under the unit `record`: DP-SGD at each site (Abadi et al. 2016), the same public numbers everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordRound {
    /// L2 norm the gradient of one record is clipped to.
    pub example_clip: f64,
    /// Noise standard deviation over the sensitivity of one step.
    pub noise_multiplier: f64,
    /// Chance with which each record enters a step.
    pub sampling_rate: f64,
    /// Steps of the round.
    pub steps: u32,
    /// What one record adds to each metric, at most.
    pub record_max: BTreeMap<String, f64>,
    /// Noise standard deviation over that.
    pub metric_noise_multiplier: f64,
    events: Events,
}

/// A round under the unit `participant`.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticipantRound {
    /// Who adds the noise.
    pub placement: Placement,
    /// For whom shares are sized.
    pub planned: Cohort,
    /// Model values.
    model: Noise,
    model_len: usize,
    metrics: Vec<Noise>,
    events: Events,
}

/// Noise on integers of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Noise {
    /// Of one draw: a participant's share, or all of it.
    sigma2: Ratio,
    /// Of the sum over everybody who was invited.
    sum_variance: f64,
}

impl RoundPrivacy {
    /// What a round under this policy does; none where the policy has privacy switched off.
    ///
    /// # Errors
    /// [`PolicyError`]: no such noise can be drawn or accounted for.
    pub fn of(policy: &Policy, model_len: usize, terms: &RoundTerms) -> Result<Option<Self>, PolicyError> {
        if !policy.privacy.enabled {
            return Ok(None);
        }
        Ok(Some(match policy.privacy.unit {
            PrivacyUnit::Record => Self::Record(RecordRound::of(policy, model_len, terms)?),
            PrivacyUnit::Participant => Self::Participant(ParticipantRound::of(policy, model_len, terms)?),
        }))
    }

    /// What the round releases, to be charged before anybody is asked for anything.
    #[must_use]
    pub fn events(&self) -> &Events {
        match self {
            Self::Record(round) => &round.events,
            Self::Participant(round) => &round.events,
        }
    }

    /// The unit, as policies name it.
    #[must_use]
    pub fn unit(&self) -> PrivacyUnit {
        match self {
            Self::Record(_) => PrivacyUnit::Record,
            Self::Participant(_) => PrivacyUnit::Participant,
        }
    }

    /// What the sum of a round is divided by; `privacy`: what is done for it, `cohort`: how many were invited.
    #[must_use]
    pub fn divisor(privacy: Option<&Self>, cohort: NonZeroU32) -> Divisor {
        match privacy {
            // By those who were invited, a number that no data has a say in.
            Some(Self::Participant(_)) => Divisor::Fixed(cohort),
            Some(Self::Record(_)) | None => Divisor::Weight,
        }
    }

    /// Which data sets are neighbours, in words.
    #[must_use]
    pub fn relation(&self) -> &'static str {
        match self {
            Self::Record(_) => "one record more or less at any one site",
            Self::Participant(_) => "one site's contribution present or replaced by zero; who takes part is public",
        }
    }

    /// What is assumed about sampling, in words.
    #[must_use]
    pub fn sampling(&self) -> String {
        match self {
            Self::Record(round) => format!(
                "each record enters each of {} steps with probability {} (Poisson), unseen inside its site; nothing is \
                 claimed for which sites are in a round",
                round.steps, round.sampling_rate
            ),
            Self::Participant(_) => "none: nothing is claimed for not being in a round".into(),
        }
    }

    /// Against whom the promise holds, in words.
    #[must_use]
    pub fn holds_against(&self) -> String {
        match self {
            Self::Record(_) => {
                "everybody outside of the site: the coordinator, other sites, and whoever sees a Release \
                                or the site's own update"
                    .into()
            }
            Self::Participant(round) => match round.placement {
                Placement::Participants => format!(
                    "everybody who sees a Release, the coordinator included, where at most {} participants tell it their \
                     noise",
                    round.planned.max_corrupt
                ),
                Placement::Coordinator => "participants and everybody who receives a Release; whoever operates the \
                                           coordinator is trusted with the exact sum, never with a single update"
                    .into(),
            },
        }
    }
}

impl RecordRound {
    fn of(policy: &Policy, model_len: usize, terms: &RoundTerms) -> Result<Self, PolicyError> {
        let privacy = &policy.privacy;
        let (rate, steps) = (privacy.sampling_rate, policy.record_steps());
        let event = |sampling, grid: SumGrid, count| {
            Event::new(Unit::Record, Relation::AddRemove, sampling, grid.mechanism(), count)
        };
        let step = SumGrid::new(privacy.example_clip, model_len as u64, terms.noise_multiplier)?;
        let mut events = vec![event(Sampling::Poisson { q: rate }, step, steps.into())?];
        for metric in &policy.encoding.metrics {
            let grid = SumGrid::new(metric.record_max, 1, privacy.metric_noise_multiplier)?;
            events.push(event(Sampling::None, grid, 1)?);
        }
        Ok(Self {
            example_clip: privacy.example_clip,
            noise_multiplier: terms.noise_multiplier,
            sampling_rate: rate,
            steps,
            record_max: policy.encoding.metrics.iter().map(|metric| (metric.name.clone(), metric.record_max)).collect(),
            metric_noise_multiplier: privacy.metric_noise_multiplier,
            events: Events::new(events)?,
        })
    }
}

impl ParticipantRound {
    fn of(policy: &Policy, model_len: usize, terms: &RoundTerms) -> Result<Self, PolicyError> {
        let privacy = &policy.privacy;
        let planned = Cohort {
            participants: terms.cohort,
            min_survivors: policy.min_survivors(terms),
            max_corrupt: policy.faults().corrupt,
        };
        let encoding = policy.exact_encoding(model_len)?;
        let mut events = Vec::new();
        let mut noise = |squared: u128, dim: u64, multiplier: f64| -> Result<Noise, PolicyError> {
            let bound = RoundedBound::new(squared, dim)?;
            let target = (multiplier * bound.l2()).powi(2) * (1.0 + VARIANCE_SLACK);
            let (sigma2, sum_variance, mechanism) = match privacy.placement() {
                Placement::Participants => {
                    let share = NoiseShare::new(planned, target)?;
                    (share.sigma2(), share.sum_variance(terms.cohort)?, share.mechanism(bound))
                }
                Placement::Coordinator => {
                    let sigma2 = Ratio::at_least(target)?;
                    (sigma2, sigma2.to_f64(), DiscreteGaussian::new(sigma2).mechanism(bound))
                }
            };
            events.push(Event::new(Unit::Participant, Relation::ZeroOut, Sampling::None, mechanism, 1)?);
            Ok(Noise { sigma2, sum_variance })
        };
        let model = noise(encoding.norm_bound(1).squared(), model_len as u64, terms.noise_multiplier)?;
        let metrics = encoding.metric_bounds().iter().map(|bound| u128::from(*bound) * u128::from(*bound));
        let metrics =
            metrics.map(|squared| noise(squared, 1, privacy.metric_noise_multiplier)).collect::<Result<_, _>>()?;
        Ok(Self { placement: privacy.placement(), planned, model, model_len, metrics, events: Events::new(events)? })
    }

    /// Adds one participant's share to its encoded input; nothing where the coordinator adds the noise. The weight gets
    /// none: it is the same for everybody.
    ///
    /// # Errors
    /// [`NoiseError`]: the input must not be used.
    pub fn add_share(&self, input: &mut RingVector, rng: &mut NoiseRng) -> Result<(), NoiseError> {
        if self.placement != Placement::Participants {
            return Ok(());
        }
        let mut noise = Zeroizing::new(vec![0_i64; input.len()]);
        let (model, rest) = noise.split_at_mut_checked(self.model_len).ok_or(WRONG_MODEL)?;
        self.draw(model, rest.get_mut(1..=self.metrics.len()).ok_or(WRONG_MODEL)?, rng)?;
        input.add_centered(&noise).map_err(|_| WRONG_MODEL)
    }

    /// Adds all of the noise to an exact sum; nothing where participants did. The sum must be dropped on an error, and
    /// must not be noised a second time.
    ///
    /// # Errors
    /// [`NoiseError`].
    pub fn add_central(&self, sums: &mut Sums, rng: &mut NoiseRng) -> Result<(), NoiseError> {
        if self.placement != Placement::Coordinator {
            return Ok(());
        }
        self.draw(&mut sums.model, &mut sums.metrics, rng)
    }

    fn draw(&self, model: &mut [i64], metrics: &mut [i64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        if model.len() != self.model_len || metrics.len() != self.metrics.len() {
            return Err(WRONG_MODEL);
        }
        DiscreteGaussian::new(self.model.sigma2).add_to(model, rng)?;
        for (metric, noise) in metrics.iter_mut().zip(&self.metrics) {
            DiscreteGaussian::new(noise.sigma2).add_to(std::slice::from_mut(metric), rng)?;
        }
        Ok(())
    }

    /// Standard deviation of the noise on each model value of what so many survivors in so many groups sum to, in grid
    /// steps: the coordinator adds noise to the sum of each group.
    #[must_use]
    pub fn sum_sigma(&self, survivors: u32, groups: u32) -> f64 {
        let draws = match self.placement {
            Placement::Participants => f64::from(survivors),
            Placement::Coordinator => f64::from(groups),
        };
        (draws * self.model.sigma2.to_f64()).sqrt()
    }

    /// Standard deviations of the noise in one input: on each model value, and on each metric, in grid steps.
    pub(crate) fn share_sigmas(&self) -> Option<(f64, Vec<f64>)> {
        (self.placement == Placement::Participants).then(|| self.sigmas())
    }

    /// Standard deviations of the noise that the coordinator adds to a sum: on each model value, and on each metric, in grid
    /// steps.
    pub(crate) fn central_sigmas(&self) -> Option<(f64, Vec<f64>)> {
        (self.placement == Placement::Coordinator).then(|| self.sigmas())
    }

    /// Of one draw.
    fn sigmas(&self) -> (f64, Vec<f64>) {
        let sigma = |noise: &Noise| noise.sigma2.to_f64().sqrt();
        (sigma(&self.model), self.metrics.iter().map(sigma).collect())
    }

    /// What the ring has to have room for.
    fn ring_noise(&self) -> SumNoise {
        match self.placement {
            Placement::Coordinator => SumNoise::default(),
            Placement::Participants => self.sum_noise(),
        }
    }

    /// What a sum carries once it may be looked at.
    #[must_use]
    pub fn sum_noise(&self) -> SumNoise {
        SumNoise {
            model: self.model.sum_variance.sqrt(),
            metrics: self.metrics.iter().map(|noise| noise.sum_variance.sqrt()).collect(),
        }
    }
}

impl CheckedPolicy {
    /// What a round does for privacy; none where the policy has it switched off.
    ///
    /// # Errors
    /// [`PolicyError`]: with this model or cohort there is no such noise.
    pub fn round_privacy(&self, model_len: usize, terms: &RoundTerms) -> Result<Option<RoundPrivacy>, PolicyError> {
        RoundPrivacy::of(self.policy(), model_len, terms)
    }

    /// The terms of a round as it was planned, with a cohort of this size.
    #[must_use]
    pub fn terms(&self, cohort: u32) -> RoundTerms {
        let privacy = &self.policy().privacy;
        let noise_multiplier = privacy.noise_multiplier.filter(|_| privacy.enabled).unwrap_or(0.0);
        RoundTerms { cohort, noise_multiplier }
    }

    /// The terms that an assignment states, where the policy allows them.
    ///
    /// # Errors
    /// [`PolicyError::Terms`]: a coordinator that says so is not to be believed.
    pub fn assigned_terms(&self, cohort: u32, noise_multiplier: Option<f64>) -> Result<RoundTerms, PolicyError> {
        let Policy { cohort: sizes, privacy, .. } = self.policy();
        let planned = self.terms(cohort).noise_multiplier;
        let multiplier = noise_multiplier.unwrap_or(0.0);
        let allowed = match (privacy.enabled, privacy.schedule) {
            (false, _) => noise_multiplier.is_none(),
            (true, Schedule::Fixed) => multiplier == planned,
            (true, Schedule::Adaptive) => multiplier >= planned && multiplier <= MULTIPLIER_MAX,
        };
        if !allowed || !(sizes.min..=sizes.target).contains(&cohort) {
            return Err(PolicyError::Terms { cohort, noise_multiplier });
        }
        Ok(RoundTerms { cohort, noise_multiplier: multiplier })
    }

    /// The largest multiplier that is accepted and whose noise can be drawn for a model of `model_len` values: searches for
    /// one end there.
    ///
    /// # Errors
    /// [`PolicyError`]: there is no noise of multiplier 1, from which searches begin.
    pub fn largest_multiplier(&self, model_len: usize) -> Result<f64, PolicyError> {
        self.policy().largest_multiplier(model_len)
    }

    /// The vector's fields, grid and ring for a model of `model_len` values in a round of these terms.
    ///
    /// # Errors
    /// [`PolicyError`]: the values of this model and policy fit no ring, or their noise does not; the reason names the
    /// number to change.
    pub fn encoding(&self, model_len: usize, terms: &RoundTerms) -> Result<Encoding, PolicyError> {
        let plain = self.plain_encoding(model_len, terms)?;
        Ok(match self.round_proof(model_len, terms)? {
            Some(proof) => plain.with_elements(proof.blinding_elements()),
            None => plain,
        })
    }

    /// The same without the blindings of a proof.
    pub(crate) fn plain_encoding(&self, model_len: usize, terms: &RoundTerms) -> Result<Encoding, PolicyError> {
        let exact = self.policy().exact_encoding(model_len)?;
        match self.round_privacy(model_len, terms)? {
            Some(RoundPrivacy::Participant(round)) => Ok(exact.with_noise(round.ring_noise())?),
            Some(RoundPrivacy::Record(_)) | None => Ok(exact),
        }
    }

    /// What the noise does to a model, before anybody has trained it.
    ///
    /// # Errors
    /// As [`CheckedPolicy::round_privacy`].
    pub fn outlook(&self, model_len: usize) -> Result<Option<Outlook>, PolicyError> {
        let Policy { cohort, privacy, encoding, .. } = self.policy();
        let terms = self.terms(cohort.target);
        let Some(round) = self.round_privacy(model_len, &terms)? else { return Ok(None) };
        let n = f64::from(cohort.target);
        let exact = self.policy().exact_encoding(model_len)?;
        let sigma = match &round {
            // A step's noise over the batch, added up over the steps: what a site's update carries, before momentum.
            RoundPrivacy::Record(round) => {
                let step = round.noise_multiplier * round.example_clip / f64::from(self.policy().training.batch_size);
                step * self.policy().training.learning_rate * f64::from(round.steps).sqrt() / n.sqrt()
            }
            RoundPrivacy::Participant(round) => round.sum_sigma(cohort.target, 1) * exact.step() / n,
        };
        let noise_norm = sigma * (model_len as f64).sqrt() / self.policy().clip_norm();
        let mut advice = Vec::new();
        if noise_norm > 1.0 {
            advice.push(format!(
                "the noise on the average is about {noise_norm:.1} clip norms long, more than any update: raise \
                 cohort.target or the budget, or take a smaller model"
            ));
        }
        if privacy.unit == PrivacyUnit::Participant && cohort.target < COHORT_FOR_PARTICIPANTS {
            advice.push(format!(
                "with {} participants privacy.unit = \"participant\" costs the model its accuracy; privacy.unit = \
                 \"record\" protects each record instead, with noise at the sites",
                cohort.target
            ));
        }
        let metrics = encoding.metrics.len();
        Ok(Some(Outlook { noise_norm, metrics, advice }))
    }
}

/// What the noise of a round will do.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outlook {
    /// Length of the noise on the average, in clip norms: above 1 it outweighs any update.
    pub noise_norm: f64,
    /// Metrics that get noise too.
    pub metrics: usize,
    /// What to change; empty where nothing speaks against the policy.
    pub advice: Vec<String>,
}

/// The vector is not the one that the noise was made for: a mistake of ours.
const WRONG_MODEL: NoiseError = NoiseError::NoTheorem { why: "the vector is not that of the round" };
/// Relative, on a variance: more than rounding can take away from it.
const VARIANCE_SLACK: f64 = 1e-12;
/// Largest multiplier that a schedule may come to.
const MULTIPLIER_MAX: f64 = 10_000.0;
/// Below it, participant-level privacy leaves little of a model.
pub const COHORT_FOR_PARTICIPANTS: u32 = 50;

#[cfg(test)]
#[expect(
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests fail by panicking and cast what they chose"
)]
mod tests;
