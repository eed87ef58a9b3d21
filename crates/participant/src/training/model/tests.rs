use super::*;

const SOFTMAX: Architecture = Architecture::Softmax { features: 19, classes: 4 };
const MLP: Architecture = Architecture::Mlp { features: 19, hidden: 17, classes: 4 };
const ROWS: usize = 6;
/// Step of the central difference, small beside the distance to the kinks of the rectifier.
const STEP: f64 = 1e-6;

/// Mean cross-entropy straight from the formulas, in f64, sharing no line with the code under test.
fn reference_loss(architecture: Architecture, weights: &[f64], features: &[f32], labels: &[u32]) -> f64 {
    let linear = |weights: &[f64], x: &[f64], outputs: usize| -> Vec<f64> {
        let inputs = x.len();
        (0..outputs)
            .map(|o| weights[o] + (0..inputs).map(|i| weights[outputs + o * inputs + i] * x[i]).sum::<f64>())
            .collect()
    };
    let mut sum = 0.0;
    for (row, &label) in labels.iter().enumerate() {
        let columns = architecture.features();
        let x: Vec<f64> = (0..columns).map(|c| f64::from(features[row * columns + c])).collect();
        let logits = match architecture {
            Architecture::Softmax { classes, .. } => linear(weights, &x, classes),
            Architecture::Mlp { features, hidden, classes } => {
                let activations: Vec<f64> = linear(weights, &x, hidden).iter().map(|v| v.max(0.0)).collect();
                linear(&weights[hidden * (features + 1)..], &activations, classes)
            }
        };
        sum += logits.iter().map(|z| z.exp()).sum::<f64>().ln() - logits[label as usize];
    }
    sum / labels.len() as f64
}

/// Weights, features and labels.
pub(in crate::training) fn random_rows(
    architecture: Architecture,
    rows: usize,
    seed: u64,
) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = architecture.initial_values(seed).unwrap();
    // Biases away from 0 too, or their part would be tested at a special point.
    weights.iter_mut().for_each(|weight| *weight += 0.1 * random::normal(&mut rng) as f32);
    let features = (0..rows * architecture.features()).map(|_| random::normal(&mut rng) as f32).collect();
    let labels = (0..rows).map(|_| random::below(&mut rng, architecture.classes()) as u32).collect();
    (weights, features, labels)
}

/// Every component of the gradient is that of central differences of an independent loss in f64.
#[test]
fn gradients_are_those_of_finite_differences() {
    for architecture in [SOFTMAX, MLP] {
        for seed in 0..5 {
            let (weights, features, labels) = random_rows(architecture, ROWS, seed);
            let mut gradient = vec![f32::NAN; weights.len()];
            let batch = Batch { features: &features, labels: &labels };
            let result = Network::new(architecture).gradient(&weights, batch, &mut gradient);

            let mut wide: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
            let loss = reference_loss(architecture, &wide, &features, &labels);
            assert!((result.loss_sum / ROWS as f64 - loss).abs() < 1e-5, "{architecture:?}, seed {seed}");
            for at in 0..wide.len() {
                let weight = wide[at];
                wide[at] = weight + STEP;
                let above = reference_loss(architecture, &wide, &features, &labels);
                wide[at] = weight - STEP;
                let below = reference_loss(architecture, &wide, &features, &labels);
                wide[at] = weight;
                let (want, got) = ((above - below) / (2.0 * STEP), f64::from(gradient[at]));
                let error = (got - want).abs();
                assert!(
                    error < 2e-6 + 1e-4 * want.abs(),
                    "{architecture:?}, seed {seed}, weight {at}: {got}, not {want}"
                );
            }
        }
    }
}

/// With all weights 0 every class is equally likely: the loss is ln(classes), and ties go to the first class.
#[test]
fn an_empty_model_guesses() {
    for architecture in [SOFTMAX, MLP] {
        let weights = vec![0.0; architecture.parameters().unwrap()];
        let features = vec![1.0; 2 * architecture.features()];
        let result = Network::new(architecture).evaluate(&weights, Batch { features: &features, labels: &[0, 1] });
        assert!((result.loss_sum - 2.0 * 4f64.ln()).abs() < 1e-6);
        assert_eq!(result.correct, 1);
    }
}

/// Logits that would overflow exp give the right loss; weights that are no numbers give a loss that says so.
#[test]
fn extreme_logits() {
    let architecture = Architecture::Softmax { features: 1, classes: 2 };
    let batch = Batch { features: &[1.0], labels: &[1] };
    let mut network = Network::new(architecture);
    assert_eq!(network.evaluate(&[1000.0, 0.0, 0.0, 0.0], batch).loss_sum, 1000.0);
    assert!(network.evaluate(&[f32::NAN, 0.0, 0.0, 0.0], batch).loss_sum.is_nan());
    assert!(!network.evaluate(&[f32::MAX, 0.0, f32::MAX, 0.0], batch).loss_sum.is_finite());
}

#[test]
fn initial_weights_have_the_variance_of_their_layer() {
    let architecture = Architecture::Mlp { features: 200, hidden: 100, classes: 50 };
    let weights = architecture.initial_values(7).unwrap();
    assert_eq!(weights, architecture.initial_values(7).unwrap());
    assert_ne!(weights, architecture.initial_values(8).unwrap());
    assert_eq!(weights.len(), 100 + 20_000 + 50 + 5_000);
    assert!(weights[..100].iter().chain(&weights[20_100..20_150]).all(|&bias| bias == 0.0));
    for (layer, inputs) in [(&weights[100..20_100], 200.0), (&weights[20_150..], 100.0)] {
        let variance = layer.iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>() / layer.len() as f64;
        assert!((variance * inputs / 2.0 - 1.0).abs() < 0.1, "{variance}");
    }
}

#[test]
fn softmax_regression_begins_at_zero() {
    let softmax = Architecture::Softmax { features: 64, classes: 10 };
    assert_eq!(softmax.initial_values(7).unwrap(), [0.0; 650]);
}

#[test]
fn impossible_sizes_are_refused() {
    for architecture in [
        Architecture::Softmax { features: 0, classes: 2 },
        Architecture::Softmax { features: 2, classes: 0 },
        Architecture::Mlp { features: 2, hidden: 0, classes: 2 },
        Architecture::Softmax { features: usize::MAX, classes: 2 },
        Architecture::Mlp { features: 1 << 20, hidden: 1 << 20, classes: 2 },
    ] {
        assert!(matches!(architecture.parameters(), Err(ModelError::Size { .. })), "{architecture:?}");
    }
    let data = Dataset::new(vec![0.0; 4], vec![0, 2], 2, 3).unwrap();
    let softmax = |features, classes| Architecture::Softmax { features, classes }.check(&data);
    assert!(softmax(2, 3).is_ok() && softmax(2, 4).is_ok());
    assert!(matches!(softmax(3, 3), Err(ModelError::Features { model: 3, data: 2 })));
    assert!(matches!(softmax(2, 2), Err(ModelError::Classes { model: 2, data: 3 })));
}
