//! What robust rules cost: n = 100 updates of d = 10^6 `f32` values, beside byzfl in the same run on the same machine.
//!
//! `cargo bench -p sordino-robust`. CPU seconds of one thread, the best of some repetitions, as a Markdown table; then how
//! much two threads gain, and the memory of the default pipeline beside its input. The peer is asked by
//! `benches/peers/robust.py` with `python3`, or with the interpreter that `ROBUST_PEER_PYTHON` names; where it is missing,
//! that is said and the rest is measured. `benches/peers/README.md` says how to install it.

#![expect(clippy::print_stdout, reason = "results of a bench")]

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use sordino_robust::geometric::Schedule;
use sordino_robust::{Door, Gram, Pipeline, Radius, Round, Rule, Stage, Tau, Updates};

fn main() {
    let peer = peer();
    println!("n = {CLIENTS}, d = {DIMENSION}, f32, f = {BYZANTINE}; CPU seconds of one core");
    match peer["skipped"].as_str() {
        Some(why) => println!("no peer: {why}"),
        None => println!("peer: byzfl {} on numpy {}", text(&peer["version"]), text(&peer["numpy"])),
    }
    println!("\n| | byzfl | here | times less | asked for |\n|---|---:|---:|---:|---:|");

    let rows = rows();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let door = Door::default();
    let whole = |threads| {
        let updates = Updates::check_on(&rows, &door, threads).expect("the bench's rows are updates");
        let round = Round { threads, ..Round::default() };
        Pipeline::default().run(&updates, &round).expect("the bench's rows meet the bounds")
    };
    let two = NonZeroUsize::MIN.saturating_add(1);
    // First: later the allocator would use again what it has kept.
    let memory = [ONE, two].map(|threads| memory_beside(|| whole(threads)));

    let updates = Updates::check(&rows, &door).expect("the bench's rows are updates");
    let run = |pipeline: &Pipeline, threads: NonZeroUsize| {
        let round = Round { threads, ..Round::default() };
        pipeline.run(&updates, &round).expect("the bench's rows meet the bounds")
    };
    line("check at the door", cpu(|| Updates::check(&rows, &door)), None, &Value::Null);
    line("centred Gram matrix", cpu(|| Gram::of(&updates, None, ONE)), Some(0.8), &Value::Null);
    for (name, key, pipeline) in rules() {
        let target = (key == "median").then_some(0.6);
        line(name, cpu(|| run(&pipeline, ONE)), target, &peer[key]);
    }
    line("door, combined detector, NNM, trimmed mean", cpu(|| whole(ONE)), Some(3.0), &peer["nnm_trimmed_mean"]);

    println!("\nwall time of one thread over that of two (1.6 asked for)");
    let median = Pipeline { rule: Rule::FedMedian {}, ..bare() };
    for (name, ratio) in [
        ("door and default pipeline", wall(|| whole(ONE)) / wall(|| whole(two))),
        ("Gram matrix", wall(|| Gram::of(&updates, None, ONE)) / wall(|| Gram::of(&updates, None, two))),
        ("coordinate median", wall(|| run(&median, ONE)) / wall(|| run(&median, two))),
    ] {
        println!("  {ratio:.2}  {name}");
    }
    for (threads, memory) in (1..).zip(memory) {
        match memory {
            Some(bytes) => println!("{:.1} MB beside the input (at most 64), threads: {threads}", bytes / 1e6),
            None => println!("the system does not tell how much memory was used"),
        }
    }
}

/// Rules as policies, by name here and by the peer's figure.
fn rules() -> Vec<(&'static str, &'static str, Pipeline)> {
    let rule = |rule| Pipeline { rule, ..bare() };
    let behind = |stage, rule| Pipeline { stages: vec![stage], rule, ..bare() };
    let rfa = Rule::GeometricMedian { schedule: Schedule::RFA };
    let clipping = Rule::CenteredClipping { tau: Tau::MedianDistance, iterations: 3 };
    vec![
        ("mean", "mean", rule(Rule::FedAvg {})),
        ("coordinate median", "median", rule(Rule::FedMedian {})),
        ("trimmed mean", "trimmed_mean", rule(Rule::FedTrimmedAvg {})),
        ("mean around median", "mean_around_median", rule(Rule::MeanAroundMedian {})),
        ("Krum", "krum", rule(Rule::Krum {})),
        ("Multi-Krum", "multi_krum", rule(Rule::MultiKrum { m: None })),
        ("Bulyan, f = 20", "", rule(Rule::Bulyan {})),
        ("geometric median, 3 steps (RFA)", "geometric_median", rule(rfa)),
        ("geometric median, converged", "", rule(Rule::GeometricMedian { schedule: Schedule::Converged })),
        ("centred clipping, 3 steps", "centered_clipping", rule(clipping)),
        ("DnC", "", rule(Rule::DnC { c: 1.0 })),
        (
            "adaptive clip, mean",
            "adaptive_clip_mean",
            behind(Stage::NormClip { radius: Radius::Adaptive }, Rule::FedAvg {}),
        ),
        ("buckets of 2, median", "bucketing_median", behind(Stage::Bucketing { s: 2 }, Rule::FedMedian {})),
        ("NNM, median", "nnm_median", behind(Stage::Nnm {}, Rule::FedMedian {})),
        ("NNM, trimmed mean", "nnm_trimmed_mean", behind(Stage::Nnm {}, Rule::FedTrimmedAvg {})),
    ]
}

/// No detector and no stages.
fn bare() -> Pipeline {
    Pipeline { detector: None, stages: Vec::new(), ..Pipeline::default() }
}

/// A direction that all share, and noise of as large a norm; a seeded generator, uniform values.
fn rows() -> Vec<Vec<f32>> {
    let mut state = 1u64;
    let mut draw = move || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [.., low, high] = z.to_le_bytes();
        f32::from(i16::from_le_bytes([low, high])) / 32768.0
    };
    let truth: Vec<f32> = (0..DIMENSION).map(|_| draw()).collect();
    (0..CLIENTS).map(|_| truth.iter().map(|value| value + draw()).collect()).collect()
}

/// CPU seconds of one run, the best of some.
fn cpu<T>(work: impl FnMut() -> T) -> f64 {
    best(work, || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    })
}

/// Seconds of one run by the clock, the best of some.
fn wall<T>(work: impl FnMut() -> T) -> f64 {
    let began = Instant::now();
    best(work, || began.elapsed())
}

fn best<T>(mut work: impl FnMut() -> T, clock: impl Fn() -> Duration) -> f64 {
    let one = |_| {
        let before = clock();
        black_box(work());
        clock().saturating_sub(before)
    };
    (0..REPEATS).map(one).min().unwrap_or_default().as_secs_f64()
}

/// Bytes by which the process grows at most while it works.
fn memory_beside<T>(work: impl FnOnce() -> T) -> Option<f64> {
    let kilobytes = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    };
    let before = kilobytes("VmRSS:")?;
    // Sets the peak back to what is used now.
    fs::write("/proc/self/clear_refs", "5").ok()?;
    black_box(work());
    Some((kilobytes("VmHWM:")? - before) * 1024.0)
}

fn line(name: &str, seconds: f64, target: Option<f64>, peer: &Value) {
    let (theirs, ratio) = match peer.as_f64() {
        Some(peer) => (format!("{peer:.2}"), format!("**{:.1}**", peer / seconds)),
        None => (String::new(), String::new()),
    };
    let asked = match target {
        Some(target) => format!("{target}{}", if seconds <= target { "" } else { " (MISSED)" }),
        None => String::new(),
    };
    println!("| {name} | {theirs} | {seconds:.3} | {ratio} | {asked} |");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// What the peer says about itself, or why it does not.
fn peer() -> Value {
    let python = std::env::var_os("ROBUST_PEER_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peers/robust.py");
    let sizes = [CLIENTS, DIMENSION, BYZANTINE].map(|size| size.to_string());
    let skipped = |why: String| serde_json::json!({ "skipped": why });
    match Command::new(&python).arg(script).args(sizes).stderr(Stdio::null()).output() {
        Err(error) => skipped(format!("{} does not start: {error}", python.display())),
        Ok(output) if !output.status.success() => skipped(format!("the script ends with {}", output.status)),
        Ok(output) => serde_json::from_slice(&output.stdout).unwrap_or_else(|error| skipped(error.to_string())),
    }
}

const CLIENTS: usize = 100;
const DIMENSION: usize = 1_000_000;
const BYZANTINE: usize = 20;
const REPEATS: u32 = 3;
const ONE: NonZeroUsize = NonZeroUsize::MIN;
