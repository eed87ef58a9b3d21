//! `[privacy]`: what a policy says of clipping, noise and budget, and whether that can work.

use super::{Metric, Policy, PolicyError, Proof};
use crate::privacy::RoundTerms;
use serde::{Deserialize, Serialize};
use sordino_dp::{Accountant, Budget, Events, calibrate};

/// `[privacy]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Differential privacy.
    pub enabled: bool,
    /// Whose presence is hidden.
    pub unit: PrivacyUnit,
    /// Whose data they are: tasks over the same population, unit and data version share one budget.
    pub population: String,
    /// Which state of the data. New data of new people is a new version, and a new budget; new rows of the same people
    /// are not.
    pub data_version: String,
    /// What all releases of that budget together may come to.
    pub total_epsilon: f64,
    /// Of all of them together.
    pub delta: f64,
    /// L2 norm an update is clipped to.
    pub clip_norm: f64,
    /// Noise standard deviation over sensitivity. Filled in when the policy is checked: from `target_epsilon` where
    /// that is given, else 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
    /// Epsilon that all rounds of this task together are to come to: the noise follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_epsilon: Option<f64>,
    /// The same as `noise_multiplier`, for each metric.
    pub metric_noise_multiplier: f64,
    /// Whether the noise of later rounds follows what is left of the budget.
    pub schedule: Schedule,
    /// What is claimed for not being drawn into a round.
    pub amplification: Amplification,
    /// Where noise is added for the unit `participant`. Filled in when the policy is checked: by the participants, or by
    /// the coordinator where inputs carry a proof, since a share of the noise loosens what can be proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Placement>,
    /// How loose a proof may become by the share of noise in an input: the norm that an input can be proven to have, in clip
    /// norms.
    pub max_effective_bound: f64,
    /// L2 norm the gradient of one record is clipped to, for the unit `record`.
    pub example_clip: f64,
    /// Chance with which each record enters a training step of its site, for the unit `record`.
    pub sampling_rate: f64,
    /// Training steps of a round, for the unit `record`; as many as show each record `training.local_epochs` times where
    /// this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
}

/// Whose presence is hidden.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivacyUnit {
    /// One record at one site: noise is added while the site trains.
    #[default]
    Record,
    /// One site's whole contribution.
    Participant,
}

impl PrivacyUnit {
    /// As it stands in policies and in the names of budgets.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Participant => "participant",
        }
    }
}

/// Whether the noise of later rounds follows what is left of the budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// All rounds have the same noise.
    #[default]
    Fixed,
    /// Never less noise than that, and more where it takes more to run the rounds that are left with the budget that is
    /// left: after attempts that had to be repeated, or when another task has spent of the same budget. It looks at the
    /// ledger and the number of rounds, which are public, and at no data.
    Adaptive,
}

/// What is claimed for not being drawn into a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amplification {
    /// Nothing: who takes part in a round is public.
    #[default]
    None,
    /// That sites were drawn independently and nobody sees who was; refused, because everybody does.
    Poisson,
}

/// Where noise is added for the unit `participant`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Each participant adds a share before its input is masked: nobody ever holds a sum without noise.
    #[default]
    Participants,
    /// The coordinator adds it to the sum before anything is stored or leaves.
    Coordinator,
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            enabled: true,
            unit: PrivacyUnit::Record,
            population: "federation".into(),
            data_version: "1".into(),
            total_epsilon: 10.0,
            delta: 1e-5,
            clip_norm: 1.0,
            noise_multiplier: None,
            target_epsilon: None,
            metric_noise_multiplier: 5.0,
            schedule: Schedule::Fixed,
            amplification: Amplification::None,
            noise: None,
            max_effective_bound: 3.0,
            example_clip: 1.0,
            sampling_rate: 0.1,
            steps: None,
        }
    }
}

impl Privacy {
    /// Where noise is added for the unit `participant`.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.noise.unwrap_or_default()
    }
}

impl Policy {
    /// Whether noise is added by the participants inside the sum.
    pub(crate) fn shares_noise(&self) -> bool {
        let privacy = &self.privacy;
        privacy.enabled && privacy.unit == PrivacyUnit::Participant && privacy.placement() == Placement::Participants
    }

    /// Training steps of a round under the unit `record`.
    #[must_use]
    pub fn record_steps(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
        let whole = (f64::from(self.training.local_epochs) / self.privacy.sampling_rate - ROUNDING_SLACK).ceil() as u32;
        self.privacy.steps.unwrap_or(whole.max(1))
    }

    /// Ranges of the section, whether it is switched on or not.
    pub(super) fn check_privacy_ranges(&self) -> Result<(), PolicyError> {
        let privacy = &self.privacy;
        let within = |ok: bool, key, value: String, range| {
            if ok { Ok(()) } else { Err(PolicyError::OutOfRange { key, value, range }) }
        };
        for (key, name) in
            [("privacy.population", &privacy.population), ("privacy.data_version", &privacy.data_version)]
        {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let fits = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(plain);
            within(fits, key, format!("{name:?}"), "1 to 64 of letters, digits and . _ -")?;
        }
        let epsilon = EPSILON_MIN..=EPSILON_MAX;
        let (total, delta) = (privacy.total_epsilon, privacy.delta);
        within(epsilon.contains(&total), "privacy.total_epsilon", total.to_string(), EPSILON_RANGE)?;
        within(delta > 0.0 && delta < 1.0, "privacy.delta", delta.to_string(), "above 0 and below 1")?;
        if let Some(target) = privacy.target_epsilon {
            within(epsilon.contains(&target), "privacy.target_epsilon", target.to_string(), EPSILON_RANGE)?;
            within(target <= total, "privacy.target_epsilon", target.to_string(), "at most privacy.total_epsilon")?;
        }
        for (key, multiplier) in [
            ("privacy.noise_multiplier", privacy.noise_multiplier.unwrap_or(NOISE_MULTIPLIER)),
            ("privacy.metric_noise_multiplier", privacy.metric_noise_multiplier),
        ] {
            within(MULTIPLIERS.contains(&multiplier), key, multiplier.to_string(), "0.01 to 10,000")?;
        }
        let most = privacy.max_effective_bound;
        within((1.0..=1e9).contains(&most), "privacy.max_effective_bound", most.to_string(), "1 to 1e9")?;
        let clip = privacy.example_clip;
        within((1e-9..=1e9).contains(&clip), "privacy.example_clip", clip.to_string(), "1e-9 to 1e9")?;
        let rate = privacy.sampling_rate;
        within((1e-6..=1.0).contains(&rate), "privacy.sampling_rate", rate.to_string(), "0.000001 to 1")?;
        let steps = self.record_steps();
        within((1..=STEPS_MAX).contains(&steps), "privacy.steps", steps.to_string(), "1 to 1,000,000")?;
        for Metric { name, max, record_max, .. } in &self.encoding.metrics {
            let fits = *record_max > 0.0 && *record_max <= *max;
            if !fits {
                return Err(PolicyError::MetricBound { name: name.clone(), record_max: *record_max, max: *max });
            }
        }
        Ok(())
    }

    /// Fills in where noise is added.
    pub(super) fn place_noise(&mut self) {
        let proven = self.robustness.proof != Proof::None;
        let placement = if proven { Placement::Coordinator } else { Placement::Participants };
        self.privacy.noise.get_or_insert(placement);
    }

    /// Fills in the noise multiplier, and refuses promises that cannot be kept.
    pub(super) fn resolve_privacy(&mut self) -> Result<(), PolicyError> {
        let privacy = &self.privacy;
        if !privacy.enabled {
            if let Some(target) = privacy.target_epsilon {
                let (key, value) = ("privacy.target_epsilon", target.to_string());
                return Err(PolicyError::OutOfRange { key, value, range: "left out where privacy.enabled = false" });
            }
            return Ok(());
        }
        if privacy.amplification == Amplification::Poisson {
            return Err(PolicyError::NoAmplification);
        }
        if privacy.unit == PrivacyUnit::Participant && privacy.delta * f64::from(self.cohort.target) > 1.0 {
            let (delta, population) = (privacy.delta, u64::from(self.cohort.target));
            return Err(PolicyError::DeltaAbovePopulation { delta, population, unit: "participants" });
        }
        let rounds = self.task.rounds;
        let accountant = Accountant::new(privacy.delta)?;
        let (delta, total) = (privacy.delta, privacy.total_epsilon);
        if let (None, Some(target)) = (privacy.noise_multiplier, privacy.target_epsilon) {
            // What a round of a real model costs is above this by less than that.
            let budget = Budget::new(target * (1.0 - PLAN_SLACK), delta)?;
            // More noise than there can be is not tried: the search would end at it, before it has looked at less.
            let most = self.largest_multiplier(1)?;
            let events = |multiplier: f64| {
                let round = self.planned_events(1, multiplier.min(most))?;
                Ok::<_, PolicyError>(round.times(rounds)?)
            };
            let unbuilt = std::cell::RefCell::new(None);
            let found = calibrate::multiplier_after(&accountant, budget, |multiplier| {
                events(multiplier).map_err(|error| match error {
                    PolicyError::Accounting(error) => error,
                    other => {
                        *unbuilt.borrow_mut() = Some(other);
                        sordino_dp::DpError::NoTheorem("the policy has no round with this noise")
                    }
                })
            });
            let found = match (found, unbuilt.into_inner()) {
                (Ok(found), _) => found.sigma,
                (Err(_), Some(error)) => return Err(error),
                (Err(error), None) => return Err(PolicyError::Unreachable { target, rounds, source: error }),
            };
            // On a decimal grid, so that it is the same number in JSON everywhere; upwards.
            let multiplier = ((found * MULTIPLIER_GRID).ceil() / MULTIPLIER_GRID).max(*MULTIPLIERS.start());
            if !MULTIPLIERS.contains(&multiplier) {
                let range = "reachable with a noise_multiplier of at most 10,000";
                return Err(PolicyError::OutOfRange {
                    key: "privacy.target_epsilon",
                    value: target.to_string(),
                    range,
                });
            }
            self.privacy.noise_multiplier = Some(multiplier);
        }
        let multiplier = *self.privacy.noise_multiplier.get_or_insert(NOISE_MULTIPLIER);
        let round = self.planned_events(1, multiplier)?;
        if let Some(target) = self.privacy.target_epsilon {
            let planned = accountant.with_all(&round.times(rounds)?)?.epsilon;
            if planned > target {
                return Err(PolicyError::AboveTarget { multiplier, rounds, planned, target });
            }
        }
        let one = accountant.with_all(&round)?.epsilon;
        if one > total {
            return Err(PolicyError::NotOneRound { one, total, delta });
        }
        Ok(())
    }

    /// The largest multiplier that is accepted and whose noise can be drawn for a model of `model_len` values.
    ///
    /// # Errors
    /// [`PolicyError`]: there is no noise of multiplier 1, from which searches begin.
    pub(crate) fn largest_multiplier(&self, model_len: usize) -> Result<f64, PolicyError> {
        let (mut low, mut high) = (1.0, *MULTIPLIERS.end());
        if self.planned_events(model_len, high).is_ok() {
            return Ok(high);
        }
        self.planned_events(model_len, low)?;
        while high - low > low * 1e-9 {
            let middle = f64::midpoint(low, high);
            match self.planned_events(model_len, middle) {
                Ok(_) => low = middle,
                Err(_) => high = middle,
            }
        }
        Ok(low)
    }

    /// What one round of a planned cohort releases. Where the length of the model is not known, any will do: it costs
    /// nothing.
    fn planned_events(&self, model_len: usize, noise_multiplier: f64) -> Result<Events, PolicyError> {
        let terms = RoundTerms { cohort: self.cohort.target, noise_multiplier };
        let round = crate::privacy::RoundPrivacy::of(self, model_len, &terms)?;
        round.map(|round| round.events().clone()).ok_or(PolicyError::NoAmplification)
    }
}

/// Where nothing is said.
pub const NOISE_MULTIPLIER: f64 = 1.1;
/// Digits after the point of a multiplier that was calculated.
const MULTIPLIER_GRID: f64 = 1e4;
const MULTIPLIERS: std::ops::RangeInclusive<f64> = 0.01..=10_000.0;
const EPSILON_MIN: f64 = 1e-3;
const EPSILON_MAX: f64 = 1e6;
const EPSILON_RANGE: &str = "0.001 to 1,000,000";
const STEPS_MAX: u32 = 1_000_000;
const NAME_MAX: usize = 64;
/// Relative; what rounding bounds and sums of discrete Gaussians add to the cost of a plan is far less.
const PLAN_SLACK: f64 = 1e-6;
const ROUNDING_SLACK: f64 = 1e-9;
