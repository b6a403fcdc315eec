//! What the proxy answers when it answers itself; nowhere else is an answer made.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use mesh_bundle::slice::Respond;
use mesh_daemon::telemetry::Reason;
use mesh_engine::filter::RespondPolicy;
use mesh_engine::jwt::Invalid;

use super::body::ResponseBody;
use super::rate_limit::Limited;
use super::sanitise::{REASON_HEADER, Rule};
use crate::access::authorizers::Denial;

/// gRPC's status for who has not said who it is.
const UNAUTHENTICATED: u8 = 16;

/// In which protocol an answer is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The version of the request.
    pub(crate) version: Version,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
}

/// The answer for a reason.
pub(crate) fn reply(reason: Reason, asked: Asked) -> Response<ResponseBody> {
    if asked.grpc {
        return grpc(reason);
    }
    let mut reply = http(reason, status(reason), false, asked.version);
    if let Reason::JwtInvalid(cause) = reason {
        let headers = reply.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, challenge(cause));
    }
    reply
}

/// What whoever asks is told of the token that it needs (RFC 6750 section 3): where it sent none, only that.
fn challenge(cause: &str) -> HeaderValue {
    let mut known = Invalid::ALL.into_iter();
    let invalid = known.find(|invalid| invalid.as_str() == cause);
    let text = match invalid {
        None | Some(Invalid::Missing) => return HeaderValue::from_static("Bearer"),
        Some(several @ Invalid::Several) => {
            let meaning = several.meaning();
            format!("Bearer error=\"invalid_request\", error_description=\"{meaning}\"")
        }
        Some(invalid) => {
            let meaning = invalid.meaning();
            format!("Bearer error=\"invalid_token\", error_description=\"{meaning}\"")
        }
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// An answer for a reason with a status of policy's choice. gRPC has statuses of its own.
pub(crate) fn with_status(reason: Reason, code: u16, asked: Asked) -> Response<ResponseBody> {
    if asked.grpc {
        return grpc(reason);
    }
    let code = StatusCode::from_u16(code).unwrap_or(status(reason));
    http(reason, code, false, asked.version)
}

/// The answer to a request that may not enter yet.
pub(crate) fn limited(limited: &Limited<'_>, asked: Asked) -> Response<ResponseBody> {
    let mut reply = match (&limited.limit.respond, asked.grpc) {
        (Some(respond), false) => as_written(respond),
        _ => reply(Reason::RateLimited, asked),
    };
    let headers = reply.headers_mut();
    if asked.grpc {
        // gRFC A6: clients that retry wait so long.
        let millis = limited.retry_after.as_micros().div_ceil(1_000);
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(millis));
    }
    // Whole seconds (RFC 9110 section 10.2.3): rounded up, or it would be too early.
    let millis = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
    let seconds = millis.div_ceil(1_000).max(1);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    insert_reason(headers, Reason::RateLimited.to_string());
    reply
}

fn as_written(respond: &Respond) -> Response<ResponseBody> {
    let body = &respond.body;
    let body = (!body.is_empty()).then(|| Bytes::copy_from_slice(body.as_bytes()));
    let mut reply = Response::new(ResponseBody::Local(body));
    *reply.status_mut() =
        StatusCode::from_u16(respond.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    for line in &respond.headers {
        let name = HeaderName::try_from(line.name.as_str());
        let value = HeaderValue::try_from(line.value.as_str());
        if let (Ok(name), Ok(value)) = (name, value) {
            reply.headers_mut().append(name, value);
        }
    }
    reply
}

/// The answer to a request that an authorizer has refused, in its words.
pub(crate) fn denied(denial: Denial, asked: Asked) -> Response<ResponseBody> {
    let Denial {
        status,
        headers: told,
        body,
    } = denial;
    let mut reply = if asked.grpc {
        grpc(Reason::ExtAuthzDenied)
    } else {
        let body = (!body.is_empty()).then_some(body);
        let mut reply = Response::new(ResponseBody::Local(body));
        *reply.status_mut() = status;
        reply
    };
    let headers = reply.headers_mut();
    if asked.grpc && status == StatusCode::UNAUTHORIZED {
        headers.insert("grpc-status", HeaderValue::from(u16::from(UNAUTHENTICATED)));
    }
    for name in told.keys() {
        // What says of which kind a message is, is gRPC's own there.
        if asked.grpc && (name == header::CONTENT_TYPE || name.as_str().starts_with("grpc-")) {
            continue;
        }
        for value in told.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if !asked.grpc && !headers.contains_key(header::CONTENT_TYPE) {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
    }
    insert_reason(headers, Reason::ExtAuthzDenied.to_string());
    reply
}

/// What policy answers itself.
pub(crate) fn respond(respond: &RespondPolicy) -> Response<ResponseBody> {
    let body = respond.body();
    let body = (!body.is_empty()).then(|| Bytes::copy_from_slice(body.as_bytes()));
    let mut reply = Response::new(ResponseBody::Local(body));
    *reply.status_mut() = StatusCode::from_u16(respond.status()).unwrap_or(StatusCode::OK);
    *reply.headers_mut() = respond.headers();
    reply
}

/// Tells the client to go elsewhere.
pub(crate) fn redirect(status: u16, location: &str) -> Response<ResponseBody> {
    let mut reply = Response::new(ResponseBody::Local(None));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(location) {
        reply.headers_mut().insert(header::LOCATION, location);
    }
    reply
}

/// Answers a browser that asks before it asks.
pub(crate) fn preflight(headers: HeaderMap) -> Response<ResponseBody> {
    let mut reply = Response::new(ResponseBody::Local(None));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    *reply.headers_mut() = headers;
    reply
}

/// The answer to a request that broke a rule. Nothing more is read from such a connection.
pub(crate) fn refuse(rule: Rule, asked: Asked) -> Response<ResponseBody> {
    let reason = Reason::BadRequest(rule.as_str());
    if asked.grpc {
        return grpc(reason);
    }
    http(reason, rule.status(), true, asked.version)
}

/// The status of a reason.
pub(crate) fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::NoRoute => StatusCode::NOT_FOUND,
        Reason::RequestTimeout | Reason::PerTryTimeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::UpstreamProtocolError => StatusCode::BAD_GATEWAY,
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::AuthzDenied | Reason::ExtAuthzDenied => StatusCode::FORBIDDEN,
        Reason::JwtInvalid(_) => StatusCode::UNAUTHORIZED,
        Reason::BadRequest(_) => StatusCode::BAD_REQUEST,
        Reason::Loop => StatusCode::LOOP_DETECTED,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The gRPC status of a reason: what gRPC's own mapping makes of the HTTP status, except where
/// there is a closer one.
pub(crate) fn grpc_status(reason: Reason) -> u8 {
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    match reason {
        Reason::NoRoute => UNIMPLEMENTED,
        Reason::RequestTimeout | Reason::PerTryTimeout => DEADLINE_EXCEEDED,
        Reason::AuthzDenied | Reason::ExtAuthzDenied => PERMISSION_DENIED,
        Reason::JwtInvalid(_) => UNAUTHENTICATED,
        // As gRPC's own bounds of messages are answered.
        Reason::BadRequest(rule) if rule == Rule::BodyTooLarge.as_str() => RESOURCE_EXHAUSTED,
        Reason::BadRequest(_) | Reason::Loop => INTERNAL,
        _ => UNAVAILABLE,
    }
}

fn http(
    reason: Reason,
    status: StatusCode,
    close: bool,
    version: Version,
) -> Response<ResponseBody> {
    let name = reason.to_string();
    let body = format!("{{\"reason\":\"{name}\"}}\n");
    let mut reply = Response::new(ResponseBody::Local(Some(Bytes::from(body))));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    insert_reason(headers, name);
    if close && version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// A head that is its own trailers: gRPC over HTTP/2, `Trailers-Only`.
fn grpc(reason: Reason) -> Response<ResponseBody> {
    let mut reply = Response::new(ResponseBody::Local(None));
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.extend(grpc_trailers(reason));
    insert_reason(headers, reason.to_string());
    reply
}

/// The end of an answer of gRPC that began well.
pub(crate) fn grpc_trailers(reason: Reason) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = HeaderValue::from(u16::from(grpc_status(reason)));
    trailers.insert("grpc-status", status);
    if let Ok(message) = HeaderValue::try_from(reason.to_string()) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

fn insert_reason(headers: &mut HeaderMap, name: String) {
    if let Ok(value) = HeaderValue::try_from(name) {
        headers.insert(REASON_HEADER, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP1: Asked = Asked {
        version: Version::HTTP_11,
        grpc: false,
    };
    const GRPC: Asked = Asked {
        version: Version::HTTP_2,
        grpc: true,
    };

    #[test]
    fn each_protocol_gets_the_reason_in_its_own_words() {
        let answer = reply(Reason::NoRoute, HTTP1);
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()["x-mesh-reason"], "no_route");
        assert!(!answer.headers().contains_key("connection"));
        let answer = reply(Reason::NoRoute, GRPC);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], "12");
        assert_eq!(answer.headers()["grpc-message"], "no_route");
    }

    /// RFC 6750 section 3.1: "If the request lacks any authentication information … the resource server SHOULD NOT
    /// include an error code".
    #[test]
    fn whoever_needs_a_token_is_told_why() {
        let told = |cause| {
            let answer = reply(Reason::JwtInvalid(cause), HTTP1);
            assert_eq!(answer.status(), 401);
            answer.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(told("missing"), "Bearer");
        let expired = r#"Bearer error="invalid_token", error_description="the token has expired""#;
        assert_eq!(told("expired"), expired);
        assert!(told("several_tokens").starts_with(r#"Bearer error="invalid_request""#));
        for invalid in Invalid::ALL {
            assert!(told(invalid.as_str()).is_ascii());
        }
    }

    #[test]
    fn a_body_that_is_too_large_is_told_as_grpc_tells_it() {
        let answer = refuse(Rule::BodyTooLarge, GRPC);
        assert_eq!(answer.headers()["grpc-status"], "8");
        assert_eq!(refuse(Rule::BodyTooLarge, HTTP1).status(), 413);
    }

    #[test]
    fn a_refused_request_ends_its_connection() {
        let reply = refuse(Rule::HostMissing, HTTP1);
        assert_eq!(reply.status(), 400);
        assert_eq!(reply.headers()["connection"], "close");
        assert_eq!(reply.headers()["x-mesh-reason"], "bad_request:host_missing");
    }
}
