//! The test service on tonic.

use std::convert::Infallible;
use std::pin::Pin;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tests::Failure;
use mesh_tests::netns::Host;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{
    EchoStatus, Empty, InputRequest, InputResponse, OutputRequest, OutputResponse, SimpleRequest,
    SimpleResponse, payload,
};

const INITIAL: &str = "x-grpc-test-echo-initial";
const TRAILING: &str = "x-grpc-test-echo-trailing-bin";

type Answers = Pin<Box<dyn Stream<Item = Result<OutputResponse, Status>> + Send>>;
type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<Response<T>, Status>> + Send>>;

/// A server that ends with its owner.
pub(super) struct Server {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

impl Server {
    /// Serves on a port of a host.
    pub(super) fn start(host: &Host, port: u16) -> Result<Self, Failure> {
        let (end, ended) = oneshot::channel();
        let (listening, is_listening) = std::sync::mpsc::channel();
        let thread = host.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let listener = TcpListener::bind(("0.0.0.0", port)).await?;
                listening.send(())?;
                tokio::select! {
                    // Dropped is as good as sent.
                    _ = ended => Ok(()),
                    failed = accept(listener) => failed,
                }
            })
        })?;
        let server = Self {
            end: Some(end),
            thread: Some(thread),
        };
        is_listening.recv()?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Ok(Err(failure))) = self.thread.take().map(JoinHandle::join) {
            assert!(std::thread::panicking(), "{failure}");
        }
    }
}

async fn accept(listener: TcpListener) -> Result<(), Failure> {
    loop {
        let (tcp, _) = listener.accept().await?;
        let service = service_fn(async |request| Ok::<_, Infallible>(serve(request).await));
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(tcp), service));
    }
}

/// Answers a call, with the metadata that it wants back. tonic itself has no trailers on answers that go well.
async fn serve(request: http::Request<Incoming>) -> http::Response<Body> {
    let initial = request.headers().get(INITIAL).cloned();
    let trailing = request.headers().get(TRAILING).cloned();
    let mut response = answer(request).await;
    if let Some(value) = initial {
        response.headers_mut().insert(INITIAL, value);
    }
    let Some(value) = trailing else {
        return response;
    };
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.insert(TRAILING, value.clone());
            }
            frame
        }))
    })
}

async fn answer(request: http::Request<Incoming>) -> http::Response<Body> {
    match request.uri().path() {
        "/grpc.testing.TestService/EmptyCall" => {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            grpc.unary(EmptyCall, request).await
        }
        "/grpc.testing.TestService/UnaryCall" => {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            grpc.unary(UnaryCall, request).await
        }
        "/grpc.testing.TestService/StreamingOutputCall" => {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            grpc.server_streaming(StreamingOutputCall, request).await
        }
        "/grpc.testing.TestService/StreamingInputCall" => {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            grpc.client_streaming(StreamingInputCall, request).await
        }
        "/grpc.testing.TestService/FullDuplexCall" => {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            grpc.streaming(FullDuplexCall, request).await
        }
        _ => Status::unimplemented("").into_http(),
    }
}

struct EmptyCall;
struct UnaryCall;
struct StreamingOutputCall;
struct StreamingInputCall;
struct FullDuplexCall;

impl tonic::server::UnaryService<Empty> for EmptyCall {
    type Response = Empty;
    type Future = Future<Empty>;

    fn call(&mut self, request: Request<Empty>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl tonic::server::UnaryService<SimpleRequest> for UnaryCall {
    type Response = SimpleResponse;
    type Future = Future<SimpleResponse>;

    fn call(&mut self, request: Request<SimpleRequest>) -> Self::Future {
        Box::pin(async move {
            let asked = request.get_ref();
            wanted(asked.response_status.as_ref())?;
            let payload = Some(payload(asked.response_size));
            Ok(Response::new(SimpleResponse { payload }))
        })
    }
}

impl tonic::server::ServerStreamingService<OutputRequest> for StreamingOutputCall {
    type Response = OutputResponse;
    type ResponseStream = Answers;
    type Future = Future<Answers>;

    fn call(&mut self, request: Request<OutputRequest>) -> Self::Future {
        Box::pin(async move {
            Ok(Response::new(
                Box::pin(answers(Ok(request.into_inner()))) as Answers
            ))
        })
    }
}

impl tonic::server::ClientStreamingService<InputRequest> for StreamingInputCall {
    type Response = InputResponse;
    type Future = Future<InputResponse>;

    fn call(&mut self, request: Request<Streaming<InputRequest>>) -> Self::Future {
        Box::pin(async move {
            let mut requests = request.into_inner();
            let mut bytes = 0;
            while let Some(request) = requests.message().await? {
                bytes += request.payload.map_or(0, |payload| payload.body.len());
            }
            let size = i32::try_from(bytes).map_err(|_more| Status::out_of_range("so much"))?;
            Ok(Response::new(InputResponse {
                aggregated_payload_size: size,
            }))
        })
    }
}

impl tonic::server::StreamingService<OutputRequest> for FullDuplexCall {
    type Response = OutputResponse;
    type ResponseStream = Answers;
    type Future = Future<Answers>;

    fn call(&mut self, request: Request<Streaming<OutputRequest>>) -> Self::Future {
        Box::pin(async move {
            let answers = request.into_inner().flat_map(answers);
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

/// The answers to one request of a stream, or the status that it wants.
fn answers(
    request: Result<OutputRequest, Status>,
) -> impl Stream<Item = Result<OutputResponse, Status>> + Send {
    let (parameters, status) = match request {
        Ok(request) => {
            let status = wanted(request.response_status.as_ref()).err();
            (request.response_parameters, status)
        }
        Err(status) => (Vec::new(), Some(status)),
    };
    let failure = stream::iter(status.map(Err));
    let answers = stream::iter(parameters).then(async |each| {
        if let Ok(pause @ 1..) = u64::try_from(each.interval_us) {
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        let payload = Some(payload(each.size));
        Ok(OutputResponse { payload })
    });
    failure.chain(answers)
}

fn wanted(status: Option<&EchoStatus>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(
            Code::from_i32(status.code),
            status.message.clone(),
        )),
        _ => Ok(()),
    }
}
