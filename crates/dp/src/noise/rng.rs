//! Randomness of one release.

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroizing;

#[cfg(all(feature = "test-util", not(debug_assertions), not(test)))]
compile_error!("`test-util` makes noise predictable and is refused in a release build");

/// ChaCha20 (RFC 8439), seeded for one release with 32 bytes from the operating system, wiped when dropped.
///
/// Not `Clone`, not `Debug`, never stored: the same noise on two releases would show their difference. There is one
/// constructor, and it takes the seed from a function that fills it. Nothing accepts a seed as a value, and samplers
/// accept no other generator, so that a program can only make noise that repeats by writing its own source of entropy
/// where the operating system's belongs: one place in each shell, which a check of the sources can name.
///
/// What compilers leave on the stack while the generator is made is out of our hands.
pub struct NoiseRng(Box<ChaCha20Rng>);

/// Why a generator was not made. Nothing may be released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unseeded<E: std::error::Error + 'static> {
    /// The operating system gave no entropy.
    #[error("the operating system gave no entropy for the noise, nothing may be released")]
    Source(#[source] E),
    /// The source said yes and left the seed as it was.
    #[error("the source of entropy filled nothing in, nothing may be released")]
    Empty,
}

impl NoiseRng {
    /// A generator for one release.
    ///
    /// - `fill`: writes 32 bytes of the operating system's entropy, as `getrandom::fill` does.
    ///
    /// # Errors
    /// [`Unseeded`]: `fill` failed, or left all bytes zero.
    pub fn from_os<E: std::error::Error + 'static>(
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, Unseeded<E>> {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        fill(&mut *seed).map_err(Unseeded::Source)?;
        if *seed == [0; SEED_LEN] {
            return Err(Unseeded::Empty);
        }
        Ok(Self::seeded(&seed))
    }

    /// A generator whose draws repeat: tests only. A binary that contains [`PREDICTABLE_NOISE`] can do this.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn predictable(seed: u64) -> Self {
        let mut bytes = Zeroizing::new([0; SEED_LEN]);
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        // Keeps the marker in every binary that can come here.
        let marker = std::hint::black_box(PREDICTABLE_NOISE).as_bytes();
        bytes[8..].copy_from_slice(&marker[..SEED_LEN - 8]);
        Self::seeded(&bytes)
    }

    fn seeded(seed: &[u8; SEED_LEN]) -> Self {
        Self(Box::new(ChaCha20Rng::from_seed(*seed)))
    }

    /// 64 uniform bits.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform bytes, to seed the parts of one mechanism.
    pub(super) fn split(&mut self) -> Zeroizing<[u8; SEED_LEN]> {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        self.0.fill_bytes(&mut *seed);
        seed
    }

    /// A generator from [`Self::split`]'s bytes.
    pub(super) fn part(seed: &[u8; SEED_LEN]) -> Self {
        Self::seeded(seed)
    }
}

/// Bytes of a seed.
pub(super) const SEED_LEN: usize = 32;

/// Stands in every binary that can make predictable noise, and in no other: search a release for it.
#[cfg(any(test, feature = "test-util"))]
pub const PREDICTABLE_NOISE: &str = "sordino-dp test-util: this binary can make predictable noise";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_or_does_nothing_gives_no_generator() {
        let failing = NoiseRng::from_os(|_: &mut [u8]| Err(std::io::Error::other("no device")));
        assert!(matches!(failing, Err(Unseeded::Source(_))));
        let idle = NoiseRng::from_os(|_: &mut [u8]| Ok::<(), std::io::Error>(()));
        assert!(matches!(idle, Err(Unseeded::Empty)));
    }

    #[test]
    fn the_stream_is_chacha20_with_a_zero_nonce() {
        // RFC 8439, appendix A.1, test vector 3: key 00..01, block counter 1 follows block 0.
        let mut rng = NoiseRng::from_os(|seed: &mut [u8]| {
            seed[31] = 1;
            Ok::<(), std::io::Error>(())
        })
        .unwrap_or_else(|_| panic!("the seed is not zero"));
        let _block_0: [u64; 8] = std::array::from_fn(|_| rng.next());
        assert_eq!(rng.next().to_le_bytes(), [0x3a, 0xeb, 0x52, 0x24, 0xec, 0xf8, 0x49, 0x92]);
    }
}
