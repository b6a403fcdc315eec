//! The listeners that are not traffic: metrics, readiness, and the admin socket.

pub(crate) mod pools;
mod query;
mod routes;
mod served;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, StatusCode};
use mesh_daemon::admin::{AdminResponse, AdminSocket, Routes, SocketHandle, serve_tcp, serve_unix};
use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::telemetry::{self, Metrics};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::args::RunArguments;
use crate::connections::Shown;
use crate::data_plane::{BoundPorts, DataPlane};
use crate::limits;
use crate::listener::{Inherited, cannot_listen};
use crate::subscribe::view::{State, View};

use query::Query;
use served::ServedSlice;

/// Bound, and not serving yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    metrics: TcpListener,
    health: TcpListener,
    admin: AdminSocket,
}

/// What is needed to hand them over.
#[derive(Debug)]
pub(crate) struct ListenersHandle {
    metrics: OwnedFd,
    health: OwnedFd,
    admin: SocketHandle,
}

impl ListenersHandle {
    /// Copies of all of them, by what they are for.
    pub(crate) fn copies(&self) -> io::Result<[(String, OwnedFd); 3]> {
        Ok([
            (METRICS.to_owned(), self.metrics.try_clone()?),
            (HEALTH.to_owned(), self.health.try_clone()?),
            (ADMIN.to_owned(), self.admin.copy()?),
        ])
    }

    /// Takes the file of the admin socket over.
    pub(crate) fn keep(&self) {
        self.admin.keep();
    }

    /// Leaves the file of the admin socket to the process that has a copy.
    pub(crate) fn leave(&self) {
        self.admin.leave();
    }
}

/// Names of what listens.
const METRICS: &str = "metrics";
const HEALTH: &str = "health";
const ADMIN: &str = "admin";

/// What was opened, as `--ports` writes it and `GET /config` shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OpenedPorts {
    outbound: String,
    inbound: BTreeMap<u16, String>,
    /// Where redirected connections are taken that come in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    intercepted: Vec<String>,
    metrics: String,
    health: String,
}

/// `GET /config`.
#[derive(Serialize)]
struct Config<'a> {
    #[serde(flatten)]
    state: State,
    pid: u32,
    ports: &'a OpenedPorts,
    /// Of a gateway, by the port that policy speaks of.
    listeners: BTreeMap<u16, SocketAddr>,
    /// For callees, by the address that policy speaks of.
    callee_listeners: BTreeMap<SocketAddr, SocketAddr>,
    /// Bounds, by the names that `--limit` has for them.
    limits: BTreeMap<&'static str, String>,
}

async fn listen(inherited: &Inherited, name: &str, address: SocketAddr) -> io::Result<TcpListener> {
    if let Some(listener) = inherited.listener(name, address) {
        return TcpListener::from_std(listener);
    }
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| cannot_listen(address, source))
}

impl Listeners {
    /// Opens all of them, or takes those that were handed over.
    pub(crate) async fn bind(arguments: &RunArguments, inherited: &Inherited) -> io::Result<Self> {
        let admin = match inherited.socket(ADMIN) {
            Some(socket) => AdminSocket::inherited(socket, &arguments.admin),
            None => AdminSocket::bind(&arguments.admin),
        };
        Ok(Self {
            metrics: listen(inherited, METRICS, arguments.metrics).await?,
            health: listen(inherited, HEALTH, arguments.health).await?,
            admin: admin.map_err(|source| cannot_listen(arguments.admin.display(), source))?,
        })
    }

    /// To hand them over while they are served.
    pub(crate) fn handle(&self) -> io::Result<ListenersHandle> {
        Ok(ListenersHandle {
            metrics: self.metrics.as_fd().try_clone_to_owned()?,
            health: self.health.as_fd().try_clone_to_owned()?,
            admin: self.admin.handle()?,
        })
    }

    /// What is open, with what the data plane opened.
    pub(crate) fn opened(&self, bound: &BoundPorts) -> io::Result<OpenedPorts> {
        Ok(OpenedPorts {
            outbound: bound.outbound.to_string(),
            inbound: bound
                .inbound
                .iter()
                .map(|(port, address)| (*port, address.to_string()))
                .collect(),
            intercepted: bound
                .intercepted
                .iter()
                .map(SocketAddr::to_string)
                .collect(),
            metrics: self.metrics.local_addr()?.to_string(),
            health: self.health.local_addr()?.to_string(),
        })
    }

    /// Serves until told to drain. `asked` is woken by `POST /drain`.
    pub(crate) fn serve(
        self,
        served: Served,
        opened: OpenedPorts,
        asked: Arc<Notify>,
        drain: &DrainWatcher,
    ) -> JoinSet<()> {
        let Served {
            view,
            metrics,
            data_plane,
            store,
        } = served;
        let slices = ServedSlice::new(view.clone(), &store);
        let (of_slice, of_routes) = (slices.clone(), slices);
        let connections = Arc::clone(&data_plane);
        let destinations = Arc::clone(&data_plane);
        let (ready, shown) = (view.clone(), view.clone());
        let config = move |_| {
            let config = Config {
                state: view.get(),
                pid: std::process::id(),
                ports: &opened,
                listeners: data_plane.listeners(),
                callee_listeners: data_plane.callee_listeners(),
                limits: data_plane.limits().shown(),
            };
            let answer = AdminResponse::json(&config);
            async move { answer }
        };
        let endpoints = move |_| {
            let answer = AdminResponse::json(&shown.endpoints());
            async move { answer }
        };
        let (admin_ready, health_ready) = (ready.clone(), ready);
        let admin = Routes::new()
            .at(Method::GET, "/config", config)
            .at(Method::GET, "/endpoints", endpoints)
            .at(Method::GET, "/pools", move |request| {
                let answer = pools::pools(&destinations, &request.query);
                async move { answer }
            })
            .at(Method::GET, "/slice", move |request| {
                served::slice(of_slice.clone(), request.query)
            })
            .at(Method::GET, "/routes", move |request| {
                routes::routes(of_routes.clone(), request.query)
            })
            .at(Method::GET, "/connections", move |request| {
                let answer = self::connections(&connections, &request.query);
                async move { answer }
            })
            .at(Method::GET, "/log-level", |_| async { log_level() })
            .at(Method::POST, "/log-level", |request| async move {
                set_log_level(&request.body)
            })
            .ready(move || admin_ready.ready())
            .at(Method::POST, "/drain", move |_| {
                asked.notify_one();
                async { AdminResponse::text(StatusCode::ACCEPTED, "draining\n") }
            })
            .metrics(metrics.clone());
        let mut servers = JoinSet::new();
        let health = Routes::new().ready(move || health_ready.ready());
        servers.spawn(serve_tcp(
            self.metrics,
            Routes::new().metrics(metrics),
            drain.clone(),
        ));
        servers.spawn(serve_tcp(self.health, health, drain.clone()));
        servers.spawn(serve_unix(self.admin, admin, drain.clone()));
        servers
    }
}

/// What the listeners show.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) view: View,
    pub(crate) metrics: Metrics,
    pub(crate) data_plane: Arc<DataPlane>,
    /// Its folder.
    pub(crate) store: PathBuf,
}

/// `GET /connections`: those that are open, the oldest first.
fn connections(data_plane: &DataPlane, query: &str) -> AdminResponse {
    let page = Query::read(query, &["after", "limit"]).and_then(|query| {
        let max = limits::SHOWN_ROWS_MAX as u64;
        Ok((
            query.number("after", 0, u64::MAX)?,
            query.number("limit", max, max)?.max(1),
        ))
    });
    let (after, limit) = match page {
        Ok(page) => page,
        Err(refused) => return refused,
    };
    let limit = usize::try_from(limit).unwrap_or(limits::SHOWN_ROWS_MAX);
    let (connections, total) = data_plane.connections().page(after, limit);
    let next = (connections.len() == limit)
        .then(|| connections.last().map(|last| last.id))
        .flatten();
    AdminResponse::json(&ConnectionsPage {
        connections,
        total,
        next,
    })
}

/// A part of the connections that are open.
#[derive(Serialize)]
struct ConnectionsPage {
    connections: Vec<Shown>,
    total: usize,
    /// The last one of this page, if there may be more after it.
    next: Option<u64>,
}

/// `GET /log-level`.
fn log_level() -> AdminResponse {
    match telemetry::current_log_filter() {
        Some(filter) => AdminResponse::text(StatusCode::OK, filter + "\n"),
        None => AdminResponse::text(StatusCode::SERVICE_UNAVAILABLE, "nothing is logged\n"),
    }
}

/// `POST /log-level`, the filter as the body.
fn set_log_level(body: &[u8]) -> AdminResponse {
    let filter = String::from_utf8_lossy(body);
    let filter = filter.trim();
    match telemetry::set_log_filter(filter) {
        Ok(()) => {
            // Whatever the filter: who changed it should find out when that was.
            tracing::warn!(filter, "what is logged was changed");
            AdminResponse::text(StatusCode::OK, format!("{filter}\n"))
        }
        Err(why) => query::refused(format!("{filter:?} is no filter: {why}")),
    }
}

/// Writes what was opened; whoever waits for the file sees all of it or nothing.
pub(crate) fn write_ports(path: &Path, opened: &OpenedPorts) -> io::Result<()> {
    let aside = path.with_extension("tmp");
    std::fs::write(
        &aside,
        serde_json::to_vec(opened).map_err(io::Error::other)?,
    )?;
    std::fs::rename(&aside, path)
}
