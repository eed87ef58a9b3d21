//! The listener: an accept loop of our own, because what a peer may cost is decided before TLS, and who it is after.
//!
//! Caps on connections come before the handshake, a deadline around it. The client's chain is verified once, when the
//! connection is opened, and travels with each of its requests as a [`Peer`]. Stopping closes the listener, lets
//! requests under way finish for [`Limits::shutdown_grace`](crate::config::Limits), then closes what is left.

use crate::{
    access::{Peer, PeerIdentity, Routes},
    answer::chain,
    app::App,
    lifecycle::Phase,
};
use axum::{Router, body::Body};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt as _;

mod slots;

use slots::{Slot, Slots};

/// A bound listener with everything it will serve.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    local_addr: SocketAddr,
    router: Router,
    slots: Slots,
}

/// Why the service cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another process listens there.
    #[error(
        "cannot listen on {address}: address in use; stop what listens there, or set server.listen to another port"
    )]
    InUse {
        /// The address of the configuration.
        address: SocketAddr,
    },
    /// The address is not ours, the port is privileged, or the system refuses for another reason.
    #[error("cannot listen on {address}; check server.listen")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every request under way was answered.
    Drained,
    /// The grace was over; this many connections were closed in the middle.
    Cut(usize),
}

impl Server {
    /// Takes the port of the configuration; connections wait in the backlog until [`Server::run`].
    ///
    /// - `extra`: routes beside those of [`App::routes`].
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(app: Arc<App>, extra: Routes) -> Result<Self, ServeError> {
        let address = app.config.server.listen;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse { address },
            _ => ServeError::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        app.listens_on(local_addr.port());
        let limits = &app.config.limits;
        let slots = Slots::new(limits.max_connections, limits.max_connections_per_address);
        let router = app.router(extra);
        Ok(Self { app, listener, local_addr, router, slots })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` is ready, then stops gracefully. The rounds run beside it, see
    /// [`rounds::run`](crate::rounds::run), and park when this stops.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Stopped {
        let Self { app, listener, router, slots, .. } = self;
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
        let mut shutdown = pin!(shutdown);
        app.lifecycle.advance(Phase::Ready);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => match slots.take(address.ip()) {
                        Ok(slot) => {
                            let served = connection(app.clone(), router.clone(), graceful.watcher(), stream, address, slot);
                            connections.spawn(served);
                        }
                        // Dropping the stream closes it: no byte of TLS was spent on it.
                        Err(refused) => count(refused.as_str()),
                    },
                    Err(error) => pause_after(&error).await,
                },
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    tracing::error!(error = chain(&error), "a connection ended abnormally; the others go on");
                },
                _ = upkeep.tick() => app.metrics.run_upkeep(),
            }
        }
        drop(listener);
        app.lifecycle.advance(Phase::Stopping);
        let outcome = timeout(app.config.shutdown_grace(), graceful.shutdown()).await;
        while connections.try_join_next().is_some() {}
        let left = connections.len();
        connections.shutdown().await;
        if outcome.is_ok() { Stopped::Drained } else { Stopped::Cut(left) }
    }
}

/// One connection, from the handshake to its end. Whatever goes wrong here concerns this peer only.
async fn connection(
    app: Arc<App>,
    router: Router,
    watcher: Watcher,
    stream: TcpStream,
    address: SocketAddr,
    slot: Slot,
) {
    let limits = &app.config.limits;
    let acceptor = TlsAcceptor::from(app.tls.current());
    let _ = stream.set_nodelay(true);
    let stream = tokio::select! {
        handshake = timeout(limits.handshake_timeout.into(), acceptor.accept(stream)) => match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, error = chain(&error), "handshake failed");
                return count("handshake_failed");
            }
            Err(_) => return count("handshake_timeout"),
        },
        () = app.lifecycle.stopping() => return,
    };
    count("accepted");
    let peer = Peer { address, identity: identity(&app, &stream) };
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from(limits.header_timeout))
        .max_buf_size(limits.header_bytes_max as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from(limits.idle_timeout))
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.header_bytes_max);
    let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%address, error = chain(error.as_ref()), "connection ended");
    }
    drop(slot);
}

/// Who is at the other end: the TLS stack has verified the chain's signatures, here our own rules are applied.
fn identity(app: &App, stream: &TlsStream<TcpStream>) -> PeerIdentity {
    let Some(chain) = stream.get_ref().1.peer_certificates().filter(|chain| !chain.is_empty()) else {
        return PeerIdentity::Anonymous;
    };
    match app.anchors.verify_client(chain, app.now()) {
        Ok(verified) => PeerIdentity::Verified(Arc::new(verified)),
        Err(error) => PeerIdentity::Refused(self::chain(&error).into()),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("sordino_connections_total", "outcome" => outcome).increment(1);
}

/// A connection that died before it was accepted is nobody's problem; no descriptors left is ours, and passes.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(error = chain(error), "cannot accept connections; trying again");
        sleep(ACCEPT_PAUSE).await;
    }
}

const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// For the answer to an HTTP/2 ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
