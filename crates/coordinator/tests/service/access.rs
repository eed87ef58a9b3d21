//! Every route against every kind of caller.

use crate::common::{TestClient, TestFederation, code, options, problem};
use http::{Method, StatusCode};
use sordino_coordinator::{
    Access, App, Routes,
    clock::{Clock as _, ManualClock, SystemClock},
    init::init,
};
use sordino_identity::Role;
use sordino_wire::Code;
use std::{sync::Arc, time::Duration};

/// A path with its variables filled with names of things that do not exist.
fn filled(path: &str) -> String {
    let task = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let names = [
        ("{digest}", "0".repeat(64)),
        ("{task}", task.into()),
        ("{round}", format!("{task}.1")),
        ("{attempt}", "1".into()),
        ("{group}", "0".into()),
        ("{step}", "AdvertiseKeys".into()),
        ("{when}", "before".into()),
    ];
    let filled = names.iter().fold(path.to_owned(), |path, (variable, name)| path.replace(variable, name));
    assert!(!filled.contains('{'), "{filled}: a variable without a name");
    filled
}

#[tokio::test]
async fn only_these_routes_are_open() {
    let open =
        App::routes().table().filter(|route| route.access == Access::Open).map(|route| route.path).collect::<Vec<_>>();
    assert_eq!(open, ["/v1/enroll", "/livez", "/readyz"]);
    let by_certificate = App::routes()
        .table()
        .filter(|route| matches!(route.access, Access::Certificate(_)))
        .map(|route| route.path)
        .collect::<Vec<_>>();
    assert_eq!(by_certificate, ["/v1/token", "/metrics"]);
}

#[tokio::test]
async fn every_other_route_refuses_callers_without_a_certificate() {
    let federation = TestFederation::start().await;
    let mut stranger = federation.stranger();
    // Somebody else's token does not help either.
    stranger.token = federation.admin.token.clone();
    for route in App::routes().table().filter(|route| route.access != Access::Open) {
        let answer = stranger.request(route.method.clone(), &filled(route.path)).send().await.unwrap();
        assert_eq!(code(answer).await, Code::ClientCertificateRequired, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn a_certificate_alone_is_not_enough_and_neither_is_the_wrong_token() {
    let federation = TestFederation::start().await;
    let auditor = federation.auditor().await;
    let mut admin = federation.admin.clone();
    let tampered = {
        let mut token = admin.token.clone().unwrap();
        let middle = token.len() / 2;
        let other = if &token[middle..=middle] == "A" { "B" } else { "A" };
        token.replace_range(middle..=middle, other);
        token
    };
    for route in App::routes().table().filter(|route| matches!(route.access, Access::Token(_))) {
        for (name, token) in
            [("none", None), ("another principal's", auditor.token.clone()), ("tampered", Some(tampered.clone()))]
        {
            admin.token = token;
            let answer = admin.request(route.method.clone(), &filled(route.path)).send().await.unwrap();
            let challenge = answer.headers().get("www-authenticate").unwrap().to_str().unwrap().to_owned();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert_eq!(code(answer).await, Code::TokenRequired, "{name}: {} {}", route.method, route.path);
        }
    }
}

#[tokio::test]
async fn each_role_gets_what_it_may_and_nothing_else() {
    let federation = TestFederation::start().await;
    let callers = [
        (Role::Client, federation.participant("site-0001").await),
        (Role::Admin, federation.admin.clone()),
        (Role::Auditor, federation.auditor().await),
    ];
    let (mut allowed, mut forbidden) = (0, 0);
    for route in App::routes().table() {
        let (Access::Token(permission) | Access::Certificate(permission)) = route.access else { continue };
        for (role, caller) in &callers {
            let answer = caller.request(route.method.clone(), &filled(route.path)).send().await.unwrap();
            let what = format!("{role}: {} {}", route.method, route.path);
            if role.may(permission) {
                let status = answer.status();
                assert!(status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN, "{what}: {status}");
                allowed += 1;
            } else {
                assert_eq!(code(answer).await, Code::Forbidden, "{what}");
                forbidden += 1;
            }
        }
    }
    assert!(allowed > 0 && forbidden > 0, "{allowed} {forbidden}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let federation = TestFederation::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    // The same names everywhere: only the root differs.
    let places = init(elsewhere.path(), &options(), SystemClock.now()).await.unwrap();
    let forger = TestClient::from_files(&places.admin, "first-admin", &federation.url);
    let root = std::fs::read_to_string(federation.root_pem()).unwrap();
    let forger = TestClient::new(&federation.url, "first-admin", &root, Some((forger.chain_pem, forger.key_pem)));
    let refused = forger.request(Method::POST, "/v1/token").send().await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_that_was_replaced_works_no_more() {
    let federation = TestFederation::start().await;
    let old = federation.participant("site-0001").await;
    assert_eq!(old.get("/v1/tasks").send().await.unwrap().status(), StatusCode::OK);
    let new = federation.participant("site-0001").await;
    assert_eq!(new.get("/v1/tasks").send().await.unwrap().status(), StatusCode::OK);
    let refused = problem(old.get("/v1/tasks").send().await.unwrap()).await;
    assert_eq!(refused.code, Code::ClientCertificateRequired);
    assert!(refused.detail.contains("replaced"), "{}", refused.detail);
}

#[tokio::test]
async fn time_ends_tokens_and_then_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let places = init(folder.path(), &options(), SystemClock.now()).await.unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let federation = TestFederation::serve_by(clock.clone(), folder, places, |_| Routes::new()).await;
    let mut site = federation.participant("site-0001").await;
    assert_eq!(site.get("/v1/tasks").send().await.unwrap().status(), StatusCode::OK);
    // A token lives ten minutes, and half a minute is allowed for clocks that differ.
    clock.advance(Duration::from_secs(11 * 60));
    let expired = problem(site.get("/v1/tasks").send().await.unwrap()).await;
    assert_eq!(expired.code, Code::TokenRequired);
    assert!(expired.detail.contains("expired"), "{}", expired.detail);
    site.fetch_token().await;
    assert_eq!(site.get("/v1/tasks").send().await.unwrap().status(), StatusCode::OK);
    // The connection was opened while the certificate was valid; that does not keep it valid.
    clock.advance(Duration::from_secs(4 * 86_400));
    let expired = problem(site.get("/v1/tasks").send().await.unwrap()).await;
    assert_eq!(expired.code, Code::ClientCertificateRequired);
    assert!(expired.detail.contains("expired"), "{}", expired.detail);
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_problems_too() {
    let federation = TestFederation::start().await;
    assert_eq!(code(federation.admin.get("/v2/tasks").send().await.unwrap()).await, Code::NotFound);
    let answer = federation.admin.request(Method::DELETE, "/v1/tasks").send().await.unwrap();
    assert_eq!(code(answer).await, Code::MethodNotAllowed);
}

#[tokio::test]
async fn participants_are_listed_in_pages() {
    let federation = TestFederation::start().await;
    for id in ["site-0001", "site-0002", "site-0003"] {
        federation.participant(id).await;
    }
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = federation.admin.get(&format!("/v1/participants?limit=2{cursor}")).send().await.unwrap();
        let page: serde_json::Value = answer.json().await.unwrap();
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids, ["first-admin", "first-auditor", "site-0001", "site-0002", "site-0003"]);
    for bad in ["limit=0", "limit=501", "limit=x", "page=2"] {
        let answer = federation.admin.get(&format!("/v1/participants?{bad}")).send().await.unwrap();
        assert_eq!(code(answer).await, Code::Malformed, "{bad}");
    }
}
