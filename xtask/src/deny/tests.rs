use std::path::Path;

use serde_json::json;

use super::advisories::Database;
use super::config::Config;
use super::*;
use crate::fabricated::{Fake, workspace};

/// The committed rules, so that a test also fails where they were weakened.
fn rules() -> Config {
    config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CONFIG)).expect("deny.toml is read")
}

/// The committed rules with lists of exceptions of the test's own.
fn rules_with(skip: &str, ignore: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CONFIG);
    let mut table: toml::Table = std::fs::read_to_string(path).expect("is there").parse().expect("is TOML");
    for (section, key, value) in [("bans", "skip", skip), ("advisories", "ignore", ignore)] {
        let parsed: toml::Table = format!("x = [{value}]").parse().expect("is TOML");
        table[section].as_table_mut().expect("is a table").insert(key.to_owned(), parsed["x"].clone());
    }
    table.try_into().expect("the test's rules are rules")
}

/// Runs one check over a workspace of these crates.
fn found(packages: &[Fake], check: impl Fn(&Graph<'_>, &mut Vec<Violation>)) -> Vec<String> {
    let metadata = workspace(packages);
    let graph = Graph::new(&metadata).expect("the graph is whole");
    let mut violations = Vec::new();
    check(&graph, &mut violations);
    violations.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_one(found: &[String], words: &[&str]) {
    assert_eq!(found.len(), 1, "{found:?}");
    for word in words {
        assert!(found[0].contains(word), "`{word}` is missing in: {}", found[0]);
    }
}

/// A member of the workspace that uses one crate through another.
fn using(other: &Fake) -> [Fake; 3] {
    let middle = Fake::other("middle").uses(other);
    [Fake::ours("sordino").uses(&middle), middle, other.clone()]
}

#[test]
fn a_licence_that_is_not_allowed_or_missing() {
    let check = |packages: &[Fake]| found(packages, |graph, out| check_licenses(graph, &rules(), Part::Product, out));
    for fine in ["MIT", "MIT/Apache-2.0", "Unlicense OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "BSL-1.0"] {
        assert_eq!(check(&using(&Fake::other("x").license(Some(fine)))), Vec::<String>::new(), "{fine}");
    }
    for bad in ["GPL-3.0-only", "MIT AND MPL-2.0", "BSD-3-Clause-Clear", "OpenSSL", "MIT OR"] {
        let bad_crate = Fake::other("x").license(Some(bad));
        assert_one(&check(&using(&bad_crate)), &["x 1.0.0", bad, "sordino 1.0.0 -> middle 1.0.0 -> x 1.0.0"]);
    }
    assert_one(&check(&using(&Fake::other("x").license(None))), &["x 1.0.0", "no licence"]);
}

/// The committed exception, for the crate that it names, in the fuzzer only.
#[test]
fn an_exception_holds_for_one_crate_of_the_fuzzer() {
    let check = |fake: Fake, part| found(&using(&fake), |graph, out| check_licenses(graph, &rules(), part, out));
    let license = Some("(MIT OR Apache-2.0) AND NCSA");
    let libfuzzer = || Fake::other("libfuzzer-sys").license(license);
    assert_eq!(check(libfuzzer(), Part::Fuzzer), Vec::<String>::new());
    assert_one(&check(libfuzzer(), Part::Product), &["libfuzzer-sys", "NCSA", "middle"]);
    let other = check(Fake::other("x").license(license), Part::Fuzzer);
    assert!(other.iter().any(|line| line.contains("x 1.0.0") && line.contains("NCSA")), "{other:?}");
    let worse = check(libfuzzer().license(Some("MIT AND NCSA AND GPL-3.0-only")), Part::Fuzzer);
    assert_one(&worse, &["libfuzzer-sys", "GPL-3.0-only"]);
    // An exception that nothing needs any more is in the way of the next reader.
    assert_one(&check(libfuzzer().license(Some("MIT")), Part::Fuzzer), &["libfuzzer-sys", "remove"]);
    assert_one(&check(Fake::other("x"), Part::Fuzzer), &["libfuzzer-sys", "remove"]);
}

#[test]
fn a_banned_crate_however_deep() {
    for banned in [
        "ring",
        "rsa",
        "openssl",
        "openssl-sys",
        "native-tls",
        "rustls-pemfile",
        "bincode",
        "serde_cbor",
        "serde_yaml",
        "paste",
        "backoff",
        "dotenv",
    ] {
        let found = found(&using(&Fake::other(banned)), |graph, out| check_bans(graph, &rules(), out));
        assert_one(&found, &[banned, "banned", "middle"]);
    }
}

#[test]
fn a_crate_behind_a_weak_feature_is_not_built_and_not_banned() {
    let ring = Fake::other("ring");
    let optional = json!({"optional": true});
    let webpki = || {
        let table = Fake::other("webpki").declares("ring", optional.clone()).resolves(&ring);
        table
            .feature("std", &["ring?/std"])
            .feature("ring", &["dep:ring"])
            .feature("strong", &["ring/std"])
            .enabled("std")
    };
    let check = |webpki: Fake| {
        let packages = [Fake::ours("sordino").uses(&webpki), webpki, ring.clone()];
        found(&packages, |graph, out| check_bans(graph, &rules(), out))
    };
    assert_eq!(check(webpki()), Vec::<String>::new());
    assert_one(&check(webpki().enabled("ring")), &["ring 1.0.0"]);
    assert_one(&check(webpki().enabled("strong")), &["ring 1.0.0"]);
    // Without a feature table, the dependency's own name is the feature.
    let implicit = Fake::other("webpki").declares("ring", optional.clone()).resolves(&ring).enabled("ring");
    assert_one(&check(implicit), &["ring 1.0.0"]);
}

#[test]
fn two_versions_of_a_crate_of_which_one_must_be() {
    for name in ["curve25519-dalek", "ed25519-dalek", "x25519-dalek", "aws-lc-rs", "rustls", "rand_core"] {
        let (old, new) = (Fake::other(name).version("4.1.0"), Fake::other(name).version("5.0.0"));
        let middle = Fake::other("middle").uses(&old);
        let packages = [Fake::ours("sordino").uses(&new).uses(&middle), middle, old, new];
        let found = found(&packages, |graph, out| check_duplicates(graph, &rules_with("", ""), out));
        assert_one(&found, &[name, "2 versions", "middle 1.0.0"]);
    }
}

#[test]
fn a_skipped_version_is_no_duplicate_until_ours_use_it() {
    let rules = || rules_with("{ crate = 'rand_core@0.9', reason = 'a test' }", "");
    let (old, new) = (Fake::other("rand_core").version("0.9.5"), Fake::other("rand_core").version("0.10.1"));
    let middle = Fake::other("middle").uses(&old);
    let ours = || Fake::ours("sordino").uses(&new).uses(&middle);
    let check = |packages: &[Fake]| found(packages, |graph, out| check_duplicates(graph, &rules(), out));
    let stale = |packages: &[Fake]| found(packages, |graph, out| check_stale_skips(graph, &rules(), out));

    assert_eq!(stale(&[ours(), middle.clone(), old.clone(), new.clone()]), Vec::<String>::new());
    assert_eq!(check(&[ours(), middle.clone(), old.clone(), new.clone()]), Vec::<String>::new());
    let direct = check(&[ours().uses(&old), middle.clone(), old, new.clone()]);
    assert_one(&direct, &["sordino", "rand_core 0.9.5"]);
    assert_one(&stale(&[Fake::ours("sordino").uses(&new), new]), &["rand_core", "remove"]);
}

#[test]
fn a_wildcard_version_in_a_manifest_of_ours() {
    for req in ["*", "1.*"] {
        let ours = Fake::ours("sordino").declares("x", json!({"req": req}));
        let found = found(&[ours], check_wildcards);
        assert_one(&found, &["sordino", "x", req]);
    }
    let by_path =
        Fake::ours("sordino").declares("sordino-codec", json!({"req": "*", "source": null, "path": "/w/codec"}));
    assert_eq!(found(&[by_path], check_wildcards), Vec::<String>::new());
}

#[test]
fn a_crate_from_elsewhere() {
    for source in [
        "git+https://github.com/example/x?rev=1#1",
        "registry+https://registry.example/index",
        "https://github.com/rust-lang/crates.io-index",
    ] {
        let x = Fake::other("x").source(source);
        let found = found(&using(&x), |graph, out| check_sources(graph, &rules(), Path::new("/w"), out));
        assert_one(&found, &["x 1.0.0", source]);
    }
    let check =
        |root| found(&using(&Fake::other("x")), |graph, out| check_sources(graph, &rules(), Path::new(root), out));
    assert_eq!(check("/w"), Vec::<String>::new());
    // Ours by no more than a path that leads elsewhere.
    assert_one(&check("/elsewhere"), &["sordino 1.0.0", "outside"]);
}

fn database(withdrawn: Option<&str>) -> Database {
    serde_json::from_value(json!({
        "source": "test", "commit": "0", "snapshot": "2026-01-01", "advisories": [{
            "id": "RUSTSEC-2026-9999", "package": "x", "title": "leaks", "date": "2026-01-01",
            "patched": [">= 1.2.3", ">= 1.0.7, < 1.1.0"], "unaffected": ["< 0.9.0"], "withdrawn": withdrawn,
        }],
    }))
    .expect("has the shape")
}

#[test]
fn a_version_with_a_known_vulnerability() {
    let check = |version: &str, database: &Database| {
        let packages = using(&Fake::other("x").version(version));
        found(&packages, |graph, out| check_advisories(graph, &rules_with("", ""), database, out))
    };
    for (version, affected) in [
        ("0.8.9", false),
        ("0.9.0", true),
        ("1.0.6", true),
        ("1.0.7", false),
        ("1.1.0", true),
        ("1.2.2", true),
        ("1.2.3", false),
        ("2.0.0", false),
    ] {
        let found = check(version, &database(None));
        assert_eq!(!found.is_empty(), affected, "{version}: {found:?}");
        if affected {
            assert_one(&found, &["x", version, "RUSTSEC-2026-9999", "vulnerability", ">=1.2.3", "middle"]);
        }
        assert_eq!(check(version, &database(Some("2026-02-02"))), Vec::<String>::new());
    }
}

#[test]
fn an_ignored_advisory_needs_a_reason_and_a_use() {
    let ignoring = || rules_with("", "{ id = 'RUSTSEC-2026-9999', reason = 'not reachable' }");
    let check = |version: &str| {
        let packages = using(&Fake::other("x").version(version));
        found(&packages, |graph, out| {
            check_advisories(graph, &ignoring(), &database(None), out);
            check_stale_ignores(graph, &ignoring(), &database(None), out);
        })
    };
    assert_eq!(check("1.0.0"), Vec::<String>::new());
    assert_one(&check("2.0.0"), &["RUSTSEC-2026-9999", "remove", "not reachable"]);

    let without_reason: Result<config::Ignore, _> = toml::from_str("id = 'RUSTSEC-2026-9999'");
    assert!(without_reason.is_err());
}

#[test]
fn a_rule_that_would_not_be_enforced_is_refused() {
    let committed =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CONFIG)).expect("is there");
    for (from, to) in [
        ("wildcards = \"deny\"", "wildcards = \"warn\""),
        ("unknown-git = \"deny\"", "unknown-git = \"allow\""),
        ("unmaintained = \"all\"", "unmaintained = \"none\""),
        ("all-features = false", "all-features = true"),
        ("allow-wildcard-paths = true", "allow-wildcard-paths = true\nworkspace-default-features = \"deny\""),
    ] {
        assert!(committed.contains(from), "{from}");
        let changed: Result<Config, _> = toml::from_str(&committed.replace(from, to));
        assert!(changed.is_err(), "{to}");
    }
}

#[test]
fn the_committed_advisories_are_readable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(ADVISORIES);
    let database = advisories::load(&path).expect("every requirement is understood").expect("is there");
    // A known one, by its known answer: RUSTSEC-2024-0344, timing of curve25519-dalek before 4.1.3.
    let timing = database.advisories.iter().find(|one| one.id == "RUSTSEC-2024-0344").expect("is in the snapshot");
    assert!(timing.affects("curve25519-dalek", &"4.1.2".parse().expect("a version")));
    assert!(!timing.affects("curve25519-dalek", &"4.1.3".parse().expect("a version")));

    let nowhere = advisories::load(Path::new("/nowhere/advisories.json")).expect("absence is no failure");
    assert!(nowhere.is_none());
}
