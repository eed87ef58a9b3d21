//! Tensors to one flat vector to ring elements, and back.
//!
//! An update travels through this crate in five steps, each with a way back:
//!
//! 1. [`Tensors`]: named tensors (f32, f16, bf16) as one flat vector, from and to safetensors bytes.
//! 2. [`Encoding`]: clipped to an L2 norm, weighted, rounded at random to integers, with the weight and the metrics
//!    behind them in the same vector.
//! 3. [`RingVector`]: those integers in Z_2^b, where a sum over the whole cohort cannot wrap around.
//! 4. [`pack`]: exactly b bits per value, and [`UnpackAdd`], which adds packed bytes into a sum as they arrive.
//! 5. [`Encoding::decode`]: the sum, lifted back to signed integers, to a weighted mean.
//!
//! # Threat model
//! Bytes and numbers that come from another machine (model files, packed vectors, sums) are hostile until checked: no
//! input makes this crate panic, and nothing is allocated by a size that is only claimed. A participant's own vector is
//! secret: [`RingVector`] is wiped when dropped and prints its size only. That the values fed into [`Encoding::encode`]
//! are honest is not checked here, and cannot be; that their norm is bounded is. Timing is best effort: how often a
//! vector is rounded anew depends on its values.
//!
//! No clock, file, socket or global randomness is used: randomness is an argument.

#![forbid(unsafe_code)]

mod encoding;
mod model_file;
mod pack;
mod ring;
mod tensor;

pub use encoding::{
    Aggregate, CLIP_NORM_MAX, CLIP_NORM_MIN, DecodeError, Divisor, EncodeError, EncodedInput, Encoding, EncodingError,
    EncodingSpec, METRICS_MAX, MODEL_LEN_MAX, MetricSpec, NormBound, PRECISION_BITS_MAX, SUM_MAX, SumNoise, Sums,
};
pub use model_file::{FileLimits, MAX_FILE_BYTES, MAX_FILE_TENSORS, MAX_FILE_VALUES, MAX_HEADER_BYTES, ModelFileError};
pub use pack::{PackError, UnpackAdd, check_packed, pack, packed_len, unpack};
pub use ring::{Lanes, LanesMut, RingBits, RingError, RingVector};
pub use tensor::{Dtype, Layout, LayoutError, NAME_BYTES_MAX, RANK_MAX, TensorSpec, Tensors, TensorsError};
