//! OpenSSL as an independent judge of what the authority issues and of the keys that are written to disk.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rcgen::KeyPair;
use rustls_pki_types::ServerName;
use sordino_identity::{
    Authority, FederationId, IdentityKey, KeyType, Principal, PrincipalKey, Role, SerialNumber, TrustAnchors, Validity,
    make_csr,
};

/// Runs `openssl` in `dir`; standard output and error, and whether it succeeded.
fn openssl(dir: &Path, arguments: &str) -> (bool, String) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Writes a federation into `dir`: `root.pem`, `int.pem`, `client.pem`, `client.key`, `client.csr`, `server.pem`.
fn write_federation(dir: &Path, now: Duration, authority_key: impl Fn(u8) -> KeyPair, client: KeyType) {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let mut serial = move || SerialNumber::random(&mut rng);
    let days = |days: u32| Validity::starting(now, Duration::from_secs(86_400) * days).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    let federation: FederationId = "demo.sordino".parse().unwrap();

    let root = Authority::root(&federation, authority_key(1), days(3650), serial()).unwrap();
    let intermediate = root.intermediate(authority_key(2), days(365), serial()).unwrap();
    write("root.pem", &root.certificate_pem());
    write("int.pem", &intermediate.certificate_pem());

    let key = PrincipalKey::generate(client, &mut ChaCha20Rng::seed_from_u64(7));
    let principal = Principal { federation, role: Role::Client, id: "site-0001".parse().unwrap() };
    let csr = make_csr(&key, &principal.id);
    let client = intermediate.issue_client(&csr, &principal, days(3), serial()).unwrap();
    write("client.key", &key.to_pkcs8_pem());
    write("client.csr", &csr);
    write("client.pem", &client.chain_pem());

    let names = [ServerName::try_from("localhost").unwrap(), ServerName::try_from("127.0.0.1").unwrap()];
    let server_key = KeyPair::generate().unwrap();
    let id = "coordinator-1".parse().unwrap();
    let server = intermediate.issue_server(&server_key, &names, &id, days(3), serial()).unwrap();
    write("server.pem", &server.chain_pem());
}

fn judge(authority_key: impl Fn(u8) -> KeyPair, client: KeyType) {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: there is no openssl to judge");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    write_federation(dir, now, authority_key, client);
    let verify = |rest: &str| openssl(dir, &format!("verify -x509_strict -CAfile root.pem {rest}"));

    for good in [
        "-untrusted int.pem -purpose sslclient client.pem",
        "-untrusted int.pem -purpose sslserver -verify_hostname localhost server.pem",
        "-untrusted int.pem -purpose sslserver -verify_ip 127.0.0.1 server.pem",
        "int.pem",
    ] {
        let (ok, text) = verify(good);
        assert!(ok, "{good}: {text}");
    }
    for (bad, why) in [
        ("client.pem", "unable to get local issuer certificate"),
        ("-untrusted int.pem -purpose sslserver client.pem", "unsuitable certificate purpose"),
        ("-untrusted int.pem -purpose sslclient server.pem", "unsuitable certificate purpose"),
        ("-untrusted int.pem -verify_hostname example.org server.pem", "hostname mismatch"),
        (&format!("-untrusted int.pem -attime {} client.pem", now.as_secs() + 4 * 86_400), "has expired"),
    ] {
        let (ok, text) = verify(bad);
        assert!(!ok && text.to_lowercase().contains(why), "{bad}: {text}");
    }

    let kind = match client {
        KeyType::Ed25519 => "ED25519",
        KeyType::P256 => "NIST CURVE: P-256",
    };
    let (_, client) = openssl(dir, "x509 -noout -text -in client.pem");
    for line in [
        "URI:spiffe://demo.sordino/client/site-0001",
        "TLS Web Client Authentication",
        "Digital Signature",
        "CA:FALSE",
        kind,
        "Subject: CN = site-0001",
    ] {
        assert!(client.contains(line), "{line}: {client}");
    }
    assert!(!client.contains("TLS Web Server Authentication"), "{client}");
    let (_, server) = openssl(dir, "x509 -noout -text -in server.pem");
    for line in ["TLS Web Server Authentication", "DNS:localhost, IP Address:127.0.0.1", "id-ecPublicKey"] {
        assert!(server.contains(line), "{line}: {server}");
    }
    assert!(server.contains("URI:spiffe://demo.sordino/coordinator/coordinator-1"), "{server}");
    let (_, intermediate) = openssl(dir, "x509 -noout -text -in int.pem");
    assert!(intermediate.contains("CA:TRUE, pathlen:0") && intermediate.contains("Certificate Sign"), "{intermediate}");

    let (ok, text) = openssl(dir, "req -noout -verify -in client.csr");
    assert!(ok && text.to_lowercase().contains("verify ok"), "{text}");
    // The private key on disk is one that OpenSSL, and so curl, can use: version 1 of PKCS#8.
    let (ok, public) = openssl(dir, "pkey -in client.key -pubout");
    assert!(ok, "{public}");
    let (_, certified) = openssl(dir, "x509 -noout -pubkey -in client.pem");
    assert_eq!(public, certified);
}

#[test]
fn openssl_agrees_on_a_p256_hierarchy() {
    judge(|_| KeyPair::generate().unwrap(), KeyType::Ed25519);
}

#[test]
fn openssl_agrees_on_a_p256_participant() {
    judge(|_| KeyPair::generate().unwrap(), KeyType::P256);
}

#[test]
fn openssl_agrees_on_an_ed25519_hierarchy() {
    judge(|seed| IdentityKey::from_seed(&[seed; 32]).rcgen_key_pair(), KeyType::Ed25519);
}

/// Keys and requests made by OpenSSL are read by us.
#[test]
fn requests_of_openssl_are_certified() {
    certify_as_openssl_asks("-algorithm ed25519", KeyType::Ed25519);
    certify_as_openssl_asks("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", KeyType::P256);
}

fn certify_as_openssl_asks(algorithm: &str, kind: KeyType) {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: there is no openssl to ask");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (ok, text) = openssl(dir, &format!("genpkey {algorithm} -out key.pem"));
    assert!(ok, "{text}");
    let (ok, text) =
        openssl(dir, "req -new -key key.pem -subj /CN=whoever -addext basicConstraints=CA:TRUE -out csr.pem");
    assert!(ok, "{text}");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let key = PrincipalKey::from_pkcs8_pem(&read("key.pem")).unwrap();

    let now = Duration::from_secs(1_800_000_000);
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let validity = Validity::starting(now, Duration::from_secs(3600)).unwrap();
    let federation: FederationId = "demo".parse().unwrap();
    let authority_key = || IdentityKey::from_seed(&[1; 32]).rcgen_key_pair();
    let root = Authority::root(&federation, authority_key(), validity, SerialNumber::random(&mut rng)).unwrap();
    let intermediate = root.intermediate(authority_key(), validity, SerialNumber::random(&mut rng)).unwrap();
    let principal = Principal { federation: federation.clone(), role: Role::Admin, id: "operator-1".parse().unwrap() };
    let issued =
        intermediate.issue_client(&read("csr.pem"), &principal, validity, SerialNumber::random(&mut rng)).unwrap();
    let anchors = TrustAnchors::from_der(federation, [root.certificate().clone()]).unwrap();
    let verified = anchors.verify_client(&issued.chain(), now).unwrap();
    assert_eq!(verified.principal(), &principal);
    assert_eq!((key.public_key().key_type(), verified.public_key()), (kind, Some(&key.public_key())));
}
