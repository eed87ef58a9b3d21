//! The reference numbers of `vectors/byzantine`: every case of every file, in f64 and in f32.
//!
//! `BYZANTINE_VECTORS_DIR` names another folder of the same form; without it the project's own is read. A file that nothing
//! here knows fails, and so does a folder with fewer or more cases.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod file;

use std::num::NonZeroUsize;

use file::{Case, Kind, number, refusal, vector};
use serde_json::Value;
use sordino_robust::detector::{self, Classic, Cosine, NormLoo, NormMad};
use sordino_robust::geometric::Schedule;
use sordino_robust::rules::{self, Init};
use sordino_robust::stage::{self, Radius};
use sordino_robust::{Detector, Door, Element, Gram, Mixed, Updates, Weights, attacks, sybil};

const CASES: usize = 431;
const FILES: usize = 19;
const ONE: NonZeroUsize = NonZeroUsize::MIN;

#[test]
fn every_case_in_f64() {
    let (files, cases, skipped) = run::<f64>("f64");
    assert_eq!((files, cases, skipped), (FILES, CASES, 0));
}

#[test]
fn every_case_in_f32() {
    let (files, cases, skipped) = run::<f32>("f32");
    // What f32 cannot hold.
    assert_eq!((files, cases, skipped), (FILES, CASES - 4, 4));
}

/// Files, cases that were run, and those that were not.
fn run<T: Element>(precision: &'static str) -> (usize, usize, usize) {
    let mut paths: Vec<_> = std::fs::read_dir(file::folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut cases, mut skipped) = (0, 0);
    for path in &paths {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rule = file["rule"].as_str().unwrap();
        assert_eq!(path.file_stem().unwrap(), rule);
        for value in file["cases"].as_array().unwrap() {
            let case = Case::new(rule, value.clone(), precision);
            if case.fits::<T>() {
                one::<T>(rule, &case);
                cases += 1;
            } else {
                skipped += 1;
            }
        }
    }
    (paths.len(), cases, skipped)
}

fn one<T: Element>(rule: &str, case: &Case) {
    let rows: Vec<Vec<T>> = case.rows().into_iter().map(|row| row.into_iter().map(T::nearest).collect()).collect();
    let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
    match rule {
        "validation" => return validation(case, &rows),
        "attacks" => return attack(case),
        _ => {}
    }
    let updates = Updates::check(&rows, &Door::default()).unwrap();
    let plain = Mixed::from(&updates);
    let gram = || Gram::of(&updates, None, ONE).unwrap();
    let vector_is = |vector: Vec<f64>| case.all_close("vector", &vector, case.expected("vector"));
    match rule {
        "mean" => {
            let weights = case.vector("weights").map(|weights| Weights::new(weights, rows.len())).transpose();
            case.check(weights.map_err(Kind::from), |weights| vector_is(rules::mean(&plain, weights.as_ref(), ONE)));
        }
        "coordinate_median" => vector_is(rules::coordinate_median(&plain, ONE)),
        "trimmed_mean" => case.check(rules::trimmed_mean(&plain, case.u("f"), ONE).map_err(Kind::from), vector_is),
        "mean_around_median" => {
            case.check(rules::mean_around_median(&plain, case.u("f"), ONE).map_err(Kind::from), vector_is);
        }
        "krum" => {
            let neighbours = case.has("neighbours").then(|| case.u("neighbours"));
            let got = rules::krum(&gram(), case.u("f"), case.u("m"), neighbours);
            case.check(got.map_err(Kind::from), |got| {
                if case.wants("selected") {
                    case.same("selected", &got.selected, case.expected("selected"));
                }
                case.all_close("scores", &got.scores, case.expected("scores"));
                vector_is(combined(&updates, &rules::mean_of(&got.selected, rows.len())));
            });
        }
        "bulyan" => {
            let got = rules::bulyan(&plain, &gram(), case.u("f"), ONE);
            case.check(got.map_err(Kind::from), |(vector, selected)| {
                if case.wants("selected_in_order") {
                    case.same("selected", &selected, case.expected("selected_in_order"));
                }
                vector_is(vector);
            });
        }
        "geometric_median" => geometric_median(case, &updates, &gram()),
        "smoothed_weiszfeld" => {
            let init = match case.s("init") {
                "mean" => Init::Mean,
                "zero" => Init::Zero,
                "coordinate_median" => Init::CoordinateMedian,
                other => panic!("{case}: {other}"),
            };
            let steps = case.u("iterations").try_into().unwrap();
            let got = rules::smoothed_weiszfeld(&updates, &gram(), init, case.f("nu"), steps, ONE);
            case.check(got.map_err(Kind::from), vector_is);
        }
        "centered_clipping" => {
            let start = case.vector("v0");
            let gram = Gram::of(&updates, start.as_deref(), ONE).unwrap();
            let got = rules::centered_clipping(&gram, case.f("tau"), case.u("iterations").try_into().unwrap());
            case.check(got.map_err(Kind::from), |point| {
                let mut vector = combined(&updates, &point[..rows.len()]);
                if let Some(start) = start {
                    let share = point.last().unwrap();
                    vector.iter_mut().zip(start).for_each(|(value, start)| *value += share * start);
                }
                vector_is(vector);
            });
        }
        "norm_clip" => {
            let mut mixed = plain.clone();
            let f = if case.has("f") { case.u("f") } else { 0 };
            let got = stage::norm_clip(&mut mixed, updates.norms(), radius(case, case.s("mode")), f);
            case.check(got.map_err(Kind::from), |c| {
                if case.wants("c") {
                    case.close("c", c, number(case.expected("c")));
                }
                rows_are(case, &mixed);
            });
        }
        "nnm" => {
            let mut mixed = plain.clone();
            let got = stage::nnm(&mut mixed, &gram(), case.u("f"));
            case.check(got.map_err(Kind::from), |_| rows_are(case, &mixed));
        }
        "bucketing" => {
            let mut mixed = plain.clone();
            let got = stage::bucketing(&mut mixed, &permutation(&case.value["params"]), case.u("s"));
            case.check(got.map_err(Kind::from), |()| rows_are(case, &mixed));
        }
        "fltrust" => {
            let got = rules::fltrust(&updates, &case.vector("root").unwrap(), ONE);
            case.check(got.map_err(Kind::from), |got| {
                case.all_close("trust", &got.trust, case.expected("trust"));
                vector_is(combined(&updates, &got.coefficients));
            });
        }
        "foolsgold" => case.all_close("weights", &sybil::similarity_weights(&gram()), case.expected("weights")),
        "dnc" => {
            let got = rules::dnc(&gram(), case.u("f"), case.f("c"));
            case.check(got.map_err(Kind::from), |got| {
                case.same("kept", &got.kept, case.expected("kept"));
                if case.wants("scores") {
                    case.all_close("scores", &got.scores, case.expected("scores"));
                }
                vector_is(combined(&updates, &rules::mean_of(&got.kept, rows.len())));
            });
        }
        "pipelines" => vector_is(pipeline(case, &updates)),
        "detectors" => detectors(case, &updates, &gram()),
        other => panic!("nothing here knows {other}.json"),
    }
}

fn combined<T: Element>(updates: &Updates<'_, T>, coefficients: &[f64]) -> Vec<f64> {
    let d = updates.dimension();
    let sum = |at: usize| updates.rows().iter().zip(coefficients).map(|(row, c)| c * row[at].wide()).sum();
    (0..d).map(sum).collect()
}

fn rows_are<T: Element>(case: &Case, mixed: &Mixed<'_, '_, T>) {
    let want = case.expected("rows").as_array().unwrap();
    assert_eq!(mixed.rows(), want.len(), "{case}");
    for (at, want) in want.iter().enumerate() {
        case.all_close(&format!("row {at}"), &mixed.row(at), want);
    }
}

fn radius(case: &Case, mode: &str) -> Radius {
    match mode {
        "static" => Radius::Static(case.f("c")),
        "median" => Radius::Median,
        "adaptive" => Radius::Adaptive,
        other => panic!("{case}: {other}"),
    }
}

fn permutation(value: &Value) -> Vec<usize> {
    value["permutation"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap().try_into().unwrap()).collect()
}

fn validation<T: Element>(case: &Case, rows: &[&[T]]) {
    let dimension = case.has("expected_dim").then(|| case.u("expected_dim"));
    let door = Door { dimension, max_norm: case.has("max_norm").then(|| case.f("max_norm")) };
    match Updates::check(rows, &door) {
        Ok(_) => assert_eq!(*case.expected("ok"), true, "{case}"),
        Err(invalid) => {
            let (kind, client) = refusal(invalid);
            assert_eq!(Some(kind), case.expected("error").as_str(), "{case}");
            assert_eq!(client, case.expected("client_index").as_u64(), "{case}");
        }
    }
}

fn attack(case: &Case) {
    let rows = case.rows();
    let honest: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let vector = match case.s("attack") {
        "alie_z" => {
            return case.close("z", attacks::alie_z(case.u("n"), case.u("f")), number(case.expected("z")));
        }
        "sign_flip" => attacks::inverted_mean(&honest, case.f("scale")),
        "ipm" => attacks::ipm(&honest, case.f("epsilon")),
        "alie" => attacks::alie(&honest, case.f("z"), case.u("ddof") == 1),
        "mimic" => attacks::mimic(&honest, case.u("target")),
        other => panic!("{case}: {other}"),
    };
    case.all_close("vector", &vector, case.expected("vector"));
}

fn geometric_median<T: Element>(case: &Case, updates: &Updates<'_, T>, gram: &Gram) {
    let weights = case.vector("weights").map(|weights| Weights::new(weights, updates.len()).unwrap());
    let coefficients = rules::geometric_median(gram, weights.as_ref(), Schedule::Converged).unwrap();
    let vector = combined(updates, &coefficients);
    let equal = vec![1.0; updates.len()];
    let weights = weights.as_ref().map_or(equal.as_slice(), Weights::as_slice);
    let distances = rules::distances_to(updates, &vector, ONE);
    let objective: f64 = weights.iter().zip(distances).map(|(weight, distance)| weight * distance).sum();
    let (want, rel) =
        (number(case.expected("objective")), number(&case.value["tolerance"]["objective_rel"][case.precision]));
    assert!((objective - want).abs() <= rel * want + 1e-12, "{case}: objective {objective} instead of {want}");
    if *case.expected("unique") == true {
        case.all_close("vector", &vector, case.expected("vector"));
    }
}

fn pipeline<T: Element>(case: &Case, updates: &Updates<'_, T>) -> Vec<f64> {
    let mut rows = Mixed::from(updates);
    let mut gram = Gram::of(updates, None, ONE).unwrap();
    let mut norms = updates.norms().to_vec();
    for stage in case.value["params"]["stages"].as_array().unwrap() {
        let f = stage["f"].as_u64().map_or(0, |f| f.try_into().unwrap());
        match stage["rule"].as_str().unwrap() {
            "nnm" => gram = stage::nnm(&mut rows, &gram, f).unwrap(),
            "norm_clip" => {
                let radius = radius(case, stage["mode"].as_str().unwrap());
                stage::norm_clip(&mut rows, &norms, radius, f).unwrap();
                gram = rows.gram(&Gram::of(updates, None, ONE).unwrap());
            }
            "bucketing" => {
                let s = stage["s"].as_u64().unwrap().try_into().unwrap();
                stage::bucketing(&mut rows, &permutation(stage), s).unwrap();
                gram = rows.gram(&Gram::of(updates, None, ONE).unwrap());
            }
            "mean" => return rules::mean(&rows, None, ONE),
            "coordinate_median" => return rules::coordinate_median(&rows, ONE),
            "trimmed_mean" => return rules::trimmed_mean(&rows, f, ONE).unwrap(),
            "geometric_median" => {
                let coefficients = rules::geometric_median(&gram, None, Schedule::Converged).unwrap();
                return rows.sum(&coefficients, ONE);
            }
            other => panic!("{case}: {other}"),
        }
        norms = gram.norms().to_vec();
    }
    panic!("{case}: no rule at the end")
}

fn detectors<T: Element>(case: &Case, updates: &Updates<'_, T>, gram: &Gram) {
    let norms = updates.norms();
    let norm_mad = NormMad {
        norm_multiplier: case.f("norm_multiplier"),
        min_ratio: case.f("min_ratio"),
        relative_floor: case.f("relative_floor"),
    };
    let cosine = Cosine {
        cosine_threshold: case.f("cosine_threshold"),
        adaptive_multiplier: case.f("adaptive_multiplier"),
        adaptive_max: case.f("adaptive_max"),
        scale_floor: case.f("scale_floor"),
    };
    assert_eq!((norm_mad, cosine), (NormMad::default(), Cosine::default()), "{case}: what is pinned is the default");

    let want = case.expected("classic");
    let parameters = Classic { norm_multiplier: norm_mad.norm_multiplier, cosine_threshold: cosine.cosine_threshold };
    let got = detector::classic(gram, &parameters);
    case.all_close("norms", norms, &want["norms"]);
    case.close("norm threshold", got.norm_threshold, number(&want["norm_threshold"]));
    case.all_close("classic cosines", &got.cosines, &want["cosines"]);
    case.same("classic, by norm", &got.flagged_by_norm, &want["flagged_by_norm"]);
    case.same("classic, by cosine", &got.flagged_by_cosine, &want["flagged_by_cosine"]);

    let want = case.expected("norm_mad");
    let got = detector::norm_mad(norms, &norm_mad);
    case.close("median", got.median, number(&want["median"]));
    case.close("MAD", got.mad, number(&want["mad"]));
    case.close("threshold", got.threshold, number(&want["threshold"]));
    case.same("norm_mad", &got.flagged, &want["flagged"]);

    let got = detector::norm_loo(norms, &NormLoo { norm_multiplier: norm_mad.norm_multiplier });
    case.same("norm_loo", &got.flagged, &case.expected("norm_loo")["flagged"]);

    let want = case.expected("cosine");
    let got = detector::cosine(gram, &cosine);
    assert_eq!(got.cosines.len(), vector(&want["cosines"]).len(), "{case}");
    case.all_close("cosines", &got.cosines, &want["cosines"]);
    case.same("cosine", &got.flagged, &want["flagged"]);

    for (name, detector) in [
        ("classic", Detector::Classic(parameters)),
        ("norm_mad", Detector::NormMad(norm_mad)),
        ("norm_loo", Detector::NormLoo(NormLoo::default())),
        ("cosine", Detector::Cosine(cosine)),
        ("combined", Detector::default()),
    ] {
        let findings = detector.run(norms, Some(gram)).unwrap();
        case.same(name, &findings.clients(), &case.expected(name)["flagged"]);
    }
}
