//! Without vectors: eight values at a time, compiled once for each b.

use super::BLOCK;
use crate::lane::{Bits, Lane};

/// Adds packed values to all lanes.
pub(super) fn unpack_add<L: Lane>(packed: &[u8], bits: Bits, lanes: &mut [L]) {
    dispatch!(bits, L, unpack_all(lanes, packed));
}

/// Packs all lanes into `packed`, which has exactly the bytes that takes.
pub(super) fn pack<L: Lane>(lanes: &[L], bits: Bits, packed: &mut [u8]) {
    dispatch!(bits, L, pack_all(lanes, packed));
}

/// Adds packed blocks of `B` bytes to lanes, 8 each; the last block may have fewer lanes than values.
fn unpack_all<const B: usize, L: Lane>(lanes: &mut [L], blocks: &[u8]) {
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

/// Calls `kernel::<B, L>` for the `B` that `bits` is.
macro_rules! dispatch {
    ($bits:expr, $lane:ty, $kernel:ident $args:tt) => {
        dispatch!($bits, $lane, $kernel, $args, 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28
            29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64)
    };
    ($bits:expr, $lane:ty, $kernel:ident, $args:tt, $($b:literal)+) => {
        match $bits.get() {
            $($b => $kernel::<$b, $lane> $args,)+
            other => unreachable!("{other} bits are no ring"),
        }
    };
}
use dispatch;

/// Bytes of a block at the largest b.
const BLOCK_BYTES_MAX: usize = 64;
/// Bytes that a read of one value may touch behind its block: one word and, above 57 bits, one byte.
const READ_SLACK: usize = 9;
