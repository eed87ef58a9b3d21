//! Values of exactly b bits, packed and unpacked.
//!
//! Value `i` takes the bits `[i * b, (i + 1) * b)` of a byte string, where bit `k` is bit `k % 8` of byte `k / 8`, least
//! significant first. Eight values take exactly `b` bytes. The vector kernels do the bulk, the portable code what is
//! left: near the end of the bytes, where a vector would reach past it.

mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use crate::backend::Backend;
use crate::lane::{Bits, Lane};

/// Adds packed values to lanes: value `i` to `lanes[i]`, reduced mod 2^b.
///
/// Of `packed`, what is behind the last value is not looked at.
///
/// # Panics
/// When `packed` holds fewer values than there are lanes, or `bits` is more than a lane has; all are the caller's own.
pub fn unpack_add<L: Lane>(packed: &[u8], bits: Bits, lanes: &mut [L], backend: Backend) {
    check::<L>(packed.len(), bits, lanes.len());
    let blocks = backend.unpack_add(packed, bits, lanes);
    portable::unpack_add(&packed[blocks * bits.block_bytes()..], bits, &mut lanes[blocks * BLOCK..]);
}

/// Packs the low b bits of each lane. Unused bits of the last byte, and all bytes behind it, become zero.
///
/// # Panics
/// When `packed` has no room for all lanes, or `bits` is more than a lane has; all are the caller's own.
pub fn pack<L: Lane>(lanes: &[L], bits: Bits, packed: &mut [u8], backend: Backend) {
    check::<L>(packed.len(), bits, lanes.len());
    let blocks = backend.pack(lanes, bits, packed);
    let rest = &mut packed[blocks * bits.block_bytes()..];
    let (rest, behind) = rest.split_at_mut(bytes_of(lanes.len() - blocks * BLOCK, bits));
    portable::pack(&lanes[blocks * BLOCK..], bits, rest);
    behind.fill(0);
}

fn check<L: Lane>(bytes: usize, bits: Bits, values: usize) {
    assert!(bits.block_bytes() <= 8 * L::BYTES, "{bits} bits do not fit a lane of {} bytes", L::BYTES);
    let needed = bytes_of(values, bits);
    assert!(bytes >= needed, "{values} values of {bits} bits take {needed} bytes, there are {bytes}");
}

/// Bytes of so many values. A lane has at least b bits, so this is at most what the lanes take themselves.
fn bytes_of(values: usize, bits: Bits) -> usize {
    let b = bits.block_bytes();
    values / BLOCK * b + (values % BLOCK * b).div_ceil(8)
}

/// Values of a block: the fewest that take a whole number of bytes at any b.
pub(crate) const BLOCK: usize = 8;
