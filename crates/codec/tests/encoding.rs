//! Encoding and decoding: bounds that cannot overflow, means, rounding, refusals.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{SeedableRng, TryCryptoRng, TryRng};
use sordino_codec::{
    DecodeError, Divisor, EncodeError, Encoding, EncodingError, EncodingSpec, MetricSpec, RingBits, RingVector,
    SUM_MAX, SumNoise, UnpackAdd, pack,
};

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn spec() -> EncodingSpec {
    EncodingSpec {
        model_len: 4,
        cohort_max: 10,
        clip_norm: 1.0,
        max_weight: 1000,
        precision_bits: 20,
        metrics: vec![metric("loss_sum", 1e4, 1e-3), metric("correct", 1000.0, 1.0)],
    }
}

fn metric(name: &str, max: f64, resolution: f64) -> MetricSpec {
    MetricSpec { name: name.to_owned(), min: 0.0, max, resolution }
}

fn signed(name: &str, min: f64, max: f64, resolution: f64) -> MetricSpec {
    MetricSpec { min, ..metric(name, max, resolution) }
}

/// Specs over the whole range of sizes that can work, and some that cannot.
fn specs() -> impl Strategy<Value = EncodingSpec> {
    let metrics = prop::collection::vec((-1f64..=0.0, 1f64..1e6, 1e-3f64..1.0), 0..3);
    (1usize..40, 2u32..40, -8f64..8.0, 1u32..100_000, 1u32..=40, metrics).prop_map(
        |(model_len, cohort_max, log_clip, max_weight, precision_bits, metrics)| EncodingSpec {
            model_len,
            cohort_max,
            clip_norm: 10f64.powf(log_clip),
            max_weight,
            precision_bits,
            metrics: (0..)
                .zip(metrics)
                .map(|(k, (min, max, grid))| signed(&format!("m{k}"), min * max, max, grid))
                .collect(),
        },
    )
}

#[test]
fn a_small_encoding_has_these_numbers() {
    let encoding = Encoding::new(spec()).unwrap();
    // 1000 is at most 2^10, which is 2^20 steps of 2^-10.
    assert_eq!(encoding.step(), 2f64.powi(-10));
    // c = 1000 * 1024: c^2 + 4/4 + c + sqrt(4)/2.
    let c = 1_024_000u128;
    assert_eq!(encoding.norm_bound(1000).squared(), c * c + c + 2);
    assert_eq!(encoding.norm_bound(1000).entry_max(), 1_024_000);
    // The loss counts up to 10^7 steps, ten of them 10^8 < 2^27.
    assert_eq!(encoding.bits(), RingBits::new(28).unwrap());
    assert_eq!(encoding.len(), 4 + 1 + 2);
}

#[test]
fn one_input_decodes_to_itself() {
    let encoding = Encoding::new(spec()).unwrap();
    let update = [0.5, -0.25, 0.125, 0.0];
    let input = encoding.encode(&update, 8, &[12.5, 7.0], &mut rng(1)).unwrap();
    assert!(!input.clipped && !input.weight_capped && !input.metrics_clamped);
    assert_eq!(input.norm, (0.25f64 + 0.0625 + 0.015_625).sqrt());
    let aggregate = encoding.decode(&input.vector, 1).unwrap();
    // All of them on the grid, so rounding changes nothing.
    assert_eq!(aggregate.mean, update);
    assert_eq!((aggregate.weight_sum, aggregate.contributors), (8, 1));
    assert_eq!(aggregate.metrics[1], 7.0);
    assert!((aggregate.metrics[0] - 12.5).abs() <= 1e-3);
}

#[test]
fn clips_caps_and_clamps_are_reported() {
    let encoding = Encoding::new(spec()).unwrap();
    let input = encoding.encode(&[3.0, 4.0, 0.0, 0.0], 5000, &[-1.0, 2000.0], &mut rng(2)).unwrap();
    assert!(input.clipped && input.weight_capped && input.metrics_clamped);
    assert_eq!((input.norm, input.weight), (5.0, 1000));
    let aggregate = encoding.decode(&input.vector, 1).unwrap();
    let close = |got: f32, want: f32| (f64::from(got) - f64::from(want)).abs() <= encoding.step() / 1000.0 + 1e-7;
    assert!(close(aggregate.mean[0], 0.6) && close(aggregate.mean[1], 0.8), "{:?}", aggregate.mean);
    assert_eq!((aggregate.weight_sum, &aggregate.metrics[..]), (1000, &[0.0, 1000.0][..]));
}

/// What carries noise already keeps its sign down to the minimum and is right on average; the ring and the bounds are those
/// of the same metric without a minimum.
#[test]
fn a_signed_metric_is_not_biased() {
    let unsigned = EncodingSpec { metrics: vec![metric("hits", 100.0, 1.0)], ..spec() };
    let spec = EncodingSpec { metrics: vec![signed("hits", -100.0, 100.0, 1.0)], ..spec() };
    let (encoding, unsigned) = (Encoding::new(spec).unwrap(), Encoding::new(unsigned).unwrap());
    assert_eq!((encoding.bits(), encoding.metric_bounds()), (unsigned.bits(), unsigned.metric_bounds()));
    let rng = &mut rng(6);
    let mut released = |value: f64| {
        let input = encoding.encode(&[0.0; 4], 1, &[value], rng).unwrap();
        (encoding.decode(&input.vector, 1).unwrap().metrics[0], input.metrics_clamped)
    };
    for (value, want) in
        [(-3.0, (-3.0, false)), (-100.0, (-100.0, false)), (-100.5, (-100.0, true)), (101.0, (100.0, true))]
    {
        assert_eq!(released(value), want);
    }
    // Rounded to -1 or 0: by Hoeffding as above, 2e-7.
    let mean = (0..20_000).map(|_| released(-0.25).0).sum::<f64>() / 20_000.0;
    assert!((mean + 0.25).abs() < 0.02, "{mean}");

    let decode = |value: i64| {
        let values = [0, 0, 0, 0, 2, value];
        encoding.decode(&RingVector::from_centered(&values, encoding.bits()).unwrap(), 2)
    };
    assert_eq!(decode(-200).unwrap().metrics, [-200.0]);
    let refused = DecodeError::Metric { name: "hits".into(), min: -200, max: 200 };
    assert_eq!(decode(-201), Err(refused));
}

#[test]
fn debug_shows_no_value() {
    let input = Encoding::new(spec()).unwrap().encode(&[0.5; 4], 77, &[1.0, 2.0], &mut rng(3)).unwrap();
    assert_eq!(format!("{input:?}"), "EncodedInput { vector: RingVector { len: 7, bits: 28, .. }, .. }");
}

#[test]
fn inputs_that_cannot_be_encoded_are_named() {
    let encoding = Encoding::new(spec()).unwrap();
    let encode = |update: &[f32], weight, metrics: &[f64]| encoding.encode(update, weight, metrics, &mut rng(4));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = encode(&[0.0, 0.0, bad, f32::NAN], 1, &[0.0, 0.0]).unwrap_err();
        assert!(matches!(error, EncodeError::NotFinite { index: 2, .. }), "{error}");
    }
    assert_eq!(encode(&[0.0; 3], 1, &[0.0; 2]).unwrap_err(), EncodeError::UpdateLen { expected: 4, got: 3 });
    assert_eq!(encode(&[0.0; 4], 0, &[0.0; 2]).unwrap_err(), EncodeError::WeightZero);
    assert_eq!(encode(&[0.0; 4], 1, &[0.0; 1]).unwrap_err(), EncodeError::MetricCount { expected: 2, got: 1 });
    let error = encode(&[0.0; 4], 1, &[0.0, f64::INFINITY]).unwrap_err();
    assert!(matches!(error, EncodeError::Metric { ref name, .. } if name == "correct"), "{error}");
}

/// A random source that only knows zeros rounds everything up.
struct Zeros;

impl TryRng for Zeros {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Zeros {}

#[test]
fn a_vector_that_rounding_made_too_long_never_leaves() {
    // Full norm spread evenly, a quarter of a step per entry: all rounded up, the norm is four times as long.
    let spec = EncodingSpec { model_len: 1 << 12, precision_bits: 4, max_weight: 1, metrics: vec![], ..spec() };
    let encoding = Encoding::new(spec).unwrap();
    let update = vec![1.0 / 64.0; 1 << 12];
    assert_eq!(f64::from(update[0]) / encoding.step(), 0.25);
    let error = encoding.encode(&update, 1, &[], &mut Zeros).unwrap_err();
    assert!(matches!(error, EncodeError::Rounding { .. }), "{error}");

    let bound = encoding.norm_bound(1).squared();
    for seed in 0..50 {
        let input = encoding.encode(&update, 1, &[], &mut rng(seed)).unwrap();
        let model = input.vector.iter_centered().take(update.len());
        let squared: u128 = model.map(|x| u128::from(x.unsigned_abs()).pow(2)).sum();
        assert!(squared <= bound, "seed {seed}: {squared} > {bound}");
    }
}

/// Hoeffding: the mean of N roundings, each within one step, is further than t steps from its expectation with
/// probability at most 2 exp(-2 N t^2). For N = 20,000 and t = 0.025 that is 3e-11 per entry, 2e-10 in all. The update is
/// far inside the clip norm, so that no rounding is repeated and conditioning does not enter.
#[test]
fn rounding_is_unbiased() {
    const ROUNDS: u32 = 20_000;
    const TOLERANCE: f64 = 0.025;
    let spec = EncodingSpec { model_len: 6, precision_bits: 10, max_weight: 1, metrics: vec![], ..spec() };
    let encoding = Encoding::new(spec).unwrap();
    let step = encoding.step();
    let in_steps = [0.1f32, -0.1, 0.5, 3.75, -7.3, 0.999];
    // The step is a power of two, so each entry is exactly that many steps.
    let update = in_steps.map(|y| y * 2f32.powi(-10));
    assert_eq!(step, 2f64.powi(-10));
    let mut sums = [0i64; 6];
    let mut rng = rng(5);
    for _ in 0..ROUNDS {
        let input = encoding.encode(&update, 1, &[], &mut rng).unwrap();
        for (sum, x) in sums.iter_mut().zip(input.vector.iter_centered()) {
            *sum += x;
        }
    }
    for (sum, y) in sums.iter().zip(in_steps.map(f64::from)) {
        let mean = *sum as f64 / f64::from(ROUNDS);
        assert!((mean - y).abs() <= TOLERANCE, "{mean} for {y}");
        assert!((mean - y.round()).abs() > TOLERANCE || (y - y.round()).abs() < 2.0 * TOLERANCE, "{y} was not mixed");
    }
}

#[test]
fn specs_that_cannot_work_are_refused() {
    type Case = (fn(&mut EncodingSpec), fn(&EncodingError) -> bool);
    use EncodingError as E;
    let cases: &[Case] = &[
        (|s| s.model_len = 0, |e| matches!(e, E::ModelLen { got: 0 })),
        (|s| s.model_len = usize::MAX, |e| matches!(e, E::ModelLen { .. })),
        (|s| s.cohort_max = 0, |e| matches!(e, E::Cohort { got: 0 })),
        (|s| s.cohort_max = 1, |e| matches!(e, E::Cohort { got: 1 })),
        (|s| s.clip_norm = 0.0, |e| matches!(e, E::ClipNorm { .. })),
        (|s| s.clip_norm = -1.0, |e| matches!(e, E::ClipNorm { .. })),
        (|s| s.clip_norm = f64::NAN, |e| matches!(e, E::ClipNorm { .. })),
        (|s| s.clip_norm = f64::INFINITY, |e| matches!(e, E::ClipNorm { .. })),
        (|s| s.clip_norm = 1e-300, |e| matches!(e, E::ClipNorm { .. })),
        (|s| s.max_weight = 0, |e| matches!(e, E::MaxWeight)),
        (|s| s.precision_bits = 0, |e| matches!(e, E::Precision { got: 0 })),
        (|s| s.precision_bits = 41, |e| matches!(e, E::Precision { got: 41 })),
        (|s| s.metrics[1].name = "loss_sum".into(), |e| matches!(e, E::MetricName { index: 1, .. })),
        (|s| s.metrics[0].name.clear(), |e| matches!(e, E::MetricName { index: 0, .. })),
        (|s| s.metrics[0].max = f64::NAN, |e| matches!(e, E::MetricRange { .. })),
        (|s| s.metrics[0].max = -1.0, |e| matches!(e, E::MetricRange { .. })),
        (|s| s.metrics[0].min = 0.1, |e| matches!(e, E::MetricMin { .. })),
        (|s| s.metrics[0].min = -1.1e4, |e| matches!(e, E::MetricMin { .. })),
        (|s| s.metrics[0].min = f64::NAN, |e| matches!(e, E::MetricMin { .. })),
        (|s| s.metrics[0].resolution = 0.0, |e| matches!(e, E::MetricRange { .. })),
        (|s| s.metrics[0].resolution = f64::NAN, |e| matches!(e, E::MetricRange { .. })),
        (|s| s.metrics[0].resolution = 1e9, |e| matches!(e, E::MetricRange { .. })),
        (|s| s.metrics[0].resolution = 1e-300, |e| matches!(e, E::MetricSum { .. })),
        (|s| s.metrics[0].resolution = 1e-12, |e| matches!(e, E::MetricSum { .. })),
        (|s| s.metrics = vec![metric("m", 1.0, 1.0); 65], |e| matches!(e, E::TooManyMetrics { got: 65 })),
        (
            |s| (s.precision_bits, s.cohort_max, s.metrics) = (40, 100_000, vec![]),
            |e| matches!(e, E::ModelSum { most: 36, .. }),
        ),
        (
            |s| (s.max_weight, s.cohort_max, s.metrics) = (u32::MAX, u32::MAX, vec![]),
            |e| matches!(e, E::WeightSum { .. }),
        ),
    ];
    for (i, (change, check)) in cases.iter().enumerate() {
        let mut changed = spec();
        change(&mut changed);
        let error = Encoding::new(changed).expect_err(&format!("case {i}"));
        assert!(check(&error), "case {i}: {error:?}");
        assert!(!error.to_string().contains('\n') && error.to_string().len() < 250, "{error}");
    }
    // The precision that the message recommends works, and one bit more does not.
    let with = |p| Encoding::new(EncodingSpec { precision_bits: p, cohort_max: 100_000, metrics: vec![], ..spec() });
    assert!(with(36).is_ok() && with(37).is_err());
    // The largest model and cohort there can be still have a precision that works.
    let (model_len, cohort_max, max_weight) = (2_000_000_000, u32::MAX, 1);
    let largest = EncodingSpec { model_len, cohort_max, max_weight, metrics: vec![], ..spec() };
    assert!(Encoding::new(EncodingSpec { precision_bits: 1, ..largest.clone() }).is_ok());
    let error = Encoding::new(EncodingSpec { precision_bits: 40, ..largest }).unwrap_err();
    assert!(matches!(error, EncodingError::ModelSum { most: 20, .. }), "{error}");
}

#[test]
fn sums_that_no_honest_inputs_have_are_refused() {
    let encoding = Encoding::new(spec()).unwrap();
    let bits = encoding.bits();
    let decode = |values: [i64; 7], n| encoding.decode(&RingVector::from_centered(&values, bits).unwrap(), n);
    let entry = 2 * 1_024_000;
    assert!(decode([entry, 0, 0, 0, 2, 0, 0], 2).is_ok());
    assert!(matches!(decode([entry + 1, 0, 0, 0, 2, 0, 0], 2), Err(DecodeError::Entry { .. })));
    assert!(matches!(decode([0, 0, 0, -entry - 1, 2, 0, 0], 2), Err(DecodeError::Entry { .. })));
    assert_eq!(decode([entry, entry, 0, 0, 2, 0, 0], 2), Err(DecodeError::Norm));
    for weight in [-1, 0, 1, 2001] {
        assert!(matches!(decode([0, 0, 0, 0, weight, 0, 0], 2), Err(DecodeError::Weight { min: 2, max: 2000, .. })));
    }
    assert!(decode([0, 0, 0, 0, 2000, 20_000_000, 2000], 2).is_ok());
    for (loss, correct, want) in [(-1, 0, "loss_sum"), (20_000_001, 0, "loss_sum"), (0, 2001, "correct")] {
        match decode([0, 0, 0, 0, 2, loss, correct], 2) {
            Err(DecodeError::Metric { name, .. }) => assert_eq!(name, want),
            other => unreachable!("{other:?}"),
        }
    }
    for n in [0, 11] {
        assert!(matches!(decode([0, 0, 0, 0, 11, 0, 0], n), Err(DecodeError::Contributors { .. })));
    }
    let wrong = [RingVector::zeros(6, bits), RingVector::zeros(7, RingBits::new(27).unwrap())];
    for vector in &wrong {
        assert!(matches!(encoding.decode(vector, 2), Err(DecodeError::Shape { .. })));
    }
}

proptest! {
    /// The analysis itself: the largest honest sum fits, and one bit less would not hold it.
    #[test]
    fn the_ring_is_the_smallest_that_holds_every_sum(spec in specs()) {
        let Ok(encoding) = Encoding::new(spec.clone()) else { return Ok(()) };
        let entry = encoding.norm_bound(spec.max_weight).entry_max();
        // All of them below 2^53, where f64 counts exactly.
        let metrics = spec.metrics.iter().map(|m| (m.max / m.resolution).ceil());
        let field = metrics.fold(f64::from(spec.max_weight).max(entry as f64), f64::max);
        let largest = field * f64::from(spec.cohort_max);
        prop_assert!(largest <= SUM_MAX as f64);
        let half = f64::from(encoding.bits().get() - 1).exp2();
        prop_assert!(largest < half && largest >= half / 2.0, "{} in {} bits", largest, encoding.bits());
        // Full norm and weight is 2^(p-1) to 2^p steps.
        let steps = spec.clip_norm * f64::from(spec.max_weight) / encoding.step();
        let most = f64::from(spec.precision_bits).exp2();
        prop_assert!(steps > most / 2.0 && steps <= most, "{steps}");
    }

    /// A whole cohort at the extremes of everything: the sum of its fields is exact, in one direction and the other.
    #[test]
    fn extreme_cohorts_do_not_overflow(spec in specs(), sign in prop_oneof![Just(1f32), Just(-1f32)], seed: u64) {
        let Ok(encoding) = Encoding::new(spec.clone()) else { return Ok(()) };
        let mut update = vec![0.0; spec.model_len];
        update[spec.model_len / 2] = sign * f32::MAX;
        let metrics = vec![f64::from(sign) * f64::MAX; spec.metrics.len()];
        let mut sum = RingVector::zeros(encoding.len(), encoding.bits());
        let mut plain = vec![0i128; encoding.len()];
        let mut rng = rng(seed);
        for _ in 0..spec.cohort_max {
            let input = encoding.encode(&update, u32::MAX, &metrics, &mut rng).unwrap();
            for (plain, x) in plain.iter_mut().zip(input.vector.iter_centered()) {
                *plain += i128::from(x);
            }
            let mut adder = UnpackAdd::new(&mut sum).unwrap();
            adder.push(&pack(&input.vector)).unwrap();
            adder.finish().unwrap();
        }
        prop_assert!(sum.iter_centered().map(i128::from).eq(plain));
        let aggregate = encoding.decode(&sum, spec.cohort_max).unwrap();
        prop_assert_eq!(aggregate.weight_sum, u64::from(spec.cohort_max) * u64::from(spec.max_weight));
        for (got, metric) in aggregate.metrics.iter().zip(&spec.metrics) {
            let most = if sign > 0.0 { metric.max } else { metric.min } * f64::from(spec.cohort_max);
            prop_assert!((got - most).abs() <= f64::from(spec.cohort_max) * metric.resolution * 1.001);
        }
        let mean = f64::from(aggregate.mean[spec.model_len / 2]);
        let want = f64::from(sign) * spec.clip_norm;
        prop_assert!((mean - want).abs() <= encoding.step() / f64::from(spec.max_weight) + want.abs() * 1e-6);
    }

    /// An entry of the sum is off by less than one step per participant; so is the mean, over the sum of weights.
    #[test]
    fn the_mean_is_the_weighted_mean(
        inputs in prop::collection::vec((prop::array::uniform4(-0.5f32..0.5), 1u32..=1000, 0f64..1e4, 0u32..=1000), 2..=10),
        precision_bits in 1u32..=40,
        seed: u64,
    ) {
        let encoding = Encoding::new(EncodingSpec { precision_bits, ..spec() }).unwrap();
        let mut sum = RingVector::zeros(encoding.len(), encoding.bits());
        let mut rng = rng(seed);
        for (update, weight, loss, correct) in &inputs {
            let input = encoding.encode(update, *weight, &[*loss, f64::from(*correct)], &mut rng).unwrap();
            prop_assert!(!input.clipped && !input.weight_capped && !input.metrics_clamped);
            sum.add_assign(&input.vector).unwrap();
        }
        let n = u32::try_from(inputs.len()).unwrap();
        let aggregate = encoding.decode(&sum, n).unwrap();
        let weights: u64 = inputs.iter().map(|input| u64::from(input.1)).sum();
        prop_assert_eq!(aggregate.weight_sum, weights);
        for j in 0..4 {
            let weighted: f64 = inputs.iter().map(|input| f64::from(input.0[j]) * f64::from(input.1)).sum();
            let tolerance = f64::from(n) * encoding.step() / weights as f64 + 1e-7;
            let error = (f64::from(aggregate.mean[j]) - weighted / weights as f64).abs();
            prop_assert!(error <= tolerance, "{} > {}", error, tolerance);
        }
        let loss: f64 = inputs.iter().map(|input| input.2).sum();
        prop_assert!((aggregate.metrics[0] - loss).abs() <= f64::from(n) * 1e-3 + 1e-6);
        let correct: u32 = inputs.iter().map(|input| input.3).sum();
        prop_assert_eq!(aggregate.metrics[1], f64::from(correct));
    }

    /// Whatever arrives as a sum is decoded or refused.
    #[test]
    fn random_sums_never_panic(values in prop::collection::vec(any::<i64>(), 7), contributors: u32) {
        let encoding = Encoding::new(spec()).unwrap();
        let values: Vec<i64> = values.iter().map(|v| v >> (64 - encoding.bits().get())).collect();
        let _ = encoding.decode(&RingVector::from_centered(&values, encoding.bits()).unwrap(), contributors % 12);
    }

    /// No spec panics, however absurd.
    #[test]
    fn random_specs_never_panic(
        model_len: usize,
        cohort_max: u32,
        clip_norm: f64,
        max_weight: u32,
        precision_bits in 0u32..50,
        min: f64,
        max: f64,
        resolution: f64,
    ) {
        let metrics = vec![signed("m", min, max, resolution)];
        for metrics in [metrics, vec![]] {
            for model_len in [model_len, model_len % 1_000_000] {
                for cohort_max in [cohort_max, cohort_max % 1000] {
                    let _ = Encoding::new(EncodingSpec {
                        model_len, cohort_max, clip_norm, max_weight, precision_bits, metrics: metrics.clone(),
                    });
                }
            }
        }
    }
}

/// The ring grows with the noise, a sum with 11 standard deviations on every value is read back, and 13 are refused.
#[test]
fn a_sum_has_room_for_its_noise() {
    let plain = Encoding::new(EncodingSpec { max_weight: 1, ..spec() }).unwrap();
    let bound = plain.norm_bound(1).entry_max();
    let cohort = i64::from(plain.spec().cohort_max);
    for sigma in [3, 1_000, 1_000_000_000_i64] {
        let steps = |deviations: i64| deviations * sigma;
        let sigma = sigma as f64;
        let metrics = vec![sigma; plain.spec().metrics.len()];
        let noisy = plain.clone().with_noise(SumNoise { model: sigma, metrics }).unwrap();
        assert!(noisy.bits() >= plain.bits());
        let largest = cohort * i64::try_from(bound).unwrap();
        let sum = |deviations: i64| {
            let mut values = vec![0i64; noisy.len()];
            values[0] = largest + steps(deviations);
            values[plain.spec().model_len] = cohort;
            for k in 0..plain.spec().metrics.len() {
                values[plain.spec().model_len + 1 + k] = -steps(deviations);
            }
            values
        };
        let vector = RingVector::from_centered(&sum(11), noisy.bits()).unwrap();
        let opened = noisy.open(&vector, plain.spec().cohort_max).unwrap();
        assert_eq!(opened.integers().collect::<Vec<_>>(), sum(11));
        let beyond = RingVector::from_centered(&sum(13), RingBits::MAX).unwrap();
        let beyond = RingVector::from_centered(&beyond.iter_centered().collect::<Vec<_>>(), noisy.bits());
        // Either the ring cannot hold it, or it is refused.
        assert!(beyond.is_err() || noisy.open(&beyond.unwrap(), plain.spec().cohort_max).is_err(), "{sigma}");
    }
    for sigma in [f64::NAN, f64::INFINITY, -1.0, 1e15] {
        let refused = plain.clone().with_noise(SumNoise { model: sigma, metrics: vec![] });
        assert!(matches!(refused, Err(EncodingError::Noise { .. })), "{sigma}");
    }
}

#[test]
fn a_fixed_divisor_does_not_ask_who_is_in_the_sum() {
    let encoding = Encoding::new(EncodingSpec { max_weight: 1, metrics: vec![], ..spec() }).unwrap();
    let mut values = vec![0i64; encoding.len()];
    (values[0], values[encoding.spec().model_len]) = (640, 2);
    let sum = RingVector::from_centered(&values, encoding.bits()).unwrap();
    let sums = encoding.open(&sum, 2).unwrap();
    let by_weight = encoding.aggregate(&sums, Divisor::Weight).mean[0];
    let by_five = encoding.aggregate(&sums, Divisor::Fixed(5.try_into().unwrap())).mean[0];
    assert_eq!(f64::from(by_weight), 320.0 * encoding.step());
    assert_eq!(f64::from(by_five), 128.0 * encoding.step());
}

/// What is carried behind the metrics is summed beside them, and changes neither ring nor result.
#[test]
fn elements_behind_the_metrics_are_summed_and_mean_nothing() {
    let plain = Encoding::new(spec()).unwrap();
    let carrying = plain.clone().with_elements(3);
    assert_eq!((carrying.len(), carrying.integers(), carrying.bits()), (plain.len() + 3, plain.len(), plain.bits()));
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let update = vec![0.01; spec().model_len];
    let metrics: Vec<f64> = spec().metrics.iter().map(|metric| metric.max).collect();
    let mut one = carrying.encode(&update, 3, &metrics, &mut rng).unwrap().vector;
    let mut two = carrying.encode(&update, 5, &metrics, &mut rng).unwrap().vector;
    let largest = u64::MAX >> (64 - carrying.bits().get());
    assert_eq!(carrying.elements_of(&one), [0, 0, 0]);
    carrying.set_elements(&mut one, &[1, largest, 5]).unwrap();
    carrying.set_elements(&mut two, &[2, 0, 6]).unwrap();
    one.add_assign(&two).unwrap();
    assert_eq!(carrying.elements_of(&one), [3, largest, 11]);
    let sums = carrying.open(&one, 2).unwrap();
    let (bare, alone): (Vec<_>, _) = (one.iter_centered().take(plain.len()).collect(), plain.bits());
    assert_eq!(sums, plain.open(&RingVector::from_centered(&bare, alone).unwrap(), 2).unwrap());

    for wrong in [&[1, 2][..], &[1, 2, 3, 4], &[1, 2, largest + 1]] {
        assert!(matches!(carrying.set_elements(&mut one, wrong), Err(EncodeError::Elements { expected: 3, .. })));
    }
    let mut foreign = RingVector::zeros(plain.len(), plain.bits());
    assert!(matches!(carrying.set_elements(&mut foreign, &[1, 2, 3]), Err(EncodeError::Elements { .. })));
    assert_eq!(carrying.elements_of(&foreign), [0; 0]);
}

#[test]
fn noise_is_added_modulo_the_ring() {
    for bits in [5, 32, 33, 64] {
        let bits = RingBits::new(bits).unwrap();
        let mut vector = RingVector::from_centered(&[1, -2, bits.centered_max()], bits).unwrap();
        vector.add_centered(&[-3, 5, 1]).unwrap();
        assert_eq!(vector.iter_centered().collect::<Vec<_>>(), [-2, 3, -bits.centered_max() - 1]);
        assert!(vector.add_centered(&[1]).is_err());
    }
}
