//! Labelled rows in memory, and how their features are scaled.

use serde::{Deserialize, Serialize};

use super::csv::{self, CsvError};

/// Most rows a data set may have: what a participant may declare as its size.
pub const MAX_ROWS: usize = 10_000_000;
/// Most features of a row.
pub const MAX_COLUMNS: usize = 65_536;
/// Most features of all rows together: 1 GiB of f32.
pub const MAX_VALUES: usize = 1 << 28;
/// Most classes; labels run from 0 to one below.
pub const MAX_CLASSES: usize = 65_536;

/// Rows of finite features, each with the class it belongs to. Never empty.
#[derive(Clone, PartialEq)]
pub struct Dataset {
    /// `[rows][columns]`.
    features: Vec<f32>,
    /// `[rows]`, each below `classes`.
    labels: Vec<u32>,
    columns: usize,
    classes: usize,
}

/// What a file of rows holds: training rows, and held-out rows where it has any.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainTest {
    /// Rows to train on.
    pub train: Dataset,
    /// Rows to measure on, with the same columns and classes.
    pub test: Option<Dataset>,
}

impl Dataset {
    /// Checks that the parts belong together: `features` is `[rows][columns]`, `labels` is `[rows]`, each label below
    /// `classes`.
    ///
    /// # Errors
    /// [`DatasetError`] names the first thing that does not fit.
    pub fn new(features: Vec<f32>, labels: Vec<u32>, columns: usize, classes: usize) -> Result<Self, DatasetError> {
        let rows = labels.len();
        for (what, value, max) in
            [("rows", rows, MAX_ROWS), ("columns", columns, MAX_COLUMNS), ("classes", classes, MAX_CLASSES)]
        {
            if !(1..=max).contains(&value) {
                return Err(DatasetError::Size { what, value, max });
            }
        }
        if rows.checked_mul(columns) != Some(features.len()) {
            return Err(DatasetError::Shape { values: features.len(), rows, columns });
        }
        if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(DatasetError::Label { row, label: labels[row], classes });
        }
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            return Err(DatasetError::NonFinite { row: at / columns, column: at % columns });
        }
        Ok(Self { features, labels, columns, classes })
    }

    /// The handwritten digits that come with the binary: 1438 training and 359 test rows of 64 pixels scaled to 0..=1,
    /// 10 classes. (E. Alpaydin and C. Kaynak 1998, doi 10.24432/C50P49, CC BY 4.0; see `data/README.md`.)
    pub fn digits() -> (Self, Self) {
        let TrainTest { mut train, test } = csv::read(DIGITS_CSV).expect("the embedded digits are well formed");
        let mut test = test.expect("the embedded digits have test rows");
        let scaler = DIGITS_SCALING.fit(&train).expect("the digits' scaling is a positive number");
        scaler.apply(&mut train);
        scaler.apply(&mut test);
        (train, test)
    }

    /// Number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Number of features of a row, at least 1.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of classes; not every class need have a row.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The features of a row, `[columns]`. Panics if there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.features[row * self.columns..][..self.columns]
    }

    /// The class of each row.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// All features, `[rows][columns]`.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// The given rows, in the given order.
    ///
    /// # Errors
    /// [`DatasetError::NoSuchRow`], or [`DatasetError::Size`] if no row is asked for.
    pub fn subset(&self, rows: &[usize]) -> Result<Self, DatasetError> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.rows()) {
            return Err(DatasetError::NoSuchRow { row, rows: self.rows() });
        }
        let features = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Self::new(features, labels, self.columns, self.classes)
    }
}

/// Sizes only: rows are the one thing that must never reach a log.
impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, columns, classes) = (self.rows(), self.columns, self.classes);
        write!(f, "Dataset {{ rows: {rows}, columns: {columns}, classes: {classes} }}")
    }
}

/// How raw features become the numbers a model is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// As they are.
    #[default]
    None,
    /// Divided by the largest magnitude a feature can have: 16 for the digits, 255 for 8-bit pixels.
    MaxAbs(f32),
    /// Each column shifted and scaled to mean 0 and variance 1 over the training rows. A column that never changes
    /// becomes 0. Every site scales by its own rows: the sites' means are not pooled.
    ZScore,
}

/// A [`Scaling`] whose numbers are known: what was learned from training rows, to be applied to any rows like them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// Per column, or one for all columns: `(subtract, multiply by)`.
    columns: Vec<(f32, f32)>,
}

impl Scaling {
    /// Learns what is needed from the training rows.
    ///
    /// # Errors
    /// [`DatasetError::Scale`] if the divisor is not a positive number whose inverse is finite.
    pub fn fit(self, train: &Dataset) -> Result<Scaler, DatasetError> {
        let columns = match self {
            Self::None => vec![(0.0, 1.0)],
            Self::MaxAbs(divisor) if divisor > 0.0 && divisor.is_finite() && divisor.recip().is_finite() => {
                vec![(0.0, divisor.recip())]
            }
            Self::MaxAbs(divisor) => return Err(DatasetError::Scale { divisor }),
            Self::ZScore => (0..train.columns).map(|column| z_score(train, column)).collect(),
        };
        Ok(Scaler { columns })
    }
}

impl Scaler {
    /// Scales every row in place. Rows have as many columns as those the scaler was fitted on. A value too large for
    /// the scaled range is held at the largest f32, so that rows stay finite.
    pub fn apply(&self, data: &mut Dataset) {
        for row in data.features.chunks_exact_mut(data.columns) {
            for (value, (shift, factor)) in row.iter_mut().zip(self.columns.iter().cycle()) {
                *value = ((*value - shift) * factor).clamp(f32::MIN, f32::MAX);
            }
        }
    }
}

/// Mean of a column and the inverse of its standard deviation, in f64 over two passes.
#[expect(clippy::cast_possible_truncation, reason = "statistics of f32 values fit in f32")]
fn z_score(train: &Dataset, column: usize) -> (f32, f32) {
    let values = || train.features.iter().skip(column).step_by(train.columns).map(|&value| f64::from(value));
    let rows = train.rows() as f64;
    let mean = values().sum::<f64>() / rows;
    let deviation = (values().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
    // A constant column has only rounding error left: it is not blown up to variance 1.
    let floor = f64::from(f32::EPSILON) * mean.abs().max(f64::from(f32::MIN_POSITIVE));
    (mean as f32, if deviation > floor { (1.0 / deviation) as f32 } else { 0.0 })
}

/// Why rows are not a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A count is 0 or beyond its limit.
    #[error("a data set of {value} {what}: there must be 1 to {max}")]
    Size {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        value: usize,
        /// How many there may be.
        max: usize,
    },
    /// The features are not `[rows][columns]`.
    #[error("{values} features are not {rows} rows of {columns} columns")]
    Shape {
        /// Number of features given.
        values: usize,
        /// Number of labels given.
        rows: usize,
        /// Columns said to be in a row.
        columns: usize,
    },
    /// A label is not a class.
    #[error("row {row} has label {label}, classes run from 0 to {}", classes - 1)]
    Label {
        /// The row, from 0.
        row: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A feature is infinite or not a number.
    #[error("the feature in row {row}, column {column} is not a finite number")]
    NonFinite {
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
    },
    /// A row was asked for that is not there.
    #[error("row {row} of a data set of {rows} rows was asked for")]
    NoSuchRow {
        /// The row, from 0.
        row: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// Features cannot be divided by this.
    #[error("features cannot be scaled by 1 / {divisor}: give a positive number")]
    Scale {
        /// The divisor.
        divisor: f32,
    },
    /// Images and labels do not belong together.
    #[error("{images} images come with {labels} labels")]
    Pairs {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
}

impl TrainTest {
    /// Reads a CSV file of rows; the format is described at [`csv::read`].
    ///
    /// # Errors
    /// [`CsvError`] with line and column.
    pub fn from_csv(input: impl std::io::Read) -> Result<Self, CsvError> {
        csv::read(std::io::BufReader::new(input))
    }

    /// Scales both parts by what is learned from the training rows.
    ///
    /// # Errors
    /// As [`Scaling::fit`].
    pub fn scaled(mut self, scaling: Scaling) -> Result<Self, DatasetError> {
        let scaler = scaling.fit(&self.train)?;
        scaler.apply(&mut self.train);
        if let Some(test) = &mut self.test {
            scaler.apply(test);
        }
        Ok(self)
    }
}

static DIGITS_CSV: &[u8] = include_bytes!("../../data/digits.csv");
/// Pixels run from 0 to 16.
const DIGITS_SCALING: Scaling = Scaling::MaxAbs(16.0);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn digits_are_whole_and_scaled() {
        let (train, test) = Dataset::digits();
        assert_eq!((train.rows(), test.rows()), (1438, 359));
        assert_eq!((train.columns(), train.classes(), test.classes()), (64, 10, 10));
        assert!(train.features().iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        assert!(train.features().contains(&1.0));
        assert_eq!(format!("{test:?}"), "Dataset { rows: 359, columns: 64, classes: 10 }");
    }

    /// What does not belong together is refused, each with its own words.
    #[test]
    fn parts_must_fit() {
        for (features, labels, columns, classes, want) in [
            (vec![], vec![], 1, 1, "a data set of 0 rows: there must be 1 to 10000000"),
            (vec![], vec![0], 0, 1, "a data set of 0 columns: there must be 1 to 65536"),
            (vec![1.0], vec![0], 1, 65_537, "a data set of 65537 classes: there must be 1 to 65536"),
            (vec![1.0; 3], vec![0, 0], 2, 1, "3 features are not 2 rows of 2 columns"),
            (vec![1.0; 2], vec![0, 2], 1, 2, "row 1 has label 2, classes run from 0 to 1"),
            (vec![1.0, f32::NAN], vec![0], 2, 1, "the feature in row 0, column 1 is not a finite number"),
        ] {
            assert_eq!(Dataset::new(features, labels, columns, classes).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn z_scores_have_mean_0_and_variance_1_and_leave_constant_columns_at_0() {
        let features = vec![1.0, 5.0, 2.0, 5.0, 6.0, 5.0];
        let mut data = Dataset::new(features, vec![0, 1, 0], 2, 2).unwrap();
        Scaling::ZScore.fit(&data).unwrap().apply(&mut data);
        let column = |c: usize| (0..3).map(|row| data.row(row)[c]).collect::<Vec<_>>();
        let (first, second) = (column(0), column(1));
        assert!(first.iter().sum::<f32>().abs() < 1e-6);
        assert!((first.iter().map(|x| x * x).sum::<f32>() / 3.0 - 1.0).abs() < 1e-6);
        assert_eq!(second, [0.0; 3]);
    }

    #[test]
    fn a_divisor_must_be_positive_and_a_subset_within_the_rows() {
        let data = Dataset::new(vec![1.0, 2.0], vec![0, 1], 1, 2).unwrap();
        for divisor in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45] {
            assert!(matches!(Scaling::MaxAbs(divisor).fit(&data), Err(DatasetError::Scale { .. })), "{divisor}");
        }
        assert_eq!(data.subset(&[1]).unwrap(), Dataset::new(vec![2.0], vec![1], 1, 2).unwrap());
        assert!(matches!(data.subset(&[2]), Err(DatasetError::NoSuchRow { row: 2, rows: 2 })));
        assert!(matches!(data.subset(&[]), Err(DatasetError::Size { what: "rows", .. })));
    }
}
