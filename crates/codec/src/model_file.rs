//! Tensors from and to safetensors bytes.
//!
//! The format: a u64 (little-endian) with the length of the header, the header as a JSON object from tensor names to
//! `dtype`, `shape` and `data_offsets` (and an optional `__metadata__` of strings), then the values, row-major and
//! little-endian, without holes or overlaps. Specified at <https://github.com/huggingface/safetensors#format>.
//!
//! A file comes from a program that may be wrong or hostile. Everything its header says is checked against the bytes
//! that are there and against [`FileLimits`] before anything of a claimed size is allocated.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::tensor::{Dtype, Layout, LayoutError, TensorSpec, Tensors, TensorsError, shown};

/// How large a model file may be. The default is generous for training on one machine; services set their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Bytes of the whole file.
    pub max_file_bytes: usize,
    /// Bytes of the JSON header.
    pub max_header_bytes: usize,
    /// Tensors in the file.
    pub max_tensors: usize,
    /// Values of all tensors together.
    pub max_values: usize,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            max_file_bytes: MAX_FILE_BYTES,
            max_header_bytes: MAX_HEADER_BYTES,
            max_tensors: MAX_FILE_TENSORS,
            max_values: MAX_FILE_VALUES,
        }
    }
}

/// Default of [`FileLimits::max_file_bytes`]: 1 GiB.
pub const MAX_FILE_BYTES: usize = 1 << 30;
/// Default of [`FileLimits::max_header_bytes`]: 1 MiB, some ten thousand tensors.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// Default of [`FileLimits::max_tensors`].
pub const MAX_FILE_TENSORS: usize = 10_000;
/// Default of [`FileLimits::max_values`]: what 1 GiB holds as f32.
pub const MAX_FILE_VALUES: usize = 1 << 28;

impl Tensors {
    /// Reads a safetensors file. Metadata is checked and dropped; tensors may stand in any order.
    ///
    /// # Errors
    /// [`ModelFileError`], which names the tensor and what is wrong with it; memory beyond a small multiple of the
    /// header is only allocated once the whole header has been found consistent with `bytes`.
    pub fn from_safetensors(bytes: &[u8], limits: &FileLimits) -> Result<Self, ModelFileError> {
        let (header, data) = split(bytes, limits)?;
        let header: Header = serde_json::from_slice(header).map_err(ModelFileError::Json)?;
        if header.metadata_entries > 1 {
            return Err(ModelFileError::Layout(LayoutError::Duplicate { name: METADATA.to_owned() }));
        }
        if header.tensors.len() > limits.max_tensors {
            return Err(ModelFileError::TooManyTensors { got: header.tensors.len(), max: limits.max_tensors });
        }

        let mut entries = header.tensors.into_iter().map(Entry::new).collect::<Result<Vec<_>, _>>()?;
        check_offsets(&mut entries, data.len())?;
        entries.sort_by(|a, b| a.spec.name().cmp(b.spec.name()));
        let parts: Vec<&[u8]> = entries.iter().map(|entry| &data[entry.begin..entry.end]).collect();
        let specs = entries.into_iter().map(|entry| entry.spec).collect();
        let layout = Layout::new(specs, limits.max_values)?;

        let mut values = Vec::with_capacity(layout.len());
        for (spec, part) in layout.specs().iter().zip(parts) {
            read_values(spec.dtype(), part, &mut values);
        }
        Ok(Self::new(layout, values)?)
    }

    /// Reads a safetensors file that is, byte for byte, what [`Tensors::to_safetensors`] writes of its tensors.
    ///
    /// One model has one file, and with it one digest. Metadata, white space, an order or escapes of one's own would
    /// give the same tensors any number of digests. Values have one form in each type, so that the header alone is
    /// compared and no second copy of the file is made.
    ///
    /// # Errors
    /// [`ModelFileError::NotCanonical`] for another file of the same tensors, else as [`Tensors::from_safetensors`].
    pub fn from_canonical(bytes: &[u8], limits: &FileLimits) -> Result<Self, ModelFileError> {
        let tensors = Self::from_safetensors(bytes, limits)?;
        if bytes.starts_with(&canonical_header(tensors.layout())) {
            Ok(tensors)
        } else {
            Err(ModelFileError::NotCanonical)
        }
    }

    /// Writes a safetensors file: the same tensors always give the same bytes.
    ///
    /// The order is that of the reference implementation, wider types first and then by name, so that values are
    /// aligned; the header is padded to 8 bytes with spaces.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let mut bytes = canonical_header(self.layout());
        bytes.reserve_exact(self.layout().specs().iter().map(TensorSpec::bytes).sum());
        for (spec, range) in in_file_order(self.layout()) {
            write_values(spec.dtype(), &self.values()[range], &mut bytes);
        }
        bytes
    }
}

/// The tensors of a layout as they stand in a file, and where their values are in the flat vector.
fn in_file_order(layout: &Layout) -> Vec<(&TensorSpec, Range<usize>)> {
    let mut tensors: Vec<_> = layout.ranges().collect();
    tensors.sort_by_key(|(spec, _)| rank(spec.dtype()));
    tensors
}

/// All that stands in a file before the values: the header's length, and the header with its padding.
fn canonical_header(layout: &Layout) -> Vec<u8> {
    let mut header = String::from("{");
    let mut begin = 0;
    for (spec, _) in in_file_order(layout) {
        let end = begin + spec.bytes();
        let comma = if header.len() > 1 { "," } else { "" };
        let name = serde_json::Value::from(spec.name());
        let shape = spec.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        header += &format!(
            "{comma}{name}:{{\"dtype\":\"{}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}}",
            spec.dtype()
        );
        begin = end;
    }
    header.push('}');
    let header_len = header.len().next_multiple_of(ALIGNMENT);
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + header_len);
    bytes.extend_from_slice(&(header_len as u64).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(LENGTH_BYTES + header_len, b' ');
    bytes
}

/// Header and data of a file whose stated header length is true to its size and within limits.
fn split<'a>(bytes: &'a [u8], limits: &FileLimits) -> Result<(&'a [u8], &'a [u8]), ModelFileError> {
    if bytes.len() > limits.max_file_bytes {
        return Err(ModelFileError::FileTooLarge { got: bytes.len(), max: limits.max_file_bytes });
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(ModelFileError::TooShort { got: bytes.len() });
    };
    let claimed = u64::from_le_bytes(*length);
    let max = limits.max_header_bytes;
    let length = usize::try_from(claimed)
        .ok()
        .filter(|&length| length <= max)
        .ok_or(ModelFileError::HeaderTooLarge { got: claimed, max })?;
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(ModelFileError::HeaderTruncated { claimed: length, there: rest.len() });
    };
    // The format demands it, so that a file cannot be mistaken for another format.
    if header.first() != Some(&b'{') {
        return Err(ModelFileError::HeaderStart);
    }
    Ok((header, data))
}

/// The header as it stands, repeated names included.
struct Header {
    tensors: Vec<(String, TensorInfo)>,
    metadata_entries: usize,
}

/// One tensor as the header describes it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorInfo {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl<'de> Deserialize<'de> for Header {
    /// Collects entries in order instead of into a map, which would keep one of two tensors of the same name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: Vec::new(), metadata_entries: 0 };
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<BTreeMap<String, String>>()?;
                        header.metadata_entries += 1;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// A tensor whose offsets are as far apart as its shape and type say.
struct Entry {
    spec: TensorSpec,
    begin: usize,
    end: usize,
}

impl Entry {
    fn new((name, info): (String, TensorInfo)) -> Result<Self, ModelFileError> {
        let Some(dtype) = Dtype::from_name(&info.dtype) else {
            return Err(ModelFileError::Dtype { name: shown(&name), dtype: shown(&info.dtype) });
        };
        let spec = TensorSpec::new(name, info.shape, dtype)?;
        let [begin, end] = info.data_offsets;
        if end.checked_sub(begin) != Some(spec.bytes()) {
            let (name, needed) = (shown(spec.name()), spec.bytes());
            return Err(ModelFileError::Size { name, begin, end, needed });
        }
        Ok(Self { spec, begin, end })
    }
}

/// Sorts by place in the file and checks that the tensors cover the data exactly once.
fn check_offsets(entries: &mut [Entry], data_len: usize) -> Result<(), ModelFileError> {
    entries.sort_by_key(|entry| (entry.begin, entry.end));
    let mut covered = 0;
    for entry in entries {
        let Entry { spec, begin, end } = entry;
        let (name, begin, end) = (|| shown(spec.name()), *begin, *end);
        if end > data_len {
            return Err(ModelFileError::PastTheEnd { name: name(), end, data_len });
        }
        if begin < covered {
            return Err(ModelFileError::Overlap { name: name(), begin, covered });
        }
        if begin > covered {
            return Err(ModelFileError::Hole { name: name(), begin, covered });
        }
        covered = end;
    }
    if covered == data_len { Ok(()) } else { Err(ModelFileError::Leftover { bytes: data_len - covered }) }
}

/// Appends the values in `bytes`, which are a multiple of the type's size.
fn read_values(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    let (quads, _) = bytes.as_chunks::<4>();
    let (pairs, _) = bytes.as_chunks::<2>();
    match dtype {
        Dtype::F32 => values.extend(quads.iter().map(|&quad| f32::from_le_bytes(quad))),
        Dtype::F16 => values.extend(pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32())),
        Dtype::BF16 => values.extend(pairs.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32())),
    }
}

/// Appends `values`, each representable in the type, as bytes.
fn write_values(dtype: Dtype, values: &[f32], bytes: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Dtype::F16 => bytes.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
        Dtype::BF16 => bytes.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
    }
}

/// Place of a type in the reference implementation's order.
fn rank(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::BF16 => 1,
        Dtype::F16 => 2,
    }
}

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;
/// The header is padded to a multiple of this.
const ALIGNMENT: usize = 8;
/// The header's key for free text.
const METADATA: &str = "__metadata__";

/// Why bytes are not a model file that we accept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// Over the limit.
    #[error("the model file has {got} bytes, at most {max} are accepted")]
    FileTooLarge {
        /// Bytes of the file.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not even a header length.
    #[error("the model file has {got} bytes, a safetensors file begins with {LENGTH_BYTES} bytes of header length")]
    TooShort {
        /// Bytes of the file.
        got: usize,
    },
    /// Over the limit, or not a safetensors file at all.
    #[error("the file claims a header of {got} bytes, at most {max} are accepted: is it a safetensors file?")]
    HeaderTooLarge {
        /// Claimed length.
        got: u64,
        /// The limit.
        max: usize,
    },
    /// The header is longer than the file.
    #[error("the file claims a header of {claimed} bytes, but only {there} follow: it is truncated or lies")]
    HeaderTruncated {
        /// Claimed length.
        claimed: usize,
        /// Bytes behind the header length.
        there: usize,
    },
    /// Not an object.
    #[error("the header does not begin with `{{`: this is not a safetensors file")]
    HeaderStart,
    /// Not the JSON it should be.
    #[error("the header is not valid safetensors JSON")]
    Json(#[source] serde_json::Error),
    /// Over the limit.
    #[error("the model file has {got} tensors, at most {max} are accepted")]
    TooManyTensors {
        /// Tensors in the file.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A type that cannot be averaged here.
    #[error("tensor `{name}` has type `{dtype}`; F32, F16 and BF16 are supported: convert it")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// Offsets that do not match shape and type.
    #[error("tensor `{name}` claims bytes {begin} to {end}, but its shape and type take {needed} bytes")]
    Size {
        /// The tensor.
        name: String,
        /// First byte in the data.
        begin: usize,
        /// Byte behind the last.
        end: usize,
        /// Product of the shape, in bytes.
        needed: usize,
    },
    /// Offsets beyond the file.
    #[error("tensor `{name}` ends at byte {end}, but the file has {data_len} bytes of data: it is truncated or lies")]
    PastTheEnd {
        /// The tensor.
        name: String,
        /// Byte behind its last.
        end: usize,
        /// Bytes of data in the file.
        data_len: usize,
    },
    /// Two tensors share bytes.
    #[error("tensor `{name}` begins at byte {begin}, inside the one before it, which ends at {covered}")]
    Overlap {
        /// The later tensor.
        name: String,
        /// Its first byte.
        begin: usize,
        /// Where the one before it ends.
        covered: usize,
    },
    /// Bytes between two tensors.
    #[error("bytes {covered} to {begin}, before tensor `{name}`, belong to no tensor")]
    Hole {
        /// The tensor behind the hole.
        name: String,
        /// Its first byte.
        begin: usize,
        /// Where the one before it ends.
        covered: usize,
    },
    /// Bytes behind the last tensor.
    #[error("{bytes} bytes behind the last tensor belong to no tensor")]
    Leftover {
        /// How many.
        bytes: usize,
    },
    /// The tensors can be read, and the same tensors have another file that is theirs.
    #[error(
        "the model file is not in canonical form: its header has metadata, white space, an order or escapes of its own; \
         write it again without metadata, for example with save_file(load_file(path), path) of the safetensors library"
    )]
    NotCanonical,
    /// Names and shapes that are no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// NaN or an infinity in the file.
    #[error(transparent)]
    Values(#[from] TensorsError),
}
