//! Z_2^b and vectors over it.

use std::fmt;

use sordino_kernel::{Bits, Lane};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `b`, the bits of the ring Z_2^b: 2 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingBits(u8);

impl RingBits {
    /// The smallest ring: one bit and a sign.
    pub const MIN: Self = Self(2);
    /// The largest ring, one machine word.
    pub const MAX: Self = Self(64);
    /// The largest ring whose elements are stored in 32-bit lanes.
    pub const NARROW_MAX: Self = Self(32);

    /// Accepts 2 to 64.
    ///
    /// # Errors
    /// [`RingError::Bits`] for anything else.
    pub fn new(bits: u8) -> Result<Self, RingError> {
        if (Self::MIN.0..=Self::MAX.0).contains(&bits) { Ok(Self(bits)) } else { Err(RingError::Bits { bits }) }
    }

    /// `b`.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Whether elements are stored in 32-bit lanes.
    pub fn is_narrow(self) -> bool {
        self <= Self::NARROW_MAX
    }

    /// The largest signed integer that the ring holds, `2^(b-1) - 1`.
    pub fn centered_max(self) -> i64 {
        i64::MAX >> (Self::MAX.0 - self.0)
    }

    /// The representative of `element` in `[-2^(b-1), 2^(b-1))`.
    #[inline]
    #[expect(clippy::cast_possible_wrap, reason = "the sign bit is moved to the top on purpose")]
    pub fn center(self, element: u64) -> i64 {
        let unused = Self::MAX.0 - self.0;
        ((element << unused) as i64) >> unused
    }
}

impl From<RingBits> for Bits {
    fn from(bits: RingBits) -> Self {
        Self::new(bits.0).expect("both hold 2 to 64")
    }
}

impl fmt::Display for RingBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A vector over Z_2^b, each element below 2^b.
///
/// It may hold a participant's input, so it is wiped when dropped and `Debug` prints its length and bits only. Equality
/// is not constant-time: compare sums, not secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct RingVector {
    bits: RingBits,
    store: Store,
}

/// Elements as [`RingVector`] stores them, one lane each. They may be secret, so there is no `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lanes<'a> {
    /// `b <= 32`.
    Narrow(&'a [u32]),
    /// `b > 32`.
    Wide(&'a [u64]),
}

/// Elements as [`RingVector`] stores them, to be changed in place by a kernel. No `Debug` here either.
#[derive(PartialEq, Eq)]
pub enum LanesMut<'a> {
    /// `b <= 32`.
    Narrow(&'a mut [u32]),
    /// `b > 32`.
    Wide(&'a mut [u64]),
}

impl RingVector {
    /// The zero vector of `len` elements. It allocates 4 or 8 bytes per element: bound `len` first.
    pub fn zeros(len: usize, bits: RingBits) -> Self {
        let store = if bits.is_narrow() { Store::Narrow(vec![0; len]) } else { Store::Wide(vec![0; len]) };
        Self { bits, store }
    }

    /// The vector of signed integers `values` mod 2^b.
    ///
    /// # Errors
    /// [`RingError::OutOfRange`] for a value outside `[-2^(b-1), 2^(b-1))`, which could not be told from another one.
    pub fn from_centered(values: &[i64], bits: RingBits) -> Result<Self, RingError> {
        let max = bits.centered_max();
        if let Some(index) = values.iter().position(|&value| value > max || value < -max - 1) {
            return Err(RingError::OutOfRange { index, bits });
        }
        let mut vector = Self::zeros(values.len(), bits);
        match &mut vector.store {
            Store::Narrow(lanes) => write_centered(lanes, values, bits),
            Store::Wide(lanes) => write_centered(lanes, values, bits),
        }
        Ok(vector)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.store {
            Store::Narrow(lanes) => lanes.len(),
            Store::Wide(lanes) => lanes.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ring.
    pub fn bits(&self) -> RingBits {
        self.bits
    }

    /// Element `index` in `[0, 2^b)`, or `None` past the end.
    pub fn get(&self, index: usize) -> Option<u64> {
        match &self.store {
            Store::Narrow(lanes) => lanes.get(index).map(|&lane| u64::from(lane)),
            Store::Wide(lanes) => lanes.get(index).copied(),
        }
    }

    /// Element `index` lifted to `[-2^(b-1), 2^(b-1))`, or `None` past the end.
    pub fn centered(&self, index: usize) -> Option<i64> {
        self.get(index).map(|element| self.bits.center(element))
    }

    /// All elements lifted to `[-2^(b-1), 2^(b-1))`, in order.
    pub fn iter_centered(&self) -> impl ExactSizeIterator<Item = i64> + '_ {
        let (narrow, wide): (&[u32], &[u64]) = match &self.store {
            Store::Narrow(lanes) => (lanes, &[]),
            Store::Wide(lanes) => (&[], lanes),
        };
        let at = move |i: usize| if wide.is_empty() { u64::from(narrow[i]) } else { wide[i] };
        (0..self.len()).map(move |i| self.bits.center(at(i)))
    }

    /// `self += other` mod 2^b.
    ///
    /// # Errors
    /// [`RingError::Mismatch`] when lengths or rings differ; nothing was changed.
    pub fn add_assign(&mut self, other: &Self) -> Result<(), RingError> {
        self.combine(other, u32::wrapping_add, u64::wrapping_add)
    }

    /// `self -= other` mod 2^b.
    ///
    /// # Errors
    /// [`RingError::Mismatch`] when lengths or rings differ; nothing was changed.
    pub fn sub_assign(&mut self, other: &Self) -> Result<(), RingError> {
        self.combine(other, u32::wrapping_sub, u64::wrapping_sub)
    }

    /// Adds signed integers, one to each element, mod 2^b.
    ///
    /// # Errors
    /// [`RingError::Mismatch`] when there are more or fewer; nothing was changed.
    pub fn add_centered(&mut self, values: &[i64]) -> Result<(), RingError> {
        fn all<L: Lane>(lanes: &mut [L], values: &[i64], bits: RingBits) {
            let mask = L::mask(bits.into());
            for (lane, value) in lanes.iter_mut().zip(values) {
                let sum = lane.to_u64().wrapping_add(value.cast_unsigned());
                *lane = L::from_u64_truncated(sum).masked(mask);
            }
        }
        let (len, bits) = (self.len(), self.bits);
        if values.len() != len {
            return Err(RingError::Mismatch { len, bits, other_len: values.len(), other_bits: bits });
        }
        match &mut self.store {
            Store::Narrow(lanes) => all(lanes, values, bits),
            Store::Wide(lanes) => all(lanes, values, bits),
        }
        Ok(())
    }

    /// The elements as they are stored.
    pub fn lanes(&self) -> Lanes<'_> {
        match &self.store {
            Store::Narrow(lanes) => Lanes::Narrow(lanes),
            Store::Wide(lanes) => Lanes::Wide(lanes),
        }
    }

    /// The elements as they are stored, for a kernel that changes them in place.
    ///
    /// The kernel keeps each lane below 2^b, as those of `sordino-kernel` do, or calls [`RingVector::reduce`] when it is
    /// done.
    pub fn lanes_mut(&mut self) -> LanesMut<'_> {
        match &mut self.store {
            Store::Narrow(lanes) => LanesMut::Narrow(lanes),
            Store::Wide(lanes) => LanesMut::Wide(lanes),
        }
    }

    /// Sets element `index`, an index of ours, to `value` mod 2^b.
    pub(crate) fn set(&mut self, index: usize, value: u64) {
        match &mut self.store {
            Store::Narrow(lanes) => lanes[index] = u32::from_u64_truncated(value).masked(u32::mask(self.bits.into())),
            Store::Wide(lanes) => lanes[index] = value.masked(u64::mask(self.bits.into())),
        }
    }

    /// Reduces each lane mod 2^b.
    pub fn reduce(&mut self) {
        fn all<L: Lane>(lanes: &mut [L], bits: RingBits) {
            let mask = L::mask(bits.into());
            for lane in lanes {
                *lane = lane.masked(mask);
            }
        }
        match &mut self.store {
            Store::Narrow(lanes) => all(lanes, self.bits),
            Store::Wide(lanes) => all(lanes, self.bits),
        }
    }

    fn combine(
        &mut self,
        other: &Self,
        narrow: impl Fn(u32, u32) -> u32,
        wide: impl Fn(u64, u64) -> u64,
    ) -> Result<(), RingError> {
        let mismatch =
            RingError::Mismatch { len: self.len(), bits: self.bits, other_len: other.len(), other_bits: other.bits };
        if self.len() != other.len() || self.bits != other.bits {
            return Err(mismatch);
        }
        match (&mut self.store, &other.store) {
            (Store::Narrow(a), Store::Narrow(b)) => zip_masked(a, b, self.bits, narrow),
            (Store::Wide(a), Store::Wide(b)) => zip_masked(a, b, self.bits, wide),
            _ => return Err(mismatch),
        }
        Ok(())
    }
}

impl fmt::Debug for RingVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingVector").field("len", &self.len()).field("bits", &self.bits.0).finish_non_exhaustive()
    }
}

impl Zeroize for RingVector {
    /// Wipes the elements; the vector is empty afterwards.
    fn zeroize(&mut self) {
        match &mut self.store {
            Store::Narrow(lanes) => lanes.zeroize(),
            Store::Wide(lanes) => lanes.zeroize(),
        }
    }
}

impl Drop for RingVector {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for RingVector {}

/// The lanes themselves; the width follows from `b` and never changes.
#[derive(Clone, PartialEq, Eq)]
enum Store {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

fn zip_masked<L: Lane>(a: &mut [L], b: &[L], bits: RingBits, op: impl Fn(L, L) -> L) {
    let mask = L::mask(bits.into());
    for (a, &b) in a.iter_mut().zip(b) {
        *a = op(*a, b).masked(mask);
    }
}

fn write_centered<L: Lane>(lanes: &mut [L], values: &[i64], bits: RingBits) {
    let mask = L::mask(bits.into());
    for (lane, &value) in lanes.iter_mut().zip(values) {
        *lane = L::from_u64_truncated(value.cast_unsigned()).masked(mask);
    }
}

/// What does not fit a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// No such ring.
    #[error("a ring of {bits} bits is not supported: choose 2 to 64")]
    Bits {
        /// What was asked for.
        bits: u8,
    },
    /// A signed value has no representative of its own.
    #[error("value {index} does not fit a ring of {bits} bits with its sign: use a larger ring")]
    OutOfRange {
        /// Position of the value.
        index: usize,
        /// The ring.
        bits: RingBits,
    },
    /// Two vectors that cannot be combined.
    #[error(
        "a vector of {other_len} values in {other_bits} bits cannot be combined with one of {len} values in {bits} bits"
    )]
    Mismatch {
        /// Length of the vector to be changed.
        len: usize,
        /// Ring of the vector to be changed.
        bits: RingBits,
        /// Length of the other one.
        other_len: usize,
        /// Ring of the other one.
        other_bits: RingBits,
    },
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn only_two_to_sixty_four_bits_are_rings() {
        for bits in 0..=u8::MAX {
            assert_eq!(RingBits::new(bits).is_ok(), (2..=64).contains(&bits), "{bits}");
        }
    }

    #[test]
    fn centered_values_survive_in_every_ring() {
        for b in 2..=64 {
            let bits = RingBits::new(b).unwrap();
            let max = bits.centered_max();
            let values = [0, 1, -1, max, -max, -max - 1];
            let vector = RingVector::from_centered(&values, bits).unwrap();
            assert!(vector.iter_centered().eq(values), "b = {b}");
            assert_eq!(vector.centered(5), Some(-max - 1));
            assert_eq!(vector.get(6), None);
            assert_eq!(matches!(vector.lanes(), Lanes::Narrow(_)), b <= 32);
            if b < 64 {
                let error = RingError::OutOfRange { index: 1, bits };
                assert_eq!(RingVector::from_centered(&[0, max + 1], bits), Err(error));
                assert_eq!(RingVector::from_centered(&[0, -max - 2], bits), Err(error));
            }
        }
    }

    #[test]
    fn addition_wraps_and_subtraction_undoes_it() {
        for b in 2..=64 {
            let bits = RingBits::new(b).unwrap();
            let max = bits.centered_max();
            let start = RingVector::from_centered(&[max, -max, 1], bits).unwrap();
            let other = RingVector::from_centered(&[1, max, -1], bits).unwrap();
            let mut sum = start.clone();
            sum.add_assign(&other).unwrap();
            assert!(sum.iter_centered().eq([-max - 1, 0, 0]), "b = {b}");
            sum.sub_assign(&other).unwrap();
            assert_eq!(sum, start, "b = {b}");
        }
    }

    #[test]
    fn other_lengths_and_rings_are_refused() {
        let bits = |b| RingBits::new(b).unwrap();
        let mut vector = RingVector::zeros(2, bits(32));
        assert!(vector.add_assign(&RingVector::zeros(3, bits(32))).is_err());
        assert!(vector.add_assign(&RingVector::zeros(2, bits(31))).is_err());
        assert!(vector.sub_assign(&RingVector::zeros(2, bits(33))).is_err());
    }

    #[test]
    fn lanes_written_by_a_kernel_are_reduced() {
        let mut vector = RingVector::zeros(2, RingBits::new(5).unwrap());
        if let LanesMut::Narrow(lanes) = vector.lanes_mut() {
            lanes.copy_from_slice(&[33, 31]);
        }
        vector.reduce();
        assert_eq!((vector.get(0), vector.get(1)), (Some(1), Some(31)));
    }

    #[test]
    fn debug_shows_no_value() {
        let vector = RingVector::from_centered(&[12345], RingBits::new(20).unwrap()).unwrap();
        assert_eq!(format!("{vector:?}"), "RingVector { len: 1, bits: 20, .. }");
    }

    #[test]
    fn wiping_leaves_nothing() {
        let mut vector = RingVector::from_centered(&[1, 2, 3], RingBits::new(40).unwrap()).unwrap();
        vector.zeroize();
        assert!(vector.is_empty());
    }
}
