//! The proxy between a client and a server that sends back what it gets, over real sockets.

#![expect(clippy::unwrap_used, reason = "tests")]

use sordino_faultproxy::{Direction, Ending, Event, Fault, Faults, Plan, Proxy, Script};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn before_echo(plan: Plan) -> Proxy {
    let proxy = Proxy::start(plan).await.unwrap();
    proxy.forward_to(echo().await);
    proxy
}

/// Sends all, says that this was all, and reads what comes back until there is no more, or the connection breaks.
async fn exchange(proxy: &Proxy, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    let (mut from, mut to) = stream.split();
    let send = async {
        let _ = to.write_all(bytes).await;
        let _ = to.shutdown().await;
    };
    let mut back = Vec::new();
    let ((), read) = tokio::join!(send, from.read_to_end(&mut back));
    (back, read.is_ok())
}

fn sample(len: u32) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[at as usize % 3]).collect()
}

fn script(up: &[(u64, Fault)], down: &[(u64, Fault)]) -> Script {
    let events = |list: &[(u64, Fault)]| list.iter().map(|&(at, fault)| Event { at, fault }).collect();
    Script { up: events(up), down: events(down) }
}

#[tokio::test]
async fn a_calm_proxy_carries_everything_and_both_ends() {
    let proxy = before_echo(Plan::calm()).await;
    let bytes = sample(300_000);
    assert_eq!(exchange(&proxy, &bytes).await, (bytes, true));
    let tally = proxy.tally();
    assert_eq!((tally.connections, tally.bytes_up, tally.bytes_down, tally.faults()), (1, 300_000, 300_000, 0));
    assert!(proxy.take_injections().is_empty());
}

#[tokio::test]
async fn without_an_upstream_connections_end() {
    let proxy = Proxy::start(Plan::calm()).await.unwrap();
    assert!(exchange(&proxy, b"hello").await.0.is_empty());
    assert_eq!(proxy.tally().unreachable, 1);
    proxy.forward_to(echo().await);
    assert_eq!(exchange(&proxy, b"hello").await, (b"hello".to_vec(), true));
}

#[tokio::test]
async fn each_fault_strikes_its_connection_and_byte() {
    let flipped =
        script(&[(10, Fault::Flip(0))], &[(20, Fault::Flip(7)), (30, Fault::Stall(Duration::from_millis(1)))]);
    let plan = Plan::scripted([
        (0, script(&[], &[(100_000, Fault::Cut(Ending::Fin))])),
        (1, script(&[], &[(5, Fault::Cut(Ending::Reset))])),
        (2, script(&[(0, Fault::Refuse)], &[])),
        (3, script(&[(0, Fault::BlackHole(Duration::from_millis(1)))], &[])),
        (4, flipped),
    ]);
    let proxy = before_echo(plan).await;
    let bytes = sample(200_000);
    let (back, _) = exchange(&proxy, &bytes).await;
    assert!(back.len() <= 100_000 && bytes.starts_with(&back), "{} bytes", back.len());
    let (back, _) = exchange(&proxy, &bytes).await;
    assert!(back.len() <= 5, "{} bytes", back.len());
    assert!(exchange(&proxy, b"refused").await.0.is_empty());
    assert!(exchange(&proxy, b"lost").await.0.is_empty());
    let mut want = sample(100);
    want[10] ^= 1;
    want[20] ^= 0x80;
    assert_eq!(exchange(&proxy, &sample(100)).await, (want, true));
    assert_eq!(exchange(&proxy, &bytes).await, (bytes, true), "nothing is planned for the last one");

    let tally = proxy.tally();
    assert_eq!((tally.cut, tally.refused, tally.black_holed, tally.flipped, tally.stalled), (2, 1, 1, 2, 1));
    assert_eq!((tally.connections, tally.faults()), (6, 7));
    let injections = proxy.take_injections();
    assert_eq!(injections.len(), 7);
    assert_eq!(
        (injections[0].connection, injections[0].direction, injections[0].event.at),
        (0, Direction::Down, 100_000)
    );
    assert_eq!(injections[0].to_string(), "connection 0 down byte 100000: cut by FIN");
    assert!(proxy.take_injections().is_empty(), "they were taken");
}

/// The same seed injects the same faults into the same bytes, whatever the system does with packets.
#[tokio::test]
async fn a_seed_can_be_repeated() {
    let faults = Faults { refused: 0.2, cut: 0.3, corrupted: 0.3, window_bytes: 4_096, ..Faults::calm() };
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let proxy = before_echo(Plan::drawn(seed, faults.clone()).unwrap()).await;
        let mut injected = Vec::new();
        for _ in 0..40 {
            exchange(&proxy, &sample(20_000)).await;
            // A cut in one direction ends the other one at whichever byte it was: what is up to the first cut is fixed.
            injected.push(proxy.take_injections().into_iter().find(|one| one.direction == Direction::Up));
        }
        assert!(injected.iter().flatten().count() > 20);
        runs.push(injected);
    }
    assert_ne!(runs[0], runs[2]);
    // Where a cut on the way back came first, the fault on the way up may not have been reached.
    let mut both = runs[0].iter().zip(&runs[1]).filter_map(|(one, other)| Some((one.as_ref()?, other.as_ref()?)));
    assert!(both.all(|(one, other)| one == other));
}

/// Faults end with the plan: what is accepted afterwards is carried as it is.
#[tokio::test]
async fn the_weather_changes() {
    let proxy = before_echo(Plan::drawn(1, Faults { refused: 1.0, ..Faults::calm() }).unwrap()).await;
    assert!(exchange(&proxy, b"hello").await.0.is_empty());
    proxy.follow(Plan::calm());
    assert_eq!(exchange(&proxy, b"hello").await, (b"hello".to_vec(), true));
}

/// The upstream goes away in the middle, as a killed process does: the client sees an end, at once.
#[tokio::test]
async fn a_dead_upstream_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = Proxy::start(Plan::calm()).await.unwrap();
    proxy.forward_to(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    client.write_all(b"anybody there?").await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    let mut back = Vec::new();
    // An end of the stream or a reset: either way it does not wait.
    let _ = client.read_to_end(&mut back).await;
    assert!(back.is_empty());
}
