//! What holds for all inputs: order, place and size of the rows, threads, and what attackers may do.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod draw;

use std::num::NonZeroUsize;

use draw::Draw;
use proptest::prelude::*;
use sordino_robust::geometric::Schedule;
use sordino_robust::{Abort, Bound, Door, Outcome, Pipeline, Radius, Round, Rule, Seed, Stage, Tau, Updates};

/// Rules that have no place or size of their own: what is moved or scaled moves or scales their output.
fn equivariant() -> Vec<Pipeline> {
    let rules = [
        Rule::FedAvg {},
        Rule::FedMedian {},
        Rule::FedTrimmedAvg {},
        Rule::MeanAroundMedian {},
        Rule::Krum {},
        Rule::MultiKrum { m: None },
        Rule::Bulyan {},
        Rule::GeometricMedian { schedule: Schedule::Converged },
        Rule::DnC { c: 1.0 },
    ];
    let plain = rules.map(|rule| Pipeline { rule, ..bare() });
    let mixed = rules.map(|rule| Pipeline { rule, stages: vec![Stage::Nnm {}], ..bare() });
    plain.into_iter().chain(mixed).collect()
}

/// All rules but FLTrust, which needs data; behind each kind of stage, and the default.
fn all() -> Vec<Pipeline> {
    let clip = |radius| vec![Stage::NormClip { radius }];
    let mut all = equivariant();
    let clipping = Rule::CenteredClipping { tau: Tau::MedianDistance, iterations: 3 };
    all.push(Pipeline { rule: clipping, ..bare() });
    all.push(Pipeline { stages: clip(Radius::Median), ..Pipeline::default() });
    all.push(Pipeline { stages: clip(Radius::Adaptive), rule: Rule::FedAvg {}, ..bare() });
    all.push(Pipeline { stages: vec![Stage::Bucketing { s: 2 }], rule: Rule::FedMedian {}, ..bare() });
    all.push(Pipeline::default());
    all
}

fn bare() -> Pipeline {
    Pipeline { detector: None, stages: Vec::new(), max_byzantine_fraction: 0.15, ..Pipeline::default() }
}

fn run(pipeline: &Pipeline, rows: &[Vec<f64>], threads: usize) -> Result<Outcome, Abort> {
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let threads = NonZeroUsize::new(threads).unwrap();
    let updates = Updates::check_on(&rows, &Door::default(), threads).unwrap();
    pipeline.run(&updates, &Round { threads, ..Round::default() })
}

fn vector(pipeline: &Pipeline, rows: &[Vec<f64>]) -> Vec<f64> {
    run(pipeline, rows, 1).unwrap().vector
}

/// A common direction and noise.
fn cloud(draw: &mut Draw, n: usize, d: usize) -> Vec<Vec<f64>> {
    let truth: Vec<f64> = (0..d).map(|_| draw.normal()).collect();
    (0..n).map(|_| truth.iter().map(|value| value + 0.5 * draw.normal()).collect()).collect()
}

/// Behind mixing, rows that share their neighbours are equal up to rounding, and so are distances that these rules compare.
fn has_no_ties(pipeline: &Pipeline) -> bool {
    pipeline.stages.is_empty() || !matches!(pipeline.rule, Rule::Bulyan {} | Rule::MeanAroundMedian {})
}

fn close(got: &[f64], want: &[f64], size: f64) -> bool {
    got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-9 * size)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_clients_does_not_matter(seed: u64, n in 14..30usize, d in 2..40usize) {
        let mut draw = Draw::new(seed);
        let rows = cloud(&mut draw, n, d);
        let order = Seed::derive(&seed.to_le_bytes(), b"order").permutation(n);
        let permuted: Vec<_> = order.iter().map(|&at| rows[at].clone()).collect();
        for pipeline in all() {
            // Buckets are drawn by place. Bulyan's last choices are between rows that are each other's nearest: ties, which go
            // to the lower index.
            let by_place = pipeline.stages.iter().any(|stage| matches!(stage, Stage::Bucketing { .. }));
            if by_place || pipeline.rule == (Rule::Bulyan {}) || !has_no_ties(&pipeline) {
                continue;
            }
            let (one, other) = (run(&pipeline, &rows, 1), run(&pipeline, &permuted, 1));
            match (one, other) {
                (Ok(one), Ok(other)) => {
                    prop_assert!(close(&one.vector, &other.vector, 1.0), "{pipeline:?}");
                    let mut kept: Vec<_> = other.kept.iter().map(|&at| order[at]).collect();
                    kept.sort_unstable();
                    prop_assert_eq!(one.kept, kept);
                }
                (Err(_), Err(_)) => {}
                (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
            }
        }
    }

    #[test]
    fn what_moves_and_scales_the_rows_does_so_to_the_output(seed: u64, n in 14..30usize, d in 2..40usize) {
        let mut draw = Draw::new(seed);
        let rows = cloud(&mut draw, n, d);
        let (by, scale): (Vec<f64>, f64) = ((0..d).map(|_| 100.0 * draw.normal()).collect(), draw.normal().exp());
        let change = |row: &[f64]| row.iter().zip(&by).map(|(value, by)| scale * value + by).collect::<Vec<_>>();
        let changed: Vec<_> = rows.iter().map(|row| change(row)).collect();
        for pipeline in equivariant().into_iter().filter(has_no_ties) {
            let (got, want) = (vector(&pipeline, &changed), change(&vector(&pipeline, &rows)));
            prop_assert!(close(&got, &want, 1000.0 * scale.max(1.0)), "{pipeline:?}: {got:?}, {want:?}");
        }
    }

    #[test]
    fn copies_of_one_row_give_that_row(seed: u64, n in 14..30usize, d in 2..40usize) {
        let row: Vec<f64> = cloud(&mut Draw::new(seed), 1, d).remove(0);
        for pipeline in all() {
            let got = vector(&pipeline, &vec![row.clone(); n]);
            // Clipping steps towards it from the origin.
            prop_assert!(close(&got, &row, 10.0), "{pipeline:?}: {got:?}, {row:?}");
        }
    }

    /// Median, trimmed mean and mean around the median, by themselves and behind nothing.
    #[test]
    fn attackers_do_not_take_a_coordinate_out_of_the_honest_range(
        seed: u64,
        n in 3..30usize,
        sent in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 1..8),
    ) {
        let mut draw = Draw::new(seed);
        let d = 5;
        let mut rows = cloud(&mut draw, n, d);
        let f = (n - 1) / 2;
        for attacker in 0..f {
            rows[attacker] = (0..d).map(|at| sent[(attacker + at) % sent.len()]).collect();
        }
        let fraction = (f as f64 + 0.01) / n as f64;
        for rule in [Rule::FedMedian {}, Rule::FedTrimmedAvg {}] {
            let pipeline = Pipeline { rule, max_byzantine_fraction: fraction, ..bare() };
            for (at, value) in vector(&pipeline, &rows).into_iter().enumerate() {
                let honest = rows[f..].iter().map(|row| row[at]);
                let (low, high) = (honest.clone().fold(f64::MAX, f64::min), honest.fold(f64::MIN, f64::max));
                prop_assert!((low - 1e-12..=high + 1e-12).contains(&value), "{rule:?}: {value} of {low}..{high}");
            }
        }
    }

    /// What a rule that looks at distances makes of rows that are sent far away stays where the honest ones are.
    #[test]
    fn far_rows_do_not_move_the_output(seed: u64, n in 14..30usize, far in 3..12i32) {
        let mut draw = Draw::new(seed);
        let mut rows = cloud(&mut draw, n, 8);
        let f = 15 * n / 100;
        for row in &mut rows[..f] {
            row.iter_mut().for_each(|value| *value = 10f64.powi(far) * draw.normal());
        }
        // DnC looks along one direction: attackers that stand out along two are not both found.
        let robust = |pipeline: &Pipeline| !matches!(pipeline.rule, Rule::FedAvg {} | Rule::DnC { .. });
        for pipeline in all().into_iter().filter(robust) {
            if let Ok(outcome) = run(&pipeline, &rows, 1) {
                let reach = outcome.vector.iter().map(|value| value * value).sum::<f64>().sqrt();
                prop_assert!(reach < 40.0, "{pipeline:?}: {reach}");
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // More than one piece of the matrix, and an odd end.
    let d = 2 * 64 * 512 + 77;
    let rows = cloud(&mut Draw::new(9), 15, d);
    for pipeline in all() {
        let one = run(&pipeline, &rows, 1).unwrap();
        for threads in [2, 3, 7] {
            let other = run(&pipeline, &rows, threads).unwrap();
            assert_eq!(one, other, "{threads} threads, {pipeline:?}");
        }
    }
}

#[test]
fn what_does_not_hold_is_refused_for_the_plan_and_for_those_who_came() {
    let with = |rule, fraction| Pipeline { rule, max_byzantine_fraction: fraction, ..bare() };
    let bucketing = |s| Pipeline { stages: vec![Stage::Bucketing { s }], ..with(Rule::FedMedian {}, 0.2) };
    let tight = Pipeline { max_byzantine_fraction: 0.49, stages: vec![Stage::Nnm {}], ..bare() };
    let rows = |n| cloud(&mut Draw::new(5), n, 3);
    for (pipeline, refused, met) in [
        (with(Rule::Krum {}, 0.4), 10, 12),
        (with(Rule::MultiKrum { m: Some(9) }, 0.2), 10, 12),
        (with(Rule::Bulyan {}, 0.2), 10, 14),
        (bucketing(3), 10, 4),
        (tight, 2, 5),
    ] {
        let why = pipeline.check(refused).unwrap_err();
        match run(&pipeline, &rows(refused), 1) {
            Err(Abort::Bound { why: actual, .. }) => assert_eq!(actual, why),
            other => panic!("{other:?}"),
        }
        pipeline.check(met).unwrap();
        run(&pipeline, &rows(met), 1).unwrap();
    }
}

#[test]
fn more_than_a_third_flagged_ends_the_round() {
    let mut rows = cloud(&mut Draw::new(6), 10, 20);
    for row in &mut rows[..4] {
        row.iter_mut().for_each(|value| *value *= 100.0);
    }
    match run(&Pipeline::default(), &rows, 1) {
        Err(Abort::TooManyFlagged { flagged, most: 3, clients: 10, .. }) => assert_eq!(flagged, [0, 1, 2, 3]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn largest_values_are_let_in_and_named_where_distances_are_asked_for() {
    let (largest, one) = (vec![f32::MAX; 100], vec![1f32; 100]);
    let rows = [&one[..], &largest, &one, &one];
    let updates = Updates::check(&rows, &Door::default()).unwrap();
    assert!((updates.norms()[1] / (10.0 * f64::from(f32::MAX)) - 1.0).abs() < 1e-12);
    let without = Pipeline { detector: None, stages: Vec::new(), ..Pipeline::default() };
    let median = Pipeline { rule: Rule::FedMedian {}, ..without.clone() };
    assert_eq!(median.run(&updates, &Round::default()).unwrap().vector, vec![1.0; 100]);
    let krum = Pipeline { rule: Rule::Krum {}, ..without };
    let got = krum.run(&updates, &Round::default());
    assert!(matches!(got, Err(Abort::Bound { why: Bound::TooLarge { client: 1, .. }, .. })), "{got:?}");
}
