//! Connections of bytes from a client, by its proxy and the callee's, to a server: what is sent, and every way to end.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_bundle::slice::{CalleeListener, Condition, Protocol, RetryCause, Route, Slice};
use mesh_daemon::identity::tls;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::harness::*;

/// Where policy says that the caller's proxy listens.
const DECLARED: &str = "127.0.0.1:15432";

/// A server whose connections the test plays.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<TcpStream>,
    count: Arc<AtomicUsize>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                if sender.send(tcp).is_err() {
                    return;
                }
            }
        });
        Self {
            address,
            accepted,
            count,
        }
    }

    pub(super) async fn accept(&mut self) -> TcpStream {
        let accepted = tokio::time::timeout(Duration::from_secs(10), self.accepted.recv());
        accepted.await.expect("nobody came").unwrap()
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// A route that connects as often as that.
fn tried(attempts: u32) -> Route {
    let mut route = route();
    route.exchange.retry = retry(attempts, &[RetryCause::ConnectFailure]);
    route
}

/// The slice of a callee whose port carries bytes.
pub(super) fn admitting(mesh: &Mesh, protocol: Protocol, callers: &[&str]) -> Slice {
    let mut slice = mesh.admitting("reviews", callers);
    slice.access.services[0].ports[0].protocol = protocol;
    slice
}

/// The slice of a caller that listens for it.
pub(super) fn calling(mesh: &Mesh, protocol: Protocol, routes: Vec<Route>) -> Slice {
    let mut slice = mesh.calling(routes);
    slice.callees[0].ports[0].protocol = protocol;
    slice.callees[0].listeners = vec![CalleeListener {
        address: DECLARED.parse().unwrap(),
        port: PORT,
    }];
    slice
}

pub(super) fn caller(mesh: &Mesh, slice: &Slice, at: &[(&str, SocketAddr)]) -> Proxy {
    let proxy = mesh.proxy("productpage", None);
    proxy.plane.set_endpoints(endpoints("reviews", at));
    proxy.apply(slice);
    proxy
}

pub(super) async fn connect(proxy: &Proxy) -> TcpStream {
    let at = proxy.plane.callee_listeners()[&DECLARED.parse().unwrap()];
    TcpStream::connect(at).await.unwrap()
}

/// A client's proxy, a server's, and the server.
struct World {
    mesh: Mesh,
    server: Server,
    callee: Proxy,
    caller: Proxy,
}

impl World {
    async fn new() -> Self {
        let mesh = Mesh::new();
        let server = Server::start().await;
        let callee = mesh.proxy("reviews", Some(server.address));
        callee.apply(&admitting(&mesh, Protocol::Tcp, &["productpage"]));
        let slice = calling(&mesh, Protocol::Tcp, vec![tried(1)]);
        let caller = caller(&mesh, &slice, &[("v1", callee.inbound())]);
        Self {
            mesh,
            server,
            callee,
            caller,
        }
    }

    /// A connection, seen from both of its ends.
    async fn connected(&mut self) -> (TcpStream, TcpStream) {
        let client = connect(&self.caller).await;
        (client, self.server.accept().await)
    }

    /// The reasons that both proxies give.
    async fn reasons(&self) -> (serde_json::Value, serde_json::Value) {
        let caller = self.caller.record(|_| true).await;
        let callee = self.callee.record(|_| true).await;
        (caller["reason"].clone(), callee["reason"].clone())
    }
}

/// How a read fails.
async fn failure(tcp: &mut TcpStream) -> ErrorKind {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut rest));
    let error = read.await.expect("nothing ended it").unwrap_err();
    error.kind()
}

/// A client that is not let through, which it may learn before it knows that it was connected.
async fn refused(proxy: &Proxy) {
    let at = proxy.plane.callee_listeners()[&DECLARED.parse().unwrap()];
    let ended = match TcpStream::connect(at).await {
        Ok(mut client) => failure(&mut client).await,
        Err(error) => error.kind(),
    };
    assert_eq!(ended, ErrorKind::ConnectionReset);
}

fn reset(tcp: TcpStream) {
    SockRef::from(&tcp)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(tcp);
}

async fn read(tcp: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut got = vec![0; bytes];
    let read = tokio::time::timeout(Duration::from_secs(10), tcp.read_exact(&mut got));
    read.await.expect("too little came").unwrap();
    got
}

/// drills.md D19: the same bytes, in both directions, in pieces of one byte and in large ones.
#[tokio::test]
async fn bytes_pass_as_they_are() {
    let mut world = World::new().await;
    let (mut client, mut server) = world.connected().await;
    for byte in b"one by one" {
        client.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(read(&mut server, 10).await, b"one by one");
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = large.clone();
    let answering = tokio::spawn(async move {
        server.write_all(&sent).await.unwrap();
        server.shutdown().await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert!(got == large);
    client.write_all(b"bye").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(answering.await.unwrap(), b"bye");

    for (proxy, reporter) in [(&world.caller, "source"), (&world.callee, "destination")] {
        let record = proxy.record(|record| record["protocol"] == "tcp").await;
        assert_eq!(record["reporter"], reporter);
        assert_eq!(record["bytes_in"], 13);
        assert_eq!(record["bytes_out"], 3_000_000);
        assert_eq!(record["service"], "reviews");
        assert_eq!(record["tls"], "TLSv1.3");
        assert!(record["reason"].is_null(), "{record}");
        assert_eq!(
            record["src_identity"],
            "spiffe://shop.example/service/productpage"
        );
        let metrics = proxy.metrics.encode();
        let labels = format!(
            "reporter=\"{reporter}\",src_identity=\"spiffe://shop.example/service/productpage\",\
             src_workload=\"productpage\",src_namespace=\"\",dst_service=\"reviews\",\
             dst_identity=\"spiffe://shop.example/service/reviews\",dst_workload=\"reviews\",dst_namespace=\"\",\
             protocol=\"tcp\",tls=\"mutual\""
        );
        for line in [
            format!("mesh_tcp_connections_opened_total{{{labels}}} 1"),
            format!("mesh_tcp_connections_open{{{labels}}} 0"),
            format!("mesh_tcp_received_bytes_total{{{labels}}} 13"),
            format!("mesh_tcp_sent_bytes_total{{{labels}}} 3000000"),
            format!("mesh_tcp_connections_closed_total{{{labels},reason=\"\"}} 1"),
        ] {
            assert!(metrics.contains(&line), "{line} is missing in {metrics}");
        }
    }
    let record = world.caller.record(|_| true).await;
    assert_eq!(record["route"], "everyone");
    assert_eq!(
        record["dst_identity"],
        "spiffe://shop.example/service/reviews"
    );
}

#[tokio::test]
async fn the_server_may_speak_first() {
    let mut world = World::new().await;
    let (mut client, mut server) = world.connected().await;
    server.write_all(b"220 ready\r\n").await.unwrap();
    assert_eq!(read(&mut client, 11).await, b"220 ready\r\n");
    // What looks like another protocol is just bytes.
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(read(&mut server, 18).await, b"GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn each_side_may_end_first() {
    let mut world = World::new().await;
    for client_first in [true, false] {
        let (client, server) = world.connected().await;
        let (mut first, mut second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        first.write_all(b"last words").await.unwrap();
        first.shutdown().await.unwrap();
        let mut got = Vec::new();
        second.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last words");
        // The other direction is as open as it was.
        second.write_all(b"and mine").await.unwrap();
        assert_eq!(read(&mut first, 8).await, b"and mine");
        drop(second);
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
    }
    let both = eventually(|| Some(world.caller.records()).filter(|all| all.len() == 2)).await;
    assert!(both.iter().all(|record| record["reason"].is_null()));
}

#[tokio::test]
async fn a_reset_is_a_reset_at_the_other_end() {
    let mut world = World::new().await;
    let (mut client, mut server) = world.connected().await;
    server.write_all(b"so far").await.unwrap();
    assert_eq!(read(&mut client, 6).await, b"so far");
    reset(server);
    assert_eq!(failure(&mut client).await, ErrorKind::ConnectionReset);
    let expected = ("upstream_reset".into(), "upstream_reset".into());
    assert_eq!(world.reasons().await, expected);

    let mut world = World::new().await;
    let (client, mut server) = world.connected().await;
    reset(client);
    assert_eq!(failure(&mut server).await, ErrorKind::ConnectionReset);
    let expected = ("client_disconnect".into(), "client_disconnect".into());
    assert_eq!(world.reasons().await, expected);
}

#[tokio::test]
async fn who_may_not_enter_reaches_nobody() {
    let world = World::new().await;
    let slice = admitting(&world.mesh, Protocol::Tcp, &["details"]);
    world.callee.apply(&slice);
    refused(&world.caller).await;
    let expected = ("authz_denied".into(), "authz_denied".into());
    assert_eq!(world.reasons().await, expected);

    // Nobody knows a method of bytes.
    let mut slice = admitting(&world.mesh, Protocol::Tcp, &["productpage"]);
    slice.access.services[0].rules[0].conditions = vec![Condition::Method(vec!["GET".to_owned()])];
    world.callee.apply(&slice);
    refused(&world.caller).await;
    assert_eq!(world.server.count(), 0);
}

/// A connection has no requests after which one could look again.
#[tokio::test]
async fn who_may_no_longer_enter_is_cut() {
    let mut world = World::new().await;
    let (mut client, mut server) = world.connected().await;
    let same = admitting(&world.mesh, Protocol::Tcp, &["productpage", "details"]);
    world.callee.apply(&same);
    client.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut server, 10).await, b"still here");
    world
        .callee
        .apply(&admitting(&world.mesh, Protocol::Tcp, &["details"]));
    assert_eq!(failure(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(failure(&mut server).await, ErrorKind::ConnectionReset);
    let expected = ("upstream_reset".into(), "authz_denied".into());
    assert_eq!(world.reasons().await, expected);
}

#[tokio::test]
async fn another_endpoint_is_tried_before_anything_was_sent() {
    let mesh = Mesh::new();
    let mut server = Server::start().await;
    let callee = mesh.proxy("reviews", Some(server.address));
    callee.apply(&admitting(&mesh, Protocol::Tcp, &["productpage"]));
    // A proxy whose application is not there, and an address at which nobody is.
    let alone = mesh.proxy("reviews", Some(nobody().await));
    alone.apply(&admitting(&mesh, Protocol::Tcp, &["productpage"]));
    let at = [
        ("v1", alone.inbound()),
        ("v1", nobody().await),
        ("v1", callee.inbound()),
    ];
    let caller = caller(&mesh, &calling(&mesh, Protocol::Tcp, vec![tried(3)]), &at);
    for _ in 0..3 {
        let mut client = connect(&caller).await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(read(&mut server.accept().await, 5).await, b"hello");
    }
    let record = alone
        .record(|record| record["reason"] == "connect_failure")
        .await;
    assert_eq!(record["attempts"], 1);
    let record = caller.record(|record| record["attempts"] == 3).await;
    assert_eq!(record["upstream"], callee.inbound().to_string());
}

#[tokio::test]
async fn where_nobody_listens_the_client_is_told() {
    let mesh = Mesh::new();
    let slice = calling(&mesh, Protocol::Tcp, vec![tried(2)]);
    let caller = caller(&mesh, &slice, &[("v1", nobody().await)]);
    refused(&caller).await;
    let record = caller.record(|_| true).await;
    assert_eq!(record["reason"], "connect_failure");
    assert_eq!(record["attempts"], 2);
    caller.plane.set_endpoints(Vec::new());
    refused(&caller).await;
    caller
        .record(|record| record["reason"] == "no_healthy_upstream")
        .await;
}

/// Rules of requests would not be asked about bytes, nor those of connections about requests.
#[tokio::test]
async fn a_port_carries_only_what_it_is_for() {
    let world = World::new().await;
    world
        .callee
        .apply(&world.mesh.admitting("reviews", &["productpage"]));
    refused(&world.caller).await;
    let expected = ("no_route".into(), "no_route".into());
    assert_eq!(world.reasons().await, expected);

    let world = World::new().await;
    let browser = world
        .mesh
        .productpage(vec![route()], &[("v1", world.callee.inbound())]);
    let got = send(browser.outbound(), get("/")).await;
    assert_eq!((got.status.as_u16(), got.reason()), (404, "no_route"));
    // Its own proxy sends no request there either.
    let got = send(world.caller.outbound(), get("/")).await;
    assert_eq!((got.status.as_u16(), got.reason()), (404, "no_route"));
    assert_eq!(world.server.count(), 0);
}

/// A caller's proxy that asks for what is not there, or in another way than is agreed.
#[tokio::test]
async fn prefaces_are_judged() {
    let world = World::new().await;
    let credentials = world.mesh.authority.credentials("/service/productpage");
    let expected = [world.mesh.id("reviews")].into();
    let config = credentials
        .client_config(expected, &[b"mesh-tcp/1"])
        .unwrap();
    let asked = |preface: &'static [u8]| {
        let (config, to) = (Arc::clone(&config), world.callee.inbound());
        async move {
            let tcp = TcpStream::connect(to).await.unwrap();
            let mut stream = TlsConnector::from(config)
                .connect(tls::server_name(), tcp)
                .await
                .unwrap();
            stream.write_all(preface).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer
        }
    };
    // PORT is 0x2378.
    let other_port = b"\0\x0d\x01\x07reviews\x02\x02\x23\x79";
    let other_service = b"\0\x0d\x01\x07ratings\x02\x02\x23\x78";
    assert_eq!(asked(other_port).await, [2]);
    assert_eq!(asked(other_service).await, [2]);
    assert_eq!(asked(b"\0\x04\x02\x02\x23\x78").await, [6]);
    assert_eq!(asked(b"\xff\xff").await, [6]);
    assert_eq!(asked(b"GET / HTTP/1.1\r\n\r\n").await, [6]);
    let record = world
        .callee
        .record(|record| record["reason"] == "bad_request:preface")
        .await;
    assert_eq!(record["peer"], "127.0.0.1");
    let metrics = world.callee.metrics.encode();
    assert!(metrics.contains("mesh_rejected_requests_total{rule=\"preface\"} 3"));
    assert_eq!(world.server.count(), 0);
}

#[tokio::test]
async fn silence_ends_a_connection_where_policy_says_so() {
    let mut world = World::new().await;
    let mut quiet = tried(1);
    quiet.exchange.idle = Some(Duration::from_millis(50));
    world
        .caller
        .apply(&calling(&world.mesh, Protocol::Tcp, vec![quiet]));
    let (mut client, mut server) = world.connected().await;
    assert_eq!(failure(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(failure(&mut server).await, ErrorKind::ConnectionReset);
    let record = world.caller.record(|_| true).await;
    assert_eq!(record["reason"], "request_timeout");
    let metrics = world.caller.metrics.encode();
    assert!(metrics.contains("mesh_timeouts_total{kind=\"idle\"} 1"));
}

#[tokio::test]
async fn a_drain_leaves_connections_until_its_end() {
    let mut world = World::new().await;
    let (mut client, mut server) = world.connected().await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut server, 5).await, b"hello");
    let plane = Arc::clone(&world.caller.plane);
    let draining = tokio::spawn(async move { plane.drain(at_once(Duration::from_secs(3))).await });
    let plane = &world.caller.plane.plane;
    eventually(|| plane.is_draining().then_some(())).await;
    server.write_all(b"still").await.unwrap();
    assert_eq!(read(&mut client, 5).await, b"still");
    let report = draining.await.unwrap();
    assert_eq!((report.connections, report.cut()), (1, 1));
    let record = world.caller.record(|record| record["bytes_out"] == 5).await;
    assert_eq!(record["reason"], "draining");
    // An end of its own would look different.
    assert_eq!(failure(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(failure(&mut server).await, ErrorKind::ConnectionReset);
    let metrics = world.caller.metrics.encode();
    let counted = "mesh_drain_cut_total{kind=\"connection\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}
