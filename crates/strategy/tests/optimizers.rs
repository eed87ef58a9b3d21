//! Known answers, and what holds of the rules whatever the numbers are.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking and cast what they chose"
)]

use proptest::prelude::*;
use serde_json::Value;
use sordino_codec::{Dtype, Layout, TensorSpec, Tensors, TensorsError};
use sordino_strategy::{SecondMoment, ServerOptimizer, State, StateError, StepError};

fn load(name: &str) -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/strategy");
    let text = std::fs::read_to_string(std::path::Path::new(folder).join(name)).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["format"], 1);
    file["cases"].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn model(values: &[f32]) -> Tensors {
    of_type(values, Dtype::F32)
}

fn of_type(values: &[f32], dtype: Dtype) -> Tensors {
    let spec = TensorSpec::new("w", vec![values.len()], dtype).unwrap();
    Tensors::new(Layout::new(vec![spec], values.len()).unwrap(), values.to_vec()).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn rule(case: &Value) -> ServerOptimizer {
    let number = |name: &str| case["numbers"][name].as_f64().unwrap();
    let learning_rate = number("learning_rate");
    let adaptive = |second| {
        let (beta_1, adaptivity) = (number("beta_1"), number("adaptivity"));
        ServerOptimizer::Adaptive { learning_rate, beta_1, adaptivity, second }
    };
    match case["strategy"].as_str().unwrap() {
        "FedAvg" => ServerOptimizer::Average { learning_rate },
        "FedAvgM" => ServerOptimizer::Momentum { learning_rate, momentum: number("momentum") },
        "FedAdagrad" => adaptive(SecondMoment::Adagrad),
        "FedYogi" => adaptive(SecondMoment::Yogi { beta_2: number("beta_2") }),
        "FedAdam" => adaptive(SecondMoment::Adam { beta_2: number("beta_2") }),
        other => panic!("{other}"),
    }
}

/// Each step of each case, bit for bit, and the states through their files.
#[test]
fn known_answers() {
    let cases = load("optimizers.json");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let (name, optimizer) = (&case["strategy"], rule(&case));
        let mut state = optimizer.initial(floats(&case["steps"][0]["model"]).len());
        for (number, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            assert_same(state.as_ref(), &step["state"], &format!("{name}, before step {number}"));
            let (next, moved) =
                optimizer.step(state.as_ref(), &model(&floats(&step["model"])), &floats(&step["mean"])).unwrap();
            assert_same(next.as_ref(), &step["next_state"], &format!("{name}, after step {number}"));
            assert_eq!(bits(moved.values()), bits(&floats(&step["next_model"])), "{name}, step {number}");
            let again =
                |state: &State| State::from_bytes(&state.to_bytes(), mean_len(step), optimizer.has_second_moment());
            state = next.as_ref().map(|state| again(state).unwrap());
            assert_eq!(state, next, "{name}: a state's file gives it back");
        }
    }
}

fn mean_len(step: &Value) -> usize {
    step["mean"].as_array().unwrap().len()
}

fn assert_same(state: Option<&State>, expected: &Value, what: &str) {
    let Some(state) = state else { return assert!(expected.is_null(), "{what}") };
    assert_eq!(bits(state.momentum()), bits(&floats(&expected["momentum"])), "{what}");
    let second = expected.get("second_moment").map(floats).unwrap_or_default();
    assert_eq!(bits(state.second_moment()), bits(&second), "{what}");
}

const PLAIN: ServerOptimizer = ServerOptimizer::Average { learning_rate: 1.0 };

fn adaptive(second: SecondMoment) -> ServerOptimizer {
    ServerOptimizer::Adaptive { learning_rate: 0.1, beta_1: 0.9, adaptivity: 1e-3, second }
}

proptest! {
    /// `FedAvg` is what it was before there were optimisers: the model plus the mean, in f32.
    #[test]
    fn fed_avg_adds_the_mean((x, mean) in pairs(), half in any::<bool>()) {
        let x = of_type(&x, if half { Dtype::BF16 } else { Dtype::F32 });
        let (state, moved) = PLAIN.step(None, &x, &mean).unwrap();
        prop_assert_eq!((state, moved.to_safetensors()), (None, x.plus(&mean).unwrap().to_safetensors()));
    }

    /// Without momentum nothing is carried over: round after round `FedAvgM` is `FedAvg`, bit for bit.
    #[test]
    fn fed_avg_m_without_momentum_is_fed_avg((x, mean) in pairs(), rounds in 1..4) {
        let momentum = ServerOptimizer::Momentum { learning_rate: 1.0, momentum: 0.0 };
        let (mut state, mut a, mut b) = (momentum.initial(x.len()), model(&x), model(&x));
        for _ in 0..rounds {
            let (next, moved) = momentum.step(state.as_ref(), &a, &mean).unwrap();
            (state, a) = (next, moved);
            b = PLAIN.step(None, &b, &mean).unwrap().1;
            prop_assert_eq!(a.to_safetensors(), b.to_safetensors());
        }
    }

    /// From the same v, Yogi and Adam move it to the same side by different steps; where v is `Delta^2` neither moves it.
    #[test]
    fn yogi_and_adam_go_the_same_way((x, mean) in pairs()) {
        let [yogi, adam] = [SecondMoment::Yogi { beta_2: 0.99 }, SecondMoment::Adam { beta_2: 0.99 }].map(adaptive);
        let (state, x) = (yogi.initial(x.len()).unwrap(), model(&x));
        let [yogi, adam] = [yogi, adam].map(|rule| rule.step(Some(&state), &x, &mean).unwrap().0.unwrap());
        for ((before, yogi), adam) in state.second_moment().iter().zip(yogi.second_moment()).zip(adam.second_moment()) {
            prop_assert!((yogi >= before) == (adam >= before) || (yogi - before).abs() < 1e-9, "{before} {yogi} {adam}");
        }
    }

    /// An adaptive rule does not see units: a mean of twice the size, with twice the adaptivity, moves the model alike.
    #[test]
    fn adaptive_rules_have_no_unit((x, mean) in pairs()) {
        for second in [SecondMoment::Adagrad, SecondMoment::Yogi { beta_2: 0.75 }, SecondMoment::Adam { beta_2: 0.75 }] {
            let rule = |adaptivity| ServerOptimizer::Adaptive { learning_rate: 0.1, beta_1: 0.5, adaptivity, second };
            let twice: Vec<f32> = mean.iter().map(|value| 2.0 * value).collect();
            let of = |rule: ServerOptimizer, mean: &[f32]| rule.step(rule.initial(x.len()).as_ref(), &model(&x), mean).unwrap().1;
            // Powers of two only: every rounding is the same.
            prop_assert_eq!(of(rule(0.25), &mean), of(rule(0.5), &twice));
        }
    }
}

fn pairs() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    // Not so small that a square or its part has fewer digits than f32 has. A mean is an integer over a weight: never -0.
    let value = prop_oneof![0.0f32..0.1, -10.0f32..-1e-6, 1e-6f32..10.0]
        .prop_map(|value| if value.abs() < 1e-9 { 0.0 } else { value });
    (1..20usize).prop_flat_map(move |len| {
        (prop::collection::vec(value.clone(), len), prop::collection::vec(value.clone(), len))
    })
}

/// Adagrad's v never shrinks, so that its steps under one mean do.
#[test]
fn adagrad_slows_down() {
    let rule =
        ServerOptimizer::Adaptive { learning_rate: 0.1, beta_1: 0.0, adaptivity: 1e-3, second: SecondMoment::Adagrad };
    let (mut state, mut x, mut last) = (rule.initial(1), model(&[0.0]), f32::INFINITY);
    for _ in 0..10 {
        let (next, moved) = rule.step(state.as_ref(), &x, &[0.5]).unwrap();
        let step = moved.values()[0] - x.values()[0];
        assert!(step > 0.0 && step < last, "{step}");
        (state, x, last) = (next, moved, step);
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let adam = adaptive(SecondMoment::Adam { beta_2: 0.99 });
    let momentum = ServerOptimizer::Momentum { learning_rate: 1.0, momentum: 0.9 };
    let x = model(&[1.0, 2.0]);
    let refused =
        |rule: ServerOptimizer, state: Option<State>, mean: &[f32]| rule.step(state.as_ref(), &x, mean).unwrap_err();
    assert_eq!(refused(adam, None, &[0.0; 2]), StateError::Missing.into());
    assert_eq!(refused(PLAIN, momentum.initial(2), &[0.0; 2]), StateError::Superfluous.into());
    assert_eq!(refused(adam, adam.initial(2), &[0.0; 3]), TensorsError::Length { expected: 2, got: 3 }.into());
    for state in [momentum.initial(2), adam.initial(3)] {
        assert!(matches!(refused(adam, state, &[0.0; 2]), StepError::State(StateError::Tensors { .. })));
    }
    // v overflows before the model does.
    let error = refused(adam, adam.initial(2), &[0.0, 1e30]);
    assert!(matches!(error, StepError::State(StateError::Value(_))), "{error:?}");
    let error = refused(ServerOptimizer::Average { learning_rate: 1e30 }, None, &[0.0, 1e30]);
    assert!(matches!(error, StepError::Model(TensorsError::NotFinite { .. })), "{error:?}");
}

#[test]
fn a_state_has_one_file() {
    let adam = adaptive(SecondMoment::Adam { beta_2: 0.99 });
    let bytes = adam.initial(3).unwrap().to_bytes();
    assert!(bytes.len() <= State::file_len_max(3));
    assert_eq!(State::from_bytes(&bytes, 3, true).ok(), adam.initial(3));
    assert!(matches!(State::from_bytes(&bytes, 3, false), Err(StateError::File(_) | StateError::Tensors { .. })));
    assert!(matches!(State::from_bytes(&bytes, 4, true), Err(StateError::Tensors { .. })));
    assert!(matches!(State::from_bytes(&bytes[..bytes.len() - 1], 3, true), Err(StateError::File(_))));
    // A state of a model is no state of momentum alone, nor is a model one.
    assert!(matches!(State::from_bytes(&model(&[0.0; 3]).to_safetensors(), 3, false), Err(StateError::Tensors { .. })));
    let mut negative = bytes.clone();
    *negative.last_mut().unwrap() |= 0x80;
    assert_eq!(State::from_bytes(&negative, 3, true), Err(StateError::Negative { index: 2 }));
    let mut infinite = bytes;
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(matches!(State::from_bytes(&infinite, 3, true), Err(StateError::File(_))));
}
