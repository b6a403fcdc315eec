//! The cases as tonic plays them.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use mesh_tests::Failure;
use mesh_tests::netns::Host;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{
    EchoStatus, Empty, InputRequest, InputResponse, OutputRequest, OutputResponse,
    ResponseParameters, SimpleRequest, SimpleResponse, payload, size,
};

const LIMIT: Duration = Duration::from_secs(20);

/// What is asked for, and what is sent.
const SIZES: [(i32, i32); 4] = [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)];

const SPECIAL: &str = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

/// Plays all cases from a host; their names.
pub(super) fn play(host: &Host, address: &str) -> Result<Vec<&'static str>, Failure> {
    let address = format!("http://{address}");
    let played = host.inside(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let channel = Endpoint::from_shared(address)?.connect().await?;
            let mut client = Client(tonic::client::Grpc::new(channel));
            let mut played = Vec::new();
            for name in super::CASES {
                let ended = timeout(LIMIT, client.case(name)).await;
                let ended = ended.map_err(Failure::from).flatten();
                ended.map_err(|failure| failure.while_doing(name))?;
                played.push(name);
            }
            Ok(played)
        })
    })?;
    let played = played.join();
    played.map_err(|_panic| Failure::new("the client panicked"))?
}

struct Client(tonic::client::Grpc<Channel>);

/// A stream whose messages are sent one by one.
fn turns<T>() -> (mpsc::UnboundedSender<T>, impl Stream<Item = T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let messages = stream::unfold(receiver, async |mut receiver| {
        let message = receiver.recv().await?;
        Some((message, receiver))
    });
    (sender, messages)
}

fn output(wanted: i32, sent: i32, interval_us: i32) -> OutputRequest {
    OutputRequest {
        response_parameters: vec![ResponseParameters {
            size: wanted,
            interval_us,
        }],
        payload: Some(payload(sent)),
        response_status: None,
    }
}

fn large() -> SimpleRequest {
    SimpleRequest {
        response_size: 314_159,
        payload: Some(payload(271_828)),
        response_status: None,
    }
}

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    let value = MetadataValue::from_static("test_initial_metadata_value");
    metadata.insert("x-grpc-test-echo-initial", value);
    let value = MetadataValue::from_bytes(b"\xab\xab\xab");
    metadata.insert_bin("x-grpc-test-echo-trailing-bin", value);
    request
}

fn echoed_first(metadata: &MetadataMap) -> bool {
    let value = metadata.get("x-grpc-test-echo-initial");
    value.is_some_and(|value| value == "test_initial_metadata_value")
}

fn echoed_last(metadata: &MetadataMap) -> bool {
    let value = metadata.get_bin("x-grpc-test-echo-trailing-bin");
    value.is_some_and(|value| *value == b"\xab\xab\xab".as_slice())
}

fn holds(what: &str, condition: bool) -> Result<(), Failure> {
    if condition {
        return Ok(());
    }
    Err(Failure::new(format!("not so: {what}")))
}

fn failed<T>(result: Result<T, Status>, code: Code, message: Option<&str>) -> Result<(), Failure> {
    match result {
        Err(status)
            if status.code() == code && message.is_none_or(|text| status.message() == text) =>
        {
            Ok(())
        }
        Err(status) => Err(status.into()),
        Ok(_) => Err(Failure::new("it did not fail")),
    }
}

impl Client {
    async fn case(&mut self, name: &str) -> Result<(), Failure> {
        match name {
            "empty_unary" => {
                let answer: Response<Empty> =
                    self.unary("EmptyCall", Request::new(Empty {})).await?;
                holds("nothing", *answer.get_ref() == Empty {})
            }
            "large_unary" => {
                let answer = self.simple(Request::new(large())).await?;
                let size = size(answer.get_ref().payload.as_ref());
                holds("as large as asked", size == Some(314_159))
            }
            "client_streaming" => self.client_streaming().await,
            "server_streaming" => self.server_streaming().await,
            "ping_pong" => self.ping_pong().await,
            "empty_stream" => {
                let mut answers = self.duplex(Request::new(stream::empty())).await?;
                holds("nothing", answers.get_mut().message().await?.is_none())
            }
            "custom_metadata" => self.custom_metadata().await,
            "status_code_and_message" => self.status_code_and_message().await,
            "special_status_message" => {
                let got = self.simple(Request::new(with_status(SPECIAL))).await;
                failed(got, Code::Unknown, Some(SPECIAL))
            }
            "unimplemented_method" => self.unimplemented("TestService").await,
            "unimplemented_service" => self.unimplemented("UnimplementedService").await,
            "cancel_after_begin" => {
                let (_open, requests) = turns::<InputRequest>();
                let call = self.input(Request::new(requests));
                let answered = timeout(Duration::from_millis(200), call).await;
                holds("taken back", answered.is_err())
            }
            "cancel_after_first_response" => {
                let (open, requests) = turns();
                open.send(output(31415, 27182, 0))?;
                let mut answers = self.duplex(Request::new(requests)).await?;
                let first = answers.get_mut().message().await?;
                let size = first.and_then(|first| size(first.payload.as_ref()));
                // Both ends of it are dropped here.
                holds("a first response", size == Some(31415))
            }
            "timeout_on_sleeping_server" => self.timeout_on_sleeping_server().await,
            _ => Err(Failure::new("there is no such case")),
        }
    }

    async fn client_streaming(&mut self) -> Result<(), Failure> {
        let requests = SIZES.map(|(_, sent)| InputRequest {
            payload: Some(payload(sent)),
        });
        let answer = self.input(Request::new(stream::iter(requests))).await?;
        let sum = answer.get_ref().aggregated_payload_size;
        holds("all of it came", sum == 74_922)
    }

    async fn server_streaming(&mut self) -> Result<(), Failure> {
        let parameters = SIZES.map(|(size, _)| ResponseParameters {
            size,
            interval_us: 0,
        });
        let request = OutputRequest {
            response_parameters: parameters.into(),
            ..OutputRequest::default()
        };
        self.0.ready().await?;
        let path = path("TestService", "StreamingOutputCall")?;
        let codec = ProstCodec::<OutputRequest, OutputResponse>::default();
        let answers = self.0.server_streaming(Request::new(request), path, codec);
        let answers = answers.await?.into_inner();
        let sizes: Vec<_> = answers
            .map(|answer| size(answer.ok()?.payload.as_ref()))
            .collect()
            .await;
        let wanted = SIZES.map(|(size, _)| Some(size));
        holds("as many as asked, and as large", sizes == wanted)
    }

    async fn ping_pong(&mut self) -> Result<(), Failure> {
        let (open, requests) = turns();
        let mut rest = SIZES
            .map(|(wanted, sent)| output(wanted, sent, 0))
            .into_iter();
        // A server may say nothing before the first message.
        open.send(rest.next().unwrap_or_default())?;
        let mut answers = self.duplex(Request::new(requests)).await?;
        for (wanted, _) in SIZES {
            let answer = answers.get_mut().message().await?;
            let size = answer.and_then(|answer| size(answer.payload.as_ref()));
            holds("each answer before the next", size == Some(wanted))?;
            if let Some(next) = rest.next() {
                open.send(next)?;
            }
        }
        drop(open);
        holds("an end", answers.get_mut().message().await?.is_none())
    }

    async fn custom_metadata(&mut self) -> Result<(), Failure> {
        let answer = self.simple(with_metadata(large())).await?;
        // tonic's client adds the trailers of a unary answer to its metadata.
        let metadata = answer.metadata();
        holds(
            "both came back",
            echoed_first(metadata) && echoed_last(metadata),
        )?;
        let requests = stream::iter([output(314_159, 271_828, 0)]);
        let answers = self.duplex(with_metadata(requests)).await?;
        holds("the first came back", echoed_first(answers.metadata()))?;
        let mut answers = answers.into_inner();
        while answers.message().await?.is_some() {}
        let trailers = answers.trailers().await?.unwrap_or_default();
        holds("the last came back", echoed_last(&trailers))
    }

    async fn status_code_and_message(&mut self) -> Result<(), Failure> {
        const MESSAGE: &str = "test status message";
        let got = self.simple(Request::new(with_status(MESSAGE))).await;
        failed(got, Code::Unknown, Some(MESSAGE))?;
        let request = OutputRequest {
            response_status: with_status(MESSAGE).response_status,
            ..OutputRequest::default()
        };
        let got = match self.duplex(Request::new(stream::iter([request]))).await {
            Ok(mut answers) => answers.get_mut().message().await,
            Err(status) => Err(status),
        };
        failed(got, Code::Unknown, Some(MESSAGE))
    }

    async fn timeout_on_sleeping_server(&mut self) -> Result<(), Failure> {
        const DEADLINE: Duration = Duration::from_millis(500);
        let (open, requests) = turns();
        open.send(output(1, 27182, 2_000_000))?;
        let mut request = Request::new(requests);
        request.set_timeout(DEADLINE);
        let first = async {
            let mut answers = self.duplex(request).await?;
            answers.get_mut().message().await
        };
        // tonic itself asks its clock only until an answer begins, and calls that "cancelled".
        match timeout(DEADLINE, first).await {
            Err(_elapsed) => Ok(()),
            Ok(Err(status)) if status.code() == Code::Cancelled => Ok(()),
            Ok(got) => failed(got, Code::DeadlineExceeded, None),
        }
    }

    async fn unimplemented(&mut self, service: &str) -> Result<(), Failure> {
        self.0.ready().await?;
        let path = path(service, "UnimplementedCall")?;
        let codec = ProstCodec::<Empty, Empty>::default();
        let got = self.0.unary(Request::new(Empty {}), path, codec).await;
        failed(got, Code::Unimplemented, None)
    }

    async fn simple(
        &mut self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        self.unary("UnaryCall", request).await
    }

    async fn unary<A, B>(
        &mut self,
        method: &str,
        request: Request<A>,
    ) -> Result<Response<B>, Status>
    where
        A: Message + Send + Sync + 'static,
        B: Message + Default + Send + Sync + 'static,
    {
        self.is_ready().await?;
        let path = path("TestService", method)?;
        let codec = ProstCodec::<A, B>::default();
        self.0.unary(request, path, codec).await
    }

    async fn input(
        &mut self,
        requests: Request<impl Stream<Item = InputRequest> + Send + 'static>,
    ) -> Result<Response<InputResponse>, Status> {
        self.is_ready().await?;
        let path = path("TestService", "StreamingInputCall")?;
        let codec = ProstCodec::default();
        self.0.client_streaming(requests, path, codec).await
    }

    async fn duplex(
        &mut self,
        requests: Request<impl Stream<Item = OutputRequest> + Send + 'static>,
    ) -> Result<Response<Streaming<OutputResponse>>, Status> {
        self.is_ready().await?;
        let path = path("TestService", "FullDuplexCall")?;
        let codec = ProstCodec::default();
        self.0.streaming(requests, path, codec).await
    }

    async fn is_ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))
    }
}

fn with_status(message: &str) -> SimpleRequest {
    SimpleRequest {
        response_status: Some(EchoStatus {
            code: 2,
            message: message.to_owned(),
        }),
        ..SimpleRequest::default()
    }
}

fn path(service: &str, method: &str) -> Result<PathAndQuery, Status> {
    let path = format!("/grpc.testing.{service}/{method}");
    PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))
}
