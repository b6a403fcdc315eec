//! An application that takes nothing but canonical requests, three ways to it, and a victim on each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_bundle::slice::{Port, Principal, Protocol};
use mesh_daemon::identity::tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::super::harness::*;
use crate::limits::Limits;
use crate::upstream::connect::{MESH_HTTP1, MESH_HTTP2};
use mesh_engine::detect::HTTP2_PREFACE as PREFACE;

const GATEWAY_PORT: u16 = 8080;

/// How long anything may take before it has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it reached the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Reached {
    /// Values of the field.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// What reached the application.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) whole: Vec<Reached>,
    /// What is not canonical, or comes where nothing should.
    pub(super) strange: Vec<String>,
    /// What is answered to a target, raw.
    pub(super) answers: BTreeMap<String, Vec<u8>>,
    /// What is answered to `/early` as soon as its head is there.
    early: Vec<u8>,
}

/// An application that answers each whole request with its target, and nothing before.
pub(super) struct Backend {
    pub(super) address: std::net::SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(answer_all(tcp, Arc::clone(&kept)));
            }
        });
        Self { address, seen }
    }

    /// Has a target answered with these bytes, on a connection that is never to be used again.
    pub(super) fn answers(&self, target: &str, bytes: &[u8]) {
        let mut seen = self.seen.lock().unwrap();
        seen.answers.insert(target.to_owned(), bytes.to_vec());
    }

    /// Has requests for `/early` answered before they have ended, once each connection.
    pub(super) fn answers_early(&self, bytes: &[u8]) {
        self.seen.lock().unwrap().early = bytes.to_vec();
    }

    /// What came but for what victims sent.
    pub(super) fn take(&self) -> Vec<Reached> {
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.strange, Vec::<String>::new(), "not canonical");
        let whole = std::mem::take(&mut seen.whole);
        let of_others = |reached: &Reached| !reached.target.starts_with("/victim/");
        whole.into_iter().filter(of_others).collect()
    }
}

async fn answer_all(mut tcp: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    let mut spoilt = None;
    loop {
        if bytes.starts_with(PREFACE) {
            return watch_frames(tcp, bytes, &seen).await;
        }
        match parse(&bytes) {
            Ok(Some((reached, length))) => {
                bytes.drain(..length);
                let target = reached.target.clone();
                let is_head = reached.method == "HEAD";
                let raw = {
                    let mut seen = seen.lock().unwrap();
                    seen.whole.push(reached);
                    if let Some(spoilt) = spoilt {
                        let reused = format!("{target} after {spoilt}");
                        seen.strange.push(reused);
                    }
                    seen.answers.get(&target).cloned()
                };
                if let Some(raw) = raw {
                    spoilt = Some(target);
                    if tcp.write_all(&raw).await.is_err() {
                        return;
                    }
                    continue;
                }
                spoilt = None;
                let body = if is_head { "" } else { &target };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    target.len()
                );
                if tcp.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None)
                if spoilt.is_none()
                    && bytes.starts_with(b"POST /early ")
                    && bytes.ends_with(b"four") =>
            {
                let early = seen.lock().unwrap().early.clone();
                spoilt = Some("/early".to_owned());
                if tcp.write_all(&early).await.is_err() {
                    return;
                }
            }
            Ok(None) => match tcp.read_buf(&mut bytes).await {
                Ok(1..) => {}
                _ => return,
            },
            Err(why) => {
                let shown = bytes.escape_ascii();
                seen.lock().unwrap().strange.push(format!("{why}: {shown}"));
                return;
            }
        }
    }
}

/// Over HTTP/2 nothing is sent that may reach it whole.
async fn watch_frames(mut tcp: TcpStream, mut bytes: Vec<u8>, seen: &Mutex<Seen>) {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    if tcp.write_all(&settings).await.is_err() {
        return;
    }
    while let Ok(1..) = tcp.read_buf(&mut bytes).await {}
    let frames = super::http2::parse(&bytes[PREFACE.len()..]);
    let is_whole = |(kind, flags, _): &(u8, u8, Vec<u8>)| matches!(kind, 0 | 1) && flags & 1 != 0;
    if frames.iter().any(is_whole) {
        let whole = format!("a request over HTTP/2: {frames:?}");
        seen.lock().unwrap().strange.push(whole);
    }
}

/// Reads one request as the strictest parser would: what a proxy writes has no need of leniency.
fn parse(bytes: &[u8]) -> Result<Option<(Reached, usize)>, &'static str> {
    let Some(end) = bytes.windows(4).position(|at| at == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).or_else(|error| {
        // Bytes above 0x7f may stand in values, and nowhere else.
        let line = bytes[..error.valid_up_to()]
            .rsplit(|byte| *byte == b'\n')
            .next();
        match line {
            Some(line) if line.contains(&b':') => Ok("GET /bytes HTTP/1.1\r\nhost: reviews"),
            _ => Err("bytes that are not ASCII"),
        }
    })?;
    if head.contains('\0') || head.replace("\r\n", "").contains(['\r', '\n']) {
        return Err("a control byte");
    }
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = line.as_slice() else {
        return Err("the request line");
    };
    let escaped = |target: &str| {
        target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    };
    let path = target.split('?').next().unwrap_or_default();
    let dots = path
        .split('/')
        .any(|segment| segment == "." || segment == "..");
    if !target.starts_with('/')
        || !escaped(target)
        || dots
        || path.contains("//")
        || path.contains([';', '\\'])
    {
        return Err("the target");
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a field")?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) || value != value.trim_matches([' ', '\t']) {
            return Err("a field");
        }
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let all = |name: &str| -> Vec<&str> {
        let of = fields.iter().filter(|(field, _)| field == name);
        of.map(|(_, value)| value.as_str()).collect()
    };
    if all("host").len() != 1 {
        return Err("not one host");
    }
    let names: BTreeSet<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    // A WebSocket may be asked for, and then it is asked for alone.
    let asks = all("connection") == ["upgrade"] && all("upgrade") == ["websocket"];
    let one_hop = [
        "connection",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "trailer",
        "te",
        "x-forwarded-client-cert",
    ];
    for gone in one_hop.into_iter().skip(if asks { 2 } else { 0 }) {
        if names.contains(gone) {
            return Err("a field of one hop");
        }
    }
    let body = &bytes[end + 4..];
    let (length, body) = match (
        all("content-length").as_slice(),
        all("transfer-encoding").as_slice(),
    ) {
        ([], []) => (0, Vec::new()),
        ([length], []) => {
            let length: usize = length.parse().map_err(|_not| "a length")?;
            match body.get(..length) {
                Some(body) => (length, body.to_vec()),
                None => return Ok(None),
            }
        }
        ([], ["chunked"]) => match unchunk(body)? {
            Some(whole) => whole,
            None => return Ok(None),
        },
        _ => return Err("the framing"),
    };
    let reached = Reached {
        method: (*method).to_owned(),
        target: (*target).to_owned(),
        fields: fields.clone(),
        body,
    };
    Ok(Some((reached, end + 4 + length)))
}

type Chunked = Option<(usize, Vec<u8>)>;

fn unchunk(bytes: &[u8]) -> Result<Chunked, &'static str> {
    let mut at = 0;
    let mut body = Vec::new();
    loop {
        let Some(length) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let line = std::str::from_utf8(&bytes[at..at + length]).map_err(|_not| "a chunk's size")?;
        let size = usize::from_str_radix(line, 16).map_err(|_not| "a chunk's size")?;
        at += length + 2;
        if size == 0 {
            // Trailers, line by line, up to an empty one.
            let Some(end) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
                return Ok(None);
            };
            if end == 0 {
                return Ok(Some((at + 2, body)));
            }
            return Err("trailers");
        }
        match bytes.get(at..at + size + 2) {
            Some(data) if data.ends_with(b"\r\n") => body.extend(&data[..size]),
            Some(_) => return Err("a chunk's end"),
            None => return Ok(None),
        }
        at += size + 2;
    }
}

/// A way to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// From the application of `productpage`, by its proxy.
    Outbound,
    /// As the proxy of `productpage`, straight to that of `reviews`.
    Inbound,
    /// From anywhere, by the gateway.
    Gateway,
}

pub(super) const ENTRANCES: [Entrance; 3] =
    [Entrance::Outbound, Entrance::Inbound, Entrance::Gateway];

pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Proxies whose clocks are short, so that what hangs is found out soon.
pub(super) struct Rig {
    mesh: Mesh,
    pub(super) backend: Backend,
    productpage: Proxy,
    pub(super) reviews: Proxy,
    gateway: Proxy,
}

/// Bounds for tests that wait for clocks.
pub(super) fn hasty() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(300),
        body_idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    }
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_with(hasty()).await
    }

    pub(super) async fn start_with(limits: Limits) -> Self {
        let mesh = Mesh::new();
        let backend = Backend::start().await;
        let start = |path: &str, application: Option<_>| {
            let credentials = mesh.authority.credentials(path);
            let mut limits = limits.clone();
            if application.is_some() {
                // Of two proxies in a row the first is to lose patience.
                limits.body_idle_timeout += limits.body_idle_timeout;
            }
            Proxy::start_as(credentials, application, |settings| {
                settings.limits = Arc::new(limits);
            })
        };
        let reviews = start("/service/reviews", Some(backend.address));
        let mut admitting = mesh.admitting("reviews", &["productpage"]);
        let public = Principal::SpiffeId(mesh.authority.id("/gateway/public"));
        admitting.access.services[0].rules.push(allow(public));
        reviews.apply(&admitting);
        let at = endpoints("reviews", &[("v1", reviews.inbound())]);
        let productpage = start("/service/productpage", None);
        productpage.plane.set_endpoints(at.clone());
        productpage.apply(&mesh.calling(vec![route()]));
        let gateway = start("/gateway/public", None);
        gateway.plane.set_endpoints(at);
        let port = Port {
            number: GATEWAY_PORT,
            protocol: Protocol::Http,
        };
        let calling = mesh.calling(vec![route()]);
        let rules = vec![allow(Principal::Unauthenticated)];
        gateway.apply(&mesh.entered_by(calling, port, "reviews", rules));
        Self {
            mesh,
            backend,
            productpage,
            reviews,
            gateway,
        }
    }

    /// The proxy that meets whoever comes this way.
    pub(super) fn proxy(&self, entrance: Entrance) -> &Proxy {
        match entrance {
            Entrance::Outbound => &self.productpage,
            Entrance::Inbound => &self.reviews,
            Entrance::Gateway => &self.gateway,
        }
    }

    pub(super) async fn connect(&self, entrance: Entrance, http2: bool) -> Box<dyn Io> {
        match entrance {
            Entrance::Outbound => Box::new(
                TcpStream::connect(self.productpage.outbound())
                    .await
                    .unwrap(),
            ),
            Entrance::Gateway => {
                let at = self.gateway.listener(GATEWAY_PORT);
                Box::new(TcpStream::connect(at).await.unwrap())
            }
            Entrance::Inbound => {
                let credentials = self.mesh.authority.credentials("/service/productpage");
                let expected = [self.mesh.id("reviews")].into_iter().collect();
                let protocol = if http2 { MESH_HTTP2 } else { MESH_HTTP1 };
                let config = credentials.client_config(expected, &[protocol]).unwrap();
                let tcp = TcpStream::connect(self.reviews.inbound()).await.unwrap();
                let connector = TlsConnector::from(config);
                Box::new(connector.connect(tls::server_name(), tcp).await.unwrap())
            }
        }
    }

    /// Sends bytes and reads until the connection ends.
    pub(super) async fn attack(&self, entrance: Entrance, bytes: &[u8]) -> Vec<u8> {
        let io = self.connect(entrance, false).await;
        let (mut reading, mut writing) = tokio::io::split(io);
        let mut answer = Vec::new();
        let both = async {
            let sending = async {
                // The proxy may refuse and close before it has everything.
                drop(writing.write_all(bytes).await);
                drop(writing.flush().await);
            };
            let ((), _) = tokio::join!(sending, reading.read_to_end(&mut answer));
        };
        let ended = tokio::time::timeout(PATIENCE, both).await;
        assert!(ended.is_ok(), "{}: it hangs", bytes.escape_ascii());
        answer
    }

    /// How often a rule was broken.
    pub(super) fn counted(&self, entrance: Entrance, rule: &str) -> u64 {
        let wanted = format!("mesh_rejected_requests_total{{rule=\"{rule}\"}} ");
        let text = self.proxy(entrance).metrics.encode();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(&wanted));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Records with this reason.
    pub(super) fn recorded(&self, entrance: Entrance, rule: &str) -> usize {
        let reason = format!("bad_request:{rule}");
        let records = self.proxy(entrance).records();
        let of_rule = |record: &&serde_json::Value| record["reason"] == reason.as_str();
        records.iter().filter(of_rule).count()
    }
}

/// Somebody who shares everything with an attacker but the connection.
pub(super) struct Victim {
    io: Box<dyn Io>,
    asked: usize,
    buffer: Vec<u8>,
}

impl Victim {
    pub(super) async fn of(rig: &Rig, entrance: Entrance) -> Self {
        Self {
            io: rig.connect(entrance, false).await,
            asked: 0,
            buffer: Vec::new(),
        }
    }

    /// Asks, and expects the answer to that.
    pub(super) async fn is_well(&mut self, what: &str) {
        self.asked += 1;
        let target = format!("/victim/{}", self.asked);
        let request = format!("GET {target} HTTP/1.1\r\nHost: reviews\r\n\r\n");
        self.io.write_all(request.as_bytes()).await.unwrap();
        let reading = async {
            loop {
                let text = String::from_utf8_lossy(&self.buffer).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && let Some(length) = length(head)
                    && body.len() >= length
                {
                    self.buffer.drain(..head.len() + 4 + length);
                    let body = body.chars().take(length).collect::<String>();
                    return (head.to_owned(), body);
                }
                let read = self.io.read_buf(&mut self.buffer).await;
                assert!(
                    matches!(read, Ok(1..)),
                    "{what}: the victim was cut: {text}"
                );
            }
        };
        let (head, body) = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        assert_eq!(body, target, "{what}: the answer to somebody else");
        assert!(self.buffer.is_empty(), "{what}: more than was asked for");
    }
}

fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}
