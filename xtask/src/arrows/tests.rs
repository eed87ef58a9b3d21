use serde_json::json;

use super::violations;
use crate::fabricated::{Fake, workspace};

/// Checks a workspace of these crates and returns what was found, as text.
fn found(packages: &[Fake]) -> Vec<String> {
    violations(&workspace(packages)).iter().map(ToString::to_string).collect()
}

/// One violation, and it names all of `words`.
#[track_caller]
fn assert_one(packages: &[Fake], words: &[&str]) {
    let found = found(packages);
    assert_eq!(found.len(), 1, "{found:?}");
    for word in words {
        assert!(found[0].contains(word), "`{word}` is missing in: {}", found[0]);
    }
}

fn lean(features: &[&str]) -> serde_json::Value {
    json!({"uses_default_features": false, "features": features})
}

#[test]
fn what_the_table_allows_passes() {
    let codec = Fake::ours("sordino-codec").declares("half", lean(&["std"])).declares("thiserror", json!({}));
    let secagg = Fake::ours("sordino-secagg").uses(&codec).declares("curve25519-dalek", lean(&["alloc"]));
    let store = Fake::ours("sordino-store").declares("sqlx", json!({})).declares("tokio", json!({}));
    let coordinator = Fake::ours("sordino-coordinator").uses(&store).uses(&secagg).declares("axum", json!({}));
    assert_eq!(found(&[codec, secagg, store, coordinator]), Vec::<String>::new());
}

#[test]
fn a_core_with_a_runtime_a_socket_a_file_or_global_randomness() {
    for outside in ["tokio", "reqwest", "axum", "hyper", "sqlx", "getrandom", "rand", "rustls", "tempfile", "libc"] {
        for core in ["sordino-codec", "sordino-secagg", "sordino-identity", "sordino-wire", "sordino-sim"] {
            assert_one(&[Fake::ours(core).declares(outside, json!({}))], &[core, outside, "core"]);
        }
    }
}

#[test]
fn optional_platform_and_build_dependencies_count() {
    for how in [json!({"optional": true}), json!({"target": "cfg(unix)"}), json!({"kind": "build"})] {
        assert_one(&[Fake::ours("sordino-codec").declares("libc", how)], &["sordino-codec", "libc"]);
    }
}

#[test]
fn tests_of_a_core_may_use_what_they_like() {
    let codec = Fake::ours("sordino-codec").declares("tempfile", json!({"kind": "dev"}));
    assert_eq!(found(&[codec]), Vec::<String>::new());
}

#[test]
fn what_one_core_may_use_another_may_not() {
    let rcgen = lean(&["pem"]);
    assert_eq!(found(&[Fake::ours("sordino-identity").declares("rcgen", rcgen.clone())]), Vec::<String>::new());
    assert_one(&[Fake::ours("sordino-codec").declares("rcgen", rcgen)], &["sordino-codec", "rcgen"]);
}

#[test]
fn a_rename_hides_nothing() {
    let codec = Fake::ours("sordino-codec").declares("tokio", json!({"rename": "thiserror"}));
    assert_one(&[codec], &["sordino-codec", "tokio"]);
}

#[test]
fn a_core_that_asks_for_a_random_source() {
    for (core, dependency, feature) in [
        ("sordino-codec", "rand_core", "os_rng"),
        ("sordino-sim", "rand_chacha", "os_rng"),
        ("sordino-secagg", "curve25519-dalek", "getrandom"),
        ("sordino-secagg", "ed25519-dalek", "getrandom"),
    ] {
        let asks = Fake::ours(core).declares(dependency, lean(&[feature]));
        assert_one(&[asks], &[core, dependency, feature]);
    }
}

#[test]
fn a_core_that_takes_default_features_it_must_not_have() {
    let secagg = Fake::ours("sordino-secagg").declares("aws-lc-rs", json!({}));
    assert_one(&[secagg], &["sordino-secagg", "aws-lc-rs", "default-features"]);
    let by_name = Fake::ours("sordino-secagg").declares("aws-lc-rs", lean(&["default"]));
    assert_one(&[by_name], &["sordino-secagg", "aws-lc-rs", "default"]);
}

#[test]
fn a_core_whose_feature_table_asks_for_a_random_source() {
    for value in ["rand_core/os_rng", "rand_core?/os_rng"] {
        let direct = Fake::ours("sordino-codec").declares("rand_core", json!({})).feature("x", &[value]);
        assert_one(&[direct], &["sordino-codec", "rand_core", "os_rng"]);
    }
    let renamed = Fake::ours("sordino-codec")
        .declares("rand_core", json!({"rename": "randomness"}))
        .feature("x", &["randomness/os_rng", "dep:randomness"]);
    assert_one(&[renamed], &["sordino-codec", "rand_core", "os_rng"]);
}

#[test]
fn a_core_with_a_build_script() {
    assert_one(&[Fake::ours("sordino-wire").build_script()], &["sordino-wire", "build script"]);
    assert_eq!(found(&[Fake::ours("sordino-store").build_script()]), Vec::<String>::new());
}

#[test]
fn an_arrow_from_core_to_shell() {
    let store = Fake::ours("sordino-store");
    let secagg = Fake::ours("sordino-secagg").uses(&store);
    assert_one(&[store, secagg], &["sordino-secagg", "sordino-store", "shell to core"]);
}

#[test]
fn an_arrow_between_cores_that_goes_up() {
    let wire = Fake::ours("sordino-wire");
    let codec = Fake::ours("sordino-codec").uses(&wire);
    assert_one(&[wire, codec], &["sordino-codec", "sordino-wire"]);
}

#[test]
fn shells_that_know_each_other() {
    for (from, to) in [
        ("sordino-store", "sordino-coordinator"),
        ("sordino-participant", "sordino-coordinator"),
        ("sordino-coordinator", "sordino-participant"),
    ] {
        let target = Fake::ours(to);
        let source = Fake::ours(from).uses(&target);
        assert_one(&[target, source], &[from, to, "shells"]);
    }
}

#[test]
fn nothing_depends_on_the_command_line_or_the_chores() {
    for nobody_uses in ["sordino", "xtask"] {
        let target = Fake::ours(nobody_uses);
        let source = Fake::ours("sordino-participant").uses(&target);
        assert_one(&[target.clone(), source], &["sordino-participant", nobody_uses, "nothing may depend"]);
        // Not even tests.
        let tests = Fake::ours("sordino-participant").declares(nobody_uses, json!({"kind": "dev"}));
        assert_one(&[target, tests], &["sordino-participant", nobody_uses]);
    }
}

#[test]
fn a_crate_without_a_place() {
    assert_one(&[Fake::ours("sordino-novelty")], &["sordino-novelty", "no place"]);
}
