//! Images and labels from the IDX format of MNIST, gzip or plain.
//!
//! An IDX file is bytes 0, 0, the type of its values (8 is the unsigned byte, the only one read here), the number of
//! dimensions, each dimension as a big-endian u32, then the values (Y. LeCun, C. Cortes, C. Burges, "The MNIST
//! Database"). Its sizes are claims: they are checked against limits before anything is allocated, and memory grows
//! only with bytes that really came.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::dataset::{Dataset, DatasetError, MAX_COLUMNS, MAX_ROWS, MAX_VALUES};

/// Most dimensions: images, rows, columns, channels.
const MAX_DIMENSIONS: usize = 4;
/// The type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;
/// First bytes of a gzip file (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads a pair of files: images of shape `[rows][…]` and labels of shape `[rows]`. Values are taken as they are, 0 to
/// 255; divide them with [`Scaling::MaxAbs`](super::Scaling::MaxAbs).
///
/// - `classes`: number of classes; labels run from 0 to one below.
///
/// # Errors
/// [`IdxError`] says which of the two files is wrong and where.
pub fn read(images: impl Read, labels: impl Read, classes: usize) -> Result<Dataset, IdxError> {
    let labels = Values::read("labels", labels, 1..=1)?;
    let images = Values::read("images", images, 2..=MAX_DIMENSIONS)?;
    let (rows, columns) = (images.dimensions[0], images.dimensions[1..].iter().product());
    if rows != labels.bytes.len() {
        return Err(DatasetError::Pairs { images: rows, labels: labels.bytes.len() }.into());
    }
    let features = images.bytes.iter().map(|&byte| f32::from(byte)).collect();
    let labels = labels.bytes.iter().map(|&byte| u32::from(byte)).collect();
    Ok(Dataset::new(features, labels, columns, classes)?)
}

/// One file: its dimensions and as many bytes as they say.
struct Values {
    dimensions: Vec<usize>,
    bytes: Vec<u8>,
}

impl Values {
    fn read(file: File, input: impl Read, dimensions: std::ops::RangeInclusive<usize>) -> Result<Self, IdxError> {
        let mut input = BufReader::new(input);
        let mut start = Vec::with_capacity(GZIP_MAGIC.len());
        let read = input.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut start);
        read.map_err(|source| IdxError::Read { file, source })?;
        let zipped = start == GZIP_MAGIC;
        let input = Cursor::new(start).chain(input);
        match zipped {
            true => Self::parse(file, MultiGzDecoder::new(input), dimensions).map_err(|error| match error {
                IdxError::Read { file, source } if source.kind() == io::ErrorKind::UnexpectedEof => {
                    IdxError::TruncatedGzip { file }
                }
                IdxError::Read { file, source } => IdxError::CorruptGzip { file, source },
                other => other,
            }),
            false => Self::parse(file, input, dimensions),
        }
    }

    fn parse(file: File, mut input: impl Read, allowed: std::ops::RangeInclusive<usize>) -> Result<Self, IdxError> {
        let [zero, zero_too, kind, count] = Self::word(file, &mut input)?;
        if (zero, zero_too) != (0, 0) {
            return Err(IdxError::Magic { file, found: [zero, zero_too] });
        }
        if kind != UNSIGNED_BYTE {
            return Err(IdxError::Kind { file, found: kind });
        }
        let count = usize::from(count);
        if !allowed.contains(&count) {
            return Err(IdxError::Dimensions { file, found: count, min: *allowed.start(), max: *allowed.end() });
        }
        let mut dimensions = Vec::with_capacity(count);
        for _ in 0..count {
            dimensions.push(u32::from_be_bytes(Self::word(file, &mut input)?) as usize);
        }
        let claimed = Self::size(&dimensions).ok_or_else(|| IdxError::Size { file, dimensions: dimensions.clone() })?;
        let mut bytes = Vec::new();
        let read = input.take(claimed as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| IdxError::Read { file, source })?;
        match bytes.len() {
            len if len < claimed => Err(IdxError::Truncated { file, found: len, claimed }),
            len if len > claimed => Err(IdxError::Trailing { file, claimed }),
            _ => Ok(Self { dimensions, bytes }),
        }
    }

    /// Number of values, if the dimensions are those of a data set.
    fn size(dimensions: &[usize]) -> Option<usize> {
        let columns = dimensions[1..].iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
        let size = dimensions[0].checked_mul(columns)?;
        let fits =
            (1..=MAX_ROWS).contains(&dimensions[0]) && (1..=MAX_COLUMNS).contains(&columns) && size <= MAX_VALUES;
        fits.then_some(size)
    }

    fn word(file: File, input: &mut impl Read) -> Result<[u8; 4], IdxError> {
        let mut word = Vec::with_capacity(4);
        let read = input.take(4).read_to_end(&mut word);
        read.map_err(|source| IdxError::Read { file, source })?;
        word.try_into().map_err(|_| IdxError::TruncatedHeader { file })
    }
}

/// Which of the two files: `images` or `labels`.
type File = &'static str;

/// Why a pair of IDX files was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file is something else.
    #[error("the {file} file begins with bytes {found:?}: an IDX file begins with 0, 0 (or is gzip)")]
    Magic {
        /// `images` or `labels`.
        file: &'static str,
        /// Its first bytes.
        found: [u8; 2],
    },
    /// The values are not unsigned bytes.
    #[error("the {file} file has values of type {found:#04x}: only unsigned bytes (0x08) are read")]
    Kind {
        /// `images` or `labels`.
        file: &'static str,
        /// Its type byte.
        found: u8,
    },
    /// Too few or too many dimensions; images and labels may have been swapped.
    #[error("the {file} file has {found} dimensions, it must have {min} to {max}: are images and labels swapped?")]
    Dimensions {
        /// `images` or `labels`.
        file: &'static str,
        /// Dimensions it says it has.
        found: usize,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The dimensions are 0 or beyond what a data set may have.
    #[error(
        "the {file} file says its dimensions are {dimensions:?}: 1 to {MAX_ROWS} rows of 1 to {MAX_COLUMNS} values, \
         {MAX_VALUES} values in all, are accepted"
    )]
    Size {
        /// `images` or `labels`.
        file: &'static str,
        /// Dimensions it says it has.
        dimensions: Vec<usize>,
    },
    /// The file ends inside its header.
    #[error("the {file} file ends inside its header")]
    TruncatedHeader {
        /// `images` or `labels`.
        file: &'static str,
    },
    /// There are fewer values than the dimensions say.
    #[error("the {file} file has {found} values, its dimensions say {claimed}")]
    Truncated {
        /// `images` or `labels`.
        file: &'static str,
        /// Values found.
        found: usize,
        /// Values claimed.
        claimed: usize,
    },
    /// There are more values than the dimensions say.
    #[error("the {file} file goes on after the {claimed} values its dimensions say")]
    Trailing {
        /// `images` or `labels`.
        file: &'static str,
        /// Values claimed.
        claimed: usize,
    },
    /// The gzip stream ends early.
    #[error("the {file} file is gzip and ends early: copy or download it again")]
    TruncatedGzip {
        /// `images` or `labels`.
        file: &'static str,
    },
    /// The gzip stream is damaged.
    #[error("the {file} file is gzip and damaged: copy or download it again")]
    CorruptGzip {
        /// `images` or `labels`.
        file: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("the {file} file could not be read")]
    Read {
        /// `images` or `labels`.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The two files make no data set.
    #[error("the files make no data set")]
    Dataset(#[from] DatasetError),
}
