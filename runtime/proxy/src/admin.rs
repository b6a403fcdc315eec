//! The listeners that are not traffic: metrics, readiness, and the admin socket.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::{Method, StatusCode};
use mesh_daemon::admin::{AdminResponse, AdminSocket, Routes, serve_tcp, serve_unix};
use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::telemetry::Metrics;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::args::RunArguments;
use crate::data_plane::{BoundPorts, DataPlane};
use crate::listener::cannot_listen;
use crate::subscribe::view::{State, View};

/// Bound, and not serving yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    metrics: TcpListener,
    health: TcpListener,
    admin: AdminSocket,
}

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
    ports: &'a OpenedPorts,
    /// Of a gateway, by the port that policy speaks of.
    listeners: BTreeMap<u16, SocketAddr>,
    /// For callees, by the address that policy speaks of.
    callee_listeners: BTreeMap<SocketAddr, SocketAddr>,
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| cannot_listen(address, source))
}

impl Listeners {
    /// Opens all of them.
    pub(crate) async fn bind(arguments: &RunArguments) -> io::Result<Self> {
        Ok(Self {
            metrics: listen(arguments.metrics).await?,
            health: listen(arguments.health).await?,
            admin: AdminSocket::bind(&arguments.admin)
                .map_err(|source| cannot_listen(arguments.admin.display(), source))?,
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
        } = served;
        let (ready, shown) = (view.clone(), view.clone());
        let config = move |_| {
            let config = Config {
                state: view.get(),
                ports: &opened,
                listeners: data_plane.listeners(),
                callee_listeners: data_plane.callee_listeners(),
            };
            let answer = AdminResponse::json(&config);
            async move { answer }
        };
        let endpoints = move |_| {
            let answer = AdminResponse::json(&shown.endpoints());
            async move { answer }
        };
        let admin = Routes::new()
            .at(Method::GET, "/config", config)
            .at(Method::GET, "/endpoints", endpoints)
            .at(Method::POST, "/drain", move |_| {
                asked.notify_one();
                async { AdminResponse::text(StatusCode::ACCEPTED, "draining\n") }
            })
            .metrics(metrics.clone());
        let mut servers = JoinSet::new();
        let health = Routes::new().ready(move || ready.ready());
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
