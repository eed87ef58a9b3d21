//! What exact noise costs on one core, beside the speed of its keystream, measured in one run.
//!
//! `cargo bench -p sordino-dp --bench noise`. Times are the thread's CPU time, the best of some repetitions: everything
//! that disturbs makes them longer. Each distribution is drawn a million times into one vector.

#![expect(clippy::print_stdout, reason = "results of a bench")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rustix::time::{ClockId, clock_gettime};
use sordino_dp::noise::{DiscreteGaussian, DiscreteLaplace, NoiseError, NoiseRng, Ratio, Skellam};

fn main() {
    let word = keystream();
    println!("ChaCha20 on this machine: {:.2} ns for 64 bits, {:.2} GB/s", word * 1e9, 8.0 / word / 1e9);
    println!("a million draws in seconds; words of keystream that take as long as one draw\n");
    for log2 in [1.0, 2.0, 4.0, 8.0, 10.5, 12.0, 16.0, 20.0, 24.0] {
        let gaussian = DiscreteGaussian::new(ratio(2.0_f64.powf(2.0 * log2)));
        let target = (1.0..=20.0).contains(&log2).then_some(TARGET);
        line(&format!("discrete Gaussian, sigma 2^{log2}"), word, target, |values, rng| gaussian.add_to(values, rng));
    }
    for sigma in [2.0, 64.0, 1024.0, 4096.0_f64] {
        let skellam = Skellam::at_least(sigma * sigma).expect("within the table's range");
        line(&format!("Skellam, sigma {sigma}"), word, None, |values, rng| skellam.add_to(values, rng));
    }
    for scale in [1.0, 5.0, 1024.5] {
        let laplace = DiscreteLaplace::new(ratio(scale));
        line(&format!("discrete Laplace, scale {scale}"), word, None, |values, rng| laplace.add_to(values, rng));
    }
}

/// Seconds for 64 bits of ChaCha20, word by word as the samplers take them.
fn keystream() -> f64 {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let words = 4_000_000;
    let seconds = best(|| {
        let mut all = 0;
        for _ in 0..words {
            all ^= rng.next_u64();
        }
        all
    });
    seconds / f64::from(words)
}

fn line(
    name: &str,
    word: f64,
    target: Option<f64>,
    mut add_to: impl FnMut(&mut [i64], &mut NoiseRng) -> Result<(), NoiseError>,
) {
    let mut rng = NoiseRng::from_os(|seed: &mut [u8]| getrandom::fill(seed)).expect("the system has entropy");
    let mut values = vec![0; DRAWS];
    let seconds = best(|| {
        values.fill(0);
        add_to(black_box(&mut values), &mut rng)
    });
    let verdict = match target {
        Some(target) if seconds <= target => format!("  (target {target}: reached)"),
        Some(target) => format!("  (target {target}: MISSED)"),
        None => String::new(),
    };
    println!("  {:>6.1} words  {seconds:>7.3} s  {name}{verdict}", seconds / DRAWS as f64 / word);
}

fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let began = Instant::now();
    let (mut best, mut repeats) = (Duration::MAX, 0);
    while repeats < REPEATS_MIN || began.elapsed() < MEASURE_FOR {
        let before = thread_cpu();
        black_box(work());
        best = best.min(thread_cpu().saturating_sub(before));
        repeats += 1;
    }
    best.as_secs_f64().max(1e-9)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn ratio(value: f64) -> Ratio {
    Ratio::at_least(value).expect("within the samplers' range")
}

const DRAWS: usize = 1_000_000;
/// Seconds for a million draws.
const TARGET: f64 = 0.25;
const REPEATS_MIN: u32 = 4;
const MEASURE_FOR: Duration = Duration::from_millis(800);
