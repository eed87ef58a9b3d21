#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use super::*;
use crate::fixture::{DAY, Fixture, NOW};
use crate::{IdentityKey, KeyType, pem};

fn refused(anchors: &TrustAnchors, chain: &[CertificateDer<'_>]) -> TrustError {
    anchors.verify_client(chain, NOW).unwrap_err()
}

/// A leaf like a participant's, to be spoiled.
fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://demo/client/site-0001")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn a_participant_is_recognised() {
    let mut fixture = Fixture::new("demo");
    let chain = fixture.client(1, "site-0001");
    let verified = fixture.anchors().verify_client(&chain, NOW).unwrap();
    assert_eq!(verified.principal().spiffe_id(), "spiffe://demo/client/site-0001");
    assert_eq!(verified.public_key(), Some(&PublicKey::ed25519(IdentityKey::from_seed(&[1; 32]).verifying_key())));
    assert_eq!(verified.fingerprint(), Fingerprint::of(&chain[0]));
    assert_eq!(verified.not_after(), NOW + DAY);
    // The root may be sent along, and a chain's order past the leaf does not matter.
    let long = [chain[0].clone(), fixture.root.certificate().clone(), chain[1].clone()];
    assert_eq!(fixture.anchors().verify_client(&long, NOW).unwrap(), verified);
    let text = pem::encode(pem::CERTIFICATE, fixture.root.certificate());
    let anchors = TrustAnchors::from_pem("demo".parse().unwrap(), &text).unwrap();
    assert_eq!(anchors.verify_client(&chain, NOW).unwrap(), verified);
    assert!(anchors.certificates().eq([fixture.root.certificate()]));
}

#[test]
fn a_server_is_recognised_by_name_and_role() {
    let mut fixture = Fixture::new("demo");
    let chain = fixture.server(&["localhost", "127.0.0.1"]);
    let anchors = fixture.anchors();
    let name = |text: &'static str| ServerName::try_from(text).unwrap();
    for good in ["localhost", "127.0.0.1"] {
        let verified = anchors.verify_server(&chain, &name(good), NOW).unwrap();
        let kind = verified.public_key().map(PublicKey::key_type);
        assert_eq!((verified.principal().role, kind), (Role::Coordinator, Some(KeyType::P256)));
    }
    let got = anchors.verify_server(&chain, &name("example.org"), NOW).unwrap_err();
    assert_eq!(got, TrustError::WrongName { name: name("example.org") });
    // A participant's certificate does not serve, a server's does not take part.
    let client = fixture.client(1, "site-0001");
    let got = anchors.verify_server(&client, &name("localhost"), NOW).unwrap_err();
    assert_eq!(got, TrustError::WrongUsage { usage: "serverAuth" });
    assert_eq!(refused(&anchors, &chain), TrustError::WrongUsage { usage: "clientAuth" });
    let mut params = leaf();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
    let got = anchors.verify_server(&fixture.forged(&params), &name("localhost"), NOW).unwrap_err();
    assert_eq!(got, TrustError::NotACoordinator { role: Role::Client });
}

#[test]
fn time_counts_for_every_certificate_of_the_path() {
    let mut fixture = Fixture::new("demo");
    let chain = fixture.client(1, "site-0001");
    let anchors = fixture.anchors();
    let at = |now| anchors.verify_client(&chain, now);
    assert!(at(NOW - crate::BACKDATE).is_ok() && at(NOW + DAY).is_ok());
    let now = (NOW + DAY).as_secs() + 1;
    assert_eq!(at(Duration::from_secs(now)), Err(TrustError::Expired { not_after: now - 1, now }));
    // Before the leaf begins the root has not begun either.
    let early = NOW - crate::BACKDATE - Duration::from_secs(1);
    assert_eq!(at(early), Err(TrustError::RootsExpired { now: early.as_secs() }));
    assert_eq!(at(NOW + 31 * DAY), Err(TrustError::RootsExpired { now: (NOW + 31 * DAY).as_secs() }));
    let mut params = leaf();
    params.not_before = time::OffsetDateTime::from_unix_timestamp(1_800_000_001).unwrap();
    let got = refused(&anchors, &fixture.forged(&params));
    assert_eq!(got, TrustError::NotYetValid { not_before: 1_800_000_001, now: 1_800_000_000 });
    // The leaf of the careless intermediate lives until 4096, the intermediate for 10 days.
    let chain = fixture.forged(&leaf());
    let got = anchors.verify_client(&chain, NOW + 11 * DAY).unwrap_err();
    assert_eq!(got, TrustError::Expired { not_after: (NOW + 10 * DAY).as_secs(), now: (NOW + 11 * DAY).as_secs() });
}

/// What was signed in the past is checked at a moment of that past: any in which the whole chain held.
#[test]
fn a_chain_is_verified_for_a_time_that_has_passed() {
    let mut fixture = Fixture::new("demo");
    let chain = fixture.client(1, "site-0001");
    let anchors = fixture.anchors();
    let (hour, end) = (DAY / 24, NOW + DAY);
    let during = |from, to| anchors.verify_client_during(&chain, &(from..=to));
    for (from, to) in [(NOW, NOW), (NOW, NOW + hour), (NOW, end), (NOW, end + hour), (end, NOW + 9 * DAY)] {
        assert_eq!(during(from, to), anchors.verify_client(&chain, NOW), "{from:?} to {to:?}");
    }
    let late = (end + hour).as_secs();
    let expired = |now: u64| Err(TrustError::Expired { not_after: end.as_secs(), now });
    assert_eq!(during(end + Duration::from_secs(1), end + hour), expired(late));
    // A period that ends before it begins is no excuse for a chain that had ended.
    assert_eq!(during(end + 2 * hour, end + hour), expired(late));
    assert!(during(NOW - 2 * hour, NOW - 2 * hour).is_err(), "it had not begun");
    let foreign = Fixture::new("demo").client(1, "site-0001");
    let got = anchors.verify_client_during(&foreign, &(NOW..=NOW + 9 * DAY)).unwrap_err();
    assert!(matches!(got, TrustError::UnknownIssuer | TrustError::BadSignature | TrustError::Expired { .. }), "{got}");
    assert_eq!(named_by(&chain[0]).unwrap().spiffe_id(), "spiffe://demo/client/site-0001");
    assert_eq!(named_by(fixture.root.certificate()), Err(TrustError::BadSpiffeId(InvalidName::SpiffeShape)));
}

#[test]
fn other_authorities_are_not_trusted() {
    let mut ours = Fixture::new("demo");
    // Same names, other keys; and a federation of its own.
    let mut twin = Fixture::new("demo");
    let mut other = Fixture::new("other");
    let chain = ours.client(1, "site-0001");
    let anchors = ours.anchors();
    assert!(matches!(
        refused(&anchors, &twin.client(1, "site-0001")),
        TrustError::BadSignature | TrustError::UnknownIssuer
    ));
    assert_eq!(refused(&anchors, &other.client(1, "site-0001")), TrustError::UnknownIssuer);
    assert_eq!(refused(&anchors, &chain[..1]), TrustError::UnknownIssuer);
    assert_eq!(refused(&anchors, &[]), TrustError::NoCertificate);
    assert_eq!(refused(&anchors, &vec![chain[0].clone(); 5]), TrustError::ChainTooLong { certificates: 5 });
    let large = CertificateDer::from(vec![0; 30_000]);
    assert_eq!(refused(&anchors, &[large]), TrustError::CertificateTooLarge { bytes: 30_000 });
    // An authority is no principal, a participant is no authority.
    let got = refused(&anchors, &[ours.intermediate.certificate().clone()]);
    assert_eq!(got, TrustError::BadPath(webpki::Error::CaUsedAsEndEntity));
    let leaf_key = IdentityKey::from_seed(&[1; 32]);
    let issuer = rcgen::Issuer::from_ca_cert_der(&chain[0], &leaf_key).unwrap();
    let child = leaf().signed_by(&leaf_key, &issuer).unwrap().der().clone();
    let got = refused(&anchors, &[child, chain[0].clone(), chain[1].clone()]);
    assert_eq!(got, TrustError::BadPath(webpki::Error::EndEntityUsedAsCa));
    // A stranger's root does not become ours by claiming our federation in the leaf.
    let both = TrustAnchors::from_der("demo".parse().unwrap(), [other.root.certificate().clone()]).unwrap_err();
    assert!(matches!(both, TrustError::ForeignFederation { theirs, .. } if theirs == "spiffe://other"));
}

#[test]
fn a_leaf_must_be_one_principal_of_this_federation() {
    let fixture = Fixture::new("demo");
    let anchors = fixture.anchors();
    assert!(anchors.verify_client(&fixture.forged(&leaf()), NOW).is_ok());
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = leaf();
        change(&mut params);
        refused(&anchors, &fixture.forged(&params))
    };
    let two = with(&|p| p.subject_alt_names.push(uri("spiffe://demo/admin/administrator")));
    assert_eq!(two, TrustError::SeveralSpiffeIds { count: 2 });
    assert_eq!(with(&|p| p.subject_alt_names.clear()), TrustError::NoSpiffeId);
    let dns_only = with(&|p| p.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())]);
    assert_eq!(dns_only, TrustError::NoSpiffeId);
    let foreign = with(&|p| p.subject_alt_names = vec![uri("spiffe://other/client/site-0001")]);
    assert!(matches!(foreign, TrustError::ForeignFederation { theirs, .. } if theirs == "other"));
    let shape = with(&|p| p.subject_alt_names = vec![uri("https://demo/client/site-0001")]);
    assert_eq!(shape, TrustError::BadSpiffeId(InvalidName::SpiffeShape));
    // A second name that cannot be read, a URI of the byte 0xff, hides behind nothing.
    let unreadable = with(&|p| {
        let mut names = vec![0x30, 35, 0x86, 30];
        names.extend(b"spiffe://demo/client/site-0001");
        names.extend([0x86, 1, 0xff]);
        p.subject_alt_names.clear();
        p.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
    });
    assert_eq!(unreadable, TrustError::SeveralSpiffeIds { count: 2 });
    let usage = TrustError::WrongUsage { usage: "clientAuth" };
    assert_eq!(with(&|p| p.extended_key_usages.clear()), usage);
    assert_eq!(with(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), usage);
    assert_eq!(with(&|p| p.key_usages.clear()), TrustError::WrongKeyUsage);
    assert_eq!(with(&|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)), TrustError::WrongKeyUsage);
    let ca = with(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(ca, TrustError::BadPath(webpki::Error::CaUsedAsEndEntity));
    let critical = with(&|p| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    });
    assert_eq!(critical, TrustError::Malformed(webpki::Error::UnsupportedCriticalExtension));
}

/// What an intermediate signed without looking: no point of the curve, an odd encoding of one, another curve.
#[test]
fn a_leaf_holds_a_point_of_its_curve() {
    struct Leaf(Vec<u8>, &'static rcgen::SignatureAlgorithm);
    impl rcgen::PublicKeyData for Leaf {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            self.1
        }
    }
    let fixture = Fixture::new("demo");
    let pair = rcgen::KeyPair::generate().unwrap();
    let good = rcgen::PublicKeyData::der_bytes(&pair).to_vec();
    let mut off_curve = good.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    let compressed = [&[2 + (good[64] & 1)], &good[1..33]].concat();
    let mut neutral = vec![0; 32];
    neutral[0] = 1;
    let (p256, ed25519) = (&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519);
    let read = |key: Leaf| fixture.anchors().verify_client(&fixture.forged_for(&leaf(), &key), NOW);
    let kind = read(Leaf(good.clone(), p256)).unwrap().public_key().map(PublicKey::key_type);
    assert_eq!(kind, Some(KeyType::P256));
    for (name, bad, algorithm) in [
        ("off the curve", off_curve, p256),
        ("compressed", compressed, p256),
        ("infinity", vec![0], p256),
        ("small order", neutral, ed25519),
        ("of the other kind", good, ed25519),
    ] {
        assert_eq!(read(Leaf(bad, algorithm)).unwrap_err(), TrustError::BadKey, "{name}");
    }
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let verified = fixture.anchors().verify_client(&fixture.forged_for(&leaf(), &p384), NOW).unwrap();
    assert_eq!(verified.public_key(), None);
}

#[test]
fn roots_are_checked_when_they_are_configured() {
    let mut fixture = Fixture::new("demo");
    let root = fixture.root.certificate().clone();
    let leaf = fixture.client(1, "site-0001").remove(0);
    let federation = || "demo".parse::<FederationId>().unwrap();
    let from = |roots: Vec<CertificateDer<'static>>| TrustAnchors::from_der(federation(), roots).unwrap_err();
    assert_eq!(from(vec![]), TrustError::Roots { count: 0 });
    assert_eq!(from(vec![root.clone(); 17]), TrustError::Roots { count: 17 });
    assert_eq!(from(vec![leaf]), TrustError::BadRoot);
    assert_eq!(from(vec![vec![0x30, 0].into()]), TrustError::BadRoot);
    assert_eq!(TrustAnchors::from_pem(federation(), "").unwrap_err(), TrustError::Roots { count: 0 });
    let cut = pem::encode(pem::CERTIFICATE, &root).replace("-----END", "----END");
    assert_eq!(TrustAnchors::from_pem(federation(), &cut).unwrap_err(), TrustError::BadRoot);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One flipped bit anywhere in a leaf: never a panic, never another identity.
    #[test]
    fn arbitrary_certificates_are_an_answer_and_never_a_panic(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut fixture = Fixture::new("demo");
        let mut chain = fixture.client(1, "site-0001");
        let anchors = fixture.anchors();
        let mut der = chain[0].to_vec();
        let at = at.index(der.len());
        der[at] ^= 1u8 << bit;
        chain[0] = der.into();
        prop_assert!(anchors.verify_client(&chain, NOW).is_err());
        chain[0] = noise.clone().into();
        prop_assert!(anchors.verify_client(&chain, NOW).is_err());
        prop_assert!(TrustAnchors::from_der("demo".parse()?, [noise.into()]).is_err());
    }
}
