//! The two kinds of values an update may be stored as.

use std::fmt::Debug;
use std::ops::{Add, Mul, Sub};

/// What one value of an update is stored as: `f32` or `f64`. Norms and sums are `f64` for both.
pub trait Element:
    sealed::Sealed
    + Copy
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + 'static
{
    /// Half the distance from 1 to the next value.
    const ROUNDING: f64;
    /// Rows with a larger norm have no distances: their squares or differences would leave the range.
    const NORM_MAX: f64;
    /// Scales of rows stay within 2 to plus and minus this.
    const EXPONENT_MAX: i32;

    /// The value itself.
    fn wide(self) -> f64;
    /// The nearest value.
    fn nearest(value: f64) -> Self;

    /// The smaller of two finite values; one instruction on every CPU, unlike `f32::min`, which minds NaN.
    #[inline(always)]
    #[must_use]
    fn least(self, other: Self) -> Self {
        if self < other { self } else { other }
    }

    /// The larger of two finite values.
    #[inline(always)]
    #[must_use]
    fn most(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

impl Element for f32 {
    const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
    const NORM_MAX: f64 = 1e38;
    const EXPONENT_MAX: i32 = 120;

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest, as its name says")]
    fn nearest(value: f64) -> Self {
        value as f32
    }
}

impl Element for f64 {
    const ROUNDING: f64 = f64::EPSILON / 2.0;
    const NORM_MAX: f64 = 1e150;
    const EXPONENT_MAX: i32 = 500;

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn nearest(value: f64) -> Self {
        value
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}
