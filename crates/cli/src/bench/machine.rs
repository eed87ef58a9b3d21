//! What this machine can do at best, and what work costs on it.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use rustix::{
    thread::{CpuSet, sched_getcpu, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use sordino_codec::{RingBits, RingVector, UnpackAdd, pack};
use sordino_kernel::{self as kernel, Backend, Bits, Cipher, Keystream, Sign, register_only};
use std::{
    hint::black_box,
    iter::Sum,
    ops::AddAssign,
    time::{Duration, Instant},
};

/// The machine, and its speed at the two things that masking and adding are made of.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Machine {
    /// As the operating system calls it.
    pub(crate) cpu: String,
    /// Instructions that the kernels use.
    pub(crate) instructions: String,
    /// AES-256-CTR in registers, by the same instructions, nothing loaded or stored: the least a keystream takes.
    pub(crate) registers_bytes_per_second: Option<f64>,
    /// The kernel expands keystreams and adds them to a vector that stays in the cache.
    pub(crate) kernel_bytes_per_second: f64,
    /// AES-256-CTR by aws-lc, in place on a buffer that stays in the cache, one thread.
    pub(crate) keystream_bytes_per_second: f64,
    /// Bytes copied between buffers far larger than the caches, one thread.
    pub(crate) copy_large_bytes_per_second: f64,
}

/// What a piece of work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// CPU time of the thread.
    pub(crate) cpu: Duration,
    /// Time that passed.
    pub(crate) wall: Duration,
}

impl Machine {
    pub(crate) fn measure(cpu: String, copy_bytes: usize) -> Self {
        Self {
            cpu,
            instructions: Backend::detect().to_string(),
            registers_bytes_per_second: registers_speed(),
            kernel_bytes_per_second: kernel_speed(),
            keystream_bytes_per_second: keystream_speed(),
            copy_large_bytes_per_second: copy_speed(copy_bytes),
        }
    }
}

impl Cost {
    pub(crate) const ZERO: Self = Self { cpu: Duration::ZERO, wall: Duration::ZERO };

    /// Does the work and measures it.
    pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (T, Self) {
        let (wall, cpu) = (Instant::now(), thread_cpu());
        let done = work();
        (done, Self { cpu: thread_cpu().saturating_sub(cpu), wall: wall.elapsed() })
    }

    /// The middle one by CPU time; of none, nothing.
    pub(crate) fn median(mut costs: Vec<Self>) -> Self {
        costs.sort_by_key(|cost| cost.cpu);
        costs.get(costs.len() / 2).copied().unwrap_or(Self::ZERO)
    }

    pub(crate) fn cpu_millis(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3
    }

    pub(crate) fn wall_millis(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.wall += other.wall;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, |mut sum, cost| {
            sum += cost;
            sum
        })
    }
}

/// Keeps this process, and those it starts, on one core, so that what is compared runs on the same one. Where the
/// system does not allow it, the comparison is between the cores that it chooses.
pub(crate) fn pin_to_one_core() {
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    // What cannot be pinned still measures, by CPU time of a thread.
    let _ = sched_setaffinity(None, &one);
}

/// CPU time of this thread, not of its neighbours on a shared machine.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Bytes (or whatever is counted) per second of `work`, which handles so many each time: the best of some repetitions, since everything that
/// disturbs makes it slower.
pub(crate) fn speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::MIN_POSITIVE;
    let mut repeats = 0;
    while repeats < REPEATS_MIN || begin.elapsed() < MEASURE_FOR {
        let ((), cost) = Cost::of(&mut work);
        best = best.max(bytes as f64 / cost.cpu.as_secs_f64().max(CLOCK_STEP));
        repeats += 1;
    }
    best
}

/// AES-256-CTR over a buffer in the first-level cache.
fn keystream_speed() -> f64 {
    let mut buffer = vec![0; CACHED_BYTES];
    let cipher =
        UnboundCipherKey::new(&AES_256, &[7; 32]).and_then(EncryptingKey::ctr).expect("an AES-256 key has 32 bytes");
    speed(CACHED_BYTES * KEYSTREAM_PASSES, || {
        for pass in 0..KEYSTREAM_PASSES {
            let counter = ((pass * CACHED_BYTES / 16) as u128).to_be_bytes();
            cipher
                .less_safe_encrypt(black_box(&mut buffer), EncryptionContext::Iv128((&counter).into()))
                .expect("counter mode takes any length");
        }
    })
}

fn stream() -> Keystream {
    Keystream::new(Cipher::Aes256, &[7; 32], [1; 16])
}

/// What the CPU's AES units do when nothing else holds them up; `None` where the kernels use none.
fn registers_speed() -> Option<f64> {
    let (backend, stream) = (Backend::detect(), stream());
    register_only(&stream, 64, backend)?;
    Some(speed(REGISTER_BYTES, || {
        black_box(register_only(&stream, REGISTER_BYTES as u64, backend));
    }))
}

/// The masks of 21 neighbours and the own one, over lanes in the second-level cache.
fn kernel_speed() -> f64 {
    let (backend, bits) = (Backend::detect(), Bits::new(24).expect("24 bits are a ring"));
    let masks: Vec<_> = (0..22).map(|_| (stream(), Sign::Plus)).collect();
    let mut lanes = vec![0u32; KERNEL_LANES];
    speed(masks.len() * KERNEL_LANES * size_of::<u32>(), || {
        kernel::apply(&masks, black_box(&mut lanes[..]), bits, 0, backend);
    })
}

/// Copies `bytes` from one buffer to another.
pub(crate) fn copy_speed(bytes: usize) -> f64 {
    let from = vec![1u8; bytes];
    let mut to = vec![2u8; bytes];
    speed(bytes, || black_box(&mut to[..]).copy_from_slice(black_box(&from)))
}

/// Adds one packed input to a sum over and over: bytes of the sum, which stays where a copy of as many bytes stays.
pub(crate) fn adding_speed(model_len: usize, bits: RingBits) -> f64 {
    let packed = pack(&RingVector::zeros(model_len, bits));
    let mut sum = RingVector::zeros(model_len, bits);
    let lane_bytes = if bits.is_narrow() { size_of::<u32>() } else { size_of::<u64>() };
    speed(model_len * lane_bytes, || {
        let mut adder = UnpackAdd::new(black_box(&mut sum)).expect("it fits the memory");
        adder.push(black_box(&packed)).and_then(|()| adder.finish()).expect("packed just now");
    })
}

pub(crate) fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.map_or("unknown CPU", |(_, name)| name.trim());
    format!("{model}, {cores} cores, {}", std::env::consts::ARCH)
}

const REGISTER_BYTES: usize = 4 << 20;
const KERNEL_LANES: usize = 64 * 1024;
const CACHED_BYTES: usize = 16 * 1024;
const KEYSTREAM_PASSES: usize = 256;
const REPEATS_MIN: u32 = 8;
const MEASURE_FOR: Duration = Duration::from_millis(300);
/// Below a clock's step nothing can be told; a second's billionth keeps the division sound.
const CLOCK_STEP: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_has_a_cost_and_the_middle_is_taken() {
        let (sum, cost) = Cost::of(|| (0..3_000_000u64).map(black_box).sum::<u64>());
        assert_eq!(sum, 4_499_998_500_000);
        assert!(cost.cpu > Duration::ZERO && cost.wall > Duration::ZERO);
        let of = |millis| Cost { cpu: Duration::from_millis(millis), wall: Duration::ZERO };
        assert_eq!(Cost::median(vec![of(9), of(1), of(2)]), of(2));
        assert_eq!(Cost::median(Vec::new()), of(0));
    }
}
