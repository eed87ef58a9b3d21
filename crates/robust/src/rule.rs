//! Rules by the names that people know them by.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::geometric::Schedule;
use crate::rules::{self, Trust};
use crate::{Bound, Element, Gram, Mixed, Weights, select, spectral};

/// How rows become one vector. `n` are rows, `f` those of them that may be attackers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", deny_unknown_fields)]
pub enum Rule {
    /// The weighted mean. One attacker moves it anywhere.
    FedAvg {},
    /// The coordinate median. `2f < n`.
    FedMedian {},
    /// The coordinate-wise trimmed mean. `2f < n`.
    FedTrimmedAvg {},
    /// The mean of the `n - f` values around the median. `2f < n`.
    MeanAroundMedian {},
    /// One client's row. `n >= 2f + 3`. Loses accuracy even where nobody attacks.
    Krum {},
    /// The mean of the `m` best rows by Krum's score, `n - f` unless given. `n >= 2f + 3`.
    MultiKrum {
        /// Rows that are kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        m: Option<usize>,
    },
    /// Krum, then the mean around the median. `n >= 4f + 3`. Weak: it uses `n - 4f` values.
    Bulyan {},
    /// The geometric median (RFA). `2f < n`.
    GeometricMedian {
        /// How far it is iterated.
        #[serde(default)]
        schedule: Schedule,
    },
    /// Clipping around the last aggregate. `2f < n`.
    CenteredClipping {
        /// How far a row may pull.
        #[serde(default)]
        tau: Tau,
        /// Steps.
        #[serde(default = "three")]
        iterations: u32,
    },
    /// Rows weighed by their cosine to an update of the server's own. Needs clean data at the server.
    FLTrust {},
    /// Drops who stands out along the top singular direction. `2f < n`.
    DnC {
        /// Rows dropped per attacker.
        #[serde(default = "one")]
        c: f64,
    },
}

/// The radius of centred clipping.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tau {
    /// The median distance of the rows to where it begins.
    #[default]
    MedianDistance,
    /// The same in all rounds.
    Static(f64),
}

const fn three() -> u32 {
    3
}

const fn one() -> f64 {
    1.0
}

/// What a rule needs beside the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) f: usize,
    pub(crate) weights: Option<&'a Weights>,
    pub(crate) root: Option<&'a [f64]>,
    pub(crate) start: Option<&'a [f64]>,
    pub(crate) threads: NonZeroUsize,
}

/// What a rule made.
#[derive(Debug)]
pub(crate) struct Combined {
    pub(crate) vector: Vec<f64>,
    /// On the updates, where the rule has any.
    pub(crate) coefficients: Option<Vec<f64>>,
}

impl Rule {
    /// Whether it withstands `f` attackers among `n` rows, as far as its theorem says so.
    ///
    /// # Errors
    /// [`Bound`], with what it needs.
    pub fn needs(&self, n: usize, f: usize) -> Result<(), Bound> {
        match *self {
            // It withstands nobody and claims nothing.
            Self::FedAvg {} | Self::FLTrust {} => {
                if n > 0 {
                    Ok(())
                } else {
                    Err(Bound::byzantine(self.name(), "n >= 1", n, f))
                }
            }
            Self::FedMedian {} | Self::FedTrimmedAvg {} | Self::MeanAroundMedian {} => {
                Bound::minority(self.name(), n, f)
            }
            Self::Krum {} => select::krum_needs(self.name(), n, f),
            Self::MultiKrum { m } => {
                select::krum_needs(self.name(), n, f)?;
                select::selection_size(m.unwrap_or(n - f), n, f)
            }
            Self::Bulyan {} => select::bulyan_needs(n, f),
            Self::GeometricMedian { schedule } => {
                schedule.check()?;
                Bound::minority(self.name(), n, f)
            }
            Self::CenteredClipping { tau, iterations } => {
                if let Tau::Static(tau) = tau
                    && !(tau > 0.0 && tau.is_finite())
                {
                    return Err(Bound::parameter("tau", tau, "positive and finite"));
                }
                if iterations == 0 {
                    return Err(Bound::parameter("iterations", 0.0, "at least 1"));
                }
                Bound::minority(self.name(), n, f)
            }
            Self::DnC { c } => spectral::dnc_needs(n, f, c).map(|_| ()),
        }
    }

    /// The name that people know it by, as in a policy.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FedAvg {} => "FedAvg",
            Self::FedMedian {} => "FedMedian",
            Self::FedTrimmedAvg {} => "FedTrimmedAvg",
            Self::MeanAroundMedian {} => "MeanAroundMedian",
            Self::Krum {} => "Krum",
            Self::MultiKrum { .. } => "MultiKrum",
            Self::Bulyan {} => "Bulyan",
            Self::GeometricMedian { .. } => "GeometricMedian",
            Self::CenteredClipping { .. } => "CenteredClipping",
            Self::FLTrust {} => "FLTrust",
            Self::DnC { .. } => "DnC",
        }
    }

    /// Whether it needs distances.
    #[must_use]
    pub fn measures(&self) -> bool {
        !matches!(
            self,
            Self::FedAvg {}
                | Self::FedMedian {}
                | Self::FedTrimmedAvg {}
                | Self::MeanAroundMedian {}
                | Self::FLTrust {}
        )
    }

    /// Whether weights of clients mean anything to it.
    #[must_use]
    pub fn weighs(&self) -> bool {
        matches!(self, Self::FedAvg {} | Self::GeometricMedian { .. })
    }

    /// Combines rows; `gram` is theirs, and there where [`Self::measures`] says so.
    pub(crate) fn apply<T: Element>(
        &self,
        rows: &Mixed<'_, '_, T>,
        gram: Option<&Gram>,
        norms: &[f64],
        given: Given<'_>,
    ) -> Result<Combined, Bound> {
        let Given { f, weights, root, start, threads } = given;
        let n = rows.rows();
        self.needs(n, f)?;
        let of_columns = |vector| Ok(Combined { vector, coefficients: None });
        let of_rows = |coefficients: &[f64]| {
            let coefficients = rows.back(coefficients);
            Ok(Combined {
                vector: crate::columns::combine(rows.updates(), &coefficients, 1.0, threads),
                coefficients: Some(coefficients),
            })
        };
        match (*self, gram) {
            (Self::FedAvg {}, _) => {
                let weights = weights.map_or_else(|| vec![1.0; n], |weights| weights.as_slice().to_vec());
                let sum: f64 = weights.iter().sum();
                let coefficients = rows.back(&weights.iter().map(|weight| weight / sum).collect::<Vec<_>>());
                Ok(Combined { vector: rows.combine(&weights, sum, threads), coefficients: Some(coefficients) })
            }
            (Self::FedMedian {}, _) => of_columns(rules::coordinate_median(rows, threads)),
            (Self::FedTrimmedAvg {}, _) => of_columns(rules::trimmed_mean(rows, f, threads)?),
            (Self::MeanAroundMedian {}, _) => of_columns(rules::mean_around_median(rows, f, threads)?),
            (Self::FLTrust {}, _) => {
                let root = root.ok_or(Bound::NoRoot)?;
                let root_norm = rules::root_norm(root, rows.updates().dimension())?;
                let along = rows.forth(&rules::products_with(rows.updates(), root, threads));
                let cosines = along
                    .iter()
                    .zip(norms)
                    .map(|(along, &norm)| if norm > 0.0 { (along / norm / root_norm).clamp(0.0, 1.0) } else { 0.0 });
                of_rows(&Trust::new(cosines.collect(), norms, root_norm).coefficients)
            }
            (Self::Krum {}, Some(gram)) => of_rows(&rules::mean_of(&select::krum(gram, f, 1, None)?.selected, n)),
            (Self::MultiKrum { m }, Some(gram)) => {
                of_rows(&rules::mean_of(&select::krum(gram, f, m.unwrap_or(n - f), None)?.selected, n))
            }
            (Self::Bulyan {}, Some(gram)) => of_columns(rules::bulyan(rows, gram, f, threads)?.0),
            (Self::GeometricMedian { schedule }, Some(gram)) => {
                of_rows(&rules::geometric_median(gram, weights, schedule)?)
            }
            (Self::CenteredClipping { tau, iterations }, Some(gram)) => {
                let tau = match tau {
                    Tau::Static(tau) => tau,
                    // All rows are where it begins: nothing is there to clip.
                    Tau::MedianDistance => rules::median_distance(gram).max(f64::MIN_POSITIVE),
                };
                let point = rules::centered_clipping(gram, tau, iterations)?;
                let mut combined = of_rows(&point[..n])?;
                if let Some(start) = start {
                    let share = point[gram.start()];
                    combined.vector.iter_mut().zip(start).for_each(|(value, start)| *value += share * start);
                }
                Ok(combined)
            }
            (Self::DnC { c }, Some(gram)) => of_rows(&rules::mean_of(&spectral::dnc(gram, f, c)?.kept, n)),
            // The pipeline makes a matrix for every rule that measures.
            (_, None) => Err(Bound::byzantine(self.name(), "distances", n, f)),
        }
    }
}
