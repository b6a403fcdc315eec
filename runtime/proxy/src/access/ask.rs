//! Asks a service something about a request before it goes on: one try, one answer, within the time that policy gives.
//! It is a callee as any other: its endpoints are picked, its limits hold, and a mesh peer is met with mTLS.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Limited};
use mesh_bundle::slice::{Destination, Exchange, Target};
use mesh_engine::breaker::{Counted, Held};
use mesh_engine::host::HostPattern;
use prost::Message;

use crate::http::body::RequestBody;
use crate::http::sanitise::{HOPS_HEADER, TIMEOUT_HEADER};
use crate::http::timeout;
use crate::limits;
use crate::tables::Tables;
use crate::upstream::connect::HttpVersion;
use crate::upstream::endpoints::Picked;
use crate::upstream::pool::{Failure, Times};

/// What is passed on, so that whoever is asked is seen on the same trace.
const TRACE: [HeaderName; 2] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// A question.
#[derive(Debug)]
pub(crate) struct Question<'q> {
    /// Who is asked.
    pub(crate) to: &'q Target,
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    /// The host that is asked for; none: the service's own.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) version: HttpVersion,
    /// How long the answer may take, all in all.
    pub(crate) limit: Duration,
    /// How many proxies of callers it will have passed: a service that is asked about its own questions asks no end of
    /// them otherwise.
    pub(crate) hops: u16,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// There is no answer: nobody to ask, nobody who answers in time, or one that is broken or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered;

/// What of a request's headers every question carries.
pub(crate) fn trace(from: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in TRACE {
        if let Some(value) = from.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers
}

/// Asks.
pub(crate) async fn ask(tables: &Tables, question: Question<'_>) -> Result<Answered, Unanswered> {
    let limit = question.limit;
    let asking = tokio::time::timeout(limit, ask_within(tables, question));
    asking.await.unwrap_or(Err(Unanswered))
}

async fn ask_within(tables: &Tables, question: Question<'_>) -> Result<Answered, Unanswered> {
    let to = Destination::only(question.to.clone());
    let exchange = Exchange {
        connect_timeout: question.limit,
        ..Exchange::default()
    };
    let mut spare = limits::SPARE_TRIES;
    let answer = loop {
        // The port is the target's, or the only one that there is.
        let (picked, place) = tables.pick(&to, 0, &[], None).ok_or(Unanswered)?;
        let held = hold(&picked)?;
        let own = place.callee.hosts().iter().find_map(HostPattern::literal);
        let own = own.unwrap_or(place.callee.service());
        let request = request(&question, own, picked.endpoint.is_meshed())?;
        let times = Times::from(&exchange);
        let sent = picked
            .endpoint
            .send(request, question.version, times, picked.room());
        match sent.await {
            Ok(mut answer) => {
                answer.slot.hold(held);
                break answer;
            }
            // Nobody has read it: a connection that lay idle had ended, or one that ends left it out.
            Err(Failure::Stale | Failure::LeftOut) if spare > 0 => spare -= 1,
            Err(_failure) => return Err(Unanswered),
        }
    };
    let (head, body) = answer.response.into_parts();
    let body = Limited::new(body, limits::ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|_broken| Unanswered)?;
    answer.slot.give_back();
    Ok(Answered {
        status: head.status.as_u16(),
        headers: head.headers,
        trailers: body.trailers().cloned(),
        body: body.to_bytes(),
    })
}

fn hold(picked: &Picked) -> Result<Option<Held>, Unanswered> {
    let Some((pool, gate)) = picked.pool().and_then(|pool| Some((pool, pool.gate()?))) else {
        return Ok(None);
    };
    let held = gate.breaker().take(Counted::Requests);
    if held.is_none() {
        pool.refused(Counted::Requests);
        return Err(Unanswered);
    }
    Ok(held)
}

fn request(
    question: &Question<'_>,
    own: &str,
    meshed: bool,
) -> Result<Request<RequestBody>, Unanswered> {
    let host = match &question.host {
        Some(host) => host.clone(),
        None => HeaderValue::try_from(own).map_err(|_malformed| Unanswered)?,
    };
    let length = question.body.as_ref().map(Bytes::len);
    let body = match &question.body {
        Some(body) => RequestBody::Fixed(Some(body.clone())),
        None => RequestBody::Empty,
    };
    let mut request = Request::new(body);
    *request.method_mut() = question.method.clone();
    *request.headers_mut() = question.headers.clone();
    let headers = request.headers_mut();
    if meshed {
        headers.insert(HOPS_HEADER, HeaderValue::from(question.hops));
        headers.insert(TIMEOUT_HEADER, timeout::milliseconds(question.limit));
    }
    // RFC 9110 section 8.6: whoever sends a method that has a body says that this one has none.
    let has_meaning = matches!(question.method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = length.or(has_meaning.then_some(0)) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    match question.version {
        HttpVersion::Http1 => {
            *request.uri_mut() = Uri::from(question.path.clone());
            request.headers_mut().insert(header::HOST, host);
        }
        HttpVersion::Http2 => {
            let uri = Uri::builder()
                .scheme("http")
                .authority(host.as_bytes())
                .path_and_query(question.path.clone());
            *request.uri_mut() = uri.build().map_err(|_malformed| Unanswered)?;
            *request.version_mut() = Version::HTTP_2;
        }
    }
    Ok(request)
}

const PREFIX_BYTES: usize = 5;

/// Calls a method of gRPC that has one message each way.
pub(crate) async fn call<Asked: Message, Told: Message + Default>(
    tables: &Tables,
    (to, limit, hops): (&Target, Duration, u16),
    path: &'static str,
    (mut headers, message): (HeaderMap, &Asked),
) -> Result<Told, Unanswered> {
    let mut framed = BytesMut::with_capacity(message.encoded_len() + PREFIX_BYTES);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).map_err(|_too_long| Unanswered)?);
    message.encode(&mut framed).map_err(|_full| Unanswered)?;
    let content = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, content);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let timeout = format!("{}m", limit.as_millis().min(99_999_999));
    if let Ok(timeout) = HeaderValue::try_from(timeout) {
        headers.insert("grpc-timeout", timeout);
    }
    let question = Question {
        to,
        method: Method::POST,
        path: PathAndQuery::from_static(path),
        host: None,
        headers,
        body: Some(framed.freeze()),
        version: HttpVersion::Http2,
        limit,
        hops,
    };
    let answer = ask(tables, question).await?;
    let status = |headers: &HeaderMap| headers.get("grpc-status").cloned();
    let status = answer.trailers.as_ref().and_then(status);
    let status = status.or_else(|| answer.headers.get("grpc-status").cloned());
    if answer.status != 200 || status.is_none_or(|status| status != "0") {
        return Err(Unanswered);
    }
    let mut body = answer.body;
    // Not compressed, for that was not offered.
    if body.len() < PREFIX_BYTES || body.get_u8() != 0 {
        return Err(Unanswered);
    }
    let length = usize::try_from(body.get_u32()).map_err(|_too_long| Unanswered)?;
    if body.len() != length {
        return Err(Unanswered);
    }
    Told::decode(body).map_err(|_malformed| Unanswered)
}
