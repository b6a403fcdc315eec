//! The traffic half of the proxy as the rest of the program sees it: start it, give it slices,
//! identity and endpoints, drain it. Knows nothing about where those come from.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use mesh_bundle::slice::{Label, Slice};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::drain::{self, DrainTrigger};
use mesh_daemon::identity::{ClientAuth, Credentials};
use mesh_daemon::telemetry::{Metrics, Reason, TlsReason};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, watch};

use crate::access_log::{AccessLog, Line};
use crate::gateway::sockets::{ListenAddress, Socket, Sockets};
use crate::http::metrics::{EdgeLabels, EdgeMetrics, Reporter, RequestMetrics};
use crate::http::sanitise::Rule;
use crate::limits;
use crate::listener::{self, Behind, Leaving};
use crate::secrets::Secrets;
use crate::tables::{Budgets, Building, Tables, TablesError};
use crate::upstream::connect::{MESH_HTTP1, MESH_HTTP2, Security};
use crate::upstream::endpoints::{Directory, resolve};
use crate::upstream::pool::{Endpoint, Shared};

/// What a proxy is told at start about its traffic.
#[derive(Clone, Debug)]
pub(crate) struct DataPlaneSettings {
    /// Where the local application sends its calls.
    pub(crate) outbound: SocketAddr,
    /// One per port of the services that this proxy stands in front of.
    pub(crate) ports: Vec<PortBinding>,
    /// Where a gateway's listeners are opened.
    pub(crate) listen: Vec<ListenAddress>,
    /// Key material by name.
    pub(crate) secrets: Secrets,
    /// What answers in place of services outside the mesh, in plaintext.
    pub(crate) stand_in: Option<SocketAddr>,
    /// Where the access log goes.
    pub(crate) access_log: AccessLogTarget,
    /// Worker threads; none: as many as the CPU quota allows.
    pub(crate) workers: Option<NonZeroUsize>,
}

/// One port of a service: where peers dial it, and where the application listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortBinding {
    /// The port that policy speaks of.
    pub(crate) service_port: u16,
    /// Where peers dial this proxy; port 0 lets the system choose.
    pub(crate) inbound: SocketAddr,
    /// Where the application listens.
    pub(crate) application: SocketAddr,
}

/// Where the access log goes.
#[derive(Clone, Debug)]
pub(crate) enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// The addresses that were opened.
#[derive(Clone, Debug)]
pub(crate) struct BoundPorts {
    /// The outbound listener.
    pub(crate) outbound: SocketAddr,
    /// The inbound listeners by port of the service.
    pub(crate) inbound: BTreeMap<u16, SocketAddr>,
}

/// Endpoints of a service that came beside the slices, as far as they may be used. They replace what
/// the slice declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointSet {
    /// The service.
    pub(crate) service: String,
    /// Labels of these endpoints.
    pub(crate) labels: Vec<Label>,
    /// Narrows the identities that the slice names; none: those.
    pub(crate) spiffe_id: Option<SpiffeId>,
    /// The port of the service that it serves, and where.
    pub(crate) addresses: Vec<(u16, SocketAddr)>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// Requests that were still running at the deadline and were cut.
    pub(crate) cut: usize,
}

/// Why a slice cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// Its tables.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The socket of a listener.
    #[error("open listener {port}")]
    Listen {
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

/// Tables that are ready to be made current.
#[derive(Debug)]
pub(crate) struct Prepared {
    tables: Arc<Tables>,
    /// What its listeners need, open already.
    sockets: Vec<Arc<Socket>>,
    /// Of the endpoints that they were built with.
    version: u64,
}

/// The running data plane.
#[derive(Debug)]
pub(crate) struct DataPlane {
    plane: Arc<Plane>,
    bound: BoundPorts,
    drain: DrainTrigger,
    secrets: Secrets,
    stand_in: Option<SocketAddr>,
    sockets: Sockets,
    /// Those that are accepted from.
    open: Mutex<Vec<Arc<Socket>>>,
    /// What a listener needs beyond its socket.
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// Gone once it has drained. Its threads are the traffic's alone.
    runtime: Mutex<Option<Runtime>>,
}

/// What the connections and requests of the data plane share.
#[derive(Debug)]
pub(crate) struct Plane {
    tables: ArcSwapOption<Tables>,
    denying: AtomicBool,
    draining: AtomicBool,
    /// What it counts.
    pub(crate) metrics: RequestMetrics,
    /// Where it writes what happened.
    pub(crate) access_log: AccessLog,
    directory: Directory,
    budgets: Budgets,
    running: AtomicUsize,
    in_flight: [Gauge; 2],
    unknown: [Arc<EdgeMetrics>; 2],
    /// Held while tables or endpoints are changed; never by a request.
    control: Mutex<()>,
    names_changed: Notify,
}

impl DataPlane {
    /// Opens the listeners and starts to serve. Until the first swap every request is answered
    /// `no_config`; without a certificate inbound handshakes fail and outbound calls are answered
    /// `tls_failure`. `credentials` is shared: TLS follows whatever is set there.
    pub(crate) fn start(
        settings: DataPlaneSettings,
        credentials: Credentials,
        metrics: &Metrics,
    ) -> io::Result<Arc<Self>> {
        let DataPlaneSettings {
            outbound,
            ports,
            listen,
            secrets,
            stand_in,
            access_log,
            workers,
        } = settings;
        let server = credentials
            .server_config(ClientAuth::Required, &[MESH_HTTP2, MESH_HTTP1])
            .map_err(io::Error::other)?;
        let request_metrics = RequestMetrics::register(metrics);
        let access_log = AccessLog::open(&access_log, request_metrics.log_dropped.clone())?;
        let outbound = listener::bind(outbound)?;
        let mut bound = BoundPorts {
            outbound: outbound.local_addr()?,
            inbound: BTreeMap::new(),
        };
        let plane = Arc::new(Plane::new(credentials, request_metrics, access_log));
        let connections_max = listener::connections_max();
        let places = || Arc::new(Semaphore::new(connections_max));
        let inbound_places = places();
        let alone = ports.is_empty();
        let mut listeners = vec![(outbound, Behind::Mesh { alone }, places())];
        let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
        for port in ports {
            let inbound = listener::bind(port.inbound)?;
            bound
                .inbound
                .insert(port.service_port, inbound.local_addr()?);
            let application = Arc::new(Endpoint::new(
                port.application,
                Security::Plain,
                Arc::clone(plane.directory.shared()),
            ));
            plane.directory.keep(&application);
            let behind = Behind::Application {
                port: port.service_port,
                application,
                tls: Arc::clone(&server),
                handshakes: Arc::clone(&handshakes),
            };
            listeners.push((inbound, behind, Arc::clone(&inbound_places)));
        }
        let runtime = runtime(workers)?;
        let (drain, watcher) = drain::channel();
        let entered = runtime.enter();
        for (listener, behind, places) in listeners {
            let listener = TcpListener::from_std(listener)?;
            let accepting = listener::accept_all(
                listener,
                behind,
                Arc::clone(&plane),
                places,
                Leaving::with_proxy(watcher.clone()),
            );
            runtime.spawn(accepting);
        }
        drop(entered);
        // These two end with the runtime.
        runtime.spawn(sweep(Arc::clone(&plane)));
        runtime.spawn(resolve_names(Arc::clone(&plane)));
        Ok(Arc::new(Self {
            plane,
            bound,
            drain,
            secrets,
            stand_in,
            sockets: Sockets::new(listen),
            open: Mutex::default(),
            places: inbound_places,
            handshakes,
            runtime: Mutex::new(Some(runtime)),
        }))
    }

    /// The addresses that were opened.
    pub(crate) fn bound(&self) -> &BoundPorts {
        &self.bound
    }

    /// Builds the tables of a slice aside. `generation` is its name in the access log.
    pub(crate) fn prepare(
        &self,
        slice: &Slice,
        generation: &str,
    ) -> Result<Prepared, PrepareError> {
        let plane = &self.plane;
        let version = plane.directory.version();
        let tables = Tables::build(
            slice,
            generation,
            &Building {
                directory: &plane.directory,
                budgets: &plane.budgets,
                metrics: &plane.metrics,
                secrets: &self.secrets,
                stand_in: self.stand_in,
            },
        )?;
        let open = |port| {
            let opened = self.sockets.open(port);
            opened.map_err(|source| PrepareError::Listen { port, source })
        };
        let sockets = tables
            .entries()
            .ports()
            .map(open)
            .collect::<Result<_, _>>()?;
        Ok(Prepared {
            tables: Arc::new(tables),
            sockets,
            version,
        })
    }

    /// Makes prepared tables current; requests that run keep those they began with. Endpoints that
    /// came beside the slices change with them, so that no request sees these with the tables of
    /// another slice; none: they stay. Returns how long the swap took.
    pub(crate) fn swap(&self, prepared: Prepared, endpoints: Option<Vec<EndpointSet>>) -> Duration {
        let plane = &self.plane;
        let Prepared {
            tables,
            sockets,
            version,
        } = prepared;
        let control = plane.lock();
        if let Some(sets) = endpoints {
            plane.directory.feed(sets);
        }
        if version != plane.directory.version() {
            tables.refresh_endpoints(&plane.directory);
        }
        let started = Instant::now();
        let before = plane.tables.swap(Some(Arc::clone(&tables)));
        plane.denying.store(false, Ordering::Release);
        let took = started.elapsed();
        self.listen(sockets);
        drop(control);
        tables.settle(&plane.budgets);
        plane.names_changed.notify_one();
        // Not on the clock: taking large tables apart.
        drop(before);
        took
    }

    /// Accepts from exactly these sockets; one that stays is not touched.
    fn listen(&self, sockets: Vec<Arc<Socket>>) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        // Without it the proxy is ending.
        let Some(runtime) = runtime.as_ref() else {
            return;
        };
        for socket in &sockets {
            let Some(listener) = socket.take() else {
                continue;
            };
            let behind = Behind::Gateway {
                port: socket.port(),
                handshakes: Arc::clone(&self.handshakes),
            };
            let leaving = Leaving::with_listener(self.drain.watcher(), socket.watch());
            let (plane, places) = (Arc::clone(&self.plane), Arc::clone(&self.places));
            let entered = runtime.enter();
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    runtime.spawn(listener::accept_all(
                        listener, behind, plane, places, leaving,
                    ));
                    tracing::info!(port = socket.port(), address = %socket.address(), "listening");
                }
                Err(error) => tracing::error!(port = socket.port(), %error, "cannot accept"),
            }
            drop(entered);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in open
            .iter()
            .filter(|old| !sockets.iter().any(|new| Arc::ptr_eq(new, old)))
        {
            tracing::info!(port = gone.port(), address = %gone.address(), "listening no more");
            gone.close();
        }
        *open = sockets;
    }

    /// The listeners of a gateway that are open, by the port that policy speaks of.
    pub(crate) fn listeners(&self) -> BTreeMap<u16, SocketAddr> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .map(|socket| (socket.port(), socket.address()))
            .collect()
    }

    /// Refuses every request, in both directions, until the next swap.
    pub(crate) fn deny_all(&self) {
        self.plane.denying.store(true, Ordering::Release);
    }

    /// Judges the peer of every live connection again and cuts those that are not trusted any
    /// more; to be called whenever trust or revocations were set.
    pub(crate) fn recheck_peers(&self) {
        self.plane.directory.shared().recheck.send_replace(());
    }

    /// Replaces all endpoints that came beside the slices.
    pub(crate) fn set_endpoints(&self, sets: Vec<EndpointSet>) {
        self.plane.directory.feed(sets);
        self.plane.refresh_endpoints();
    }

    /// Stops accepting, tells the peers, and waits until the last connection has ended, at most
    /// `limit`. Whatever is left then is cut.
    pub(crate) async fn drain(&self, limit: Duration) -> DrainReport {
        self.plane.draining.store(true, Ordering::Release);
        self.drain.finish(limit).await;
        let cut = self.plane.running();
        self.stop();
        DrainReport { cut }
    }

    fn stop(&self) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            // A runtime may not be waited for from within another one.
            runtime.shutdown_background();
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Plane {
    fn new(credentials: Credentials, metrics: RequestMetrics, access_log: AccessLog) -> Self {
        let shared = Arc::new(Shared {
            credentials,
            recheck: watch::Sender::new(()),
        });
        let each = [Reporter::Source, Reporter::Destination];
        let unknown = each.map(|reporter| {
            metrics.edge(EdgeLabels {
                reporter,
                src_identity: String::new(),
                dst_service: String::new(),
                route: String::new(),
                subsets: Vec::new(),
            })
        });
        Self {
            tables: ArcSwapOption::empty(),
            denying: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            in_flight: each.map(|reporter| metrics.in_flight(reporter)),
            metrics,
            access_log,
            directory: Directory::new(shared),
            budgets: Budgets::default(),
            running: AtomicUsize::new(0),
            unknown,
            control: Mutex::default(),
            names_changed: Notify::new(),
        }
    }

    /// The tables that a request begins with.
    pub(crate) fn tables(&self) -> Option<Arc<Tables>> {
        self.tables.load_full()
    }

    /// Whether the current slice is that of a gateway.
    pub(crate) fn is_gateway(&self) -> bool {
        let tables = self.tables.load();
        tables
            .as_ref()
            .is_some_and(|tables| tables.entries().ports().next().is_some())
    }

    /// Whether everything is refused.
    pub(crate) fn is_denying(&self) -> bool {
        self.denying.load(Ordering::Acquire)
    }

    /// Whether the proxy is ending.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What peers are judged by.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.directory.shared().credentials
    }

    /// Changes whenever peers must be judged again.
    pub(crate) fn recheck(&self) -> watch::Receiver<()> {
        self.directory.shared().recheck.subscribe()
    }

    /// Requests that run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Notes that a request began.
    pub(crate) fn begin(&self, reporter: Reporter) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.of(&self.in_flight, reporter).inc();
    }

    /// Notes that a request ended.
    pub(crate) fn end(&self, reporter: Reporter) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.of(&self.in_flight, reporter).dec();
    }

    /// The counters of requests that name nothing known.
    pub(crate) fn unknown_edge(&self, reporter: Reporter) -> Arc<EdgeMetrics> {
        Arc::clone(self.of(&self.unknown, reporter))
    }

    #[expect(clippy::unused_self, reason = "reads as what it is, one of two fields")]
    fn of<'p, T>(&self, [source, destination]: &'p [T; 2], reporter: Reporter) -> &'p T {
        match reporter {
            Reporter::Source => source,
            Reporter::Destination => destination,
        }
    }

    /// Records bytes that never became a request.
    pub(crate) fn refused_bytes(&self, reporter: Reporter, rule: Rule, peer: IpAddr) {
        self.metrics.rejected(rule);
        self.write_refusal(reporter, Reason::BadRequest(rule.as_str()), None, peer);
    }

    /// Records a peer that was not let in.
    pub(crate) fn refused_peer(&self, reason: TlsReason, peer: IpAddr) {
        self.metrics.handshake_failed("server", reason);
        self.write_refusal(
            Reporter::Destination,
            Reason::TlsFailure,
            Some(reason),
            peer,
        );
    }

    /// Records a client of a gateway with whom there is no TLS.
    pub(crate) fn refused_client(&self, peer: IpAddr) {
        let reason = TlsReason::TlsFailure;
        self.metrics.handshake_failed("gateway", reason);
        self.write_refusal(Reporter::Source, Reason::TlsFailure, Some(reason), peer);
    }

    fn write_refusal(
        &self,
        reporter: Reporter,
        reason: Reason,
        tls: Option<TlsReason>,
        peer: IpAddr,
    ) {
        if !self.access_log.is_on() {
            return;
        }
        let mut line = Line::new(SystemTime::now());
        line.text("reporter", Some(reporter.as_str().as_bytes()));
        line.text("reason", Some(reason.to_string().as_bytes()));
        line.text("tls_reason", tls.map(|reason| reason.as_str().as_bytes()));
        line.text("peer", Some(peer.to_string().as_bytes()));
        self.access_log.write(line.finish());
    }

    /// Works the endpoints of the current tables out again.
    fn refresh_endpoints(&self) {
        let _control = self.lock();
        if let Some(tables) = self.tables() {
            tables.refresh_endpoints(&self.directory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread per core that the process may use, by its quota.
fn runtime(workers: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let workers = match workers {
        Some(workers) => workers,
        // Reads the cgroup's quota and the affinity mask.
        None => std::thread::available_parallelism()?,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.get())
        // Only names are resolved there.
        .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
        .thread_name("traffic")
        .enable_all()
        .build()
}

#[expect(clippy::infinite_loop, reason = "it ends with its runtime")]
async fn sweep(plane: Arc<Plane>) {
    loop {
        tokio::time::sleep(limits::POOL_SWEEP_EVERY).await;
        plane.directory.sweep();
    }
}

/// Keeps the names of declared endpoints resolved.
async fn resolve_names(plane: Arc<Plane>) {
    loop {
        let names = plane
            .tables()
            .map(|tables| tables.dns_names())
            .unwrap_or_default();
        let mut news = false;
        for (name, port) in names {
            if let Some(addresses) = resolve(&name, port).await {
                news |= plane.directory.resolved(&name, port, &addresses);
            }
        }
        if news {
            plane.refresh_endpoints();
        }
        tokio::select! {
            () = plane.names_changed.notified() => {}
            () = tokio::time::sleep(limits::DNS_REFRESH) => {}
        }
    }
}

#[cfg(test)]
mod tests;
