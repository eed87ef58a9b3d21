//! Sums of gradients of single rows, each clipped: what DP-SGD adds noise to.

use super::{Batch, Layer, Network};

impl Network {
    /// Adds to `sum` (as long as `weights`) the gradient of the loss of each row, scaled down to an L2 norm of `clip`
    /// where it is longer.
    ///
    /// No row's gradient is ever written out. For each layer it is the outer product of the error at the outputs and
    /// `[1, inputs]`, so its square norm is `|error|^2 (1 + |inputs|^2)` (Goodfellow 2015, "Efficient Per-Example
    /// Gradient Computations", section 4), and the layers' add up. From the f32 errors and inputs on, all is f64: norms
    /// to a part in `parameters * 2^-53`, so that a row's part of the sum is at most that much longer than `clip`, which
    /// the noise allows for.
    ///
    /// A row adds nothing if its norm is not finite: activations overflow, or 0 meets infinity. That depends on the
    /// row and the weights alone, so the row's part of the sum stays a bounded function of the row.
    pub(in crate::training) fn add_clipped(&mut self, weights: &[f32], batch: Batch<'_>, clip: f64, sum: &mut [f64]) {
        self.evaluate(weights, batch);
        self.backward(weights);
        let passes: Vec<(Layer, &[f32], &[f32])> = self.passes(batch.features).collect();
        let mut wide = Vec::new();
        for row in 0..batch.labels.len() {
            let square: f64 = passes
                .iter()
                .map(|&(layer, inputs, errors)| {
                    square_norm(layer.errors_of(errors, row)) * (1.0 + square_norm(layer.inputs_of(inputs, row)))
                })
                .sum();
            let Some(factor) = factor(square.sqrt(), clip) else { continue };
            let mut rest = &mut *sum;
            for &(layer, inputs, errors) in &passes {
                let (part, after) = rest.split_at_mut(layer.len());
                wide.clear();
                wide.extend(layer.inputs_of(inputs, row).iter().copied().map(f64::from));
                layer.add_outer(factor, layer.errors_of(errors, row), &wide, part);
                rest = after;
            }
        }
    }
}

impl Layer {
    fn inputs_of(self, inputs: &[f32], row: usize) -> &[f32] {
        &inputs[row * self.inputs..][..self.inputs]
    }

    fn errors_of(self, errors: &[f32], row: usize) -> &[f32] {
        &errors[row * self.outputs..][..self.outputs]
    }

    /// `b += factor error`, `W += factor error^T x`, of one row.
    fn add_outer(self, factor: f64, error: &[f32], x: &[f64], sum: &mut [f64]) {
        let (bias, weight) = sum.split_at_mut(self.outputs);
        for ((&error, bias), weight) in error.iter().zip(bias).zip(weight.chunks_exact_mut(self.inputs)) {
            let scaled = factor * f64::from(error);
            *bias += scaled;
            for (weight, &x) in weight.iter_mut().zip(x) {
                *weight += scaled * x;
            }
        }
    }
}

/// What a vector of this norm is multiplied by to be at most `clip` long; none where the norm is no number to scale by.
fn factor(norm: f64, clip: f64) -> Option<f64> {
    // Comparisons with NaN are false: it must not pass as short.
    match norm.is_finite() {
        true if norm > clip => Some(clip / norm),
        true => Some(1.0),
        false => None,
    }
}

/// In f64, where no f32 overflows when squared; in as many lanes as let the compiler use vectors.
fn square_norm(values: &[f32]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>()
}

const LANES: usize = 8;
