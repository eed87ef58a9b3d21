//! Coins with exact rational and exponential odds (Canonne, Kamath, Steinke 2020, [arXiv:2004.00010], section 5), in
//! integer arithmetic, without allocation.
//!
//! A coin of probability x/y compares a uniform real U with x/y, 64 bits of U at a time: the first 64 bits settle it but
//! for a chance of about 2^-62, and then the remainder is a coin of the same form. No error is made and none
//! accumulates.
//!
//! [arXiv:2004.00010]: https://arxiv.org/abs/2004.00010

use super::rng::NoiseRng;

/// Uniform in `0..n`; `n` is at least 1 (Lemire 2019, arXiv:1805.10941, algorithm 5).
#[inline]
pub(super) fn below(rng: &mut NoiseRng, n: u64) -> u64 {
    debug_assert!(n > 0, "an empty range");
    let mut product = u128::from(rng.next()) * u128::from(n);
    if low(product) < n {
        let rejected = n.wrapping_neg() % n;
        while low(product) < rejected {
            product = u128::from(rng.next()) * u128::from(n);
        }
    }
    high(product)
}

/// True with probability x/y; `x <= y`, `y > 0`.
#[inline]
pub(super) fn coin(rng: &mut NoiseRng, mut x: u64, y: u64) -> bool {
    debug_assert!(x <= y && y > 0, "odds above one");
    loop {
        match decide(x, y, rng.next()) {
            Ok(answer) => return answer,
            Err(rest) => x = rest,
        }
    }
}

/// Whether U < x/y for `U = (u + f)/2^64`, f uniform in `[0, 1)`: that is, whether `f y < x 2^64 - u y`. Where u leaves it
/// open, the remainder over y is what is left to compare f with.
#[inline]
fn decide(x: u64, y: u64, u: u64) -> Result<bool, u64> {
    let (scaled, reached) = (u128::from(x) << 64, u128::from(u) * u128::from(y));
    if scaled <= reached {
        return Ok(false);
    }
    let rest = scaled - reached;
    if rest >= u128::from(y) { Ok(true) } else { Err(low(rest)) }
}

/// True with probability x/y; `x <= y < 2^120`, `y > 0`.
#[inline]
pub(super) fn wide_coin(rng: &mut NoiseRng, x: u128, y: u128) -> bool {
    debug_assert!(x <= y && y > 0 && y < WIDE_LIMIT, "odds above one, or too wide");
    if let (Ok(x), Ok(y)) = (u64::try_from(x), u64::try_from(y)) {
        return coin(rng, x, y);
    }
    // The upper 64 bits of both settle it nearly always: x'/(y'+1) < x/y < (x'+1)/y'.
    let shift = 64 - y.leading_zeros();
    let (x_top, y_top) = (low(x >> shift), low(y >> shift));
    let u = rng.next();
    let reached = u128::from(u) * u128::from(y_top);
    if high(reached) > x_top {
        return false;
    }
    let beyond = reached.saturating_add(u128::from(u) + u128::from(y_top) + 1);
    if beyond <= u128::from(x_top) << 64 {
        return true;
    }
    wide_coin_exactly(rng, x, y, u)
}

/// The rest of [`wide_coin`], of which `u` are the first bits drawn.
#[cold]
fn wide_coin_exactly(rng: &mut NoiseRng, mut x: u128, y: u128, mut u: u64) -> bool {
    loop {
        // The remainder x 2^64 - u y, of up to 184 bits: `tops` holds it from bit 64 on, `bottom` is taken from it.
        let lower = u128::from(u) * u128::from(low(y));
        let upper = u128::from(u) * u128::from(high(y)) + u128::from(high(lower));
        let bottom = low(lower);
        if x < upper || (x == upper && bottom > 0) {
            return false;
        }
        let tops = x - upper;
        // Above 2^57 the remainder is above 2^120 and so above y.
        if tops > 1 << 57 {
            return true;
        }
        let rest = (tops << 64) - u128::from(bottom);
        if rest == 0 {
            return false;
        }
        if rest >= y {
            return true;
        }
        x = rest;
        u = rng.next();
    }
}

/// True with probability e^-1.
///
/// The chain of algorithm 1 for gamma = 1 makes k steps or more with probability 1/k!, and says yes if it makes an even
/// number of them. One uniform number below 19! says where it ends.
#[inline]
pub(super) fn exp_minus_one(rng: &mut NoiseRng) -> bool {
    let at = below(rng, FACTORIAL_19);
    if at == 0 {
        return exp_minus_one_from(rng, 19);
    }
    let (mut steps, mut next) = (1, FACTORIAL_19 / 2);
    while at < next {
        steps += 1;
        next /= steps + 1;
    }
    steps.is_multiple_of(2)
}

/// The chain of [`exp_minus_one`], of which so many steps are made.
#[cold]
fn exp_minus_one_from(rng: &mut NoiseRng, mut steps: u64) -> bool {
    while below(rng, steps + 1) == 0 {
        steps += 1;
    }
    steps.is_multiple_of(2)
}

/// True with probability e^(-x/y); `x <= y < 2^56`, `y > 0` (algorithm 1, gamma <= 1).
#[inline]
pub(super) fn exp_minus(rng: &mut NoiseRng, x: u64, y: u64) -> bool {
    debug_assert!(x <= y && y > 0 && y < 1 << 56, "a part of algorithm 1 for larger gamma");
    let mut length = 1;
    while coin_over(rng, x, y, length) {
        length += 1;
    }
    length % 2 == 1
}

/// A coin of probability x/(y length).
#[inline]
fn coin_over(rng: &mut NoiseRng, x: u64, y: u64, length: u64) -> bool {
    match y.checked_mul(length) {
        Some(y) => coin(rng, x, y),
        None => coin(rng, x, y) && below(rng, length) == 0,
    }
}

/// True with probability e^(-x/y); `0 < y < 2^112` (algorithm 1).
#[inline]
pub(super) fn exp_minus_wide(rng: &mut NoiseRng, mut x: u128, y: u128) -> bool {
    debug_assert!(y > 0 && y < 1 << 112, "too wide");
    while x > y {
        if !exp_minus_one(rng) {
            return false;
        }
        x -= y;
    }
    if y < 1 << 56 {
        return exp_minus(rng, low(x), low(y));
    }
    let mut length: u64 = 1;
    // Beyond 2^8 the chain would leave 120 bits, and its odds are split as above.
    while if length <= 1 << 8 {
        wide_coin(rng, x, y * u128::from(length))
    } else {
        wide_coin(rng, x, y) && below(rng, length) == 0
    } {
        length += 1;
    }
    length % 2 == 1
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is asked for")]
fn low(x: u128) -> u64 {
    x as u64
}

#[inline]
fn high(x: u128) -> u64 {
    low(x >> 64)
}

/// The largest factorial of which little of 2^64 is left over.
const FACTORIAL_19: u64 = 121_645_100_408_832_000;
/// Bound of the denominators of [`wide_coin`].
const WIDE_LIMIT: u128 = 1 << 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::goodness::within;

    /// Draws of each coin. A deviation of six standard deviations has a chance of 2e-9, and the seed is fixed.
    const DRAWS: u32 = 400_000;

    fn frequency(seed: u64, coin: impl Fn(&mut NoiseRng) -> bool) -> f64 {
        let mut rng = NoiseRng::predictable(seed);
        f64::from((0..DRAWS).map(|_| u32::from(coin(&mut rng))).sum::<u32>()) / f64::from(DRAWS)
    }

    #[test]
    fn coins_keep_their_odds() {
        for (at, (x, y)) in [(0, 1), (1, 1), (1, 2), (1, 3), (2, 7), (99, 100), (1 << 40, 3 << 40), (1 << 62, 3 << 62)]
            .into_iter()
            .enumerate()
        {
            let p = x as f64 / y as f64;
            within(frequency(at as u64, |rng| coin(rng, x, y)), p, DRAWS);
            for shift in [0, 30, 61, 64, 70] {
                if u64::BITS - y.leading_zeros() + shift <= WIDE_LIMIT.ilog2() {
                    let (x, y) = (u128::from(x) << shift, u128::from(y) << shift);
                    within(frequency(90 + at as u64 + u64::from(shift), |rng| wide_coin(rng, x, y)), p, DRAWS);
                }
            }
        }
    }

    /// The one word in 2^64 that leaves it open is the next digit of x/y, and the remainder that of the division.
    #[test]
    fn an_open_comparison_goes_on_with_the_remainder() {
        let mut rng = NoiseRng::predictable(9);
        assert_eq!(decide(1, 3, 0x5555_5555_5555_5555), Err(1));
        for _ in 0..10_000 {
            let y = (rng.next() >> (rng.next() % 60)).max(2);
            let x = rng.next() % y;
            let (digit, rest) = ((u128::from(x) << 64) / u128::from(y), (u128::from(x) << 64) % u128::from(y));
            let digit = u64::try_from(digit).unwrap();
            let open = if rest == 0 { Ok(false) } else { Err(low(rest)) };
            assert_eq!(decide(x, y, digit), open, "{x}/{y}");
            assert_eq!(
                digit.checked_add(1).map(|above| decide(x, y, above)),
                digit.checked_add(1).and(Some(Ok(false)))
            );
            assert_eq!(digit.checked_sub(1).map(|below| decide(x, y, below)), digit.checked_sub(1).and(Some(Ok(true))));
        }
    }

    #[test]
    fn the_slow_path_of_wide_coins_keeps_their_odds_too() {
        let y = (1_u128 << 110) + 12_345;
        for (at, x) in [0, 1, y / 3, y - 1, y].into_iter().enumerate() {
            let slow = frequency(at as u64, |rng| {
                let u = rng.next();
                wide_coin_exactly(rng, x, y, u)
            });
            within(slow, x as f64 / y as f64, DRAWS);
        }
    }

    /// Fast and slow path see the same bits and must say the same.
    #[test]
    fn both_paths_agree() {
        let mut rng = NoiseRng::predictable(3);
        for _ in 0..200_000 {
            let y = (u128::from(rng.next()) << 50) + u128::from(rng.next()) + (1 << 64);
            // Often near the decision.
            let u = rng.next();
            let near = (u128::from(u) * (y >> 64)) + u128::from(rng.next() % 3);
            let x = if rng.next().is_multiple_of(2) { near.min(y) } else { u128::from(rng.next()) % y };
            let seed = rng.next();
            let fast = wide_coin(&mut NoiseRng::predictable(seed), x, y);
            let mut again = NoiseRng::predictable(seed);
            let first = again.next();
            assert_eq!(fast, wide_coin_exactly(&mut again, x, y, first));
        }
    }

    #[test]
    fn exponential_coins_keep_their_odds() {
        within(frequency(1, exp_minus_one), (-1.0_f64).exp(), DRAWS);
        within(frequency(2, |rng| exp_minus_one_from(rng, 1)), (-1.0_f64).exp(), DRAWS);
        for (at, (x, y)) in [(0, 5), (1, 5), (1, 2), (5, 5), (12_345, 1 << 50)].into_iter().enumerate() {
            let p = (-(x as f64) / y as f64).exp();
            within(frequency(10 + at as u64, |rng| exp_minus(rng, x, y)), p, DRAWS);
            let (x, y) = (u128::from(x) << 55, u128::from(y) << 55);
            within(frequency(20 + at as u64, |rng| exp_minus_wide(rng, x, y)), p, DRAWS);
        }
        within(frequency(30, |rng| exp_minus_wide(rng, 7 << 80, 2 << 80)), (-3.5_f64).exp(), DRAWS);
        within(frequency(31, |rng| exp_minus_wide(rng, 7, 2)), (-3.5_f64).exp(), DRAWS);
    }

    #[test]
    fn uniform_numbers_stay_below_and_reach_everything() {
        let mut rng = NoiseRng::predictable(5);
        assert_eq!(below(&mut rng, 1), 0);
        let mut counts = [0_u32; 7];
        for _ in 0..DRAWS {
            counts[below(&mut rng, 7) as usize] += 1;
        }
        for count in counts {
            within(f64::from(count) / f64::from(DRAWS), 1.0 / 7.0, DRAWS);
        }
        // A range that has to reject a quarter of the words: without, multiples of 3 would come twice as often.
        let multiples = (0..DRAWS).filter(|_| below(&mut rng, 3 << 62).is_multiple_of(3)).count();
        within(multiples as f64 / f64::from(DRAWS), 1.0 / 3.0, DRAWS);
    }
}
