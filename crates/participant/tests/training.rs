//! The trainer on real data: accuracies, a simulated federation, and data files, sound and broken.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking and uses small numbers"
)]

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sordino_participant::training::{
    Architecture, BuiltinTrainer, Dataset, DirichletSplit, Hyperparameters, METRIC_CORRECT, METRIC_LOSS_SUM,
    ModelError, RoundInfo, Scaling, TrainError, TrainTest, Trainer, centralised, evaluate, idx,
};

const MLP: Architecture = Architecture::Mlp { features: 64, hidden: 32, classes: 10 };
const SOFTMAX: Architecture = Architecture::Softmax { features: 64, classes: 10 };
/// For data in one place: what is usual for sets of this size.
const CENTRAL: Hyperparameters =
    Hyperparameters { local_epochs: 1, batch_size: 32, learning_rate: 0.05, momentum: 0.9 };

fn data_file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fashion14() -> TrainTest {
    let read = |part: &str| {
        let images = data_file(&format!("fashion14/{part}-images-idx3-ubyte.gz"));
        let labels = data_file(&format!("fashion14/{part}-labels-idx1-ubyte.gz"));
        idx::read(&images[..], &labels[..], 10).unwrap()
    };
    TrainTest { train: read("train"), test: Some(read("t10k")) }
}

#[test]
fn digits_in_one_place() {
    let (train, test) = Dataset::digits();
    for seed in 0..3 {
        let mlp = centralised(&train, &test, MLP, &CENTRAL, 30, seed).unwrap();
        assert!(mlp.accuracy() >= 0.95, "seed {seed}: {mlp:?}");
        assert_eq!((mlp.rows, mlp.correct as f64 / 359.0), (359, mlp.accuracy()));
        let softmax = centralised(&train, &test, SOFTMAX, &CENTRAL, 30, seed).unwrap();
        assert!(softmax.accuracy() >= 0.93 && softmax.loss() < 0.3, "seed {seed}: {softmax:?}");
    }
}

#[test]
fn breast_cancer_needs_and_gets_scaling() {
    let raw = TrainTest::from_csv(&data_file("breast_cancer.csv")[..]).unwrap();
    assert_eq!((raw.train.rows(), raw.train.columns(), raw.train.classes()), (456, 30, 2));
    let scaled = raw.scaled(Scaling::ZScore).unwrap();
    let test = scaled.test.unwrap();
    let architecture = Architecture::Softmax { features: 30, classes: 2 };
    let got = centralised(&scaled.train, &test, architecture, &CENTRAL, 20, 1).unwrap();
    assert!(got.rows == 113 && got.accuracy() >= 0.95, "{got:?}");
}

#[test]
fn fashion_from_idx() {
    let data = fashion14().scaled(Scaling::MaxAbs(255.0)).unwrap();
    let test = data.test.unwrap();
    assert_eq!((data.train.rows(), data.train.columns(), test.rows()), (5000, 196, 1000));
    assert!((0..10).all(|class| test.labels().iter().filter(|&&label| label == class).count() == 100));
    let architecture = Architecture::Softmax { features: 196, classes: 10 };
    let got = centralised(&data.train, &test, architecture, &CENTRAL, 10, 1).unwrap();
    assert!(got.accuracy() >= 0.79, "{got:?}");
}

/// Test accuracy after 20 rounds of plain FedAvg (McMahan et al. 2017, Algorithm 1): 10 participants with skewed
/// labels, two of which, at random, bring nothing each round; updates clipped, their mean weighted by rows.
fn federated(seed: u64, clip_norm: f64) -> f64 {
    const PARTICIPANTS: usize = 10;
    let (train, test) = Dataset::digits();
    let split = DirichletSplit { participants: PARTICIPANTS, alpha: 0.5, min_rows: 20, seed };
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let shares = split.deal(&train).unwrap().into_iter();
    let mut trainers: Vec<_> =
        shares.map(|share| BuiltinTrainer::new(share, ChaCha20Rng::seed_from_u64(rng.next_u64()))).collect();
    let mut model = MLP.initial(seed).unwrap();
    for round in 1..=20 {
        let info = RoundInfo { round, hyperparameters: Hyperparameters::demo(), proximal_mu: 0.0, privacy: None };
        let mut alive: Vec<usize> = (0..PARTICIPANTS).collect();
        for _ in 0..2 {
            alive.swap_remove((rng.next_u64() % alive.len() as u64) as usize);
        }
        let (mut sum, mut weights) = (vec![0.0f64; model.values().len()], 0.0);
        for participant in alive {
            let trained = trainers[participant].train(&model, &info).unwrap();
            let update = trained.tensors.minus(&model).unwrap();
            let norm = update.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            let weight = trained.num_examples as f64;
            let factor = weight * (clip_norm / norm).min(1.0);
            sum.iter_mut().zip(&update).for_each(|(sum, &value)| *sum += factor * f64::from(value));
            weights += weight;
        }
        let mean: Vec<f32> = sum.iter().map(|value| (value / weights) as f32).collect();
        model = model.plus(&mean).unwrap();
    }
    evaluate(&model, &test).unwrap().accuracy()
}

#[test]
fn a_federation_with_skewed_labels_and_dropouts_learns_the_digits() {
    for seed in 0..5 {
        let accuracy = federated(seed, 5.0);
        assert!(accuracy >= 0.94, "seed {seed}: {accuracy}");
    }
}

/// The metrics are those of the model that came in, the weights those after training; the same seed gives the same.
#[test]
fn a_round_of_the_builtin_trainer() {
    let (train, _) = Dataset::digits();
    let model = MLP.initial(3).unwrap();
    let info = RoundInfo { round: 1, hyperparameters: CENTRAL, proximal_mu: 0.0, privacy: None };
    let run = || BuiltinTrainer::new(train.clone(), ChaCha20Rng::seed_from_u64(4)).train(&model, &info).unwrap();
    let trained = run();
    assert_eq!(trained, run());
    let (before, after) = (evaluate(&model, &train).unwrap(), evaluate(&trained.tensors, &train).unwrap());
    assert_eq!(trained.num_examples, 1438);
    assert_eq!(trained.metrics[METRIC_LOSS_SUM], before.loss_sum);
    assert_eq!(trained.metrics[METRIC_CORRECT], before.correct as f64);
    assert!(after.loss() < 0.7 * before.loss(), "{before:?} {after:?}");
    assert_eq!(trained.tensors.layout(), model.layout());
    assert!(!format!("{trained:?}").contains("0."), "an update is printed: {trained:?}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (train, _) = Dataset::digits();
    let mut trainer = BuiltinTrainer::new(train, ChaCha20Rng::seed_from_u64(1));
    let info = RoundInfo { round: 1, hyperparameters: CENTRAL, proximal_mu: 0.0, privacy: None };
    let wide = Architecture::Softmax { features: 65, classes: 10 }.initial(1).unwrap();
    let error = trainer.train(&wide, &info).unwrap_err();
    assert!(matches!(error, TrainError::Model(ModelError::Features { model: 65, data: 64 })), "{error}");
    let few = Architecture::Softmax { features: 64, classes: 9 }.initial(1).unwrap();
    let error = trainer.train(&few, &info).unwrap_err();
    assert!(matches!(error, TrainError::Model(ModelError::Classes { model: 9, data: 10 })), "{error}");
    let still = RoundInfo { hyperparameters: Hyperparameters { batch_size: 0, ..CENTRAL }, ..info.clone() };
    let error = trainer.train(&MLP.initial(1).unwrap(), &still).unwrap_err();
    assert_eq!(error.to_string(), "batch_size is 0, it must be at least 1");
    let wild = RoundInfo { hyperparameters: Hyperparameters { learning_rate: 1e38, ..CENTRAL }, ..info };
    let error = trainer.train(&MLP.initial(1).unwrap(), &wild).unwrap_err();
    assert!(matches!(error, TrainError::Diverged(_)), "{error}");
}

fn idx_file(kind: u8, dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, kind, dimensions.len() as u8];
    dimensions.iter().for_each(|dimension| file.extend(dimension.to_be_bytes()));
    file.extend(values);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Plain and gzip files read alike, each of the pair for itself.
#[test]
fn idx_pairs() {
    let images = idx_file(8, &[2, 1, 3], &[0, 1, 2, 253, 254, 255]);
    let labels = idx_file(8, &[2], &[1, 0]);
    let want = Dataset::new(vec![0.0, 1.0, 2.0, 253.0, 254.0, 255.0], vec![1, 0], 3, 2).unwrap();
    assert_eq!(idx::read(&images[..], &labels[..], 2).unwrap(), want);
    assert_eq!(idx::read(&gzip(&images)[..], &labels[..], 2).unwrap(), want);
    assert_eq!(idx::read(&gzip(&images)[..], &gzip(&labels)[..], 2).unwrap(), want);
}

/// Every broken pair has its own words.
#[test]
fn broken_idx_files() {
    let images = idx_file(8, &[2, 1, 3], &[0; 6]);
    let labels = idx_file(8, &[2], &[1, 0]);
    let zipped = gzip(&images);
    let mut damaged = zipped.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut in_crc = zipped.clone();
    let crc = in_crc.len() - 8;
    in_crc[crc] ^= 1;
    let max = u32::MAX;
    for (name, images, labels, want) in [
        ("empty", &b""[..], &labels[..], "the images file ends inside its header"),
        ("magic", b"PNG!rest", &labels, "the images file begins with bytes [80, 78]"),
        ("type", &idx_file(0x0d, &[2, 1, 3], &[0; 24]), &labels, "the images file has values of type 0x0d"),
        (
            "swapped",
            &labels,
            &images,
            "the labels file has 3 dimensions, it must have 1 to 1: are images and labels swapped?",
        ),
        ("no dimensions", &idx_file(8, &[], &[]), &labels, "the images file has 0 dimensions, it must have 2 to 4"),
        ("dimensions cut", &images[..9], &labels, "the images file ends inside its header"),
        ("zero rows", &idx_file(8, &[0, 1, 3], &[]), &labels, "the images file says its dimensions are [0, 1, 3]"),
        ("zero columns", &idx_file(8, &[2, 0, 3], &[]), &labels, "the images file says its dimensions are [2, 0, 3]"),
        (
            "too large",
            &idx_file(8, &[max, max, max, max], &[]),
            &labels,
            "the images file says its dimensions are [4294967295",
        ),
        (
            "too many values",
            &idx_file(8, &[10_000_000, 28, 28], &[]),
            &labels,
            "the images file says its dimensions are [10000000, 28, 28]",
        ),
        (
            "lying rows",
            &idx_file(8, &[300_000, 28, 28], &[0; 6]),
            &labels,
            "the images file has 6 values, its dimensions say 235200000",
        ),
        ("one value short", &images[..images.len() - 1], &labels, "the images file has 5 values, its dimensions say 6"),
        ("one value more", &idx_file(8, &[2, 1, 3], &[0; 7]), &labels, "the images file goes on after the 6 values"),
        ("pairs", &idx_file(8, &[3, 1, 3], &[0; 9]), &labels, "3 images come with 2 labels"),
        ("label", &images, &idx_file(8, &[2], &[0, 2]), "row 1 has label 2, classes run from 0 to 1"),
        ("truncated gzip", &zipped[..zipped.len() - 9], &labels, "the images file is gzip and ends early"),
        ("truncated gzip trailer", &zipped[..zipped.len() - 1], &labels, "the images file is gzip and ends early"),
        ("truncated gzip header", &zipped[..5], &labels, "the images file is gzip and ends early"),
        ("gzip length", &damaged, &labels, "the images file is gzip and damaged"),
        ("gzip checksum", &in_crc, &labels, "the images file is gzip and damaged"),
        (
            "gzip labels",
            &images,
            &gzip(&idx_file(8, &[3], &[0, 1])),
            "the labels file has 2 values, its dimensions say 3",
        ),
    ] {
        let error = idx::read(images, labels, 2).unwrap_err();
        let text = match &error {
            idx::IdxError::Dataset(cause) => cause.to_string(),
            error => error.to_string(),
        };
        assert!(text.starts_with(want), "{name}: {text}");
    }
}

/// A small file that unpacks to far more than it says is read no further than it says.
#[test]
fn a_gzip_bomb_is_cut_off() {
    let mut bomb = idx_file(8, &[2, 1, 3], &[]);
    bomb.resize(64 << 20, 0);
    let bomb = gzip(&bomb);
    assert!(bomb.len() < 100_000);
    let error = idx::read(&bomb[..], &idx_file(8, &[2], &[0, 1])[..], 2).unwrap_err();
    assert!(matches!(error, idx::IdxError::Trailing { file: "images", claimed: 6 }), "{error}");
}
