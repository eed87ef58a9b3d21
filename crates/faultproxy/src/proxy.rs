//! The listener, its connections, and what it has done to them.

use crate::{
    plan::{Direction, Ending, Event, Fate, Fault, Plan},
    pump::{Observer, Severed, pump},
};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A proxy on a free port of 127.0.0.1. Dropping it ends every connection.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepting: JoinHandle<()>,
}

struct Shared {
    plan: Plan,
    upstream: Option<SocketAddr>,
    tally: Tally,
    injections: Vec<Injection>,
}

/// A fault that was injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injection {
    /// Counted from 0, in the order of arrival.
    pub connection: u64,
    /// Which stream of it.
    pub direction: Direction,
    /// What, and at which byte of the stream.
    pub event: Event,
}

/// What a proxy has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that were accepted, whatever became of them.
    pub connections: u64,
    /// Connections that were closed at once, because the plan says so.
    pub refused: u64,
    /// Connections that were never forwarded.
    pub black_holed: u64,
    /// Connections whose upstream could not be reached.
    pub unreachable: u64,
    /// Connections that were cut.
    pub cut: u64,
    /// Bits that were flipped.
    pub flipped: u64,
    /// Stalls.
    pub stalled: u64,
    /// Bytes that were carried to the upstream.
    pub bytes_up: u64,
    /// Bytes that were carried back.
    pub bytes_down: u64,
}

impl Proxy {
    /// Listens. Until [`Proxy::forward_to`], connections find no upstream and are closed.
    ///
    /// # Errors
    /// What the system said.
    pub async fn start(plan: Plan) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Shared { plan, upstream: None, tally: Tally::default(), injections: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// The port of 127.0.0.1 that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where connections that are accepted from now on are forwarded to.
    pub fn forward_to(&self, upstream: SocketAddr) {
        lock(&self.shared).upstream = Some(upstream);
    }

    /// What befalls connections that are accepted from now on. Their numbers go on.
    pub fn follow(&self, plan: Plan) {
        lock(&self.shared).plan = plan;
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.shared).tally
    }

    /// The faults that were injected since this was called last; of more than [`INJECTIONS_MAX`] the first ones.
    #[must_use]
    pub fn take_injections(&self) -> Vec<Injection> {
        std::mem::take(&mut lock(&self.shared).injections)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections go with the task that holds them.
        self.accepting.abort();
    }
}

impl Tally {
    /// What was done since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            refused: self.refused - earlier.refused,
            black_holed: self.black_holed - earlier.black_holed,
            unreachable: self.unreachable - earlier.unreachable,
            cut: self.cut - earlier.cut,
            flipped: self.flipped - earlier.flipped,
            stalled: self.stalled - earlier.stalled,
            bytes_up: self.bytes_up - earlier.bytes_up,
            bytes_down: self.bytes_down - earlier.bytes_down,
        }
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.refused + self.black_holed + self.cut + self.flipped + self.stalled
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, direction, event: Event { at, fault } } = self;
        write!(f, "connection {connection} {direction} byte {at}: {fault}")
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((client, _)) => {
                let (number, fate) = {
                    let mut shared = lock(&shared);
                    let number = shared.tally.connections;
                    shared.tally.connections += 1;
                    (number, shared.plan.connection(number))
                };
                connections.spawn(connection(shared.clone(), client, number, fate));
            }
            // A peer that is gone again, or no descriptors for a moment.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(shared: Arc<Mutex<Shared>>, mut client: TcpStream, number: u64, fate: Fate) {
    let one = |direction| Stream { shared: &shared, connection: number, direction };
    let (up, down) = match fate {
        Fate::Refuse => return one(Direction::Up).injected(Event { at: 0, fault: Fault::Refuse }),
        Fate::BlackHole(time) => {
            one(Direction::Up).injected(Event { at: 0, fault: Fault::BlackHole(time) });
            return tokio::time::sleep(time).await;
        }
        Fate::Forward { up, down } => (up, down),
    };
    let upstream = lock(&shared).upstream;
    let reached = match upstream {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut server) = reached else {
        lock(&shared).tally.unreachable += 1;
        return;
    };
    // What is written is sent: a fault has to strike where the plan says, not where a buffer ends. Without it there is only
    // more delay.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let (watch_up, watch_down) = (one(Direction::Up), one(Direction::Down));
        let up = pump(from_client, to_server, *up, &watch_up);
        let down = pump(from_server, to_client, *down, &watch_down);
        tokio::try_join!(up, down)
    };
    match ended {
        Ok(_) => {}
        Err(Severed::Cut(Ending::Fin)) => {
            // A peer that is gone by now sees no end of the stream, and needs none.
            let _ = tokio::join!(client.shutdown(), server.shutdown());
        }
        Err(Severed::Cut(Ending::Reset) | Severed::Broken) => {
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}

/// Counts what happens to one direction of a connection.
struct Stream<'a> {
    shared: &'a Mutex<Shared>,
    connection: u64,
    direction: Direction,
}

impl Observer for Stream<'_> {
    fn injected(&self, event: Event) {
        let mut shared = lock(self.shared);
        match event.fault {
            Fault::Refuse => shared.tally.refused += 1,
            Fault::BlackHole(_) => shared.tally.black_holed += 1,
            Fault::Cut(_) => shared.tally.cut += 1,
            Fault::Flip(_) => shared.tally.flipped += 1,
            Fault::Stall(_) => shared.tally.stalled += 1,
        }
        if shared.injections.len() < INJECTIONS_MAX {
            let (connection, direction) = (self.connection, self.direction);
            shared.injections.push(Injection { connection, direction, event });
        }
    }

    fn carried(&self, bytes: usize) {
        let tally = &mut lock(self.shared).tally;
        match self.direction {
            Direction::Up => tally.bytes_up += bytes as u64,
            Direction::Down => tally.bytes_down += bytes as u64,
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Nothing that is done under the lock can leave it half done.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Injections that are remembered until they are taken.
pub const INJECTIONS_MAX: usize = 100_000;
/// Connections at once; further ones wait in the backlog.
const CONNECTIONS_MAX: usize = 1_024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
