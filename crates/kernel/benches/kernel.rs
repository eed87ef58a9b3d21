//! What the kernels reach of what this machine can do, on one core, measured in one run.
//!
//! `cargo bench -p sordino-kernel`. Speeds are GB (10^9 bytes) per second of the thread's CPU time, the best of some
//! repetitions: everything that disturbs makes them slower. Ratios come first; a target is printed where there is one.

#![expect(clippy::print_stdout, reason = "results of a bench")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use rustix::time::{ClockId, clock_gettime};
use sordino_kernel::{Backend, Bits, Cipher, Keystream, Lane, Sign, apply, pack, register_only, unpack_add};

fn main() {
    println!("backend: {}; one core; ratios first, speeds in GB/s", Backend::detect());
    for (name, cipher) in [("AES-256-CTR", Cipher::Aes256), ("AES-128-CTR", Cipher::Aes128)] {
        println!("\n{name}, bytes of keystream");
        keystreams(cipher);
    }
    println!("\nunpack and add, bytes of the sum, against a copy of as many");
    for len in [1_000_000, LARGE_LEN] {
        unpacking::<u32>(len, 22);
    }
    unpacking::<u64>(1_000_000, 45);
    println!("\npack, bytes of the vector, against a copy of as many");
    for (len, b) in [(1_000_000, 22), (1_000_000, 8)] {
        packing::<u32>(len, b);
    }
    packing::<u64>(1_000_000, 45);
}

fn keystreams(cipher: Cipher) {
    let fastest = Backend::detect();
    let limit = registers(cipher, fastest);
    line("register-only", None, limit, None);
    for (name, len, target) in [
        ("fused add, 16 KiB", 4 << 10, None),
        ("fused add, 256 KiB", 64 << 10, Some(0.85)),
        ("fused add, 4 MB", 1_000_000, None),
    ] {
        line(name, Some(("register-only", limit)), fused::<u32>(cipher, len, fastest), target);
    }
    let cached = fused::<u32>(cipher, 64 << 10, fastest);
    line(
        "fused add, u64 lanes, 256 KiB",
        Some(("register-only", limit)),
        fused::<u64>(cipher, 32 << 10, fastest),
        None,
    );
    let large = fused::<u32>(cipher, LARGE_LEN, fastest);
    line("fused add, d = 10^8", Some(("256 KiB", cached)), large, Some(0.9));
    line("aws-lc-rs stream, 16 KiB", Some(("register-only", limit)), by_aws_lc(cipher), None);
    for backend in Backend::available().filter(|backend| *backend != fastest) {
        let own = Some(registers(cipher, backend)).filter(|_| backend != Backend::PORTABLE);
        let name = format!("{backend}, fused add, 256 KiB");
        line(&name, own.map(|own| ("its register-only", own)), fused::<u32>(cipher, 64 << 10, backend), None);
    }
}

/// Counters encrypted and xored in registers.
fn registers(cipher: Cipher, backend: Backend) -> f64 {
    let (stream, bytes) = (stream(cipher, 0), 32 << 20);
    speed(bytes, || register_only(black_box(&stream), bytes, backend))
}

/// `NEIGHBOURS` keystreams over one vector.
fn fused<L: Lane>(cipher: Cipher, len: usize, backend: Backend) -> f64 {
    let signs = [Sign::Plus, Sign::Minus].into_iter().cycle();
    let masks: Vec<_> = (0..NEIGHBOURS).map(|at| stream(cipher, at)).zip(signs).collect();
    let mut lanes = vec![L::default(); len];
    let bits = ring(if L::BYTES == 4 { 22 } else { 45 });
    let bytes = (len * L::BYTES * masks.len()) as u64;
    let passes = (PASS_BYTES / bytes).max(1);
    speed(bytes * passes, || {
        for _ in 0..passes {
            apply(black_box(&masks), black_box(&mut lanes), bits, 0, backend);
        }
    })
}

/// The stream alone, in place.
fn by_aws_lc(cipher: Cipher) -> f64 {
    let (algorithm, key) = match cipher {
        Cipher::Aes256 => (&AES_256, &[7; 32][..]),
        Cipher::Aes128 => (&AES_128, &[7; 16][..]),
    };
    let cipher =
        UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr).expect("the key is as long as it takes");
    let mut bytes = vec![0; 16 << 10];
    let passes = PASS_BYTES / bytes.len() as u64;
    speed(PASS_BYTES, || {
        for pass in 0..passes {
            let counter = u128::from(pass << 10).to_be_bytes();
            cipher
                .less_safe_encrypt(black_box(&mut bytes), EncryptionContext::Iv128((&counter).into()))
                .expect("counter mode takes any length");
        }
    })
}

fn unpacking<L: Lane>(len: usize, b: u8) {
    let packed = vec![0x5a; (len * usize::from(b)).div_ceil(8)];
    let mut sum = vec![L::default(); len];
    let add = |backend: Backend, sum: &mut [L]| {
        speed(size_of_val(sum) as u64, || unpack_add(black_box(&packed), ring(b), black_box(sum), backend))
    };
    let copy = copying::<L>(len);
    line(&format!("copy, d = {len}"), None, copy, None);
    for backend in Backend::available() {
        let target = (backend == Backend::detect() && len == 1_000_000 && b == 22).then_some(0.7);
        line(&format!("{backend}, d = {len}, b = {b}"), Some(("copy", copy)), add(backend, &mut sum), target);
    }
}

fn packing<L: Lane>(len: usize, b: u8) {
    let lanes: Vec<L> = (0..len as u64).map(|at| L::from_u64_truncated(at.wrapping_mul(0x9e37_79b9))).collect();
    let mut packed = vec![0; (len * usize::from(b)).div_ceil(8)];
    let copy = copying::<L>(len);
    for backend in [Backend::PORTABLE, Backend::detect()] {
        let speed =
            speed(size_of_val(&lanes[..]) as u64, || pack(black_box(&lanes), ring(b), black_box(&mut packed), backend));
        line(&format!("{backend}, d = {len}, b = {b}"), Some(("copy", copy)), speed, None);
    }
}

fn copying<L: Lane>(len: usize) -> f64 {
    let (from, mut to) = (vec![L::from_u64_truncated(1); len], vec![L::default(); len]);
    speed(size_of_val(&from[..]) as u64, || black_box(&mut to[..]).copy_from_slice(black_box(&from)))
}

/// Bytes per second of CPU time, of work that handles `bytes` each time.
fn speed<T>(bytes: u64, mut work: impl FnMut() -> T) -> f64 {
    let began = Instant::now();
    let (mut best, mut repeats) = (Duration::MAX, 0);
    while repeats < REPEATS_MIN || began.elapsed() < MEASURE_FOR {
        let before = thread_cpu();
        black_box(work());
        best = best.min(thread_cpu().saturating_sub(before));
        repeats += 1;
    }
    bytes as f64 / best.as_secs_f64().max(1e-9)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// `reference`: what the speed is divided by.
fn line(name: &str, reference: Option<(&str, f64)>, speed: f64, target: Option<f64>) {
    let ratio = reference.map_or(String::new(), |(of, other)| format!("{:.2} of {of}", speed / other));
    let verdict = match (target, reference) {
        (Some(target), Some((_, other))) if speed / other >= target => format!("  (target {target}: reached)"),
        (Some(target), _) => format!("  (target {target}: MISSED)"),
        _ => String::new(),
    };
    println!("  {ratio:<28} {:>7.2}  {name}{verdict}", speed / 1e9);
}

fn stream(cipher: Cipher, seed: u8) -> Keystream {
    Keystream::new(cipher, &[seed; 32], [seed; 16])
}

fn ring(b: u8) -> Bits {
    Bits::new(b).expect("2 to 64")
}

/// Neighbours of a participant in a cohort of a hundred.
const NEIGHBOURS: u8 = 21;
/// 400 MB of u32.
const LARGE_LEN: usize = 100_000_000;
/// Keystream bytes between two looks at the clock, at least.
const PASS_BYTES: u64 = 64 << 20;
const REPEATS_MIN: u32 = 4;
const MEASURE_FOR: Duration = Duration::from_millis(400);
