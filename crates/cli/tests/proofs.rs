//! What people see of norm proofs, with every participant as a process of its own: who cheats is named.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{
    service::{Federation, Service},
    sordino,
};
use std::fs;

const POLICY: &str = "\
[task]
name = \"proven\"
rounds = 1
[cohort]
min = 3
target = 4
max_dropout_fraction = 0.25
max_corrupt_fraction = 0.0
[privacy]
enabled = false
[robustness]
proof = \"transparent\"
[timing]
participant_timeout = 30.0
round_timeout = 60.0
step_timeout = 20.0
[encoding]
max_weight = 1
";

/// Of four sites one sends minus ten times its update: `round show` says so, and that the others' sum was checked.
#[tokio::test]
async fn who_is_refused_is_shown_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[]).await;
    fs::write(home.join("rows.csv"), "split,label,x\ntrain,0,-1\ntrain,1,1\ntrain,0,-2\n").unwrap();
    let sites = ["site-aaaa", "site-bbbb", "site-cccc", "site-dddd"];
    for site in sites {
        federation.join(site).await;
    }
    common::sordino_in(home, &["model", "init", "--architecture", "softmax-1-2", "first"]).ended(0);
    let task = federation.create_task(POLICY, &fs::read(home.join("first")).unwrap());
    let _running = sites.map(|site| {
        let attack: &[&str] = if site == "site-dddd" { &["--insecure-dev", "--dev-attack", "scale10"] } else { &[] };
        Service::start(home, site, &[&["train", site, "--data", "rows.csv"], attack].concat(), &[])
    });
    let round = federation.ended_round(&task, 1).await;
    let release = round.release.unwrap();
    let shown = federation.run(&["round", "show", &round.id.to_string()]);
    let refused = format!("refused       site-dddd, a dropout: {}", release.refused[&"site-dddd".parse().unwrap()]);
    for line in [
        "survivors     site-aaaa site-bbbb site-cccc",
        "proven        every input in the sum: effective bound 1.0 x clip norm",
        "check         attempt 1, group 0: passed, its sum is that of the inputs that were proven: site-aaaa site-bbbb \
         site-cccc",
        &refused,
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert_eq!(release.refused.len(), 1, "{shown}");
}

/// A demo of three rounds with two attackers among ten sites; its report.
fn attacked(options: &[&str]) -> serde_json::Value {
    let ran = sordino(&[&["demo", "--rounds", "3", "--output", "json", "--keep", "kept"], options].concat());
    ran.ended(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn accuracy(report: &serde_json::Value) -> f64 {
    report["rounds"][2]["accuracy"].as_f64().unwrap()
}

/// Minus ten times an update from a fifth of the sites: without proofs the model ends at chance, which is 0.1.
#[test]
fn without_proofs_a_few_attackers_destroy_the_model() {
    let report = attacked(&["--attack", "scale10", "--proof", "none"]);
    assert!(accuracy(&report) < 0.25, "{report}");
    let attack = &report["attack"];
    assert_eq!((&attack["named_rounds"], &attack["spoiled_rounds"]), (&0.into(), &3.into()), "{attack}");
    // So it is the attack, and not that there were three rounds only.
    assert!(attack["accuracy_without_attack"].as_f64().unwrap() > 0.8, "{attack}");
    assert!(report["rounds"].as_array().unwrap().iter().all(|round| round["survivors"] == 10), "{report}");
}

/// With proofs, which `--attack` alone asks for, each attacker is named in each round, and the model is about what it would be
/// without them.
#[test]
fn with_proofs_attackers_are_named_in_every_round_and_accuracy_holds() {
    let report = attacked(&["--attack", "scale10"]);
    assert_eq!(report["proof"], "transparent");
    assert!(accuracy(&report) > 0.8, "{report}");
    let attack = &report["attack"];
    let attackers: Vec<_> = attack["attackers"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((&attack["named_rounds"], &attack["spoiled_rounds"]), (&3.into(), &0.into()), "{attack}");
    for round in report["rounds"].as_array().unwrap() {
        let refused = round["shown"]["refused"].as_object().unwrap();
        assert_eq!(refused.keys().map(String::as_str).collect::<Vec<_>>(), attackers, "{round}");
        assert_eq!((attackers.len(), &round["survivors"]), (2, &8.into()), "{round}");
        assert!(round["verified_values"].as_u64().unwrap() > 2410, "{round}");
    }
}

/// What cannot be shown is a wrong command line, before anything is started.
#[test]
fn attacks_that_show_nothing_are_refused() {
    for (options, why) in [
        (&["--attack", "garbled", "--proof", "none"][..], "there are none"),
        (&["--attack", "replayed", "--proof", "none"], "there are none"),
        (&["--attack", "scale10", "--participants", "4"], "5 participants at least"),
        (&["--attack", "mismatch", "--participants", "5"], "6 participants at least"),
        (&["--dp", "participant", "--proof", "transparent"], "share of the noise"),
        (&["--attack", "scale11"], "scale10"),
    ] {
        let ran = sordino(&[&["demo"], options].concat());
        ran.ended(2);
        assert!(ran.stderr.contains(why) && ran.stdout.is_empty(), "{options:?}: {}", ran.stderr);
    }
}
