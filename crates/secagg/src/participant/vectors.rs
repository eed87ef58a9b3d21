//! Known answers: whole attempts from a fixed seed, with their secrets, in `vectors/secagg/protocol-v3.json`. The
//! messages of version 3 do not change; what does needs another version. `tests/second_implementation.rs` lets a program
//! in another language compute the same attempt from the same secrets.
//!
//! Written anew by the test below with `SORDINO_WRITE_VECTORS=1` in its environment.

mod steps;

use super::*;
use crate::certificate_key::BadCertificateKey;
use crate::context::{Faults, Prg, ProofTerms};
use crate::coordinator::{Coordinator, Outgoing, Setup, Timing};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sordino_codec::{Encoding, EncodingSpec, MetricSpec, RingBits};
use steps::{Recorded, Sharing, mask_json, mask_secret, pair_masks, quantile, shares};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/secagg/protocol-v3.json");

/// Certificates are bare keys here: what a deployment encodes is opaque to the protocol.
struct BareKeys {
    registrar: VerifyingKey,
}

impl Trust for BareKeys {
    fn participant(&self, _: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let key = certificates.try_into().map_err(|_| "not 32 bytes")?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| "no key")?;
        key.try_into().map_err(|error: BadCertificateKey| error.to_string())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar
    }
}

fn context() -> Context {
    Context {
        federation: "vectors.example".into(),
        task: "known-answers".into(),
        round: 3,
        attempt: 2,
        nonce: [0x11; 32],
        policy: [0x22; 32],
        model: [0x33; 32],
        vector_len: 21,
        bits: RingBits::new(19).expect("a ring"),
        prg: Prg::Aes256Ctr,
        pq: true,
        min_survivors: 3,
        faults: Faults { corrupt: 0, max_dropout_fraction: 0.25 },
        proof: None,
    }
}

struct Party {
    id: ParticipantId,
    key: SigningKey,
    input: Vec<i64>,
    attachment: Option<Attachment>,
    known: serde_json::Map<String, Value>,
}

impl Party {
    fn certificate_key(&self) -> CertificateKey {
        self.key.verifying_key().try_into().expect("a good key")
    }

    fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.known.insert(name.into(), value.into());
    }
}

fn keys_json(keys: &PublicKeys) -> Value {
    json!({ "x25519": hex::encode(keys.x25519), "ml_kem_768": keys.kem.as_ref().map(|kem| hex::encode(&kem[..])) })
}

/// Any bytes of the lengths that belong there, other ones for each participant: the protocol does not look into them.
fn attachment(at: i64, terms: &ProofTerms) -> Attachment {
    let bytes = |len: u32, step: i64| (0..i64::from(len)).map(|i| (at * 64 + i * step).to_le_bytes()[0]).collect();
    Attachment { commitments: bytes(terms.commitments_len, 3), proof: bytes(terms.proof_len, 5) }
}

/// Four participants, the last of which falls silent after `ShareKeys`.
fn attempt(context: &Context) -> Value {
    let mut rng = Recorded::new([0x42; 32]);
    let mut seed = || {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        SigningKey::from_bytes(&seed)
    };
    let registrar = seed();
    let mut parties: Vec<Party> = (0..4i64)
        .map(|at| Party {
            id: ParticipantId::new(&format!("participant-{at}")).expect("a valid name"),
            key: seed(),
            input: (0..21).map(|i| (at + 1) * (i * i * 97 - 20_000)).collect(),
            attachment: context.proof.as_ref().map(|terms| attachment(at, terms)),
            known: serde_json::Map::new(),
        })
        .collect();
    let trust = BareKeys { registrar: registrar.verifying_key() };
    let cohort = parties.iter().map(|party| (party.id.clone(), party.certificate_key())).collect();
    let timing = Timing { advertise: 1, step: 1, grace: 1, attempt: 1 };
    let mut coordinator = Coordinator::new(Setup { context: context.clone(), cohort, quorum: 4, timing }, 0);
    let mut sum = coordinator.new_sum();
    let opening = |coordinator: &Coordinator, step, to: &ParticipantId| match coordinator.outgoing(step, to) {
        Outgoing::Message(bytes) => bytes,
        other => unreachable!("{other:?}"),
    };

    let mut awaiting_roster = Vec::new();
    for party in &mut parties {
        let certificates = party.key.verifying_key().to_bytes();
        let identity = Identity { id: &party.id, certificates: &certificates };
        let vector = RingVector::from_centered(&party.input, context.bits).expect("in the ring");
        let input = Input { vector, attachment: party.attachment.clone() };
        let state = AwaitingRoster::advertise(context.clone(), identity, input, &party.key, &mut rng).expect("valid");
        let (channel, mask) = (state.channel.public(), state.session.mask_secret(&state.root).public());
        coordinator.message(Step::AdvertiseKeys, &party.id, state.message(), 0).expect("honest");
        party.known = json!({
            "id": party.id.as_str(),
            "signing_seed": hex::encode(party.key.to_bytes()),
            "input": party.input,
            "attachment": party.attachment.as_ref().map(|Attachment { commitments, proof }| json!({
                "commitments": hex::encode(commitments),
                "proof": hex::encode(proof),
            })),
            "root": hex::encode(state.root.0.bytes()),
            "channel_secret": hex::encode(&state.channel.bytes()[..]),
            "mask_secret": mask_secret(&state),
            "channel_key": keys_json(&channel),
            "mask_key": keys_json(&mask),
            "advertise_keys": hex::encode(state.message()),
        })
        .as_object()
        .cloned()
        .expect("an object");
        awaiting_roster.push(state);
    }
    coordinator = coordinator.close(0).expect("everybody answered");
    let roster = coordinator.roster_to_sign().expect("a roster");
    let key_of = |id: &ParticipantId| parties.iter().find(|party| party.id == *id).map(|party| party.certificate_key());
    let statement = roster.statement(key_of).expect("honest");
    coordinator = coordinator.roster_signed(Signer::sign(&registrar, &statement), 0);

    let mut awaiting_shares = Vec::new();
    for (party, state) in parties.iter_mut().zip(awaiting_roster) {
        let roster = opening(&coordinator, Step::ShareKeys, &party.id);
        rng.take();
        let state = state.share_keys(&roster, &trust, &party.key, &mut rng).expect("an honest coordinator");
        let sharing = Sharing::of(rng.take(), state.place.topology.t, context.pq);
        let (root_polynomial, self_seed_polynomial) = sharing.polynomials();
        party.note("roster", hex::encode(&roster));
        party.note("self_seed", hex::encode(state.self_seed.0.bytes()));
        party.note("share_keys", hex::encode(state.message()));
        let commitment = state.self_seed.commitment(&state.session.digest, &party.id);
        party.note("self_seed_commitment", hex::encode(commitment));
        party.note("root_polynomial", root_polynomial);
        party.note("self_seed_polynomial", self_seed_polynomial);
        party.note("shares", shares(&state, &sharing, &roster));
        let self_mask = state.self_seed.mask(&state.session.digest, &party.id);
        party.note("self_mask", mask_json(&state.session, &self_mask));
        awaiting_shares.push(state);
    }
    let roster_root = hex::encode(awaiting_shares[0].place.roster_root);
    let topology = awaiting_shares[0].place.topology;
    for (party, state) in parties.iter().zip(&awaiting_shares) {
        coordinator.message(Step::ShareKeys, &party.id, state.message(), 0).expect("honest");
    }
    coordinator = coordinator.close(0).expect("everybody answered");

    let mut awaiting_survivors = Vec::new();
    for (party, state) in parties.iter_mut().zip(awaiting_shares).take(3) {
        let delivered = opening(&coordinator, Step::MaskedInput, &party.id);
        party.note("pair_masks", pair_masks(&state, &delivered));
        let (state, upload) = state.mask_input(&delivered, &party.key).expect("an honest coordinator");
        let mut hasher = coordinator.hasher();
        hasher.update(&upload.bytes);
        coordinator.input(&party.id, &upload.header, &hasher.finish(), 0).expect("honest");
        let mut adder = sum.begin(&party.id).expect("once");
        adder.push(&upload.bytes).expect("of the right length");
        adder.finish().expect("of the right length");
        party.note("delivered_shares", hex::encode(&delivered));
        party.note("masked_input", hex::encode(&upload.header));
        party.note("upload", hex::encode(&upload.bytes));
        awaiting_survivors.push(state);
    }
    coordinator = coordinator.close(0).expect("three of four");
    let survivors = coordinator.survivors_to_sign().expect("a survivor list");
    coordinator = coordinator.survivors_signed(Signer::sign(&registrar, &survivors.statement()), 0);

    let mut awaiting_signatures = Vec::new();
    for (party, state) in parties.iter_mut().zip(awaiting_survivors) {
        let list = opening(&coordinator, Step::ConsistencyCheck, &party.id);
        let state = state.sign_survivors(&list, &trust, &party.key).expect("an honest coordinator");
        coordinator.message(Step::ConsistencyCheck, &party.id, state.message(), 0).expect("honest");
        party.note("survivor_list", hex::encode(&list));
        party.note("consistency_signature", hex::encode(state.message()));
        awaiting_signatures.push(state);
    }
    coordinator = coordinator.close(0).expect("three survivors");

    for (party, state) in parties.iter_mut().zip(awaiting_signatures) {
        let list = opening(&coordinator, Step::Unmasking, &party.id);
        let state = state.reveal(&list, &party.key).expect("an honest coordinator");
        coordinator.message(Step::Unmasking, &party.id, state.message(), 0).expect("honest");
        party.note("signature_list", hex::encode(&list));
        party.note("unmasking", hex::encode(state.message()));
    }
    coordinator = coordinator.close(0).expect("three survivors");
    let sum: Vec<i64> = coordinator.open(sum).expect("a sum").iter_centered().collect();
    let plain: Vec<i64> = (0..21).map(|at| parties[..3].iter().map(|party| party.input[at]).sum()).collect();
    assert_eq!(sum, plain);

    json!({
        "context": {
            "federation": context.federation,
            "task": context.task,
            "round": context.round,
            "attempt": context.attempt,
            "nonce": hex::encode(context.nonce),
            "policy": hex::encode(context.policy),
            "model": hex::encode(context.model),
            "vector_len": context.vector_len,
            "bits": context.bits.get(),
            "pq": context.pq,
            "prg": match context.prg { Prg::Aes256Ctr => "AES-256-CTR", Prg::Aes128Ctr => "AES-128-CTR" },
            "min_survivors": context.min_survivors,
            "corrupt": context.faults.corrupt,
            "max_dropout_fraction": context.faults.max_dropout_fraction,
            "proof": context.proof.map(|ProofTerms { claim, commitments_len, proof_len }| json!({
                "claim": hex::encode(claim),
                "commitments_len": commitments_len,
                "proof_len": proof_len,
            })),
        },
        "context_digest": hex::encode(context.digest().as_bytes()),
        "registrar_key": hex::encode(registrar.verifying_key().to_bytes()),
        "roster_root": roster_root,
        "k": topology.k,
        "t": topology.t,
        "participants": parties.into_iter().map(|party| Value::Object(party.known)).collect::<Vec<_>>(),
        "sum": sum,
    })
}

/// k, t and the neighbours of the first participants in rosters for which the graph is not complete.
fn graphs() -> Value {
    let digest = context().digest();
    let root = merkle::leaf(b"a roster");
    let cases = [
        (10, 0, 0.0),
        (40, 0, 0.025),
        (100, 2, 0.02),
        (200, 5, 0.1),
        (1_000, 10, 0.05),
        (1_000, 200, 0.1),
        (10_000, 100, 0.1),
    ];
    cases
        .into_iter()
        .map(|(n, corrupt, max_dropout_fraction)| {
            let faults = crate::Faults { corrupt, max_dropout_fraction };
            let topology = Topology::derive(n, &faults).expect("allowed");
            let graph = Graph::new(topology, &digest, &root);
            let (dropouts, log2_n) = (faults.dropouts(n), f64::from(n).log2());
            let corrupt_in_two_windows = quantile(n - 1, corrupt, topology.k, 80.0 + 2.0 * log2_n);
            let silent_neighbours = quantile(n - 1, dropouts, topology.k, 30.0 + log2_n);
            if topology.k < n - 1 {
                assert_eq!(topology.t, (topology.k + corrupt_in_two_windows) / 2 + 1);
                assert!(topology.t + silent_neighbours <= topology.k);
            }
            json!({
                "roster_root": hex::encode(root),
                "n": n,
                "corrupt": corrupt,
                "max_dropout_fraction": max_dropout_fraction,
                "dropouts": dropouts,
                "corrupt_in_two_windows": corrupt_in_two_windows,
                "silent_neighbours": silent_neighbours,
                "k": topology.k,
                "t": topology.t,
                "neighbours": (0..3).map(|index| graph.neighbours(index)).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// The header of an input whose sender could not open the shares of two of its four dealers.
fn complaint() -> Value {
    let (context, key) = (context().digest(), SigningKey::from_bytes(&[8; 32]));
    let (index, dealers, complaints, upload) = (2, [0, 1, 3, 7], vec![1, 7], b"what is packed".as_slice());
    let header = MaskedInput {
        context,
        index,
        dealers: dealers_digest(&context, &dealers),
        len: upload.len() as u64,
        digest: payload_digest(upload),
        complaints: complaints.clone(),
    };
    json!({
        "signing_seed": hex::encode(key.to_bytes()),
        "index": index,
        "dealers": dealers,
        "complaints": complaints,
        "upload": hex::encode(upload),
        "masked_input": hex::encode(header.encode(&key)),
    })
}

/// Grid, ring and norm bound of inputs, from what a policy says.
fn encodings() -> Value {
    let cases = [
        (82, 4, 8.0, 1_000, 16, vec![]),
        (82, 4, 8.0, 100, 30, vec![("correct", 1_000.0, 1.0)]),
        (1_000_000, 1_000, 1.0, 10_000, 16, vec![("loss_sum", 100.0, 0.001), ("correct", 10_000.0, 1.0)]),
        (100_003, 10, 0.3, 7, 20, vec![]),
        (1, 3, 1e-20, 1, 1, vec![]),
        (5, 3, 1.0, 1, 1, vec![("large", 1e12, 0.5)]),
    ];
    let case = |(model_len, cohort_max, clip_norm, max_weight, precision_bits, metrics): (
        _,
        _,
        f64,
        u32,
        _,
        Vec<_>,
    )| {
        let metrics: Vec<_> = metrics
            .into_iter()
            .map(|(name, max, resolution): (&str, f64, f64)| MetricSpec {
                name: name.into(),
                min: 0.0,
                max,
                resolution,
            })
            .collect();
        let json =
            |metric: &MetricSpec| json!({ "name": metric.name, "max": metric.max, "resolution": metric.resolution });
        let shown: Vec<_> = metrics.iter().map(json).collect();
        let spec = EncodingSpec { model_len, cohort_max, clip_norm, max_weight, precision_bits, metrics };
        let encoding = Encoding::new(spec).expect("they fit");
        let half = max_weight.div_ceil(2);
        json!({
            "model_len": model_len,
            "target": cohort_max,
            "clip_norm": clip_norm,
            "max_weight": max_weight,
            "precision_bits": precision_bits,
            "metrics": shown,
            "vector_len": encoding.len(),
            "step": encoding.step(),
            "bits": encoding.bits().get(),
            "norm_bound": encoding.norm_bound(max_weight).squared().to_string(),
            "half_weight": half,
            "half_norm_bound": encoding.norm_bound(half).squared().to_string(),
        })
    };
    cases.into_iter().map(case).collect()
}

#[test]
fn known_answers() {
    let narrow = context();
    let wide = Context {
        bits: RingBits::new(45).expect("a ring"),
        prg: Prg::Aes128Ctr,
        attempt: 3,
        pq: false,
        proof: Some(ProofTerms { claim: [0x44; 32], commitments_len: 64, proof_len: 33 }),
        ..context()
    };
    let today = json!({
        "about": "Attempts of sordino/secagg version 3 from a fixed seed, with every secret: see docs/protocol.md. Byte strings are hexadecimal.",
        "attempts": [attempt(&narrow), attempt(&wide)],
        "complaint": complaint(),
        "graphs": graphs(),
        "encodings": encodings(),
    });
    if std::env::var_os("SORDINO_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&today).expect("JSON") + "\n";
        std::fs::write(FILE, text).expect("the vectors are written");
    }
    let committed = std::fs::read_to_string(FILE).expect("the vectors are there");
    let committed: Value = serde_json::from_str(&committed).expect("JSON");
    for (which, (got, want)) in parts(&today).iter().zip(parts(&committed)).enumerate() {
        assert_eq!(*got, want, "part {which}");
    }
    assert_eq!(today, committed);
}

/// One participant or graph at a time, so that a difference is readable.
fn parts(vectors: &Value) -> Vec<Value> {
    let attempts = vectors["attempts"].as_array().expect("attempts").iter();
    attempts.flat_map(|attempt| attempt["participants"].as_array().expect("participants").clone()).collect()
}
