#![expect(clippy::unwrap_used, reason = "tests")]

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use x509_parser::parse_x509_certificate;

use super::*;
use crate::fixture::{Fixture, validity};
use crate::{IdentityKey, make_csr};

fn serial() -> SerialNumber {
    use rand_core::SeedableRng as _;
    SerialNumber::random(&mut rand_chacha::ChaCha20Rng::seed_from_u64(2))
}

#[test]
fn certificates_follow_their_profile() {
    let mut fixture = Fixture::new("demo.sordino");
    let client = fixture.client(1, "site-0001").remove(0);
    let server = fixture.server(&["localhost", "127.0.0.1", "::1"]).remove(0);
    let root = fixture.root.certificate().clone();
    let intermediate = fixture.intermediate.certificate().clone();
    for (name, der, uri, path_len, client_auth, server_auth) in [
        ("root", root, "spiffe://demo.sordino", Some(1), false, false),
        ("intermediate", intermediate, "spiffe://demo.sordino", Some(0), false, false),
        ("client", client, "spiffe://demo.sordino/client/site-0001", None, true, false),
        ("server", server, "spiffe://demo.sordino/coordinator/coordinator-1", None, false, true),
    ] {
        let (rest, parsed) = parse_x509_certificate(&der).unwrap();
        assert!(rest.is_empty());
        let is_ca = path_len.is_some();
        assert_eq!(uri_names(&parsed), [uri], "{name}");
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical, "{name}");
        assert_eq!((constraints.value.ca, constraints.value.path_len_constraint), (is_ca, path_len), "{name}");
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical, "{name}");
        // Bit 0 is digitalSignature, bits 5 and 6 are keyCertSign and cRLSign.
        assert_eq!(usage.value.flags, if is_ca { 0b110_0000 } else { 1 }, "{name}");
        let extended = parsed.extended_key_usage().unwrap();
        assert_eq!(extended.as_ref().is_some_and(|e| e.value.client_auth), client_auth, "{name}");
        assert_eq!(extended.as_ref().is_some_and(|e| e.value.server_auth), server_auth, "{name}");
        assert!(parsed.raw_serial().len() == 16 && !parsed.serial.to_bytes_be().is_empty(), "{name}");
        assert!(der.len() < 1000, "{name}: {} bytes", der.len());
    }
}

#[test]
fn a_signing_request_yields_its_key_and_nothing_else() {
    let fixture = Fixture::new("demo");
    let key = IdentityKey::from_seed(&[5; 32]);
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names.push(SanType::URI("spiffe://demo/admin/administrator".try_into().unwrap()));
    params.distinguished_name.push(DnType::CommonName, "administrator");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let principal = fixture.principal(Role::Client, "site-0001");
    let issued = fixture.intermediate.issue_client(&csr, &principal, validity(1), serial()).unwrap();
    let (_, parsed) = parse_x509_certificate(issued.certificate()).unwrap();
    assert_eq!(uri_names(&parsed), ["spiffe://demo/client/site-0001"]);
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    assert!(!parsed.is_ca());
    assert_eq!(parsed.key_usage().unwrap().unwrap().value.flags, 1);
    assert!(!parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(parsed.subject().to_string(), "CN=site-0001");
    assert_eq!(*parsed.public_key().subject_public_key.data, *key.verifying_key().as_bytes());
}

#[test]
fn authorities_survive_pem() {
    let fixture = Fixture::new("demo");
    for authority in [&fixture.root, &fixture.intermediate] {
        let read = Authority::from_pem(&authority.certificate_pem(), &authority.key_pem()).unwrap();
        assert_eq!(read.certificate(), authority.certificate());
        assert_eq!(read.federation(), authority.federation());
        assert_eq!((read.tier(), read.validity()), (authority.tier(), authority.validity()));
    }
    let again = Authority::from_pem(&fixture.root.certificate_pem(), &fixture.root.key_pem()).unwrap();
    again.intermediate(KeyPair::generate().unwrap(), validity(1), serial()).unwrap();
    assert!(!format!("{again:?}").contains("key"));
}

#[test]
fn an_ed25519_hierarchy_works_alike() {
    let key = IdentityKey::from_seed(&[8; 32]);
    let root = Authority::root(&"demo".parse().unwrap(), key.rcgen_key_pair(), validity(3), serial()).unwrap();
    let read = Authority::from_pem(&root.certificate_pem(), &key.to_pkcs8_pem()).unwrap();
    assert_eq!(read.certificate(), root.certificate());
}

#[test]
fn mixed_up_files_are_named() {
    let mut fixture = Fixture::new("demo");
    let leaf = pem::encode(pem::CERTIFICATE, &fixture.client(1, "site-0001")[0]);
    let Fixture { root, intermediate, .. } = &fixture;
    let read = |certificate: &str, key: &str| Authority::from_pem(certificate, key).unwrap_err();
    assert!(matches!(read(&root.certificate_pem(), &intermediate.key_pem()), AuthorityError::KeyMismatch));
    assert!(matches!(read(&leaf, &root.key_pem()), AuthorityError::Certificate(_)));
    assert!(matches!(read(&root.key_pem(), &root.key_pem()), AuthorityError::Certificate(_)));
    assert!(matches!(read(&root.certificate_pem(), ""), AuthorityError::Key(KeyError::NotPem)));
    assert!(matches!(read(&"x".repeat(70_000), ""), AuthorityError::Certificate("it is too long")));
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(read(&root.certificate_pem(), &p384.serialize_pem()), AuthorityError::UnsupportedKey));
}

#[test]
fn authorities_keep_to_their_office() {
    let fixture = Fixture::new("demo");
    let Fixture { root, intermediate, .. } = &fixture;
    let key = || KeyPair::generate().unwrap();
    let csr = make_csr(&IdentityKey::from_seed(&[1; 32]), &"site-0001".parse().unwrap());
    let ours = fixture.principal(Role::Client, "site-0001");
    let foreign = Principal { federation: "other".parse().unwrap(), ..ours.clone() };
    let names = |count: usize| vec![ServerName::try_from("localhost").unwrap(); count];
    let id = "coordinator-1".parse().unwrap();

    let got = intermediate.intermediate(key(), validity(1), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::WrongTier { needed: Tier::Root, is: Tier::Intermediate }));
    let got = root.issue_client(&csr, &ours, validity(1), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::WrongTier { needed: Tier::Intermediate, is: Tier::Root }));
    let got = intermediate.issue_client(&csr, &foreign, validity(1), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::ForeignPrincipal { .. }));
    let got = intermediate.issue_client(&csr, &ours, validity(11), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::OutlivesIssuer { .. }));
    let got = root.intermediate(key(), validity(31), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::OutlivesIssuer { .. }));
    let got = intermediate.issue_client("", &ours, validity(1), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::Csr(CsrError::NotPem)));
    for count in [0, 65] {
        let got = intermediate.issue_server(&key(), &names(count), &id, validity(1), serial()).unwrap_err();
        assert!(matches!(got, AuthorityError::Names { count: named } if named == count));
    }
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let got = intermediate.issue_server(&p384, &names(1), &id, validity(1), serial()).unwrap_err();
    assert!(matches!(got, AuthorityError::UnsupportedKey));
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    intermediate.issue_server(&ed25519, &names(64), &id, validity(1), serial()).unwrap();
}
