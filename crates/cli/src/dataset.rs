//! The rows that a site trains on, as the command line names them.

use crate::{dev::Split, failure::Failure};
use sordino_participant::training::{Dataset, Scaling, TrainTest, idx};
use std::{error::Error, fs::File, path::Path, path::PathBuf, str::FromStr};

/// Where the rows are.
#[derive(clap::Args)]
pub(crate) struct Rows {
    /// CSV file of rows.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "labels"])]
    #[arg(required_unless_present_any = ["images", "exec", "dev_split"])]
    data: Option<PathBuf>,
    /// IDX file of images, gzip or plain.
    #[arg(long, value_name = "FILE", requires = "labels")]
    images: Option<PathBuf>,
    /// IDX file of their labels.
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// Classes of an IDX pair.
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// How features are scaled: none, z-score (by this site's own rows), or a number to divide by. Images are divided
    /// by 255 unless this says otherwise.
    #[arg(long, value_name = "HOW")]
    scale: Option<Scale>,
}

/// `--scale`
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale(Scaling);

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(Scaling::None)),
            "z-score" => Ok(Self(Scaling::ZScore)),
            number => match number.parse::<f32>() {
                Ok(divisor) if divisor > 0.0 && divisor.is_finite() => Ok(Self(Scaling::MaxAbs(divisor))),
                _ => Err("write none, z-score, or a positive number to divide by".into()),
            },
        }
    }
}

impl Rows {
    /// The rows to train on; with `split`, one site's part of them, and of the digits that come with the program where
    /// no file is named.
    pub(crate) fn load(&self, split: Option<&Split>) -> Result<Dataset, Failure> {
        let rows = match (&self.data, &self.images, &self.labels) {
            (Some(path), ..) => {
                let read = TrainTest::from_csv(open(path)?).map_err(|error| refuse(path, error))?;
                self.scaled(read.train, Scaling::None)?
            }
            (None, Some(images), Some(labels)) => {
                let read = idx::read(open(images)?, open(labels)?, self.classes);
                self.scaled(read.map_err(|error| refuse(images, error))?, Scaling::MaxAbs(BYTE_MAX))?
            }
            // clap demands a source unless the rows are split, and a split without one is of the digits.
            _ => Dataset::digits().0,
        };
        match split {
            Some(split) => split.part_of(&rows),
            None => Ok(rows),
        }
    }

    /// Whether features are scaled by statistics of the rows themselves.
    pub(crate) fn is_scaled_by_rows(&self) -> bool {
        matches!(self.scale, Some(Scale(Scaling::ZScore)))
    }

    fn scaled(&self, mut rows: Dataset, otherwise: Scaling) -> Result<Dataset, Failure> {
        let scaling = self.scale.map_or(otherwise, |Scale(scaling)| scaling);
        scaling.fit(&rows).map_err(Failure::Scaling)?.apply(&mut rows);
        Ok(rows)
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|source| Failure::File { what: "read", path: path.into(), source })
}

fn refuse(path: &Path, error: impl Error + Send + Sync + 'static) -> Failure {
    Failure::Rows { path: path.into(), source: error.into() }
}

/// Largest value of an 8-bit pixel.
const BYTE_MAX: f32 = 255.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_named_or_numbers() {
        assert_eq!("none".parse(), Ok(Scale(Scaling::None)));
        assert_eq!("z-score".parse(), Ok(Scale(Scaling::ZScore)));
        assert_eq!("16".parse(), Ok(Scale(Scaling::MaxAbs(16.0))));
        for bad in ["", "0", "-1", "nan", "inf", "zscore"] {
            assert!(bad.parse::<Scale>().is_err(), "{bad:?}");
        }
    }
}
