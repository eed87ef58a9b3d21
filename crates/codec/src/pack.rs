//! Exactly b bits per value on the wire.
//!
//! Value `i` takes the bits `[i * b, (i + 1) * b)` of the byte string, where bit `k` is bit `k % 8` of byte `k / 8`,
//! least significant first. Bits behind the last value are zero, so each vector has one byte string. Eight values take
//! exactly `b` bytes: the kernels work on such blocks, compiled once for each `b`.

use std::fmt;

use crate::Lane;
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
        Lanes::Narrow(lanes) => narrow!(bits, pack_all(lanes, &mut out)),
        Lanes::Wide(lanes) => wide!(bits, pack_all(lanes, &mut out)),
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
        match self.sum.lanes_mut() {
            LanesMut::Narrow(lanes) => narrow!(bits, add_all(&mut lanes[first..last], blocks)),
            LanesMut::Wide(lanes) => wide!(bits, add_all(&mut lanes[first..last], blocks)),
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

/// Adds packed blocks of `B` bytes to lanes, 8 each; the last block may have fewer lanes than values.
fn add_all<const B: usize, L: Lane>(lanes: &mut [L], blocks: &[u8]) {
    let (groups, last) = lanes.as_chunks_mut::<BLOCK>();
    let mut start = 0;
    for group in groups {
        // The kernel reads whole words, past the end of its block. Where no such bytes follow, a padded copy does.
        match blocks.get(start..start + B + READ_SLACK) {
            Some(window) => add_block::<B, L>(group, window),
            None => add_block::<B, L>(group, &padded::<B>(&blocks[start..])),
        }
        start += B;
    }
    if !last.is_empty() {
        let mut group = [L::default(); BLOCK];
        group[..last.len()].copy_from_slice(last);
        add_block::<B, L>(&mut group, &padded::<B>(&blocks[start..]));
        last.copy_from_slice(&group[..last.len()]);
    }
}

/// Adds the 8 values of one block of `B` bytes; `window` is the block and at least `READ_SLACK` bytes of anything.
#[inline(always)]
fn add_block<const B: usize, L: Lane>(group: &mut [L; BLOCK], window: &[u8]) {
    let window = &window[..B + READ_SLACK];
    // Written out: left to itself, the compiler keeps a loop here, with a variable shift and a check per value.
    let [v0, v1, v2, v3, v4, v5, v6, v7] = group;
    add_value::<B, 0, L>(v0, window);
    add_value::<B, 1, L>(v1, window);
    add_value::<B, 2, L>(v2, window);
    add_value::<B, 3, L>(v3, window);
    add_value::<B, 4, L>(v4, window);
    add_value::<B, 5, L>(v5, window);
    add_value::<B, 6, L>(v6, window);
    add_value::<B, 7, L>(v7, window);
}

/// Adds value `I` of a block of `B` bytes.
#[inline(always)]
fn add_value<const B: usize, const I: usize, L: Lane>(lane: &mut L, window: &[u8]) {
    let (byte, shift) = (I * B / 8, I * B % 8);
    let mut value = u64::from_le_slice(&window[byte..]) >> shift;
    if shift + B > 64 {
        value |= u64::from(window[byte + 8]) << (64 - shift);
    }
    // Bits of the next value are above b and fall to the mask after the addition.
    *lane = lane.wrapping_add(L::from_u64_truncated(value)).masked(mask::<B, L>());
}

/// The first `B` bytes at most, with zeros behind.
#[inline(always)]
fn padded<const B: usize>(bytes: &[u8]) -> [u8; BLOCK_BYTES_MAX + READ_SLACK] {
    let mut window = [0; BLOCK_BYTES_MAX + READ_SLACK];
    let len = bytes.len().min(B);
    window[..len].copy_from_slice(&bytes[..len]);
    window
}

/// Packs all lanes into `out`, which has exactly the bytes that takes.
fn pack_all<const B: usize, L: Lane>(lanes: &[L], out: &mut [u8]) {
    let (groups, last) = lanes.as_chunks::<BLOCK>();
    let (blocks, tail) = out.split_at_mut(groups.len() * B);
    for (group, block) in groups.iter().zip(blocks.chunks_exact_mut(B)) {
        pack_block::<B, L>(group, block);
    }
    if !last.is_empty() {
        let mut group = [L::default(); BLOCK];
        group[..last.len()].copy_from_slice(last);
        let mut block = [0; BLOCK_BYTES_MAX];
        pack_block::<B, L>(&group, &mut block[..B]);
        tail.copy_from_slice(&block[..tail.len()]);
    }
}

/// Packs 8 lanes into `B` bytes, through a buffer of one word and what is beyond it.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low word is taken and the rest is shifted down")]
fn pack_block<const B: usize, L: Lane>(group: &[L; BLOCK], block: &mut [u8]) {
    let block = &mut block[..B];
    let mask = mask::<B, L>();
    let (mut buffer, mut filled, mut written) = (0u128, 0, 0);
    for &lane in group {
        buffer |= u128::from(lane.masked(mask).to_u64()) << filled;
        filled += B;
        if filled >= 64 {
            block[written..written + 8].copy_from_slice(&(buffer as u64).to_le_bytes());
            written += 8;
            buffer >>= 64;
            filled -= 64;
        }
    }
    let tail = B % 8;
    block[written..].copy_from_slice(&(buffer as u64).to_le_bytes()[..tail]);
}

#[inline(always)]
fn mask<const B: usize, L: Lane>() -> L {
    L::from_u64_truncated(u64::MAX >> (64 - B))
}

/// Calls `kernel::<B, u32>` for the `B` that `bits` is.
macro_rules! narrow {
    ($bits:expr, $kernel:ident($($arg:expr),*)) => {
        dispatch!($bits, u32, $kernel, ($($arg),*), 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
            28 29 30 31 32)
    };
}

/// Calls `kernel::<B, u64>` for the `B` that `bits` is.
macro_rules! wide {
    ($bits:expr, $kernel:ident($($arg:expr),*)) => {
        dispatch!($bits, u64, $kernel, ($($arg),*), 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55
            56 57 58 59 60 61 62 63 64)
    };
}

macro_rules! dispatch {
    ($bits:expr, $lane:ty, $kernel:ident, $args:tt, $($b:literal)+) => {
        match $bits.get() {
            $($b => $kernel::<$b, $lane> $args,)+
            other => unreachable!("{other} bits in lanes of another width"),
        }
    };
}
use {dispatch, narrow, wide};

/// Values of a block: the fewest that take a whole number of bytes at any b.
const BLOCK: usize = 8;
/// Bytes of a block at the largest b.
const BLOCK_BYTES_MAX: usize = 64;
/// Bytes that a read of one value may touch behind its block: one word and, above 57 bits, one byte.
const READ_SLACK: usize = 9;

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
