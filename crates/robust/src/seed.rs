//! Lots, drawn from a seed that is logged.

use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where a round's lots come from: with it, anybody can draw them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// Of one round, from a secret of the server: nobody else knows it before it is logged, so that no attacker can choose its
    /// bucket. HKDF-SHA-256 (RFC 5869) with the round's name as information.
    ///
    /// Log it with the round's result, not before.
    #[must_use]
    pub fn derive(secret: &[u8], round: &[u8]) -> Self {
        let mut seed = [0; 32];
        Hkdf::<Sha256>::new(Some(b"sordino robust seed v1"), secret)
            .expand(round, &mut seed)
            .expect("32 bytes are fewer than HKDF's limit");
        Self(seed)
    }

    /// A random order of `0..n`, each equally likely.
    #[must_use]
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let (mut lots, mut order) = (self.lots(b"permutation"), (0..n).collect::<Vec<_>>());
        // Fisher and Yates.
        for at in (1..n).rev() {
            order.swap(at, lots.below(at + 1));
        }
        order
    }

    /// A stream of lots for one purpose: SHA-256 in counter mode.
    pub(crate) fn lots(&self, purpose: &[u8]) -> Lots {
        let mut prefix = Sha256::new();
        prefix.update(self.0);
        prefix.update(purpose);
        Lots { prefix, counter: 0, left: Vec::new() }
    }
}

/// Draws one after another.
#[derive(Debug, Clone)]
pub(crate) struct Lots {
    prefix: Sha256,
    counter: u64,
    left: Vec<u64>,
}

impl Lots {
    fn word(&mut self) -> u64 {
        if self.left.is_empty() {
            let mut block = self.prefix.clone();
            block.update(self.counter.to_le_bytes());
            self.counter += 1;
            let block = block.finalize();
            self.left = block.as_chunks::<8>().0.iter().rev().map(|word| u64::from_le_bytes(*word)).collect();
        }
        self.left.pop().unwrap_or_default()
    }

    /// A number below `end`, each equally likely; `end` is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        // What is left over above the last whole multiple is drawn again.
        let limit = u64::MAX - u64::MAX % end;
        loop {
            let word = self.word();
            if word < limit
                && let Ok(lot) = usize::try_from(word % end)
            {
                return lot;
            }
        }
    }

    /// Uniform in `(0, 1)`.
    fn unit(&mut self) -> f64 {
        ((self.word() >> 12) as f64 + 0.5) / 2f64.powi(52)
    }

    /// Standard normal (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_rounds_give_others() {
        let seed = Seed::derive(b"secret", b"task/1");
        assert_eq!(seed.permutation(100), seed.permutation(100));
        assert_ne!(seed.permutation(100), Seed::derive(b"secret", b"task/2").permutation(100));
        let mut sorted = seed.permutation(100);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
        // Known answer: what was logged has to mean the same in later versions.
        assert_eq!(Seed([7; 32]).permutation(8), [1, 4, 0, 7, 2, 6, 3, 5]);
    }

    #[test]
    fn orders_are_equally_likely() {
        let mut seen = std::collections::BTreeMap::new();
        for at in 0..6000u32 {
            *seen.entry(Seed::derive(b"", &at.to_le_bytes()).permutation(3)).or_insert(0) += 1;
        }
        assert!(seen.len() == 6 && seen.values().all(|count| (880..1120).contains(count)), "{seen:?}");
    }

    #[test]
    fn normals_are_normal() {
        let mut lots = Seed([1; 32]).lots(b"test");
        let draws: Vec<f64> = (0..20_000).map(|_| lots.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|draw| draw * draw).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
