//! Named tensors as one flat vector.

use std::fmt;

use half::{bf16, f16};

/// How the values of a tensor are stored in a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
}

impl Dtype {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// The type of that name, or `None` for one that is not supported.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16].into_iter().find(|dtype| dtype.name() == name)
    }

    /// `value` rounded to this type, to nearest, ties to even; beyond its range it becomes infinite.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::BF16 => bf16::from_f32(value).to_f32(),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name, shape and type of one tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    /// Product of the shape.
    len: usize,
}

impl TensorSpec {
    /// A tensor of `shape`, row-major; the empty shape is a scalar.
    ///
    /// # Errors
    /// [`LayoutError`] for an empty, overlong or unprintable name, too many dimensions, or a size that overflows.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, dtype: Dtype) -> Result<Self, LayoutError> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(LayoutError::Name { name: shown(&name) });
        }
        if shape.len() > RANK_MAX {
            return Err(LayoutError::Rank { name, rank: shape.len() });
        }
        // Bytes, not values, must be countable, so that a layout can always be written.
        let len = shape.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim));
        match len.filter(|len| len.checked_mul(dtype.bytes()).is_some()) {
            Some(len) => Ok(Self { name, shape, dtype, len }),
            None => Err(LayoutError::Overflow { name }),
        }
    }

    /// Unique in its layout; 1 to [`NAME_BYTES_MAX`] bytes, no control characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Extent of each dimension, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How the values are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of values, the product of the shape.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> usize {
        self.len * self.dtype.bytes()
    }
}

/// Which tensor owns which part of the flat vector: one after the other, in ascending order of names (as bytes).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    specs: Vec<TensorSpec>,
    len: usize,
}

impl Layout {
    /// Takes tensors in ascending order of names, with at least one and at most `max_values` values together.
    ///
    /// # Errors
    /// [`LayoutError`]; an order other than ascending is refused and not repaired, since the values that go with it
    /// would silently change places.
    pub fn new(specs: Vec<TensorSpec>, max_values: usize) -> Result<Self, LayoutError> {
        if let Some([a, b]) = specs.array_windows().find(|[a, b]| a.name >= b.name) {
            return Err(match a.name == b.name {
                true => LayoutError::Duplicate { name: shown(&a.name) },
                false => LayoutError::Order { name: shown(&b.name), before: shown(&a.name) },
            });
        }
        let mut len = 0usize;
        for spec in &specs {
            len = len
                .checked_add(spec.len)
                .filter(|&len| len <= max_values)
                .ok_or_else(|| LayoutError::TooManyValues { name: shown(&spec.name), max_values })?;
        }
        if len == 0 { Err(LayoutError::Empty) } else { Ok(Self { specs, len }) }
    }

    /// Values of all tensors together, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The tensors in ascending order of names.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Each tensor with its range in the flat vector, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (&TensorSpec, std::ops::Range<usize>)> {
        self.specs.iter().scan(0, |start, spec| {
            let range = *start..*start + spec.len;
            *start = range.end;
            Some((spec, range))
        })
    }

    /// The tensor that owns value `index` and the index inside it.
    pub fn locate(&self, index: usize) -> Option<(&TensorSpec, usize)> {
        self.ranges().find(|(_, range)| range.contains(&index)).map(|(spec, range)| (spec, index - range.start))
    }
}

/// Named tensors: a layout and one flat vector of finite values.
///
/// Values of f16 and bf16 tensors are exactly representable in that type. `Debug` prints no value.
#[derive(Clone, PartialEq)]
pub struct Tensors {
    layout: Layout,
    values: Vec<f32>,
}

impl Tensors {
    /// Takes one value for each place of the layout and rounds it to its tensor's type, to nearest, ties to even.
    ///
    /// # Errors
    /// [`TensorsError::Length`] when there are more or fewer values than places, [`TensorsError::NotFinite`] for NaN,
    /// an infinity, or a value beyond the range of its type.
    pub fn new(layout: Layout, mut values: Vec<f32>) -> Result<Self, TensorsError> {
        if values.len() != layout.len() {
            return Err(TensorsError::Length { expected: layout.len(), got: values.len() });
        }
        for (spec, range) in layout.ranges() {
            for (index, value) in values[range].iter_mut().enumerate() {
                let rounded = spec.dtype.round(*value);
                if !rounded.is_finite() {
                    let (name, dtype) = (spec.name.clone(), spec.dtype);
                    return Err(TensorsError::NotFinite { name, index, value: *value, dtype });
                }
                *value = rounded;
            }
        }
        Ok(Self { layout, values })
    }

    /// Names, shapes and types.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All values in the order of the layout.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of one tensor, row-major.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let index = self.layout.specs.binary_search_by(|spec| spec.name.as_str().cmp(name)).ok()?;
        let (_, range) = self.layout.ranges().nth(index)?;
        self.values.get(range)
    }

    /// Layout and values.
    pub fn into_parts(self) -> (Layout, Vec<f32>) {
        (self.layout, self.values)
    }

    /// The update that leads from `base` to `self`: `self - base`, in f32.
    ///
    /// # Errors
    /// [`TensorsError::OtherLayout`] when names, shapes or types differ, [`TensorsError::NotFinite`] when a difference
    /// is beyond the range of f32.
    pub fn minus(&self, base: &Self) -> Result<Vec<f32>, TensorsError> {
        if let Some(difference) = self.layout_difference(&base.layout) {
            return Err(difference);
        }
        let update: Vec<f32> = self.values.iter().zip(&base.values).map(|(new, old)| new - old).collect();
        match update.iter().position(|value| !value.is_finite()) {
            None => Ok(update),
            Some(at) => {
                let (spec, index) = self.layout.locate(at).expect("an update is as long as its layout");
                Err(TensorsError::NotFinite { name: spec.name.clone(), index, value: update[at], dtype: Dtype::F32 })
            }
        }
    }

    /// The tensors that `update` leads to: `self + update`, rounded to each tensor's type.
    ///
    /// # Errors
    /// [`TensorsError::Length`] when the update has another length, [`TensorsError::NotFinite`] when a sum is NaN,
    /// infinite or beyond the range of its type.
    pub fn plus(&self, update: &[f32]) -> Result<Self, TensorsError> {
        if update.len() != self.values.len() {
            return Err(TensorsError::Length { expected: self.values.len(), got: update.len() });
        }
        let values = self.values.iter().zip(update).map(|(value, change)| value + change).collect();
        Self::new(self.layout.clone(), values)
    }

    /// The first difference between the layouts, as the error that names it.
    fn layout_difference(&self, base: &Layout) -> Option<TensorsError> {
        let (ours, theirs) = (self.layout.specs(), base.specs());
        let at = (0..ours.len().max(theirs.len())).find(|&i| ours.get(i) != theirs.get(i))?;
        let shown = |spec: Option<&TensorSpec>| match spec {
            Some(spec) => format!("{} {} {:?}", spec.name, spec.dtype, spec.shape),
            None => "no tensor".to_owned(),
        };
        Some(TensorsError::OtherLayout { index: at, expected: shown(theirs.get(at)), got: shown(ours.get(at)) })
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tensors, values) = (self.layout.specs.len(), self.values.len());
        f.debug_struct("Tensors").field("tensors", &tensors).field("values", &values).finish_non_exhaustive()
    }
}

/// A name as errors show it: escaped and cut, since it may come from anywhere.
pub(crate) fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut text: String = name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

/// Bytes of a tensor's name at most.
pub const NAME_BYTES_MAX: usize = 256;
/// Dimensions of a tensor at most.
pub const RANK_MAX: usize = 16;

/// Why tensors are not a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A name that nobody can print or refer to.
    #[error("tensor name `{name}` must have 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    Name {
        /// The name, escaped and cut.
        name: String,
    },
    /// Too many dimensions.
    #[error("tensor `{name}` has {rank} dimensions, at most {RANK_MAX} are supported")]
    Rank {
        /// The tensor.
        name: String,
        /// Its dimensions.
        rank: usize,
    },
    /// A shape whose product cannot be counted.
    #[error("the shape of tensor `{name}` has more values than this machine can address")]
    Overflow {
        /// The tensor.
        name: String,
    },
    /// Two tensors of one name.
    #[error("two tensors are named `{name}`: rename one of them")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Not in ascending order.
    #[error("tensor `{name}` comes after `{before}`: put the tensors in ascending order of names")]
    Order {
        /// The tensor that comes too late.
        name: String,
        /// The one before it.
        before: String,
    },
    /// More values than allowed.
    #[error("with tensor `{name}` the model has more than {max_values} values: raise the limit or use a smaller model")]
    TooManyValues {
        /// The tensor that crosses the limit.
        name: String,
        /// The limit.
        max_values: usize,
    },
    /// Nothing to train.
    #[error("the tensors hold no values at all: a model needs at least one")]
    Empty,
}

/// Why values and a layout do not go together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorsError {
    /// More or fewer values than places.
    #[error("the layout has places for {expected} values, but there are {got}")]
    Length {
        /// Places.
        expected: usize,
        /// Values.
        got: usize,
    },
    /// NaN, an infinity, or a value beyond its type.
    #[error("value {index} of tensor `{name}` is {value:?}, which is not a finite {dtype}: training may have diverged")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Row-major index in it.
        index: usize,
        /// The value.
        value: f32,
        /// The type that it must fit.
        dtype: Dtype,
    },
    /// Two models that are not the same one.
    #[error("tensor {index} is `{got}` where the base model has `{expected}`: both must be the same model")]
    OtherLayout {
        /// Position among the tensors.
        index: usize,
        /// Name, type and shape in the base model.
        expected: String,
        /// Name, type and shape found.
        got: String,
    },
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize], dtype: Dtype) -> TensorSpec {
        TensorSpec::new(name, shape.to_vec(), dtype).unwrap()
    }

    fn layout() -> Layout {
        let specs = vec![
            spec("a", &[2], Dtype::F16),
            spec("b", &[], Dtype::F32),
            spec("c", &[0, 3], Dtype::F32),
            spec("d", &[1, 2], Dtype::BF16),
        ];
        Layout::new(specs, 5).unwrap()
    }

    #[test]
    fn tensors_keep_names_shapes_and_places() {
        let tensors = Tensors::new(layout(), vec![1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(tensors.get("a"), Some(&[1.0, 2.0][..]));
        assert_eq!(tensors.get("b"), Some(&[3.0][..]));
        assert_eq!(tensors.get("c"), Some(&[][..]));
        assert_eq!(tensors.get("d"), Some(&[4.0, 5.0][..]));
        assert_eq!(tensors.get("e"), None);
        let (spec, index) = tensors.layout().locate(4).unwrap();
        assert_eq!((spec.name(), index), ("d", 1));
        assert!(tensors.layout().locate(5).is_none());
        assert_eq!(format!("{tensors:?}"), "Tensors { tensors: 4, values: 5, .. }");
    }

    #[test]
    fn half_precision_values_are_rounded_to_nearest_ties_to_even() {
        // 2048 to 4096 is where f16 steps by 2, 256 to 512 where bf16 steps by 2.
        let tensors = Tensors::new(layout(), vec![2049.0, 2051.0, 0.1, 257.0, 259.0]).unwrap();
        assert_eq!(tensors.values(), [2048.0, 2052.0, 0.1, 256.0, 260.0]);
    }

    #[test]
    fn values_that_are_not_finite_are_named() {
        for (at, value, name, index) in
            [(2, f32::NAN, "b", 0), (4, f32::INFINITY, "d", 1), (1, 65_520.0, "a", 1), (3, f32::MAX, "d", 0)]
        {
            let mut values = vec![0.0; 5];
            values[at] = value;
            match Tensors::new(layout(), values) {
                Err(TensorsError::NotFinite { name: got, index: i, .. }) => {
                    assert_eq!((got.as_str(), i), (name, index));
                }
                other => unreachable!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_update_leads_from_the_base_to_the_result() {
        let base = Tensors::new(layout(), vec![1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let trained = Tensors::new(layout(), vec![1.5, 1.0, -3.0, 4.0, 8.0]).unwrap();
        let update = trained.minus(&base).unwrap();
        assert_eq!(update, [0.5, -1.0, -6.0, 0.0, 3.0]);
        assert_eq!(base.plus(&update).unwrap(), trained);
        assert_eq!(base.plus(&update[1..]), Err(TensorsError::Length { expected: 5, got: 4 }));
        assert!(matches!(base.plus(&[f32::NAN; 5]), Err(TensorsError::NotFinite { index: 0, .. })));

        let other = Layout::new(vec![spec("a", &[5], Dtype::F32)], 5).unwrap();
        let other = Tensors::new(other, vec![0.0; 5]).unwrap();
        assert!(matches!(other.minus(&base), Err(TensorsError::OtherLayout { index: 0, .. })));
    }

    #[test]
    fn a_difference_beyond_f32_is_refused() {
        let one =
            |value| Tensors::new(Layout::new(vec![spec("w", &[2], Dtype::F32)], 2).unwrap(), vec![0.0, value]).unwrap();
        let error = one(f32::MAX).minus(&one(f32::MIN)).unwrap_err();
        assert!(matches!(error, TensorsError::NotFinite { index: 1, .. }), "{error}");
    }

    #[test]
    fn layouts_that_cannot_be_are_refused() {
        let new = |name: &str, shape: &[usize]| TensorSpec::new(name, shape.to_vec(), Dtype::F32);
        assert!(matches!(new("", &[1]), Err(LayoutError::Name { .. })));
        assert!(matches!(new("a\nb", &[1]), Err(LayoutError::Name { .. })));
        assert!(matches!(new(&"n".repeat(NAME_BYTES_MAX + 1), &[1]), Err(LayoutError::Name { .. })));
        assert!(matches!(new("a", &[1; RANK_MAX + 1]), Err(LayoutError::Rank { .. })));
        assert!(matches!(new("a", &[usize::MAX, 2]), Err(LayoutError::Overflow { .. })));
        assert!(matches!(new("a", &[usize::MAX / 2]), Err(LayoutError::Overflow { .. })));

        let (a, b) = (spec("a", &[3], Dtype::F32), spec("b", &[3], Dtype::F32));
        assert!(matches!(Layout::new(vec![b.clone(), a.clone()], 9), Err(LayoutError::Order { .. })));
        assert!(matches!(Layout::new(vec![a.clone(), a.clone()], 9), Err(LayoutError::Duplicate { .. })));
        assert!(matches!(Layout::new(vec![a, b], 5), Err(LayoutError::TooManyValues { .. })));
        assert_eq!(Layout::new(vec![], 9), Err(LayoutError::Empty));
        assert_eq!(Layout::new(vec![spec("a", &[0], Dtype::F32)], 9), Err(LayoutError::Empty));
        let huge = |name| spec(name, &[usize::MAX / 4], Dtype::F32);
        let all = ["a", "b", "c", "d", "e"].map(huge).to_vec();
        assert!(matches!(Layout::new(all, usize::MAX), Err(LayoutError::TooManyValues { .. })));
    }
}
