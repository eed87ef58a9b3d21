//! What an optimiser remembers between rounds, and the one file that a state has.

use sordino_codec::{Dtype, FileLimits, Layout, LayoutError, ModelFileError, TensorSpec, Tensors, TensorsError};

/// Momentum, and second moments where the rule has them; one f32 for each value of the model, in the order of its flat
/// vector. All are finite, and no second moment is negative. What it holds is public.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    momentum: Vec<f32>,
    second: Option<Vec<f32>>,
}

/// Why bytes or values are no state, or not the one that a step needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file is no tensors in canonical form.
    #[error("it is no file of tensors: {0}")]
    File(String),
    /// The tensors are not those of such an optimiser over such a model.
    #[error("it does not hold {expected}")]
    Tensors {
        /// What belongs there.
        expected: String,
    },
    /// A value is not a finite f32: updates have diverged.
    #[error("a value of it is out of range")]
    Value(#[from] TensorsError),
    /// A second moment below 0.
    #[error("second moment {index} is negative")]
    Negative {
        /// Which one.
        index: usize,
    },
    /// A state for an optimiser that remembers nothing.
    #[error("this optimiser remembers nothing, and a state was given")]
    Superfluous,
    /// None for one that does.
    #[error("this optimiser goes on from a state, and none was given")]
    Missing,
}

impl State {
    /// Momentum 0, and second moments of this size.
    pub(crate) fn zero(len: usize, second: Option<f32>) -> Self {
        Self { momentum: vec![0.0; len], second: second.map(|second| vec![second; len]) }
    }

    /// Checks the values.
    pub(crate) fn new(momentum: Vec<f32>, second: Option<Vec<f32>>) -> Result<Self, StateError> {
        if let Some(index) = second.iter().flatten().position(|v| *v < 0.0) {
            return Err(StateError::Negative { index });
        }
        let state = Self { momentum, second };
        state.tensors()?;
        Ok(state)
    }

    /// The parts of the state that a step needs, if it is of this shape; without second moments, none of them.
    pub(crate) fn some(state: Option<&Self>, len: usize, second: bool) -> Result<(&[f32], &[f32]), StateError> {
        let state = state.ok_or(StateError::Missing)?;
        if state.momentum.len() != len || state.second.is_some() != second {
            return Err(wanted(len, second));
        }
        Ok((state.momentum(), state.second_moment()))
    }

    pub(crate) fn none(state: Option<&Self>) -> Result<(), StateError> {
        if state.is_some() { Err(StateError::Superfluous) } else { Ok(()) }
    }

    /// m of the adaptive rules, v of `FedAvgM`.
    #[must_use]
    pub fn momentum(&self) -> &[f32] {
        &self.momentum
    }

    /// v of the adaptive rules; empty where the rule has none.
    #[must_use]
    pub fn second_moment(&self) -> &[f32] {
        self.second.as_deref().unwrap_or_default()
    }

    /// The file: safetensors in canonical form, as a model's, with the F32 vectors `momentum` and, where there are any,
    /// `second_moment`.
    ///
    /// # Panics
    /// Never: a state's values were checked when it was made.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.tensors().expect("a state holds at least one value, and finite ones only").to_safetensors()
    }

    /// Reads a file, which has to be the one that [`State::to_bytes`] makes.
    ///
    /// - `model_len`: values of the model.
    /// - `second`: whether the rule has second moments.
    ///
    /// # Errors
    /// [`StateError`]: anything else. Nothing is allocated for a file longer than a state of that size.
    pub fn from_bytes(bytes: &[u8], model_len: usize, second: bool) -> Result<Self, StateError> {
        let limits = FileLimits {
            max_file_bytes: Self::file_len_max(model_len),
            max_values: 2 * model_len,
            max_tensors: 2,
            ..FileLimits::default()
        };
        let unreadable = |error: ModelFileError| StateError::File(error.to_string());
        let tensors = Tensors::from_canonical(bytes, &limits).map_err(unreadable)?;
        if *tensors.layout() != layout(model_len, second).map_err(|_| wanted(model_len, second))? {
            return Err(wanted(model_len, second));
        }
        let (_, mut momentum) = tensors.into_parts();
        let second = second.then(|| momentum.split_off(model_len));
        Self::new(momentum, second)
    }

    /// Bytes of a state's file, at most.
    #[must_use]
    pub fn file_len_max(model_len: usize) -> usize {
        model_len.saturating_mul(2 * size_of::<f32>()).saturating_add(HEADER_MAX)
    }

    fn tensors(&self) -> Result<Tensors, TensorsError> {
        let len = self.momentum.len();
        let layout = layout(len, self.second.is_some()).map_err(|_| TensorsError::Length { expected: 1, got: len })?;
        Tensors::new(layout, self.momentum.iter().chain(self.second.iter().flatten()).copied().collect())
    }
}

/// Flat vectors, not the model's tensors: a name before those could be longer than a name may be.
fn layout(len: usize, second: bool) -> Result<Layout, LayoutError> {
    let names = [MOMENTUM, SECOND_MOMENT].into_iter().take(1 + usize::from(second));
    let specs = names.map(|name| TensorSpec::new(name, vec![len], Dtype::F32)).collect::<Result<_, _>>()?;
    Layout::new(specs, len.saturating_mul(2))
}

fn wanted(len: usize, second: bool) -> StateError {
    let vectors = if second { "the vectors momentum and second_moment" } else { "the vector momentum" };
    StateError::Tensors { expected: format!("{vectors} of {len} values in F32") }
}

const MOMENTUM: &str = "momentum";
const SECOND_MOMENT: &str = "second_moment";
/// Bytes of the header and its length, at most: it names two vectors.
const HEADER_MAX: usize = 512;
