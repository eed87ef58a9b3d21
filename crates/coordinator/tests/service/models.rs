//! Model files: up in chunks, down in ranges, and never half of one.

use crate::{
    common::{TestClient, TestFederation, code, model, problem, with_metadata},
    wire,
};
use http::{Method, StatusCode};
use sordino_coordinator::bulk::{CONTENT_DIGEST, digest_value};
use sordino_wire::{
    Code, Digest,
    api::{Model, Page, UploadStatus},
};
use tokio::io::AsyncWriteExt as _;

/// Enough for two chunks of the smallest size that a configuration allows.
fn large() -> Vec<u8> {
    model(&(0_u16..30_000).map(f32::from).collect::<Vec<_>>())
}

const MIB: usize = 1024 * 1024;

const SMALL_CHUNKS: &str = "[limits]\nchunk_bytes = 65536\nmodel_bytes_max = 1000000\n";

async fn received(admin: &TestClient, digest: Digest) -> u64 {
    let answer = admin.get(&format!("/v1/models/{digest}/upload?length=1000000")).send().await.unwrap();
    answer.json::<UploadStatus>().await.unwrap().received
}

#[tokio::test]
async fn an_upload_continues_where_it_stopped() {
    let federation = TestFederation::start_with(SMALL_CHUNKS, |_| sordino_coordinator::Routes::new()).await;
    let (admin, bytes) = (&federation.admin, large());
    let (digest, total) = (Digest::of(&bytes), bytes.len());
    let path = |offset: usize| format!("/v1/models/{digest}?offset={offset}&length={total}");
    let first = admin.put_chunk(&path(0), &bytes[..65_536]).send().await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let status: UploadStatus = first.json().await.unwrap();
    assert_eq!(status, UploadStatus { received: 65_536, expected: total as u64 });
    // Half of it is not there for anyone.
    assert_eq!(code(admin.get(&format!("/v1/models/{digest}")).send().await.unwrap()).await, Code::NotFound);

    let again = admin.put_chunk(&path(0), &bytes[..65_536]).send().await.unwrap();
    assert_eq!(code(again).await, Code::OffsetMismatch);
    let gap = admin.put_chunk(&path(65_537), &bytes[65_537..]).send().await.unwrap();
    assert_eq!(code(gap).await, Code::OffsetMismatch);
    let beyond = admin.put_chunk(&format!("/v1/models/{digest}?offset=65536&length=65537"), &bytes[65_536..]);
    assert_eq!(code(beyond.send().await.unwrap()).await, Code::TooLarge);
    assert_eq!(received(admin, digest).await, 65_536);

    let last = admin.put_chunk(&path(65_536), &bytes[65_536..]).send().await.unwrap();
    assert_eq!(last.status(), StatusCode::CREATED);
    let whole = federation.participant("site-0001").await.get(&format!("/v1/models/{digest}")).send().await.unwrap();
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    // Once more is no mistake.
    assert_eq!(admin.put_chunk(&path(0), &bytes[..65_536]).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_chunk_that_is_cut_off_leaves_nothing() {
    let federation = TestFederation::start_with(SMALL_CHUNKS, |_| sordino_coordinator::Routes::new()).await;
    let (admin, bytes) = (&federation.admin, large());
    let (digest, total) = (Digest::of(&bytes), bytes.len());
    let first = admin.put_chunk(&format!("/v1/models/{digest}?offset=0&length={total}"), &bytes[..10_000]);
    assert_eq!(first.send().await.unwrap().status(), StatusCode::OK);

    let chunk = &bytes[10_000..50_000];
    let head = format!(
        "PUT /v1/models/{digest}?offset=10000&length={total} HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {}\r\ncontent-type: application/octet-stream\r\n\
         content-digest: {}\r\ncontent-length: {}\r\n\r\n",
        admin.token.as_deref().unwrap(),
        digest_value(Digest::of(chunk)).to_str().unwrap(),
        chunk.len(),
    );
    let mut stream = wire::connect(&federation, admin).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&chunk[..20_000]).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(received(admin, digest).await, 10_000);

    // The same chunk, whole, counts.
    let mut stream = wire::connect(&federation, admin).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(chunk).await.unwrap();
    assert!(wire::answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(received(admin, digest).await, 50_000);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let federation = TestFederation::start().await;
    let admin = &federation.admin;
    let mut stream = wire::connect(&federation, admin).await;
    let head = format!(
        "PUT /v1/models/{} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/octet-stream\r\ncontent-digest: {}\r\ncontent-length: 99999999999\r\n\r\n",
        Digest::of(b""),
        admin.token.as_deref().unwrap(),
        digest_value(Digest::of(b"")).to_str().unwrap(),
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Not one byte of the body was sent, and the answer is there.
    let answer = wire::answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("too_large"), "{answer}");

    let path = format!("/v1/models/{}?length=99999999999", Digest::of(b""));
    assert_eq!(code(admin.put_chunk(&path, b"x").send().await.unwrap()).await, Code::TooLarge);
}

#[tokio::test]
async fn bytes_other_than_announced_are_refused() {
    let federation = TestFederation::start().await;
    let (admin, bytes) = (&federation.admin, model(&[1.0, 2.0]));
    let digest = Digest::of(&bytes);
    let path = format!("/v1/models/{digest}");
    let wrong_chunk = admin
        .request(Method::PUT, &path)
        .header("content-type", "application/octet-stream")
        .header(CONTENT_DIGEST, digest_value(Digest::of(b"something else")))
        .body(bytes.clone());
    assert_eq!(code(wrong_chunk.send().await.unwrap()).await, Code::DigestMismatch);
    assert_eq!(received(admin, digest).await, 0);
    // A file that is whole and is not what its name says.
    let other = model(&[1.0, 3.0]);
    assert_eq!(code(admin.put_chunk(&path, &other).send().await.unwrap()).await, Code::DigestMismatch);
    // Neither is in the way of the right one.
    assert_eq!(admin.put_chunk(&path, &bytes).send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_file_that_lies_is_no_model() {
    let federation = TestFederation::start().await;
    let lying_header = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let mut lying_shape = model(&[1.0, 2.0]);
    let at = lying_shape.windows(3).position(|three| three == b"[2]").unwrap();
    lying_shape[at + 1] = b'9';
    let truncated = model(&[1.0, 2.0])[..60].to_vec();
    for (name, bytes) in [
        ("header", lying_header),
        ("shape", lying_shape),
        ("truncated", truncated),
        ("not a number", model(&[1.0, f32::NAN])),
        ("pickle", b"\x80\x04\x95".to_vec()),
        // A model that sites would count as another one than the same without metadata.
        ("metadata", with_metadata(&model(&[1.0, 2.0]))),
    ] {
        let digest = Digest::of(&bytes);
        let answer = federation.admin.put_chunk(&format!("/v1/models/{digest}"), &bytes).send().await.unwrap();
        assert_eq!(code(answer).await, Code::Invalid, "{name}");
        let answer = federation.admin.get(&format!("/v1/models/{digest}")).send().await.unwrap();
        assert_eq!(code(answer).await, Code::NotFound, "{name}");
    }
}

/// No file may grow beyond 3 MiB in this test's own process, which looks to the service like a disk without space. The
/// shell ignores SIGXFSZ for us, so that the write fails instead of the process.
#[tokio::test]
async fn a_full_disk_is_said_to_be_one_and_loses_nothing() {
    if std::env::var_os("SORDINO_TEST_FULL_DISK").is_none() {
        let test = std::env::current_exe().unwrap();
        let limited =
            "trap '' XFSZ; ulimit -f 6144; exec \"$0\" --exact models::a_full_disk_is_said_to_be_one_and_loses_nothing";
        let mut shell = tokio::process::Command::new("sh");
        let inner = shell.arg("-c").arg(limited).arg(test).env("SORDINO_TEST_FULL_DISK", "1").output().await.unwrap();
        let text = String::from_utf8_lossy(&inner.stdout);
        assert!(inner.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let federation = TestFederation::start().await;
    let (admin, bytes) = (&federation.admin, model(&vec![0.5; 1_200_000]));
    let (digest, total) = (Digest::of(&bytes), bytes.len());
    let put = async |from: usize, to: usize| {
        let path = format!("/v1/models/{digest}?offset={from}&length={total}");
        admin.put_chunk(&path, &bytes[from..to]).send().await.unwrap()
    };
    for (from, to) in [(0, MIB), (MIB, 2 * MIB), (2 * MIB, 3 * MIB - 7)] {
        assert_eq!(put(from, to).await.status(), StatusCode::OK);
    }
    // Seven bytes of this chunk still fit; none of it counts.
    let refused = put(3 * MIB - 7, 4 * MIB - 7).await;
    assert!(refused.headers().contains_key("retry-after"));
    let problem = problem(refused).await;
    assert_eq!(problem.code, Code::StorageFull);
    assert!(problem.detail.contains("disk is full"), "{}", problem.detail);
    assert_eq!(received(admin, digest).await, 3 * MIB as u64 - 7);
    // The service goes on.
    assert_eq!(federation.stranger().get("/readyz").send().await.unwrap().status(), StatusCode::OK);
    federation.upload(&model(&[1.0])).await;
}

#[tokio::test]
async fn downloads_resume_and_are_remembered() {
    let federation = TestFederation::start().await;
    let bytes = large();
    let digest = federation.upload(&bytes).await;
    let site = federation.participant("site-0001").await;
    let path = format!("/v1/models/{digest}");
    let head = site.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-length"], bytes.len().to_string().as_str());
    assert_eq!(head.headers()["repr-digest"], digest_value(digest));
    let tag = format!("\"{digest}\"");
    assert_eq!(head.headers()["etag"], tag.as_str());

    let part = site.get(&path).header("range", "bytes=100000-").header("if-range", &tag).send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], format!("bytes 100000-{}/{}", bytes.len() - 1, bytes.len()).as_str());
    assert_eq!(part.bytes().await.unwrap(), bytes[100_000..]);

    let stale = site.get(&path).header("range", "bytes=5-").header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!((stale.status(), stale.bytes().await.unwrap().len()), (StatusCode::OK, bytes.len()));
    let known = site.get(&path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let outside = site.get(&path).header("range", "bytes=999999999-").send().await.unwrap();
    assert_eq!(outside.headers()["content-range"], format!("bytes */{}", bytes.len()).as_str());
    assert_eq!(problem(outside).await.code, Code::RangeNotSatisfiable);
    for name in ["..%2F..%2Fsordino.db", "AB", &digest.to_string().to_uppercase()] {
        assert_eq!(code(site.get(&format!("/v1/models/{name}")).send().await.unwrap()).await, Code::NotFound);
    }
}

#[tokio::test]
async fn models_are_listed_page_by_page() {
    let federation = TestFederation::start().await;
    let site = federation.participant("site-0001").await;
    let page = async |query: &str| -> Page<Model> {
        site.get(&format!("/v1/models{query}")).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(page("").await, Page { items: vec![], next: None });
    let mut digests = Vec::new();
    for value in [1.0, 2.0, 3.0] {
        digests.push(federation.upload(&model(&[value])).await);
    }
    // One that a round made, as the store records it.
    let (released, task) = (Digest::of(b"released"), "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b");
    federation.app.store.record_model(released.0, Some(task), 8, 1_793_000_000_000).await.unwrap();
    digests.push(released);
    digests.sort();

    let (mut seen, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let Page { items, next } = page(&query).await;
        assert!(items.len() <= 3);
        seen.extend(items);
        let Some(next) = next else { break };
        query = format!("?limit=3&cursor={next}");
    }
    assert_eq!(seen.iter().map(|model| model.digest).collect::<Vec<_>>(), digests);
    for listed in seen {
        if listed.digest == released {
            assert_eq!((listed.task, listed.bytes), (Some(task.parse().unwrap()), 8));
            assert_eq!(listed.created_at, 1_793_000_000_000);
        } else {
            assert_eq!((listed.task, listed.bytes), (None, model(&[1.0]).len() as u64));
        }
    }
    for bad in ["limit=0", "limit=501", "cursor=x", "cursor=", "page=2"] {
        assert_eq!(code(site.get(&format!("/v1/models?{bad}")).send().await.unwrap()).await, Code::Malformed, "{bad}");
    }
    assert!(federation.stranger().get("/v1/models").send().await.unwrap().status().is_client_error());
}
