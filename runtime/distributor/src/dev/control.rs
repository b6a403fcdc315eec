//! The control socket of `meshd dev`: what the mesh does, and breaking it on purpose.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use mesh_daemon::admin::{AdminRequest, AdminResponse, AdminSocket, Routes, serve_unix};
use mesh_daemon::drain;
use serde::Serialize;

use super::Shared;
use super::traffic::EdgeCount;

/// One edge of `GET /traffic`.
#[derive(Serialize)]
struct Edge {
    from: String,
    to: String,
    #[serde(flatten)]
    count: EdgeCount,
}

/// Opens the socket and serves it for as long as the process lives.
pub(super) fn serve(path: &Path, shared: &Arc<Shared>) -> io::Result<()> {
    let socket = AdminSocket::bind(path)?;
    let routes = Routes::new()
        .at(
            Method::GET,
            "/traffic",
            with(shared, |shared| async move {
                let counts = shared.traffic.lock().await.counts();
                let edges: Vec<Edge> = counts
                    .into_iter()
                    .map(|((from, to), count)| Edge { from, to, count })
                    .collect();
                AdminResponse::json(&edges)
            }),
        )
        .at(
            Method::GET,
            "/proxies",
            with(shared, |shared| async move {
                AdminResponse::json(&shared.fleet.lock().await.states().await)
            }),
        )
        .at(
            Method::POST,
            "/traffic/pause",
            with(shared, |shared| async move {
                shared.traffic.lock().await.set_running(false);
                done()
            }),
        )
        .at(
            Method::POST,
            "/traffic/resume",
            with(shared, |shared| async move {
                shared.traffic.lock().await.set_running(true);
                done()
            }),
        )
        .at(
            Method::POST,
            "/distributor/kill",
            with(shared, |shared| async move {
                shared.distributor.kill();
                done()
            }),
        )
        .at(
            Method::POST,
            "/distributor/start",
            with(shared, |shared| async move {
                shared.distributor.resume();
                done()
            }),
        );
    let (trigger, watcher) = drain::channel();
    tokio::spawn(async move {
        serve_unix(socket, routes, watcher).await;
        // Dropped earlier, it would end the server.
        drop(trigger);
    });
    Ok(())
}

fn done() -> AdminResponse {
    AdminResponse::text(StatusCode::OK, "done\n")
}

fn with<F, R>(
    shared: &Arc<Shared>,
    answer: F,
) -> impl Fn(AdminRequest) -> BoxFuture<'static, AdminResponse> + Send + Sync + 'static + use<F, R>
where
    F: Fn(Arc<Shared>) -> R + Send + Sync + 'static,
    R: Future<Output = AdminResponse> + Send + 'static,
{
    // Whoever lives longer than the mesh must not keep it running.
    let shared = Arc::downgrade(shared);
    move |_request| match shared.upgrade() {
        Some(shared) => answer(shared).boxed(),
        None => {
            let ending = AdminResponse::text(StatusCode::SERVICE_UNAVAILABLE, "ending\n");
            std::future::ready(ending).boxed()
        }
    }
}
