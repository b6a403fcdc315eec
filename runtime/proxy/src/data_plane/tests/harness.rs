//! Proxies, applications, slices and clients for the tests beside it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_bundle::slice::{
    Access, AccessRule, Balance, Callee, CalleeExchange, ClientAddress, Condition, Destination,
    Effect, EndpointSource, Enforcement, Exchange, Gateway, InboundService, Label, Listener, Port,
    Principal, Protocol, Retry, RetryCause, Route, RouteMatch, Slice, Subset, Target,
};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::Credentials;
use mesh_daemon::telemetry::Metrics;
use mesh_daemon::test_util::TestAuthority;
use tokio::net::{TcpListener, TcpStream};

use crate::access_log::LogDefaults;
use crate::data_plane::{
    AccessLogTarget, DataPlane, DataPlaneSettings, DrainPlan, EndpointSet, PortBinding,
};
use crate::gateway::sockets::ListenAddress;
use crate::secrets::Secrets;

/// The port of every service.
pub(super) const PORT: u16 = 9080;

pub(super) type TestBody = BoxBody<Bytes, std::io::Error>;

/// A mesh with one authority.
pub(super) struct Mesh {
    pub(super) authority: TestAuthority,
}

/// One running data plane.
pub(super) struct Proxy {
    pub(super) plane: Arc<DataPlane>,
    pub(super) metrics: Metrics,
    pub(super) credentials: Credentials,
    log: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Mesh {
    pub(super) fn new() -> Self {
        Self {
            authority: TestAuthority::new("shop.example"),
        }
    }

    pub(super) fn id(&self, service: &str) -> SpiffeId {
        self.authority.id(&format!("/service/{service}"))
    }

    /// A proxy of that service in front of an application.
    pub(super) fn proxy(&self, service: &str, application: Option<SocketAddr>) -> Proxy {
        Proxy::start(
            self.authority.credentials(&format!("/service/{service}")),
            application,
        )
    }

    /// A proxy of `reviews` that admits `productpage`.
    pub(super) fn reviews(&self, application: SocketAddr) -> Proxy {
        let proxy = self.proxy("reviews", Some(application));
        proxy.apply(&self.admitting("reviews", &["productpage"]));
        proxy
    }

    /// The same, told something else at start.
    pub(super) fn reviews_with(
        &self,
        application: SocketAddr,
        change: impl FnOnce(&mut DataPlaneSettings),
    ) -> Proxy {
        let credentials = self.authority.credentials("/service/reviews");
        let proxy = Proxy::start_as(credentials, Some(application), change);
        proxy.apply(&self.admitting("reviews", &["productpage"]));
        proxy
    }

    /// A proxy of `productpage` that calls `reviews` at these proxies by these routes.
    pub(super) fn productpage(&self, routes: Vec<Route>, reviews: &[(&str, SocketAddr)]) -> Proxy {
        let proxy = self.proxy("productpage", None);
        proxy.plane.set_endpoints(endpoints("reviews", reviews));
        proxy.apply(&self.calling(routes));
        proxy
    }

    /// The slice of a callee.
    pub(super) fn admitting(&self, service: &str, callers: &[&str]) -> Slice {
        let rules = callers.iter().map(|caller| AccessRule {
            name: format!("allow {caller}"),
            effect: Effect::Allow,
            enforcement: Enforcement::Enforce,
            who: vec![Principal::SpiffeId(self.id(caller))],
            conditions: Vec::new(),
        });
        let service_access = InboundService {
            service: service.to_owned(),
            ports: vec![Port {
                number: PORT,
                protocol: Protocol::Http,
            }],
            rules: rules.collect(),
            ..InboundService::default()
        };
        Slice {
            access: Access {
                services: vec![service_access],
                ..Access::default()
            },
            callees: Vec::new(),
            ..Slice::new(self.id(service))
        }
    }

    /// The slice of `productpage`, which calls `reviews`.
    pub(super) fn calling(&self, routes: Vec<Route>) -> Slice {
        let subset = |name: &str| Subset {
            name: name.to_owned(),
            labels: vec![Label {
                key: "version".to_owned(),
                value: name.to_owned(),
            }],
            ..Subset::default()
        };
        let callee = Callee {
            service: "reviews".to_owned(),
            hosts: vec!["reviews".to_owned()],
            ports: vec![Port {
                number: PORT,
                protocol: Protocol::Http,
            }],
            identities: vec![self.id("reviews")],
            subsets: vec![subset("v1"), subset("v2")],
            endpoints: EndpointSource::Discovered,
            routes,
            retry_budget: None,
            balance: Balance::RoundRobin,
            ..Callee::default()
        };
        Slice {
            access: Access::default(),
            callees: vec![callee],
            ..Slice::new(self.id("productpage"))
        }
    }
}

impl Mesh {
    /// The slice of a gateway in front of what `calling` calls, with one listener of this port for this host in
    /// plaintext, and one route for everything.
    pub(super) fn entered_by(
        &self,
        calling: Slice,
        port: Port,
        host: &str,
        rules: Vec<AccessRule>,
    ) -> Slice {
        let service = InboundService {
            service: "public".to_owned(),
            ports: vec![port],
            rules,
            listeners: vec![Listener {
                port: port.number,
                hosts: vec![host.to_owned()],
                tls: None,
                client_address: ClientAddress::Peer,
            }],
            ..InboundService::default()
        };
        let everything = Route {
            name: "shop".to_owned(),
            matches: vec![RouteMatch::default()],
            destinations: vec![destination(None, 1)],
            exchanges: vec![CalleeExchange {
                service: "reviews".to_owned(),
                route: "everyone".to_owned(),
                exchange: route().exchange,
            }],
            ..Route::default()
        };
        Slice {
            access: Access {
                services: vec![service],
                ..Access::default()
            },
            gateways: vec![Gateway {
                name: "public".to_owned(),
                routes: vec![everything],
            }],
            identity: self.authority.id("/gateway/public"),
            ..calling
        }
    }

    /// A proxy of a gateway whose endpoints of `reviews` are at this one.
    pub(super) fn gateway(&self, reviews: &Proxy) -> Proxy {
        let gateway = Proxy::start(self.authority.credentials("/gateway/public"), None);
        let at = endpoints("reviews", &[("v1", reviews.inbound())]);
        gateway.plane.set_endpoints(at);
        gateway
    }
}

/// A rule that lets somebody in.
pub(super) fn allow(who: Principal) -> AccessRule {
    AccessRule {
        name: "allow".to_owned(),
        effect: Effect::Allow,
        enforcement: Enforcement::Enforce,
        who: vec![who],
        conditions: Vec::new(),
    }
}

/// Endpoints by version.
pub(super) fn endpoints(service: &str, at: &[(&str, SocketAddr)]) -> Vec<EndpointSet> {
    let set = |(version, address): &(&str, SocketAddr)| EndpointSet {
        service: service.to_owned(),
        labels: vec![Label {
            key: "version".to_owned(),
            value: (*version).to_owned(),
        }],
        spiffe_id: None,
        addresses: vec![(PORT, *address)],
    };
    at.iter().map(set).collect()
}

/// A route that takes everything and goes to every endpoint.
pub(super) fn route() -> Route {
    Route {
        name: "everyone".to_owned(),
        matches: vec![RouteMatch::default()],
        destinations: vec![destination(None, 1)],
        exchange: Exchange {
            timeout: Some(Duration::from_secs(10)),
            connect_timeout: Duration::from_secs(1),
            retry: retry(1, &[]),
            stream_idle: None,
            max_duration: None,
            ..Exchange::default()
        },
        ..Route::default()
    }
}

pub(super) fn destination(subset: Option<&str>, weight: u32) -> Destination {
    let target = Target {
        service: "reviews".to_owned(),
        subset: subset.map(str::to_owned),
        ..Target::default()
    };
    Destination {
        target,
        weight,
        otherwise: Vec::new(),
        ..Destination::default()
    }
}

pub(super) fn retry(attempts: u32, causes: &[RetryCause]) -> Retry {
    Retry {
        attempts,
        causes: causes.to_vec(),
        per_try: None,
        any_method: false,
        backoff_base: Duration::ZERO,
        backoff_max: Duration::ZERO,
    }
}

/// A condition on a header.
pub(super) fn header(name: &str) -> Condition {
    Condition::Header(mesh_bundle::slice::FieldMatch {
        name: name.to_owned(),
        values: Vec::new(),
    })
}

impl Proxy {
    pub(super) fn start(credentials: Credentials, application: Option<SocketAddr>) -> Self {
        Self::start_with(credentials, application, Secrets::default())
    }

    pub(super) fn start_with(
        credentials: Credentials,
        application: Option<SocketAddr>,
        secrets: Secrets,
    ) -> Self {
        Self::start_as(credentials, application, |settings| {
            settings.secrets = secrets;
        })
    }

    /// One that is told something else at start.
    pub(super) fn start_as(
        credentials: Credentials,
        application: Option<SocketAddr>,
        change: impl FnOnce(&mut DataPlaneSettings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let ports = application.map(|application| PortBinding {
            service_port: PORT,
            inbound: Some(loopback()),
            application,
        });
        let settings = settings(|settings| {
            settings.ports = ports.into_iter().collect();
            settings.access_log = AccessLogTarget::File(log.clone());
            change(settings);
        });
        let metrics = Metrics::new("meshp", "0");
        let opened = DataPlane::open(settings, credentials.clone(), &metrics, &Arc::default());
        let plane = opened.unwrap();
        plane.accept().unwrap();
        Self {
            plane,
            metrics,
            credentials,
            log,
            _folder: folder,
        }
    }

    pub(super) fn apply(&self, slice: &Slice) {
        let prepared = self.plane.prepare(slice, "0.1.1").unwrap();
        self.plane.swap(prepared, None);
    }

    pub(super) fn outbound(&self) -> SocketAddr {
        self.plane.bound().outbound
    }

    /// Where a gateway's listener was opened.
    pub(super) fn listener(&self, port: u16) -> SocketAddr {
        self.plane.listeners()[&port]
    }

    pub(super) fn inbound(&self) -> SocketAddr {
        self.plane.bound().inbound[&PORT]
    }

    /// Waits until a record is written that `matches`.
    pub(super) async fn record(
        &self,
        matches: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        eventually(|| self.records().into_iter().find(|record| matches(record))).await
    }

    /// The access log as it is.
    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Records so far.
    pub(super) fn records(&self) -> Vec<serde_json::Value> {
        let text = self.log_text();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// What a proxy is told that is told little.
pub(super) fn settings(change: impl FnOnce(&mut DataPlaneSettings)) -> DataPlaneSettings {
    let mut settings = DataPlaneSettings {
        outbound: loopback(),
        intercept: None,
        ports: Vec::new(),
        listen: vec![ListenAddress {
            port: None,
            address: loopback(),
        }],
        trusted_proxies: Vec::new(),
        secrets: Secrets::default(),
        stand_in: None,
        labels: Vec::new(),
        access_log: AccessLogTarget::Off,
        limits: Arc::default(),
        log: LogDefaults::default(),
        instance: "1".to_owned(),
        istio_metrics: false,
        workers: NonZeroUsize::new(2),
    };
    change(&mut settings);
    settings
}

/// A drain that gives nobody notice.
pub(super) fn at_once(limit: Duration) -> DrainPlan {
    DrainPlan {
        notice: Duration::ZERO,
        limit,
        handed_over: false,
    }
}

/// Polls for a condition that something else will make true.
pub(super) async fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(tokio::time::Instant::now() < limit, "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// An address at which nobody listens.
pub(super) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    listener.local_addr().unwrap()
}

/// An application.
pub(super) struct Application {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Application {
    /// Requests that it got.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// One that says its name, and what it got in headers.
    pub(super) async fn named(name: &'static str) -> Self {
        Self::http1(move |request: Request<Incoming>| async move {
            let path = request.uri().path_and_query().unwrap().to_string();
            let headers = request.headers().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut response = Response::new(full(body));
            response
                .headers_mut()
                .insert("x-name", name.parse().unwrap());
            response
                .headers_mut()
                .insert("x-path", path.parse().unwrap());
            for (name, value) in headers {
                let name = format!("got-{}", name.unwrap());
                response
                    .headers_mut()
                    .insert(http::HeaderName::try_from(name).unwrap(), value);
            }
            response
        })
        .await
    }

    /// One that speaks HTTP/1.1.
    pub(super) async fn http1<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<TestBody>> + Send + 'static,
    {
        Self::start(handler, false).await
    }

    /// One that speaks HTTP/2.
    pub(super) async fn http2<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<TestBody>> + Send + 'static,
    {
        Self::start(handler, true).await
    }

    async fn start<F, R>(handler: F, http2: bool) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<TestBody>> + Send + 'static,
    {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (handler, counted) = (handler.clone(), Arc::clone(&counted));
                let service = service_fn(move |request| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let io = TokioIo::new(tcp);
                tokio::spawn(async move {
                    if http2 {
                        let executor = TokioExecutor::new();
                        drop(
                            hyper::server::conn::http2::Builder::new(executor)
                                .serve_connection(io, service)
                                .await,
                        );
                    } else {
                        drop(
                            hyper::server::conn::http1::Builder::new()
                                .serve_connection(io, service)
                                .await,
                        );
                    }
                });
            }
        });
        Self { address, requests }
    }
}

pub(super) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

pub(super) fn empty() -> TestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn reason(&self) -> &str {
        self.header("x-mesh-reason")
    }
}

pub(super) fn get(path: &str) -> Request<TestBody> {
    Request::builder()
        .uri(path)
        .header("host", "reviews")
        .body(empty())
        .unwrap()
}

/// Sends one request on a connection of its own.
pub(super) async fn send(to: SocketAddr, request: Request<TestBody>) -> Got {
    try_send(to, request).await.unwrap()
}

pub(super) async fn try_send(
    to: SocketAddr,
    request: Request<TestBody>,
) -> Result<Got, hyper::Error> {
    let tcp = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    let driving = tokio::spawn(connection);
    let got = read(sender.send_request(request).await?).await;
    drop(sender);
    driving.abort();
    got
}

/// A client with one HTTP/2 connection.
pub(super) async fn http2_client(
    to: SocketAddr,
) -> hyper::client::conn::http2::SendRequest<TestBody> {
    let tcp = TcpStream::connect(to).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn read(response: Response<Incoming>) -> Result<Got, hyper::Error> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Got {
        status: head.status,
        headers: head.headers,
        body: collected.to_bytes(),
        trailers,
    })
}
