//! Requests that HTTP/2 connections to an application leave out when they end (RFC 9113 section 6.8).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use http::{Method, Request};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::frames::*;
use super::harness::*;
use crate::limits::Limits;

/// What an application was asked: connection, stream, bytes of the body.
type Asked = (usize, u32, usize);

/// How an application ends its connections.
#[derive(Clone)]
struct Ending {
    /// It takes so many streams on one.
    streams: usize,
    settings: &'static [u8],
    /// It ends one with the last stream that it takes, and not with the next; what it has taken is answered
    /// only after this.
    early: Option<Arc<Notify>>,
}

async fn application(ending: Ending) -> (SocketAddr, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, asks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(tcp, number, ending.clone(), asked.clone()));
        }
    });
    (address, asks)
}

async fn connection(
    tcp: TcpStream,
    number: usize,
    ending: Ending,
    asked: mpsc::UnboundedSender<Asked>,
) {
    let mut server = Frames::accept(tcp, ending.settings).await;
    let mut bodies = BTreeMap::<u32, usize>::new();
    let (mut taken, mut last) = (0, 0);
    let of_request = |frame: &Frame| matches!(frame.kind, HEADERS | DATA);
    while let Some(frame) = server.next_if_any(of_request).await {
        let body = bodies.entry(frame.stream).or_default();
        if frame.kind == DATA {
            *body += frame.payload.len();
        }
        if frame.flags & END_STREAM == 0 {
            continue;
        }
        asked.send((number, frame.stream, *body)).unwrap();
        if taken == ending.streams {
            server.end_after(last).await;
            continue;
        }
        (taken, last) = (taken + 1, frame.stream);
        if let Some(until) = ending.early.as_ref().filter(|_| taken == ending.streams) {
            until.notified().await;
            server.end_after(last).await;
        }
        server.ok(frame.stream).await;
    }
}

/// Nobody has looked at a stream that a GOAWAY leaves out, whatever it asks for.
#[tokio::test]
async fn what_crosses_with_the_end_of_a_connection_goes_over_another() {
    let ending = Ending {
        streams: 1,
        settings: &[],
        early: None,
    };
    for (method, body) in [
        (Method::GET, ""),
        (Method::POST, ""),
        (Method::POST, "12345"),
    ] {
        let (address, mut asks) = application(ending.clone()).await;
        let mesh = Mesh::new();
        let reviews = mesh.reviews(address);
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        let mut client = http2_client(productpage.outbound()).await;
        for _ in 0..2 {
            let request = Request::builder().method(&method).uri("http://reviews/");
            let request = request.body(full(body)).unwrap();
            let got = read(client.send_request(request).await.unwrap()).await;
            assert_eq!(got.unwrap().status, 200, "{method} {body}");
        }
        let mut seen = Vec::new();
        while let Ok(ask) = asks.try_recv() {
            seen.push(ask);
        }
        let bytes = body.len();
        assert_eq!(
            seen,
            [(0, 1, bytes), (0, 3, bytes), (1, 1, bytes)],
            "{method} {body}"
        );
    }
}

/// No connection is given more streams than its other end takes: what waits for room when it ends would be lost.
#[tokio::test]
async fn what_waits_for_a_connection_that_ends_goes_over_another() {
    /// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 section 6.5.2).
    const ONE_AT_A_TIME: &[u8] = &[0, 3, 0, 0, 0, 1];
    const BODY: &str = "12345";
    let all_wait = Arc::new(Notify::new());
    let (address, mut asks) = application(Ending {
        streams: 3,
        settings: ONE_AT_A_TIME,
        early: Some(Arc::clone(&all_wait)),
    })
    .await;
    let mesh = Mesh::new();
    let reviews = mesh.reviews_with(address, |settings| {
        settings.limits = Arc::new(Limits {
            pool_connections: 1,
            ..Limits::default()
        });
    });
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let client = http2_client(productpage.outbound()).await;
    let ask = || {
        let mut client = client.clone();
        let request = Request::post("http://reviews/").body(full(BODY)).unwrap();
        async move { read(client.send_request(request).await.unwrap()).await }
    };
    // What the other end takes is known by the second.
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap().status, 200);
    }
    let last_of_connection = async {
        let all_here = "mesh_requests_in_flight{reporter=\"destination\"} 3";
        eventually(|| reviews.metrics.encode().contains(all_here).then_some(())).await;
        all_wait.notify_one();
        // The same on the next connection, where they are the first and second of three.
    };
    let (got, ()) = tokio::join!(join_all([ask(), ask(), ask()]), last_of_connection);
    for got in got {
        assert_eq!(got.unwrap().status, 200);
    }
    let mut seen = Vec::new();
    while let Ok((connection, _, bytes)) = asks.try_recv() {
        assert_eq!(bytes, BODY.len());
        seen.push(connection);
    }
    assert_eq!(seen, [0, 0, 0, 1, 1]);
}

/// A peer that takes back all it has open floods nobody, also if nobody had looked at it yet.
#[tokio::test]
async fn all_streams_may_be_taken_back_at_once() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let application = Application::named("v1").await;
    let mesh = Mesh::new();
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = Frames::connect(productpage.outbound()).await;
    let open = u32::try_from(Limits::default().streams).unwrap();
    let streams = (0..open).map(|number| 2 * number + 1);
    let mut bytes = Vec::new();
    for stream in streams.clone() {
        bytes.extend(Frames::getting(stream));
    }
    for stream in streams {
        bytes.extend(Frames::framed(RST_STREAM, 0, stream, &CANCEL));
    }
    client.0.write_all(&bytes).await.unwrap();
    let last = 2 * open + 1;
    client.get(last).await;
    let answer = client
        .next(|frame| frame.kind == GOAWAY || (frame.kind, frame.stream) == (HEADERS, last))
        .await;
    assert_eq!(answer.kind, HEADERS);
}
