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

    /// Weights to begin with. Of the perceptron: normal with variance 2 / inputs, biases 0 (He et al. 2015, "Delving Deep
    /// into Rectifiers", section 2.2). Softmax regression begins at 0, whatever the seed: it has no symmetry to break, its
    /// loss is convex, and rounds whose updates are clipped or noised would first have to undo what chance put there.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    #[expect(clippy::cast_possible_truncation, reason = "a weight is an f32")]
    pub fn initial_values(self, seed: u64) -> Result<Vec<f32>, ModelError> {
        let parameters = self.parameters()?;
        if let Self::Softmax { .. } = self {
            return Ok(vec![0.0; parameters]);
        }
        let mut weights = Vec::with_capacity(parameters);
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
        let mut result = BatchResult::default();
        self.evaluate_each(weights, batch, |loss, correct| {
            result.loss_sum += loss;
            result.correct += usize::from(correct);
        });
        result
    }

    /// Tells `each` of every row, in order, its cross-entropy, which may be no finite number, and whether its largest
    /// logit is that of its label. What is told of a row depends on no other row.
    pub(super) fn evaluate_each(&mut self, weights: &[f32], batch: Batch<'_>, each: impl FnMut(f64, bool)) {
        self.forward(weights, batch.features);
        self.logits_to_error(batch.labels, each);
    }

    /// Loss and hits of a batch, and the gradient of the *mean* loss, which overwrites `gradient` (as long as
    /// `weights`).
    pub(super) fn gradient(&mut self, weights: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> BatchResult {
        let result = self.evaluate(weights, batch);
        let last = self.outputs.len() - 1;
        scale(&mut self.outputs[last], batch.labels.len());
        self.backward(weights);
        gradient.fill(0.0);
        match (&self.layers[..], &self.outputs[..]) {
            ([only], [error]) => only.add_gradient(batch.features, error, gradient),
            ([first, second], [hidden, error]) => {
                let (gradient_first, gradient_second) = gradient.split_at_mut(first.len());
                second.add_gradient(hidden, error, gradient_second);
                first.add_gradient(batch.features, &self.hidden_error, gradient_first);
            }
            _ => unreachable!("an architecture has one or two layers"),
        }
        result
    }

    /// The gradient of every row's own loss, in order. What is said of a row depends on no other row.
    pub(super) fn example_gradients<'a>(
        &'a mut self,
        weights: &[f32],
        batch: Batch<'a>,
    ) -> impl Iterator<Item = ExampleGradient<'a>> {
        self.evaluate_each(weights, batch, |_, _| ());
        self.backward(weights);
        let Self { layers, outputs, hidden_error } = &*self;
        (0..batch.labels.len()).map(move |row| match (&layers[..], &outputs[..]) {
            ([only], [error]) => ExampleGradient { first: only.part(row, batch.features, error), second: None },
            ([first, second], [hidden, error]) => ExampleGradient {
                first: first.part(row, batch.features, hidden_error),
                second: Some(second.part(row, hidden, error)),
            },
            _ => unreachable!("an architecture has one or two layers"),
        })
    }

    /// The error at the hidden units, if there are any, from that at the logits.
    fn backward(&mut self, weights: &[f32]) {
        if let ([first, second], [hidden, error]) = (&self.layers[..], &self.outputs[..]) {
            second.backward(&weights[first.len()..], error, &mut self.hidden_error);
            // The derivative of max(x, 0) is taken as 0 at 0.
            for (error, &output) in self.hidden_error.iter_mut().zip(hidden) {
                *error = if output > 0.0 { *error } else { 0.0 };
            }
        }
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

    /// Turns the logits into the error `softmax(logits) - one_hot(label)` and tells `each` what they came to.
    fn logits_to_error(&mut self, labels: &[u32], mut each: impl FnMut(f64, bool)) {
        let classes = self.layers[self.layers.len() - 1].outputs;
        let last = self.outputs.len() - 1;
        for (logits, &label) in self.outputs[last].chunks_exact_mut(classes).zip(labels) {
            let label = label as usize;
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let correct = logits.iter().position(|&logit| logit == largest) == Some(label);
            // log(sum(exp(z))) with the largest z taken out, so that exp cannot overflow.
            let own = f64::from(logits[label] - largest);
            logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
            let sum: f32 = logits.iter().sum();
            each(f64::from(sum).ln() - own, correct);
            logits.iter_mut().for_each(|logit| *logit /= sum);
            logits[label] -= 1.0;
        }
    }
}

/// The gradient of one row's loss. That of a linear layer is the product of the error at its outputs with its inputs,
/// so norm and sum need no gradient written out (Goodfellow 2015, "Efficient Per-Example Gradient Computations").
pub(super) struct ExampleGradient<'a> {
    first: LayerGradient<'a>,
    second: Option<LayerGradient<'a>>,
}

impl ExampleGradient<'_> {
    /// The square of its L2 norm: per layer `|error|^2 (1 + |inputs|^2)`, the 1 for the bias. Not finite if any element
    /// is not.
    pub(super) fn squared_norm(&self) -> f64 {
        self.parts().map(|part| squared_norm(part.error) * (1.0 + squared_norm(part.inputs))).sum()
    }

    /// Adds `factor` times the gradient to `sum`, which is as long as the weights.
    pub(super) fn add_to(&self, sum: &mut [f64], factor: f64) {
        let mut rest = sum;
        for LayerGradient { layer, inputs, error } in self.parts() {
            let (here, after) = rest.split_at_mut(layer.len());
            let (bias, weight) = here.split_at_mut(layer.outputs);
            for ((&error, bias), weight) in error.iter().zip(bias).zip(weight.chunks_exact_mut(layer.inputs)) {
                let error = factor * f64::from(error);
                *bias += error;
                weight.iter_mut().zip(*inputs).for_each(|(weight, &input)| *weight += error * f64::from(input));
            }
            rest = after;
        }
    }

    fn parts(&self) -> impl Iterator<Item = &LayerGradient<'_>> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

/// A layer's part of one row's gradient.
struct LayerGradient<'a> {
    layer: Layer,
    /// `[inputs]`.
    inputs: &'a [f32],
    /// `[outputs]`.
    error: &'a [f32],
}

/// Squares of f32 and sums of them are finite in f64.
fn squared_norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
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

    /// A row's part of the gradient; `x` is `[rows][inputs]`, `error` `[rows][outputs]`.
    fn part<'a>(self, row: usize, x: &'a [f32], error: &'a [f32]) -> LayerGradient<'a> {
        let inputs = &x[row * self.inputs..][..self.inputs];
        LayerGradient { layer: self, inputs, error: &error[row * self.outputs..][..self.outputs] }
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
pub(super) mod tests;
