//! Proofs of other systems over many values, as one JSON list: CPU seconds of one core, bytes that a client sends.
//!
//! `--quick` takes small sizes, which show that it works.

use bulletproofs::{BulletproofGens, PedersenGens, RangeProof};
use curve25519_dalek::scalar::Scalar;
use merlin::Transcript;
use prio::codec::Encode as _;
use prio::vdaf::prio3::{Prio3, optimal_chunk_length};
use prio::vdaf::{Aggregator as _, Client as _, PrepareTransition};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (range, sum_vec) = if quick { (96, 1_000) } else { (10_000, 100_000) };
    let figures = [bulletproofs(range, 8), prio3(sum_vec, 16)];
    println!("{}", Value::from(figures.to_vec()));
}

fn cpu<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let begin = now();
    let done = work();
    (done, now() - begin)
}

/// Range proofs, aggregated as far as they can be: over powers of two.
fn bulletproofs(values: usize, bits: usize) -> Value {
    let mut rng = rand::thread_rng();
    let chunks: Vec<usize> = (0..usize::BITS).rev().map(|bit| values & (1 << bit)).filter(|&chunk| chunk > 0).collect();
    let pedersen = PedersenGens::default();
    let generators = BulletproofGens::new(bits, chunks[0]);
    let (proofs, prove) = cpu(|| {
        let prove = |&chunk: &usize| {
            let values: Vec<u64> = (0..chunk as u64).map(|at| at * 37 % (1 << bits)).collect();
            let blindings: Vec<_> = values.iter().map(|_| Scalar::random(&mut rng)).collect();
            let mut transcript = Transcript::new(b"bench");
            RangeProof::prove_multiple(&generators, &pedersen, &mut transcript, &values, &blindings, bits)
                .expect("values in range")
        };
        chunks.iter().map(prove).collect::<Vec<_>>()
    });
    let ((), verify) = cpu(|| {
        for (proof, commitments) in &proofs {
            let mut transcript = Transcript::new(b"bench");
            proof.verify_multiple(&generators, &pedersen, &mut transcript, commitments, bits).expect("an honest proof");
        }
    });
    let bytes: usize = proofs.iter().map(|(proof, commitments)| proof.to_bytes().len() + 32 * commitments.len()).sum();
    json!({
        "system": "bulletproofs 5.0.0",
        "what": format!("{values} values of {bits} bits: each in range"),
        "prove_seconds": prove,
        "verify_seconds": verify,
        "bytes": bytes,
    })
}

/// Shares for two aggregators that do not collude, with a proof that each value is in range; verified by both together.
fn prio3(len: usize, bits: usize) -> Value {
    let vdaf = Prio3::new_sum_vec(2, bits, len, optimal_chunk_length(len * bits)).expect("these sizes");
    let measurement: Vec<u128> = (0..len as u128).map(|at| at * 37 % (1 << bits)).collect();
    let (nonce, key, context) = ([1; 16], [2; 32], b"bench");
    let ((public, inputs), prove) = cpu(|| vdaf.shard(context, &measurement, &nonce).expect("values in range"));
    let ((), verify) = cpu(|| {
        let prepared = inputs.iter().enumerate().map(|(at, input)| {
            vdaf.prepare_init(&key, context, at, &(), &nonce, &public, input).expect("an honest share")
        });
        let (states, shares): (Vec<_>, Vec<_>) = prepared.unzip();
        let message = vdaf.prepare_shares_to_prepare_message(context, &(), shares).expect("an honest proof");
        for state in states {
            let next = vdaf.prepare_next(context, state, message.clone()).expect("an honest proof");
            assert!(matches!(next, PrepareTransition::Finish(_)));
        }
    });
    let encoded = |bytes: Result<Vec<u8>, prio::codec::CodecError>| bytes.expect("it has an encoding").len();
    let bytes = encoded(public.get_encoded()) + inputs.iter().map(|input| encoded(input.get_encoded())).sum::<usize>();
    json!({
        "system": "prio 0.17.0, Prio3SumVec",
        "what": format!("{len} values of {bits} bits: each in range; two aggregators"),
        "prove_seconds": prove,
        "verify_seconds": verify,
        "bytes": bytes,
    })
}
