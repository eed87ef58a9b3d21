//! A task's policy: what people write, checked as a whole, identified by its digest.
//!
//! A policy that cannot work is refused when it is made, with the reason in one sentence; so is one that asks for what
//! this version does not have yet. [`Policy::check`] is the only way to a [`CheckedPolicy`], and rounds ask for that.

mod convergence;
mod later;
mod privacy;
mod strategy;

pub use convergence::Convergence;
pub use privacy::{Amplification, NOISE_MULTIPLIER, Placement, Privacy, PrivacyUnit, Schedule};
pub use strategy::{Strategy, StrategySection};

use crate::Digest;
use crate::api::Assignment;
use crate::privacy::RoundTerms;
use crate::proof::RoundProof;
use serde::{Deserialize, Serialize};
use sordino_codec::{Encoding, EncodingError, EncodingSpec, MetricSpec};
use sordino_dp::{DpError, noise::NoiseError};
use sordino_identity::FederationId;
use sordino_proofs::ClaimError;
use sordino_secagg::{Context, Faults, NEIGHBOURS_MAX, NoTopology, Prg, Topology};

/// What is computed, by whom, and under which protection (`policy.toml`). Every section has safe defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What is computed.
    pub task: TaskSection,
    /// Who takes part.
    #[serde(default)]
    pub cohort: Cohort,
    /// Clipping and noise.
    #[serde(default)]
    pub privacy: Privacy,
    /// Checks and proofs.
    #[serde(default)]
    pub robustness: Robustness,
    /// Keys and ciphers of the masks.
    #[serde(default)]
    pub masking: Masking,
    /// How an update becomes integers.
    #[serde(default)]
    pub encoding: EncodingSection,
    /// Deadlines, in seconds.
    #[serde(default)]
    pub timing: Timing,
    /// How the participants' own trainer works.
    #[serde(default)]
    pub training: Training,
    /// Numbers of the strategy.
    #[serde(default, skip_serializing_if = "StrategySection::is_empty")]
    pub strategy: StrategySection,
    /// When the task ends before its last round; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convergence: Option<Convergence>,
}

/// `[task]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSection {
    /// For people: 1 to 64 printable characters.
    pub name: String,
    /// What kind of values are pooled.
    #[serde(default)]
    pub kind: Kind,
    /// What the coordinator sees.
    #[serde(default)]
    pub visibility: Visibility,
    /// Rounds, each with a Release.
    pub rounds: u64,
    /// How the mean becomes the next model.
    #[serde(default)]
    pub strategy: Strategy,
}

/// What kind of values are pooled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Updates of a model.
    #[default]
    Model,
    /// Reward statistics.
    Signal,
}

/// What the coordinator sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Only the sum over survivors.
    #[default]
    Masked,
    /// Only ciphertexts, until key holders decrypt the sum.
    Sealed,
    /// Each update, inside TLS.
    Open,
}

/// `[cohort]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cohort {
    /// Below it a round does not start, and nothing opens.
    pub min: u32,
    /// Participants that are invited where so many are there.
    pub target: u32,
    /// Share of the cohort that may fall silent without costing the round.
    pub max_dropout_fraction: f64,
    /// Share of `min` that may collude with the coordinator, as an absolute number over the federation.
    pub max_corrupt_fraction: f64,
}

/// `[robustness]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Robustness {
    /// Proof that every input carries.
    pub proof: Proof,
    /// Largest L2 norm of one update: it is cut to the smaller one of this and `privacy.clip_norm`, and proven to be within.
    pub max_norm: f64,
    /// Groups with a sum each.
    pub groups: u32,
}

/// Proof that every input carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// None: a participant may send any vector that fits the ring.
    #[default]
    None,
    /// An L2 bound without a trusted setup.
    Transparent,
    /// Groth16, about 1,000 constraints.
    #[serde(rename = "groth16-standard")]
    Groth16Standard,
    /// Groth16, about 10,000 constraints.
    #[serde(rename = "groth16-enhanced")]
    Groth16Enhanced,
    /// Groth16, about 100,000 constraints.
    #[serde(rename = "groth16-maximum")]
    Groth16Maximum,
}

/// `[masking]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Masking {
    /// Whether secrets are agreed on by ML-KEM-768 beside X25519: about 3 kB more per neighbour, and what is recorded
    /// today stays closed to tomorrow's quantum computers.
    pub pq: bool,
    /// Cipher that masks are expanded with.
    pub prg: MaskPrg,
}

/// Cipher that masks are expanded with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaskPrg {
    /// AES-256 in counter mode.
    #[default]
    #[serde(rename = "aes-256-ctr")]
    Aes256Ctr,
    /// AES-128 in counter mode: faster, with less margin over many pairs.
    #[serde(rename = "aes-128-ctr")]
    Aes128Ctr,
}

/// `[encoding]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncodingSection {
    /// Grid units between 0 and the largest weighted update, as a power of two.
    pub precision_bits: u32,
    /// Cap of `num_examples`.
    pub max_weight: u32,
    /// What is summed beside the update.
    pub metrics: Vec<Metric>,
}

/// A quantity that every participant reports inside its masked vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// 1 to 32 of `[a-z0-9_]`.
    pub name: String,
    /// Largest value of one participant; larger ones are cut to it, and negative ones to 0, or to `-max` where the site's
    /// noise may have made them so (the unit `record`).
    pub max: f64,
    /// Smallest difference that is kept.
    #[serde(default = "one")]
    pub resolution: f64,
    /// What one record adds to it, at most: what its noise has to hide under the unit `record`.
    #[serde(default = "one")]
    pub record_max: f64,
}

fn one() -> f64 {
    1.0
}

/// `[timing]`, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// For more participants to check in, up to the target, once the minimum is there.
    pub gather: f64,
    /// From the invitation to the advertised keys: covers download and training.
    pub participant_timeout: f64,
    /// For a whole attempt.
    pub round_timeout: f64,
    /// For each later step.
    pub step_timeout: f64,
    /// For the rest, once the quorum of a step has answered.
    pub step_grace: f64,
}

/// `[training]`: the built-in trainer's hyperparameters; `--exec` programs get them too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Passes over the local rows in a round.
    pub local_epochs: u32,
    /// Rows in a step.
    pub batch_size: u32,
    /// Step size.
    pub learning_rate: f64,
    /// Share of the last step that is carried on.
    pub momentum: f64,
}

impl Default for Cohort {
    fn default() -> Self {
        Self { min: 8, target: 10, max_dropout_fraction: 0.2, max_corrupt_fraction: 0.2 }
    }
}

impl Default for Robustness {
    fn default() -> Self {
        Self { proof: Proof::None, max_norm: 100.0, groups: 1 }
    }
}

impl Default for Masking {
    fn default() -> Self {
        Self { pq: true, prg: MaskPrg::Aes256Ctr }
    }
}

impl Default for EncodingSection {
    fn default() -> Self {
        Self { precision_bits: 16, max_weight: 1_000, metrics: Vec::new() }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self { gather: 10.0, participant_timeout: 300.0, round_timeout: 600.0, step_timeout: 60.0, step_grace: 5.0 }
    }
}

impl Default for Training {
    fn default() -> Self {
        Self { local_epochs: 1, batch_size: 32, learning_rate: 0.05, momentum: 0.9 }
    }
}

/// Why a policy is refused. Each is one sentence that names the key to change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, an unknown key, or a value of another type.
    #[error("the policy cannot be read: {0}")]
    Unreadable(String),
    /// Asked for by name, and not here yet.
    #[error("{key} = {value} is not in this version yet; {instead}")]
    NotYet {
        /// The policy's key.
        key: &'static str,
        /// What was asked for.
        value: String,
        /// What can be asked for.
        instead: &'static str,
    },
    /// A number outside of its range.
    #[error("{key} is {value}, it must be {range}")]
    OutOfRange {
        /// The policy's key.
        key: &'static str,
        /// What was asked for.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// Names of metrics must be distinct and plain.
    #[error("encoding.metrics: {0:?} is not a name of 1 to 32 of [a-z0-9_], or is named twice")]
    MetricName(String),
    /// A number that the strategy has no use for.
    #[error("{key} is no number of task.strategy = \"{strategy}\" but of {of}: leave it out, or choose one of these")]
    NotOfStrategy {
        /// The policy's key.
        key: &'static str,
        /// The strategy.
        strategy: Strategy,
        /// Those that have it.
        of: String,
    },
    /// A step that leads back beyond the model that it leads back to.
    #[error(
        "strategy.proximal_mu = {mu} times training.learning_rate = {rate} is above 1: each step would lead beyond the model \
         that it is to lead back to; lower one of them"
    )]
    ProximalStep {
        /// mu.
        mu: f64,
        /// Of a site's step.
        rate: f64,
    },
    /// A metric that no Release has cannot show that a model gets no better.
    #[error(
        "convergence.metric = {metric:?} is in no Release of this policy, which releases: {released}; name one of these, add it \
         to encoding.metrics, or leave [convergence] out"
    )]
    NothingToWatch {
        /// What was asked for.
        metric: String,
        /// What there is.
        released: String,
    },
    /// No threshold stands the faults: for some size of the cohort, dropouts and colluders together are too many.
    #[error("cohort.max_dropout_fraction and cohort.max_corrupt_fraction ask for too much")]
    Topology(#[from] NoTopology),
    /// The values do not fit a ring.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// What one record adds to a metric is no bound.
    #[error("encoding.metrics: record_max of {name:?} is {record_max}, it must be above 0 and at most its max, {max}")]
    MetricBound {
        /// The metric.
        name: String,
        /// What was asked for.
        record_max: f64,
        /// One participant's largest value.
        max: f64,
    },
    /// A delta at which losing one of them whole would be allowed.
    #[error(
        "privacy.delta is {delta:e}, above 1 in {population} {unit}: that would allow one of them to be shown whole; lower \
         it below {:e}",
        1.0 / *population as f64
    )]
    DeltaAbovePopulation {
        /// What was asked for.
        delta: f64,
        /// How many there are.
        population: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Amplification by sampling needs that nobody sees who was drawn.
    #[error(
        "privacy.amplification = \"poisson\" is refused: who is in a round stands in its Release, and neighbours see each \
         other, so nothing is gained by having been drawn; use \"none\""
    )]
    NoAmplification,
    /// No accepted amount of noise keeps the plan.
    #[error(
        "privacy.target_epsilon = {target} cannot be kept over {rounds} rounds with any noise: raise it, run fewer rounds, \
         or raise privacy.metric_noise_multiplier"
    )]
    Unreachable {
        /// What was asked for.
        target: f64,
        /// Over so many rounds.
        rounds: u64,
        /// What the search said.
        source: DpError,
    },
    /// Noise and target contradict each other.
    #[error(
        "privacy.noise_multiplier = {multiplier} over {rounds} rounds costs epsilon {planned:.4}, above \
         privacy.target_epsilon = {target}: leave one of the two out"
    )]
    AboveTarget {
        /// The multiplier.
        multiplier: f64,
        /// Rounds of the task.
        rounds: u64,
        /// What they cost.
        planned: f64,
        /// What was asked for.
        target: f64,
    },
    /// The budget covers no round.
    #[error(
        "one round costs epsilon {one:.4} at delta {delta:e}, above privacy.total_epsilon = {total}: raise \
         privacy.noise_multiplier, or leave it out and set privacy.target_epsilon"
    )]
    NotOneRound {
        /// What one round costs.
        one: f64,
        /// The budget.
        total: f64,
        /// At this delta.
        delta: f64,
    },
    /// The coordinator states terms of a round that the policy does not allow.
    #[error("a round with {cohort} participants and noise multiplier {noise_multiplier:?} is not one of this policy")]
    Terms {
        /// Participants.
        cohort: u32,
        /// The multiplier.
        noise_multiplier: Option<f64>,
    },
    /// Bounds that no proof takes.
    #[error("the bounds of this policy cannot be proven: {0}")]
    Claim(#[from] ClaimError),
    /// Noise of the coordinator that no proof takes.
    #[error(
        "the size of the coordinator's noise cannot be proven ({0}): lower encoding.precision_bits or the noise multiplier, or \
         set robustness.proof = \"none\""
    )]
    NoiseClaim(ClaimError),
    /// Rounding, or the share of noise in an input, leaves room for more than the policy allows.
    #[error(
        "an input for {model_len} values can be proven to be within {effective_bound:.1} x clip norm only, above \
         privacy.max_effective_bound = {max}: {ways_out}, or raise privacy.max_effective_bound"
    )]
    EffectiveBound {
        /// Values of the model.
        model_len: usize,
        /// What is proven, in clip norms.
        effective_bound: f64,
        /// What is allowed.
        max: f64,
        /// What to change.
        ways_out: &'static str,
    },
    /// Noise that cannot be drawn.
    #[error("the noise of this policy cannot be drawn: {0}; change encoding.precision_bits or the noise multiplier")]
    Noise(#[from] NoiseError),
    /// Releases that cannot be accounted for.
    #[error("the releases of this policy cannot be accounted for: {0}")]
    Accounting(#[from] DpError),
}

/// A policy that can work, with what follows from it. Only [`Policy::check`] makes one.
#[derive(Debug, Clone)]
pub struct CheckedPolicy {
    policy: Policy,
    digest: Digest,
}

impl CheckedPolicy {
    /// As it was written, defaults filled in.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// SHA-256 of its canonical JSON: what every message of every round binds.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Answers that let a step close before its deadline: the cohort less the dropouts that the policy allows for.
    #[must_use]
    pub fn quorum(&self, cohort: u32) -> u32 {
        cohort - self.faults().dropouts(cohort)
    }

    /// What the graph and the threshold of an attempt have to stand.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.policy.faults()
    }

    /// What one attempt binds: the same at the coordinator and at every participant that was given the same model.
    #[must_use]
    pub fn context(
        &self,
        federation: &FederationId,
        assignment: &Assignment,
        (encoding, proof): (&Encoding, Option<&RoundProof>),
    ) -> Context {
        let terms = self.terms(assignment.cohort);
        Context {
            federation: federation.to_string(),
            task: assignment.round.task.to_string(),
            round: assignment.round.number,
            attempt: assignment.attempt,
            nonce: assignment.nonce.0,
            policy: self.digest.0,
            model: assignment.model.0,
            vector_len: encoding.len() as u64,
            bits: encoding.bits(),
            prg: match self.policy.masking.prg {
                MaskPrg::Aes256Ctr => Prg::Aes256Ctr,
                MaskPrg::Aes128Ctr => Prg::Aes128Ctr,
            },
            pq: self.policy.masking.pq,
            min_survivors: self.policy.min_survivors(&terms),
            faults: self.faults(),
            proof: proof.map(RoundProof::terms),
        }
    }
}

impl Policy {
    /// Reads what a person wrote.
    ///
    /// # Errors
    /// [`PolicyError::Unreadable`] names the line; [`PolicyError::NotYet`] a key that only later versions read.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::Unreadable(format!("it is larger than {POLICY_BYTES_MAX} bytes")));
        }
        let unreadable = |error: toml::de::Error| PolicyError::Unreadable(error.to_string());
        later::refuse(&toml::from_str(text).map_err(unreadable)?)?;
        toml::from_str(text).map_err(unreadable)
    }

    /// Checks the policy as a whole, and fills in what follows from it: the noise multiplier. Checking the result again
    /// changes nothing.
    ///
    /// # Errors
    /// The first rule that is broken, in one sentence.
    pub fn check(mut self) -> Result<CheckedPolicy, PolicyError> {
        self.place_noise();
        self.refuse_what_is_not_here()?;
        self.check_ranges()?;
        self.resolve_strategy()?;
        self.check_convergence()?;
        self.check_privacy_ranges()?;
        self.check_topology()?;
        // The length of the model is not known here; one value shows whether cohort, weights and grid fit at all.
        self.exact_encoding(1)?;
        self.resolve_privacy()?;
        let json = serde_json::to_vec(&self).map_err(|error| PolicyError::Unreadable(error.to_string()))?;
        let checked = CheckedPolicy { digest: Digest::of(&json), policy: self };
        checked.encoding(1, &checked.terms(checked.policy.cohort.target))?;
        Ok(checked)
    }

    /// Whether every cohort that can come about has a graph and a threshold.
    fn check_topology(&self) -> Result<(), PolicyError> {
        // Those who advertise keys may be any number between the minimum and the target; rounding a fraction of a small
        // number makes the ones in between the hard ones.
        let Cohort { min, target, .. } = self.cohort;
        for n in (min..=target.min(SMALL_COHORT)).chain([min, target]) {
            let Topology { k, .. } = Topology::derive(n, &self.faults())?;
            if k as usize > NEIGHBOURS_MAX {
                let range =
                    "a size whose participants have at most 4,096 neighbours; lower the fractions or the target";
                return Err(PolicyError::OutOfRange { key: "cohort.target", value: n.to_string(), range });
            }
        }
        Ok(())
    }

    /// What the graph and the threshold of an attempt have to stand.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32, rounded up")]
    pub(crate) fn faults(&self) -> Faults {
        let Cohort { min, max_dropout_fraction, max_corrupt_fraction, .. } = self.cohort;
        // The coordinator chooses whom it invites, so the bound is not a share of the cohort at hand but of the smallest.
        let corrupt = (f64::from(min) * max_corrupt_fraction - ROUNDING_SLACK).ceil() as u32;
        Faults { corrupt, max_dropout_fraction }
    }

    /// Fewest inputs of a sum that opens. Where participants add the noise, the dropouts that the policy allows for are all
    /// that may be missing: the shares of the others have to be enough.
    pub(crate) fn min_survivors(&self, terms: &RoundTerms) -> u32 {
        let Cohort { min, .. } = self.cohort;
        if !self.shares_noise() {
            return min;
        }
        min.max(terms.cohort.saturating_sub(self.faults().dropouts(terms.cohort)))
    }

    /// L2 norm that an update is cut to.
    #[must_use]
    pub fn clip_norm(&self) -> f64 {
        self.privacy.clip_norm.min(self.robustness.max_norm)
    }

    /// The vector's fields, grid and ring without room for noise. Under privacy all weights are 1: how many records a site
    /// has is nobody's business. Where sites noise their metrics, these may be negative.
    pub(crate) fn exact_encoding(&self, model_len: usize) -> Result<Encoding, EncodingError> {
        let Self { cohort, privacy, encoding, .. } = self;
        let noised = privacy.enabled && privacy.unit == PrivacyUnit::Record;
        let metric = |metric: &Metric| MetricSpec {
            name: metric.name.clone(),
            min: if noised { -metric.max } else { 0.0 },
            max: metric.max,
            resolution: metric.resolution,
        };
        Encoding::new(EncodingSpec {
            model_len,
            cohort_max: cohort.target,
            clip_norm: self.clip_norm(),
            max_weight: if privacy.enabled { 1 } else { encoding.max_weight },
            precision_bits: encoding.precision_bits,
            metrics: encoding.metrics.iter().map(metric).collect(),
        })
    }

    fn refuse_what_is_not_here(&self) -> Result<(), PolicyError> {
        let Self { task, robustness, .. } = self;
        if task.kind != Kind::Model {
            return Err(later::not_yet("task.kind", &task.kind, "use \"model\""));
        }
        if task.visibility != Visibility::Masked {
            return Err(later::not_yet("task.visibility", &task.visibility, "use \"masked\""));
        }
        if !matches!(robustness.proof, Proof::None | Proof::Transparent) {
            let instead = "use \"transparent\"";
            return Err(later::not_yet("robustness.proof", &robustness.proof, instead));
        }
        if robustness.groups != 1 {
            return Err(later::not_yet("robustness.groups", &robustness.groups, "use 1"));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), PolicyError> {
        let Self { task, cohort, timing, training, encoding, .. } = self;
        let within = |ok: bool, key, value: String, range| {
            if ok { Ok(()) } else { Err(PolicyError::OutOfRange { key, value, range }) }
        };
        let name = &task.name;
        let plain = (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        within(plain, "task.name", format!("{name:?}"), "1 to 64 printable characters")?;
        within((1..=ROUNDS_MAX).contains(&task.rounds), "task.rounds", task.rounds.to_string(), "1 to 1,000,000")?;
        within(cohort.min >= COHORT_MIN, "cohort.min", cohort.min.to_string(), SURVIVORS_REASON)?;
        let target = (cohort.min..=COHORT_MAX).contains(&cohort.target);
        within(target, "cohort.target", cohort.target.to_string(), "at least cohort.min and at most 100,000")?;
        for (key, fraction) in [
            ("cohort.max_dropout_fraction", cohort.max_dropout_fraction),
            ("cohort.max_corrupt_fraction", cohort.max_corrupt_fraction),
        ] {
            within((0.0..0.5).contains(&fraction), key, fraction.to_string(), "at least 0 and below 0.5")?;
        }
        let norm = self.robustness.max_norm;
        within((1e-20..=1e20).contains(&norm), "robustness.max_norm", norm.to_string(), "1e-20 to 1e20")?;
        for (key, seconds) in [
            ("timing.gather", timing.gather),
            ("timing.participant_timeout", timing.participant_timeout),
            ("timing.round_timeout", timing.round_timeout),
            ("timing.step_timeout", timing.step_timeout),
            ("timing.step_grace", timing.step_grace),
        ] {
            within(TIMEOUT.contains(&seconds), key, seconds.to_string(), "0.01 to 604,800 seconds")?;
        }
        within(training.local_epochs > 0, "training.local_epochs", training.local_epochs.to_string(), "at least 1")?;
        within(training.batch_size > 0, "training.batch_size", training.batch_size.to_string(), "at least 1")?;
        let rate = training.learning_rate;
        let within_f32 = rate > 0.0 && rate <= f64::from(f32::MAX);
        within(within_f32, "training.learning_rate", rate.to_string(), "above 0 and at most 3.4e38")?;
        let momentum = training.momentum;
        within((0.0..1.0).contains(&momentum), "training.momentum", momentum.to_string(), "at least 0 and below 1")?;
        let names = encoding.metrics.iter().map(|metric| metric.name.as_str());
        within(encoding.metrics.len() <= METRICS_MAX, "encoding.metrics", names.len().to_string(), "16 at most")?;
        for (at, name) in names.clone().enumerate() {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) || names.clone().take(at).any(|n| n == name)
            {
                return Err(PolicyError::MetricName(name.to_owned()));
            }
        }
        Ok(())
    }
}

/// Bytes of a policy as it is written, at most.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Attempts over one model, or of one round, in which shares are revealed, at most. The default of sites
/// (`max_sums_per_model`), and the number at which a coordinator stops asking them: one attempt that gives the sum, and
/// two that failed too late.
pub const SUMS_PER_MODEL_MAX: u32 = 3;
/// Two would learn each other's input from their sum.
pub const COHORT_MIN: u32 = 3;
/// Participants in one cohort, at most.
pub const COHORT_MAX: u32 = 100_000;
/// Up to this size, where one participant more or less decides, every size is tried.
const SMALL_COHORT: u32 = 64;
const SURVIVORS_REASON: &str = "at least 3: with two, each would learn the other's input from the sum";
const ROUNDS_MAX: u64 = 1_000_000;
const NAME_CHARS_MAX: usize = 64;
const METRICS_MAX: usize = 16;
const TIMEOUT: std::ops::RangeInclusive<f64> = 0.01..=604_800.0;
/// Above the rounding error of a product of a u32 and a fraction, far below one participant.
const ROUNDING_SLACK: f64 = 1e-6;

#[cfg(test)]
#[expect(clippy::panic, reason = "a failed match is a failed test")]
mod tests {
    use super::*;

    const PLAIN: &str = "[task]\nname = \"sepsis-mlp\"\nrounds = 20\n[privacy]\nenabled = false\n";

    fn checked(text: &str) -> Result<CheckedPolicy, PolicyError> {
        Policy::from_toml(text)?.check()
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let policy = checked(PLAIN).expect("the smallest policy").policy().clone();
        assert_eq!((policy.cohort.min, policy.cohort.target), (8, 10));
        assert_eq!((policy.timing.participant_timeout, policy.timing.round_timeout), (300.0, 600.0));
        assert_eq!((policy.timing.step_timeout, policy.timing.step_grace), (60.0, 5.0));
        assert_eq!((policy.masking.pq, policy.masking.prg), (true, MaskPrg::Aes256Ctr));
    }

    #[test]
    fn masking_is_chosen_by_name() {
        let chosen =
            checked(&format!("{PLAIN}[masking]\npq = false\nprg = \"aes-128-ctr\"\n")).expect("weaker, and said");
        assert_eq!(chosen.policy().masking, Masking { pq: false, prg: MaskPrg::Aes128Ctr });
        let error = checked(&format!("{PLAIN}[masking]\nprg = \"chacha20\"\n")).expect_err("no such cipher");
        assert!(error.to_string().contains("chacha20"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = checked(&format!("{PLAIN}epsilonn = 3\n")).expect_err("a typo");
        assert!(error.to_string().contains("epsilonn"), "{error}");
    }

    #[test]
    fn what_is_not_here_is_refused_by_name() {
        for (text, key) in [
            ("[task]\nname = \"a\"\nrounds = 1\nvisibility = \"open\"\n", "task.visibility"),
            ("[task]\nname = \"a\"\nrounds = 1\nvisibility = \"sealed\"\n", "task.visibility"),
            ("[task]\nname = \"a\"\nrounds = 1\nkind = \"signal\"\n", "task.kind"),
            (&format!("{PLAIN}[robustness]\nproof = \"groth16-standard\"\n"), "robustness.proof"),
            (&format!("{PLAIN}[robustness]\ngroups = 2\n"), "robustness.groups"),
        ] {
            match checked(text) {
                Err(PolicyError::NotYet { key: named, .. }) => assert_eq!(named, key),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_key() {
        for (extra, key) in [
            ("[cohort]\nmin = 2\n", "cohort.min"),
            ("[cohort]\nmin = 12\n", "cohort.target"),
            ("[cohort]\nmax_dropout_fraction = 0.5\n", "cohort.max_dropout_fraction"),
            ("[cohort]\nmax_corrupt_fraction = nan\n", "cohort.max_corrupt_fraction"),
            ("[timing]\nstep_grace = -1.0\n", "timing.step_grace"),
            ("[training]\nmomentum = 1.0\n", "training.momentum"),
        ] {
            match checked(&format!("{PLAIN}{extra}")) {
                Err(PolicyError::OutOfRange { key: named, .. }) => assert_eq!(named, key),
                other => panic!("{extra}: {other:?}"),
            }
        }
        let twice =
            "[[encoding.metrics]]\nname = \"loss\"\nmax = 9.0\n[[encoding.metrics]]\nname = \"loss\"\nmax = 9.0\n";
        assert_eq!(checked(&format!("{PLAIN}{twice}")).err(), Some(PolicyError::MetricName("loss".into())));
        let wide = format!("{PLAIN}[encoding]\nprecision_bits = 60\n[cohort]\ntarget = 100000\n");
        assert!(matches!(checked(&wide), Err(PolicyError::Encoding(_))));
    }

    /// Of 4 with one that colludes, 3 neighbours have to answer: one dropout is one too many, although 3 and 5 work.
    #[test]
    fn a_cohort_that_no_threshold_protects_is_refused() {
        let text = format!("{PLAIN}[cohort]\nmin = 3\ntarget = 5\nmax_dropout_fraction = 0.25\n");
        match checked(&text) {
            Err(PolicyError::Topology(error)) => assert_eq!((error.n, error.threshold, error.answering), (4, 3, 2)),
            other => panic!("{other:?}"),
        }
    }

    /// Where sites noise their metrics, a cut at 0 would make these larger on average; elsewhere nothing is below 0.
    #[test]
    fn a_noised_metric_may_be_negative() {
        let metric = "[[encoding.metrics]]\nname = \"correct\"\nmax = 90.0\n";
        let task = "[task]\nname = \"a\"\nrounds = 1\n";
        let participant = "[privacy]\nunit = \"participant\"\nnoise_multiplier = 5.0\n";
        for (text, min) in [(PLAIN, 0.0), (task, -90.0), (&format!("{task}{participant}"), 0.0)] {
            let policy = checked(&format!("{text}{metric}")).expect("a policy");
            let encoding = policy.encoding(3, &policy.terms(10)).expect("an encoding");
            let spec = &encoding.spec().metrics[0];
            assert_eq!((spec.min, spec.max, encoding.metric_bounds()), (min, 90.0, &[90][..]), "{text}");
        }
    }

    #[test]
    fn any_change_changes_the_digest() {
        let plain = checked(PLAIN).expect("plain").digest();
        assert_eq!(checked(PLAIN).expect("again").digest(), plain);
        assert_ne!(checked(&PLAIN.replace("20", "21")).expect("other").digest(), plain);
    }

    #[test]
    fn fractions_of_a_cohort_round_to_the_safe_side() {
        let text = format!("{PLAIN}[cohort]\nmax_dropout_fraction = 0.3\n");
        let policy = checked(&text).expect("plain");
        assert_eq!((policy.faults().dropouts(10), policy.quorum(10)), (3, 7));
        assert_eq!(policy.faults().corrupt, 2, "0.2 of 8, rounded up");
    }
}
