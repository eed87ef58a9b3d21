//! The Poisson distribution, exactly, for rational means.
//!
//! Rejection from blocks of `w = ceil(sqrt(lambda))` integers on both sides of the mode m = floor(lambda), the r-th of
//! weight `2^-s(r)` per integer, `s(0) = 0` and `s(r) = r - 1` (after Bringmann, Kuhn, Panagiotou, Peter, Thomas 2014, for
//! binomials). A proposal at distance j is taken with probability `2^s(r) p(m +- j)/p(m)`, which is rational:
//! `p(m + j)/p(m) = prod_(i=1..j) lambda/(m + i)` and `p(m - j)/p(m) = prod_(i=0..j-1) (m - i)/lambda`.
//!
//! That this is no more than 1: p falls on both sides of m, so it is for r = 0 and 1. From one block to the next the
//! ratio falls by half or more. To the right for lambda >= 1, `prod_(i=w+1..2w) lambda/(m + i) <= (1 + w/lambda)^-w`, as
//! `m + i >= lambda + i - 1`, and `(1 + 1/x)^x >= 2` for `x = sqrt(lambda) >= 1`; for lambda < 1, w = 1 and the factors are
//! below 1/2. To the left, `prod_(i=w..2w-1) (m - i)/lambda <= e^(-w^2/lambda) <= 1/e`. Later blocks fall faster still.
//!
//! A table holds the first 64 bits of these probabilities, from below. They settle a draw but for a chance of about 2^-60;
//! then the product is computed in integers of any size.

use super::exact::below;
use super::rng::NoiseRng;

/// A Poisson distribution.
#[derive(Debug, Clone)]
pub(super) struct Poisson {
    /// Mean `a/b`.
    a: u64,
    b: u64,
    mode: u64,
    /// Block length w.
    block: u64,
    /// By distance from the mode: the first 64 bits of the acceptance probability, at most [`SLACK`] too low. Beyond the
    /// table they are 0.
    right: Vec<u64>,
    left: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Right,
    Left,
}

impl Poisson {
    /// With mean a/b; `0 < a < 2^40`, `0 < b < 2^17`, `a/b <= 2^23`.
    pub(super) fn new(a: u64, b: u64) -> Self {
        debug_assert!(a > 0 && b > 0 && a < 1 << 40 && b < 1 << 17 && a / b <= 1 << 23, "beyond the table");
        let mode = a / b;
        // The least w with w^2 >= a/b, and 1 for the smallest means.
        let mut block = mode.isqrt().max(1);
        while u128::from(block) * u128::from(block) * u128::from(b) < u128::from(a) {
            block += 1;
        }
        let mut poisson = Self { a, b, mode, block, right: Vec::new(), left: Vec::new() };
        poisson.right = poisson.table(Side::Right);
        poisson.left = poisson.table(Side::Left);
        poisson
    }

    /// Steps down from the mode, rounding down, up to a block that begins below 2^-64: what follows is smaller.
    ///
    /// A step loses less than 2^-88, which the weight doubles s times. With one integer per block there are 25 steps or
    /// less and s < 25; with w of them, some 12 w and s < 14. Both stay below [`SLACK`].
    fn table(&self, side: Side) -> Vec<u64> {
        let mut ratio: u128 = 1 << RATIO_BITS;
        let mut table = Vec::new();
        for j in 0.. {
            if j > 0 {
                let Some((numerator, denominator)) = self.factor(side, j) else { break };
                // ratio <= 2^88, numerator < 2^40.
                ratio = ratio * u128::from(numerator) / u128::from(denominator);
            }
            let weighed = ratio << self.weight(j) >> (RATIO_BITS - 64);
            if weighed == 0 && j.is_multiple_of(self.block) {
                break;
            }
            // One is the only value that does not fit, and is within the slack of the largest that does.
            table.push(u64::try_from(weighed).unwrap_or(u64::MAX));
        }
        table
    }

    /// `p(m +- j)/p(m +- (j - 1))` as a fraction of numbers below 2^41; none below zero.
    fn factor(&self, side: Side, j: u64) -> Option<(u64, u64)> {
        match side {
            Side::Right => Some((self.a, self.b * (self.mode + j))),
            Side::Left => (j <= self.mode).then(|| (self.b * (self.mode - (j - 1)), self.a)),
        }
    }

    /// s of the block that a distance lies in.
    fn weight(&self, j: u64) -> u64 {
        (j / self.block).saturating_sub(1)
    }

    /// One draw, below 2^62.
    #[inline]
    pub(super) fn draw(&self, rng: &mut NoiseRng) -> i64 {
        loop {
            let (side, j) = self.propose(rng);
            // The mode has one side, and nothing lies below zero.
            if side == Side::Left && (j == 0 || j > self.mode) {
                continue;
            }
            if self.accept(rng, side, j) {
                let drawn = if side == Side::Right { self.mode + j } else { self.mode - j };
                return i64::try_from(drawn).expect("the mode is below 2^24, the distance below 2^61");
            }
        }
    }

    /// A side and a distance, each of the r-th block with weight 1, 1, 1/2, 1/4 and so on.
    #[inline]
    fn propose(&self, rng: &mut NoiseRng) -> (Side, u64) {
        let place = below(rng, 6 * self.block);
        let side = if place.is_multiple_of(2) { Side::Right } else { Side::Left };
        let (offset, first) = ((place / 2) % self.block, place / 2 < self.block);
        if first {
            return (side, offset);
        }
        let mut r = 1;
        loop {
            let word = rng.next();
            r += u64::from(word.trailing_zeros());
            // The bound keeps the distance within 64 bits; nobody will see 2^24 zeros in a row.
            if word != 0 || r > R_MAX {
                return (side, offset + self.block * r);
            }
        }
    }

    #[inline]
    fn accept(&self, rng: &mut NoiseRng, side: Side, j: u64) -> bool {
        let table = if side == Side::Right { &self.right } else { &self.left };
        let at = usize::try_from(j).unwrap_or(usize::MAX);
        let low = table.get(at).copied().unwrap_or(0);
        let u = rng.next();
        if let Some(accepted) = settled(low, u) {
            return accepted;
        }
        self.accept_exactly(rng, side, j, u)
    }

    /// [`Self::accept`] without rounding, of which `u` are the first bits drawn. Beyond [`EXACT_MAX`], which is proposed
    /// with a chance below 2^-360, the answer is no: the probability is smaller still.
    #[cold]
    fn accept_exactly(&self, rng: &mut NoiseRng, side: Side, j: u64, mut u: u64) -> bool {
        if j > EXACT_MAX {
            return false;
        }
        let (mut x, mut y) = (Natural::one(), Natural::one());
        for i in 1..=j {
            let (numerator, denominator) = self.factor(side, i).expect("proposals below zero were left out");
            x.multiply(numerator);
            y.multiply(denominator);
        }
        for _ in 0..self.weight(j) {
            x.multiply(2);
        }
        // As in `exact::coin`: U < x/y if and only if f y < x 2^64 - u y.
        loop {
            let mut reached = y.clone();
            reached.multiply(u);
            x.shift();
            if !x.subtract(&reached) || x.is_zero() {
                return false;
            }
            if x.is_at_least(&y) {
                return true;
            }
            u = rng.next();
        }
    }
}

/// What the first bits of a draw say against a table entry; nothing where they may be on either side.
#[inline]
fn settled(low: u64, u: u64) -> Option<bool> {
    if u < low {
        return Some(true);
    }
    (u - low > SLACK).then_some(false)
}

/// A natural number of any size, least digit first, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Natural(Vec<u64>);

impl Natural {
    fn one() -> Self {
        Self(vec![1])
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the digit")]
    fn multiply(&mut self, factor: u64) {
        let mut carry = 0_u128;
        for digit in &mut self.0 {
            carry += u128::from(*digit) * u128::from(factor);
            *digit = carry as u64;
            carry >>= 64;
        }
        self.0.push(carry as u64);
        self.trim();
    }

    /// Times 2^64.
    fn shift(&mut self) {
        if !self.is_zero() {
            self.0.insert(0, 0);
        }
    }

    fn is_at_least(&self, other: &Self) -> bool {
        let by_digits = || self.0.iter().rev().ge(other.0.iter().rev());
        self.0.len() > other.0.len() || (self.0.len() == other.0.len() && by_digits())
    }

    /// Takes `other` away; does nothing and says no where it is larger.
    fn subtract(&mut self, other: &Self) -> bool {
        if !self.is_at_least(other) {
            return false;
        }
        let mut borrow = false;
        for (at, digit) in self.0.iter_mut().enumerate() {
            let (less, first) = digit.overflowing_sub(other.0.get(at).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            (*digit, borrow) = (less, first || second);
        }
        self.trim();
        true
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

/// Fixed-point digits of the ratios that the table is made from.
const RATIO_BITS: u32 = 88;
/// What a table entry may be too low by, in units of 2^-64.
const SLACK: u64 = 64;
/// Blocks that a proposal can be away.
const R_MAX: u64 = 1 << 24;
/// Distance up to which products are computed.
const EXACT_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::goodness::{Bin, chi_square};

    const MEANS: [(u64, u64); 12] = [
        (1, 1 << 16),
        (1, 4),
        (1, 1),
        (3, 2),
        (5, 1),
        (17, 3),
        (25, 1),
        (1000, 7),
        (12_345, 1),
        (9_999_999, 1000),
        (1 << 20, 1),
        (1 << 39, 1 << 16),
    ];

    /// p(m +- j)/p(m) times the weight, in logarithms to base 2.
    fn log_acceptance(poisson: &Poisson, side: Side, j: u64) -> Option<f64> {
        let mut sum = poisson.weight(j) as f64;
        for i in 1..=j {
            let (numerator, denominator) = poisson.factor(side, i)?;
            sum += (numerator as f64 / denominator as f64).log2();
        }
        Some(sum)
    }

    #[test]
    fn no_proposal_is_accepted_with_more_than_certainty() {
        for (a, b) in MEANS {
            let poisson = Poisson::new(a, b);
            for side in [Side::Right, Side::Left] {
                for block in 0..30 {
                    let Some(log) = log_acceptance(&poisson, side, block * poisson.block) else { break };
                    assert!(log < 1e-9, "{a}/{b} {side:?} {block}: {log}");
                }
            }
        }
    }

    #[test]
    fn tables_hold_the_probabilities_and_end_where_they_vanish() {
        for (a, b) in MEANS {
            let poisson = Poisson::new(a, b);
            for (side, table) in [(Side::Right, &poisson.right), (Side::Left, &poisson.left)] {
                assert!(table.len() as u64 <= poisson.block * 30, "{a}/{b}: {}", table.len());
                for j in (0..table.len() as u64).step_by(poisson.block as usize / 7 + 1) {
                    let want = log_acceptance(&poisson, side, j).unwrap().exp2();
                    let got = table[j as usize] as f64 / 2.0_f64.powi(64);
                    assert!(
                        (got - want).abs() <= 1e-9 * want + 2.0_f64.powi(-57),
                        "{a}/{b} {side:?} {j}: {got} {want}"
                    );
                }
                if let Some(beyond) = log_acceptance(&poisson, side, table.len() as u64) {
                    assert!(beyond < -58.0, "{a}/{b} {side:?}: {beyond}");
                }
            }
        }
    }

    /// At the decision itself and one slack around it, with all that follows.
    #[test]
    fn table_and_product_agree() {
        for (a, b) in [(1, 4), (1, 1), (17, 3), (25, 1), (1000, 7), (12_345, 1)] {
            let poisson = Poisson::new(a, b);
            for (side, table) in [(Side::Right, &poisson.right), (Side::Left, &poisson.left)] {
                for j in (0..table.len() as u64).step_by(poisson.block as usize / 3 + 1) {
                    let low = table[j as usize];
                    let exactly = |u| poisson.accept_exactly(&mut NoiseRng::predictable(j), side, j, u);
                    let above = [0, 1, 2, 8, SLACK, SLACK + 1].map(|distance| low.saturating_add(distance));
                    for u in above.into_iter().chain(low.checked_sub(1)) {
                        if let Some(accepted) = settled(low, u) {
                            assert_eq!(accepted, exactly(u), "{a}/{b} {side:?} {j}: {}", u.wrapping_sub(low));
                        }
                    }
                    assert!(exactly(0) || low < SLACK);
                }
            }
        }
    }

    /// A million draws each, in bins from the exact pmf.
    #[test]
    fn poisson_draws() {
        for (at, (a, b)) in [(1, 3), (1, 1), (5, 2), (4, 1), (50, 1), (2001, 10)].into_iter().enumerate() {
            let poisson = Poisson::new(a, b);
            let lambda = a as f64 / b as f64;
            let pmf: Vec<f64> = (0..600)
                .scan(-lambda, |log, k: u32| {
                    let this = log.exp();
                    *log += (lambda / f64::from(k + 1)).ln();
                    Some(this)
                })
                .collect();
            // Everything that expects fewer than 50 draws goes to the bin before it or, at the start, after it.
            let mut bins: Vec<Bin> = Vec::new();
            for (k, probability) in pmf.into_iter().enumerate() {
                match bins.last_mut() {
                    Some(bin) if probability < 5e-5 || bin.probability < 5e-5 => bin.probability += probability,
                    None => bins.push(Bin { from: i64::MIN, probability }),
                    Some(_) => bins.push(Bin { from: k as i64, probability }),
                }
            }
            chi_square(60 + at as u64, &bins, |values, rng| {
                values.iter_mut().for_each(|value| *value = poisson.draw(rng));
                Ok(())
            });
        }
    }

    #[test]
    fn naturals() {
        let mut x = Natural::one();
        x.multiply(u64::MAX);
        x.multiply(u64::MAX);
        assert_eq!(x.0, [1, u64::MAX - 1]);
        let mut y = Natural::one();
        y.shift();
        assert!(x.is_at_least(&y) && !y.is_at_least(&x) && y.is_at_least(&y.clone()));
        assert!(x.subtract(&y));
        assert_eq!(x.0, [1, u64::MAX - 2]);
        assert!(!y.subtract(&x));
        assert!(y.subtract(&y.clone()) && y.is_zero());
        y.shift();
        assert!(y.is_zero());
        // A borrow through a zero.
        let mut z = Natural(vec![0, 0, 1]);
        assert!(z.subtract(&Natural::one()));
        assert_eq!(z.0, [u64::MAX, u64::MAX]);
    }
}
