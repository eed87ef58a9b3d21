//! Programs of a site's own as trainers, played by the shell.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sordino_codec::Tensors;
use sordino_participant::training::{
    Architecture, ExecError, ExecTrainer, Hyperparameters, OutputFile, RecordPrivacy, RoundInfo, TrainError, Trained,
    Trainer,
};

const PATIENT: Duration = Duration::from_secs(30);
const METRICS: &str = r#"printf '{"num_examples": 7, "metrics": {"loss_sum": 1.5}}' > "$SORDINO_METRICS_OUT""#;

fn model() -> Tensors {
    Architecture::Softmax { features: 3, classes: 2 }.initial(1).unwrap()
}

fn hyperparameters() -> Hyperparameters {
    Hyperparameters { local_epochs: 2, batch_size: 16, learning_rate: 0.25, momentum: 0.5 }
}

/// Runs the script with `$1` naming a file that holds `update`, and shows that no scratch folder is left behind.
fn run(script: &str, update: &[u8], timeout: Duration) -> Result<Trained, ExecError> {
    run_round(script, update, timeout, (0.0, None))
}

fn run_round(
    script: &str,
    update: &[u8],
    timeout: Duration,
    (proximal_mu, privacy): (f64, Option<RecordPrivacy>),
) -> Result<Trained, ExecError> {
    let folder = tempfile::tempdir().unwrap();
    let (scratch, prepared) = (folder.path().join("scratch"), folder.path().join("prepared"));
    std::fs::create_dir(&scratch).unwrap();
    std::fs::write(&prepared, update).unwrap();
    let args = ["-c", script, "sh"].map(OsString::from).into_iter().chain([prepared.into_os_string()]).collect();
    let mut trainer = ExecTrainer::new("/bin/sh", args, timeout).with_scratch(&scratch);
    let round = RoundInfo { round: 4, hyperparameters: hyperparameters(), proximal_mu, privacy };
    let result = trainer.train(&model(), &round);
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "a scratch folder was left behind");
    result.map_err(|error| match error {
        TrainError::Exec(error) => error,
        other => panic!("{other}"),
    })
}

fn trained() -> Tensors {
    let model = model();
    let values = model.values().iter().map(|value| value + 1.0).collect();
    Tensors::new(model.layout().clone(), values).unwrap()
}

#[test]
fn a_program_trains() {
    let script = format!("cp \"$1\" \"$SORDINO_UPDATE_OUT\" && echo noise && {METRICS}");
    let got = run(&script, &trained().to_safetensors(), PATIENT).unwrap();
    assert_eq!((got.tensors, got.num_examples), (trained(), 7));
    assert_eq!(got.metrics.into_iter().collect::<Vec<_>>(), [("loss_sum".to_owned(), 1.5)]);
}

/// The program gets the very model and the round's numbers.
#[test]
fn a_program_is_told_what_to_do() {
    let script = r#"cp "$SORDINO_MODEL_IN" "$SORDINO_UPDATE_OUT"
        printf '{"num_examples": 1}' > "$SORDINO_METRICS_OUT"
        numbers="$SORDINO_ROUND $SORDINO_LOCAL_EPOCHS $SORDINO_BATCH_SIZE $SORDINO_LEARNING_RATE $SORDINO_MOMENTUM"
        [ "$numbers" = "4 2 16 0.25 0.5" ] || { echo "got $numbers" >&2; exit 1; }
        [ "$(env | grep -c ^SORDINO_)" = 8 ] || { env | grep ^SORDINO_ >&2; exit 1; }
        [ "$(ls -ld "$(dirname "$SORDINO_MODEL_IN")" | cut -c1-10)" = drwx------ ] || { echo readable >&2; exit 1; }"#;
    let got = run(script, b"", PATIENT).unwrap();
    assert_eq!((got.tensors, got.num_examples, got.metrics.len()), (model(), 1, 0));
}

#[test]
fn a_program_is_told_of_a_proximal_term() {
    let script = r#"cp "$SORDINO_MODEL_IN" "$SORDINO_UPDATE_OUT"
        printf '{"num_examples": 1}' > "$SORDINO_METRICS_OUT"
        [ "$SORDINO_PROXIMAL_MU" = 0.125 ] || { echo "got $SORDINO_PROXIMAL_MU" >&2; exit 1; }
        [ "$(env | grep -c ^SORDINO_)" = 9 ] || { env | grep ^SORDINO_ >&2; exit 1; }"#;
    assert_eq!(run_round(script, b"", PATIENT, (0.125, None)).unwrap().tensors, model());
}

/// What else the environment holds under our prefix may be secret. The test above is run again in a process that has
/// such a variable.
#[test]
fn secrets_in_the_environment_are_kept_from_the_program() {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "a_program_is_told_what_to_do"]).env("SORDINO_STORE_PASSWORD", "hush");
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn failure_is_quoted() {
    let error = run("seq 1 5000 >&2; printf 'no \\033[31mdisk' >&2; exit 3", b"", PATIENT).unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, ExecError::Failed { status, .. } if status.code() == Some(3)), "{text}");
    assert!(text.ends_with("5000\nno [31mdisk") && text.len() < 2500 && !text.contains("\n1000\n"), "{text}");
    let error = run("kill -9 $$", b"", PATIENT).unwrap_err().to_string();
    assert!(error.contains("signal: 9") && error.ends_with("its last words: (nothing)"), "{error}");
}

#[test]
fn a_program_that_is_not_there() {
    let mut trainer = ExecTrainer::new("/nowhere/trainer", Vec::new(), PATIENT);
    let error = trainer
        .train(&model(), &RoundInfo { round: 1, hyperparameters: hyperparameters(), proximal_mu: 0.0, privacy: None })
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, TrainError::Exec(ExecError::Start { .. })), "{text}");
    assert_eq!(text, "/nowhere/trainer could not be started: is the path right and the file executable?");
}

/// At the timeout the program and what it started are killed.
#[test]
fn an_endless_program_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let alive = folder.path().join("alive");
    let script = format!("echo working >&2; (while :; do date > '{}'; sleep 0.02; done) & wait", alive.display());
    let started = Instant::now();
    let error = run(&script, b"", Duration::from_millis(400)).unwrap_err();
    assert!(matches!(&error, ExecError::Timeout { stderr, .. } if stderr == "working"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(alive.exists(), "the child never ran: the test shows nothing");
    std::fs::remove_file(&alive).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!alive.exists(), "the program's child outlived it");
}

/// A child left behind by a program that failed holds standard error open: the wait for it is short.
#[test]
fn a_child_that_holds_standard_error_open_delays_nothing() {
    let started = Instant::now();
    let error = run("echo bad >&2; sleep 20 & exit 1", b"", PATIENT).unwrap_err();
    assert!(matches!(&error, ExecError::Failed { stderr, .. } if stderr == "bad"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn weights_that_do_not_fit() {
    let script = format!("cp \"$1\" \"$SORDINO_UPDATE_OUT\" && {METRICS}");
    let layout = |architecture: Architecture| architecture.initial(1).unwrap().to_safetensors();
    for (name, update, want) in [
        (
            "shape",
            layout(Architecture::Softmax { features: 2, classes: 2 }),
            "tensor \"fc.weight\" has shape [2, 2], the model's has [2, 3]",
        ),
        (
            "names",
            layout(Architecture::Mlp { features: 1, hidden: 1, classes: 1 }),
            "it has tensor \"fc1.bias\" where the model has \"fc.bias\"",
        ),
    ] {
        let error = run(&script, &update, PATIENT).unwrap_err();
        assert!(matches!(&error, ExecError::Layout { difference } if difference == want), "{name}: {error}");
    }
    let larger = layout(Architecture::Softmax { features: 4, classes: 2 });
    assert!(matches!(run(&script, &larger, PATIENT).unwrap_err(), ExecError::Update(_)));
    assert!(matches!(run(&script, b"not weights", PATIENT).unwrap_err(), ExecError::Update(_)));
}

/// The last value of the file becomes NaN, then infinity.
#[test]
fn weights_that_are_no_numbers() {
    let script = format!("cp \"$1\" \"$SORDINO_UPDATE_OUT\" && {METRICS}");
    for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut update = trained().to_safetensors();
        let last = update.len() - 4;
        update[last..].copy_from_slice(&bad.to_le_bytes());
        let ExecError::Update(cause) = run(&script, &update, PATIENT).unwrap_err() else { panic!("{word}") };
        let text = cause.to_string();
        assert!(text.contains("value 5 of tensor `fc.weight`") && text.contains(word), "{text}");
    }
}

#[test]
fn files_that_are_missing_or_wrong() {
    let update = trained().to_safetensors();
    let copy = "cp \"$1\" \"$SORDINO_UPDATE_OUT\"";
    let missing = |file| move |error: &ExecError| matches!(error, ExecError::Missing { file: got } if *got == file);
    assert!(missing(OutputFile::Update)(&run(METRICS, &update, PATIENT).unwrap_err()));
    assert!(missing(OutputFile::Metrics)(&run(copy, &update, PATIENT).unwrap_err()));
    let pipe = format!("mkfifo \"$SORDINO_UPDATE_OUT\" && {METRICS}");
    let error = run(&pipe, &update, PATIENT).unwrap_err();
    assert!(matches!(error, ExecError::NotAFile { file: OutputFile::Update }), "{error}");
    let huge = format!("truncate -s 2000000 \"$SORDINO_UPDATE_OUT\" && {METRICS}");
    let error = run(&huge, &update, PATIENT).unwrap_err();
    assert!(matches!(error, ExecError::TooLarge { file: OutputFile::Update, bytes: 2_000_000, .. }), "{error}");
    for (text, want) in [
        ("", "EOF while parsing"),
        (r#"{"metrics": {}}"#, "missing field `num_examples`"),
        (r#"{"num_examples": -1}"#, "invalid value: integer `-1`"),
        (r#"{"num_examples": 1, "metrics": {"loss": NaN}}"#, "expected value"),
        (r#"{"num_examples": 1, "metrics": {"loss": 1e999}}"#, "number out of range"),
        (r#"{"num_examples": 1, "rows": 2}"#, "unknown field `rows`"),
    ] {
        let script = format!("{copy} && printf '%s' '{text}' > \"$SORDINO_METRICS_OUT\"");
        let ExecError::Metrics(cause) = run(&script, &update, PATIENT).unwrap_err() else { panic!("{text}") };
        assert!(cause.to_string().contains(want), "{text}: {cause}");
    }
    for rows in ["0", "10000001"] {
        let script = format!("{copy} && printf '{{\"num_examples\": {rows}}}' > \"$SORDINO_METRICS_OUT\"");
        assert!(matches!(run(&script, &update, PATIENT).unwrap_err(), ExecError::NumExamples { .. }), "{rows}");
    }
}

fn privacy() -> RecordPrivacy {
    let record_max = [("correct".to_owned(), 1.0), ("loss_sum".to_owned(), 2.5)].into();
    RecordPrivacy { example_clip: 0.5, noise_multiplier: 1.25, sampling_rate: 0.125, steps: 9, record_max }
}

/// Runs a program that trains and writes this metrics file, in a round that hides records.
fn run_private(metrics: &str) -> Result<Trained, ExecError> {
    let script = format!("cp \"$1\" \"$SORDINO_UPDATE_OUT\" && printf '%s' '{metrics}' > \"$SORDINO_METRICS_OUT\"");
    run_round(&script, &trained().to_safetensors(), PATIENT, (0.0, Some(privacy())))
}

/// The program is told how to hide records, says that it did, and how many rows it has goes no further.
#[test]
fn a_program_that_hides_records() {
    let script = r#"cp "$SORDINO_MODEL_IN" "$SORDINO_UPDATE_OUT"
        numbers="$SORDINO_DP_EXAMPLE_CLIP $SORDINO_DP_NOISE_MULTIPLIER $SORDINO_DP_SAMPLING_RATE $SORDINO_DP_STEPS"
        [ "$numbers" = "0.5 1.25 0.125 9" ] || { echo "got $numbers" >&2; exit 1; }
        [ "$SORDINO_DP_RECORD_MAX" = '{"correct":1.0,"loss_sum":2.5}' ] || { echo "$SORDINO_DP_RECORD_MAX" >&2; exit 1; }
        [ "$(env | grep -c ^SORDINO_)" = 13 ] || { env | grep ^SORDINO_ >&2; exit 1; }
        printf '{"num_examples": 700, "metrics": {"correct": 3}, "privacy": {"example_clip": 0.5,
            "noise_multiplier": 1.25, "sampling_rate": 0.125, "steps": 9}}' > "$SORDINO_METRICS_OUT""#;
    let got = run_round(script, b"", PATIENT, (0.0, Some(privacy()))).unwrap();
    assert_eq!((got.tensors, got.num_examples, got.metrics["correct"]), (model(), 1, 3.0));
    let more = r#""privacy": {"example_clip": 0.4, "noise_multiplier": 2, "sampling_rate": 0.1, "steps": 8}"#;
    assert_eq!(run_private(&format!(r#"{{"num_examples": 7, {more}}}"#)).unwrap().num_examples, 1);
    // Where it is not asked for it may be said too.
    let script = format!(
        "cp \"$1\" \"$SORDINO_UPDATE_OUT\" && printf '%s' '{{\"num_examples\": 7, {more}}}' > \"$SORDINO_METRICS_OUT\""
    );
    assert_eq!(run(&script, &trained().to_safetensors(), PATIENT).unwrap().num_examples, 7);
}

#[test]
fn a_program_that_hides_records_too_little_or_does_not_say() {
    let error = run_private(r#"{"num_examples": 7}"#).unwrap_err();
    assert!(matches!(error, ExecError::NoPrivacy), "{error}");
    assert!(error.to_string().contains(r#"add "privacy": {"example_clip": C, "noise_multiplier": z"#), "{error}");
    for (clip, multiplier, rate, steps, want) in [
        ("0.51", "1.25", "0.125", "9", "privacy.example_clip is 0.51, it must be at most 0.5"),
        ("-0.5", "1.25", "0.125", "9", "privacy.example_clip is -0.5, it must be at most 0.5"),
        ("0.5", "1.24", "0.125", "9", "privacy.noise_multiplier is 1.24, it must be at least 1.25"),
        ("0.5", "1.25", "0.126", "9", "privacy.sampling_rate is 0.126, it must be at most 0.125"),
        ("0.5", "1.25", "0.125", "10", "privacy.steps is 10, it must be at most 9"),
    ] {
        let done = format!(
            r#""example_clip": {clip}, "noise_multiplier": {multiplier}, "sampling_rate": {rate}, "steps": {steps}"#
        );
        let error = run_private(&format!(r#"{{"num_examples": 7, "privacy": {{{done}}}}}"#)).unwrap_err();
        assert!(matches!(error, ExecError::WeakPrivacy { .. }) && error.to_string().contains(want), "{error}");
    }
    for privacy in [
        r#"{"example_clip": 0.5, "noise_multiplier": NaN, "sampling_rate": 0.125, "steps": 9}"#,
        r#"{"example_clip": 0.5, "noise_multiplier": null, "sampling_rate": 0.125, "steps": 9}"#,
        r#"{"example_clip": 0.5, "noise_multiplier": 1.25, "sampling_rate": 0.125, "steps": -1}"#,
        r#"{"example_clip": 0.5, "noise_multiplier": 1.25, "sampling_rate": 0.125}"#,
    ] {
        let error = run_private(&format!(r#"{{"num_examples": 7, "privacy": {privacy}}}"#)).unwrap_err();
        assert!(matches!(error, ExecError::Metrics(_)), "{privacy}: {error}");
    }
}

#[test]
fn a_missing_scratch_folder_is_named() {
    let mut trainer = ExecTrainer::new("/bin/sh", Vec::new(), PATIENT).with_scratch(Path::new("/nowhere"));
    let error = trainer
        .train(&model(), &RoundInfo { round: 1, hyperparameters: hyperparameters(), proximal_mu: 0.0, privacy: None })
        .unwrap_err();
    assert_eq!(error.to_string(), "the model could not be handed over in /nowhere");
}
