//! How a drain begins and goes on: what is told to whom, in which order, and what is taken meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::harness::*;
use crate::data_plane::{DrainPlan, DrainReport};

/// Gives notice for so long.
fn with_notice(notice: Duration) -> DrainPlan {
    DrainPlan {
        notice,
        ..at_once(Duration::from_secs(20))
    }
}

fn drain(proxy: &Proxy, plan: DrainPlan) -> JoinHandle<DrainReport> {
    let plane = Arc::clone(&proxy.plane);
    tokio::spawn(async move { plane.drain(plan).await })
}

async fn begun(proxy: &Proxy) {
    eventually(|| proxy.plane.plane.is_draining().then_some(())).await;
}

async fn refused(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn while_others_notice_everything_is_taken() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    let draining = [
        drain(&reviews, with_notice(Duration::from_secs(3))),
        drain(&productpage, with_notice(Duration::from_secs(3))),
    ];
    begun(&reviews).await;
    begun(&productpage).await;
    // New connections of a client, and of one proxy to the other, whose answers end theirs.
    for _ in 0..5 {
        let got = send(outbound, get("/")).await;
        let told = (got.status.as_u16(), got.header("connection"));
        assert_eq!(told, (200, "close"), "{got:?}");
    }
    for proxy in [&reviews, &productpage] {
        assert!(proxy.metrics.encode().contains("mesh_draining 1"));
    }
    for draining in draining {
        assert_eq!(draining.await.unwrap().cut(), 0);
    }
    refused(outbound).await;
}

/// Frame types of RFC 9113 section 6.
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 1;
const ACK: u8 = 1;

/// A client of HTTP/2 that sees frames.
struct Frames(TcpStream);

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    async fn connect(to: SocketAddr) -> Self {
        let mut client = Self(TcpStream::connect(to).await.unwrap());
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.0.write_all(preface).await.unwrap();
        client.write(SETTINGS, 0, 0, &[]).await;
        client
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// GET / of `reviews`, in HPACK's static table and one literal (RFC 7541 appendix A).
    async fn get(&mut self, stream: u32) {
        const END_STREAM_AND_HEADERS: u8 = 0x5;
        let fields = [&[0x82, 0x86, 0x84, 0x41, 7][..], b"reviews"].concat();
        self.write(HEADERS, END_STREAM_AND_HEADERS, stream, &fields)
            .await;
    }

    /// The next frame that is one of these; others are answered where they must be.
    async fn next(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let reading = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.unwrap();
                let [a, b, c, kind, flags, stream @ ..] = head;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                self.0.read_exact(&mut payload).await.unwrap();
                let frame = Frame {
                    kind,
                    flags,
                    stream: u32::from_be_bytes(stream),
                    payload,
                };
                if wanted(&frame) {
                    return frame;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), reading);
        found.await.expect("it never came")
    }

    /// Which stream a GOAWAY names as the last, and why.
    async fn goaway(&mut self) -> (u32, u32) {
        let frame = self.next(|frame| frame.kind == GOAWAY).await;
        let number = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
        (number(0), number(4))
    }
}

/// RFC 9113 section 6.8: first a GOAWAY that takes everything that is on its way, and only a round trip later the
/// one that names the last stream.
#[tokio::test]
async fn http2_is_told_in_two_steps() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let go = Arc::new(Notify::new());
    let slow = {
        let go = Arc::clone(&go);
        Application::http2(move |_request: Request<Incoming>| {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                Response::new(full("late"))
            }
        })
        .await
    };
    drop(application);
    let reviews = mesh.reviews(slow.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = Frames::connect(productpage.outbound()).await;
    client.get(1).await;
    eventually(|| (slow.requests() == 1).then_some(())).await;

    let draining = drain(&productpage, at_once(Duration::from_secs(20)));
    assert_eq!(client.goaway().await, (0x7fff_ffff, 0));
    let ping = client
        .next(|frame| frame.kind == PING && frame.flags & ACK == 0)
        .await;
    // This one had been on its way.
    client.get(3).await;
    eventually(|| (slow.requests() == 2).then_some(())).await;
    client.write(PING, ACK, 0, &ping.payload).await;
    assert_eq!(client.goaway().await, (3, 0));
    go.notify_one();
    go.notify_one();
    go.notify_waiters();
    for _ in 0..2 {
        let answered = client.next(|frame| frame.kind == HEADERS).await;
        assert!([1, 3].contains(&answered.stream), "{answered:?}");
        go.notify_one();
    }
    assert_eq!(draining.await.unwrap().cut(), 0);
}

/// An application that is still answering may have to call others for it.
#[tokio::test]
async fn the_application_may_call_until_it_has_answered() {
    let mesh = Mesh::new();
    let (asked, mut asks) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let application = {
        let go = Arc::clone(&go);
        Application::http1(move |_request: Request<Incoming>| {
            let (go, asked) = (Arc::clone(&go), asked.clone());
            async move {
                asked.send(()).unwrap();
                go.notified().await;
                Response::new(full("late"))
            }
        })
        .await
    };
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let caller = productpage.outbound();
    let running = tokio::spawn(async move { send(caller, get("/")).await });
    asks.recv().await.unwrap();

    let draining = drain(&reviews, at_once(Duration::from_secs(20)));
    refused(reviews.inbound()).await;
    // It has nobody to call, and is told so by its proxy.
    let got = send(reviews.outbound(), get("/")).await;
    assert_eq!(got.reason(), "authz_denied", "{got:?}");
    go.notify_one();
    assert_eq!(running.await.unwrap().status, 200);
    assert_eq!(draining.await.unwrap().cut(), 0);
    refused(reviews.outbound()).await;
}

/// A client whose first bytes cross with the end of its proxy.
#[tokio::test]
async fn who_has_only_just_connected_is_heard() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let tcp = TcpStream::connect(productpage.outbound()).await.unwrap();
    // Whoever is answered has been accepted after it.
    assert_eq!(send(productpage.outbound(), get("/")).await.status, 200);
    let draining = drain(&productpage, at_once(Duration::from_secs(20)));
    begun(&productpage).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::spawn(connection);
    let got = read(sender.send_request(get("/")).await.unwrap()).await;
    assert_eq!(got.unwrap().status, 200);
    assert_eq!(draining.await.unwrap().cut(), 0);
}

/// A whole answer that never comes is cut so that nobody takes what came for all of it.
#[tokio::test]
async fn what_is_cut_is_recorded() {
    let mesh = Mesh::new();
    let application = Application::http1(|_request: Request<Incoming>| {
        std::future::pending::<Response<TestBody>>()
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    let running = tokio::spawn(async move { try_send(outbound, get("/")).await });
    eventually(|| (application.requests() == 1).then_some(())).await;
    let report = drain(&productpage, at_once(Duration::from_millis(100)));
    let report = report.await.unwrap();
    assert_eq!((report.requests, report.cut()), (1, 1));
    assert!(running.await.unwrap().is_err());
    let record = productpage.record(|_| true).await;
    assert_eq!(record["reason"], "draining");
    let metrics = productpage.metrics.encode();
    let counted = "mesh_drain_cut_total{kind=\"request\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

/// RFC 9113 section 6.8: nobody has looked at a stream that a GOAWAY leaves out.
#[tokio::test]
async fn what_crosses_with_the_end_of_a_connection_goes_over_another() {
    const END_HEADERS: u8 = 0x4;
    const END_STREAM: u8 = 0x1;
    const STATUS_200: &[u8] = &[0x88];
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, mut asks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut preface = [0; 24];
                tcp.read_exact(&mut preface).await.unwrap();
                let mut server = Frames(tcp);
                server.write(SETTINGS, 0, 0, &[]).await;
                loop {
                    let request = server.next(|frame| frame.kind == HEADERS).await;
                    asked.send((connection, request.stream)).unwrap();
                    if (connection, request.stream) == (0, 3) {
                        let last_is_1 = [0, 0, 0, 1, 0, 0, 0, 0];
                        server.write(GOAWAY, 0, 0, &last_is_1).await;
                        continue;
                    }
                    let flags = END_HEADERS | END_STREAM;
                    server
                        .write(HEADERS, flags, request.stream, STATUS_200)
                        .await;
                }
            });
        }
    });
    let mesh = Mesh::new();
    let reviews = mesh.reviews(address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = http2_client(productpage.outbound()).await;
    for _ in 0..2 {
        let request = Request::get("http://reviews/").body(empty()).unwrap();
        let got = read(client.send_request(request).await.unwrap())
            .await
            .unwrap();
        assert_eq!(got.status, 200, "{got:?}");
    }
    let mut seen = Vec::new();
    while let Ok(ask) = asks.try_recv() {
        seen.push(ask);
    }
    assert_eq!(seen, [(0, 1), (0, 3), (1, 1)]);
}
