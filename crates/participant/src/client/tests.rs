//! The client against a coordinator that loses answers, cuts them off, and asks for too much. Without TLS: what is looked
//! at here is above it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::credentials::tls_builder;
use std::sync::{Mutex as StdMutex, PoisonError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A request as it came.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    fn parameter(&self, name: &str) -> Option<usize> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// What is written before the connection is closed; nothing: the answer is lost.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    fn new(status: u16, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
        Self([head.as_bytes(), body].concat())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, "", b"")
    }

    fn json(body: &impl Serialize) -> Self {
        Self::new(200, "", &serde_json::to_vec(body).unwrap())
    }

    pub(crate) fn problem(code: Code) -> Self {
        Self::new(code.status(), "", &serde_json::to_vec(&Problem::new(code, "as told")).unwrap())
    }

    fn lost() -> Self {
        Self(Vec::new())
    }

    /// Without its last bytes.
    fn cut(mut self, bytes: usize) -> Self {
        self.0.truncate(self.0.len() - bytes);
        self
    }
}

fn token(expires_in: u64) -> Reply {
    Reply::json(&TokenAnswer { access_token: "any".into(), token_type: "Bearer".into(), expires_in })
}

/// A client of a coordinator that gives these answers, and tokens where `answer` has none.
pub(crate) async fn serve(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Client {
    let mut answer = answer;
    serve_all(move |request| if request.path() == "/v1/token" { token(600) } else { answer(request) }).await
}

async fn serve_all(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(StdMutex::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                // A client that hangs up is its own affair.
                let _ =
                    converse(stream, |request| answer.lock().unwrap_or_else(PoisonError::into_inner)(request)).await;
            });
        }
    });
    let tls = tls_builder("").unwrap().with_no_client_auth();
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    Client { inner: Arc::new(Inner { http, base, token: Mutex::new(None) }), budget: BUDGET }
}

async fn converse(mut stream: TcpStream, answer: impl FnOnce(&Request) -> Reply) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut line = head.split(' ');
    let (method, target) = (line.next().unwrap().to_owned(), line.next().unwrap().to_owned());
    let mut request = Request { method, target, head, body: bytes.split_off(end) };
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while request.body.len() < length {
        stream.read_buf(&mut request.body).await?;
    }
    stream.write_all(&answer(&request).0).await?;
    stream.shutdown().await
}

/// An upload as the coordinator keeps it.
pub(crate) struct Spool {
    pub(crate) bytes: Vec<u8>,
    expected: usize,
    chunk_max: usize,
    /// Chunks that came, with what was refused.
    chunks: usize,
}

impl Spool {
    pub(crate) fn new(expected: usize) -> Self {
        Self { bytes: Vec::new(), expected, chunk_max: usize::MAX, chunks: 0 }
    }

    pub(crate) fn answer(&mut self, request: &Request) -> Reply {
        if request.method == "PUT" {
            self.chunks += 1;
            if request.body.len() > self.chunk_max {
                return Reply::problem(Code::TooLarge);
            }
            assert_eq!(request.header("content-digest"), Some(content_digest(&request.body).as_str()));
            if request.parameter("offset") != Some(self.bytes.len()) {
                return Reply::problem(Code::OffsetMismatch);
            }
            self.bytes.extend_from_slice(&request.body);
        }
        Reply::json(&UploadStatus { received: self.bytes.len() as u64, expected: self.expected as u64 })
    }
}

fn file(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| at.to_le_bytes()[at % 3]).collect()
}

/// Uploads a model to a spool that is touched before each request; how it ended, and what arrived.
async fn uploaded(
    file: &[u8],
    mut spool: Spool,
    mut fault: impl FnMut(&mut Spool, &Request) -> Option<Reply> + Send + 'static,
) -> (Result<Digest, ClientError>, Spool) {
    spool.expected = file.len();
    let shared = Arc::new(StdMutex::new(spool));
    let seen = shared.clone();
    let client = serve(move |request| {
        let mut spool = seen.lock().unwrap_or_else(PoisonError::into_inner);
        fault(&mut spool, request).unwrap_or_else(|| spool.answer(request))
    })
    .await;
    let ended = client.put_model(file).await;
    let spool = std::mem::replace(&mut *shared.lock().unwrap(), Spool::new(0));
    (ended, spool)
}

#[tokio::test]
async fn a_chunk_whose_answer_was_lost_is_not_sent_twice() {
    let file = file(1_200_000);
    // Each chunk's first answer is lost, also that of the last one.
    let mut lost = Vec::new();
    let fault = move |spool: &mut Spool, request: &Request| {
        let first = request.method == "PUT" && !lost.contains(&request.target);
        lost.push(request.target.clone());
        first.then(|| {
            spool.answer(request);
            Reply::lost()
        })
    };
    let (ended, spool) = uploaded(&file, Spool::new(0), fault).await;
    assert_eq!(ended.unwrap(), Digest::of(&file));
    assert!(spool.bytes == file);
}

#[tokio::test]
async fn an_upload_that_was_cut_goes_on_where_it_stopped() {
    let file = file(3_500_000);
    for had in [0, 1, 2_000_000, file.len()] {
        let mut sent = 0;
        let limit = file.len() - had;
        let begun = Spool { bytes: file[..had].to_vec(), ..Spool::new(0) };
        let fault = move |_: &mut Spool, request: &Request| {
            if request.method == "GET" {
                assert!(request.path().ends_with("/upload") && request.parameter("length") == Some(3_500_000));
            }
            sent += request.body.len();
            assert!(sent <= limit);
            None
        };
        let (ended, spool) = uploaded(&file, begun, fault).await;
        assert_eq!(ended.unwrap(), Digest::of(&file), "{had}");
        assert!(spool.bytes == file && spool.chunks > 0, "the end is told, and asked for, in any case");
    }
}

/// It was restarted, and its spool is empty.
#[tokio::test]
async fn a_coordinator_that_forgot_an_upload_gets_it_again() {
    let file = file(3_500_000);
    let mut forgets = 3;
    let fault = move |spool: &mut Spool, _: &Request| {
        if spool.bytes.len() > 2_000_000 && forgets > 0 {
            forgets -= 1;
            spool.bytes.clear();
        }
        None
    };
    let (ended, spool) = uploaded(&file, Spool::new(0), fault).await;
    assert_eq!(ended.unwrap(), Digest::of(&file));
    assert!(spool.bytes == file);
}

#[tokio::test]
async fn an_upload_that_gets_nowhere_ends() {
    let fault =
        |_: &mut Spool, request: &Request| (request.method == "PUT").then(|| Reply::problem(Code::OffsetMismatch));
    let (ended, _) = uploaded(&file(10), Spool::new(0), fault).await;
    assert_eq!(ended.unwrap_err().code(), Some(Code::OffsetMismatch));
    // Forgetting all of it each time is no progress either.
    let fault = |spool: &mut Spool, _: &Request| {
        if spool.bytes.len() > 2_000_000 {
            spool.bytes.clear();
        }
        None
    };
    let (ended, spool) = uploaded(&file(3_500_000), Spool::new(0), fault).await;
    assert_eq!(ended.unwrap_err().code(), Some(Code::OffsetMismatch));
    assert!(spool.chunks < 40, "{}", spool.chunks);
}

#[tokio::test]
async fn chunks_become_as_small_as_the_coordinator_takes_them() {
    let file = file(700_000);
    for chunk_max in [CHUNK_BYTES_MIN, 200_000] {
        let (ended, spool) = uploaded(&file, Spool { chunk_max, ..Spool::new(0) }, |_, _| None).await;
        assert_eq!(ended.unwrap(), Digest::of(&file));
        assert!(spool.bytes == file);
    }
    let (ended, spool) = uploaded(&file, Spool { chunk_max: 1_000, ..Spool::new(0) }, |_, _| None).await;
    assert_eq!((ended.unwrap_err().code(), spool.chunks), (Some(Code::TooLarge), 5));
}

/// A network on which long connections do not live.
#[tokio::test]
async fn chunks_become_small_where_large_ones_are_lost_and_grow_again() {
    let file = file(200_000);
    let sizes = Arc::new(StdMutex::new(Vec::new()));
    let seen = sizes.clone();
    let fault = move |spool: &mut Spool, request: &Request| {
        if request.method != "PUT" {
            return None;
        }
        seen.lock().unwrap().push(request.body.len());
        (request.body.len() > 60_000 && spool.bytes.len() < 100_000).then(Reply::lost)
    };
    let (ended, spool) = uploaded(&file, Spool::new(0), fault).await;
    assert_eq!(ended.unwrap(), Digest::of(&file));
    assert!(spool.bytes == file);
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes[..4], [200_000, 100_000, 50_000, 50_000 + PIECE_BYTES_MIN], "{sizes:?}");
    assert!(sizes[4] < 60_000 && sizes[5..].iter().any(|size| *size > 60_000), "{sizes:?}");
}

/// Token, JSON and bytes: an answer that ends early is asked for again.
#[tokio::test]
async fn an_answer_that_is_cut_off_is_asked_for_again() {
    let mut seen = Vec::new();
    let client = serve_all(move |request| {
        let first = !seen.contains(&request.target);
        seen.push(request.target.clone());
        let reply = match request.path() {
            "/v1/token" => token(600),
            "/refused" => Reply::problem(Code::Forbidden),
            _ => Reply::json(&"an answer that is long enough"),
        };
        if first { reply.cut(10) } else { reply }
    })
    .await;
    assert_eq!(client.get::<String>("/json").await.unwrap(), "an answer that is long enough");
    assert_eq!(client.post::<_, String>("/posted", &1).await.unwrap(), "an answer that is long enough");
    assert_eq!(client.get_bytes("/bytes", 100).await.unwrap(), b"\"an answer that is long enough\"");
    assert_eq!(client.get::<String>("/refused").await.unwrap_err().code(), Some(Code::Forbidden));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_each_time_is_a_lost_connection() {
    let client = serve(|_| Reply::json(&"an answer that is long enough").cut(10)).await;
    let client = client.with_budget(Duration::from_millis(500));
    assert!(matches!(client.get::<String>("/json").await, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut() {
    let file = file(900_000);
    let digest = Digest::of(&file);
    let mut requests = 0;
    let served = file.clone();
    let client = serve(move |request| {
        requests += 1;
        let from = request.header("range").map_or(0, |range| {
            range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
        });
        let reply = Reply::new(if from == 0 { 200 } else { 206 }, "", &served[from..]);
        match requests {
            1 => reply.cut(served.len() - 300_000),
            // Twice nothing at all: neither bytes nor an answer.
            2 => reply.cut(served.len() - from),
            3 => Reply::lost(),
            4 => reply.cut(100),
            _ => {
                assert_eq!(from, served.len() - 100);
                reply
            }
        }
    })
    .await;
    assert!(client.get_model(digest, file.len()).await.unwrap() == file);
}

#[tokio::test]
async fn numbers_at_the_end_of_all_numbers_do_no_harm() {
    let client = serve_all(|request| match request.path() {
        "/v1/token" => token(u64::MAX),
        "/later" => Reply::new(503, "retry-after: 18446744073709551615\r\n", b""),
        _ => Reply::json(&UploadStatus { received: u64::MAX, expected: u64::MAX }),
    })
    .await;
    let refused = client.get::<String>("/later").await;
    assert!(matches!(refused, Err(ClientError::Status { status: 503 })), "{refused:?}");
    let request = client.inner.http.get(format!("{}/later", client.inner.base));
    let Err(Failure::Passing { after, .. }) = answer("", request, ANSWER_TIMEOUT).await else { panic!("it may pass") };
    assert_eq!(after, Some(RETRY_AFTER_MAX));
    let (_, renew_at) = client.inner.token.lock().await.clone().unwrap();
    assert!(renew_at <= Instant::now() + TOKEN_LIFE_MAX);
    assert!(matches!(client.put_model(b"model").await, Err(ClientError::Status { status: 409 })));
}

/// A connection that hangs: no byte of an answer, or not the rest of one. It is a lost one, and what was asked is asked again.
#[tokio::test]
async fn a_coordinator_that_falls_silent_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            if request[..read].starts_with(b"GET /half ") {
                stream.write_all(b"HTTP/1.1 200 -\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
            }
            open.push(stream);
        }
    });
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls_builder("").unwrap().with_no_client_auth());
    let http = http.no_proxy().build().unwrap();
    let within = Duration::from_millis(200);
    let lost = |failure: Failure| {
        let is_lost = failure.is_lost();
        let Failure::Passing { error: ClientError::Silent { url: named, .. }, after: None } = failure else {
            return false;
        };
        is_lost && named == url
    };
    assert!(lost(answer(&url, http.get(format!("{url}/nothing")), within).await.err().unwrap()));
    let mut response = answer(&url, http.get(format!("{url}/half")), ANSWER_TIMEOUT).await.ok().unwrap();
    assert_eq!(next_chunk(&url, &mut response, within).await.ok().unwrap().as_deref(), Some(&b"half"[..]));
    assert!(lost(next_chunk(&url, &mut response, within).await.err().unwrap()));
}

#[tokio::test]
async fn a_poll_asks_for_the_time_that_it_waits() {
    let client = serve(|request| match request.parameter("wait") {
        Some(7) => Reply::new(200, "", request.method.as_bytes()),
        _ => Reply::status(204),
    })
    .await;
    let wait = Duration::from_secs(7);
    assert_eq!(client.poll_bytes("/messages", wait, 100).await.unwrap().as_deref(), Some(&b"GET"[..]));
    assert_eq!(client.poll_bytes("/messages", Duration::from_secs(8), 100).await.unwrap(), None);
    assert_eq!(client.post_poll::<_, u64>("/checkin", Duration::from_secs(8), &1).await.unwrap(), None);
    assert!(matches!(client.post_poll::<_, u64>("/checkin", wait, &1).await, Err(ClientError::Answer { .. })));
}
