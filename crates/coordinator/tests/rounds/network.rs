//! Sites behind a bad network: what it cuts, holds up, damages or slows down is sent again, and counts once.

use super::{
    common::TestClient,
    raw::Raw,
    stage::{PATIENT, Stage, policy},
};
use http::StatusCode;
use sordino_faultproxy::{Ending, Event, Fault, Faults, Plan, Proxy, Script, Tally};
use sordino_secagg::Step;
use sordino_wire::api::RoundState;
use std::{fs, num::NonZeroU32, time::Duration};

/// Values of the model: an input has two chunks of the smallest size.
const MANY: usize = 40_000;
const CHUNK_BYTES: usize = 65_536;
const SMALL_CHUNKS: &str = "[limits]\nchunk_bytes = 65536\n";

/// A proxy in front of a federation, and where sites find it.
async fn proxy_to(stage: &Stage, plan: Plan) -> (Proxy, String) {
    let proxy = Proxy::start(plan).await.unwrap();
    proxy.forward_to(([127, 0, 0, 1], stage.federation.port).into());
    let url = format!("https://localhost:{}", proxy.port());
    (proxy, url)
}

/// A round of six sites, all of them behind these faults: every input counts, and the sum is exact.
async fn six_sites_behind(faults: Faults) -> Tally {
    let mut stage = Stage::prepare(SMALL_CHUNKS, &policy(PATIENT), MANY, 6).await;
    let (proxy, url) = proxy_to(&stage, Plan::drawn(1, faults).unwrap()).await;
    stage.sites.iter().for_each(|site| site.moved_to(&url));
    stage.begin();
    let round = stage.complete(&[]).await;
    assert_eq!(round.attempt, 1);
    let tally = proxy.tally();
    assert!(tally.connections >= 6 && tally.bytes_up > 600_000, "{tally:?}");
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn one_window_in_ten_is_cut() {
    let tally = six_sites_behind(Faults { cut: 0.1, ..Faults::calm() }).await;
    assert!(tally.cut >= 3, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalls_are_waited_for() {
    let tally =
        six_sites_behind(Faults { stalled: 0.2, stall_for: Duration::from_millis(150), ..Faults::calm() }).await;
    assert!(tally.stalled >= 6, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_are_noticed_and_sent_again() {
    let tally = six_sites_behind(Faults { corrupted: 0.1, ..Faults::calm() }).await;
    assert!(tally.flipped >= 3, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_only_takes_longer() {
    let bytes_per_second = NonZeroU32::new(300_000);
    let tally = six_sites_behind(Faults { bytes_per_second, ..Faults::calm() }).await;
    assert_eq!(tally.faults(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once() {
    let faults = Faults {
        refused: 0.2,
        black_holed: 0.1,
        black_hole_for: Duration::from_millis(100),
        cut: 0.05,
        corrupted: 0.02,
        stalled: 0.05,
        stall_for: Duration::from_millis(100),
        latency_max: Duration::from_millis(4),
        ..Faults::calm()
    };
    let tally = six_sites_behind(faults).await;
    assert!(tally.faults() >= 5, "{tally:?}");
}

/// Whatever ends an upload in the middle of a chunk, that chunk is not there, the ones before it are, and the upload goes
/// on behind them.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_counts_whole_or_not_at_all() {
    let mut stage = Stage::prepare(SMALL_CHUNKS, &policy(PATIENT), MANY, 5).await;
    stage.begin();
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 5).await;
    part.until(Step::MaskedInput).await;
    assert!(part.packed.len() > CHUNK_BYTES + 20_000);
    let (first, second) = part.packed.split_at(CHUNK_BYTES);
    assert_eq!(part.put(0, first).await.status(), StatusCode::OK);
    // In the middle of the second chunk, whatever handshake and headers take.
    let at = 20_000;
    let faults = [Fault::Cut(Ending::Fin), Fault::Cut(Ending::Reset), Fault::Flip(3)];
    let (proxy, url) = proxy_to(&stage, Plan::calm()).await;
    let root = fs::read_to_string(stage.federation.root_pem()).unwrap();
    for fault in faults {
        let script = Script { up: vec![Event { at, fault }], down: Vec::new() };
        proxy.follow(Plan::scripted([(proxy.tally().connections, script)]));
        let before = proxy.tally().faults();
        let identity = (raw.client.chain_pem.clone(), raw.client.key_pem.clone());
        let mut client = TestClient::new(&url, "raw-site-5", &root, Some(identity));
        client.token = raw.client.token.clone();
        let path = part.path(&format!("input?offset={CHUNK_BYTES}"));
        let sent = client.put_chunk(&path, second).send().await;
        assert!(sent.is_err(), "{fault}: {sent:?}");
        assert_eq!(proxy.tally().faults(), before + 1, "{fault}");
        assert_eq!(part.uploaded().await.received, CHUNK_BYTES as u64, "{fault}");
    }
    part.finish().await;
    let round = stage.complete(&[&part]).await;
    assert_eq!(round.release.unwrap().input_bytes, part.packed.len() as u64);
}

/// A site whose upload stops half way is waited for as long as the policy says; the others' sum holds nothing of it, and
/// the Release names it.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_stalls_too_long_is_left_out_by_name() {
    let mut stage = Stage::prepare("", &policy(0.3), MANY, 6).await;
    // Behind handshake, keys and shares, in the middle of the input.
    let stall = Event { at: 60_000, fault: Fault::Stall(Duration::from_millis(1_500)) };
    let plan = Plan::scripted([(0, Script { up: vec![stall], down: Vec::new() })]);
    let (proxy, url) = proxy_to(&stage, plan).await;
    let slow = stage.sites.pop().unwrap();
    slow.moved_to(&url);
    let left_out = tokio::spawn(slow.train(&stage.task, None));
    stage.begin();
    let round = stage.complete(&[]).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 1));
    let release = round.release.unwrap();
    assert_eq!(release.cohort.len(), 6);
    assert_eq!(release.dropouts[&slow.id], Step::MaskedInput.name());
    let summary = left_out.await.unwrap().unwrap();
    assert_eq!((summary.finished, summary.left_out, summary.refused), (0, 1, 0));
    assert_eq!(proxy.tally().stalled, 1);
}
