//! Who is flagged, on honest norms with a spread of 25 %: large outliers and colluders always, honest clients hardly ever.

#![expect(clippy::unwrap_used, reason = "tests")]

mod draw;

use draw::Draw;
use sordino_robust::{Abort, Detector, Door, Pipeline, Round, Test, Updates};

const DIMENSION: usize = 40;

/// A common direction and noise; log-normal norms.
fn honest(draw: &mut Draw, clients: usize) -> Vec<Vec<f64>> {
    let truth: Vec<f64> = (0..DIMENSION).map(|_| draw.normal()).collect();
    (0..clients)
        .map(|_| {
            let row: Vec<f64> = truth.iter().map(|value| value + 0.8 * draw.normal()).collect();
            let norm = (0.25 * draw.normal()).exp();
            scaled(&row, norm / row.iter().map(|value| value * value).sum::<f64>().sqrt())
        })
        .collect()
}

fn scaled(row: &[f64], factor: f64) -> Vec<f64> {
    row.iter().map(|value| factor * value).collect()
}

fn flagged(rows: &[Vec<f64>]) -> Vec<usize> {
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let updates = Updates::check(&rows, &Door::default()).unwrap();
    match Pipeline::default().run(&updates, &Round::default()) {
        Ok(outcome) => outcome.flags.iter().map(|flag| flag.client).collect(),
        Err(Abort::TooManyFlagged { flagged, .. }) => flagged,
        Err(abort) => abort.flags().iter().map(|flag| flag.client).collect(),
    }
}

/// `floor(0.3 n)` without rounding.
const fn three_tenths(n: usize) -> usize {
    3 * n / 10
}

#[test]
fn a_tenfold_outlier_is_flagged_in_every_group_from_three_to_fifty() {
    let mut draw = Draw::new(1);
    for n in 3..=50 {
        for outlier in 0..n.min(20) {
            let mut rows = honest(&mut draw, n);
            rows[outlier] = scaled(&rows[outlier], 10.0 / norm(&rows[outlier]));
            assert!(flagged(&rows).contains(&outlier), "client {outlier} of {n}");
        }
    }
}

#[test]
fn tenfold_colluders_are_flagged_from_ten_clients_up() {
    let mut draw = Draw::new(2);
    for n in 10..=50 {
        for _ in 0..10 {
            let mut rows = honest(&mut draw, n);
            let sent = scaled(&rows[0], 10.0 / norm(&rows[0]));
            rows[..three_tenths(n)].fill(sent);
            let found = flagged(&rows);
            assert!((0..three_tenths(n)).all(|colluder| found.contains(&colluder)), "n = {n}: {found:?}");
        }
    }
}

#[test]
fn at_most_one_honest_client_in_a_hundred_is_flagged() {
    let mut draw = Draw::new(3);
    let (groups, clients) = (1000, 20);
    let flags: usize = (0..groups).map(|_| flagged(&honest(&mut draw, clients)).len()).sum();
    assert!(100 * flags <= groups * clients, "{flags} of {}", groups * clients);
}

/// What the classic test cannot do, whatever the size of the outlier: the largest z-score of one among nine is below three.
#[test]
fn the_classic_norm_test_flags_nobody_among_nine() {
    let mut draw = Draw::new(4);
    let mut rows = honest(&mut draw, 9);
    rows[4] = scaled(&rows[4], 1e9);
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let updates = Updates::check(&rows, &Door::default()).unwrap();
    let gram = sordino_robust::Gram::of(&updates, None, std::num::NonZeroUsize::MIN).unwrap();
    let classic = Detector::Classic(sordino_robust::detector::Classic::default());
    let found = |detector: Detector| detector.run(updates.norms(), Some(&gram)).unwrap().flags;
    assert!(found(classic).iter().all(|flag| flag.test != Test::ClassicNorm));
    assert!(found(Detector::default()).iter().any(|flag| flag.client == 4 && flag.test == Test::NormMad));
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum::<f64>().sqrt()
}
