//! The commands that need no coordinator: help, exit codes, and what is refused before anything is done.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{Ran, sordino, sordino_in};
use std::fs;

/// Every command explains itself with an example, and hides what weakens it.
#[test]
fn help_shows_an_example_for_every_command() {
    for command in [
        &["init"][..],
        &["serve"],
        &["invite"],
        &["join"],
        &["train"],
        &["task", "create"],
        &["task", "list"],
        &["task", "show"],
        &["round", "list"],
        &["round", "show"],
        &["participant", "list"],
        &["model", "init"],
        &["model", "list"],
        &["model", "get"],
        &["policy", "check"],
        &["budget", "show"],
        &["budget", "plan"],
        &["budget", "history"],
        &["budget", "reset"],
        &["config", "check"],
        &["bench", "secagg"],
        &["bench", "scale"],
        &["bench", "memory"],
        &["bench", "proofs"],
        &["bench", "all"],
    ] {
        let help = sordino(&[command, &["--help"]].concat());
        help.ended(0);
        assert!(help.stdout.contains(&format!("sordino {}", command.join(" "))), "{}", help.stdout);
        assert!(help.stdout.contains("Example"), "{command:?}: {}", help.stdout);
        assert!(!help.stdout.contains("--dev-") && !help.stdout.contains("ready-file"), "{command:?}");
    }
    let help = sordino(&["--help"]);
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "130 "] {
        assert!(help.stdout.lines().any(|line| line.trim_start().starts_with(code)), "{code}: {}", help.stdout);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["init"],
        &["init", "fed", "--federation", "Not A Name", "--name", "localhost"],
        &["invite", "--as", "fed/admin", "short"],
        &["invite", "--as", "fed/admin", "--expires", "24", "hospital-a"],
        &["invite", "--as", "fed/admin", "--server", "http://localhost", "hospital-a"],
        &["train", "site"],
        &["train", "site", "--images", "i"],
        &["train", "site", "--data", "rows.csv", "--exec", "train.sh"],
        &["train", "site", "--data", "rows.csv", "--rounds", "0"],
        &["model", "init", "--architecture", "cnn-1", "out"],
        &["model", "get", "--as", "site", "XYZ", "out"],
        &["round", "show", "--as", "site", "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.0"],
        &["policy", "check", "policy.toml", "--model-len", "0"],
        &["budget", "show"],
        &["budget", "history", "--site", "site", "--as", "fed/admin"],
        &["budget", "reset", "--site", "site", "--by", "ada"],
        &["budget", "reset", "--site", "site", "--by", "ada", "--reason", ""],
    ] {
        let ran = sordino(arguments);
        ran.ended(2);
        assert!(ran.stdout.is_empty() && ran.stderr.starts_with("error: ") || arguments.is_empty(), "{arguments:?}");
    }
}

/// One line says what went wrong, with the whole chain of causes.
#[test]
fn an_error_is_one_line_and_then_hints() {
    let folder = tempfile::tempdir().unwrap();
    let ran = sordino_in(folder.path(), &["policy", "check", "nowhere.toml"]);
    ran.ended(1);
    assert_eq!(ran.stderr, "error: cannot read nowhere.toml: No such file or directory (os error 2)\n");

    let ran = sordino_in(folder.path(), &["task", "list", "--as", "."]);
    ran.ended(1);
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(lines[0].starts_with("error: nothing says where the coordinator is"), "{}", ran.stderr);
    assert_eq!(lines[1], "hint: give --server https://HOST:PORT, or set SORDINO_SERVER");
    assert_eq!(lines.len(), 2);
}

fn init(folder: &std::path::Path) -> Ran {
    sordino_in(folder, &["init", "fed", "--federation", "test.example", "--name", "localhost"])
}

#[test]
fn init_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let made = init(folder.path());
    made.ended(0);
    assert!(made.stdout.contains("fed/sordino.toml"), "{}", made.stdout);
    let key = folder.path().join("fed/root/root.key");
    let before = fs::read(&key).unwrap();
    let again = init(folder.path());
    again.ended(1);
    assert!(again.stderr.contains("sordino.toml") && again.stderr.contains("keys are never overwritten"));
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[test]
fn an_unknown_config_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path()).ended(0);
    let check = |json: &[&str]| sordino_in(folder.path(), &[&["config", "check", "fed/sordino.toml"], json].concat());
    check(&[]).ended(0);
    let summary: serde_json::Value = serde_json::from_str(&check(&["--output", "json"]).stdout).unwrap();
    assert_eq!(summary["federation"], "test.example");

    let path = folder.path().join("fed/sordino.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[limts]\nmax_streams = 3\n")).unwrap();
    for ran in [check(&[]), sordino_in(folder.path(), &["serve", "--config", "fed/sordino.toml"])] {
        ran.ended(1);
        assert!(ran.stderr.contains("limts") && ran.stderr.contains("sordino.toml"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

/// Everything behind `--exec` belongs to the program, what looks like an option of ours included.
#[test]
fn a_program_keeps_its_own_options() {
    let ran = sordino(&["train", "nowhere", "--exec", "train.sh", "--fast", "--seed", "x"]);
    ran.ended(1);
    assert!(ran.stderr.contains("nowhere/participant.toml"), "{}", ran.stderr);
}

/// What weakens a coordinator never meets a network.
#[test]
fn insecure_dev_off_loopback_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["init", "fed", "--federation", "test.example", "--name", "localhost", "--listen", "0.0.0.0:0"];
    sordino_in(folder.path(), &arguments).ended(0);
    let ran = sordino_in(folder.path(), &["serve", "--config", "fed/sordino.toml", "--insecure-dev"]);
    ran.ended(1);
    assert!(ran.stderr.contains("loopback"), "{}", ran.stderr);
}

#[test]
fn options_that_weaken_a_site_need_the_flag() {
    for (option, value) in [
        ("--dev-dump", "dump"),
        ("--dev-vanish", "3:ShareKeys"),
        ("--dev-split", "0/3/0.5/1"),
        ("--dev-attack", "scale10"),
    ] {
        let ran = sordino(&["train", "site", "--data", "rows.csv", option, value]);
        ran.ended(2);
        assert!(ran.stderr.contains(option) && ran.stderr.contains("--insecure-dev"), "{}", ran.stderr);
    }
}

#[test]
fn a_model_is_made_once_and_the_same_for_a_seed() {
    let folder = tempfile::tempdir().unwrap();
    let make = |seed: &str, out: &str| {
        sordino_in(folder.path(), &["model", "init", "--architecture", "mlp-64-32-10", "--seed", seed, out])
    };
    let first = make("1", "a");
    first.ended(0);
    assert_eq!(first.stdout.trim().len(), 64, "a digest");
    let second = make("1", "b");
    second.ended(0);
    assert_eq!(first.stdout, second.stdout);
    let other = make("2", "c");
    other.ended(0);
    assert_ne!(first.stdout, other.stdout);
    make("2", "a").ended(1);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
}

/// Numbers of the policy in the documentation: a complete graph of 8 and of 10, and 2,411 values of 31 bits or fewer.
#[test]
fn a_policy_is_checked_and_what_follows_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "[task]\nname = \"digits\"\nrounds = 20\n[privacy]\nenabled = false\n";
    fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let arguments = ["policy", "check", "policy.toml", "--model-len", "2410", "--output", "json"];
    let ran = sordino_in(folder.path(), &arguments);
    ran.ended(0);
    let checked: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let cohorts = checked["cohorts"].as_array().unwrap();
    let numbers = |at: usize| ["participants", "k", "t"].map(|key| cohorts[at][key].as_u64().unwrap());
    assert_eq!((numbers(0), numbers(1)), ([8, 7, 5], [10, 9, 6]));
    let (bits, bytes) = (checked["input"]["ring_bits"].as_u64().unwrap(), checked["input"]["bytes"].as_u64().unwrap());
    assert_eq!(checked["input"]["values"], 2411);
    assert_eq!(bytes, (2411 * bits).div_ceil(8));

    fs::write(folder.path().join("policy.toml"), format!("{policy}[cohort]\nmin = 2\n")).unwrap();
    let ran = sordino_in(folder.path(), &arguments[..3]);
    ran.ended(1);
    assert!(ran.stderr.contains("cohort.min") && ran.stderr.contains("hint: "), "{}", ran.stderr);
}

/// What inputs prove is shown before anybody makes a task; too wide a bound is refused, with the ways out.
#[test]
fn a_policy_with_norm_proofs_shows_its_effective_bound() {
    let folder = tempfile::tempdir().unwrap();
    let check = |policy: &str, more: &[&str]| {
        let policy = format!("[task]\nname = \"digits\"\nrounds = 1\n{policy}");
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        sordino_in(folder.path(), &[&["policy", "check", "policy.toml"], more].concat())
    };
    const LEN: [&str; 2] = ["--model-len", "2410"];
    const PROVEN: &str = "[robustness]\nproof = \"transparent\"\n";
    let json = |policy: &str| {
        let ran = check(policy, &[&LEN[..], &["--output", "json"]].concat());
        ran.ended(0);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()
    };

    // Exact sums: an attacker gets what rounding leaves, and nothing else.
    let exact = format!("{PROVEN}[privacy]\nenabled = false\n");
    let proof = &json(&exact)["proof"];
    let bound = proof["effective_bound"].as_f64().unwrap();
    assert!((1.0..1.01).contains(&bound), "{proof}");
    let [rows, commitments, bytes] =
        ["commitment_rows", "commitments_bytes", "proof_bytes"].map(|key| proof[key].as_u64().unwrap());
    // 2,410 values and the weight in rows of 64 at most; each row is a point of 32 bytes, and there are masks beside them.
    assert!(rows >= 2411_u64.div_ceil(64) && commitments > 32 * rows && bytes > 128 * 16, "{proof}");
    let text = check(&exact, &LEN);
    text.ended(0);
    assert!(text.stdout.contains("effective bound 1.0 x clip norm"), "{}", text.stdout);
    assert!(text.stdout.contains(&format!("{commitments} bytes of commitments ({rows} rows, and masks)")));
    assert!(text.stdout.contains(&format!("a proof of {bytes} bytes")), "{}", text.stdout);
    assert!(json("[privacy]\nenabled = false\n").get("proof").is_none());

    // A share of the noise in every input is room for an attacker.
    let noised = |max: &str| {
        format!(
            "{PROVEN}[privacy]\nunit = \"participant\"\nnoise = \"participants\"\nnoise_multiplier = 1.1\n\
             max_effective_bound = {max}\n[cohort]\nmin = 100\ntarget = 100\nmax_dropout_fraction = 0.0\n\
             max_corrupt_fraction = 0.0\n"
        )
    };
    let bound = json(&noised("100.0"))["proof"]["effective_bound"].as_f64().unwrap();
    let text = check(&noised("100.0"), &LEN);
    assert!(bound > 5.0 && text.stdout.contains(&format!("effective bound {bound:.1} x clip norm")), "{}", text.stdout);
    let refused = check(&noised("3.0"), &LEN);
    refused.ended(1);
    for part in [
        "privacy.max_effective_bound = 3",
        &format!("{bound:.1} x clip norm"),
        "privacy.noise = \"coordinator\"",
        "privacy.unit = \"record\"",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
}

/// A short run of every cohort; each compares the opened sum with the plain one before it reports. Without the other
/// implementation there is nothing to compare with, and that is no failure.
#[test]
fn a_quick_benchmark_measures_every_cohort() {
    let ran = sordino(&["bench", "secagg", "--quick", "--python", "/nonexistent/python3", "--output", "json"]);
    ran.ended(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1 + 3 * 3);
    assert_eq!((&rows[0]["n"], &rows[0]["k"]), (&22.into(), &21.into()));
    for row in rows {
        let [unmask, per_value] = ["unmask_cpu_ms", "bytes_per_value"].map(|key| row[key].as_f64().unwrap());
        assert!(unmask > 0.0 && (2.0..5.0).contains(&per_value), "{row}");
    }
    for key in ["masking", "adding"] {
        assert!(report[key]["fraction"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(report["peer"]["skipped"], "there is no /nonexistent/python3");
    assert!(ran.stderr.contains("the peer is skipped: there is no /nonexistent/python3"), "{}", ran.stderr);
}

/// Cohorts of three sizes, split by step and by role; each compares its sum before it reports.
#[test]
fn a_quick_scale_shows_a_curve() {
    let ran = sordino(&["bench", "scale", "--quick", "--output", "json"]);
    ran.ended(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let cohort = &report["cohorts"][0];
    assert_eq!((&cohort["n"], &cohort["dropouts"], &cohort["corrupt"]), (&24.into(), &3.into(), &2.into()));
    let answered: Vec<_> = cohort["steps"].as_array().unwrap().iter().map(|step| step["answered"].as_u64()).collect();
    assert_eq!(answered, [24, 24, 21, 21, 21, 0].map(Some));
    let share = cohort["bytes_up_of_limit"].as_f64().unwrap();
    assert!(share > 0.0 && share <= 1.0, "a participant sends {share} of what it may");
    let points = report["curve"]["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["n"].as_u64()).collect::<Vec<_>>(), [12, 24, 36].map(Some));
    assert!(report["curve"]["by_log2_n"]["residual"].as_f64().unwrap() >= 0.0);
}

/// The memory of a small round, in a process of its own, with states and inputs in files.
#[test]
fn the_memory_of_a_round_is_measured() {
    let ran = sordino(&["bench", "memory", "--n", "20", "--d", "50000", "--output", "json"]);
    ran.ended(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let bytes = |key: &str| report[key].as_u64().unwrap();
    let (n, k) = (bytes("n"), bytes("k"));
    assert_eq!(bytes("limit_bytes"), 3 * 4 * 50_000 + 100_000_000 + 3_000 * n * k);
    assert!(bytes("before_bytes") > 0 && bytes("peak_bytes") >= bytes("before_bytes"));
    assert!(bytes("peak_bytes") < bytes("limit_bytes"), "{report}");
}

/// Proofs are made and verified in both settings; one of a million values is verified in little memory.
#[test]
fn a_quick_benchmark_of_proofs_measures_both_settings() {
    let ran = sordino(&["bench", "proofs", "--quick", "--output", "json"]);
    ran.ended(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["setting"].as_str()).collect::<Vec<_>>(), ["fast", "small"].map(Some));
    for row in rows {
        for key in ["prove_ms", "commit_ms", "prove_of_msm", "two_threads", "verify_ms"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key} of {row}");
        }
    }
    let memory = &report["memory"];
    assert_eq!(memory["model_len"], 1 << 20);
    assert!(memory["peak_bytes"].as_u64().unwrap() < 64_000_000, "{memory}");
}

#[test]
fn sizes_that_cannot_be_measured_are_refused() {
    for arguments in [
        &["scale", "--n", "100"][..],
        &["scale", "--n", "3", "--d", "10"],
        &["scale", "--dropouts", "1.5"],
        &["scale", "--corrupt-fraction", "0.1"],
        &["scale", "--quick", "--n", "100", "--d", "10"],
        &["memory", "--n", "0"],
        &["memory", "--dropouts", "nan"],
    ] {
        sordino(&[&["bench"], arguments].concat()).ended(2);
    }
    // Possible to ask for, impossible to keep: half of them silent leaves too few to open anything.
    let ran = sordino(&["bench", "scale", "--n", "20", "--d", "10", "--dropouts", "0.5"]);
    ran.ended(1);
    assert!(ran.stderr.contains("10 dropouts"), "{}", ran.stderr);
}

/// An earlier run stays as it is, and is no failure of this one.
#[test]
fn a_demo_does_not_run_into_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("kept")).unwrap();
    let ran = sordino_in(folder.path(), &["demo", "--keep", "kept"]);
    ran.ended(1);
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines[0], "error: kept exists; --keep takes a folder that does not");
    assert!(lines.len() == 2 && lines[1].starts_with("hint: give --keep another name"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path().join("kept")).unwrap().count(), 0);
}
