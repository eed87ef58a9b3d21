//! Exactly b bits per value on the wire.
//!
//! Value `i` takes the bits `[i * b, (i + 1) * b)` of the byte string, where bit `k` is bit `k % 8` of byte `k / 8`,
//! least significant first. Bits behind the last value are zero, so each vector has one byte string. Eight values take
//! exactly `b` bytes, a block; the kernels of `sordino-kernel` work on whole blocks.

use std::fmt;

use sordino_kernel::Backend;

use crate::ring::{Lanes, LanesMut, RingBits, RingVector};

/// Bytes of `len` values at `bits` bits each; `None` when that is more than a `usize` counts.
pub fn packed_len(len: usize, bits: RingBits) -> Option<usize> {
    // len * b / 8 in two parts, so that no length whose result fits overflows on the way.
    let b = usize::from(bits.get());
    let whole = (len / BLOCK).checked_mul(b)?;
    whole.checked_add((len % BLOCK * b).div_ceil(8))
}

/// The values of `vector` at b bits each; see the module for the order of bits.
pub fn pack(vector: &RingVector) -> Vec<u8> {
    let bits = vector.bits();
    let bytes = packed_len(vector.len(), bits).expect("b bits are at most the lane a value already takes in memory");
    let mut out = vec![0; bytes];
    match vector.lanes() {
        Lanes::Narrow(lanes) => sordino_kernel::pack(lanes, bits.into(), &mut out, Backend::detect()),
        Lanes::Wide(lanes) => sordino_kernel::pack(lanes, bits.into(), &mut out, Backend::detect()),
    }
    out
}

/// Reads `len` values of `bits` bits each.
///
/// # Errors
/// [`PackError`] when `bytes` is not exactly as long as that takes, checked before anything is allocated, or when a bit
/// behind the last value is set.
pub fn unpack(bytes: &[u8], len: usize, bits: RingBits) -> Result<RingVector, PackError> {
    check_packed(bytes.len(), bytes.last().copied(), len, bits)?;
    let mut vector = RingVector::zeros(len, bits);
    let mut adder = UnpackAdd::new(&mut vector)?;
    adder.push(bytes)?;
    adder.finish()?;
    Ok(vector)
}

/// Checks what can be known of a packed vector from its size and its last byte, before any of it is added anywhere.
///
/// # Errors
/// [`PackError::Length`] or [`PackError::Padding`].
pub fn check_packed(bytes: usize, last: Option<u8>, len: usize, bits: RingBits) -> Result<(), PackError> {
    let expected = packed_len(len, bits).ok_or(PackError::TooLarge { len, bits })?;
    if bytes != expected {
        return Err(PackError::Length { expected, got: bytes, len, bits });
    }
    // The tail is what is used of the last byte, 0 for all of it.
    let tail = (len % BLOCK) * usize::from(bits.get()) % 8;
    match last {
        Some(last) if tail != 0 && last >> tail != 0 => Err(PackError::Padding),
        _ => Ok(()),
    }
}

/// Adds a packed vector into a sum as its bytes arrive, in chunks of any size. Nothing unpacked is stored.
///
/// After an error, or without [`UnpackAdd::finish`], the sum may hold a part of the vector and is of no use. Whoever
/// has the bytes at rest calls [`check_packed`] first; then neither can happen.
pub struct UnpackAdd<'a> {
    sum: &'a mut RingVector,
    /// Values added so far, a multiple of 8 until the end.
    added: usize,
    /// Bytes that the whole vector takes.
    expected: usize,
    /// Bytes taken so far.
    received: usize,
    /// The beginning of a block whose other bytes have not arrived: `pending[..pending_len]`, less than b bytes.
    pending: [u8; BLOCK_BYTES_MAX],
    pending_len: usize,
}

impl<'a> UnpackAdd<'a> {
    /// Begins to add a vector of the length and ring of `sum`.
    ///
    /// # Errors
    /// [`PackError::TooLarge`] when the bytes of such a vector cannot be counted.
    pub fn new(sum: &'a mut RingVector) -> Result<Self, PackError> {
        let (len, bits) = (sum.len(), sum.bits());
        let expected = packed_len(len, bits).ok_or(PackError::TooLarge { len, bits })?;
        Ok(Self { sum, added: 0, expected, received: 0, pending: [0; BLOCK_BYTES_MAX], pending_len: 0 })
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> usize {
        self.expected - self.received
    }

    /// Adds the values that `chunk` completes.
    ///
    /// # Errors
    /// [`PackError::Length`] when there are more bytes than the vector has, [`PackError::Padding`] when `chunk` is the end
    /// of the vector and a bit behind the last value is set. Nothing of `chunk` was added.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), PackError> {
        if chunk.len() > self.remaining() {
            return Err(self.wrong_length(self.received.saturating_add(chunk.len())));
        }
        if chunk.len() == self.remaining() {
            check_packed(self.expected, chunk.last().copied(), self.sum.len(), self.sum.bits())?;
        }
        self.received += chunk.len();
        let block_bytes = usize::from(self.sum.bits().get());
        let mut rest = chunk;
        if self.pending_len > 0 {
            let (head, tail) = rest.split_at(rest.len().min(block_bytes - self.pending_len));
            self.pending[self.pending_len..][..head.len()].copy_from_slice(head);
            self.pending_len += head.len();
            rest = tail;
            if self.pending_len < block_bytes {
                return Ok(());
            }
            let block = self.pending;
            self.pending_len = 0;
            self.add(&block[..block_bytes]);
        }
        let (blocks, tail) = rest.split_at(rest.len() - rest.len() % block_bytes);
        self.add(blocks);
        self.pending[..tail.len()].copy_from_slice(tail);
        self.pending_len = tail.len();
        Ok(())
    }

    /// Adds the last, incomplete block.
    ///
    /// # Errors
    /// [`PackError::Length`] when bytes are missing.
    pub fn finish(mut self) -> Result<(), PackError> {
        if self.remaining() > 0 {
            return Err(self.wrong_length(self.received));
        }
        if self.pending_len == 0 {
            return Ok(());
        }
        let mut block = [0; BLOCK_BYTES_MAX];
        block[..self.pending_len].copy_from_slice(&self.pending[..self.pending_len]);
        self.add(&block[..usize::from(self.sum.bits().get())]);
        Ok(())
    }

    /// Adds whole blocks; the last one of the vector may have fewer than 8 values.
    fn add(&mut self, blocks: &[u8]) {
        let (bits, first) = (self.sum.bits(), self.added);
        let last = self.sum.len().min(first + blocks.len() / usize::from(bits.get()) * BLOCK);
        let backend = Backend::detect();
        match self.sum.lanes_mut() {
            LanesMut::Narrow(lanes) => {
                sordino_kernel::unpack_add(blocks, bits.into(), &mut lanes[first..last], backend);
            }
            LanesMut::Wide(lanes) => sordino_kernel::unpack_add(blocks, bits.into(), &mut lanes[first..last], backend),
        }
        self.added = last;
    }

    fn wrong_length(&self, got: usize) -> PackError {
        PackError::Length { expected: self.expected, got, len: self.sum.len(), bits: self.sum.bits() }
    }
}

impl fmt::Debug for UnpackAdd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (received, expected) = (&self.received, &self.expected);
        f.debug_struct("UnpackAdd").field("received", received).field("expected", expected).finish_non_exhaustive()
    }
}

/// Values of a block: the fewest that take a whole number of bytes at any b.
const BLOCK: usize = 8;
/// Bytes of a block at the largest b.
const BLOCK_BYTES_MAX: usize = 64;

/// Why bytes are not a packed vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Too few or too many bytes.
    #[error("{len} values of {bits} bits take {expected} bytes, but there are {got}")]
    Length {
        /// Bytes that the vector takes.
        expected: usize,
        /// Bytes that there are.
        got: usize,
        /// Values of the vector.
        len: usize,
        /// The ring.
        bits: RingBits,
    },
    /// The unused bits of the last byte are not zero.
    #[error("bits behind the last value are set: the packed vector is damaged or not canonical")]
    Padding,
    /// More bytes than this machine can count.
    #[error("{len} values of {bits} bits are more bytes than this machine can address")]
    TooLarge {
        /// Values of the vector.
        len: usize,
        /// The ring.
        bits: RingBits,
    },
}
