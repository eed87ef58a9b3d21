//! Invitations and what they are traded for.

use crate::common::{TestFederation, code, options, problem};
use getrandom::{SysRng, rand_core::UnwrapErr};
use http::StatusCode;
use sordino_coordinator::{
    Routes,
    clock::{Clock as _, ManualClock, SystemClock},
    init::init,
};
use sordino_identity::{IdentityKey, JoinSecret, KeyType, PrincipalKey, Role, TrustAnchors, make_csr};
use sordino_wire::{
    Code,
    api::{EnrollAnswer, EnrollRequest, JoinTokenAnswer},
};
use std::{fs, sync::Arc, time::Duration};

fn key() -> IdentityKey {
    IdentityKey::generate(&mut UnwrapErr(SysRng))
}

#[tokio::test]
async fn an_invitation_pins_what_the_site_must_trust() {
    let federation = TestFederation::start().await;
    let invitation = federation.invite("site-0001", Role::Client, 600).await;
    assert_eq!(invitation.url().as_str(), federation.url);
    assert_eq!(*invitation.registrar_key(), federation.app.registrar_key);
    let root = fs::read_to_string(federation.root_pem()).unwrap();
    let anchors = TrustAnchors::from_pem("test.example".parse().unwrap(), &root).unwrap();
    assert_eq!(Some(invitation.root()), anchors.certificates().next());
}

#[tokio::test]
async fn a_join_secret_works_once() {
    let federation = TestFederation::start().await;
    let invitation = federation.invite("site-0001", Role::Client, 600).await;
    assert_eq!(federation.enroll(&invitation, "site-0001", &key()).await.status(), StatusCode::CREATED);
    let again = problem(federation.enroll(&invitation, "site-0001", &key()).await).await;
    assert_eq!(again.code, Code::JoinTokenRefused);
    assert!(again.detail.contains("already used"), "{}", again.detail);
}

#[tokio::test]
async fn of_two_at_once_one_gets_in() {
    let federation = TestFederation::start().await;
    let invitation = federation.invite("site-0001", Role::Client, 600).await;
    let (first, second) = (key(), key());
    let (first, second) = tokio::join!(
        federation.enroll(&invitation, "site-0001", &first),
        federation.enroll(&invitation, "site-0001", &second)
    );
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401]);
}

#[tokio::test]
async fn each_bad_secret_has_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let places = init(folder.path(), &options(), SystemClock.now()).await.unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let federation = TestFederation::serve_by(clock.clone(), folder, places, |_| Routes::new()).await;
    let expired = federation.invite("site-0001", Role::Client, 1).await;
    clock.advance(Duration::from_secs(2));
    let refused = problem(federation.enroll(&expired, "site-0001", &key()).await).await;
    assert_eq!(refused.code, Code::JoinTokenRefused);
    assert!(refused.detail.contains("expired"), "{}", refused.detail);

    let other = federation.invite("site-0001", Role::Client, 600).await;
    let refused = problem(federation.enroll(&other, "site-0002", &key()).await).await;
    assert_eq!(refused.code, Code::JoinTokenRefused);
    assert!(refused.detail.contains("another participant"), "{}", refused.detail);
    // It was not used up by that.
    assert_eq!(federation.enroll(&other, "site-0001", &key()).await.status(), StatusCode::CREATED);

    let stranger = federation.stranger();
    let id = "site-0001".parse().unwrap();
    for token in [JoinSecret::generate(&mut UnwrapErr(SysRng)).to_text().to_string(), "sj1_".into(), "\u{0}".into()] {
        let request = EnrollRequest { token, csr: make_csr(&key(), &id), principal: id.clone() };
        let answer = stranger.post("/v1/enroll").json(&request).send().await.unwrap();
        assert_eq!(code(answer).await, Code::JoinTokenRefused);
    }
}

#[tokio::test]
async fn a_bad_signing_request_uses_nothing_up() {
    let federation = TestFederation::start().await;
    let invitation = federation.invite("site-0001", Role::Client, 600).await;
    let id: sordino_identity::PrincipalId = "site-0001".parse().unwrap();
    let good = make_csr(&key(), &id);
    let mut lines: Vec<_> = good.lines().collect();
    // The last line but one holds the end of the signature.
    let cut = lines.remove(lines.len() - 2).to_owned();
    let flipped = if cut.starts_with('A') { cut.replacen('A', "B", 1) } else { format!("A{}", &cut[1..]) };
    lines.insert(lines.len() - 1, &flipped);
    for csr in [lines.join("\n"), "not PEM".to_owned(), String::new(), "x".repeat(10_000)] {
        let token = invitation.secret().to_text().to_string();
        let request = EnrollRequest { token, csr, principal: id.clone() };
        let answer = federation.stranger().post("/v1/enroll").json(&request).send().await.unwrap();
        assert_eq!(code(answer).await, Code::Invalid);
    }
    assert_eq!(federation.enroll(&invitation, "site-0001", &key()).await.status(), StatusCode::CREATED);
}

/// Both kinds of keys are certified and stored in the form that the protocol reads; a key of another kind is not, and one
/// that somebody has is not somebody else's.
#[tokio::test]
async fn a_key_is_of_one_of_two_kinds_and_of_one_principal() {
    let federation = TestFederation::start().await;
    let mut keys = Vec::new();
    for (id, kind) in [("site-0001", KeyType::Ed25519), ("site-0002", KeyType::P256)] {
        let key = PrincipalKey::generate(kind, &mut UnwrapErr(SysRng));
        let invitation = federation.invite(id, Role::Client, 600).await;
        assert_eq!(federation.enroll(&invitation, id, &key).await.status(), StatusCode::CREATED);
        let stored = federation.app.store.principal(id).await.unwrap().unwrap().verifying_key;
        assert_eq!(stored, key.public_key().to_bytes());
        assert_eq!(sordino_secagg::CertificateKey::from_bytes(&stored).unwrap().to_bytes(), stored);
        keys.push(key);
    }
    let invitation = federation.invite("site-0003", Role::Client, 600).await;
    for key in &keys {
        let refused = problem(federation.enroll(&invitation, "site-0003", key).await).await;
        assert_eq!(refused.code, Code::Conflict, "{}", refused.detail);
    }
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let refused = problem(federation.enroll(&invitation, "site-0003", &p384).await).await;
    assert_eq!(refused.code, Code::Invalid);
    assert!(refused.detail.contains("Ed25519 or P-256"), "{}", refused.detail);
}

#[tokio::test]
async fn malformed_bodies_are_told_apart() {
    let federation = TestFederation::start().await;
    let send = async |kind: &str, body: String| {
        let request = federation.stranger().post("/v1/enroll").header("content-type", kind).body(body);
        code(request.send().await.unwrap()).await
    };
    let json = "application/json";
    assert_eq!(send("text/plain", "{}".into()).await, Code::UnsupportedMediaType);
    assert_eq!(send(json, "{".into()).await, Code::Malformed);
    assert_eq!(send(json, "{}".into()).await, Code::Invalid);
    let unknown = r#"{"token":"a","csr":"b","principal":"site-0001","role":"admin"}"#;
    assert_eq!(send(json, unknown.into()).await, Code::Invalid);
    assert_eq!(send(json, r#"{"token":"a","csr":"b","principal":"../x"}"#.into()).await, Code::Invalid);
    assert_eq!(send(json, "x".repeat(70_000)).await, Code::TooLarge);
}

#[tokio::test]
async fn a_lost_answer_is_given_again() {
    let federation = TestFederation::start().await;
    let invitation = federation.invite("site-0001", Role::Client, 600).await;
    let id: sordino_identity::PrincipalId = "site-0001".parse().unwrap();
    let key = key();
    let request = EnrollRequest {
        token: invitation.secret().to_text().to_string(),
        csr: make_csr(&key, &id),
        principal: id.clone(),
    };
    let send = async |federation: &TestFederation, request: &EnrollRequest, idempotency: &str| {
        let post = federation.stranger().post("/v1/enroll").header("idempotency-key", idempotency).json(request);
        post.send().await.unwrap()
    };
    let first: EnrollAnswer = send(&federation, &request, "enrolment-1").await.json().await.unwrap();
    let second: EnrollAnswer = send(&federation, &request, "enrolment-1").await.json().await.unwrap();
    assert_eq!(first, second);
    // As if the coordinator had died before it could note its answer: only the key in the request tells who asks.
    let third: EnrollAnswer = send(&federation, &request, "enrolment-2").await.json().await.unwrap();
    assert_eq!(first, third);
    let thief = EnrollRequest { csr: make_csr(&self::key(), &id), ..request };
    assert_eq!(code(send(&federation, &thief, "enrolment-3").await).await, Code::JoinTokenRefused);
    assert_eq!(code(send(&federation, &thief, "enrolment-1").await).await, Code::IdempotencyConflict);
}

#[tokio::test]
async fn an_invitation_is_shown_again_to_whoever_asked_and_stored_nowhere() {
    let federation = TestFederation::start().await;
    let body = r#"{"principal":"site-0001"}"#;
    let send = async |federation: &TestFederation, body: &'static str| {
        let request = federation.admin.post("/v1/join-tokens").header("content-type", "application/json");
        request.header("idempotency-key", "invite-site-1").body(body).send().await.unwrap()
    };
    let first: JoinTokenAnswer = send(&federation, body).await.json().await.unwrap();
    let second: JoinTokenAnswer = send(&federation, body).await.json().await.unwrap();
    assert_eq!(first.invitation, second.invitation);
    assert_eq!(code(send(&federation, r#"{"principal":"site-0002"}"#).await).await, Code::IdempotencyConflict);

    let secret = first.invitation.parse::<sordino_identity::Invitation>().unwrap().secret().to_text().to_string();
    let (_, folder, places) = federation.stopped().await;
    for name in ["sordino.db", "sordino.db-wal"] {
        let Ok(bytes) = fs::read(folder.path().join("data").join(name)) else { continue };
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name}");
    }
    // It still works after a restart, and still once.
    let federation = TestFederation::serve(folder, places, |_| Routes::new()).await;
    let invitation = first.invitation.parse().unwrap();
    assert_eq!(federation.enroll(&invitation, "site-0001", &key()).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn invitations_have_limits() {
    let federation = TestFederation::start().await;
    for body in [
        r#"{"principal":"site-0001","expires_in":0}"#,
        r#"{"principal":"site-0001","expires_in":31536000}"#,
        r#"{"principal":"site-0001","role":"coordinator"}"#,
        r#"{"principal":"short"}"#,
        r#"{"principal":"site-0001","roles":["admin"]}"#,
    ] {
        let request = federation.admin.post("/v1/join-tokens").header("content-type", "application/json").body(body);
        assert_eq!(code(request.send().await.unwrap()).await, Code::Invalid, "{body}");
    }
}
