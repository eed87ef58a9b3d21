//! How fast a question about privacy is answered, beside dp-accounting in the same run on the same machine.
//!
//! `cargo bench -p sordino-dp`. Times are CPU time of one thread, the best of some repetitions. The peer is asked by
//! `benches/peers/dp.py` with `python3`, or with the interpreter that `DP_PEER_PYTHON` names; where it is missing, that is
//! said and the rest is measured. `benches/peers/README.md` says how to install it.

#![expect(clippy::print_stdout, reason = "results of a bench")]

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use sordino_dp::calibrate::{self, Plan};
use sordino_dp::rdp::{self, Orders};
use sordino_dp::{Accountant, Budget, DpError, Event, Mechanism, Relation, Sampling, Unit, inversion, pld};

fn main() -> Result<(), DpError> {
    let peer = peer();
    match peer["skipped"].as_str() {
        Some(why) => println!("no peer: {why}"),
        None => println!("peer: dp-accounting {}", peer["version"].as_str().unwrap_or("?")),
    }
    println!("CPU time of one core; in brackets, how many times longer the peer takes, and its time\n");

    let orders = default_orders_of_the_peer()?;
    println!("sampled Gaussian, all orders, cold");
    let cold = |q: f64, sigma: f64, steps: u64| {
        let event = sampled(q, sigma, steps);
        best(|| Accountant::with_orders(1e-5, orders.clone()).and_then(|mut fresh| fresh.add(&event)))
    };
    line("q = 0.01, sigma = 1, the peer's 156 orders", cold(0.01, 1.0, 1000), Some(2e-3), &peer["renyi"]);
    line("q = 0.5, sigma = 10, the same", cold(0.5, 10.0, 300), Some(2e-3), &peer["renyi_half"]);
    for sigma in [0.3, 1.0, 20.0] {
        let event = sampled(0.01, sigma, 1000);
        let ours = best(|| Accountant::new(1e-5).and_then(|mut fresh| fresh.add(&event)));
        let name = format!("q = 0.01, sigma = {sigma}, our {} orders", rdp::default_orders().as_slice().len());
        line(&name, ours, Some(2e-3), &Value::Null);
    }

    println!("\nrounds reserved one after another: asked, then added");
    line("10,000 rounds, all different, each", distinct_rounds()?, Some(1e-3), &peer["rounds"]);
    line("10,000 rounds, all alike, each", equal_rounds()?, Some(2e-6), &Value::Null);

    println!("\nprivacy loss distribution, both directions");
    let tight = |q: f64, sigma: f64, steps: u64, delta: f64| {
        let event = sampled(q, sigma, steps);
        best(|| pld::epsilon(black_box(&[event]), delta))
    };
    line("q = 0.01, sigma = 1, T = 1000", tight(0.01, 1.0, 1000, 1e-5), Some(0.1), &peer["pld_thousand"]);
    line("q = 1e-4, sigma = 1, T = 10^6", tight(1e-4, 1.0, 1_000_000, 1e-6), Some(0.1), &peer["pld_million"]);

    println!("\nthe same, every reference case of T = 10^6; and how far above the truth it is");
    for case in &millions() {
        let of = |key: &str| case[key].as_f64().unwrap_or(f64::NAN);
        let (q, sigma, delta, exact) = (of("q"), of("sigma"), of("delta"), of("eps_exact"));
        let event = sampled(q, sigma, 1_000_000);
        let above = pld::epsilon(&[event], delta)?.epsilon / exact - 1.0;
        let name = format!("q = {q:e}, sigma = {sigma}, delta {delta:e}: {:+.4} %", 100.0 * above);
        line(&name, tight(q, sigma, 1_000_000, delta), Some(0.1), &Value::Null);
    }

    println!("\nsecond opinion");
    let event = sampled(0.01, 1.0, 1000);
    line("q = 0.01, sigma = 1, T = 1000", best(|| inversion::epsilon(&[event], 1e-5)), Some(0.02), &Value::Null);

    println!("\ncalibration to epsilon 2, delta 1e-5; q = 0.01, T = 1000");
    let sampling = Sampling::Poisson { q: 0.01 };
    let plan = Plan { unit: Unit::Record, relation: Relation::AddRemove, sampling, rounds: 1000 };
    let budget = Budget::new(2.0, 1e-5)?;
    let renyi = best(|| calibrate::sigma(&plan, budget, &orders));
    line("by Renyi orders", renyi, Some(0.5), &peer["calibrate_renyi"]);
    line("by the distribution", best(|| calibrate::sigma_tight(&plan, budget)), Some(0.5), &peer["calibrate_pld"]);
    let (empty, round) = (Accountant::new(1e-5)?, sampled(0.01, 1.0, 1));
    line("rounds, by Renyi orders", best(|| calibrate::rounds(&empty, &round.into(), budget)), Some(0.5), &Value::Null);
    Ok(())
}

fn sampled(q: f64, sigma: f64, count: u64) -> Event {
    let sampling = Sampling::Poisson { q };
    Event::new(Unit::Record, Relation::AddRemove, sampling, Mechanism::Gaussian { sigma }, count)
        .expect("the bench's parameters are in range")
}

fn default_orders_of_the_peer() -> Result<Orders, DpError> {
    let tenths = (11..110).map(|tenth| f64::from(tenth) / 10.0);
    let units = (11..64).map(f64::from);
    Orders::new(tenths.chain(units).chain([128.0, 256.0, 512.0, 1024.0]).collect())
}

/// The reference cases that took longest to compose.
fn millions() -> Vec<Value> {
    let text = include_str!("../../../vectors/dp/eps_sgm.json");
    let file: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let cases = file["cases"].as_array().expect("the vectors are cases");
    cases.iter().filter(|case| case["steps"] == 1_000_000).cloned().collect()
}

fn distinct_rounds() -> Result<f64, DpError> {
    let mut accountant = Accountant::new(1e-5)?;
    let before = thread_cpu();
    for at in 0..ROUNDS {
        let round = sampled(0.01, 1.0 + f64::from(at) * 1e-4, 1);
        black_box(accountant.with(&round)?);
        black_box(accountant.add(&round)?);
    }
    Ok((thread_cpu() - before).as_secs_f64() / f64::from(ROUNDS))
}

fn equal_rounds() -> Result<f64, DpError> {
    let mut accountant = Accountant::new(1e-5)?;
    let round = sampled(0.01, 1.0, 1);
    accountant.add(&round)?;
    let before = thread_cpu();
    for _ in 0..ROUNDS {
        black_box(accountant.with(&round)?);
        black_box(accountant.add(&round)?);
    }
    Ok((thread_cpu() - before).as_secs_f64() / f64::from(ROUNDS))
}

/// CPU seconds of one run, the best of some.
fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let began = Instant::now();
    let (mut best, mut repeats) = (Duration::MAX, 0);
    while repeats < REPEATS_MIN || (began.elapsed() < MEASURE_FOR && repeats < REPEATS_MAX) {
        let before = thread_cpu();
        black_box(work());
        best = best.min(thread_cpu().saturating_sub(before));
        repeats += 1;
    }
    best.as_secs_f64()
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn line(name: &str, seconds: f64, target: Option<f64>, peer: &Value) {
    let ratio = peer["seconds"]
        .as_f64()
        .map_or(String::new(), |peer| format!("[{:.0} times: {}]", peer / seconds, shown(peer)));
    let verdict = match target {
        Some(target) if seconds <= target => format!("  (at most {}: reached)", shown(target)),
        Some(target) => format!("  (at most {}: MISSED)", shown(target)),
        None => String::new(),
    };
    println!("  {:>9}  {name}{verdict}  {ratio}", shown(seconds));
}

fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// What the peer says about itself, or why it does not.
fn peer() -> Value {
    let python = std::env::var_os("DP_PEER_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peers/dp.py");
    let skipped = |why: String| serde_json::json!({ "skipped": why });
    match Command::new(&python).arg(script).stderr(Stdio::null()).output() {
        Err(error) => skipped(format!("{} does not start: {error}", python.display())),
        Ok(output) if !output.status.success() => skipped(format!("the script ends with {}", output.status)),
        Ok(output) => serde_json::from_slice(&output.stdout).unwrap_or_else(|error| skipped(error.to_string())),
    }
}

const ROUNDS: u32 = 10_000;
const REPEATS_MIN: u32 = 3;
const REPEATS_MAX: u32 = 200;
const MEASURE_FOR: Duration = Duration::from_millis(500);
