//! The two models of the built-in trainer: softmax regression, and a perceptron with one hidden layer of rectified
//! linear units. Loss is the mean cross-entropy over a batch.
//!
//! Weights are one flat vector: per layer the bias `[outputs]`, then the weight `[outputs][inputs]`, which is the
//! ascending order of the tensors' names. The matrices are small (a batch of 32 rows, 64 features, 32 hidden units), so
//! a linear layer is dot products over contiguous rows and its gradient sums of scaled rows, which the compiler turns
//! into vector instructions.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::dataset::Dataset;
use super::random;

/// Most weights of a built-in model.
pub const MAX_PARAMETERS: usize = 1 << 26;

/// Which model, and its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Softmax regression: tensors `fc.weight` `[classes][features]` and `fc.bias` `[classes]`.
    Softmax {
        /// Inputs.
        features: usize,
        /// Outputs.
        classes: usize,
    },
    /// One hidden layer: `fc1.weight` `[hidden][features]`, `fc1.bias` `[hidden]`, `fc2.weight` `[classes][hidden]` and
    /// `fc2.bias` `[classes]`.
    Mlp {
        /// Inputs.
        features: usize,
        /// Hidden units.
        hidden: usize,
        /// Outputs.
        classes: usize,
    },
}

impl Architecture {
    /// Features a row must have.
    pub fn features(self) -> usize {
        match self {
            Self::Softmax { features, .. } | Self::Mlp { features, .. } => features,
        }
    }

    /// Classes the model tells apart.
    pub fn classes(self) -> usize {
        match self {
            Self::Softmax { classes, .. } | Self::Mlp { classes, .. } => classes,
        }
    }

    /// Number of weights.
    ///
    /// # Errors
    /// [`ModelError::Size`] if a size is 0 or there are more than [`MAX_PARAMETERS`].
    pub fn parameters(self) -> Result<usize, ModelError> {
        let mut sum = 0usize;
        for Layer { inputs, outputs } in self.layers() {
            let layer = inputs.checked_add(1).and_then(|inputs| inputs.checked_mul(outputs));
            let total = layer.and_then(|layer| layer.checked_add(sum)).filter(|&total| total <= MAX_PARAMETERS);
            sum = total.filter(|_| inputs > 0 && outputs > 0).ok_or(ModelError::Size { architecture: self })?;
        }
        Ok(sum)
    }

    /// Weights to begin with: normal with variance 2 / inputs, biases 0 (He et al. 2015, "Delving Deep into
    /// Rectifiers", section 2.2).
    ///
    /// # Errors
    /// As [`Self::parameters`].
    #[expect(clippy::cast_possible_truncation, reason = "a weight is an f32")]
    pub fn initial_values(self, seed: u64) -> Result<Vec<f32>, ModelError> {
        let mut weights = Vec::with_capacity(self.parameters()?);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for Layer { inputs, outputs } in self.layers() {
            let deviation = (2.0 / inputs as f64).sqrt();
            weights.extend(std::iter::repeat_n(0.0, outputs));
            weights.extend((0..inputs * outputs).map(|_| (deviation * random::normal(&mut rng)) as f32));
        }
        Ok(weights)
    }

    /// Whether this model can be trained and measured on these rows.
    ///
    /// # Errors
    /// [`ModelError::Features`] or [`ModelError::Classes`].
    pub fn check(self, data: &Dataset) -> Result<(), ModelError> {
        if self.features() != data.columns() {
            return Err(ModelError::Features { model: self.features(), data: data.columns() });
        }
        // A site need not have rows of every class.
        if data.classes() > self.classes() {
            return Err(ModelError::Classes { model: self.classes(), data: data.classes() });
        }
        Ok(())
    }

    fn layers(self) -> impl Iterator<Item = Layer> {
        let (first, second) = match self {
            Self::Softmax { features, classes } => (Layer { inputs: features, outputs: classes }, None),
            Self::Mlp { features, hidden, classes } => {
                (Layer { inputs: features, outputs: hidden }, Some(Layer { inputs: hidden, outputs: classes }))
            }
        };
        std::iter::once(first).chain(second)
    }
}

/// Rows of a batch: features `[rows][columns]` and labels `[rows]`.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) features: &'a [f32],
    pub(super) labels: &'a [u32],
}

/// A model at work: the buffers of its forward and backward pass, kept from batch to batch.
pub(super) struct Network {
    layers: Vec<Layer>,
    /// Output of each layer, `[rows][outputs]`; the hidden one after rectification. After the backward pass the last
    /// holds the error at the logits.
    outputs: Vec<Vec<f32>>,
    /// Error at the hidden units, `[rows][hidden]`.
    hidden_error: Vec<f32>,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct BatchResult {
    /// Cross-entropy, summed over the rows; not finite if the model's numbers overflow.
    pub(super) loss_sum: f64,
    /// Rows whose largest logit is that of their label.
    pub(super) correct: usize,
}

impl Network {
    pub(super) fn new(architecture: Architecture) -> Self {
        let layers: Vec<Layer> = architecture.layers().collect();
        Self { outputs: vec![Vec::new(); layers.len()], layers, hidden_error: Vec::new() }
    }

    /// Loss and hits of a batch.
    pub(super) fn evaluate(&mut self, weights: &[f32], batch: Batch<'_>) -> BatchResult {
        self.forward(weights, batch.features);
        self.logits_to_error(batch.labels)
    }

    /// Loss and hits of a batch, and the gradient of the *mean* loss, which overwrites `gradient` (as long as
    /// `weights`).
    pub(super) fn gradient(&mut self, weights: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> BatchResult {
        let result = self.evaluate(weights, batch);
        gradient.fill(0.0);
        match (&self.layers[..], &mut self.outputs[..]) {
            ([only], [error]) => {
                scale(error, batch.labels.len());
                only.add_gradient(batch.features, error, gradient);
            }
            ([first, second], [hidden, error]) => {
                scale(error, batch.labels.len());
                let (gradient_first, gradient_second) = gradient.split_at_mut(first.len());
                second.add_gradient(hidden, error, gradient_second);
                second.backward(&weights[first.len()..], error, &mut self.hidden_error);
                // The derivative of max(x, 0) is taken as 0 at 0.
                for (error, &output) in self.hidden_error.iter_mut().zip(hidden.iter()) {
                    *error = if output > 0.0 { *error } else { 0.0 };
                }
                first.add_gradient(batch.features, &self.hidden_error, gradient_first);
            }
            _ => unreachable!("an architecture has one or two layers"),
        }
        result
    }

    fn forward(&mut self, weights: &[f32], features: &[f32]) {
        match (&self.layers[..], &mut self.outputs[..]) {
            ([only], [logits]) => only.forward(weights, features, logits),
            ([first, second], [hidden, logits]) => {
                let (weights_first, weights_second) = weights.split_at(first.len());
                first.forward(weights_first, features, hidden);
                hidden.iter_mut().for_each(|value| *value = value.max(0.0));
                second.forward(weights_second, hidden, logits);
            }
            _ => unreachable!("an architecture has one or two layers"),
        }
    }

    /// Turns the logits into the error `softmax(logits) - one_hot(label)` and returns what they came to.
    fn logits_to_error(&mut self, labels: &[u32]) -> BatchResult {
        let classes = self.layers[self.layers.len() - 1].outputs;
        let mut result = BatchResult::default();
        let last = self.outputs.len() - 1;
        for (logits, &label) in self.outputs[last].chunks_exact_mut(classes).zip(labels) {
            let label = label as usize;
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            result.correct += usize::from(logits.iter().position(|&logit| logit == largest) == Some(label));
            // log(sum(exp(z))) with the largest z taken out, so that exp cannot overflow.
            let own = f64::from(logits[label] - largest);
            logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
            let sum: f32 = logits.iter().sum();
            result.loss_sum += f64::from(sum).ln() - own;
            logits.iter_mut().for_each(|logit| *logit /= sum);
            logits[label] -= 1.0;
        }
        result
    }
}

/// Divides the error by the number of rows: the loss is a mean.
fn scale(error: &mut [f32], rows: usize) {
    let factor = 1.0 / rows as f32;
    error.iter_mut().for_each(|value| *value *= factor);
}

/// A linear layer `y = x W^T + b`; its weights are `b` `[outputs]`, then `W` `[outputs][inputs]`.
#[derive(Clone, Copy)]
struct Layer {
    inputs: usize,
    outputs: usize,
}

impl Layer {
    fn len(self) -> usize {
        self.outputs * (self.inputs + 1)
    }

    /// `y = x W^T + b`, where `x` is `[rows][inputs]`; overwrites `y` with `[rows][outputs]`.
    fn forward(self, weights: &[f32], x: &[f32], y: &mut Vec<f32>) {
        let (bias, weight) = weights.split_at(self.outputs);
        y.clear();
        for x in x.chunks_exact(self.inputs) {
            y.extend(bias.iter().zip(weight.chunks_exact(self.inputs)).map(|(bias, weight)| bias + dot(weight, x)));
        }
    }

    /// Adds this batch's gradient: `b += sum(error)`, `W += error^T x`.
    fn add_gradient(self, x: &[f32], error: &[f32], gradient: &mut [f32]) {
        let (bias, weight) = gradient.split_at_mut(self.outputs);
        for (x, error) in x.chunks_exact(self.inputs).zip(error.chunks_exact(self.outputs)) {
            for ((&error, bias), weight) in error.iter().zip(bias.iter_mut()).zip(weight.chunks_exact_mut(self.inputs))
            {
                *bias += error;
                add_scaled(weight, error, x);
            }
        }
    }

    /// The error at the inputs, `error W`; overwrites `at_inputs` with `[rows][inputs]`.
    fn backward(self, weights: &[f32], error: &[f32], at_inputs: &mut Vec<f32>) {
        let weight = &weights[self.outputs..];
        at_inputs.clear();
        at_inputs.resize(error.len() / self.outputs * self.inputs, 0.0);
        for (at_inputs, error) in at_inputs.chunks_exact_mut(self.inputs).zip(error.chunks_exact(self.outputs)) {
            for (&error, weight) in error.iter().zip(weight.chunks_exact(self.inputs)) {
                add_scaled(at_inputs, error, weight);
            }
        }
    }
}

/// Independent partial sums of a dot product: floating-point addition may not be reordered by the compiler, so the
/// lanes of a vector register have to be written out.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

fn add_scaled(sum: &mut [f32], factor: f32, values: &[f32]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// Why a model cannot be used with the built-in trainer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A size is 0, or there are too many weights.
    #[error(
        "{architecture:?} is refused: each size must be at least 1 and all weights together at most {MAX_PARAMETERS}"
    )]
    Size {
        /// The model.
        architecture: Architecture,
    },
    /// The tensors are not those of a built-in model.
    #[error(
        "the model's tensors are {found}: the built-in trainer knows fc.weight [classes, features] with fc.bias, and \
         fc1.weight [hidden, features], fc1.bias, fc2.weight [classes, hidden], fc2.bias; train others with --exec"
    )]
    Unknown {
        /// Names and shapes found, the first few.
        found: String,
    },
    /// Rows have another number of features.
    #[error("the model takes {model} features, the data has {data}")]
    Features {
        /// Features of the model.
        model: usize,
        /// Features of the data.
        data: usize,
    },
    /// The data has classes the model lacks.
    #[error("the model has {model} classes, the data has {data}")]
    Classes {
        /// Classes of the model.
        model: usize,
        /// Classes of the data.
        data: usize,
    },
    /// Sizes that are no layout of tensors.
    #[error(transparent)]
    Layout(#[from] sordino_codec::LayoutError),
    /// The tensors cannot hold the weights.
    #[error(transparent)]
    Tensors(#[from] sordino_codec::TensorsError),
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking and uses small numbers"
)]
mod tests;
