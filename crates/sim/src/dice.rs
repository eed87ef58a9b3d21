//! All chance of a world: one ChaCha20 stream per purpose, from one seed.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The number that a whole world follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl std::fmt::Display for Seed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

/// A probability in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permille(pub u32);

impl Permille {
    /// Never.
    pub const NEVER: Self = Self(0);
}

/// A stream of chance.
pub(crate) struct Dice(ChaCha20Rng);

/// What a stream is for; streams of one seed are independent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The shape of the world.
    Plan,
    /// What goes wrong in it.
    Faults,
    /// What participants draw for their secrets.
    Secrets,
    /// Who is hostile, and to whom.
    Script,
    /// What hostile parties choose as they go.
    Lies,
    /// What inputs prove.
    Proofs,
    /// Who proves something else.
    Cheats,
}

impl Dice {
    pub(crate) fn new(seed: Seed, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.0.to_le_bytes());
        key[8] = match purpose {
            Purpose::Plan => 0,
            Purpose::Faults => 1,
            Purpose::Secrets => 2,
            Purpose::Script => 3,
            Purpose::Lies => 4,
            Purpose::Proofs => 5,
            Purpose::Cheats => 6,
        };
        Self(ChaCha20Rng::from_seed(key))
    }

    /// Uniform in `low..=high`. The bias of the remainder is below 2^-40 for the small ranges of a world.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high, "an empty range");
        low + self.0.next_u64() % (high - low + 1)
    }

    /// Uniform index below `len`, which is not 0.
    #[expect(clippy::cast_possible_truncation, reason = "the result is below a usize")]
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.between(0, len as u64 - 1) as usize
    }

    pub(crate) fn chance(&mut self, permille: Permille) -> bool {
        self.between(0, 999) < u64::from(permille.0)
    }

    /// 32 uniform bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// The stream itself, as the protocol takes randomness.
    pub(crate) fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }
}
