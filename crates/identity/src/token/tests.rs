#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{DAY, Fixture, NOW};

struct World {
    fixture: Fixture,
    holder: VerifiedPrincipal,
    key: IdentityKey,
    signer: TokenSigner,
    verifier: TokenVerifier,
}

impl World {
    fn new() -> Self {
        let mut fixture = Fixture::new("demo");
        let holder = fixture.verified(1, "site-0001");
        let key = IdentityKey::from_seed(&[42; 32]);
        let federation = fixture.root.federation();
        let signer = TokenSigner::new(federation, audience(), &key);
        let verifier = TokenVerifier::new(federation, audience(), &key.verifying_key());
        Self { fixture, holder, key, signer, verifier }
    }

    fn token(&mut self) -> AccessToken {
        self.signer.issue(&self.holder, TokenTtl::default(), NOW, &mut self.fixture.rng).unwrap()
    }

    fn claims(&mut self) -> Value {
        let token = self.token();
        let body = token.as_str().split('.').nth(1).unwrap().to_owned();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
    }

    /// Signed with the right key whatever it says.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verifier.verify(token, &self.holder, NOW)
    }
}

fn audience() -> Audience {
    "https://localhost:8443".parse().unwrap()
}

fn header_json() -> Value {
    json!({ "typ": "at+jwt", "alg": "EdDSA" })
}

#[test]
fn a_token_says_what_it_was_issued_for() {
    let mut world = World::new();
    let token = world.token();
    let claims = world.verify(token.as_str()).unwrap();
    assert_eq!(&claims, token.claims());
    assert_eq!(claims.principal(), world.holder.principal());
    assert_eq!(claims.scope(), Scope::Train);
    assert_eq!(claims.expires_at() - claims.issued_at(), Duration::from_secs(600));
    assert!(token.as_str().len() < 800, "{} bytes", token.as_str().len());
    assert!(!format!("{token:?} {:?} {:?}", world.signer, world.verifier).contains(token.as_str()));
    assert_ne!(world.token().claims().id(), claims.id());
    assert_eq!(claims.id().to_string().parse(), Ok(claims.id()));
    // What the other tests build by hand is what the signer builds.
    let body = world.claims();
    let again = world.signed(&header_json(), &body);
    assert!(world.verify(&again).is_ok());
    let header = again.split('.').next().unwrap();
    let decoded: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(decoded, header_json());
}

#[test]
fn time_is_the_argument_and_never_the_clock() {
    let mut world = World::new();
    let token = world.token();
    let at = |now| world.verifier.verify(token.as_str(), &world.holder, now);
    let (begin, end) = (NOW, NOW + Duration::from_secs(600));
    let second = Duration::from_secs(1);
    assert!(at(begin - LEEWAY).is_ok() && at(end + LEEWAY - second).is_ok());
    let now = (begin - LEEWAY - second).as_secs();
    assert_eq!(at(begin - LEEWAY - second), Err(TokenError::NotYetValid { not_before: begin.as_secs(), now }));
    let now = (end + LEEWAY).as_secs();
    assert_eq!(at(end + LEEWAY), Err(TokenError::Expired { expires_at: end.as_secs(), now }));
    assert!(matches!(at(Duration::ZERO), Err(TokenError::NotYetValid { .. })));
    assert!(matches!(at(Duration::MAX), Err(TokenError::Expired { .. })));
}

#[test]
fn a_token_ends_with_the_certificate() {
    let mut world = World::new();
    let rng = &mut world.fixture.rng;
    let late = NOW + DAY - Duration::from_secs(60);
    let token = world.signer.issue(&world.holder, TokenTtl::default(), late, rng).unwrap();
    assert_eq!(token.claims().expires_at(), NOW + DAY);
    let got = world.signer.issue(&world.holder, TokenTtl::MAX, NOW + DAY, rng).unwrap_err();
    assert!(matches!(got, TokenError::CertificateExpired { .. }));
    assert_eq!(TokenTtl::new(Duration::from_secs(3601)), Err(InvalidTtl { millis: 3_601_000 }));
    assert_eq!(TokenTtl::new(Duration::ZERO), Err(InvalidTtl { millis: 0 }));
    assert_eq!(TokenTtl::new(Duration::from_secs(3600)), Ok(TokenTtl::MAX));
}

#[test]
fn a_token_works_with_its_certificate_only() {
    let mut world = World::new();
    let token = world.token();
    // The same principal with a renewed certificate, and somebody else.
    let renewed = world.fixture.verified(1, "site-0001");
    let other = world.fixture.verified(2, "site-0002");
    for holder in [renewed, other] {
        let got = world.verifier.verify(token.as_str(), &holder, NOW).unwrap_err();
        assert_eq!(got, TokenError::WrongCertificate);
    }
}

#[test]
fn other_keys_audiences_and_federations_are_refused() {
    let mut world = World::new();
    let token = world.token();
    let federation = world.fixture.root.federation().clone();
    let key = world.key.verifying_key();
    let verify = |verifier: TokenVerifier| verifier.verify(token.as_str(), &world.holder, NOW).unwrap_err();
    let swapped = IdentityKey::from_seed(&[43; 32]).verifying_key();
    assert_eq!(verify(TokenVerifier::new(&federation, audience(), &swapped)), TokenError::BadSignature);
    let elsewhere = "https://elsewhere".parse().unwrap();
    assert_eq!(verify(TokenVerifier::new(&federation, elsewhere, &key)), TokenError::WrongAudience);
    let other = "other".parse().unwrap();
    assert_eq!(verify(TokenVerifier::new(&other, audience(), &key)), TokenError::WrongIssuer);
    for bad in ["", "with space", "ä", "tab\t"] {
        assert_eq!(bad.parse::<Audience>(), Err(InvalidAudience));
    }
    assert_eq!("x".repeat(256).parse::<Audience>(), Err(InvalidAudience));
}

#[test]
fn the_header_is_ours_or_refused() {
    let mut world = World::new();
    let claims = world.claims();
    let got = |header: Value| world.verify(&world.signed(&header, &claims)).unwrap_err();
    assert!(matches!(got(json!({ "typ": "at+jwt", "alg": "none" })), TokenError::Malformed(_)));
    assert_eq!(got(json!({ "typ": "at+jwt", "alg": "HS256" })), TokenError::Algorithm);
    assert_eq!(got(json!({ "typ": "at+jwt", "alg": "ES256" })), TokenError::Algorithm);
    assert_eq!(got(json!({ "typ": "JWT", "alg": "EdDSA" })), TokenError::WrongType);
    assert_eq!(got(json!({ "alg": "EdDSA" })), TokenError::WrongType);
    for (field, value) in [
        ("crit", json!(["exp"])),
        ("kid", json!("1")),
        ("jku", json!("https://evil.example")),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut header = header_json();
        header[field] = value;
        assert_eq!(got(header), TokenError::WrongType, "{field}");
    }
}

/// The classic: the public key as an HMAC secret, and no signature at all.
#[test]
fn algorithm_confusion_is_refused() {
    let mut world = World::new();
    let claims = world.claims();
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    let secret = EncodingKey::from_secret(world.key.verifying_key().as_bytes());
    let hmac = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
    assert_eq!(world.verify(&hmac).unwrap_err(), TokenError::Algorithm);
    let good = world.token();
    let (message, signature) = good.as_str().rsplit_once('.').unwrap();
    assert_eq!(world.verify(&format!("{message}.")).unwrap_err(), TokenError::BadSignature);
    assert!(matches!(world.verify(message).unwrap_err(), TokenError::Malformed(_)));
    assert!(matches!(world.verify(&format!("{message}.{signature}=")).unwrap_err(), TokenError::Malformed(_)));
    let body = message.split('.').nth(1).unwrap();
    let none = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#));
    assert!(matches!(world.verify(&none).unwrap_err(), TokenError::Malformed(_)));
    let long = "a".repeat(MAX_TOKEN_LEN + 1);
    assert_eq!(world.verify(&long).unwrap_err(), TokenError::TooLong { bytes: MAX_TOKEN_LEN + 1 });
}

#[test]
fn every_claim_is_required_and_checked() {
    let mut world = World::new();
    let good = world.claims();
    let got = |claims: &Value| world.verify(&world.signed(&header_json(), claims)).unwrap_err();
    let names: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 9);
    for name in &names {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert!(matches!(got(&claims), TokenError::BadClaims(_)), "{name} missing");
        claims[name] = Value::Null;
        assert!(matches!(got(&claims), TokenError::BadClaims(_)), "{name} null");
    }
    let (iat, hour) = (NOW.as_secs(), 3600);
    for (name, value, want) in [
        ("iss", json!("spiffe://other"), TokenError::WrongIssuer),
        ("aud", json!("https://elsewhere"), TokenError::WrongAudience),
        ("sub", json!("spiffe://demo/client/site-0002"), TokenError::WrongPrincipal),
        ("sub", json!("spiffe://demo/admin/site-0001"), TokenError::WrongPrincipal),
        ("sub", json!("site-0001"), TokenError::BadClaim { claim: "sub" }),
        ("scope", json!("admin"), TokenError::BadClaim { claim: "scope" }),
        ("jti", json!("short"), TokenError::BadClaim { claim: "jti" }),
        ("cnf", json!({ "x5t#S256": "short" }), TokenError::BadClaim { claim: "cnf" }),
        ("cnf", json!({ "x5t#S256": "A".repeat(43) }), TokenError::WrongCertificate),
        ("exp", json!(iat + hour + 1), TokenError::BadClaim { claim: "exp" }),
        ("exp", json!(iat - 1), TokenError::BadClaim { claim: "exp" }),
        ("exp", json!(u64::MAX), TokenError::BadClaim { claim: "exp" }),
        ("nbf", json!(iat + 31), TokenError::NotYetValid { not_before: iat + 31, now: iat }),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(got(&claims), want, "{name}");
    }
    for (name, value) in [
        ("aud", json!(["https://localhost:8443"])),
        ("exp", json!(-1)),
        ("scope", json!("root")),
        ("role", json!("admin")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        assert!(matches!(got(&claims), TokenError::BadClaims(_)), "{name}");
    }
    // Two claims of one name: whoever reads the other one would see another token.
    let twice = good.to_string().replacen('{', "{\"sub\":\"spiffe://demo/admin/administrator\",", 1);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header_json().to_string()), URL_SAFE_NO_PAD.encode(twice));
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(world.key.sign(message.as_bytes())));
    assert!(matches!(world.verify(&token).unwrap_err(), TokenError::BadClaims(_)));
}

#[test]
fn arbitrary_tokens_are_an_answer_and_never_a_panic() {
    let mut world = World::new();
    let good = world.token();
    let good = good.as_str();
    proptest!(|(text in ".{0,200}", parts in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}")| {
        prop_assert!(world.verify(&text).is_err());
        prop_assert!(world.verify(&parts).is_err());
    });
    proptest!(|(at in 0..good.len(), with in "[A-Za-z0-9_.-]")| {
        let mut text = good.to_owned();
        text.replace_range(at..=at, &with);
        prop_assert!(text == good || world.verify(&text).is_err());
    });
}
