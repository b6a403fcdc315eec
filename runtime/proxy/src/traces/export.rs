//! Sends spans to one collector in batches, over one connection that is kept: gRPC or HTTP, one call at a time. A batch
//! that cannot be sent is tried again a few times and then dropped; meanwhile the queue fills, and drops.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::message::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, ResourceMessage,
    ResourceSpans, ScopeSpans, SpanMessage,
};
use super::span::{Attributes, Span};
use super::target::Target;
use super::{Resource, SpanMetrics};
use crate::limits;
use crate::upstream::connect::{self, Carries, ConnectError, HttpVersion};

type Body = Full<Bytes>;

/// Why a batch was not taken.
#[derive(Debug, Error)]
enum ExportError {
    #[error("resolve the collector's name")]
    Resolve(#[source] std::io::Error),
    #[error("connect to the collector")]
    Connect(#[source] ConnectError),
    #[error("talk to the collector")]
    Http(#[source] hyper::Error),
    #[error("read the collector's answer")]
    Answer,
    #[error("hear from the collector in time")]
    Timeout,
    #[error("have the collector take it: {status}")]
    Refused {
        status: String,
        /// Whether it may be asked again.
        again: bool,
    },
}

impl ExportError {
    fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Refused { again, .. } => *again,
            _ => true,
        }
    }
}

/// Sends until nobody hands anything over any more, or until asked to finish.
pub(super) async fn run(
    target: Target,
    mut queue: mpsc::Receiver<Box<Span>>,
    mut finish: watch::Receiver<bool>,
    metrics: SpanMetrics,
) {
    let mut sender = Sender {
        target,
        connection: None,
        failing: false,
    };
    let mut batch = Vec::new();
    loop {
        let finishing = *finish.borrow_and_update();
        let more = collect(&mut queue, &mut finish, &mut batch, finishing).await;
        if !batch.is_empty() {
            let spans = batch.len();
            let message = request(batch.drain(..)).encode_to_vec();
            sender.export(message, spans, &metrics, &mut finish).await;
        }
        if !more {
            return;
        }
    }
}

/// Waits for a first span, and then for others until there are enough or time has passed. False: there will be no more.
async fn collect(
    queue: &mut mpsc::Receiver<Box<Span>>,
    finish: &mut watch::Receiver<bool>,
    batch: &mut Vec<Span>,
    finishing: bool,
) -> bool {
    if finishing {
        while batch.len() < limits::SPAN_BATCH
            && let Ok(span) = queue.try_recv()
        {
            batch.push(*span);
        }
        return batch.len() == limits::SPAN_BATCH;
    }
    let first = tokio::select! {
        biased;
        first = queue.recv() => first,
        // Whoever asks holds it.
        _ = finish.changed() => return true,
    };
    let Some(first) = first else {
        return false;
    };
    batch.push(*first);
    let until = Instant::now() + limits::SPAN_BATCH_WAIT;
    while batch.len() < limits::SPAN_BATCH {
        let next = async {
            tokio::select! {
                biased;
                next = queue.recv() => next.map(Some),
                _ = finish.changed() => Some(None),
            }
        };
        match timeout_at(until, next).await {
            Ok(Some(Some(span))) => batch.push(*span),
            // Asked to finish, or time has passed.
            Ok(Some(None)) | Err(_) => return true,
            Ok(None) => return false,
        }
    }
    true
}

fn request(spans: impl Iterator<Item = Span>) -> ExportTraceServiceRequest {
    let mut by_resource: BTreeMap<Arc<Resource>, Vec<SpanMessage>> = BTreeMap::new();
    for span in spans {
        let (resource, message) = span.into_parts();
        by_resource.entry(resource).or_default().push(message);
    }
    let scope = InstrumentationScope {
        name: "meshp".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let resource_spans = by_resource
        .into_iter()
        .map(|(resource, spans)| ResourceSpans {
            resource: Some(described(&resource)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope.clone()),
                spans,
            }],
        });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

fn described(resource: &Resource) -> ResourceMessage {
    let mut has = Attributes::default();
    has.text("service.name", &resource.service);
    has.text("service.instance.id", &resource.instance);
    has.text("mesh.identity", &resource.identity);
    has.text("telemetry.sdk.name", "meshp");
    has.text("telemetry.sdk.language", "rust");
    has.text("telemetry.sdk.version", env!("CARGO_PKG_VERSION"));
    ResourceMessage {
        attributes: has.into_inner(),
    }
}

struct Sender {
    target: Target,
    connection: Option<Connection>,
    /// So that a collector that is gone is told of once.
    failing: bool,
}

enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    /// Sends one batch, or gives it up.
    async fn export(
        &mut self,
        message: Vec<u8>,
        spans: usize,
        metrics: &SpanMetrics,
        finish: &mut watch::Receiver<bool>,
    ) {
        let message = Bytes::from(message);
        let mut pause = limits::SPAN_EXPORT_PAUSE;
        for attempt in 1.. {
            let sending = self.send(message.clone());
            let sent = tokio::time::timeout(limits::SPAN_EXPORT_TIMEOUT, sending).await;
            let error = match sent.unwrap_or(Err(ExportError::Timeout)) {
                Ok(rejected) => {
                    let rejected = usize::try_from(rejected).unwrap_or(0).min(spans);
                    metrics.exported.inc_by((spans - rejected) as u64);
                    if rejected > 0 {
                        metrics.dropped("rejected", rejected);
                    }
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(collector = self.target.authority(), "spans are sent again");
                    }
                    return;
                }
                Err(error) => error,
            };
            self.connection = None;
            let finishing = *finish.borrow();
            let again = error.may_be_tried_again() && !finishing;
            if again && attempt < limits::SPAN_EXPORT_ATTEMPTS {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = finish.changed() => {}
                }
                pause *= 2;
                continue;
            }
            metrics.dropped("export_failed", spans);
            if !std::mem::replace(&mut self.failing, true) {
                let error = crate::subscribe::chain(&error);
                tracing::warn!(
                    collector = self.target.authority(),
                    error,
                    "spans cannot be sent"
                );
            }
            return;
        }
    }

    async fn send(&mut self, message: Bytes) -> Result<i64, ExportError> {
        let request = self.request(message);
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        let response = match &mut connection {
            Connection::Http1(sender) => sender.send_request(request).await,
            Connection::Http2(sender) => sender.send_request(request).await,
        };
        let rejected = self.judge(response.map_err(ExportError::Http)?).await?;
        self.connection = Some(connection);
        Ok(rejected)
    }

    fn request(&self, message: Bytes) -> Request<Body> {
        let Target {
            grpc, scheme, path, ..
        } = &self.target;
        let authority = self.target.authority();
        let body = if *grpc { framed(&message) } else { message };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        let content = if *grpc {
            "application/grpc"
        } else {
            "application/x-protobuf"
        };
        let agent = concat!("meshp/", env!("CARGO_PKG_VERSION"));
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        if *grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            let uri = Uri::builder()
                .scheme(scheme.clone())
                .authority(authority)
                .path_and_query(path.clone());
            *request.uri_mut() = uri.build().unwrap_or_default();
            *request.version_mut() = Version::HTTP_2;
        } else {
            if let Ok(host) = HeaderValue::try_from(authority) {
                headers.insert(header::HOST, host);
            }
            *request.uri_mut() = Uri::from(path.clone());
        }
        request
    }

    async fn connect(&self) -> Result<Connection, ExportError> {
        let addresses = self.target.addresses().await;
        let addresses = addresses.map_err(ExportError::Resolve)?;
        let mut failed = ConnectError::Tcp;
        for address in addresses {
            let carries = Carries::Http(self.target.version());
            let limit = limits::SPAN_CONNECT_TIMEOUT;
            match connect::connect(address, self.target.security(), carries, limit).await {
                Ok(connected) => {
                    let io = TokioIo::new(connected.io);
                    return match self.target.version() {
                        HttpVersion::Http1 => {
                            let (sender, connection) =
                                http1::handshake(io).await.map_err(ExportError::Http)?;
                            drive(connection);
                            Ok(Connection::Http1(sender))
                        }
                        HttpVersion::Http2 => {
                            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                                .await
                                .map_err(ExportError::Http)?;
                            drive(connection);
                            Ok(Connection::Http2(sender))
                        }
                    };
                }
                Err(error) => failed = error,
            }
        }
        Err(ExportError::Connect(failed))
    }

    /// How many spans the collector did not want.
    async fn judge(&self, response: Response<Incoming>) -> Result<i64, ExportError> {
        let (head, body) = response.into_parts();
        let limited = Limited::new(body, limits::SPAN_ANSWER_BYTES_MAX);
        let body = limited.collect().await;
        let body = body.map_err(|_broken| ExportError::Answer)?;
        if !head.status.is_success() {
            let again = matches!(head.status.as_u16(), 429 | 502 | 503 | 504);
            let status = head.status.to_string();
            return Err(ExportError::Refused { status, again });
        }
        let trailers = body.trailers().cloned().unwrap_or_default();
        let mut bytes = body.to_bytes();
        if self.target.grpc {
            grpc_status(&head.headers, &trailers)?;
            if bytes.len() < PREFIX_BYTES {
                return Ok(0);
            }
            bytes.advance(PREFIX_BYTES);
        }
        // What cannot be read says nothing of refusals.
        let answer = ExportTraceServiceResponse::decode(bytes).unwrap_or_default();
        Ok(answer.partial_success.map_or(0, |part| {
            if !part.error_message.is_empty() {
                tracing::warn!(message = part.error_message, "the collector complains");
            }
            part.rejected_spans
        }))
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed() || !sender.is_ready(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Runs a connection until its sender is dropped.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the collector's connection ended");
        }
    });
}

const PREFIX_BYTES: usize = 5;

/// A message as gRPC has it: not compressed, its length before it.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + PREFIX_BYTES);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

fn grpc_status(headers: &HeaderMap, trailers: &HeaderMap) -> Result<(), ExportError> {
    const STATUS: &str = "grpc-status";
    let status = trailers.get(STATUS).or_else(|| headers.get(STATUS));
    let status = status.and_then(|status| status.to_str().ok()?.parse::<u8>().ok());
    match status {
        Some(0) => Ok(()),
        // OTLP's list: cancelled, deadline, aborted, out of range, unavailable, data loss; exhausted only where the
        // collector says when, which is as good as full.
        Some(status @ (1 | 4 | 8 | 10 | 11 | 14 | 15)) => Err(ExportError::Refused {
            status: format!("gRPC {status}"),
            again: true,
        }),
        Some(status) => Err(ExportError::Refused {
            status: format!("gRPC {status}"),
            again: false,
        }),
        None => Err(ExportError::Answer),
    }
}
