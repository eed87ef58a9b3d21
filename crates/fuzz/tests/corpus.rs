//! The committed corpus, and damaged copies of it, in every ordinary test run.
//!
//! `SORDINO_WRITE_CORPUS=1 cargo test -p sordino-fuzz` writes the seeds that follow from the protocol's vectors anew; what
//! a fuzzer has found stays beside them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sordino_fuzz::federation::{FEDERATION, NOW};
use sordino_fuzz::{TARGETS, Target, target};
use sordino_identity::{decode_chain, encode_chain};
use sordino_secagg::{ParticipantId, SignedCommitments};
use sordino_wire::evidence::{InputEvidence, NoiseEvidence, SumEvidence};
use std::fs;
use std::path::{Path, PathBuf};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root("fuzz/corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| unreachable!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable file"))).collect()
}

#[test]
fn every_target_keeps_what_it_has_to_over_the_corpus() {
    write_seeds();
    for target in &TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{} has a corpus", target.name);
        for (_, bytes) in &corpus {
            (target.run)(bytes);
        }
    }
}

/// Changed, cut, lengthened and joined inputs: what a fuzzer does first, without its memory.
#[test]
fn every_target_keeps_what_it_has_to_over_damaged_inputs() {
    for target in &TARGETS {
        let corpus = corpus(target);
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let mut below = |n: usize| usize::try_from(rng.next_u64() % n.max(1) as u64).expect("small");
        for _ in 0..DAMAGED {
            let mut bytes = corpus[below(corpus.len())].1.clone();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(6) {
                    0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                    1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
                    2 => bytes.truncate(at),
                    3 => bytes.insert(at, u8::try_from(below(256)).expect("a byte")),
                    4 if !bytes.is_empty() => drop(bytes.drain(at..bytes.len().min(at + 1 + below(16)))),
                    _ => {
                        let other = &corpus[below(corpus.len())].1;
                        bytes.truncate(at);
                        bytes.extend_from_slice(&other[below(other.len())..]);
                    }
                }
            }
            (target.run)(&bytes);
        }
    }
}

/// A corpus that only holds what is refused at the first byte would exercise nothing.
#[test]
fn the_corpus_reaches_what_it_is_for() {
    let kinds = (1..=9u8).filter(|kind| {
        corpus(target("secagg_message").expect("a target"))
            .iter()
            .any(|(_, bytes)| bytes.get(2) == Some(kind) && sordino_secagg::recode(bytes).is_ok())
    });
    assert_eq!(kinds.count(), 9, "a message of each type");
    let state =
        |bytes: &[u8]| sordino_secagg::participant::Stored::from_bytes(bytes, sordino_fuzz::state_context()).is_ok();
    assert!(accepted("secagg_state", state) >= 1);
    assert!(
        accepted("policy_toml", |bytes| {
            std::str::from_utf8(bytes).is_ok_and(|text| sordino_wire::Policy::from_toml(text).is_ok())
        }) >= 1
    );
    let chain =
        |bytes: &[u8]| decode_chain(bytes).is_some_and(|chain| FEDERATION.anchors.verify_client(&chain, NOW).is_ok());
    assert!(accepted("certificate_chain", chain) >= 2, "of both kinds of authorities");
    let client = |bytes: &[u8]| FEDERATION.anchors.verify_client(&FEDERATION.certified(bytes), NOW).is_ok();
    assert!(accepted("certificate_fields", client) >= 1);
    let server = |bytes: &[u8]| {
        let name = "localhost".try_into().expect("a name");
        FEDERATION.anchors.verify_server(&FEDERATION.certified(bytes), &name, NOW).is_ok()
    };
    assert!(accepted("certificate_fields", server) >= 1);
    let token = |token: &str| FEDERATION.tokens.verify(token, &FEDERATION.verified, NOW).is_ok();
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(token);
    assert!(accepted("token", text) >= 1);
    assert!(accepted("token_claims", |bytes| token(&FEDERATION.claimed(bytes))) >= 1);
    let request = |bytes: &[u8]| {
        let (serial, validity) = (sordino_identity::SerialNumber::random(&mut ChaCha20Rng::seed_from_u64(1)), NOW);
        let validity = sordino_identity::Validity::starting(validity, std::time::Duration::from_hours(1));
        let (participant, validity) = (&FEDERATION.participant, validity.expect("in range"));
        let issue = |text| FEDERATION.intermediate.issue_client(text, participant, validity, serial).is_ok();
        std::str::from_utf8(bytes).is_ok_and(issue)
    };
    assert!(accepted("signing_request", request) >= 1);
    let invitation = |bytes: &[u8]| {
        std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<sordino_identity::Invitation>().is_ok())
    };
    assert!(accepted("invitation", invitation) >= 1);
    assert!(accepted("norm_proof", sordino_fuzz::proofs::verifies) >= 2, "of both settings");
    let evidence = |bytes: &[u8]| SumEvidence::from_bytes(bytes).is_ok();
    assert!(accepted("sum_evidence", evidence) >= 2, "with noise and without");
    let model = |bytes: &[u8]| sordino_codec::Tensors::from_safetensors(bytes, &Default::default()).is_ok();
    assert!(accepted("model_file", model) >= 1);
}

/// How many entries of a target's corpus are accepted.
fn accepted(name: &str, accepts: impl Fn(&[u8]) -> bool) -> usize {
    corpus(target(name).expect("a target")).iter().filter(|(_, bytes)| accepts(bytes)).count()
}

fn write_seeds() {
    if std::env::var_os("SORDINO_WRITE_CORPUS").is_none() {
        return;
    }
    for (name, bytes) in seeds() {
        let folder = root("fuzz/corpus").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let file = hex::encode(&Sha256::digest(&bytes)[..10]);
        fs::write(folder.join(file), bytes).expect("a file");
    }
    // ECDSA signs anew each time: one such chain is enough.
    let issued = root("fuzz/corpus/certificate_chain/of-p256");
    if !issued.exists() {
        fs::write(issued, encode_chain(&FEDERATION.client_of_p256())).expect("a file");
    }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = messages();
    seeds.extend(states().into_iter().map(|state| ("secagg_state", state)));
    seeds.extend(model_files().into_iter().map(|model| ("model_file", model)));
    for (bits, values) in [(2u8, 9i64), (20, 5), (33, 3), (64, 2)] {
        let ring = sordino_codec::RingBits::new(bits).expect("a ring");
        let values: Vec<i64> = (0..values).map(|value| value % 2).collect();
        let packed = sordino_codec::pack(&sordino_codec::RingVector::from_centered(&values, ring).expect("in range"));
        let len = u16::try_from(values.len()).expect("short").to_le_bytes();
        seeds.push(("packed_vector", [&[bits][..], &len, &packed].concat()));
    }
    let key = sordino_identity::IdentityKey::from_seed(&[9; 32]);
    let csr = sordino_identity::make_csr(&key, &"site-0001".parse().expect("a name"));
    seeds.push(("signing_request", csr.into_bytes()));
    let kind = sordino_identity::KeyType::P256;
    let key = sordino_identity::PrincipalKey::generate(kind, &mut ChaCha20Rng::seed_from_u64(6));
    let csr = sordino_identity::make_csr(&key, &"site-0002".parse().expect("a name"));
    seeds.push(("signing_request", csr.into_bytes()));
    seeds.push(("certificate_chain", encode_chain(&[vec![0x30, 0x03, 1, 2, 3].into(), vec![].into()])));
    for chain in [FEDERATION.client(), FEDERATION.server()] {
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).expect("our own certificate");
        seeds.push(("certificate_fields", leaf.tbs_certificate.as_ref().to_vec()));
        seeds.push(("certificate_chain", encode_chain(&chain)));
    }
    seeds.push(("invitation", invitation().into_bytes()));
    for setting in [0, 1] {
        let mut rng = ChaCha20Rng::seed_from_u64(8);
        seeds.push(("norm_proof", sordino_fuzz::proofs::honest_proof(setting, &mut rng)));
    }
    seeds.extend([false, true].map(|noise| ("sum_evidence", evidence(noise))));
    let header = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSJ9";
    seeds.push(("token", format!("{header}.e30.{}", "A".repeat(86)).into_bytes()));
    seeds.push(("token", FEDERATION.token().as_bytes().to_vec()));
    let claims = FEDERATION.token().split('.').nth(1).expect("a JWT has three parts");
    seeds.push(("token_claims", URL_SAFE_NO_PAD.decode(claims).expect("base64url")));
    for name in ["site-0001", "spiffe://fuzz.example/client/site-0001", "https://localhost:8443", &"ab".repeat(32)] {
        seeds.push(("names", name.as_bytes().to_vec()));
    }
    let task = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    seeds.push(("names", task.as_bytes().to_vec()));
    seeds.push(("names", format!("{task}.7").into_bytes()));
    let policy = "[task]\nname = \"fuzz\"\nrounds = 3\n[cohort]\nmin = 4\ntarget = 9\n[privacy]\nenabled = false\n\
                  clip_norm = 2.5\n[masking]\npq = false\nprg = \"aes-128-ctr\"\n[[encoding.metrics]]\n\
                  name = \"loss\"\nmax = 10.0\nresolution = 0.001\n";
    let parsed = sordino_wire::Policy::from_toml(policy).expect("a policy");
    let json = serde_json::to_vec(&parsed).expect("JSON");
    seeds.push(("policy_toml", policy.as_bytes().to_vec()));
    let body = |value: Value| serde_json::to_vec(&value).expect("JSON");
    let policy_value: Value = serde_json::from_slice(&json).expect("JSON");
    seeds.push(("policy_json", json));
    let zeros = "00".repeat(32);
    for value in [
        serde_json::json!({ "round": format!("{task}.7"), "attempt": 1, "nonce": zeros, "model": zeros,
            "policy_digest": zeros, "time_left": 9, "cohort": 5 }),
        serde_json::json!({ "policy": policy_value, "model": zeros }),
        serde_json::json!({ "after": null }),
        serde_json::json!({ "after": { "round": format!("{task}.7"), "attempt": 1 } }),
        serde_json::json!({ "received": 12, "expected": 40 }),
        serde_json::json!({ "type": "about:blank", "title": "Conflict", "status": 409, "detail": "x", "code": "conflict" }),
    ] {
        seeds.push(("api_json", body(value)));
    }
    seeds
}

/// Evidence of two inputs, none of which anybody would believe.
fn evidence(noise: bool) -> Vec<u8> {
    let input = |id: &str, index| InputEvidence {
        signed: SignedCommitments {
            id: ParticipantId::new(id).expect("a name"),
            certificates: b"certificates".to_vec(),
            index,
            self_seed_commitment: [7; 32],
            commitments: b"commitments".to_vec(),
            holders: 2,
            root: [8; 32],
            signature: [9; 64],
        },
        proof: b"a proof".to_vec(),
    };
    let noise = noise.then(|| NoiseEvidence { commitments: b"points".to_vec(), proof: b"another".to_vec() });
    let blindings = (3..6u64).map(Into::into).collect();
    SumEvidence { inputs: vec![input("site-0001", 0), input("site-0002", 1)], noise, blindings }.to_bytes()
}

/// Every message of the protocol's vectors.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let vectors = fs::read(root("vectors/secagg/protocol-v3.json")).expect("the vectors are there");
    let vectors: Value = serde_json::from_slice(&vectors).expect("JSON");
    let names = [
        "advertise_keys",
        "roster",
        "share_keys",
        "delivered_shares",
        "masked_input",
        "survivor_list",
        "consistency_signature",
        "signature_list",
        "unmasking",
    ];
    let mut seeds = Vec::new();
    for attempt in vectors["attempts"].as_array().expect("attempts") {
        for name in names {
            let message = attempt["participants"][1][name].as_str().expect("of a participant that answers to the end");
            seeds.push(("secagg_message", hex::decode(message).expect("hex")));
        }
    }
    seeds
}

fn invitation() -> String {
    use sordino_identity::{IdentityKey, Invitation, JoinSecret};
    let (root, federation) = (FEDERATION.root.certificate().clone(), FEDERATION.participant.federation.clone());
    let url = "https://localhost:8443".parse().expect("an origin");
    let registrar = IdentityKey::from_seed(&[6; 32]).verifying_key();
    let secret = JoinSecret::generate(&mut ChaCha20Rng::seed_from_u64(5));
    let invitation = Invitation::new(url, federation, root, registrar, secret).expect("valid");
    invitation.to_text().to_string()
}

fn states() -> Vec<Vec<u8>> {
    use sordino_secagg::participant::{Attachment, AwaitingRoster, Identity, Input, Stored};
    let context = sordino_fuzz::state_context();
    let id = sordino_secagg::ParticipantId::new("site-0001").expect("a name");
    let identity = Identity { id: &id, certificates: b"certificates" };
    let vector = sordino_codec::RingVector::zeros(5, context.bits);
    let attachment = Some(Attachment { commitments: b"abc".to_vec(), proof: b"de".to_vec() });
    let input = Input { vector, attachment };
    let key = ed25519_dalek::SigningKey::from_bytes(&[4; 32]);
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let state = AwaitingRoster::advertise(context, identity, input, &key, &mut rng).expect("a valid input");
    vec![Stored::AwaitingRoster(state).to_bytes().to_vec()]
}

fn model_files() -> Vec<Vec<u8>> {
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    vec![
        file(r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#, 24),
        file(
            r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}"#,
            10,
        ),
        file("{}", 0),
    ]
}

/// Damaged inputs for each target.
const DAMAGED: usize = 2_000;
