//! The listener itself: TLS, bounds on connections, probes, and how it stops.

use crate::common::{TestFederation, options};
use http::StatusCode;
use sordino_coordinator::{
    App, Routes, ServeError, Server, ServerConfig,
    clock::{Clock as _, SystemClock},
    init::init,
    server::Stopped,
};
use sordino_identity::Permission;
use std::{
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, process::Command, sync::Notify};

async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(Duration::from_secs(20), command.output()).await.expect("the judge is done in time");
    output.expect("openssl and curl are installed")
}

async fn s_client(federation: &TestFederation, arguments: &[&str]) -> (bool, String) {
    let (address, root) = (format!("127.0.0.1:{}", federation.port), federation.root_pem());
    let root = root.to_str().unwrap();
    let base = ["s_client", "-connect", &address, "-servername", "localhost", "-CAfile", root, "-verify_return_error"];
    let output = run("openssl", &[&base[..], arguments].concat()).await;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test]
async fn openssl_gets_tls_1_3_and_nothing_else() {
    let federation = TestFederation::start().await;
    for old in ["-tls1_2", "-tls1_1"] {
        let (connected, text) = s_client(&federation, &[old]).await;
        assert!(!connected, "{old}: {text}");
    }
    let (connected, text) = s_client(&federation, &["-tls1_3"]).await;
    assert!(connected && text.contains("TLSv1.3") && text.contains("Verify return code: 0 (ok)"), "{text}");
    assert!(!text.contains("New Session Ticket"), "{text}");
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"] {
        let (connected, text) = s_client(&federation, &["-ciphersuites", suite]).await;
        assert!(connected && text.contains(suite), "{suite}: {text}");
    }
    let (connected, text) = s_client(&federation, &["-ciphersuites", "TLS_AES_128_CCM_SHA256"]).await;
    assert!(!connected, "{text}");
}

async fn curl(federation: &TestFederation, arguments: &[&str]) -> String {
    let resolve = format!("localhost:{}:127.0.0.1", federation.port);
    let root = federation.root_pem();
    let base = ["-sS", "--noproxy", "*", "--resolve", &resolve, "--cacert", root.to_str().unwrap()];
    let output = run("curl", &[&base[..], arguments].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn curl_reads_tasks_with_certificate_and_token_only() {
    let federation = TestFederation::start().await;
    let site = federation.participant("site-0001").await;
    let (key, chain) = site.write_identity(federation.folder.path());
    let url = format!("{}/v1/tasks", federation.url);
    let bearer = format!("Authorization: Bearer {}", site.token.as_deref().unwrap());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (key, chain) = (text(&key), text(&chain));
    let identity = ["--cert", &chain, "--key", &key];
    let status = ["-w", "\n%{http_code} HTTP/%{http_version}", &url];

    let both = curl(&federation, &[&identity[..], &["-H", &bearer], &status].concat()).await;
    assert!(both.starts_with("{\"items\":[]") && both.ends_with("200 HTTP/2"), "{both}");
    let http1 = curl(&federation, &[&identity[..], &["--http1.1", "-H", &bearer], &status].concat()).await;
    assert!(http1.ends_with("200 HTTP/1.1"), "{http1}");
    let certificate = curl(&federation, &[&identity[..], &status].concat()).await;
    assert!(certificate.contains("token_required") && certificate.ends_with("401 HTTP/2"), "{certificate}");
    let token = curl(&federation, &[&["-H", &bearer], &status[..]].concat()).await;
    assert!(token.contains("client_certificate_required") && token.ends_with("401 HTTP/2"), "{token}");
}

#[tokio::test]
async fn probes_and_metrics() {
    let federation = TestFederation::start().await;
    let (stranger, auditor) = (federation.stranger(), federation.auditor().await);
    for probe in ["/livez", "/readyz"] {
        let answer = stranger.get(probe).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000; includeSubDomains");
    }
    let site = federation.participant("site-0001").await;
    assert_eq!(site.get("/v1/tasks").send().await.unwrap().status(), StatusCode::OK);
    let mut scraper = auditor.clone();
    scraper.token = None;
    let text = scraper.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"sordino_http_requests_total{method="GET",route="/v1/tasks",status="200"}"#), "{text}");
    assert!(text.contains("sordino_http_request_duration_seconds_bucket"), "{text}");
    assert!(!text.contains("site-0001") && !text.contains("quantile"), "{text}");
    assert_eq!(site.get("/metrics").send().await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let places = init(folder.path(), &options(), SystemClock.now()).await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = [("SORDINO__SERVER__LISTEN".to_owned(), address.clone())];
    let config = ServerConfig::load_with(&places.config, listen).unwrap();
    let app = App::open(config, SystemClock).await.unwrap();
    let Err(error @ ServeError::InUse { .. }) = Server::bind(app, Routes::new()).await else { panic!("it listens") };
    assert!(error.to_string().contains(&format!("cannot listen on {address}: address in use")), "{error}");
}

#[tokio::test]
async fn a_second_coordinator_does_not_get_the_folder() {
    let federation = TestFederation::start().await;
    let config = ServerConfig::load_with(&federation.places.config, []).unwrap();
    let Err(error) = App::open(config, SystemClock).await else { panic!("it started") };
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains("data") && text.contains("locked"), "{text}");
}

#[tokio::test]
async fn silent_and_superfluous_connections_are_closed() {
    let limits = "[limits]\nmax_connections_per_address = 3\nhandshake_timeout = 1\n";
    let federation = TestFederation::start_with(limits, |_| Routes::new()).await;
    let closes = async |stream: &mut TcpStream| {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    };
    // One connection is the administrator's.
    let connect = || TcpStream::connect(("127.0.0.1", federation.port));
    let (mut first, _second) = (connect().await.unwrap(), connect().await.unwrap());
    // Connections are taken in their order: the two hold their places before the third is looked at.
    assert!(closes(&mut connect().await.unwrap()).await, "superfluous");
    let open = first.try_read(&mut [0; 1]).expect_err("closed at once, not by the handshake's timeout");
    assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
    assert!(closes(&mut first).await, "silent");
    // The places are free again.
    let answered = async { while federation.stranger().get("/livez").send().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), answered).await.expect("there is room");
}

/// A route that says when it was entered, and answers when it is told to.
#[derive(Clone, Default)]
struct Gate(Arc<(Notify, Notify)>);

impl Gate {
    fn routes(&self) -> Routes {
        let gate = self.clone();
        Routes::new().get("/v1/test/slow", Permission::ReadTasks, move || async move {
            gate.0.0.notify_one();
            gate.0.1.notified().await;
            "done"
        })
    }

    async fn entered(&self) {
        self.0.0.notified().await;
    }

    fn open(&self) {
        self.0.1.notify_one();
    }
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_is_under_way() {
    let gate = Gate::default();
    let mut federation = TestFederation::start_with("", |_| gate.routes()).await;
    let request = federation.admin.get("/v1/test/slow");
    let under_way = tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    gate.entered().await;
    federation.stop();
    let refused = async { while federation.stranger().get("/livez").send().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("no new connections");
    gate.open();
    assert_eq!(under_way.await.unwrap(), "done");
    let (stopped, ..) = federation.stopped().await;
    assert_eq!(stopped, Stopped::Drained);
}

#[tokio::test]
async fn the_grace_ends() {
    let gate = Gate::default();
    let limits = "[limits]\nshutdown_grace = 0.1\n";
    let mut federation = TestFederation::start_with(limits, |_| gate.routes()).await;
    let request = federation.admin.get("/v1/test/slow");
    let under_way = tokio::spawn(async move { request.send().await });
    gate.entered().await;
    federation.stop();
    let (stopped, ..) = federation.stopped().await;
    assert_eq!(stopped, Stopped::Cut(1));
    assert!(under_way.await.unwrap().is_err());
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let federation = TestFederation::start().await;
    let keys = federation.folder.path().join("keys");
    std::fs::write(keys.join("server.pem"), "not PEM").unwrap();
    assert!(federation.app.reload_certificate().is_err());
    // The old one stays in use.
    assert_eq!(federation.stranger().get("/livez").send().await.unwrap().status(), StatusCode::OK);
    let other = tempfile::tempdir().unwrap();
    init(other.path(), &options(), SystemClock.now()).await.unwrap();
    for name in ["server.pem", "server.key"] {
        std::fs::copy(other.path().join("keys").join(name), keys.join(name)).unwrap();
    }
    federation.app.reload_certificate().unwrap();
    let refused = federation.stranger().get("/livez").send().await;
    assert!(refused.is_err(), "the new certificate leads to another root: {refused:?}");
}
