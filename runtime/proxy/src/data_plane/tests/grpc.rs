//! gRPC as its own library speaks it: the four kinds of calls, metadata, statuses, deadlines and cancellation.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_bundle::slice::{Protocol, RetryCause, Slice};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::harness::*;

type Codec = ProstCodec<String, String>;
type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<Response<T>, Status>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// The service of the tests.
#[derive(Clone, Default)]
struct Echo {
    /// Told when a client took its call back.
    cancelled: Arc<Notify>,
}

struct WhenDropped(Arc<Notify>);

impl Drop for WhenDropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl tonic::server::UnaryService<String> for Echo {
    type Response = String;
    type Future = Future<String>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let cancelled = WhenDropped(Arc::clone(&self.cancelled));
        Box::pin(async move {
            if request.get_ref() == "never" {
                std::future::pending::<()>().await;
            }
            drop(cancelled);
            if request.get_ref() == "fail" {
                let mut status = Status::with_details(
                    Code::FailedPrecondition,
                    "grün: 100% + ünmöglich",
                    vec![0, 1, 255].into(),
                );
                status
                    .metadata_mut()
                    .insert("why", MetadataValue::from_static("so"));
                return Err(status);
            }
            let timeout = request.metadata().get("grpc-timeout").cloned();
            let mut answer = Response::new(request.get_ref().to_uppercase());
            if let Some(timeout) = timeout {
                answer.metadata_mut().insert("got-timeout", timeout);
            }
            for (name, told) in [("asked", "asked"), ("x-mesh-peer", "peer")] {
                if let Some(value) = request.metadata().get(name) {
                    answer.metadata_mut().insert(told, value.clone());
                }
            }
            if let Some(value) = request.metadata().get_bin("asked-bin") {
                answer.metadata_mut().insert_bin("asked-bin", value.clone());
            }
            Ok(answer)
        })
    }
}

impl tonic::server::ServerStreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = Messages;
    type Future = Future<Messages>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let cancelled = WhenDropped(Arc::clone(&self.cancelled));
        Box::pin(async move {
            let words: Vec<String> = request.get_ref().split(' ').map(str::to_owned).collect();
            let pause = Duration::from_millis(400);
            let words = stream::iter(words).then(move |word| {
                let _held = &cancelled;
                async move {
                    tokio::time::sleep(pause).await;
                    match &*word {
                        "fail" => Err(Status::aborted("in the middle")),
                        "never" => std::future::pending().await,
                        _ => Ok(word),
                    }
                }
            });
            Ok(Response::new(Box::pin(words) as Messages))
        })
    }
}

impl tonic::server::ClientStreamingService<String> for Echo {
    type Response = String;
    type Future = Future<String>;

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        Box::pin(async move {
            let mut words = request.into_inner();
            let mut all = Vec::new();
            while let Some(word) = words.message().await? {
                all.push(word);
            }
            Ok(Response::new(all.join(" ")))
        })
    }
}

impl tonic::server::StreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = Messages;
    type Future = Future<Messages>;

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        Box::pin(async move {
            let words = request.into_inner().map(|word| Ok(word?.to_uppercase()));
            Ok(Response::new(Box::pin(words) as Messages))
        })
    }
}

impl Echo {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = self.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let echo = echo.clone();
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let echo = echo.clone();
                    async move { Ok::<_, std::convert::Infallible>(echo.serve(request).await) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(tcp), service));
            }
        });
        address
    }

    async fn serve(self, request: http::Request<Incoming>) -> http::Response<Body> {
        let mut grpc = tonic::server::Grpc::new(Codec::default());
        match request.uri().path() {
            "/echo.Echo/Unary" => grpc.unary(self, request).await,
            "/echo.Echo/Server" => grpc.server_streaming(self, request).await,
            "/echo.Echo/Client" => grpc.client_streaming(self, request).await,
            "/echo.Echo/Both" => grpc.streaming(self, request).await,
            _ => Status::unimplemented("").into_http(),
        }
    }
}

/// Two proxies before the service, and a client.
struct World {
    mesh: Mesh,
    echo: Echo,
    reviews: Proxy,
    productpage: Proxy,
    client: tonic::client::Grpc<Channel>,
}

fn grpc(mut slice: Slice) -> Slice {
    for service in &mut slice.access.services {
        service.ports[0].protocol = Protocol::Grpc;
    }
    for callee in &mut slice.callees {
        callee.ports[0].protocol = Protocol::Grpc;
    }
    slice
}

impl World {
    async fn new() -> Self {
        let mesh = Mesh::new();
        let echo = Echo::default();
        let reviews = mesh.proxy("reviews", Some(echo.start().await));
        reviews.apply(&grpc(mesh.admitting("reviews", &["productpage"])));
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        let mut quick = route();
        quick.exchange.timeout = Some(Duration::from_secs(1));
        productpage.apply(&grpc(mesh.calling(vec![quick])));
        let channel = Endpoint::from_shared(format!("http://{}", productpage.outbound()))
            .unwrap()
            .origin("http://reviews".parse().unwrap())
            .connect()
            .await
            .unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        Self {
            mesh,
            echo,
            reviews,
            productpage,
            client,
        }
    }

    async fn unary(&mut self, request: Request<String>) -> Result<Response<String>, Status> {
        let path = http::uri::PathAndQuery::from_static("/echo.Echo/Unary");
        self.client.ready().await.unwrap();
        self.client.unary(request, path, Codec::default()).await
    }

    async fn server(&mut self, words: &str) -> Result<Response<Streaming<String>>, Status> {
        let path = http::uri::PathAndQuery::from_static("/echo.Echo/Server");
        let request = Request::new(words.to_owned());
        self.client.ready().await.unwrap();
        self.client
            .server_streaming(request, path, Codec::default())
            .await
    }
}

fn says(text: &str) -> Request<String> {
    Request::new(text.to_owned())
}

#[tokio::test]
async fn unary_calls_with_their_metadata() {
    let mut world = World::new().await;
    let mut request = says("hello");
    let metadata = request.metadata_mut();
    metadata.insert("asked", MetadataValue::from_static("1"));
    metadata.insert_bin("asked-bin", MetadataValue::from_bytes(&[0, 1, 255]));
    let answer = world.unary(request).await.unwrap();
    let metadata = answer.metadata();
    assert_eq!(answer.get_ref(), "HELLO");
    assert_eq!(metadata.get("asked").unwrap(), "1");
    let bytes = metadata.get_bin("asked-bin").unwrap().to_bytes().unwrap();
    assert_eq!(&*bytes, [0, 1, 255]);
    assert_eq!(
        metadata.get("peer").unwrap(),
        "spiffe://shop.example/service/productpage"
    );
    // What policy allows is none of the application's deadlines: it ends where a stream begins.
    assert!(metadata.get("got-timeout").is_none());

    let status = world.unary(says("fail")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "grün: 100% + ünmöglich");
    assert_eq!(status.details(), [0, 1, 255]);
    assert_eq!(status.metadata().get("why").unwrap(), "so");
    for proxy in [&world.productpage, &world.reviews] {
        let record = proxy.record(|record| record["grpc_status"] == 9).await;
        assert_eq!(record["protocol"], "grpc");
        assert_eq!(record["code"], 200);
        assert!(record["reason"].is_null(), "{record}");
    }
}

/// design.md, Time: the timeout of the route, 1 s, ends once a response has begun.
#[tokio::test]
async fn streams_of_the_server_outlive_the_timeout() {
    let mut world = World::new().await;
    let answer = world.server("one two three four five").await.unwrap();
    let words: Vec<_> = answer.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(words, ["one", "two", "three", "four", "five"]);
    let mut answer = world.server("one fail").await.unwrap().into_inner();
    assert_eq!(answer.message().await.unwrap().unwrap(), "one");
    let status = answer.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Aborted, "in the middle")
    );
    world
        .productpage
        .record(|record| record["grpc_status"] == 10)
        .await;
}

#[tokio::test]
async fn streams_of_the_client_and_of_both() {
    let mut world = World::new().await;
    let path = http::uri::PathAndQuery::from_static("/echo.Echo/Client");
    let words = stream::iter(["one", "two", "three"].map(str::to_owned));
    let answer = world
        .client
        .client_streaming(Request::new(words), path, Codec::default())
        .await
        .unwrap();
    assert_eq!(answer.get_ref(), "one two three");

    let (sender, receiver) = mpsc::channel::<String>(1);
    let asking = stream::unfold(receiver, |mut receiver| async move {
        let word = receiver.recv().await?;
        Some((word, receiver))
    });
    let path = http::uri::PathAndQuery::from_static("/echo.Echo/Both");
    world.client.ready().await.unwrap();
    let answer = world
        .client
        .streaming(Request::new(asking), path, Codec::default())
        .await
        .unwrap();
    let mut answers = answer.into_inner();
    // Each is only asked once the one before was answered.
    for word in ["one", "two", "three"] {
        sender.send(word.to_owned()).await.unwrap();
        let got = answers.message().await.unwrap().unwrap();
        assert_eq!(got, word.to_uppercase());
    }
    drop(sender);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn deadlines_are_kept_and_told() {
    let mut world = World::new().await;
    let status = world.unary(says("never")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::DeadlineExceeded, "request_timeout")
    );
    world.echo.cancelled.notified().await;
    let mut request = says("hello");
    request.set_timeout(Duration::from_secs(5));
    let answer = world.unary(request).await.unwrap();
    let told = answer.metadata().get("got-timeout").unwrap();
    let told: u32 = told
        .to_str()
        .unwrap()
        .strip_suffix('m')
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=5000).contains(&told), "{told}");
    let record = world
        .productpage
        .record(|record| record["reason"] == "request_timeout")
        .await;
    assert_eq!(record["grpc_status"], 4);
}

#[tokio::test]
async fn a_call_that_is_taken_back_is_taken_back_everywhere() {
    let mut world = World::new().await;
    let mut answer = world.server("one never").await.unwrap().into_inner();
    assert_eq!(answer.message().await.unwrap().unwrap(), "one");
    drop(answer);
    let told = world.echo.cancelled.notified();
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("the server goes on");
    for proxy in [&world.productpage, &world.reviews] {
        proxy
            .record(|record| record["reason"] == "client_disconnect")
            .await;
    }
}

/// What the proxy answers in place of the service is what gRPC's own mapping has.
#[tokio::test]
async fn local_replies_are_statuses() {
    let mut world = World::new().await;
    let slice = grpc(world.mesh.admitting("reviews", &["details"]));
    world.reviews.apply(&slice);
    let status = world.unary(says("hello")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "authz_denied")
    );
    let mut elsewhere = route();
    elsewhere.matches[0].conditions = vec![header("nobody")];
    world
        .productpage
        .apply(&grpc(world.mesh.calling(vec![elsewhere])));
    let status = world.unary(says("hello")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "no_route")
    );
    world
        .productpage
        .apply(&grpc(world.mesh.calling(vec![route()])));
    world.productpage.plane.set_endpoints(Vec::new());
    let status = world.unary(says("hello")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "no_healthy_upstream")
    );
    let mut again = route();
    again.exchange.retry = retry(2, &[RetryCause::ConnectFailure]);
    world
        .productpage
        .apply(&grpc(world.mesh.calling(vec![again])));
    let at = endpoints("reviews", &[("v1", nobody().await)]);
    world.productpage.plane.set_endpoints(at);
    let status = world.unary(says("hello")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "connect_failure")
    );
}
