//! Shamir's secret sharing (Shamir 1979) over the scalar field of Ristretto255, whose order l is about 2^252: room for
//! any number of holders, and for a 252-bit secret in one element.
//!
//! The holder with roster index i gets the polynomial's value at i + 1: distinct and never 0, where the secret is.

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A polynomial of degree `threshold - 1` with the secret as its constant term.
///
/// Its leading coefficient may be zero: excluding that would make `threshold - 1` shares rule out one secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Polynomial {
    /// From the constant term upwards.
    coefficients: Vec<Scalar>,
}

impl Polynomial {
    pub(crate) fn new(secret: &Scalar, threshold: u32, rng: &mut impl CryptoRng) -> Self {
        let mut coefficients = Vec::with_capacity(threshold as usize);
        coefficients.push(*secret);
        coefficients.extend((1..threshold).map(|_| Scalar::random(rng)));
        Self { coefficients }
    }

    /// The share of the holder with roster index `holder`.
    pub(crate) fn share(&self, holder: u32) -> Scalar {
        let x = abscissa(holder);
        self.coefficients.iter().rev().fold(Scalar::ZERO, |value, coefficient| value * x + coefficient)
    }
}

fn abscissa(holder: u32) -> Scalar {
    Scalar::from(u64::from(holder) + 1)
}

/// Coefficients that turn the shares of a set of holders into the secret: Lagrange's basis at 0, one per holder.
///
/// The same for every secret that the same holders share, so it is worth keeping.
///
/// # Panics
/// If a holder stands twice in the list; callers take holders from maps.
pub(crate) fn lagrange(holders: &[u32]) -> Vec<Scalar> {
    let xs: Vec<Scalar> = holders.iter().map(|&holder| abscissa(holder)).collect();
    // l_i = prod_{j != i} x_j / (x_j - x_i)
    let mut denominators = Vec::with_capacity(xs.len());
    let mut numerators = Vec::with_capacity(xs.len());
    for (i, x_i) in xs.iter().enumerate() {
        let others = || xs.iter().enumerate().filter(move |&(j, _)| j != i).map(|(_, x)| x);
        numerators.push(others().product::<Scalar>());
        denominators.push(others().map(|x_j| x_j - x_i).product::<Scalar>());
    }
    assert!(denominators.iter().all(|d| *d != Scalar::ZERO), "holders are distinct");
    Scalar::invert_batch_alloc(&mut denominators);
    numerators.iter().zip(&denominators).map(|(numerator, inverse)| numerator * inverse).collect()
}

/// The secret, from as many shares as coefficients of [`lagrange`], in the same order.
pub(crate) fn reconstruct<'a>(coefficients: &[Scalar], shares: impl Iterator<Item = &'a Scalar>) -> Scalar {
    coefficients.iter().zip(shares).map(|(coefficient, share)| coefficient * share).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn rebuild(shares: &[(u32, Scalar)]) -> Scalar {
        let holders: Vec<u32> = shares.iter().map(|&(holder, _)| holder).collect();
        reconstruct(&lagrange(&holders), shares.iter().map(|(_, share)| share))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Any t shares rebuild; t - 1 shares fit every secret.
        #[test]
        fn threshold_is_sharp(seed: u64, t in 1u32..40, extra in 0u32..300, start in 0u32..1_000_000) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let secret = Scalar::random(&mut rng);
            let polynomial = Polynomial::new(&secret, t, &mut rng);
            // Holders far apart, more of them than a field of 255 elements could tell apart.
            let holders: Vec<u32> = (0..t).map(|i| start + i * (1 + extra)).collect();
            let shares: Vec<_> = holders.iter().map(|&holder| (holder, polynomial.share(holder))).collect();
            prop_assert_eq!(rebuild(&shares), secret);

            // For any other secret there is a value at a further point that makes the t - 1 shares consistent with it:
            // solve for the share of the last holder that would give `other`.
            let other = Scalar::random(&mut rng);
            let coefficients = lagrange(&holders);
            let known = reconstruct(&coefficients[..t as usize - 1], shares.iter().map(|(_, share)| share));
            let last = (other - known) * coefficients[t as usize - 1].invert();
            let mut forged = shares;
            forged[t as usize - 1].1 = last;
            prop_assert_eq!(rebuild(&forged), other);
        }
    }

    /// f(x) = 5 + 7x + 11x^2, by hand: f(1) = 23, f(2) = 63, f(4) = 209.
    #[test]
    fn a_polynomial_worked_by_hand() {
        let polynomial = Polynomial { coefficients: [5u64, 7, 11].map(Scalar::from).to_vec() };
        let shares = [(0, 23u64), (1, 63), (3, 209)].map(|(holder, value)| (holder, Scalar::from(value)));
        for &(holder, value) in &shares {
            assert_eq!(polynomial.share(holder), value);
        }
        assert_eq!(rebuild(&shares), Scalar::from(5u64));
    }
}
