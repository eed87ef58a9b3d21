//! Uneven shares of one data set, for demonstrations and tests with participants on one machine.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::dataset::{Dataset, DatasetError};
use super::random;

/// Draws until every participant has its minimum; a split that needs more is refused.
const MAX_DRAWS: u32 = 1000;
/// Concentrations beyond these leave the range in which the draw is numerically sound; the split is then in effect one
/// class each, or even.
const ALPHA_RANGE: std::ops::RangeInclusive<f64> = 1e-3..=1e6;

/// How to deal rows to participants with skewed labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DirichletSplit {
    /// Number of shares, at least 1.
    pub participants: usize,
    /// Concentration, 0.001 to 1,000,000: small values give each participant few classes (0.5 is the usual choice for
    /// clearly uneven data), large ones an even split.
    pub alpha: f64,
    /// Rows every participant gets at least.
    pub min_rows: usize,
    /// Picks the split. The same seed, data and numbers give the same split on the same platform.
    pub seed: u64,
}

impl DirichletSplit {
    /// Deals every row to exactly one participant: for each class, the participants' shares of its rows are drawn from
    /// a symmetric Dirichlet distribution (Hsu, Qi, Brown 2019, "Measuring the Effects of Non-Identical Data
    /// Distribution for Federated Visual Classification", drawn per class as in Yurochkin et al. 2019). The whole split
    /// is drawn again while a participant has fewer than `min_rows`.
    ///
    /// # Errors
    /// [`SplitError`] if the numbers cannot work, or did not within 1000 draws.
    pub fn deal(&self, data: &Dataset) -> Result<Vec<Dataset>, SplitError> {
        let shares = self.rows(data)?;
        Ok(shares.iter().map(|rows| data.subset(rows)).collect::<Result<_, _>>()?)
    }

    /// The rows of each participant, in random order.
    fn rows(&self, data: &Dataset) -> Result<Vec<Vec<usize>>, SplitError> {
        let Self { participants, alpha, seed, .. } = *self;
        if !ALPHA_RANGE.contains(&alpha) {
            return Err(SplitError::Alpha { alpha });
        }
        // A share without rows is no data set.
        let min_rows = self.min_rows.max(1);
        if participants == 0 || participants.checked_mul(min_rows).is_none_or(|needed| needed > data.rows()) {
            return Err(SplitError::TooFewRows { rows: data.rows(), participants, min_rows });
        }
        let mut by_class = vec![Vec::new(); data.classes()];
        for (row, &label) in data.labels().iter().enumerate() {
            by_class[label as usize].push(row);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..MAX_DRAWS {
            let mut shares = draw(&mut rng, &mut by_class, participants, alpha);
            if shares.iter().all(|share| share.len() >= min_rows) {
                shares.iter_mut().for_each(|share| random::shuffle(&mut rng, share));
                return Ok(shares);
            }
        }
        Err(SplitError::Unlucky { participants, min_rows, alpha })
    }
}

fn draw(rng: &mut impl Rng, by_class: &mut [Vec<usize>], participants: usize, alpha: f64) -> Vec<Vec<usize>> {
    let mut shares = vec![Vec::new(); participants];
    for rows in by_class {
        random::shuffle(rng, rows);
        let ends = cumulative(&dirichlet(rng, participants, alpha), rows.len());
        let mut start = 0;
        for (share, end) in shares.iter_mut().zip(ends) {
            share.extend_from_slice(&rows[start..end]);
            start = end;
        }
    }
    shares
}

/// A point of the symmetric Dirichlet distribution: gamma draws over their sum.
fn dirichlet(rng: &mut impl Rng, parts: usize, alpha: f64) -> Vec<f64> {
    loop {
        let draws: Vec<f64> = (0..parts).map(|_| random::gamma(rng, alpha)).collect();
        let sum: f64 = draws.iter().sum();
        // With a tiny alpha every draw may underflow; such a point has no direction.
        if sum > f64::MIN_POSITIVE {
            return draws.iter().map(|draw| draw / sum).collect();
        }
    }
}

/// Where each share of `rows` ends, ascending; the last ends at `rows`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a usize, held within it")]
fn cumulative(shares: &[f64], rows: usize) -> Vec<usize> {
    let mut sum = 0.0;
    let mut ends: Vec<usize> = shares
        .iter()
        .map(|share| {
            sum += share;
            ((sum * rows as f64).round() as usize).min(rows)
        })
        .collect();
    if let Some(last) = ends.last_mut() {
        *last = rows;
    }
    ends
}

/// Why a data set cannot be split as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// There are not enough rows, or nobody to give them to.
    #[error("{rows} rows cannot be split over {participants} participants with at least {min_rows} each")]
    TooFewRows {
        /// Rows there are.
        rows: usize,
        /// Participants asked for.
        participants: usize,
        /// Rows each is to get.
        min_rows: usize,
    },
    /// The concentration is outside its range.
    #[error("the Dirichlet concentration is {alpha}, it must be {} to {}", ALPHA_RANGE.start(), ALPHA_RANGE.end())]
    Alpha {
        /// The concentration.
        alpha: f64,
    },
    /// No draw gave everybody enough.
    #[error(
        "none of {MAX_DRAWS} draws gave each of {participants} participants {min_rows} rows: ask for fewer rows or a \
         concentration above {alpha}"
    )]
    Unlucky {
        /// Participants asked for.
        participants: usize,
        /// Rows each is to get.
        min_rows: usize,
        /// The concentration.
        alpha: f64,
    },
    /// A share is no data set.
    #[error("a share is no data set")]
    Dataset(#[from] DatasetError),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    const SPLIT: DirichletSplit = DirichletSplit { participants: 10, alpha: 0.5, min_rows: 20, seed: 1 };

    /// Largest fraction that one class makes of a share, averaged over the shares.
    fn skew(data: &Dataset, shares: &[Vec<usize>]) -> f64 {
        let largest = |share: &Vec<usize>| {
            let mut counts = vec![0u32; data.classes()];
            share.iter().for_each(|&row| counts[data.labels()[row] as usize] += 1);
            f64::from(*counts.iter().max().unwrap()) / share.len() as f64
        };
        shares.iter().map(largest).sum::<f64>() / shares.len() as f64
    }

    #[test]
    fn every_row_goes_to_exactly_one_participant() {
        let (train, _) = Dataset::digits();
        for seed in 0..20 {
            for alpha in [0.1, 0.5, 100.0] {
                let split = DirichletSplit { alpha, seed, min_rows: 5, ..SPLIT };
                let shares = split.rows(&train).unwrap();
                assert!(shares.len() == 10 && shares.iter().all(|share| share.len() >= 5));
                let mut rows = shares.concat();
                rows.sort_unstable();
                assert_eq!(rows, (0..train.rows()).collect::<Vec<_>>(), "seed {seed}, alpha {alpha}");
            }
        }
        assert_eq!(SPLIT.deal(&train).unwrap().iter().map(Dataset::rows).sum::<usize>(), 1438);
    }

    #[test]
    fn a_seed_names_a_split_and_alpha_its_skew() {
        let (train, _) = Dataset::digits();
        assert_eq!(SPLIT.rows(&train).unwrap(), SPLIT.rows(&train).unwrap());
        assert_ne!(SPLIT.rows(&train).unwrap(), DirichletSplit { seed: 2, ..SPLIT }.rows(&train).unwrap());
        let skew_at = |alpha| skew(&train, &DirichletSplit { alpha, min_rows: 5, ..SPLIT }.rows(&train).unwrap());
        let (few, some, even) = (skew_at(0.1), skew_at(0.5), skew_at(1e4));
        assert!(few > 0.5 && (0.2..0.6).contains(&some) && even < 0.15, "{few} {some} {even}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let (train, _) = Dataset::digits();
        for (split, want) in [
            (
                DirichletSplit { participants: 0, ..SPLIT },
                "1438 rows cannot be split over 0 participants with at least 20 each",
            ),
            (
                DirichletSplit { min_rows: 144, ..SPLIT },
                "1438 rows cannot be split over 10 participants with at least 144 each",
            ),
            (
                DirichletSplit { alpha: f64::NAN, ..SPLIT },
                "the Dirichlet concentration is NaN, it must be 0.001 to 1000000",
            ),
            (
                DirichletSplit { min_rows: 143, ..SPLIT },
                "none of 1000 draws gave each of 10 participants 143 rows: ask for fewer rows or a concentration above 0.5",
            ),
        ] {
            assert_eq!(split.deal(&train).unwrap_err().to_string(), want);
        }
    }
}
