//! What every decoder of bytes from outside has to keep, whatever the bytes: it answers, allocates no more than they
//! justify, and has one encoding for what it takes.
//!
//! Each [`Target`] runs over the committed corpus and over damaged copies of it in the ordinary tests, and under libFuzzer
//! in `fuzz/` (`cargo xtask fuzz`).

pub mod federation;
mod identity;
pub mod proofs;
mod text;

use sordino_codec::{FileLimits, RingBits, Tensors, pack, unpack};
use sordino_secagg::participant::Stored;
use sordino_secagg::{Context, Faults, Prg, ProofTerms, advertised_certificates, recode};

/// One decoder with what it has to keep.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Panics if the decoder does not keep it.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target { name: "secagg_message", run: secagg_message },
    Target { name: "secagg_state", run: secagg_state },
    Target { name: "norm_proof", run: proofs::norm_proof },
    Target { name: "sum_evidence", run: proofs::sum_evidence },
    Target { name: "model_file", run: model_file },
    Target { name: "packed_vector", run: packed_vector },
    Target { name: "certificate_chain", run: identity::certificate_chain },
    Target { name: "certificate_fields", run: identity::certificate_fields },
    Target { name: "signing_request", run: identity::signing_request },
    Target { name: "invitation", run: identity::invitation },
    Target { name: "token", run: identity::token },
    Target { name: "token_claims", run: identity::token_claims },
    Target { name: "names", run: text::names },
    Target { name: "policy_toml", run: text::policy_toml },
    Target { name: "policy_json", run: text::policy_json },
    Target { name: "api_json", run: text::api_json },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Messages of the masking protocol: what is read is what was written, byte for byte.
fn secagg_message(bytes: &[u8]) {
    if let Ok(again) = recode(bytes) {
        assert_eq!(again, bytes[..again.len()], "a message has one encoding");
    }
    if let Ok(certificates) = advertised_certificates(bytes) {
        assert!(certificates.len() < bytes.len());
    }
}

/// A participant's stored state.
fn secagg_state(bytes: &[u8]) {
    if let Ok(state) = Stored::from_bytes(bytes, state_context()) {
        assert_eq!(state.to_bytes()[..], *bytes, "a state has one encoding");
    }
}

/// What the corpus's states were stored in.
#[must_use]
pub fn state_context() -> Context {
    Context {
        federation: "fuzz.example".into(),
        task: "fuzz".into(),
        round: 1,
        attempt: 1,
        nonce: [1; 32],
        policy: [2; 32],
        model: [3; 32],
        vector_len: 5,
        bits: RingBits::new(20).expect("a ring"),
        prg: Prg::Aes256Ctr,
        pq: false,
        min_survivors: 3,
        faults: Faults { corrupt: 0, max_dropout_fraction: 0.0 },
        proof: Some(ProofTerms { claim: [4; 32], commitments_len: 3, proof_len: 2 }),
    }
}

/// Model files: what was read is written, and read as the same again.
fn model_file(bytes: &[u8]) {
    let limits = FileLimits::default();
    if let Ok(model) = Tensors::from_safetensors(bytes, &limits) {
        assert!(model.layout().len() <= bytes.len(), "no value without a byte");
        let written = model.to_safetensors();
        let again = Tensors::from_safetensors(&written, &limits).expect("just written");
        assert_eq!(again.to_safetensors(), written);
        assert_eq!(again.layout(), model.layout());
    }
}

/// Packed vectors: a byte for the ring, two for the length, then the vector.
fn packed_vector(bytes: &[u8]) {
    let Some(([bits, low, high], packed)) = bytes.split_first_chunk() else { return };
    let Ok(bits) = RingBits::new(*bits) else { return };
    if let Ok(vector) = unpack(packed, usize::from(u16::from_le_bytes([*low, *high])), bits) {
        assert_eq!(pack(&vector), packed, "a vector has one encoding");
    }
}
