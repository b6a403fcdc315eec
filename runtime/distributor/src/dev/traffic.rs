//! The trickle of demo traffic: for each declared and permitted call, requests that the caller's
//! application would send, counted by who answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mesh_syntax::Witness;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::client;

/// Connections that each edge uses, so that one slow answer does not hide the others.
const CONNECTIONS: u32 = 4;
/// Beyond any timeout that a demo's policy sets.
const PATIENCE: Duration = Duration::from_secs(30);
/// An echo answers with far less.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What has been seen on one edge since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct EdgeCount {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) versions: BTreeMap<String, u64>,
    pub(super) instances: BTreeMap<String, u64>,
    pub(super) last_failure: Option<String>,
}

/// One edge that carries demo traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Where the caller's application sends its requests, or a gateway's listener.
    pub(super) to: SocketAddr,
    /// The certificate that a listener shows; none: plaintext.
    pub(super) tls: Option<PathBuf>,
    /// Whether it begins with the header of the PROXY protocol.
    pub(super) is_proxied: bool,
    pub(super) request: Witness,
}

/// Caller and callee.
pub(super) type EdgeName = (String, String);

/// All demo traffic.
#[derive(Debug)]
pub(super) struct Traffic {
    counts: Arc<Mutex<BTreeMap<EdgeName, EdgeCount>>>,
    edges: BTreeMap<EdgeName, (watch::Sender<Edge>, JoinSet<()>)>,
    running: watch::Sender<bool>,
    period: Duration,
}

impl Traffic {
    /// No edges yet; `rate` requests per second on each.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            counts: Arc::default(),
            edges: BTreeMap::new(),
            running: watch::Sender::new(true),
            period: Duration::from_secs(u64::from(CONNECTIONS)) / rate.max(1),
        }
    }

    /// Sends on exactly these edges from now on; an edge that stays keeps its connections.
    pub(super) fn set_edges(&mut self, edges: BTreeMap<EdgeName, Edge>) {
        self.edges.retain(|name, _| edges.contains_key(name));
        for (name, edge) in edges {
            if let Some((current, _)) = self.edges.get(&name) {
                current.send_if_modified(|old| {
                    let changed = *old != edge;
                    *old = edge;
                    changed
                });
                continue;
            }
            let sender = watch::Sender::new(edge);
            let mut connections = JoinSet::new();
            for _ in 0..CONNECTIONS {
                connections.spawn(send_for_ever(
                    name.clone(),
                    sender.subscribe(),
                    self.running.subscribe(),
                    self.period,
                    Arc::clone(&self.counts),
                ));
            }
            self.edges.insert(name, (sender, connections));
        }
    }

    /// Stops sending, or goes on.
    pub(super) fn set_running(&self, running: bool) {
        self.running.send_replace(running);
    }

    /// What has been seen so far.
    pub(super) fn counts(&self) -> BTreeMap<EdgeName, EdgeCount> {
        lock(&self.counts).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere leaves counts in it, which are still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send_for_ever(
    name: EdgeName,
    edge: watch::Receiver<Edge>,
    mut running: watch::Receiver<bool>,
    period: Duration,
    counts: Arc<Mutex<BTreeMap<EdgeName, EdgeCount>>>,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = Connection::default();
    loop {
        ticks.tick().await;
        if running.wait_for(|running| *running).await.is_err() {
            return;
        }
        let edge = edge.borrow().clone();
        let seen = tokio::time::timeout(PATIENCE, connection.send(&edge))
            .await
            .unwrap_or_else(|_elapsed| Err(format!("no answer within {PATIENCE:?}")));
        if seen.is_err() {
            connection = Connection::default();
        }
        let mut counts = lock(&counts);
        let count = counts.entry(name.clone()).or_default();
        count.requests += 1;
        match seen {
            Ok(answer) => {
                *count.versions.entry(answer.version).or_default() += 1;
                *count.instances.entry(answer.instance).or_default() += 1;
            }
            Err(failure) => {
                count.failed += 1;
                count.last_failure = Some(failure);
            }
        }
    }
}

/// Who answered.
struct Answer {
    version: String,
    instance: String,
}

/// A kept connection to the caller's proxy.
#[derive(Default)]
struct Connection(Option<SendRequest<Empty<Bytes>>>);

impl Connection {
    async fn send(&mut self, edge: &Edge) -> Result<Answer, String> {
        let request = request(&edge.request).map_err(|error| error.to_string())?;
        let response = match self.try_send(edge, request.clone()).await {
            // The proxy closed a kept connection before the request was on it: nothing was sent.
            Err(error) if error.is_canceled() => self.try_send(edge, request).await,
            sent => sent,
        };
        read(response.map_err(|error| format!("own proxy: {error}"))?).await
    }

    async fn try_send(
        &mut self,
        edge: &Edge,
        request: Request<Empty<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let open = self.0.take().filter(|open| !open.is_closed());
        let mut sender = match open {
            Some(sender) => sender,
            None => connect(edge).await?,
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        self.0 = Some(sender);
        Ok(response)
    }
}

async fn connect(edge: &Edge) -> hyper::Result<SendRequest<Empty<Bytes>>> {
    loop {
        let Ok(stream) = TcpStream::connect(edge.to).await else {
            // The caller's own proxy restarts; its application would wait for it, too.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let stream = match introduce(stream, edge).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, to = %edge.to, "a gateway takes no PROXY protocol");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Some(certificate) = &edge.tls else {
            return shake_hands(stream).await;
        };
        match client::connect(stream, &edge.request.host, certificate).await {
            Ok(stream) => return shake_hands(stream).await,
            Err(error) => {
                tracing::warn!(%error, to = %edge.to, "no TLS with a gateway");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Says for whom it speaks, where the gateway asks for that.
async fn introduce(mut stream: TcpStream, edge: &Edge) -> std::io::Result<TcpStream> {
    if edge.is_proxied {
        let (from, to) = (stream.local_addr()?, stream.peer_addr()?);
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        let header = format!(
            "PROXY {family} {} {} {} {}\r\n",
            from.ip(),
            to.ip(),
            from.port(),
            to.port()
        );
        stream.write_all(header.as_bytes()).await?;
    }
    Ok(stream)
}

async fn shake_hands<IO>(stream: IO) -> hyper::Result<SendRequest<Empty<Bytes>>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors show up where requests are sent.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn request(witness: &Witness) -> http::Result<Request<Empty<Bytes>>> {
    let query = witness
        .query
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join("&");
    let target = if query.is_empty() {
        witness.path.clone()
    } else {
        format!("{}?{query}", witness.path)
    };
    let mut builder = Request::builder()
        .method(witness.method.as_str())
        .uri(target)
        .header(http::header::HOST, &witness.host)
        .header(http::header::USER_AGENT, "meshd-dev");
    for (name, value) in &witness.headers {
        builder = builder.header(name, value);
    }
    builder.body(Empty::new())
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let body = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| format!("answer broke off: {error}"))?;
    if !head.status.is_success() {
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        return Err(format!("{}: {}", head.status, text.trim()));
    }
    Ok(Answer {
        version: header("x-echo-version"),
        instance: header("x-echo-instance"),
    })
}
