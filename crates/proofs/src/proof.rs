//! What travels: a participant's commitments, its proof, and their bytes.
//!
//! Every length follows from the claim, so the bytes contain none. Integers are little-endian; a point is the 32 bytes of
//! ristretto255 and never the identity, a scalar is canonical.

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;

use crate::argument::Shape;
use crate::claim::{Claim, Setting};
use crate::projection::ROWS;
use crate::transcript::VERSION;

/// Commitments of one participant's integers: sent before anything is proven, published with the release.
#[derive(Clone, PartialEq, Eq)]
pub struct Commitments {
    /// One for each row of integers, perfectly hiding.
    pub(crate) rows: Vec<CompressedRistretto>,
    /// Of the projections' masks.
    pub(crate) masks: Vec<CompressedRistretto>,
}

/// That committed integers are within the claim's bounds.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// `z = y + A x`, within the masks' range.
    pub(crate) projections: Vec<i128>,
    /// Of what is left to each segment's bound.
    pub(crate) slacks: Vec<CompressedRistretto>,
    pub(crate) main: ArgumentProof,
    /// Where a range has a bit.
    pub(crate) ranges: Option<RangesProof>,
    /// That each slack is in `[0, 2^64)`: Bulletproofs+.
    pub(crate) bounds: Vec<u8>,
}

/// That committed rows are bits, and make the integers that have a range.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RangesProof {
    pub rows: Vec<CompressedRistretto>,
    /// Their share of the linear claim.
    pub share: CompressedRistretto,
    pub argument: ArgumentProof,
}

/// See [`crate::argument`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ArgumentProof {
    /// Cross terms of the first fold.
    pub first: Vec<CompressedRistretto>,
    /// Cross terms of each halving.
    pub folds: Vec<[CompressedRistretto; 2]>,
    /// Masks of the last row, of its second fold, of the linear and of the constant term.
    pub last_masks: [CompressedRistretto; 4],
    /// Blindings of the row, of its second fold, and of the value.
    pub blindings: [Scalar; 3],
    pub finish: Finish,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    Rows { x: Vec<Scalar>, x_down: Vec<Scalar> },
    InnerProduct { product: Scalar, steps: Vec<Step>, x: Scalar, x_down: Scalar },
}

/// One halving of the inner-product argument: the terms of `c` and of `1/c`; for `x_down` the other way round.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub x: [CompressedRistretto; 2],
    pub x_down: [CompressedRistretto; 2],
    pub product: [Scalar; 2],
}

/// Why bytes are not commitments or a proof for this claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Another length than the claim makes.
    #[error("{got} bytes where this claim has {expected}")]
    Length {
        /// How many there are.
        got: usize,
        /// How many there have to be.
        expected: usize,
    },
    /// Another version of proofs.
    #[error("proof version {got}, this is version {VERSION}")]
    Version {
        /// What stands in the bytes.
        got: u16,
    },
    /// The identity, which no honest commitment is.
    #[error("{field} is the identity")]
    Identity {
        /// Which point.
        field: &'static str,
    },
    /// Bytes that are no element of ristretto255.
    #[error("{field} is not a canonical point")]
    Point {
        /// Which point.
        field: &'static str,
    },
    /// Not below the group order.
    #[error("{field} is not a canonical scalar")]
    Scalar {
        /// Which scalar.
        field: &'static str,
    },
}

/// Bytes of a point or a scalar.
const ELEMENT: usize = 32;

impl Commitments {
    /// Bytes of any participant's commitments for this claim.
    #[must_use]
    pub fn byte_len(claim: &Claim) -> usize {
        size_of::<u16>() + ELEMENT * (claim.rows() + mask_rows(claim))
    }

    /// `version (u16), rows, masks`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.points(&self.rows);
        writer.points(&self.masks);
        writer.0
    }

    /// Reads what [`Self::to_bytes`] wrote; whether points are canonical is seen when they are used.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(claim: &Claim, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, Self::byte_len(claim))?;
        Ok(Self {
            rows: reader.points(claim.rows(), "a row commitment")?,
            masks: reader.points(mask_rows(claim), "a mask commitment")?,
        })
    }

    /// Whether there are as many as this claim has rows.
    pub(crate) fn fits(&self, claim: &Claim) -> bool {
        self.rows.len() == claim.rows() && self.masks.len() == mask_rows(claim)
    }

    /// One for each row.
    #[must_use]
    pub fn rows(&self) -> &[CompressedRistretto] {
        &self.rows
    }
}

impl std::fmt::Debug for Commitments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commitments").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Proof {
    /// Bytes of any proof for this claim.
    #[must_use]
    pub fn byte_len(claim: &Claim) -> usize {
        let argument = |shape: Shape, setting: Setting| {
            let points = shape.first_terms() + 2 * shape.halvings() + 4;
            let finish = match setting {
                Setting::Fast => 2 * shape.row_len,
                Setting::Small => 3 + 6 * shape.row_len.trailing_zeros() as usize,
            };
            ELEMENT * (points + 3 + finish)
        };
        let ranges = match claim.range_layout().rows() {
            0 => 0,
            rows => ELEMENT * (rows + 1) + argument(range_shape(claim), Setting::Fast),
        };
        size_of::<u16>()
            + size_of::<i128>() * ROWS
            + ELEMENT * claim.segments().len()
            + argument(main_shape(claim), claim.setting())
            + ranges
            + bounds_len(claim)
    }

    /// `version (u16), projections (i128 each), slacks, main argument, ranges, range proof`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for projection in &self.projections {
            writer.0.extend_from_slice(&projection.to_le_bytes());
        }
        writer.points(&self.slacks);
        writer.argument(&self.main);
        if let Some(ranges) = &self.ranges {
            writer.points(&ranges.rows);
            writer.points(&[ranges.share]);
            writer.argument(&ranges.argument);
        }
        writer.0.extend_from_slice(&self.bounds);
        writer.0
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(claim: &Claim, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, Self::byte_len(claim))?;
        let projections = (0..ROWS).map(|_| i128::from_le_bytes(reader.array())).collect();
        let slacks = reader.points(claim.segments().len(), "a slack commitment")?;
        let main = reader.argument(main_shape(claim), claim.setting())?;
        let ranges = match claim.range_layout().rows() {
            0 => None,
            rows => Some(RangesProof {
                rows: reader.points(rows, "a range row commitment")?,
                share: reader.point("the ranges' share")?,
                argument: reader.argument(range_shape(claim), Setting::Fast)?,
            }),
        };
        Ok(Self { projections, slacks, main, ranges, bounds: reader.rest.to_vec() })
    }
}

impl Proof {
    /// Whether it has exactly the parts that a proof of this claim has: `to_bytes` then writes what `from_bytes` reads.
    pub(crate) fn fits(&self, claim: &Claim) -> bool {
        let argument = |argument: &ArgumentProof, shape: Shape, setting: Setting| {
            let finish = match (&argument.finish, setting) {
                (Finish::Rows { x, x_down }, Setting::Fast) => {
                    x.len() == shape.row_len && x_down.len() == shape.row_len
                }
                (Finish::InnerProduct { steps, .. }, Setting::Small) => 1 << steps.len() == shape.row_len,
                _ => false,
            };
            finish && argument.first.len() == shape.first_terms() && argument.folds.len() == shape.halvings()
        };
        let ranges = match (&self.ranges, claim.range_layout().rows()) {
            (None, 0) => true,
            (Some(ranges), rows) => {
                rows > 0 && ranges.rows.len() == rows && argument(&ranges.argument, range_shape(claim), Setting::Fast)
            }
            (None, _) => false,
        };
        ranges
            && self.projections.len() == ROWS
            && self.slacks.len() == claim.segments().len()
            && self.bounds.len() == bounds_len(claim)
            && argument(&self.main, main_shape(claim), claim.setting())
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

/// Rows that hold the projections' masks.
pub(crate) fn mask_rows(claim: &Claim) -> usize {
    ROWS.div_ceil(claim.layout().row_len)
}

/// How the rows of integers and masks fold.
pub(crate) fn main_shape(claim: &Claim) -> Shape {
    let layout = claim.layout();
    let others = layout.rows() - layout.model_rows + mask_rows(claim);
    Shape { row_len: layout.row_len, small: layout.model_rows, others }
}

/// How the rows of bits fold.
pub(crate) fn range_shape(claim: &Claim) -> Shape {
    Shape { row_len: claim.range_layout().row_len, small: 0, others: claim.range_layout().rows() }
}

/// Bytes of the Bulletproofs+ range proof: a tag, six fixed elements, and two for each halving of its bits.
fn bounds_len(claim: &Claim) -> usize {
    let bits = 64 * claim.segments().len().next_power_of_two();
    1 + ELEMENT * (6 + 2 * bits.trailing_zeros() as usize)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(VERSION.to_le_bytes().to_vec())
    }

    fn points(&mut self, points: &[CompressedRistretto]) {
        self.0.extend(points.iter().flat_map(|point| point.to_bytes()));
    }

    fn scalars(&mut self, scalars: &[Scalar]) {
        self.0.extend(scalars.iter().flat_map(Scalar::to_bytes));
    }

    fn argument(&mut self, argument: &ArgumentProof) {
        self.points(&argument.first);
        self.points(argument.folds.as_flattened());
        self.points(&argument.last_masks);
        self.scalars(&argument.blindings);
        match &argument.finish {
            Finish::Rows { x, x_down } => {
                self.scalars(x);
                self.scalars(x_down);
            }
            Finish::InnerProduct { product, steps, x, x_down } => {
                self.scalars(&[*product]);
                for step in steps {
                    self.points(&step.x);
                    self.points(&step.x_down);
                    self.scalars(&step.product);
                }
                self.scalars(&[*x, *x_down]);
            }
        }
    }
}

/// Reads bytes whose number was checked.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], expected: usize) -> Result<Self, Malformed> {
        if bytes.len() != expected {
            return Err(Malformed::Length { got: bytes.len(), expected });
        }
        let mut reader = Self { rest: bytes };
        match u16::from_le_bytes(reader.array()) {
            VERSION => Ok(reader),
            got => Err(Malformed::Version { got }),
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (array, rest) = self.rest.split_first_chunk().expect("the number of bytes was computed from the claim");
        self.rest = rest;
        *array
    }

    fn point(&mut self, field: &'static str) -> Result<CompressedRistretto, Malformed> {
        match CompressedRistretto(self.array()) {
            identity if identity.0 == [0; ELEMENT] => Err(Malformed::Identity { field }),
            point => Ok(point),
        }
    }

    fn points(&mut self, len: usize, field: &'static str) -> Result<Vec<CompressedRistretto>, Malformed> {
        (0..len).map(|_| self.point(field)).collect()
    }

    fn scalar(&mut self, field: &'static str) -> Result<Scalar, Malformed> {
        Scalar::from_canonical_bytes(self.array()).into_option().ok_or(Malformed::Scalar { field })
    }

    fn scalars(&mut self, len: usize, field: &'static str) -> Result<Vec<Scalar>, Malformed> {
        (0..len).map(|_| self.scalar(field)).collect()
    }

    fn pair(&mut self, field: &'static str) -> Result<[CompressedRistretto; 2], Malformed> {
        Ok([self.point(field)?, self.point(field)?])
    }

    fn argument(&mut self, shape: Shape, setting: Setting) -> Result<ArgumentProof, Malformed> {
        let (mask, blinding, answer, half) = ("a last mask", "a blinding", "an answer", "a half");
        Ok(ArgumentProof {
            first: self.points(shape.first_terms(), "a cross term")?,
            folds: (0..shape.halvings()).map(|_| self.pair("a cross term")).collect::<Result<_, _>>()?,
            last_masks: [self.point(mask)?, self.point(mask)?, self.point(mask)?, self.point(mask)?],
            blindings: [self.scalar(blinding)?, self.scalar(blinding)?, self.scalar(blinding)?],
            finish: match setting {
                Setting::Fast => Finish::Rows {
                    x: self.scalars(shape.row_len, answer)?,
                    x_down: self.scalars(shape.row_len, answer)?,
                },
                Setting::Small => Finish::InnerProduct {
                    product: self.scalar(answer)?,
                    steps: (0..shape.row_len.trailing_zeros())
                        .map(|_| {
                            Ok(Step {
                                x: self.pair(half)?,
                                x_down: self.pair(half)?,
                                product: [self.scalar(half)?, self.scalar(half)?],
                            })
                        })
                        .collect::<Result<_, _>>()?,
                    x: self.scalar(answer)?,
                    x_down: self.scalar(answer)?,
                },
            },
        })
    }
}
