//! Keystreams, expanded and added to a vector in one pass.
//!
//! The keystream is AES in counter mode with a 128-bit big-endian counter that wraps (NIST SP 800-38A, 6.5 and B.1).
//! Element e of a keystream is the little-endian word at byte `e * lane bytes`, so any range of a vector can be masked on
//! its own. The keystream itself is never written to memory, except for the part of a block at a ragged end.
//!
//! All keystreams of a vector pass over one tile that fits the cache before the next tile begins: the vector crosses the
//! memory bus once whatever their number.

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod counter_mode;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
pub(crate) mod schedule;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::backend::Backend;
use crate::lane::{Bits, Lane};
use schedule::Schedule;

/// The block cipher of a keystream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// FIPS 197 with a key of 32 bytes.
    Aes256,
    /// FIPS 197 with a key of 16 bytes.
    Aes128,
}

/// Whether a keystream is added or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Added.
    Plus,
    /// Subtracted.
    Minus,
}

/// The key and the first counter block of one keystream; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Keystream {
    #[zeroize(skip)]
    cipher: Cipher,
    key: Box<[u8; 32]>,
    #[zeroize(skip)]
    counter: u128,
}

impl Keystream {
    /// - `key`: AES-128 takes the first 16 bytes.
    /// - `counter`: the block that is encrypted for the first 16 bytes of keystream.
    #[must_use]
    pub fn new(cipher: Cipher, key: &[u8; 32], counter: [u8; 16]) -> Self {
        Self { cipher, key: Box::new(*key), counter: u128::from_be_bytes(counter) }
    }

    /// As many bytes as the cipher takes.
    fn key(&self) -> &[u8] {
        match self.cipher {
            Cipher::Aes256 => &self.key[..],
            Cipher::Aes128 => &self.key[..16],
        }
    }
}

impl fmt::Debug for Keystream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystream").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

/// Adds every keystream to the lanes with its sign and reduces them mod 2^b.
///
/// - `bits`: at most those of a lane; with more, the lane's own modulus is all there is.
/// - `first_element`: the position of `lanes[0]` in the whole vector; two calls on two parts of a vector give the bits of
///   one call on the whole.
pub fn apply<L: Lane>(masks: &[(Keystream, Sign)], lanes: &mut [L], bits: Bits, first_element: u64, backend: Backend) {
    apply_threads(masks, lanes, bits, first_element, backend, NonZeroUsize::MIN);
}

/// As [`apply`], on at most so many threads, each with a range of the vector, and with the same bits.
///
/// Threads are the one thing here that is not plain arithmetic: they share nothing that changes and end with the call. A
/// vector of few tiles takes fewer of them than asked for.
pub fn apply_threads<L: Lane>(
    masks: &[(Keystream, Sign)],
    lanes: &mut [L],
    bits: Bits,
    first_element: u64,
    backend: Backend,
    threads: NonZeroUsize,
) {
    let streams = Stream::all(masks, backend);
    let mask = L::mask(bits);
    let first = u128::from(first_element) * L::BYTES as u128;
    let range = lanes.len().div_ceil(threads.get()).next_multiple_of(TILE_BYTES / L::BYTES);
    if range >= lanes.len() {
        return apply_streams(&streams, lanes, mask, first, backend);
    }
    let workers = lanes.len().div_ceil(range);
    let ranges = Mutex::new(lanes.chunks_mut(range).enumerate());
    let work = || {
        // A range that panicked is lost, the others are not; the scope passes the panic on.
        while let Some((at, lanes)) = next(&ranges) {
            apply_streams(&streams, lanes, mask, first + (at * range * L::BYTES) as u128, backend);
        }
    };
    #[allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "they end with the call, and any number of them gives the same bits"
    )]
    std::thread::scope(|scope| {
        for _ in 1..workers {
            // Where the system gives no more threads, those that are there do all the work.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

/// The next piece of work, for whoever asks first.
fn next<T>(pieces: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    pieces.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// `byte`: where in the keystreams the lanes begin.
fn apply_streams<L: Lane>(streams: &[Stream], lanes: &mut [L], mask: L, byte: u128, backend: Backend) {
    let mut byte = byte;
    let mut rest = lanes;
    let mut tile_bytes = bytes_to_line(rest, byte);
    while !rest.is_empty() {
        let (tile, behind) = rest.split_at_mut((tile_bytes / L::BYTES).min(rest.len()));
        for stream in streams {
            stream.combine(byte, tile, backend);
        }
        reduce(tile, mask);
        byte += (tile.len() * L::BYTES) as u128;
        rest = behind;
        tile_bytes = TILE_BYTES;
    }
}

/// Bytes of lanes before the first that is on a border both of a block and, if it can be, of a cache line: from there
/// on no vector crosses a line. They make the first tile.
fn bytes_to_line<L: Lane>(lanes: &[L], byte: u128) -> usize {
    let in_block = usize::try_from(byte % BLOCK_BYTES as u128).expect("a remainder is small");
    let to_block = (BLOCK_BYTES - in_block) % BLOCK_BYTES;
    let in_line = (lanes.as_ptr().addr() + to_block) % LINE_BYTES;
    let to_line = if in_line.is_multiple_of(BLOCK_BYTES) { (LINE_BYTES - in_line) % LINE_BYTES } else { 0 };
    match to_block + to_line {
        0 => TILE_BYTES,
        bytes => bytes,
    }
}

fn reduce<L: Lane>(tile: &mut [L], mask: L) {
    // Where the ring is the whole word there is nothing to do.
    if mask.wrapping_add(L::from_u64_truncated(1)) != L::default() {
        for lane in tile {
            *lane = lane.masked(mask);
        }
    }
}

/// A keystream ready to run.
struct Stream {
    schedule: Schedule,
    counter: u128,
    sign: Sign,
}

impl Stream {
    fn all(masks: &[(Keystream, Sign)], backend: Backend) -> Vec<Self> {
        let one = |(stream, sign): &(Keystream, Sign)| Self {
            schedule: backend.schedule(stream),
            counter: stream.counter,
            sign: *sign,
        };
        masks.iter().map(one).collect()
    }

    /// Combines the keystream from `byte` on with the lanes.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is taken, remainders are small, minima are lengths"
    )]
    fn combine<L: Lane>(&self, byte: u128, lanes: &mut [L], backend: Backend) {
        let per_block = BLOCK_BYTES / L::BYTES;
        let (block, skip) = (byte / BLOCK_BYTES as u128, (byte % BLOCK_BYTES as u128) as usize / L::BYTES);
        let mut counter = self.counter.wrapping_add(block);
        let mut rest = lanes;
        if skip > 0 {
            let (head, behind) = rest.split_at_mut(rest.len().min(per_block - skip));
            self.part(counter, skip, head, backend);
            counter = counter.wrapping_add(1);
            rest = behind;
        }
        // The kernels count in the low half of the counter. Where it wraps, a new call takes the carry along.
        while !rest.is_empty() {
            let blocks_to_wrap = (1 << 64) - u128::from(counter as u64);
            let len = blocks_to_wrap.saturating_mul(per_block as u128).min(rest.len() as u128) as usize;
            let (now, behind) = rest.split_at_mut(len);
            let (lines, tail) = now.split_at_mut(len - len % (LINE_BYTES / L::BYTES));
            self.lines(counter, lines, backend);
            if !tail.is_empty() {
                self.part(counter.wrapping_add((lines.len() / per_block) as u128), 0, tail, backend);
            }
            counter = counter.wrapping_add(blocks_to_wrap);
            rest = behind;
        }
    }

    /// Fewer lanes than a line has, the first of them `skip` lanes behind the beginning of a block.
    fn part<L: Lane>(&self, counter: u128, skip: usize, lanes: &mut [L], backend: Backend) {
        // Not secret before, but behind the lanes there will be keystream.
        let mut line = Zeroizing::new([L::default(); LINE_BYTES / size_of::<u32>()]);
        let line = &mut line[..LINE_BYTES / L::BYTES];
        line[skip..][..lanes.len()].copy_from_slice(lanes);
        self.lines(counter, line, backend);
        lanes.copy_from_slice(&line[skip..][..lanes.len()]);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves are taken")]
    fn lines<L: Lane>(&self, counter: u128, lanes: &mut [L], backend: Backend) {
        let counter = Counter { high: (counter >> 64) as u64, low: counter as u64 };
        backend.combine(&self.schedule, counter, self.sign, lanes);
    }
}

/// A counter block. In a kernel's call only the low half counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

/// Lanes as the vector kernels take them: the widest vector, and a line of the cache.
pub(crate) type Line = [u8; LINE_BYTES];

/// Bytes of a cache line and of the widest vector.
pub(crate) const LINE_BYTES: usize = 64;
pub(crate) const BLOCK_BYTES: usize = 16;
/// Bytes of the vector that all keystreams pass over together: they stay in the second-level cache. From 16 to 256 KiB
/// the speed is the same, and hints to fetch the next tile only cost: the hardware does it.
const TILE_BYTES: usize = 64 * 1024;
