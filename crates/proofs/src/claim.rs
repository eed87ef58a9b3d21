//! What is proven of a participant's integers: bounds on norms, ranges, and how the integers are laid out in rows.

use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

/// Bounds on one participant's vector of integers, the same for all participants of a round.
///
/// The vector is, in this order: the model's entries, segment after segment; the weight, if there is one; the values
/// (metrics). Made once per round from the signed policy; its [digest](Self::digest) is in every transcript.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    spec: ClaimSpec,
    layout: Layout,
    range_layout: Layout,
    digest: [u8; 32],
}

/// What a [`Claim`] is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSpec {
    /// Parts of the model with a bound each: one for the whole, or one per layer.
    pub segments: Vec<Segment>,
    /// Of the weight that the bounds depend on; none where no weight travels in the vector. One value where it is constant.
    pub weight: Option<Interval>,
    /// Of each integer behind the weight.
    pub values: Vec<Interval>,
    /// Of each entry of the model, beside the norm. Costs one committed bit for each bit of its width.
    pub entries: Option<Interval>,
    /// Public integers, one for each entry of the model: the norm is that of the distance to them. Needs a weight that is
    /// constant or absent, since a weighted update would need a weighted centre.
    pub centre: Option<Vec<i32>>,
    /// How proofs end.
    pub setting: Setting,
}

/// Consecutive entries of the model under one bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// How many.
    pub len: usize,
    /// On the sum of their squares.
    pub bound: NormBound,
}

/// A bound on a sum `S` of squared integers, which may grow with a weight `w`:
/// `2^scale_bits * S <= per_square * w^2 + per_weight * w + constant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormBound {
    /// Binary places of the three numbers.
    pub scale_bits: u32,
    /// Times the square of the weight.
    pub per_square: u64,
    /// Times the weight.
    pub per_weight: u64,
    /// Whatever the weight is.
    pub constant: u64,
}

impl NormBound {
    /// `S <= squared`.
    #[must_use]
    pub const fn constant(squared: u64) -> Self {
        Self { scale_bits: 0, per_square: 0, per_weight: 0, constant: squared }
    }

    /// The right side at this weight; none where it is beyond 128 bits.
    pub(crate) fn scaled(&self, weight: u64) -> Option<u128> {
        let weight = u128::from(weight);
        let square = weight.checked_mul(weight)?.checked_mul(self.per_square.into())?;
        square.checked_add(weight.checked_mul(self.per_weight.into())?)?.checked_add(self.constant.into())
    }
}

/// Integers from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The smallest.
    pub low: i64,
    /// The largest.
    pub high: i64,
}

impl Interval {
    /// The one value.
    #[must_use]
    pub const fn only(value: i64) -> Self {
        Self { low: value, high: value }
    }

    /// Whether it is in there.
    #[must_use]
    pub const fn contains(&self, value: i64) -> bool {
        self.low <= value && value <= self.high
    }

    fn width(self) -> u64 {
        self.high.abs_diff(self.low)
    }

    /// Bits that are committed for one value.
    pub(crate) fn bits(self) -> usize {
        (u64::BITS - self.width().leading_zeros()) as usize
    }

    /// What bit `at` stands for: `2^at`, and for the last what is missing to the width. All sums of some of them are
    /// exactly the integers from 0 to the width.
    pub(crate) fn bit_weight(self, at: usize) -> u64 {
        if at + 1 == self.bits() { self.width() - ((1 << at) - 1) } else { 1 << at }
    }

    /// The bits of a value that is in there, lowest first.
    pub(crate) fn decompose(self, value: i64) -> impl Iterator<Item = bool> {
        let above = value.abs_diff(self.low);
        let top = self.bits().checked_sub(1);
        let last = top.is_some_and(|top| above >> top != 0);
        let rest = if last { above - top.map_or(0, |top| self.bit_weight(top)) } else { above };
        (0..self.bits()).map(move |at| if Some(at) == top { last } else { rest >> at & 1 == 1 })
    }
}

/// How a proof ends: which of the two is the smaller or the faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Two masked rows in the clear. About `3 sqrt(d)` elements of 32 bytes.
    Fast,
    /// An inner-product argument on them instead, over longer rows: less than a quarter of the bytes, more time to prove.
    Small,
}

/// Why these bounds cannot be a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// No entry to bound, or an empty segment.
    #[error("a claim needs from 1 to {SEGMENTS_MAX} segments of at least one entry each, got {segments}")]
    Segments {
        /// How many there are.
        segments: usize,
    },
    /// More entries than a proof takes.
    #[error("a proof takes at most {LEN_MAX} entries, got {len}")]
    TooLong {
        /// Entries of the model.
        len: usize,
    },
    /// More values than a proof takes.
    #[error("a proof takes at most {VALUES_MAX} values beside the model, got {values}")]
    TooManyValues {
        /// How many there are.
        values: usize,
    },
    /// The projections would not hide an honest vector of this norm, or the slack would not fit its range proof.
    #[error(
        "the bound of segment {segment}, with those before it, is above a norm of 2^{NORM_BITS_MAX}, or needs more than 63 bits; use fewer bits of precision"
    )]
    Bound {
        /// Which one.
        segment: usize,
    },
    /// An interval without an integer in it, or with integers that a proof cannot carry.
    #[error("{low} to {high} is no interval within +-2^{VALUE_BITS_MAX}, or a weight below 0")]
    Interval {
        /// Its lower end.
        low: i64,
        /// Its upper end.
        high: i64,
    },
    /// Entry ranges over more bits than a proof takes.
    #[error(
        "the ranges take {bits} bits, a proof takes at most {RANGE_BITS_MAX}; bound the norm alone, or use narrower ranges"
    )]
    TooManyBits {
        /// What they take.
        bits: usize,
    },
    /// A bound that grows with a weight that does not exist, or a centre beside a weight that varies.
    #[error("{what}")]
    Weight {
        /// What does not fit.
        what: &'static str,
    },
    /// A centre of another length, or beyond the largest norm.
    #[error("the centre needs one integer within +-2^{NORM_BITS_MAX} for each of the {len} entries of the model")]
    Centre {
        /// Entries of the model.
        len: usize,
    },
}

/// Entries of a model.
pub const LEN_MAX: usize = 1 << 24;
/// Parts with a bound of their own.
pub const SEGMENTS_MAX: usize = 256;
/// Integers behind the weight.
pub const VALUES_MAX: usize = 1024;
/// Bits of all ranges together.
pub const RANGE_BITS_MAX: usize = 1 << 20;
/// Largest norm of an honest vector: its projections stay below 2^31, which the masks drown.
pub const NORM_BITS_MAX: u32 = 27;
/// Largest weight, value or end of an interval.
pub const VALUE_BITS_MAX: u32 = 56;
/// Binary places of a bound, with those of the length: what keeps sums of squares from wrapping around the group order.
const SCALE_AND_LEN_BITS_MAX: u32 = 44;

impl Claim {
    /// Checks the bounds and derives the layout.
    ///
    /// # Errors
    /// [`ClaimError`]: what cannot be proven, and what to change.
    pub fn new(spec: ClaimSpec) -> Result<Self, ClaimError> {
        let segments = spec.segments.len();
        if segments == 0 || segments > SEGMENTS_MAX || spec.segments.iter().any(|segment| segment.len == 0) {
            return Err(ClaimError::Segments { segments });
        }
        let len = spec.segments.iter().try_fold(0usize, |sum, segment| sum.checked_add(segment.len));
        let len = len.filter(|&len| len <= LEN_MAX).ok_or(ClaimError::TooLong { len: len.unwrap_or(usize::MAX) })?;
        if spec.values.len() > VALUES_MAX {
            return Err(ClaimError::TooManyValues { values: spec.values.len() });
        }
        for interval in spec.weight.iter().chain(&spec.values).chain(&spec.entries) {
            check_interval(*interval)?;
        }
        check_weight(&spec)?;
        let layout = Layout::of_vector(&spec, len);
        let mut squared = 0u128;
        for (at, segment) in spec.segments.iter().enumerate() {
            let most = check_bound(&spec, &layout, segment.bound).ok_or(ClaimError::Bound { segment: at })?;
            // The projections hide the norm of the whole.
            squared = squared.saturating_add(most);
            if squared > 1 << (2 * NORM_BITS_MAX) {
                return Err(ClaimError::Bound { segment: at });
            }
        }
        if let Some(centre) = &spec.centre
            && (centre.len() != len || centre.iter().any(|entry| entry.unsigned_abs() > 1 << NORM_BITS_MAX))
        {
            return Err(ClaimError::Centre { len });
        }
        let tail_bits: usize = spec.weight.iter().chain(&spec.values).map(|interval| interval.bits()).sum();
        let bits = tail_bits + spec.entries.map_or(0, |interval| interval.bits().saturating_mul(len));
        // A range of one value has no bit, and is work all the same.
        let ranges = if spec.entries.is_some() { len } else { 0 };
        if bits.max(ranges) > RANGE_BITS_MAX {
            return Err(ClaimError::TooManyBits { bits: bits.max(ranges) });
        }
        let digest = digest(&spec);
        Ok(Self { spec, layout, range_layout: Layout::of_bits(bits), digest })
    }

    /// Of everything in it.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Integers of a vector: the model's entries, the weight, the values.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it has at least one entry")]
    pub fn len(&self) -> usize {
        self.model_len() + usize::from(self.spec.weight.is_some()) + self.spec.values.len()
    }

    /// Row commitments of one participant, and blindings that travel in its masked vector.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.rows()
    }

    /// Entries of the model.
    #[must_use]
    pub fn model_len(&self) -> usize {
        self.layout.model_len
    }

    /// Parts with a bound each.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.spec.segments
    }

    /// How proofs end.
    #[must_use]
    pub fn setting(&self) -> Setting {
        self.spec.setting
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &ClaimSpec {
        &self.spec
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Of the bits; no rows where no range has a bit.
    pub(crate) fn range_layout(&self) -> &Layout {
        &self.range_layout
    }

    /// Every integer that has a range: its place among the vector's integers, and the range.
    pub(crate) fn ranged(&self) -> impl Iterator<Item = (usize, Interval)> + '_ {
        let tail = self.spec.weight.iter().chain(&self.spec.values).copied();
        let entries =
            self.spec.entries.iter().flat_map(|&interval| (0..self.model_len()).map(move |at| (at, interval)));
        (self.model_len()..).zip(tail).chain(entries)
    }
}

fn check_interval(interval: Interval) -> Result<(), ClaimError> {
    let Interval { low, high } = interval;
    let most = 1 << VALUE_BITS_MAX;
    if low > high || low < -most || high > most {
        return Err(ClaimError::Interval { low, high });
    }
    Ok(())
}

fn check_weight(spec: &ClaimSpec) -> Result<(), ClaimError> {
    match spec.weight {
        Some(Interval { low, high }) if low < 0 => Err(ClaimError::Interval { low, high }),
        Some(Interval { low, high }) if low != high && spec.centre.is_some() => {
            Err(ClaimError::Weight { what: "a distance to a centre needs a weight that is constant" })
        }
        None if spec.segments.iter().any(|segment| segment.bound.per_square != 0 || segment.bound.per_weight != 0) => {
            Err(ClaimError::Weight { what: "a bound that grows with the weight needs a weight in the vector" })
        }
        _ => Ok(()),
    }
}

/// The square of the norm that a segment may have: the bound at the largest weight fits the slack's 64 bits and the projections; scaled sums of squares do not wrap.
fn check_bound(spec: &ClaimSpec, layout: &Layout, bound: NormBound) -> Option<u128> {
    let len_bits = usize::BITS - (layout.model_rows * layout.row_len).leading_zeros();
    let weight = spec.weight.map_or(0, |weight| weight.high.unsigned_abs());
    let most = bound.scaled(weight)?;
    let fits = bound.scale_bits.checked_add(len_bits)? <= SCALE_AND_LEN_BITS_MAX
        && most < 1 << 63
        && most >> bound.scale_bits <= 1 << (2 * NORM_BITS_MAX);
    fits.then_some(most >> bound.scale_bits)
}

fn digest(spec: &ClaimSpec) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"sordino/proofs/v1/claim");
    let interval = |hash: &mut Sha256, interval: &Interval| {
        hash.update(interval.low.to_le_bytes());
        hash.update(interval.high.to_le_bytes());
    };
    hash.update((spec.segments.len() as u64).to_le_bytes());
    for Segment { len, bound } in &spec.segments {
        hash.update((*len as u64).to_le_bytes());
        hash.update(bound.scale_bits.to_le_bytes());
        for number in [bound.per_square, bound.per_weight, bound.constant] {
            hash.update(number.to_le_bytes());
        }
    }
    for optional in [&spec.weight, &spec.entries] {
        hash.update([u8::from(optional.is_some())]);
        optional.iter().for_each(|range| interval(&mut hash, range));
    }
    hash.update((spec.values.len() as u64).to_le_bytes());
    spec.values.iter().for_each(|range| interval(&mut hash, range));
    hash.update([u8::from(spec.centre.is_some())]);
    for entry in spec.centre.iter().flatten() {
        hash.update(entry.to_le_bytes());
    }
    hash.update([match spec.setting {
        Setting::Fast => 0,
        Setting::Small => 1,
    }]);
    hash.finalize().into()
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("segments", &self.spec.segments)
            .field("weight", &self.spec.weight)
            .field("values", &self.spec.values)
            .field("setting", &self.spec.setting)
            .finish_non_exhaustive()
    }
}

/// Integers in rows of one length. Segments, the weight and the values begin a row each; what is left of their last row
/// is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `L`, a power of two.
    pub row_len: usize,
    /// Rows of the model.
    pub model_rows: usize,
    /// Entries of the model.
    pub model_len: usize,
    /// First row of each segment, and its entries.
    pub segments: Vec<(usize, usize)>,
    /// The row of the weight, if there is one: 1 or 0.
    pub weight_rows: usize,
    /// Rows of the values.
    pub value_rows: usize,
    /// How many values.
    pub values: usize,
}

impl Layout {
    fn of_vector(spec: &ClaimSpec, model_len: usize) -> Self {
        let square = model_len.isqrt() + usize::from(model_len.isqrt().pow(2) < model_len);
        let row_len = match spec.setting {
            Setting::Fast => square.next_power_of_two(),
            Setting::Small => square.next_power_of_two() * 2,
        };
        let mut row = 0;
        let segments = spec.segments.iter().map(|segment| {
            let first = row;
            row += segment.len.div_ceil(row_len);
            (first, segment.len)
        });
        let segments = segments.collect();
        Self {
            row_len,
            model_rows: row,
            model_len,
            segments,
            weight_rows: usize::from(spec.weight.is_some()),
            value_rows: spec.values.len().div_ceil(row_len),
            values: spec.values.len(),
        }
    }

    fn of_bits(bits: usize) -> Self {
        let row_len = (bits / 2).isqrt().next_power_of_two();
        let rows = bits.div_ceil(row_len);
        Self {
            row_len,
            model_rows: rows,
            model_len: bits,
            segments: vec![(0, bits)],
            weight_rows: 0,
            value_rows: 0,
            values: 0,
        }
    }

    /// All rows.
    pub(crate) fn rows(&self) -> usize {
        self.model_rows + self.weight_rows + self.value_rows
    }

    /// Row and column of an integer of the vector.
    pub(crate) fn place(&self, at: usize) -> (usize, usize) {
        if at < self.model_len {
            let mut before = 0;
            for &(first, len) in &self.segments {
                if at < before + len {
                    return (first + (at - before) / self.row_len, (at - before) % self.row_len);
                }
                before += len;
            }
        }
        let at = at - self.model_len;
        if at < self.weight_rows {
            return (self.model_rows, 0);
        }
        let at = at - self.weight_rows;
        (self.model_rows + self.weight_rows + at / self.row_len, at % self.row_len)
    }

    /// Row and column of every place behind the weight and the values in their rows: nothing may be there.
    pub(crate) fn tail_padding(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let weight = (0..self.weight_rows).flat_map(|_| (1..self.row_len).map(|column| (self.model_rows, column)));
        let values = self.values..self.value_rows * self.row_len;
        let first = self.model_rows + self.weight_rows;
        weight.chain(values.map(move |at| (first + at / self.row_len, at % self.row_len)))
    }

    /// Of all places behind a segment's entries, in the order of rows, those of this one.
    pub(crate) fn padding_of(&self, row: usize) -> Range<usize> {
        let segment = self.segment_of(row);
        let behind = |&(_, len): &(usize, usize)| len.next_multiple_of(self.row_len) - len;
        let start: usize = self.segments[..segment].iter().map(behind).sum();
        // Only a segment's last row has any.
        start..start + self.row_len - self.entries_of(row).1
    }

    /// How many places are behind the segments' entries.
    pub(crate) fn model_padding(&self) -> usize {
        self.model_rows * self.row_len - self.model_len
    }

    /// The model's part of a vector, in rows; 0 where nothing is.
    pub(crate) fn model<T: Copy + Default>(&self, model: &[T]) -> Vec<T> {
        let mut rows = vec![T::default(); self.model_rows * self.row_len];
        let mut rest = model;
        for &(first, len) in &self.segments {
            let (segment, behind) = rest.split_at(len);
            rows[first * self.row_len..][..len].copy_from_slice(segment);
            rest = behind;
        }
        rows
    }

    /// The entries of the model in a row: the first one, and how many.
    pub(crate) fn entries_of(&self, row: usize) -> (usize, usize) {
        let segment = self.segment_of(row);
        let before: usize = self.segments[..segment].iter().map(|&(_, len)| len).sum();
        let (first, len) = self.segments[segment];
        let start = (row - first) * self.row_len;
        (before + start, self.row_len.min(len - start))
    }

    /// The segment of a row of the model.
    pub(crate) fn segment_of(&self, row: usize) -> usize {
        self.segments.partition_point(|&(first, _)| first <= row) - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(len: usize) -> ClaimSpec {
        ClaimSpec {
            segments: vec![Segment { len, bound: NormBound::constant(1000) }],
            weight: None,
            values: Vec::new(),
            entries: None,
            centre: None,
            setting: Setting::Fast,
        }
    }

    proptest! {
        #[test]
        fn every_integer_of_an_interval_has_its_bits_and_no_other_has(low in -300i64..300, width in 0i64..600) {
            let interval = Interval { low, high: low + width };
            let bits = interval.bits();
            for value in low..=low + width {
                let sum: u64 = interval.decompose(value).enumerate().map(|(at, bit)| u64::from(bit) * interval.bit_weight(at)).sum();
                prop_assert_eq!(low + i64::try_from(sum).expect("small"), value);
            }
            let most: u64 = (0..bits).map(|at| interval.bit_weight(at)).sum();
            prop_assert_eq!(most, interval.width());
        }

        #[test]
        fn each_integer_has_a_place_of_its_own(lens in prop::collection::vec(1usize..40, 1..6), weight: bool, values in 0usize..40, small: bool) {
            let mut spec = spec(1);
            spec.segments = lens.iter().map(|&len| Segment { len, bound: NormBound::constant(9) }).collect();
            spec.weight = weight.then_some(Interval { low: 0, high: 5 });
            spec.values = vec![Interval { low: -1, high: 1 }; values];
            spec.setting = if small { Setting::Small } else { Setting::Fast };
            let claim = Claim::new(spec).expect("a claim");
            let layout = claim.layout();
            let mut places: Vec<_> = (0..claim.len()).map(|at| layout.place(at)).chain(layout.tail_padding()).collect();
            let model = layout.model(&(1..=claim.model_len()).collect::<Vec<_>>());
            for at in 0..claim.model_len() {
                let (row, column) = layout.place(at);
                prop_assert_eq!(model[row * layout.row_len + column], at + 1);
            }
            prop_assert!(places.iter().all(|&(row, column)| row < claim.rows() && column < layout.row_len));
            places.sort_unstable();
            let all = places.len();
            places.dedup();
            prop_assert_eq!(places.len(), all);
            prop_assert_eq!(all - claim.model_len(), (claim.rows() - layout.model_rows) * layout.row_len);
        }
    }

    #[test]
    fn bounds_that_cannot_be_proven_are_refused() {
        let with = |change: fn(&mut ClaimSpec)| {
            let mut spec = spec(100);
            change(&mut spec);
            Claim::new(spec).expect_err("refused")
        };
        assert_eq!(with(|spec| spec.segments.clear()), ClaimError::Segments { segments: 0 });
        assert_eq!(with(|spec| spec.segments[0].len = 0), ClaimError::Segments { segments: 1 });
        assert_eq!(with(|spec| spec.segments[0].len = LEN_MAX + 1), ClaimError::TooLong { len: LEN_MAX + 1 });
        assert_eq!(with(|spec| spec.segments = vec![spec.segments[0]; 257]), ClaimError::Segments { segments: 257 });
        assert_eq!(
            with(|spec| spec.segments = vec![Segment { len: usize::MAX, ..spec.segments[0] }; 2]),
            ClaimError::TooLong { len: usize::MAX }
        );
        let bound = |bound| ClaimError::Bound { segment: bound };
        assert_eq!(with(|spec| spec.segments[0].bound.constant = (1 << 54) + 1), bound(0));
        assert_eq!(with(|spec| spec.segments[0].bound.scale_bits = 40), bound(0));
        assert_eq!(with(|spec| spec.segments[0].bound.scale_bits = u32::MAX), bound(0));
        // Each by itself is fine, together they are not.
        assert_eq!(
            with(|spec| spec.segments = vec![Segment { len: 9, bound: NormBound::constant(1 << 53) }; 3]),
            bound(2)
        );
        assert_eq!(
            with(|spec| {
                spec.weight = Some(Interval { low: 0, high: 1 << 40 });
                spec.segments[0].bound.per_square = u64::MAX;
            }),
            bound(0)
        );
        assert!(matches!(with(|spec| spec.segments[0].bound.per_weight = 1), ClaimError::Weight { .. }));
        assert!(matches!(with(|spec| spec.weight = Some(Interval { low: -1, high: 1 })), ClaimError::Interval { .. }));
        assert!(matches!(with(|spec| spec.entries = Some(Interval { low: 2, high: 1 })), ClaimError::Interval { .. }));
        assert!(matches!(
            with(|spec| spec.values = vec![Interval { low: i64::MIN, high: i64::MAX }]),
            ClaimError::Interval { .. }
        ));
        assert_eq!(
            with(|spec| spec.values = vec![Interval::only(0); 1025]),
            ClaimError::TooManyValues { values: 1025 }
        );
        assert!(matches!(with(|spec| spec.centre = Some(vec![0; 99])), ClaimError::Centre { len: 100 }));
        assert!(matches!(with(|spec| spec.centre = Some(vec![i32::MIN; 100])), ClaimError::Centre { len: 100 }));
        assert!(matches!(
            with(|spec| {
                spec.centre = Some(vec![0; 100]);
                spec.weight = Some(Interval { low: 0, high: 2 });
            }),
            ClaimError::Weight { .. }
        ));
        assert!(matches!(
            with(|spec| {
                spec.segments[0].len = 1 << 20;
                spec.entries = Some(Interval { low: 0, high: 3 });
            }),
            ClaimError::TooManyBits { bits: 2_097_152 }
        ));
    }

    #[test]
    fn every_part_of_a_claim_is_in_its_digest() {
        let base = ClaimSpec {
            segments: vec![
                Segment {
                    len: 3,
                    bound: NormBound { scale_bits: 1, per_square: 2, per_weight: 3, constant: 4 }
                };
                2
            ],
            weight: Some(Interval { low: 1, high: 1 }),
            values: vec![Interval { low: -1, high: 1 }],
            entries: Some(Interval { low: -9, high: 9 }),
            centre: Some(vec![0; 6]),
            setting: Setting::Fast,
        };
        let changes: [fn(&mut ClaimSpec); 16] = [
            |_| {},
            |spec| (spec.segments[0].len, spec.segments[1].len) = (2, 4),
            |spec| spec.segments[1].bound.scale_bits = 2,
            |spec| spec.segments[1].bound.per_square = 1,
            |spec| spec.segments[0].bound.per_weight = 1,
            |spec| spec.segments[0].bound.constant = 5,
            |spec| spec.weight = Some(Interval::only(2)),
            |spec| spec.values[0].low = 0,
            |spec| spec.values[0].high = 2,
            |spec| spec.values.push(Interval::only(0)),
            |spec| spec.values.clear(),
            |spec| spec.entries = None,
            |spec| spec.entries = Some(Interval { low: -9, high: 8 }),
            |spec| spec.centre = None,
            |spec| spec.centre = Some(vec![0, 0, 0, 0, 0, 1]),
            |spec| spec.setting = Setting::Small,
        ];
        let mut digests: Vec<_> = changes
            .iter()
            .map(|change| {
                let mut spec = base.clone();
                change(&mut spec);
                *Claim::new(spec).expect("a claim").digest()
            })
            .collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), changes.len());
    }
}
