//! The traffic half of the proxy as the rest of the program sees it: start it, give it slices,
//! identity and endpoints, drain it. Knows nothing about where those come from.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mesh_bundle::slice::{Label, Slice};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::{ClientAuth, Credentials};
use mesh_daemon::telemetry::Metrics;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::access_log::AccessLog;
use crate::connections::Connections;
use crate::gateway::proxy_protocol::TrustedProxies;
use crate::gateway::sockets::{Purpose, Socket, Sockets};
use crate::http::metrics::RequestMetrics;
use crate::http::mirrors::Mirrors;
use crate::http::rate_limit::RateLimits;
use crate::limits::Limits;
use crate::listener::{self, Inherited, Places};
use crate::secrets::Secrets;
use crate::tables::{Building, Tables, TablesError};
use crate::tcp::metrics::TcpMetrics;
use crate::traces::Exporters;
use crate::upstream::connect::{MESH_HTTP1, MESH_HTTP2, MESH_TCP};
use crate::upstream::metrics::UpstreamMetrics;

mod accepting;
mod background;
mod drain;
mod memory;
mod opening;
mod plane;
mod settings;
mod shown;

use accepting::Accepting;
use drain::{DrainMetrics, Endings};
pub(crate) use drain::{DrainPlan, DrainReport};
use opening::{Opened, With};
pub(crate) use plane::{InPlaintext, Plane};
pub(crate) use settings::{AccessLogTarget, BoundPorts, DataPlaneSettings, Intercept, PortBinding};

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
    endings: Endings,
    drained: DrainMetrics,
    secrets: Secrets,
    stand_in: Option<SocketAddr>,
    intercepts: bool,
    sockets: Sockets,
    accepting: Accepting,
    /// What a listener needs beyond its socket.
    places: Arc<Places>,
    handshakes: Arc<Semaphore>,
    /// Gone once it has drained. Its threads are the traffic's alone.
    runtime: Mutex<Option<Runtime>>,
}

impl DataPlane {
    /// Opens the listeners, or takes those that were handed over. Nothing is accepted before [`DataPlane::accept`]; until
    /// the first swap every request is answered `no_config`, and without a certificate inbound handshakes fail and outbound
    /// calls are answered `tls_failure`. `credentials` is shared: TLS follows whatever is set there.
    pub(crate) fn open(
        settings: DataPlaneSettings,
        credentials: Credentials,
        metrics: &Metrics,
        inherited: &Arc<Inherited>,
    ) -> io::Result<Arc<Self>> {
        let DataPlaneSettings {
            outbound,
            intercept,
            ports,
            listen,
            trusted_proxies,
            secrets,
            stand_in,
            labels,
            access_log,
            limits,
            log,
            instance,
            istio_metrics,
            workers,
        } = settings;
        let server = credentials
            .server_config(ClientAuth::Required, &[MESH_HTTP2, MESH_HTTP1, MESH_TCP])
            .map_err(io::Error::other)?;
        let request_metrics = RequestMetrics::register(metrics);
        let access_log = AccessLog::open(
            &access_log,
            log,
            limits.access_log_lines,
            request_metrics.log_dropped.clone(),
        )?;
        let tcp_metrics = TcpMetrics::register(metrics);
        if istio_metrics {
            request_metrics.tell_as_istio(metrics);
            tcp_metrics.tell_as_istio(metrics);
        }
        let plane = Arc::new(Plane::new(
            credentials,
            (request_metrics, tcp_metrics),
            access_log,
            Exporters::register(metrics, instance, limits.spans),
            TrustedProxies(trusted_proxies),
            Arc::clone(&limits),
            (
                UpstreamMetrics::register(metrics),
                labels,
                RateLimits::register(metrics),
                Access::register(metrics),
                Mirrors::register(metrics),
            ),
        ));
        let connections_max = listener::connections_max(limits.connections);
        let places = || Places::new(connections_max);
        let inbound_places = places();
        let outbound_places = places();
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let intercepts = intercept.is_some();
        let with = With {
            plane: &plane,
            inherited,
            tls: server,
            handshakes: Arc::clone(&handshakes),
            outbound_places: Arc::clone(&outbound_places),
            inbound_places: Arc::clone(&inbound_places),
        };
        let Opened { bound, listeners } = opening::open(outbound, intercept, &ports, with)?;
        let runtime = background::runtime(workers)?;
        metrics.watch_runtime(runtime.handle());
        metrics.register_collector(Box::new(shown::Endpoints(Arc::downgrade(&plane))));
        // These two end with the runtime.
        let all_places = [outbound_places, Arc::clone(&inbound_places)];
        runtime.spawn(memory::watch(Arc::clone(&plane), all_places));
        runtime.spawn(background::sweep(Arc::clone(&plane)));
        runtime.spawn(background::look_at_pools(Arc::clone(&plane)));
        runtime.spawn(background::check_health(Arc::clone(&plane)));
        runtime.spawn(background::resolve_names(Arc::clone(&plane)));
        runtime.spawn(background::fetch_keys(Arc::clone(&plane)));
        Ok(Arc::new(Self {
            plane,
            bound,
            endings: Endings::default(),
            drained: DrainMetrics::register(metrics),
            secrets,
            stand_in,
            intercepts,
            sockets: Sockets::new(listen, Arc::clone(inherited)),
            accepting: Accepting::new(listeners),
            places: inbound_places,
            handshakes,
            runtime: Mutex::new(Some(runtime)),
        }))
    }

    /// Its bounds.
    pub(crate) fn limits(&self) -> &Limits {
        &self.plane.limits
    }

    /// The addresses that were opened.
    pub(crate) fn bound(&self) -> &BoundPorts {
        &self.bound
    }

    /// The connections that are open.
    pub(crate) fn connections(&self) -> &Connections {
        &self.plane.connections
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
                rate_limits: &plane.rate_limits,
                access: &plane.access,
                metrics: &plane.metrics,
                exporters: &plane.exporters,
                secrets: &self.secrets,
                stand_in: self.stand_in,
                intercepts: self.intercepts,
                trusted_proxies: &plane.trusted_proxies,
            },
        )?;
        let open = |purpose: Purpose| {
            let opened = self.sockets.open(purpose);
            opened.map_err(|source| PrepareError::Listen {
                port: purpose.port(),
                source,
            })
        };
        let of_gateways = tables.entries().ports().map(Purpose::Gateway);
        let of_callees = tables.listened().map(Purpose::Callee);
        let sockets = of_gateways
            .chain(of_callees)
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
        plane.policy_has_changed();
        tables.settle(&plane.budgets, plane.directory.pools());
        plane.pools_changed.send_replace(());
        plane.names_changed.notify_one();
        plane.idle_changed.notify_one();
        plane.set_tracing(tables.is_tracing());
        // Not on the clock: taking large tables apart.
        drop(before);
        took
    }

    /// Refuses every request, in both directions, until the next swap.
    pub(crate) fn deny_all(&self) {
        self.plane.denying.store(true, Ordering::Release);
        self.plane.policy_has_changed();
    }

    /// Judges the peer of every live connection again and cuts those that are not trusted any
    /// more; to be called whenever trust or revocations were set.
    pub(crate) fn recheck_peers(&self) {
        self.plane.directory.shared().recheck.send_replace(());
    }

    /// What is served, with what is counted of it.
    pub(crate) fn state(&self) -> Option<(Arc<Tables>, RateLimits)> {
        let tables = self.plane.tables()?;
        Some((tables, self.plane.rate_limits.clone()))
    }

    /// Replaces all endpoints that came beside the slices.
    pub(crate) fn set_endpoints(&self, sets: Vec<EndpointSet>) {
        self.plane.directory.feed(sets);
        self.plane.refresh_endpoints();
    }

    fn take_runtime(&self) -> Option<Runtime> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        runtime.take()
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.take_runtime() {
            // A runtime may not be waited for from within another one.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
