use super::*;
use crate::training::model::tests::random_rows;
use crate::training::{BuiltinTrainer, RoundInfo, Trainer, evaluate, random};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use sordino_codec::Tensors;
use sordino_dp::Mechanism;

const SOFTMAX: Architecture = Architecture::Softmax { features: 19, classes: 4 };
const MLP: Architecture = Architecture::Mlp { features: 19, hidden: 17, classes: 4 };
const ROWS: usize = 12;
/// What rounding may add to the clip, relative.
const SLACK: f64 = 1.0 / (1 << 20) as f64;

fn privacy() -> RecordPrivacy {
    let record_max = BTreeMap::from([(METRIC_LOSS_SUM.to_owned(), 4.0), (METRIC_CORRECT.to_owned(), 1.0)]);
    RecordPrivacy { example_clip: 1.0, noise_multiplier: 1.0, sampling_rate: 0.1, steps: 1, record_max }
}

fn plain(learning_rate: f64, batch_size: u32) -> Hyperparameters {
    Hyperparameters { local_epochs: 1, batch_size, learning_rate, momentum: 0.0 }
}

fn fixed(seed: u64) -> Randomness {
    Randomness { draws: Box::new(ChaCha20Rng::seed_from_u64(seed)), noise: NoiseRng::predictable(seed) }
}

fn clipped_sum(architecture: Architecture, weights: &[f32], features: &[f32], labels: &[u32], clip: f64) -> Vec<f64> {
    let mut sum = vec![0.0; weights.len()];
    add_clipped(&mut Network::new(architecture), weights, Batch { features, labels }, clip, &mut sum);
    sum
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Norm and sum without the gradient written out are those of the gradient written out, one row at a time.
#[test]
fn closed_forms_are_those_of_the_gradient() {
    for architecture in [SOFTMAX, MLP] {
        for seed in 0..5 {
            let (weights, features, labels) = random_rows(architecture, ROWS, seed);
            let batch = Batch { features: &features, labels: &labels };
            let mut network = Network::new(architecture);
            let closed: Vec<f64> =
                network.example_gradients(&weights, batch).map(|gradient| gradient.squared_norm().sqrt()).collect();
            assert_eq!(closed.len(), ROWS);
            let clip = closed.iter().sum::<f64>() / ROWS as f64;
            let mut want = vec![0.0; weights.len()];
            for (row, closed) in closed.iter().enumerate() {
                let mut gradient = vec![f32::NAN; weights.len()];
                let features = &features[row * 19..][..19];
                let one = Batch { features, labels: &labels[row..=row] };
                Network::new(architecture).gradient(&weights, one, &mut gradient);
                let brute = norm(gradient.iter().map(|&value| f64::from(value)));
                assert!((closed / brute - 1.0).abs() < 1e-5, "{architecture:?}, seed {seed}: {closed}, not {brute}");
                let factor = (clip / brute).min(1.0);
                want.iter_mut().zip(&gradient).for_each(|(want, &value)| *want += factor * f64::from(value));
            }
            let got = clipped_sum(architecture, &weights, &features, &labels, clip);
            let error = norm(got.iter().zip(&want).map(|(got, want)| got - want));
            assert!(error < 1e-5 * norm(want), "{architecture:?}, seed {seed}: {error}");
        }
    }
}

/// Whatever a row holds, with it and without it the sums differ by no more than the clip.
#[test]
fn no_row_weighs_more_than_the_clip() {
    for architecture in [SOFTMAX, MLP] {
        for seed in 0..5 {
            let (weights, mut features, labels) = random_rows(architecture, ROWS, seed);
            for (odd, value) in [1e4, 1e30, f32::MAX, -f32::MAX, f32::INFINITY, f32::NAN, 0.0].into_iter().enumerate() {
                features[odd * 19..][..9].fill(value);
            }
            for clip in [1e-3, 1.0, 1e3] {
                let with = clipped_sum(architecture, &weights, &features, &labels, clip);
                assert!(with.iter().all(|value| value.is_finite()));
                for row in 0..ROWS {
                    let (mut fewer, mut others) = (features.clone(), labels.clone());
                    fewer.drain(row * 19..(row + 1) * 19);
                    others.remove(row);
                    let without = clipped_sum(architecture, &weights, &fewer, &others, clip);
                    let influence = norm(with.iter().zip(&without).map(|(with, without)| with - without));
                    assert!(influence <= clip * (1.0 + SLACK), "{architecture:?}, row {row}, {clip}: {influence}");
                }
                let no_number = clipped_sum(architecture, &weights, &features[4 * 19..6 * 19], &labels[4..6], clip);
                assert!(no_number.iter().all(|&value| value == 0.0), "rows of no numbers add something");
            }
        }
    }
}

/// Finite weights and features, and an error at the hidden unit beyond f32: the row is left out whole.
#[test]
fn an_infinite_gradient_adds_nothing() {
    let architecture = Architecture::Mlp { features: 1, hidden: 1, classes: 3 };
    let weights = [1e-38, 0.0, 0.0, 0.0, 0.0, -f32::MAX, f32::MAX, f32::MAX];
    let batch = Batch { features: &[1.0], labels: &[0] };
    let norms: Vec<f64> =
        Network::new(architecture).example_gradients(&weights, batch).map(|row| row.squared_norm()).collect();
    assert_eq!(norms, [f64::INFINITY]);
    assert_eq!(clipped_sum(architecture, &weights, &[1.0], &[0], 1.0), [0.0; 8]);
}

#[test]
fn each_row_is_drawn_with_the_rate() {
    let (rows, rounds) = (1000, 200);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut drawn = vec![7];
    for rate in [1e-4, 0.03, 0.5, 0.97] {
        let (mut total, mut of_row, mut squares) = (0, vec![0u32; rows], 0.0);
        for _ in 0..rounds {
            draw(rows, rate, &mut rng, &mut drawn);
            assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
            drawn.iter().for_each(|&row| of_row[row] += 1);
            total += drawn.len();
            squares += (drawn.len() as f64 - rate * rows as f64).powi(2);
        }
        let variance = rate * (1.0 - rate);
        let (draws, rounds) = ((rows * rounds) as f64, f64::from(rounds as u32));
        assert!((total as f64 - rate * draws).abs() < 6.0 * (variance * draws).sqrt(), "{rate}: {total}");
        let most = 6.0 * (variance * rounds).sqrt() + 3.0;
        assert!(of_row.iter().all(|&count| (f64::from(count) - rate * rounds).abs() < most), "{rate}");
        // Batches vary in size as a binomial does: they are not of a fixed size.
        let spread = squares / rounds / (variance * rows as f64);
        assert!((spread - 1.0).abs() < 6.0 * (2.0 / rounds).sqrt() * 3.0_f64.sqrt(), "{rate}: {spread}");
    }
    draw(rows, 1.0, &mut rng, &mut drawn);
    assert_eq!(drawn, (0..rows).collect::<Vec<_>>());
    draw(rows, f64::MIN_POSITIVE, &mut rng, &mut drawn);
    assert!(drawn.is_empty());
}

/// Nothing is drawn, so the weights that come out are noise and nothing else.
#[test]
fn an_empty_batch_is_noised() {
    let architecture = Architecture::Softmax { features: 2000, classes: 10 };
    let data = Dataset::new(vec![1.0; 2000], vec![3], 2000, 10).unwrap();
    let mut weights = vec![0.0; 20_010];
    let privacy =
        RecordPrivacy { example_clip: 0.7, noise_multiplier: 1.3, sampling_rate: f64::MIN_POSITIVE, ..privacy() };
    train(architecture, &mut weights, &data, (&plain(1.0, 20), 0.0), &privacy, &mut fixed(5)).unwrap();
    let deviation = 1.3 * 0.7 / 20.0;
    let count = weights.len() as f64;
    let mean = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>() / count;
    let variance = norm(weights.iter().map(|&weight| f64::from(weight))).powi(2) / count;
    assert!(mean.abs() < 6.0 * deviation / count.sqrt(), "{mean}");
    // What the rounding of as many elements adds to the sensitivity comes on top.
    let more = 2.0 * count.sqrt() / f64::from(1 << 19);
    assert!((variance / deviation.powi(2) - 1.0).abs() < 6.0 * (2.0 / count).sqrt() + more, "{variance}");
}

/// The step is the clipped sum over the public divisor, with momentum: noise too small to see shows the recurrence.
#[test]
fn steps_follow_the_recurrence() {
    let (_, features, labels) = random_rows(SOFTMAX, ROWS, 3);
    let data = Dataset::new(features.clone(), labels.clone(), 19, 4).unwrap();
    let privacy = RecordPrivacy { noise_multiplier: 1e-6, sampling_rate: 1.0, steps: 3, ..privacy() };
    let hyperparameters = Hyperparameters { momentum: 0.9, ..plain(0.5, 7) };
    let mut weights = vec![0.0; 80];
    train(SOFTMAX, &mut weights, &data, (&hyperparameters, 0.0), &privacy, &mut fixed(1)).unwrap();
    let (mut want, mut velocity) = (vec![0.0f32; 80], vec![0.0f64; 80]);
    for _ in 0..3 {
        let sum = clipped_sum(SOFTMAX, &want, &features, &labels, 1.0);
        velocity.iter_mut().zip(&sum).for_each(|(velocity, sum)| *velocity = 0.9 * *velocity + sum / 7.0);
        want.iter_mut().zip(&velocity).for_each(|(want, velocity)| *want -= (0.5 * velocity) as f32);
    }
    assert!(weights.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-4), "{weights:?}, not {want:?}");
}

#[test]
fn a_model_that_diverges_is_an_error() {
    let data = Dataset::new(vec![1.0; 19], vec![0], 19, 4).unwrap();
    let privacy = RecordPrivacy { steps: 9, ..privacy() };
    let error = train(SOFTMAX, &mut [0.0; 80], &data, (&plain(3e38, 1), 0.0), &privacy, &mut fixed(1)).unwrap_err();
    assert!(matches!(error, TrainError::Diverged(Diverged { epoch: 1, batch: 1..9 })), "{error}");
}

/// A plain sum of so many rows drifts; one row more or less decides nothing.
#[test]
fn a_batch_of_any_size_is_summed_as_exactly_as_is_charged() {
    let rows = 200_000;
    let data = Dataset::new(vec![0.3; rows], vec![0; rows], 1, 2).unwrap();
    let architecture = Architecture::Softmax { features: 1, classes: 2 };
    let (weights, clip) = ([0.1, -0.2, 0.3, 0.7], 0.37);
    let one = clipped_sum(architecture, &weights, &[0.3], &[0], clip);
    let every: Vec<usize> = (0..rows).collect();
    let mut gradients = GradientSum::new(4);
    let sum = gradients.of_rows(&mut Network::new(architecture), &weights, &data, &every, clip);
    let off = norm(sum.iter().zip(&one).map(|(sum, one)| sum - one * rows as f64));
    assert!(off < clip / f64::from(1 << 22), "{off}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// One record more, with the same draws for all others: whatever it holds and wherever it stands, the sum that is
    /// noised differs by no more than the clip and what is charged for rounding; not at all where it is not drawn.
    #[test]
    fn neighbours_differ_by_the_clip_at_most(
        seed: u64,
        mlp: bool,
        (others, at) in (1usize..700).prop_flat_map(|others| (Just(others), 0..=others)),
        rate in 0.02f64..=1.0,
        log_clip in -4f64..4.0,
        log_scale in -6f64..20.0,
    ) {
        let (architecture, clip) = (if mlp { MLP } else { SOFTMAX }, 10f64.powf(log_clip));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (weights, ..) = random_rows(architecture, ROWS, seed);
        let mut values = |len: usize, scale: f64| -> Vec<f32> {
            (0..len).map(|_| (scale * random::normal(&mut rng)) as f32).collect()
        };
        let (mut features, record) = (values(others * 19, 1.0), values(19, 10f64.powf(log_scale)));
        let mut labels: Vec<u32> = (0..others).map(|row| (seed.wrapping_add(row as u64 * 7) % 4) as u32).collect();
        let fewer = Dataset::new(features.clone(), labels.clone(), 19, 4).unwrap();
        features.splice(at * 19..at * 19, record);
        labels.insert(at, (seed % 4) as u32);
        let more = Dataset::new(features, labels, 19, 4).unwrap();

        let mut drawn = Vec::new();
        draw(more.rows(), rate, &mut ChaCha20Rng::seed_from_u64(seed), &mut drawn);
        let others_drawn: Vec<usize> =
            drawn.iter().filter(|&&row| row != at).map(|&row| row - usize::from(row > at)).collect();
        let sum = |data: &Dataset, rows: &[usize]| {
            let mut gradients = GradientSum::new(weights.len());
            gradients.of_rows(&mut Network::new(architecture), &weights, data, rows, clip).to_vec()
        };
        let (with, without) = (sum(&more, &drawn), sum(&fewer, &others_drawn));
        let influence = norm(with.iter().zip(&without).map(|(with, without)| with - without));
        prop_assert!(influence <= clip * (1.0 + SLACK), "{} for a clip of {}", influence, clip);
        if !drawn.contains(&at) {
            prop_assert_eq!(&with, &without);
        }
        // What is said of a step's noise is said of this clip.
        let grid = SumGrid::new(clip, weights.len() as u64, 1.0).unwrap();
        let Mechanism::DiscreteGaussian { l2, .. } = grid.mechanism() else { panic!("another mechanism") };
        let rounded = |value: &f64| (value * grid.units()).round();
        let moved = norm(with.iter().zip(&without).map(|(with, without)| rounded(with) - rounded(without)));
        prop_assert!(moved <= l2, "{} of {}", moved, l2);
    }
}

/// Draws and noise are fixed, so that this does not fail by chance: 60 steps of about 144 rows each.
#[test]
fn the_digits_are_learnt_under_mild_noise() {
    let (train_rows, test) = Dataset::digits();
    let softmax = Architecture::Softmax { features: 64, classes: 10 };
    let mlp = Architecture::Mlp { features: 64, hidden: 32, classes: 10 };
    for architecture in [softmax, mlp] {
        let privacy = RecordPrivacy { steps: 60, ..privacy() };
        let hyperparameters = Hyperparameters { momentum: 0.5, ..plain(1.0, 144) };
        let run = || {
            let mut weights = architecture.initial_values(1).unwrap();
            train(architecture, &mut weights, &train_rows, (&hyperparameters, 0.0), &privacy, &mut fixed(2)).unwrap();
            weights
        };
        let weights = run();
        assert_eq!(weights, run());
        let model = Tensors::new(architecture.layout().unwrap(), weights).unwrap();
        let accuracy = evaluate(&model, &test).unwrap().accuracy();
        assert!(accuracy >= 0.85, "{architecture:?}: {accuracy}");
    }
}

/// What a row adds is within its bounds, the loss of an odd one too, and says nothing about how many rows there are.
#[test]
fn a_private_round_of_the_builtin_trainer() {
    let architecture = Architecture::Softmax { features: 1, classes: 2 };
    // Logits 0 and 2 x: losses ln 2 (right by the tie rule), about 20, one without end, and nearly 0 (right).
    let model = Tensors::new(architecture.layout().unwrap(), vec![0.0, 0.0, 0.0, 2.0]).unwrap();
    let data = Dataset::new(vec![0.0, 10.0, f32::MAX, 10.0], vec![0, 0, 0, 1], 1, 2).unwrap();
    let mut round = RoundInfo { round: 1, hyperparameters: plain(0.1, 2), proximal_mu: 0.0, privacy: Some(privacy()) };
    let run = |round: &RoundInfo| BuiltinTrainer::new(data.clone(), ChaCha20Rng::seed_from_u64(1)).train(&model, round);
    let fitted =
        BuiltinTrainer::new(data.clone(), ChaCha20Rng::seed_from_u64(1)).scaled_by_rows(true).train(&model, &round);
    assert!(matches!(fitted, Err(TrainError::ScaledByRows)), "one record would be in all others");
    let trained = run(&round).unwrap();
    assert_eq!(trained.num_examples, 1);
    let loss = trained.metrics[METRIC_LOSS_SUM];
    assert!((loss - (2.0_f64.ln() + 4.0 + 4.0)).abs() < 1e-6, "{loss}");
    assert_eq!(trained.metrics[METRIC_CORRECT], 2.0);
    assert_ne!(trained.tensors, run(&round).unwrap().tensors, "the trainer's seed makes the noise");
    round.privacy = Some(RecordPrivacy { record_max: [(METRIC_CORRECT.to_owned(), 0.25)].into(), ..privacy() });
    let trained = run(&round).unwrap();
    assert_eq!(trained.metrics[METRIC_CORRECT], 0.5);
    let loss = trained.metrics[METRIC_LOSS_SUM];
    assert!((loss - (2.0_f64.ln() + 1.0 + 1.0)).abs() < 1e-6, "{loss}");
    round.privacy = None;
    assert!(matches!(run(&round), Err(TrainError::NonFiniteLoss)));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let data = Dataset::new(vec![1.0], vec![0], 1, 2).unwrap();
    let model = Architecture::Softmax { features: 1, classes: 2 }.initial(1).unwrap();
    let odd = |name: &str, max| RecordPrivacy { record_max: [(name.to_owned(), max)].into(), ..privacy() };
    for (privacy, want) in [
        (RecordPrivacy { example_clip: 0.0, ..privacy() }, "example_clip is 0"),
        (RecordPrivacy { example_clip: f64::NAN, ..privacy() }, "example_clip is NaN"),
        (RecordPrivacy { noise_multiplier: -1.0, ..privacy() }, "noise_multiplier is -1"),
        (RecordPrivacy { sampling_rate: 1.1, ..privacy() }, "sampling_rate is 1.1"),
        (RecordPrivacy { sampling_rate: 0.0, ..privacy() }, "sampling_rate is 0"),
        (RecordPrivacy { steps: 0, ..privacy() }, "steps is 0"),
        (odd("loss_sum", f64::INFINITY), "a metric's record_max is inf"),
        (odd("correct", -1.0), "a metric's record_max is -1"),
        (RecordPrivacy { noise_multiplier: 1e9, ..privacy() }, "the noise multiplier is 1000000000"),
    ] {
        let round = RoundInfo { round: 1, hyperparameters: plain(0.1, 2), proximal_mu: 0.0, privacy: Some(privacy) };
        let error = BuiltinTrainer::new(data.clone(), ChaCha20Rng::seed_from_u64(1)).train(&model, &round).unwrap_err();
        let TrainError::Noise(cause) = error else { panic!("{error}") };
        assert!(cause.to_string().starts_with(want), "{cause}");
    }
}

#[test]
fn metrics_are_noised_or_removed() {
    let bare = || BTreeMap::from([("correct", 90.0), ("loss_sum", 7.0), ("mine", 1.0)].map(|(n, v)| (n.to_owned(), v)));
    let record_max =
        BTreeMap::from([("correct", 1.0), ("loss_sum", 4.0), ("other", 1.0)].map(|(n, v)| (n.to_owned(), v)));
    let (mut rng, rounds) = (NoiseRng::predictable(4), 4000);
    let mut squares = [0.0; 2];
    for _ in 0..rounds {
        let noised = noised(bare(), &record_max, 2.5, &mut rng).unwrap();
        assert_eq!(noised.keys().collect::<Vec<_>>(), ["correct", "loss_sum"]);
        squares[0] += (noised["correct"] - 90.0).powi(2);
        squares[1] += ((noised["loss_sum"] - 7.0) / 4.0).powi(2);
    }
    for square in squares {
        let variance = square / f64::from(rounds) / 6.25;
        assert!((variance - 1.0).abs() < 6.0 * (2.0 / f64::from(rounds)).sqrt(), "{variance}");
    }
    let mut metrics = bare();
    noise_metrics(&mut metrics, &record_max, 2.5).unwrap();
    assert_eq!(metrics.len(), 2);
    assert_ne!(metrics["correct"], 90.0);
    let mut metrics = bare();
    assert!(matches!(noise_metrics(&mut metrics, &record_max, 0.0), Err(TrainError::Noise(_))));
    assert!(metrics.is_empty(), "metrics without noise are left");
}

/// Ten million values whose plain sum drifts come out right to the last digits.
#[test]
fn the_sum_of_a_metric_does_not_drift() {
    let mut sum = CompensatedSum::default();
    (0..10_000_000).for_each(|_| sum.add(0.1));
    assert!((sum.sum - 1_000_000.0).abs() < 1e-9, "{}", sum.sum);
}

/// With `learning_rate * mu = 1` and no momentum each step leads back to the start and on by its own gradient alone: noise and
/// draws are those of a training without it, so what is left is the last step.
#[test]
fn a_proximal_term_is_added_behind_the_noise() {
    let (data, _) = Dataset::digits();
    let architecture = Architecture::Softmax { features: data.columns(), classes: data.classes() };
    let privacy = RecordPrivacy { steps: 6, ..privacy() };
    let start = vec![0.0f32; architecture.parameters().unwrap()];
    let (rate, divisor) = (0.5f32, 50);
    let mut held = start.clone();
    train(architecture, &mut held, &data, (&plain(f64::from(rate), divisor), 2.0), &privacy, &mut fixed(9)).unwrap();
    // Step by step, from where the term has led: draws and noise go on from step to step.
    let (mut weights, mut randomness) = (start.clone(), fixed(9));
    for _ in 0..privacy.steps {
        let one = RecordPrivacy { steps: 1, ..privacy.clone() };
        let before = weights.clone();
        train(architecture, &mut weights, &data, (&plain(f64::from(rate), divisor), 0.0), &one, &mut randomness)
            .unwrap();
        weights.iter_mut().zip(&before).for_each(|(weight, before)| *weight -= before);
    }
    let error = norm(held.iter().zip(&weights).map(|(held, weight)| f64::from(held - weight)));
    assert!(error < 1e-5 * norm(weights.iter().map(|weight| f64::from(*weight))), "{error}");
}
