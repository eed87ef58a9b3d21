//! What people see of norm proofs, with every participant as a process of its own: who cheats is named.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::service::{Federation, Service};
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
