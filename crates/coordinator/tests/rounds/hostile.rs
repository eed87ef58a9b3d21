//! Participants that send what they should not, in every step: they are told why it does not count, the server goes on,
//! and the sum holds exactly what was accepted.

use super::{
    common::{code, problem},
    raw::{Part, Raw},
    stage::{PATIENT, Stage, VALUES, policy},
    wire,
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use http::StatusCode;
use sordino_identity::IdentityKey;
use sordino_secagg::{Signer as _, Step};
use sordino_wire::{Code, api::CheckIn};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::io::AsyncWriteExt as _;

/// Messages that are not the one that is due, by what is wrong with them.
fn broken(raw: &Raw, message: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut message = message.to_vec();
        message[at] ^= 1;
        message
    };
    let stranger = super::raw::Key(IdentityKey::generate(&mut UnwrapErr(SysRng)));
    let mut foreign = message.to_vec();
    let end = foreign.len() - 64;
    let signature = stranger.sign(&foreign[..end]);
    foreign[end..].copy_from_slice(&signature);
    vec![
        ("nothing", Vec::new()),
        ("garbage", (0..=255).map(|byte: u8| byte.wrapping_mul(151)).collect()),
        ("cut short by a byte", message[..message.len() - 1].to_vec()),
        ("cut short within its head", message[..20].to_vec()),
        ("a byte behind its end", [message, &[0]].concat()),
        ("another version", flipped(0)),
        ("another type", flipped(2)),
        ("another context", raw.signed(flipped(4))),
        ("a damaged signature", flipped(message.len() - 1)),
        ("a stranger's signature", foreign),
    ]
}

/// Sends what is broken, in a foreign name, for another step, or too large: nothing of it counts.
async fn pester(raw: &Raw, part: &Part<'_>, other: &Part<'_>, outsider: &Raw) {
    let (step, message) = part.message();
    for (name, bytes) in broken(raw, &message) {
        let problem = problem(part.post(step, &bytes).await).await;
        assert_eq!((problem.status, problem.code), (422, Code::Rejected), "{step}, {name}: {}", problem.detail);
    }
    let in_anothers_name = part.post(step, &other.message().1).await;
    assert_eq!(code(in_anothers_name).await, Code::Rejected, "{step}");
    for wrong in Step::ALL.into_iter().filter(|wrong| *wrong != step) {
        assert_eq!(code(part.post(wrong, &message).await).await, Code::WrongStep, "{wrong} in {step}");
    }
    let path = part.path(&format!("messages/{step}"));
    let as_json = raw.client.post(&path).json(&1).send().await.unwrap();
    assert_eq!(code(as_json).await, Code::UnsupportedMediaType, "{step}");

    // Somebody who was not invited: with another's message, and to listen.
    assert_eq!(code(outsider.post(&path, message).await).await, Code::Rejected, "{step}");
    let next = step.next().unwrap_or(step);
    let listening = outsider.client.get(&part.path(&format!("messages/{next}"))).send().await.unwrap();
    assert_eq!(code(listening).await, Code::StaleRound, "{step}");
    let listening = outsider.client.get(&part.path("input")).send().await.unwrap();
    let refused = if step == Step::MaskedInput { Code::Rejected } else { Code::WrongStep };
    assert_eq!(code(listening).await, refused, "{step}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_message_counts_in_every_step() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 4).await;
    let federation = &stage.federation;
    let (raw, holder) = (Raw::join(federation, "raw-site-4").await, Raw::join(federation, "raw-site-5").await);
    let outsider = Raw::join(federation, "outsider-1").await;
    // Both have to be there before the round begins.
    let (mut part, mut held) = tokio::join!(raw.begin(&stage.task, None, 4), holder.begin(&stage.task, None, 5));
    let mut said = Vec::new();
    for step in Step::ALL {
        assert_eq!(part.message().0, step);
        if step == Step::MaskedInput {
            assert_eq!(part.put(0, &part.packed).await.status(), StatusCode::OK);
        }
        pester(&raw, &part, &held, &outsider).await;
        part.send().await;
        // The other one still holds the step open: the same again is no mistake, another one is too late.
        let (_, message) = part.message();
        assert_eq!(part.post(step, &message).await.status(), StatusCode::OK, "{step}");
        let mut second = message.clone();
        *second.last_mut().unwrap() ^= 1;
        assert_eq!(code(part.post(step, &second).await).await, Code::AlreadySubmitted, "{step}");
        said.push((step, message));
        for (earlier, message) in &said[..said.len() - 1] {
            assert_eq!(code(part.post(*earlier, message).await).await, Code::WrongStep, "{earlier} in {step}");
        }
        held.deliver().await;
        if step != Step::Unmasking {
            tokio::join!(part.next(), held.next());
        }
    }
    stage.complete(&[&part, &held]).await;

    // The round is over: what counted then counts nowhere now.
    for (step, message) in said {
        assert_eq!(code(part.post(step, &message).await).await, Code::StaleRound, "{step}");
        assert_eq!(code(part.fetch(step).await).await, Code::StaleRound, "{step}");
    }
    assert_eq!(code(part.put(0, &part.packed).await).await, Code::StaleRound);
    assert_eq!(code(part.status().await).await, Code::StaleRound);
    let none = raw.post(&part.path("messages/Unveiling"), Vec::new()).await;
    assert_eq!(none.status(), StatusCode::CONFLICT, "of an attempt that is over, not even the steps are told apart");
}

/// One attempt is abandoned because somebody was silent; it is followed by another, and a second round by the first.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_in_one_attempt_means_nothing_in_another() {
    let policy = super::POLICY
        .replace("target = 6", "target = 4")
        .replace("max_dropout_fraction = 0.2", "max_dropout_fraction = 0.0")
        .replace("participant_timeout = 20.0", "participant_timeout = 2.0");
    let mut stage = Stage::open(&policy, VALUES, 3).await;
    let raw = Raw::join(&stage.federation, "raw-site-3").await;
    // Invited, and silent until it is too late.
    let first = raw.begin(&stage.task, None, 3).await;
    let mut second = raw.begin(&stage.task, Some(first.attempt()), 3).await;
    assert_eq!((first.assignment.attempt, second.assignment.attempt), (1, 2));
    assert_ne!(first.assignment.nonce, second.assignment.nonce);
    let (step, early) = first.message();
    assert_eq!(code(first.post(step, &early).await).await, Code::StaleRound);
    assert_eq!(code(second.post(step, &early).await).await, Code::Rejected);
    for (round, attempt) in [(1, 3), (2, 1), (9, 1)] {
        let path = format!("/v1/rounds/{}.{round}/attempts/{attempt}/messages/{step}", stage.task);
        assert_eq!(code(raw.post(&path, second.message().1).await).await, Code::StaleRound, "{round}.{attempt}");
    }
    for nowhere in ["messages/Unveiling", "messages/advertisekeys"] {
        assert_eq!(code(raw.post(&second.path(nowhere), early.clone()).await).await, Code::NotFound);
    }
    let advertised = second.message().1;
    second.finish().await;

    let mut third = raw.begin(&stage.task, Some(second.attempt()), 3).await;
    assert_eq!((third.assignment.round.number, third.assignment.attempt), (2, 1));
    assert_eq!(code(second.post(step, &advertised).await).await, Code::StaleRound);
    assert_eq!(code(third.post(step, &advertised).await).await, Code::Rejected);
    third.finish().await;
    stage.complete(&[&third]).await;
    let round = super::round(&stage.federation, &stage.task, 1).await;
    assert_eq!(round.attempt, 2);
    assert_eq!(round.release.unwrap().survivors.len(), 4);
}

/// Neighbours refuse a roster with a certificate chain that they do not believe: it must not get into one.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_chain_costs_its_sender_the_attempt_and_nobody_else() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 5).await;
    let other = Raw::join(&stage.federation, "outsider-1").await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    let foreign = raw.advertising(&part, &other.chain);
    for (name, message) in [
        ("of nothing", raw.advertising(&part, &[])),
        ("of garbage", raw.advertising(&part, &[7; 100])),
        ("cut short", raw.advertising(&part, &raw.chain[..raw.chain.len() - 1])),
        ("of somebody else", foreign),
    ] {
        let problem = problem(part.post(Step::AdvertiseKeys, &message).await).await;
        assert_eq!(problem.code, Code::Rejected, "a chain {name}");
        assert!(problem.detail.contains("certificate"), "a chain {name}: {}", problem.detail);
    }
    part.finish().await;
    stage.complete(&[&part]).await;
}

/// Invited, and never heard again.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_answers_is_not_waited_for() {
    let mut stage = Stage::open(&policy(0.2), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let assignment = raw.invited(&stage.task, None).await;
    let round = stage.complete(&[]).await;
    assert_eq!(round.id, assignment.round);
    let dropouts = round.release.unwrap().dropouts;
    assert_eq!(dropouts.into_iter().collect::<Vec<_>>(), [(raw.client.id.clone(), "AdvertiseKeys".to_owned())]);
}

/// Connections that break in the middle of a request leave nothing behind; the same request, whole, counts as the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_break_in_every_request() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let (federation, client) = (&stage.federation, &raw.client);
    let cut = async |method: &str, path: &str, kind: &str, body: &[u8], sent: usize| {
        let digest = sordino_coordinator::bulk::digest_value(sordino_wire::Digest::of(body));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: {kind}\r\n\
             content-digest: {}\r\ncontent-length: {}\r\n\r\n",
            client.token.as_deref().unwrap(),
            digest.to_str().unwrap(),
            body.len(),
        );
        let mut stream = wire::connect(federation, client).await;
        stream.write_all(&head.as_bytes()[..head.len().min(sent)]).await.unwrap();
        stream.write_all(&body[..sent.saturating_sub(head.len()).min(body.len() / 2)]).await.unwrap();
        stream.flush().await.unwrap();
    };
    // Early and late in the head, and in the middle of the body.
    let places = [20, 400, usize::MAX];
    let check_in = serde_json::to_vec(&CheckIn::default()).unwrap();
    for sent in places {
        cut("POST", &format!("/v1/tasks/{}/checkin?wait=20", stage.task), "application/json", &check_in, sent).await;
    }
    let mut part = raw.begin(&stage.task, None, 5).await;
    let octets = "application/octet-stream";
    for step in Step::ALL {
        let (_, message) = part.message();
        for sent in places {
            if step == Step::MaskedInput {
                cut("PUT", &part.path("input?offset=0"), octets, &part.packed, sent).await;
                assert_eq!(part.uploaded().await.received, 0);
            }
            cut("POST", &part.path(&format!("messages/{step}")), octets, &message, sent).await;
        }
        // 201: nothing of this was taken before.
        part.deliver().await;
        if let Some(next) = step.next() {
            cut("GET", &part.path(&format!("messages/{next}?wait=20")), octets, &[], usize::MAX).await;
            part.next().await;
        }
    }
    stage.complete(&[&part]).await;
}

/// The answer is there before one byte of the body was sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_unread() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    let limit = stage.federation.app.config.limits.message_bytes_max;
    let mut stream = wire::connect(&stage.federation, &raw.client).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        part.path("messages/AdvertiseKeys"),
        raw.client.token.as_deref().unwrap(),
        limit + 1,
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = wire::answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"), "{answer}");
    // Without a length, too: it is counted as it comes. Whether the answer arrives before the connection that it closes is
    // gone is not certain; that the message is not taken is.
    let unannounced = reqwest::Body::wrap(Chunks(limit / CHUNK + 1));
    let request =
        raw.client.post(&part.path("messages/AdvertiseKeys")).header("content-type", "application/octet-stream");
    if let Ok(answer) = request.body(unannounced).send().await {
        assert_eq!(code(answer).await, Code::TooLarge);
    }
    // The connection that was closed may still be in the client's pool, and a POST is not sent twice.
    while raw.client.get("/v1/tasks").send().await.is_err() {}
    part.finish().await;
    stage.complete(&[&part]).await;
}

const CHUNK: usize = 64 * 1024;

/// So many chunks of zeros, and no word about how many.
struct Chunks(usize);

impl hyper::body::Body for Chunks {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        std::task::Poll::Ready(left.map(|_| Ok(hyper::body::Frame::data(vec![0; CHUNK].into()))))
    }
}

/// A journal that cannot be written is a passing failure: the sender is told to come back, memory is thrown away and
/// restored from the store, and the round completes with everybody in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_does_not_count_and_can_be_sent_again() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    let (step, message) = part.message();
    // Somebody else writes to the database for longer than the store waits for its turn.
    let file = stage.federation.folder.path().join("data/sordino.db");
    let mut other = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let problem = problem(part.post(step, &message).await).await;
    assert_eq!((problem.status, problem.code), (503, Code::Unavailable), "{}", problem.detail);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    while part.post(step, &message).await.status() == 503 {}
    part.next().await;
    part.finish().await;
    stage.complete(&[&part]).await;
}
