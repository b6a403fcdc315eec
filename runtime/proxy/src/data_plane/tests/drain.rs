//! How a drain begins and goes on: what is told to whom, in which order, and what is taken meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::frames::*;
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
