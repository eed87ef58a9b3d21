#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::*;
use crate::encode_chain;
use crate::fixture::{DAY, Fixture, NOW};

fn chains(fixture: &Fixture, most: usize) -> VerifiedChains {
    VerifiedChains::new(fixture.anchors(), most)
}

fn remembered(chains: &VerifiedChains) -> usize {
    chains.seen().chains.len()
}

/// A cache whose answers are another principal's: whatever it answers from memory can be told.
fn poisoned(fixture: &mut Fixture, chain: &[u8]) -> (VerifiedChains, VerifiedPrincipal) {
    let chains = chains(fixture, 8);
    chains.verify_client(chain, NOW).unwrap();
    let other = fixture.verified(99, "somebody-else");
    let digest: [u8; 32] = Sha256::digest(chain).into();
    chains.seen().chains.get_mut(&digest).unwrap().verified = other.clone();
    (chains, other)
}

#[test]
fn a_chain_that_comes_again_is_answered_from_memory_and_the_same() {
    let mut fixture = Fixture::new("demo");
    let chain = encode_chain(&fixture.client(1, "site-0001"));
    let chains = chains(&fixture, 8);
    let first = chains.verify_client(&chain, NOW).unwrap();
    assert_eq!(first.principal().spiffe_id(), "spiffe://demo/client/site-0001");
    assert_eq!(chains.verify_client(&chain, NOW).unwrap(), first);
    assert_eq!(remembered(&chains), 1);
    let (poisoned, other) = poisoned(&mut fixture, &chain);
    assert_eq!(poisoned.verify_client(&chain, NOW).unwrap(), other, "this was no answer from memory");
}

#[test]
fn an_expired_chain_is_not_believed_from_memory() {
    let mut fixture = Fixture::new("demo");
    let chain = encode_chain(&fixture.client(1, "site-0001"));
    let (chains, other) = poisoned(&mut fixture, &chain);
    assert_eq!(chains.verify_client(&chain, NOW + DAY).unwrap(), other);
    let now = (NOW + DAY).as_secs() + 1;
    let expired = TrustError::Expired { not_after: now - 1, now };
    assert_eq!(chains.verify_client(&chain, Duration::from_secs(now)), Err(expired));
    // A clock that was set back finds it not yet valid.
    let early = NOW - crate::BACKDATE - Duration::from_secs(1);
    assert_eq!(chains.verify_client(&chain, early), Err(TrustError::RootsExpired { now: early.as_secs() }));
    // And nothing was forgotten by that: the chain is what it was.
    assert_eq!(chains.verify_client(&chain, NOW).unwrap(), other);
}

/// The leaf lives until 4096, its intermediate for 10 days, the root for 30.
#[test]
fn the_whole_chain_and_its_root_have_to_be_valid() {
    let fixture = Fixture::new("demo");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://demo/client/site-0001".try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let chain = encode_chain(&fixture.forged(&params));
    let chains = chains(&fixture, 8);
    chains.verify_client(&chain, NOW).unwrap();
    assert!(chains.verify_client(&chain, NOW + 10 * DAY).is_ok());
    let got = chains.verify_client(&chain, NOW + 11 * DAY).unwrap_err();
    assert!(matches!(got, TrustError::Expired { not_after, .. } if not_after == (NOW + 10 * DAY).as_secs()), "{got}");
    let got = chains.verify_client(&chain, NOW + 31 * DAY).unwrap_err();
    assert!(matches!(got, TrustError::RootsExpired { .. }), "{got}");
    // The root's end counts where a chain's own certificates would outlive it.
    let common = common_validity(&[], fixture.root.validity()).unwrap();
    assert_eq!(common, fixture.root.validity());
    let parsed = decode_chain(&chain).unwrap();
    let common = common_validity(&parsed, fixture.root.validity()).unwrap();
    assert_eq!(common.not_after(), NOW + 10 * DAY);
    assert_eq!(common_validity(&[vec![0x30, 0].into()], fixture.root.validity()), None);
}

#[test]
fn every_changed_byte_misses() {
    let mut fixture = Fixture::new("demo");
    let chain = encode_chain(&fixture.client(1, "site-0001"));
    let (chains, other) = poisoned(&mut fixture, &chain);
    assert_eq!(chains.verify_client(&chain, NOW).unwrap(), other);
    for at in 0..chain.len() {
        let mut changed = chain.clone();
        changed[at] ^= 1;
        assert!(chains.verify_client(&changed, NOW).is_err(), "byte {at}");
    }
    assert!(chains.verify_client(&chain[..chain.len() - 1], NOW).is_err());
    assert_eq!(remembered(&chains), 1, "what is refused is not remembered");
}

#[test]
fn bytes_that_are_no_chain_are_refused() {
    let fixture = Fixture::new("demo");
    let chains = chains(&fixture, 8);
    for bytes in [&[][..], &[1, 0, 0], &[0; 1 << 20]] {
        assert_eq!(chains.verify_client(bytes, NOW), Err(TrustError::UnreadableChain));
    }
    assert_eq!(remembered(&chains), 0);
}

#[test]
fn the_chains_used_last_are_remembered_and_no_more() {
    let mut fixture = Fixture::new("demo");
    let of: Vec<_> = (1..=4).map(|at| encode_chain(&fixture.client(at, &format!("site-000{at}")))).collect();
    let chains = chains(&fixture, 3);
    let digest = |chain: &Vec<u8>| -> [u8; 32] { Sha256::digest(chain).into() };
    for chain in &of[..3] {
        chains.verify_client(chain, NOW).unwrap();
    }
    // The first is used again, so that the second is the one that gives way.
    chains.verify_client(&of[0], NOW).unwrap();
    chains.verify_client(&of[3], NOW).unwrap();
    let kept: Vec<bool> = of.iter().map(|chain| chains.seen().chains.contains_key(&digest(chain))).collect();
    assert_eq!(kept, [true, false, true, true]);
    assert!(chains.verify_client(&of[1], NOW).is_ok());
    assert_eq!(remembered(&chains), 3);
    let none = VerifiedChains::new(fixture.anchors(), 0);
    assert!(none.verify_client(&of[0], NOW).is_ok());
    assert_eq!(remembered(&none), 0);
}

#[test]
fn after_clearing_a_chain_is_verified_anew() {
    let mut fixture = Fixture::new("demo");
    let der = fixture.client(1, "site-0001");
    let chain = encode_chain(&der);
    let (chains, other) = poisoned(&mut fixture, &chain);
    assert_eq!(chains.verify_client(&chain, NOW).unwrap(), other);
    chains.clear();
    assert_eq!(remembered(&chains), 0);
    let verified = chains.verify_client(&chain, NOW).unwrap();
    assert_eq!(verified, fixture.anchors().verify_client(&der, NOW).unwrap());
    assert_eq!(chains.anchors().federation(), fixture.root.federation());
}

/// One federation's answers are no other's: each has a memory of its own.
#[test]
fn another_federation_does_not_believe_it() {
    let mut fixture = Fixture::new("demo");
    let chain = encode_chain(&fixture.client(1, "site-0001"));
    chains(&fixture, 8).verify_client(&chain, NOW).unwrap();
    let other = Fixture::new("other");
    assert_eq!(chains(&other, 8).verify_client(&chain, NOW), Err(TrustError::UnknownIssuer));
}

#[test]
fn it_is_shared_between_threads() {
    let mut fixture = Fixture::new("demo");
    let of: Vec<_> = (1..=4).map(|at| encode_chain(&fixture.client(at, &format!("site-000{at}")))).collect();
    let shared = Arc::new(chains(&fixture, 2));
    std::thread::scope(|scope| {
        for at in 0..4 {
            let (shared, of) = (shared.clone(), &of);
            scope.spawn(move || {
                for turn in 0..20 {
                    shared.verify_client(&of[(at + turn) % 4], NOW).unwrap();
                }
            });
        }
    });
    assert_eq!(remembered(&shared), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// At any time, in any order: with a memory or without, the answer is the same.
    #[test]
    fn memory_changes_no_answer(times in prop::collection::vec(0u64..40 * 86_400, 1..20)) {
        let mut fixture = Fixture::new("demo");
        let der = fixture.client(1, "site-0001");
        let chain = encode_chain(&der);
        let (chains, anchors) = (chains(&fixture, 2), fixture.anchors());
        for time in times {
            let now = NOW - DAY + Duration::from_secs(time);
            prop_assert_eq!(chains.verify_client(&chain, now), anchors.verify_client(&der, now));
        }
    }
}
