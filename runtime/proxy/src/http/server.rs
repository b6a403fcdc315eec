//! One downstream connection: hyper's codec over the guarded bytes, until it ends, drains, lies
//! idle too long or its peer is no longer trusted.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use http::header::HeaderValue;
use http::request;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::Usage;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::gather::Gather;
use super::metrics::{EdgeLabels, EdgeMetrics, Reporter};
use super::record::Record;
use super::sanitise::Rule;
use super::stack;
use super::stream::StreamExecutor;
use super::upgrade::Tunnels;
use super::wire::{Guarded, Refused, WireState};
use crate::aside::Aside;
use crate::data_plane::Plane;
use crate::gateway::tls::Terms;
use crate::limits::{self, Limits};
use crate::listener::Leaving;
use crate::tcp::downstream::Socket;
use crate::tcp::pulse::Watched;
use crate::upstream::connect::HttpVersion;
use crate::upstream::pool::Endpoint;

/// What all requests of one downstream connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The data plane.
    pub(crate) plane: Arc<Plane>,
    /// What the bytes say.
    pub(crate) wire: Arc<WireState>,
    /// What its requests became.
    pub(crate) tunnels: Tunnels,
    /// Which way it goes.
    pub(crate) side: Side,
    /// Address of the peer.
    pub(crate) peer_ip: IpAddr,
}

/// Which way a connection goes.
#[derive(Debug)]
pub(crate) enum Side {
    /// From the local application into the mesh.
    Outbound(Outbound),
    /// From the mesh to the local application.
    Inbound(Inbound),
    /// From a client of a gateway into the mesh.
    Gateway(Entrance),
}

/// A connection of the local application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbound {
    /// Where it was going before it was redirected; none: it was made to the proxy.
    pub(crate) destination: Option<SocketAddr>,
}

/// A connection of a client to a listener of a gateway.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// The port that policy speaks of.
    pub(crate) port: u16,
    /// Whether it is TLS.
    pub(crate) tls: bool,
    /// The name that the client asked for.
    pub(crate) name: Option<String>,
    /// On which terms it was met, if it is TLS.
    pub(crate) met: Option<Box<Terms>>,
    /// Whose connection it is: the peer's, or that of whom a trusted proxy speaks.
    pub(crate) client_ip: IpAddr,
}

/// A connection of a peer to one port of a service.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// The port that policy speaks of.
    pub(crate) port: u16,
    /// Where its requests go.
    pub(crate) application: Arc<Endpoint>,
    /// Who the peer is; none: it came in plaintext.
    pub(crate) peer: Option<MeshPeer>,
    /// Counters of this caller; found at the first request.
    pub(crate) edge: OnceLock<Arc<EdgeMetrics>>,
}

/// Who a peer is, by its certificate.
#[derive(Debug)]
pub(crate) struct MeshPeer {
    /// Its identity.
    pub(crate) identity: Arc<SpiffeId>,
    /// The same for the application.
    pub(crate) header: HeaderValue,
    /// To judge the peer again.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl Connection {
    /// One of which nothing has been read.
    pub(crate) fn new(plane: Arc<Plane>, side: Side, peer_ip: IpAddr) -> Self {
        Self {
            wire: Arc::new(WireState::new(Arc::clone(&plane.limits))),
            plane,
            tunnels: Tunnels::default(),
            side,
            peer_ip,
        }
    }

    /// Which side of its calls this proxy is.
    pub(crate) fn reporter(&self) -> Reporter {
        match self.side {
            Side::Outbound(_) | Side::Gateway(_) => Reporter::Source,
            Side::Inbound(_) => Reporter::Destination,
        }
    }

    /// Begins the record of a request.
    pub(crate) fn begin(&self, head: &request::Parts) -> Box<Record> {
        Record::begin(&self.plane, &self.wire, self.reporter(), head)
    }

    /// The counters of the peer's calls to `service`.
    pub(crate) fn inbound_edge(
        &self,
        inbound: &Inbound,
        service: &str,
        identity: &SpiffeId,
    ) -> Arc<EdgeMetrics> {
        let make = || {
            self.plane.metrics.edge(EdgeLabels {
                reporter: Reporter::Destination,
                src_identity: inbound
                    .peer
                    .as_ref()
                    .map_or_else(String::new, |peer| peer.identity.to_string()),
                dst_service: service.to_owned(),
                route: String::new(),
                subsets: Vec::new(),
                dst_identities: vec![identity.to_string()],
            })
        };
        let edge = inbound.edge.get_or_init(make);
        if edge.labels().dst_service == service {
            return Arc::clone(edge);
        }
        // A swap gave the port to another service while this connection lives.
        make()
    }

    /// Whether the peer is still to be trusted.
    fn is_trusted(&self) -> bool {
        match &self.side {
            Side::Outbound(_) | Side::Gateway(_) => true,
            Side::Inbound(inbound) => inbound.peer.as_ref().is_none_or(|peer| {
                let credentials = self.plane.credentials();
                credentials.judge_again(&peer.chain, Usage::Client).is_ok()
            }),
        }
    }
}

/// Serves one connection to its end. `recheck` is from before the handshake, so that no change of
/// trust falls in between; `reset` makes a connection end so that nobody takes it for the end of a
/// message.
pub(crate) async fn serve<IO>(
    io: IO,
    reset: fn(&Watched<IO>),
    prefix: Vec<u8>,
    version: HttpVersion,
    connection: Connection,
    mut recheck: watch::Receiver<()>,
    drain: Leaving,
) where
    IO: AsyncRead + AsyncWrite + Socket + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let wire = Arc::clone(&connection.wire);
    if let Some(seen) = drain.seen() {
        seen.carries_requests(version, &wire);
        if let Side::Inbound(Inbound {
            peer: Some(peer), ..
        }) = &connection.side
        {
            seen.is_of(&peer.identity);
        }
    }
    let open = connection.plane.metrics.connections(connection.reporter());
    open.inc();
    let serving = Arc::clone(&connection);
    let result = match version {
        HttpVersion::Http1 => {
            let io = TokioIo::new(Guarded::http1(Watched::new(io), prefix, wire).or_reset(reset));
            // hyper keeps room for a request's future as long as the connection lasts.
            let service =
                service_fn(move |request| Box::pin(stack::serve(Arc::clone(&serving), request)));
            let serving = http1_builder(&connection.plane.limits).serve_connection(io, service);
            run(
                pin!(serving.with_upgrades()),
                &connection,
                &mut recheck,
                drain.clone(),
                (limits::DRAIN_GRACE, Gather::NOTHING),
            )
            .await
        }
        HttpVersion::Http2 => {
            let told = Arc::clone(&connection);
            let refused = Refused(Box::new(move |rule| {
                told.plane
                    .refused_bytes(told.reporter(), rule, told.peer_ip);
            }));
            let io = TokioIo::new(Guarded::http2(io, prefix, wire, refused));
            // Its streams are moved into tasks of their own, more than once.
            let service =
                service_fn(move |request| Box::pin(stack::serve(Arc::clone(&serving), request)));
            let serving = http2_builder(&connection.plane.limits).serve_connection(io, service);
            // GOAWAY says which requests are still taken.
            run(
                pin!(serving),
                &connection,
                &mut recheck,
                drain.clone(),
                (Duration::ZERO, Gather::FRAMES),
            )
            .await
        }
    };
    if let Err(error) = result {
        ended_badly(&connection, &error);
    }
    if let Some(limit) = connection.wire.met() {
        connection.plane.metrics.limit_reached(limit);
    }
    let is_cut = || !connection.is_trusted();
    connection.tunnels.finish(recheck, is_cut).await;
    open.dec();
    drop(drain);
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // `Guarded` times heads and idleness, with one timer per connection.
        .header_read_timeout(None)
        // `Guarded` bounds heads, and what is read beside one is not its own.
        .max_buf_size(limits.head_bytes + limits::READ_BYTES)
        // The end of what a client sends is its disappearance, and cancels its request upstream; `Guarded` tells it of
        // nobody who only half-closes.
        .half_close(false);
    builder
}

fn http2_builder(limits: &Limits) -> http2::Builder<StreamExecutor> {
    // Who has all streams open may have to take all of them back at once, before one of them was looked at: a proxy
    // whose clients have gone does.
    let resets = limits.streams.saturating_add(limits.pending_resets);
    let mut builder = http2::Builder::new(StreamExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::number(limits.streams))
        .initial_stream_window_size(limits::number(limits.stream_window_bytes))
        .initial_connection_window_size(limits::number(limits.connection_window_bytes))
        .max_frame_size(limits::FRAME_BYTES_MAX)
        // What is over its bound, but not by far, is refused with a reason.
        .max_header_list_size(limits::number(limits.head_bytes.saturating_mul(2)))
        .max_send_buf_size(limits.stream_buffer_bytes)
        .max_local_error_reset_streams(limits.local_resets)
        .max_pending_accept_reset_streams(resets)
        .enable_connect_protocol()
        .keep_alive_interval(limits.ping_every)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// What hyper's two kinds of connections have in common.
trait Serving: Future<Output = hyper::Result<()>> {
    /// Takes no further request: `Connection: close`, or GOAWAY.
    fn finish(self: Pin<&mut Self>);
}

impl<I, S> Serving for http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Serving for http2::Connection<I, S, E>
where
    Self: Future<Output = hyper::Result<()>>,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// `grace` is how long a connection is kept after a drain began.
async fn run<S: Serving>(
    mut serving: Pin<&mut S>,
    connection: &Connection,
    recheck: &mut watch::Receiver<()>,
    mut drain: Leaving,
    (grace, mut gather): (Duration, Gather),
) -> hyper::Result<()> {
    let leaving = async {
        drain.draining().await;
        // Whoever asks meanwhile is told with the answer not to ask again.
        tokio::time::sleep(grace).await;
    };
    let mut leaving = pin!(leaving);
    let mut cut = connection.plane.cut();
    let mut finishing = false;
    let mut was_idle = false;
    // `Guarded` ends idle HTTP/1 connections by itself; HTTP/2 wants to be told with GOAWAY.
    let half = connection.plane.limits.idle_timeout / 2;
    let mut idle = interval_at(Instant::now() + half, half);
    loop {
        let may_leave = !finishing;
        let mut news = pin!(async {
            tokio::select! {
                () = &mut leaving, if may_leave => News::Leave,
                () = cut.draining() => News::Cut,
                changed = recheck.changed() => News::Recheck(changed.is_ok()),
                _ = idle.tick() => News::Tick,
            }
        });
        let news = tokio::select! {
            biased;
            result = poll_fn(|cx| {
                if gather.gives_way(cx) {
                    return Poll::Pending;
                }
                serving.as_mut().poll(cx)
            }) => return result,
            news = Aside::new(news.as_mut()) => news,
        };
        match news {
            News::Leave => {
                finishing = true;
                serving.as_mut().finish();
            }
            News::Cut => {
                if connection.wire.in_flight() > 0 {
                    connection.wire.break_off();
                }
                return Ok(());
            }
            News::Recheck(goes_on) => {
                if !goes_on || !connection.is_trusted() {
                    tracing::info!(peer = %connection.peer_ip, "connection cut: peer is not trusted any more");
                    return Ok(());
                }
            }
            News::Tick => {
                let is_idle = connection.wire.in_flight() == 0;
                if is_idle && was_idle && !finishing {
                    connection.wire.meet("idle_timeout");
                    finishing = true;
                    serving.as_mut().finish();
                }
                was_idle = is_idle;
            }
        }
    }
}

/// What a connection hears of beside its bytes.
enum News {
    /// It is time to finish.
    Leave,
    /// It is too late for that.
    Cut,
    /// Peers are judged again; false: nobody will say so any more.
    Recheck(bool),
    /// Time has passed.
    Tick,
}

/// Counts what never became a request.
fn ended_badly(connection: &Connection, error: &hyper::Error) {
    let broken = connection.wire.broken_connection();
    // The wire lets nothing through that hyper could not read, or this would be a fault of ours.
    let unread = || error.is_parse().then_some(Rule::Malformed);
    let Some(rule) = broken.or_else(unread).or_else(|| by_http2(error)) else {
        tracing::debug!(%error, "downstream connection ended");
        return;
    };
    let peer = SocketAddr::new(connection.peer_ip, 0);
    connection
        .plane
        .refused_bytes(connection.reporter(), rule, peer.ip());
}

/// What h2 ended a connection for.
fn by_http2(error: &hyper::Error) -> Option<Rule> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<h2::Error>() {
            let is_ours = error.is_go_away() && !error.is_remote();
            return match error.reason().filter(|_| is_ours)? {
                h2::Reason::NO_ERROR => None,
                h2::Reason::ENHANCE_YOUR_CALM => Some(Rule::Http2Flood),
                _ => Some(Rule::Http2),
            };
        }
        cause = found.source();
    }
    None
}
