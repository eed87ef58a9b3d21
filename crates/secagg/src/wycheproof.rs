//! Vectors of Project Wycheproof against the functions that the protocol really calls, invalid cases included.
//! Origin and licence: `tests/vectors/wycheproof/README.md`.

use crate::kem::{ENCAPSULATION_LEN, KEY_LEN, KemPublic, KemSecret};
use crate::keys::{ChannelSecret, Edge, PlainShares, PublicKeys, SaltedShare};
use crate::message::{Claim, verify, verify_all, verify_ed25519};
use crate::x25519::{X25519Secret, has_small_order};
use crate::{CertificateKey, ContextDigest, ParticipantId};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value;
use sha2::Sha256;

/// Each test with its group, and the number of tests that the file says it has.
fn tests(file: &str) -> (Vec<(Value, Value)>, usize) {
    let file: Value = serde_json::from_str(file).expect("JSON");
    let groups = file["testGroups"].as_array().expect("groups");
    let tests = groups.iter().flat_map(|group| {
        let mut header = group.clone();
        header.as_object_mut().expect("a group").remove("tests");
        let tests = group["tests"].as_array().expect("tests").clone();
        tests.into_iter().map(move |test| (header.clone(), test))
    });
    let count = usize::try_from(file["numberOfTests"].as_u64().expect("a number")).expect("small");
    (tests.collect(), count)
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hex")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("of the right length")
}

fn has_flag(test: &Value, flag: &str) -> bool {
    test["flags"].as_array().expect("flags").iter().any(|got| got == flag)
}

#[test]
fn x25519() {
    let (tests, count) = tests(include_str!("../tests/vectors/wycheproof/x25519_test.json"));
    assert_eq!(tests.len(), count);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let name = ParticipantId::new("wycheproof").expect("a valid name");
    let context = ContextDigest([0; 32]);
    let shares = PlainShares {
        root: SaltedShare::new(Scalar::ONE, &mut rng),
        self_seed: SaltedShare::new(Scalar::ONE, &mut rng),
    };
    let commitments = shares.commitments(&context, &name, &name);
    let hash = [0; 32];
    let edge = Edge {
        context: &context,
        sender: &name,
        receiver: &name,
        advertised: [&hash, &hash],
        commitments: &commitments,
    };
    let mut refused = 0;
    for (_, test) in &tests {
        let id = &test["tcId"];
        let (public, private): ([u8; 32], [u8; 32]) = (array(&test["public"]), array(&test["private"]));
        let shared = X25519Secret::from_bytes(&private).agree(&public);
        let weak = has_flag(test, "ZeroSharedSecret");
        assert_eq!(shared.is_none(), weak, "test {id}");
        if let Some(shared) = shared {
            assert_eq!(shared[..], bytes(&test["shared"]), "test {id}");
        }
        assert_eq!(has_small_order(&public), weak, "test {id}");
        // What we make of it: nothing is sealed with a secret that everybody knows.
        let mut bytes = [0; ChannelSecret::LEN];
        bytes[..32].copy_from_slice(&private);
        let peer = PublicKeys { x25519: public, kem: None };
        let sealed = ChannelSecret::from_bytes(&bytes, false).seal(&edge, &peer, &shares, &mut rng);
        assert_eq!(sealed.is_none(), weak, "test {id}");
        refused += usize::from(weak);
    }
    assert_eq!(refused, 31);
}

#[test]
fn ed25519_strict() {
    let (tests, count) = tests(include_str!("../tests/vectors/wycheproof/ed25519_test.json"));
    assert_eq!(tests.len(), count);
    let mut valid = 0;
    for (group, test) in &tests {
        let key = VerifyingKey::from_bytes(&array(&group["publicKey"]["pk"])).expect("the keys are points");
        // A signature of another length is no field of any message.
        let Ok(signature) = <[u8; 64]>::try_from(bytes(&test["sig"])) else {
            assert_eq!(test["result"], "invalid", "test {}", test["tcId"]);
            continue;
        };
        let good = verify_ed25519(&key, &bytes(&test["msg"]), &signature);
        assert_eq!(good, test["result"] == "valid", "test {}", test["tcId"]);
        valid += usize::from(good);
        let key = CertificateKey::try_from(key).expect("the keys are good");
        assert_eq!(verify(&key, &bytes(&test["msg"]), &signature), good, "test {}", test["tcId"]);
        // Many at once: between good ones, a bad one is found and named.
        let claim = || Claim { key: &key, statement: bytes(&test["msg"]), signature };
        let own = SigningKey::from_bytes(&[7; 32]);
        let own_key = own.verifying_key().try_into().expect("a good key");
        let honest =
            || Claim { key: &own_key, statement: b"honest".to_vec(), signature: own.sign(b"honest").to_bytes() };
        let together = verify_all(&[honest(), claim(), honest(), claim()]);
        assert_eq!(together, if good { Ok(()) } else { Err(1) }, "test {}", test["tcId"]);
    }
    assert_eq!(valid, 88);
}

/// Of a valid signature and its mirror image (r, n - s), the one with the smaller s counts.
#[test]
fn ecdsa_p256_with_the_smaller_s() {
    let (tests, count) = tests(include_str!("../tests/vectors/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json"));
    assert_eq!(tests.len(), count);
    let [mut valid, mut mirrored] = [0; 2];
    for (group, test) in &tests {
        let id = &test["tcId"];
        let key = CertificateKey::p256(&bytes(&group["publicKey"]["uncompressed"])).expect("the keys are points");
        // A signature of another length is no field of any message.
        let Ok(signature) = <[u8; 64]>::try_from(bytes(&test["sig"])) else {
            assert_eq!(test["result"], "invalid", "test {id}");
            continue;
        };
        let message = bytes(&test["msg"]);
        let got = verify(&key, &message, &signature);
        if test["result"] == "invalid" {
            assert!(!got, "test {id}");
            continue;
        }
        let mirror = mirrored_signature(&signature);
        assert_ne!(got, verify(&key, &message, &mirror), "test {id}: one of the two");
        assert_eq!(got, signature < mirror, "test {id}: the smaller one");
        valid += usize::from(got);
        mirrored += usize::from(!got);
        // Among signatures of both kinds it is found and named.
        let own = SigningKey::from_bytes(&[7; 32]);
        let own_key = own.verifying_key().try_into().expect("a good key");
        let honest =
            || Claim { key: &own_key, statement: b"honest".to_vec(), signature: own.sign(b"honest").to_bytes() };
        let claim = |signature| Claim { key: &key, statement: message.clone(), signature };
        let [good, bad] = if got { [signature, mirror] } else { [mirror, signature] };
        assert_eq!(verify_all(&[honest(), claim(good), honest()]), Ok(()), "test {id}");
        assert_eq!(verify_all(&[honest(), claim(good), honest(), claim(bad)]), Err(3), "test {id}");
        let false_claim = Claim { signature: [1; 64], ..honest() };
        assert_eq!(verify_all(&[claim(good), false_claim, claim(bad)]), Err(1), "test {id}");
        // A signature of the other kind is none of this one.
        assert!(!verify(&own_key, &message, &good) && !verify(&key, b"honest", &honest().signature), "test {id}");
    }
    assert_eq!((valid, mirrored), (103, 70));
}

/// (r, n - s) for (r, s).
fn mirrored_signature(signature: &[u8; 64]) -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut mirror = *signature;
    let mut borrow = false;
    for at in (0..32).rev() {
        let (difference, under) = ORDER[at].overflowing_sub(signature[32 + at]);
        let (difference, again) = difference.overflowing_sub(u8::from(borrow));
        (mirror[32 + at], borrow) = (difference, under || again);
    }
    mirror
}

#[test]
fn ml_kem_768() {
    let (keys, count) = tests(include_str!("../tests/vectors/wycheproof/mlkem_768_keygen_seed_test.json"));
    assert_eq!(keys.len(), count);
    for (_, test) in &keys {
        let secret = KemSecret::from_seed(&array(&test["seed"]));
        assert_eq!(secret.public()[..], bytes(&test["ek"]), "test {}", test["tcId"]);
    }
    // Keys and encapsulations of another length are no field of any message.
    let mut checked = [0, 0];
    let (encapsulations, count) = tests(include_str!("../tests/vectors/wycheproof/mlkem_768_encaps_test.json"));
    assert_eq!(encapsulations.len(), count);
    for (_, test) in &encapsulations {
        let key = <[u8; KEY_LEN]>::try_from(bytes(&test["ek"])).ok().and_then(|key| KemPublic::parse(&key));
        assert_eq!(key.is_some(), test["result"] == "valid", "test {}", test["tcId"]);
        if let Some(key) = key {
            let (encapsulation, shared) = key.encapsulate(&array(&test["m"]));
            assert_eq!(encapsulation[..], bytes(&test["c"]), "test {}", test["tcId"]);
            assert_eq!(shared[..], bytes(&test["K"]), "test {}", test["tcId"]);
            checked[0] += 1;
        }
    }
    let (decapsulations, count) = tests(include_str!("../tests/vectors/wycheproof/mlkem_768_test.json"));
    assert_eq!(decapsulations.len(), count);
    for (_, test) in &decapsulations {
        let seed = <[u8; 64]>::try_from(bytes(&test["seed"])).ok();
        let encapsulation = <[u8; ENCAPSULATION_LEN]>::try_from(bytes(&test["c"])).ok();
        let opened = seed.zip(encapsulation).map(|(seed, sent)| KemSecret::from_seed(&seed).decapsulate(&sent));
        assert_eq!(opened.is_some(), test["result"] == "valid", "test {}", test["tcId"]);
        if let Some(shared) = opened {
            assert_eq!(shared[..], bytes(&test["K"]), "test {}", test["tcId"]);
            checked[1] += 1;
        }
    }
    assert!(checked.iter().all(|checked| *checked >= 20), "{checked:?}");
}

#[test]
fn aes_256_gcm() {
    let (tests, count) = tests(include_str!("../tests/vectors/wycheproof/aes_gcm_test.json"));
    assert_eq!(tests.len(), count);
    let ours = |group: &Value| group["keySize"] == 256 && group["ivSize"] == 96 && group["tagSize"] == 128;
    let mut checked = 0;
    for (_, test) in tests.iter().filter(|(group, _)| ours(group)) {
        let id = &test["tcId"];
        let key = || LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes(&test["key"])).expect("32 bytes"));
        let nonce = || Nonce::try_assume_unique_for_key(&bytes(&test["iv"])).expect("12 bytes");
        let aad = || Aad::from(bytes(&test["aad"]));
        let plain = bytes(&test["msg"]);
        let sealed = [bytes(&test["ct"]), bytes(&test["tag"])].concat();
        let mut buffer = sealed.clone();
        let opened = key().open_in_place(nonce(), aad(), &mut buffer).ok().map(|plain| plain.to_vec());
        if test["result"] == "valid" {
            assert_eq!(opened.as_ref(), Some(&plain), "test {id}");
            let mut buffer = plain;
            key().seal_in_place_append_tag(nonce(), aad(), &mut buffer).expect("short");
            assert_eq!(buffer, sealed, "test {id}");
        } else {
            assert_eq!(opened, None, "test {id}");
        }
        checked += 1;
    }
    assert!(checked >= 60, "{checked} tests of our sizes");
}

#[test]
fn hkdf_sha256() {
    let (tests, count) = tests(include_str!("../tests/vectors/wycheproof/hkdf_sha256_test.json"));
    assert_eq!(tests.len(), count);
    for (_, test) in &tests {
        let size = usize::try_from(test["size"].as_u64().expect("a size")).expect("small");
        let mut okm = vec![0; size];
        let expanded = Hkdf::<Sha256>::new(Some(&bytes(&test["salt"])), &bytes(&test["ikm"]))
            .expand(&bytes(&test["info"]), &mut okm)
            .is_ok();
        assert_eq!(expanded, test["result"] == "valid", "test {}", test["tcId"]);
        if expanded {
            assert_eq!(okm, bytes(&test["okm"]), "test {}", test["tcId"]);
        }
    }
}
