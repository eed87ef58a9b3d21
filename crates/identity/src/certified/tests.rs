#![expect(clippy::unwrap_used, reason = "tests")]

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rcgen::PublicKeyData as _;

use super::*;
use crate::csr::{make_csr, verified_key};

fn p256(seed: u64) -> PrincipalKey {
    PrincipalKey::generate(KeyType::P256, &mut ChaCha20Rng::seed_from_u64(seed))
}

fn verifies(key: &PrincipalKey, message: &[u8], signature: &[u8]) -> bool {
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
    UnparsedPublicKey::new(algorithm, key.der_bytes()).verify(message, signature).is_ok()
}

/// RFC 6979 section A.2.5.
#[test]
fn a_secret_has_its_point() {
    let secret = hex::decode("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721").unwrap();
    let key = P256Key::from_secret(&secret.try_into().unwrap()).unwrap();
    assert_eq!(
        hex::encode(key.point()),
        "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
         7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    );
}

#[test]
fn a_secret_is_a_number_from_one_to_the_order_less_one() {
    let mut one = [0; 32];
    one[31] = 1;
    let below = order_minus(&one);
    assert!(P256Key::from_secret(&one).is_some() && P256Key::from_secret(&below).is_some());
    for bad in [[0; 32], ORDER, [0xff; 32]] {
        assert!(P256Key::from_secret(&bad).is_none());
    }
    // What is not below the order is drawn again.
    struct Draws(Vec<[u8; 32]>);
    impl rand_core::TryRng for Draws {
        type Error = rand_core::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            unreachable!("bytes are drawn")
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            unreachable!("bytes are drawn")
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.copy_from_slice(&self.0.remove(0));
            Ok(())
        }
    }
    impl rand_core::TryCryptoRng for Draws {}
    let mut draws = Draws(vec![[0xff; 32], ORDER, [0; 32], below, one]);
    assert_eq!(P256Key::generate(&mut draws).point(), P256Key::from_secret(&below).unwrap().point());
    assert_eq!(draws.0, [one]);
}

/// Half of all signatures come out of AWS-LC with the larger s.
#[test]
fn the_smaller_s_is_signed_with() {
    let key = p256(1);
    for number in 0..32u8 {
        let signature = key.sign(&[number]);
        assert!(signature[32..] <= HALF_ORDER[..]);
        assert!(verifies(&key, &[number], &signature) && !verifies(&key, &[number + 1], &signature));
    }
    assert_ne!(key.sign(b"m"), key.sign(b"m"), "nonces are random");
    assert_eq!(order_minus(&HALF_ORDER)[31], HALF_ORDER[31].wrapping_add(1), "n is odd");
}

#[test]
fn keys_of_both_kinds_survive_pem_and_never_print_themselves() {
    for kind in [KeyType::Ed25519, KeyType::P256] {
        let key = PrincipalKey::generate(kind, &mut ChaCha20Rng::seed_from_u64(2));
        let again = PrincipalKey::from_pkcs8_pem(&key.to_pkcs8_pem()).unwrap();
        assert_eq!((again.public_key(), again.public_key().key_type()), (key.public_key(), kind));
        assert_eq!(again.to_pkcs8_der(), key.to_pkcs8_der());
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("P-256".parse::<KeyType>(), Err(InvalidKeyType));
    assert_eq!(format!("{:?}", p256(1)), "P256(P256Key)");
    // `rcgen`, and so rustls, read it as well.
    let der = p256(1).to_pkcs8_der();
    assert_eq!(der.len(), 138);
    let pair = rcgen::KeyPair::try_from(&der[..]).unwrap();
    assert_eq!((pair.der_bytes(), pair.algorithm()), (p256(1).der_bytes(), &rcgen::PKCS_ECDSA_P256_SHA256));
    assert_eq!(*pair.serialize_der(), **der, "as others write it");
}

#[test]
fn files_that_are_no_such_key_are_refused() {
    let read = |der: &[u8]| PrincipalKey::from_pkcs8_pem(&pem::encode(pem::PRIVATE_KEY, der)).map(|_| ());
    let der = p256(1).to_pkcs8_der();
    let other = p256(2).to_pkcs8_der();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let zero = [&PKCS8_HEAD[..], &[0; 32], &PKCS8_POINT, &other[73..]].concat();
    assert_eq!(read(&der), Ok(()));
    for (name, bad) in [
        ("another point", [&der[..73], &other[73..]].concat()),
        ("zero", zero),
        ("cut", der[..137].to_vec()),
        ("lengthened", [&der[..], &[0]].concat()),
        ("P-384", p384.serialize_der()),
        ("nothing", vec![]),
    ] {
        assert_eq!(read(&bad), Err(KeyError::Unsupported), "{name}");
    }
    assert_eq!(PrincipalKey::from_pkcs8_pem("no").unwrap_err(), KeyError::NotPem);
    // The keys of the federation itself stay Ed25519.
    assert_eq!(IdentityKey::from_pkcs8_pem(&p256(1).to_pkcs8_pem()).unwrap_err(), KeyError::NotEd25519);
}

#[test]
fn a_request_is_signed_by_the_kind_of_key_it_carries() {
    struct Mixed(PrincipalKey, PrincipalKey);
    impl rcgen::PublicKeyData for Mixed {
        fn der_bytes(&self) -> &[u8] {
            self.0.der_bytes()
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            self.0.algorithm()
        }
    }
    impl rcgen::SigningKey for Mixed {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            rcgen::SigningKey::sign(&self.1, message)
        }
    }
    let id = "site-0001".parse().unwrap();
    assert_eq!(verified_key(&make_csr(&p256(1), &id)).unwrap(), p256(1).public_key());
    let ed25519 = || PrincipalKey::from(IdentityKey::from_seed(&[3; 32]));
    for mixed in [Mixed(p256(1), p256(2)), Mixed(p256(1), ed25519()), Mixed(ed25519(), p256(1))] {
        assert_eq!(verified_key(&make_csr(&mixed, &id)).unwrap_err(), crate::CsrError::BadSignature);
    }
}
