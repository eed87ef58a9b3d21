//! What one release did, in terms that a theorem can price.
//!
//! Everything that an epsilon depends on is a field: the unit, the relation, how the unit came into the release, the
//! mechanism, how often. A combination that no theorem here covers cannot be built.

use crate::error::{DpError, count_in_range, in_range};

/// Whose presence is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// One participant (site, client) with all that it contributes to a release.
    Participant,
    /// One record at one participant.
    Record,
    /// This many records together, or participants: at least 1.
    Group(u32),
}

impl Unit {
    /// How many contributions change at once.
    pub fn size(self) -> u32 {
        match self {
            Self::Participant | Self::Record => 1,
            Self::Group(size) => size,
        }
    }
}

/// Which data sets are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// One unit more or less.
    AddRemove,
    /// One unit's contribution is there, or is zero; that it takes part is public.
    ZeroOut,
    /// One unit's contribution is another one's.
    ReplaceOne,
}

impl Relation {
    /// How far the sum of contributions of norm at most `clip_norm` moves between neighbours.
    pub fn sensitivity(self, clip_norm: f64) -> f64 {
        match self {
            Self::AddRemove | Self::ZeroOut => clip_norm,
            Self::ReplaceOne => 2.0 * clip_norm,
        }
    }
}

/// How a unit came to be in the release. Anything else than `None` is a claim that the adversary does not see who was
/// drawn, and that the draw was what is stated.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampling {
    /// Every unit may be in it: no amplification.
    None,
    /// Each unit independently with probability `q`.
    Poisson {
        /// In (0, 1].
        q: f64,
    },
    /// Exactly `sample` of `population` units, uniformly, without replacement.
    FixedWor {
        /// At least 1.
        sample: u64,
        /// At least `sample`.
        population: u64,
    },
}

/// What was done to the data. Noise is stated relative to the sensitivity under the event's relation.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mechanism {
    /// Gaussian noise of standard deviation `sigma` times the L2 sensitivity.
    Gaussian {
        /// Noise multiplier, no unit.
        sigma: f64,
    },
    /// Laplace noise of scale `scale` times the L1 sensitivity.
    Laplace {
        /// No unit; the release is `1 / scale`-DP.
        scale: f64,
    },
    /// Anything that is `epsilon`-DP, such as discrete Laplace noise or randomised response.
    Pure {
        /// In nats.
        epsilon: f64,
    },
    /// `P(k) ~ exp(-k^2 / (2 sigma2))` on each integer coordinate (Canonne, Kamath, Steinke 2020).
    DiscreteGaussian {
        /// The parameter, in squared grid units; not quite the variance when small.
        sigma2: f64,
        /// L2 sensitivity of the integer vector, in grid units.
        l2: f64,
        /// Coordinates.
        dim: u64,
    },
    /// The sum of what `parties` independent discrete Gaussians add (Kairouz, Liu, Steinke 2021).
    DiscreteGaussianSum {
        /// Noise shares in the sum: those of honest survivors.
        parties: u64,
        /// Parameter of one share, in squared grid units.
        sigma2: f64,
        /// L1 sensitivity in grid units.
        l1: f64,
        /// L2 sensitivity in grid units.
        l2: f64,
        /// Coordinates.
        dim: u64,
    },
    /// Difference of two Poisson variables of mean `mu / 2` on each coordinate (Agarwal, Kairouz, Liu 2021).
    Skellam {
        /// The variance, in squared grid units.
        mu: f64,
        /// L1 sensitivity in grid units.
        l1: f64,
        /// L2 sensitivity in grid units.
        l2: f64,
    },
}

/// What one release did, and how often it was done in the same way.
///
/// Canonical: equal events have equal [`Event::to_bytes`]; decoding checks what building checks. What is hashed or kept is
/// kept as these bytes: a reader of JSON may be off by a unit of the last place of a real number.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(into = "Parts", try_from = "Parts")]
pub struct Event {
    unit: Unit,
    relation: Relation,
    sampling: Sampling,
    mechanism: Mechanism,
    count: u64,
}

impl Event {
    /// An event of `count` equal releases.
    ///
    /// # Errors
    /// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for parameters outside of the accepted ranges;
    /// [`DpError::NoTheorem`] for combinations that nothing here can price: they are refused, not guessed.
    pub fn new(
        unit: Unit,
        relation: Relation,
        sampling: Sampling,
        mechanism: Mechanism,
        count: u64,
    ) -> Result<Self, DpError> {
        count_in_range("size of the group", unit.size().into(), 1, GROUP_MAX)?;
        count_in_range("count of the event", count, 1, COUNT_MAX)?;
        check_mechanism(mechanism)?;
        match sampling {
            Sampling::None => {}
            Sampling::Poisson { q } => {
                in_range("q", q, Q_MIN, 1.0)?;
                check_poisson(unit, relation, mechanism)?;
            }
            Sampling::FixedWor { sample, population } => {
                count_in_range("population", population, 1, POPULATION_MAX)?;
                count_in_range("sample", sample, 1, population)?;
                check_fixed(unit, relation, mechanism)?;
            }
        }
        Ok(Self { unit, relation, sampling, mechanism, count })
    }

    /// Gaussian noise of standard deviation `noise_std` on one sum of vectors clipped to `clip_norm`, nothing claimed
    /// about sampling.
    ///
    /// # Errors
    /// As [`Event::new`]; the clip norm must lie in the same range as noise multipliers.
    pub fn clipped_sum(unit: Unit, relation: Relation, clip_norm: f64, noise_std: f64) -> Result<Self, DpError> {
        in_range("clip norm", clip_norm, SCALE_MIN, SCALE_MAX)?;
        let sigma = noise_std / relation.sensitivity(clip_norm);
        Self::new(unit, relation, Sampling::None, Mechanism::Gaussian { sigma }, 1)
    }

    /// The same release, `count` times.
    ///
    /// # Errors
    /// [`DpError::CountOutOfRange`] if `count` is zero or above 2^40.
    pub fn times(self, count: u64) -> Result<Self, DpError> {
        count_in_range("count of the event", count, 1, COUNT_MAX)?;
        Ok(Self { count, ..self })
    }

    /// Whose presence is hidden.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Which data sets are neighbours.
    pub fn relation(&self) -> Relation {
        self.relation
    }

    /// How units came into the release.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// What was done.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// How many equal releases.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mechanism as the unit meets it: a group of k moves the sum k times as far.
    pub(crate) fn effective_mechanism(&self) -> Mechanism {
        let k = f64::from(self.unit.size());
        match self.mechanism {
            Mechanism::Gaussian { sigma } => Mechanism::Gaussian { sigma: sigma / k },
            Mechanism::Laplace { scale } => Mechanism::Laplace { scale: scale / k },
            Mechanism::Pure { epsilon } => Mechanism::Pure { epsilon: epsilon * k },
            Mechanism::DiscreteGaussian { sigma2, l2, dim } => Mechanism::DiscreteGaussian { sigma2, l2: l2 * k, dim },
            Mechanism::DiscreteGaussianSum { parties, sigma2, l1, l2, dim } => {
                Mechanism::DiscreteGaussianSum { parties, sigma2, l1: l1 * k, l2: l2 * k, dim }
            }
            Mechanism::Skellam { mu, l1, l2 } => Mechanism::Skellam { mu, l1: l1 * k, l2: l2 * k },
        }
    }

    /// Canonical bytes: a version, the fields in order, integers and the bits of reals big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.kind_bytes();
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes
    }

    /// Canonical bytes without the count: events with equal kinds cost the same per release.
    pub(crate) fn kind_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let (unit, size) = match self.unit {
            Unit::Participant => (0, 1),
            Unit::Record => (1, 1),
            Unit::Group(size) => (2, size),
        };
        bytes.push(unit);
        bytes.extend_from_slice(&u32::to_be_bytes(size));
        bytes.push(match self.relation {
            Relation::AddRemove => 0,
            Relation::ZeroOut => 1,
            Relation::ReplaceOne => 2,
        });
        let mut words = |tag: u8, words: &[u64]| {
            bytes.push(tag);
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        };
        match self.sampling {
            Sampling::None => words(0, &[]),
            Sampling::Poisson { q } => words(1, &[q.to_bits()]),
            Sampling::FixedWor { sample, population } => words(2, &[sample, population]),
        }
        match self.mechanism {
            Mechanism::Gaussian { sigma } => words(0, &[sigma.to_bits()]),
            Mechanism::Laplace { scale } => words(1, &[scale.to_bits()]),
            Mechanism::Pure { epsilon } => words(2, &[epsilon.to_bits()]),
            Mechanism::DiscreteGaussian { sigma2, l2, dim } => words(3, &[sigma2.to_bits(), l2.to_bits(), dim]),
            Mechanism::DiscreteGaussianSum { parties, sigma2, l1, l2, dim } => {
                words(4, &[parties, sigma2.to_bits(), l1.to_bits(), l2.to_bits(), dim]);
            }
            Mechanism::Skellam { mu, l1, l2 } => words(5, &[mu.to_bits(), l1.to_bits(), l2.to_bits()]),
        }
        bytes
    }

    /// Reads what [`Event::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`DpError::NotAnEvent`] for bytes of another form; otherwise as [`Event::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DpError> {
        let mut reader = Reader(bytes);
        if reader.byte()? != FORMAT {
            return Err(DpError::NotAnEvent("unknown version"));
        }
        let (tag, size) = (reader.byte()?, u32::from_be_bytes(reader.take()?));
        let unit = match (tag, size) {
            (0, 1) => Unit::Participant,
            (1, 1) => Unit::Record,
            (2, size) => Unit::Group(size),
            _ => return Err(DpError::NotAnEvent("unknown unit")),
        };
        let relation = match reader.byte()? {
            0 => Relation::AddRemove,
            1 => Relation::ZeroOut,
            2 => Relation::ReplaceOne,
            _ => return Err(DpError::NotAnEvent("unknown relation")),
        };
        let sampling = match reader.byte()? {
            0 => Sampling::None,
            1 => Sampling::Poisson { q: reader.real()? },
            2 => Sampling::FixedWor { sample: reader.word()?, population: reader.word()? },
            _ => return Err(DpError::NotAnEvent("unknown sampling")),
        };
        let mechanism = match reader.byte()? {
            0 => Mechanism::Gaussian { sigma: reader.real()? },
            1 => Mechanism::Laplace { scale: reader.real()? },
            2 => Mechanism::Pure { epsilon: reader.real()? },
            3 => Mechanism::DiscreteGaussian { sigma2: reader.real()?, l2: reader.real()?, dim: reader.word()? },
            4 => Mechanism::DiscreteGaussianSum {
                parties: reader.word()?,
                sigma2: reader.real()?,
                l1: reader.real()?,
                l2: reader.real()?,
                dim: reader.word()?,
            },
            5 => Mechanism::Skellam { mu: reader.real()?, l1: reader.real()?, l2: reader.real()? },
            _ => return Err(DpError::NotAnEvent("unknown mechanism")),
        };
        let count = reader.word()?;
        if !reader.0.is_empty() {
            return Err(DpError::NotAnEvent("bytes are left over"));
        }
        Self::new(unit, relation, sampling, mechanism, count)
    }
}

fn check_mechanism(mechanism: Mechanism) -> Result<(), DpError> {
    let norms = |l1: f64, l2: f64| {
        in_range("L2 sensitivity", l2, NORM_MIN, SCALE_MAX)?;
        // Norms of one integer vector: l2 <= l1, whatever its length.
        in_range("L1 sensitivity", l1, l2, SCALE_MAX * SCALE_MAX)
    };
    match mechanism {
        Mechanism::Gaussian { sigma } => in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?,
        Mechanism::Laplace { scale } => in_range("scale", scale, SCALE_MIN, SCALE_MAX)?,
        Mechanism::Pure { epsilon } => in_range("epsilon of the mechanism", epsilon, 1.0 / SCALE_MAX, 1.0 / SCALE_MIN)?,
        Mechanism::DiscreteGaussian { sigma2, l2, dim } => {
            count_in_range("dim", dim, 1, COUNT_MAX)?;
            in_range("L2 sensitivity", l2, NORM_MIN, SCALE_MAX)?;
            in_range("sigma2", sigma2, SIGMA2_MIN, SCALE_MAX * SCALE_MAX)?
        }
        Mechanism::DiscreteGaussianSum { parties, sigma2, l1, l2, dim } => {
            count_in_range("parties", parties, 1, PARTIES_MAX)?;
            count_in_range("dim", dim, 1, COUNT_MAX)?;
            in_range("sigma2", sigma2, SIGMA2_MIN, SCALE_MAX * SCALE_MAX)?;
            norms(l1, l2)?
        }
        Mechanism::Skellam { mu, l1, l2 } => {
            in_range("mu", mu, SIGMA2_MIN, SCALE_MAX * SCALE_MAX)?;
            norms(l1, l2)?
        }
    };
    Ok(())
}

fn check_poisson(unit: Unit, relation: Relation, mechanism: Mechanism) -> Result<(), DpError> {
    if relation == Relation::ReplaceOne {
        return Err(DpError::NoTheorem("Poisson sampling is priced for add/remove and zero-out, not for replace-one"));
    }
    if unit.size() > 1 {
        return Err(DpError::NoTheorem("Poisson sampling is priced for one unit, not for a group of them"));
    }
    match mechanism {
        Mechanism::Gaussian { .. }
        | Mechanism::Laplace { .. }
        | Mechanism::Pure { .. }
        | Mechanism::DiscreteGaussian { .. }
        | Mechanism::DiscreteGaussianSum { .. }
        | Mechanism::Skellam { .. } => Ok(()),
    }
}

fn check_fixed(unit: Unit, relation: Relation, mechanism: Mechanism) -> Result<(), DpError> {
    if relation != Relation::ReplaceOne {
        return Err(DpError::NoTheorem("samples of fixed size are priced for replace-one only"));
    }
    if unit.size() > 1 {
        return Err(DpError::NoTheorem("samples of fixed size are priced for one unit, not for a group of them"));
    }
    match mechanism {
        Mechanism::Gaussian { .. } => Ok(()),
        _ => Err(DpError::NoTheorem("samples of fixed size are priced for Gaussian noise only")),
    }
}

/// An event as it travels, before it is checked.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    unit: Unit,
    relation: Relation,
    sampling: Sampling,
    mechanism: Mechanism,
    count: u64,
}

impl From<Event> for Parts {
    fn from(event: Event) -> Self {
        let Event { unit, relation, sampling, mechanism, count } = event;
        Self { unit, relation, sampling, mechanism, count }
    }
}

impl TryFrom<Parts> for Event {
    type Error = DpError;

    fn try_from(parts: Parts) -> Result<Self, DpError> {
        Self::new(parts.unit, parts.relation, parts.sampling, parts.mechanism, parts.count)
    }
}

/// What is left of the bytes of an event.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DpError> {
        let (taken, left) = self.0.split_first_chunk().ok_or(DpError::NotAnEvent("it ends too early"))?;
        self.0 = left;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, DpError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn word(&mut self) -> Result<u64, DpError> {
        self.take().map(u64::from_be_bytes)
    }

    fn real(&mut self) -> Result<f64, DpError> {
        self.word().map(f64::from_bits)
    }
}

/// Version of the canonical bytes.
const FORMAT: u8 = 1;
/// Multipliers and scales, and their inverses, stay far from the ends of the doubles even when squared.
pub(crate) const SCALE_MIN: f64 = 1e-3;
/// See [`SCALE_MIN`].
pub(crate) const SCALE_MAX: f64 = 1e12;
/// Variances on the grid.
const SIGMA2_MIN: f64 = 1e-3;
/// Sensitivities of integer vectors; below 1 they can only be an average over something.
const NORM_MIN: f64 = 1e-6;
/// Below this a claim of sampling is a mistake of units.
const Q_MIN: f64 = 1e-12;
/// Sums over counts stay exact in doubles.
pub(crate) const COUNT_MAX: u64 = 1 << 40;
const POPULATION_MAX: u64 = 1 << 40;
const PARTIES_MAX: u64 = 1 << 20;
const GROUP_MAX: u64 = 1 << 20;
