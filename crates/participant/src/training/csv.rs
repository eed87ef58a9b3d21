//! Rows from CSV text: numbers between commas, one line a row, nothing quoted.
//!
//! The format is narrow on purpose (a site exports numbers), so the reader is a bounded line reader and a split at
//! commas; every line is limited before it is held, and every failure names line and column.

use std::io::{BufRead, Read};

use super::dataset::{Dataset, DatasetError, MAX_CLASSES, MAX_COLUMNS, MAX_ROWS, MAX_VALUES, TrainTest};

/// Longest line, in bytes without its end.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Columns before the features: `split` and `label`.
const LEADING_COLUMNS: usize = 2;

/// Reads `split,label,feature,…`: a header line with these names (those of the features are free), then one line a
/// row, `split` being `train` or `test`, `label` an integer from 0, features finite decimal numbers. There are as many
/// classes as the largest label in the file says. Lines end in LF or CRLF; a byte order mark is skipped.
///
/// # Errors
/// [`CsvError`], with line and column from 1.
pub fn read(input: impl BufRead) -> Result<TrainTest, CsvError> {
    let mut lines = Lines { input, buffer: Vec::new(), number: 0 };
    let columns = header(lines.next()?.ok_or(CsvError::Empty)?.1)?;
    let (mut train, mut test) = (Rows::default(), Rows::default());
    while let Some((line, text)) = lines.next()? {
        let rows = train.labels.len() + test.labels.len();
        if rows == MAX_ROWS || (rows + 1) * columns > MAX_VALUES {
            return Err(CsvError::TooManyRows { line, max: MAX_ROWS.min(MAX_VALUES / columns) });
        }
        read_row(line, text, columns, &mut train, &mut test)?;
    }
    let classes = train.labels.iter().chain(&test.labels).max().map_or(0, |&label| label as usize + 1);
    if train.labels.is_empty() {
        return Err(CsvError::NoTrainingRows);
    }
    let train = Dataset::new(train.features, train.labels, columns, classes)?;
    let test = match test.labels.is_empty() {
        true => None,
        false => Some(Dataset::new(test.features, test.labels, columns, classes)?),
    };
    Ok(TrainTest { train, test })
}

#[derive(Default)]
struct Rows {
    features: Vec<f32>,
    labels: Vec<u32>,
}

/// Number of feature columns.
fn header(text: &str) -> Result<usize, CsvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut names = text.split(',');
    if names.next() != Some("split") || names.next() != Some("label") {
        return Err(CsvError::Header { start: excerpt(text) });
    }
    match names.count() {
        0 => Err(CsvError::NoFeatures),
        columns if columns > MAX_COLUMNS => Err(CsvError::TooManyColumns { columns }),
        columns => Ok(columns),
    }
}

fn read_row(line: u64, text: &str, columns: usize, train: &mut Rows, test: &mut Rows) -> Result<(), CsvError> {
    let found = text.split(',').count();
    if found != columns + LEADING_COLUMNS {
        return Err(CsvError::Columns { line, found, expected: columns + LEADING_COLUMNS });
    }
    let mut fields = text.split(',');
    let split = fields.next().unwrap_or_default();
    let rows = match split {
        "train" => train,
        "test" => test,
        _ => return Err(CsvError::Split { line, word: excerpt(split) }),
    };
    let label = fields.next().unwrap_or_default();
    match label.parse::<u32>() {
        Ok(label) if (label as usize) < MAX_CLASSES => rows.labels.push(label),
        _ => return Err(CsvError::Label { line, word: excerpt(label) }),
    }
    for (column, word) in (LEADING_COLUMNS + 1..).zip(fields) {
        match word.parse::<f32>() {
            Ok(value) if value.is_finite() => rows.features.push(value),
            _ => return Err(CsvError::Feature { line, column, word: excerpt(word) }),
        }
    }
    Ok(())
}

/// Lines of bounded length.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line with its number from 1, or nothing at the end.
    fn next(&mut self) -> Result<Option<(u64, &str)>, CsvError> {
        self.buffer.clear();
        self.number += 1;
        let line = self.number;
        // One byte more than the longest line with CRLF tells a line that fits from one that was cut.
        let limit = MAX_LINE_BYTES as u64 + 3;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|source| CsvError::Read { line, source })?;
        if read == 0 {
            return Ok(None);
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() > MAX_LINE_BYTES {
            return Err(CsvError::LineTooLong { line });
        }
        std::str::from_utf8(text).map(|text| Some((line, text))).map_err(|_| CsvError::NotText { line })
    }
}

/// The start of a text, short enough for a message and free of control characters.
fn excerpt(text: &str) -> String {
    const SHOWN: usize = 24;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Why a CSV file was refused. Lines and columns count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// There is no header line.
    #[error("the file is empty: it must begin with a header line split,label,…")]
    Empty,
    /// The header does not begin with the two names.
    #[error("line 1 begins with {start:?}: the header must begin with split,label,")]
    Header {
        /// What the line begins with.
        start: String,
    },
    /// There is no feature column.
    #[error("line 1 names no feature after split,label")]
    NoFeatures,
    /// There are more feature columns than a data set may have.
    #[error("line 1 names {columns} features, the most is {MAX_COLUMNS}")]
    TooManyColumns {
        /// Features named.
        columns: usize,
    },
    /// A row has too few or too many fields.
    #[error("line {line} has {found} comma-separated fields, the header has {expected}")]
    Columns {
        /// The line.
        line: u64,
        /// Fields in it.
        found: usize,
        /// Fields in the header.
        expected: usize,
    },
    /// A row is neither for training nor for testing.
    #[error("line {line}, column 1: split is {word:?}, it must be train or test")]
    Split {
        /// The line.
        line: u64,
        /// What stands there.
        word: String,
    },
    /// A label is not an integer from 0, or too large.
    #[error("line {line}, column 2: label {word:?} is not an integer from 0 to {}", MAX_CLASSES - 1)]
    Label {
        /// The line.
        line: u64,
        /// What stands there.
        word: String,
    },
    /// A feature is not a finite number.
    #[error("line {line}, column {column}: {word:?} is not a finite number")]
    Feature {
        /// The line.
        line: u64,
        /// The column.
        column: usize,
        /// What stands there.
        word: String,
    },
    /// A line is longer than any line may be.
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong {
        /// The line.
        line: u64,
    },
    /// A line is not UTF-8.
    #[error("line {line} is not UTF-8 text")]
    NotText {
        /// The line.
        line: u64,
    },
    /// The file has more rows than a data set of this width may have.
    #[error("line {line} is one row more than the {max} that a data set of this width may have")]
    TooManyRows {
        /// The line.
        line: u64,
        /// Most rows.
        max: usize,
    },
    /// No row is for training.
    #[error("no row has split train: there is nothing to train on")]
    NoTrainingRows,
    /// The rows are no data set.
    #[error("the rows make no data set")]
    Dataset(#[from] DatasetError),
    /// The file could not be read.
    #[error("line {line} could not be read")]
    Read {
        /// The line.
        line: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn rows_land_in_their_split() {
        let text = "\u{feff}split,label,a,b\r\ntrain,0,1,2.5\r\ntest,2,-1e2,0\ntrain,1,3,4";
        let TrainTest { train, test } = read(text.as_bytes()).unwrap();
        assert_eq!(train, Dataset::new(vec![1.0, 2.5, 3.0, 4.0], vec![0, 1], 2, 3).unwrap());
        assert_eq!(test, Some(Dataset::new(vec![-100.0, 0.0], vec![2], 2, 3).unwrap()));
        assert_eq!(read("split,label,a\ntrain,0,1\n".as_bytes()).unwrap().test, None);
    }

    /// Every corruption has its own words, with line and column.
    #[test]
    fn corrupt_files() {
        for (name, text, want) in [
            ("empty", "", "the file is empty: it must begin with a header line split,label,…"),
            ("no header", "train,0,1\n", "line 1 begins with \"train,0,1\": the header must begin with split,label,"),
            ("no features", "split,label\n", "line 1 names no feature after split,label"),
            ("no rows", "split,label,a\n", "no row has split train: there is nothing to train on"),
            ("test rows only", "split,label,a\ntest,0,1\n", "no row has split train: there is nothing to train on"),
            (
                "split word",
                "split,label,a\nvalid,0,1\n",
                "line 2, column 1: split is \"valid\", it must be train or test",
            ),
            (
                "missing column",
                "split,label,a,b\ntrain,0,1,2\ntrain,0,1\n",
                "line 3 has 3 comma-separated fields, the header has 4",
            ),
            ("extra column", "split,label,a\ntrain,0,1,2\n", "line 2 has 4 comma-separated fields, the header has 3"),
            ("empty line", "split,label,a\n\ntrain,0,1\n", "line 2 has 1 comma-separated fields, the header has 3"),
            (
                "negative label",
                "split,label,a\ntrain,-1,1\n",
                "line 2, column 2: label \"-1\" is not an integer from 0 to 65535",
            ),
            (
                "fractional label",
                "split,label,a\ntrain,1.0,1\n",
                "line 2, column 2: label \"1.0\" is not an integer from 0 to 65535",
            ),
            (
                "huge label",
                "split,label,a\ntrain,65536,1\n",
                "line 2, column 2: label \"65536\" is not an integer from 0 to 65535",
            ),
            ("word", "split,label,a,b\ntrain,0,1,x\n", "line 2, column 4: \"x\" is not a finite number"),
            ("infinity", "split,label,a\ntrain,0,1e39\n", "line 2, column 3: \"1e39\" is not a finite number"),
            ("NaN", "split,label,a\ntrain,0,NaN\n", "line 2, column 3: \"NaN\" is not a finite number"),
            ("empty field", "split,label,a\ntrain,0,\n", "line 2, column 3: \"\" is not a finite number"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), want, "{name}");
        }
        assert!(matches!(read(&b"split,label,a\ntrain,0,\xff\n"[..]), Err(CsvError::NotText { line: 2 })));
    }

    /// A line without an end is given up at the limit, however long the file goes on.
    #[test]
    fn endless_line() {
        let endless = std::io::BufReader::new(std::io::repeat(b'a'));
        assert!(matches!(read(endless), Err(CsvError::LineTooLong { line: 1 })));
        let wide = format!("split,label{}\n", ",a".repeat(MAX_COLUMNS + 1));
        assert!(matches!(read(wide.as_bytes()), Err(CsvError::TooManyColumns { columns: 65_537 })));
    }
}
