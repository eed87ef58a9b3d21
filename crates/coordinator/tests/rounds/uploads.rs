//! Inputs that arrive late, in pieces, twice, damaged, or when the disk is full. An upload that errs goes on from what was
//! received; what was accepted stays in the sum, once.

use super::{
    common::{TestClient, TestFederation, code, model, problem},
    join,
    raw::Raw,
    stage::{PATIENT, Stage, VALUES, policy},
    wire,
};
use http::StatusCode;
use sordino_coordinator::bulk::digest_value;
use sordino_participant::{Client, Credentials};
use sordino_secagg::Step;
use sordino_wire::{
    Code, Digest, RoundId,
    api::{AttemptId, RoundState},
};
use tokio::io::AsyncWriteExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_errs_goes_on() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 4).await;
    let federation = &stage.federation;
    let (raw, holder) = (Raw::join(federation, "raw-site-4").await, Raw::join(federation, "raw-site-5").await);
    let (mut part, mut held) = tokio::join!(raw.begin(&stage.task, None, 4), holder.begin(&stage.task, None, 5));
    // Neither a byte nor a question before its time.
    assert_eq!(code(part.put(0, b"early").await).await, Code::WrongStep);
    assert_eq!(code(part.status().await).await, Code::WrongStep);
    tokio::join!(part.until(Step::MaskedInput), held.until(Step::MaskedInput));
    let (_, header) = part.message();
    let bytes = part.packed.clone();
    let whole = bytes.len();
    let third = whole / 3;

    assert_eq!(code(part.post(Step::MaskedInput, &header).await).await, Code::Conflict, "nothing was uploaded");
    assert_eq!(part.put(0, &bytes[..third]).await.status(), StatusCode::OK);
    assert_eq!(code(part.put(0, &bytes[..third]).await).await, Code::OffsetMismatch, "again");
    assert_eq!(code(part.put(third + 1, &bytes[third + 1..]).await).await, Code::OffsetMismatch, "a gap");
    assert_eq!(code(part.put(third - 1, &bytes[third - 1..]).await).await, Code::OffsetMismatch, "an overlap");
    let beyond = [&bytes[third..], &[0]].concat();
    assert_eq!(code(part.put(third, &beyond).await).await, Code::TooLarge, "a byte too many");
    assert_eq!(code(part.put(usize::MAX, &bytes).await).await, Code::TooLarge, "an offset at the end of all numbers");
    let damaged = part.put_as(third, &bytes[third..], Digest::of(b"something else")).await;
    assert_eq!(code(damaged).await, Code::DigestMismatch);
    let unsigned = raw.client.request(http::Method::PUT, &part.path(&format!("input?offset={third}")));
    let unsigned = unsigned.header("content-type", "application/octet-stream").body(bytes[third..].to_vec());
    assert_eq!(code(unsigned.send().await.unwrap()).await, Code::Malformed, "no Content-Digest");

    // Cut off in the middle of the second third.
    let chunk = &bytes[third..2 * third];
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/octet-stream\r\n\
         content-digest: {}\r\ncontent-length: {}\r\n\r\n",
        part.path(&format!("input?offset={third}")),
        raw.client.token.as_deref().unwrap(),
        digest_value(Digest::of(chunk)).to_str().unwrap(),
        chunk.len(),
    );
    let mut stream = wire::connect(federation, &raw.client).await;
    stream.write_all(&[head.as_bytes(), &chunk[..third / 2]].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    // The server has answered or closed when this returns: it has seen the end.
    wire::answer(&mut stream).await;
    assert_eq!((part.uploaded().await.received, part.uploaded().await.expected), (third as u64, whole as u64));
    let problem = problem(part.post(Step::MaskedInput, &header).await).await;
    assert_eq!((problem.status, problem.code), (409, Code::Conflict));
    assert!(problem.detail.contains(&format!("{third} of {whole} bytes")), "{}", problem.detail);

    part.deliver().await;
    // It is in. The same again changes nothing; another one, signed as well as the first, is too late.
    assert_eq!(part.post(Step::MaskedInput, &header).await.status(), StatusCode::OK);
    assert_eq!(code(part.put(whole, b"").await).await, Code::AlreadySubmitted);
    assert_eq!(code(part.put(0, &bytes).await).await, Code::AlreadySubmitted);
    assert_eq!(code(part.status().await).await, Code::AlreadySubmitted);
    let second = part.header_of(&vec![0; whole]);
    assert_eq!(code(part.post(Step::MaskedInput, &second).await).await, Code::AlreadySubmitted);

    held.deliver().await;
    tokio::join!(
        async {
            part.next().await;
            part.finish().await;
        },
        async {
            held.next().await;
            held.finish().await;
        }
    );
    let round = stage.complete(&[&part, &held]).await;
    assert_eq!(round.release.unwrap().input_bytes, whole as u64);
}

/// Bytes that can never become the input that was signed, or no input at all, are thrown away: the sender starts over.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_input_can_be_sent_anew() {
    let mut stage = Stage::open(&policy(PATIENT), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    part.until(Step::MaskedInput).await;
    let (_, header) = part.message();
    let bytes = part.packed.clone();

    let mut other = bytes.clone();
    other[0] ^= 1;
    assert_eq!(part.put(0, &other).await.status(), StatusCode::OK);
    let problem = problem(part.post(Step::MaskedInput, &header).await).await;
    assert_eq!((problem.status, problem.code), (422, Code::DigestMismatch));
    assert_eq!(part.uploaded().await.received, 0, "the upload starts over");

    // A bit behind the last value, under a header that stands for it.
    assert_ne!(part.tail, 0, "the vector ends within a byte");
    for bit in part.tail..8 {
        let mut padded = bytes.clone();
        *padded.last_mut().unwrap() |= 1 << bit;
        assert_eq!(part.put(0, &padded).await.status(), StatusCode::OK);
        let refused = super::common::problem(part.post(Step::MaskedInput, &part.header_of(&padded)).await).await;
        assert_eq!(refused.code, Code::Rejected);
        assert!(refused.detail.contains("behind its last value"), "{}", refused.detail);
        assert_eq!(part.uploaded().await.received, 0, "the upload starts over");
    }
    // A header for another length, or masked with others: whatever bytes follow, they are not looked at.
    for at in [40, 72] {
        let mut wrong = header.clone();
        wrong[at] ^= 1;
        assert_eq!(code(part.post(Step::MaskedInput, &raw.signed(wrong)).await).await, Code::Rejected);
    }
    part.finish().await;
    stage.complete(&[&part]).await;
}

/// Too late by a moment: the step closed for this participant, and the sum holds nothing of its half-sent input.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_after_the_step_closed_is_not_in_the_sum() {
    let mut stage = Stage::open(&policy(1.0), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    part.until(Step::MaskedInput).await;
    let half = part.packed.len() / 2;
    assert_eq!(part.put(0, &part.packed[..half]).await.status(), StatusCode::OK);
    // The others go on without it.
    assert_eq!(code(part.fetch(Step::ConsistencyCheck).await).await, Code::StaleRound);
    // Which step is open by now is the others' affair; it is not this one.
    let late = [
        part.put(half, &part.packed[half..]).await,
        part.post(Step::MaskedInput, &part.message().1).await,
        part.status().await,
    ];
    for refused in late {
        let code = code(refused).await;
        assert!(matches!(code, Code::WrongStep | Code::StaleRound), "{code:?}");
    }
    let round = stage.complete(&[]).await;
    assert_eq!(round.release.unwrap().dropouts[&raw.client.id], "MaskedInput");
}

/// Many headers at once, one of them right: whatever their order, no accepted input loses its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn headers_at_once_do_not_race() {
    // Enough values that hashing the input takes a while.
    let mut stage = Stage::open(&policy(PATIENT), 200_000, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    part.until(Step::MaskedInput).await;
    let right = part.message().1;
    let wrong = part.header_of(b"other bytes");
    let path = part.path("messages/MaskedInput");
    let accepted = loop {
        let received = usize::try_from(part.uploaded().await.received).unwrap();
        if received < part.packed.len() {
            assert_eq!(part.put(received, &part.packed[received..]).await.status(), StatusCode::OK);
        }
        let headers = [&wrong, &wrong, &right, &wrong, &right, &wrong];
        let sent = headers.map(|header| {
            let request = raw.client.post(&path).header("content-type", "application/octet-stream");
            tokio::spawn(request.body(header.clone()).send())
        });
        let mut accepted = 0;
        for answer in sent {
            let answer = answer.await.unwrap().unwrap();
            match answer.status().as_u16() {
                201 => accepted += 1,
                // A repetition; a second one; bytes of another header; bytes that are not there any more.
                200 | 409 | 422 => {}
                other => assert_eq!(other, 201, "{}", answer.text().await.unwrap()),
            }
        }
        if accepted > 0 {
            break accepted;
        }
    };
    assert_eq!(accepted, 1);
    part.next().await;
    part.finish().await;
    stage.complete(&[&part]).await;
}

/// An accepted input that is gone after a restart cannot be asked for again: the attempt is abandoned, and the next one
/// has everybody's input.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_the_disk_has_lost_costs_the_attempt_only() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let created = federation.create_task(&policy(PATIENT), federation.upload(&model(&[0.5; VALUES])).await).await;
    let sites = join(&federation, 5).await;
    let raw = Raw::join(&federation, "raw-site-5").await;
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    let mut part = raw.begin(&created.id, None, 5).await;
    part.until(Step::MaskedInput).await;
    // This one holds the step open until the others' inputs are in.
    super::inputs_are_in(&federation, &created.id, 5).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    let (chain, key) = (raw.client.chain_pem.clone(), raw.client.key_pem.clone());
    rounds.abort();
    let (_, folder, places) = federation.stopped().await;
    let spool = folder.path().join("data/spool").join(format!("{}.1.1", created.id));
    std::fs::remove_file(spool.join(sites[0].id.as_str())).unwrap();

    let federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    let _rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let root = std::fs::read_to_string(federation.root_pem()).unwrap();
    let mut client = TestClient::new(&federation.url, "raw-site-5", &root, Some((chain, key)));
    client.fetch_token().await;
    let raw = raw.at(client);
    sites.iter().for_each(|site| site.moved_to(&federation.url));
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    let first = AttemptId { round: RoundId { task: created.id.clone(), number: 1 }, attempt: 1 };
    let mut part = raw.begin(&created.id, Some(first), 5).await;
    part.finish().await;
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().finished, 1);
    }
    let round = super::round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 2), "{round:?}");
    assert_eq!(round.release.unwrap().survivors.len(), 6);
}

/// Writing to `/dev/full` fails as on a disk without space. Nothing that was sent is lost: a site tries again by itself, and
/// when there is space the round goes on.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_the_round_and_loses_nothing() {
    let mut stage =
        Stage::open(&policy(PATIENT).replace("step_timeout = 10.0", "step_timeout = 30.0"), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    let attempt = format!("{}.{}.{}", stage.task, part.assignment.round.number, part.assignment.attempt);
    let spool = stage.federation.app.config.server.data.join("spool").join(attempt);
    std::fs::create_dir_all(&spool).unwrap();
    let site = spool.join(stage.sites[0].id.as_str());
    let own = spool.join(raw.client.id.as_str());
    for path in [&site, &own] {
        std::os::unix::fs::symlink("/dev/full", path).unwrap();
    }
    part.until(Step::MaskedInput).await;
    let refused = part.put(0, &part.packed).await;
    assert_eq!(refused.headers()["retry-after"], "5");
    let problem = problem(refused).await;
    assert_eq!((problem.status, problem.code), (507, Code::StorageFull));
    assert!(problem.detail.contains("disk is full"), "{}", problem.detail);
    assert_eq!(part.uploaded().await.received, 0);

    // The site's turn: it is told the same, and comes back.
    while full_disks(&stage.federation.admin).await < 2 {
        tokio::task::yield_now().await;
    }
    std::fs::remove_file(&site).unwrap();
    std::fs::remove_file(&own).unwrap();
    part.finish().await;
    stage.complete(&[&part]).await;
}

/// Answers with status 507 to uploads of inputs, as the service counts them.
async fn full_disks(client: &super::common::TestClient) -> u32 {
    let answer = client.get("/metrics").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let metrics = answer.text().await.unwrap();
    let counted = metrics.lines().filter(|line| {
        line.starts_with("sordino_http_requests_total") && line.contains("/input") && line.contains("status=\"507\"")
    });
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum()
}

/// The client that sites and operators use, against a coordinator that takes small chunks only, and has a part already.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_finds_the_size_of_chunks_and_goes_on() {
    let limits = "[limits]\nchunk_bytes = 65536\n";
    let federation = TestFederation::start_with(limits, |_| sordino_coordinator::Routes::new()).await;
    let admin = Credentials::load(&federation.places.admin, Some(&federation.url.parse().unwrap())).unwrap();
    let client = Client::new(&admin).unwrap();
    for (number, parts) in [(0.25, 0), (0.5, 3)] {
        let file = model(&[number; 100_000]);
        let digest = Digest::of(&file);
        for part in 0..parts {
            let (at, length) = (part * 65_536, file.len());
            let path = format!("/v1/models/{digest}?length={length}&offset={at}");
            let answer = federation.admin.put_chunk(&path, &file[at..at + 65_536]).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
        assert_eq!(client.put_model(&file).await.unwrap(), digest);
        assert_eq!(client.put_model(&file).await.unwrap(), digest, "it is there");
        assert_eq!(client.get_model(digest, file.len()).await.unwrap(), file);
    }
    // All of a file that is no model has come; that is told at the end.
    let refused = client.put_model(&vec![0; 100_000]).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Invalid), "{refused}");
}
