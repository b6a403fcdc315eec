//! The one pass over a request that makes it safe to route, authorise, log and forward: what is
//! ambiguous is refused, what belongs to one hop is removed, host and path get their canonical
//! form, and what only the mesh may say is taken out. Afterwards there is one reading of the
//! request, and everything works from it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version, request, response};
use mesh_engine::host::{self, Authority, HostError};
use mesh_engine::http1::Fault;
use mesh_engine::path::{self, Accepts, PathError};
use std::time::Duration;

use crate::limits::{self, Limits};

/// Prefix of every header that only the mesh may set.
pub(crate) const MESH_PREFIX: &str = "x-mesh-";
/// What is left of the caller's time, in milliseconds.
pub(crate) const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-mesh-timeout-ms");
/// Says that this time ends when the answer begins.
pub(crate) const STREAMING_HEADER: HeaderName = HeaderName::from_static("x-mesh-streaming");
/// How many proxies of callers a request has passed, so that one that goes round and round ends.
pub(crate) const HOPS_HEADER: HeaderName = HeaderName::from_static("x-mesh-hops");
/// Who calls, for the application.
pub(crate) const PEER_HEADER: HeaderName = HeaderName::from_static("x-mesh-peer");
/// Why a proxy answered in place of the application.
pub(crate) const REASON_HEADER: HeaderName = HeaderName::from_static("x-mesh-reason");
/// Marks a copy of a request, for whose answer nobody waits.
pub(crate) const MIRRORED_HEADER: HeaderName = HeaderName::from_static("x-mesh-mirrored");

const CLIENT_CERT_HEADER: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What belongs to one hop, RFC 9110 section 7.6.1, and what was used that way before it.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// What `Connection` may not name: removing these would change what the request says.
const NEVER_NOMINATED: [HeaderName; 5] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    header::CONTENT_TYPE,
];

/// What may not be set by trailers, RFC 9110 section 6.5.1.
const NEVER_TRAILERS: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
    header::CONTENT_TYPE,
    header::CONNECTION,
    header::TE,
];

/// Which rule a refused request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// One that the bytes of HTTP/1 broke.
    Wire(Fault),
    /// `Content-Length` that is not one number.
    ContentLength,
    /// `Transfer-Encoding` that is not exactly one `chunked`.
    TransferEncoding,
    /// `Content-Length` beside it.
    LengthAndEncoding,
    /// Half a head for too long.
    HeadTimeout,
    /// A stalled body.
    BodyTimeout,
    /// Too many HTTP/2 control frames.
    ControlFlood,
    /// Resets, CONTINUATION or empty frames of HTTP/2 without end.
    Http2Flood,
    /// Frames, or a head in them, that are not as RFC 9113 has them.
    Http2,
    /// A stream over the number that is taken, or with a head over its bound.
    Http2Refused,
    /// Not HTTP, or a head that the codec refused.
    Malformed,
    /// `CONNECT`: nothing is tunnelled.
    Connect,
    /// `TRACE`: it would show the application's caller what the mesh adds.
    Trace,
    /// A target that is neither a path nor a URL.
    TargetForm,
    /// A URL with another scheme than the connection has.
    Scheme,
    /// A target over its bound.
    TargetTooLong,
    /// More fields than the bound.
    TooManyFields,
    /// No host.
    HostMissing,
    /// Two hosts.
    HostRepeated,
    /// `:authority` and `host` differ.
    HostsDiffer,
    /// A host that is none.
    Host(HostError),
    /// A path that has no one reading.
    Path(PathError),
    /// A byte in the query that no URL has.
    Query,
    /// An expectation other than `100-continue`.
    Expectation,
    /// `Connection` is malformed, or names what it may not.
    Connection,
    /// A host whose listener would have met the client otherwise.
    Misdirected,
    /// A trusted proxy named a client that is no address.
    ForwardedFor,
    /// A body over what policy lets a destination get.
    BodyTooLarge,
}

impl Rule {
    /// As written in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Wire(fault) => fault.rule(),
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::ControlFlood => "control_flood",
            Self::Http2Flood => "http2_flood",
            Self::Http2 => "http2",
            Self::Http2Refused => "http2_refused",
            Self::Malformed => "malformed",
            Self::Connect => "connect",
            Self::Trace => "trace",
            Self::TargetForm => "target_form",
            Self::Scheme => "scheme",
            Self::TargetTooLong => "target_too_long",
            Self::TooManyFields => "too_many_fields",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostsDiffer => "hosts_differ",
            Self::Host(error) => error.rule(),
            Self::Path(error) => error.rule(),
            Self::Query => "query",
            Self::Expectation => "expectation",
            Self::Connection => "connection",
            Self::Misdirected => "misdirected",
            Self::ForwardedFor => "forwarded_for",
            Self::BodyTooLarge => "body_too_large",
        }
    }

    /// The limit that was met, if it is one.
    pub(crate) fn limit(self) -> Option<&'static str> {
        Some(match self {
            Self::Wire(Fault::HeadTooLarge) => "head_bytes",
            Self::Wire(Fault::TooManyFields) | Self::TooManyFields => "fields",
            Self::Wire(Fault::TargetTooLong) | Self::TargetTooLong => "target_bytes",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_idle_timeout",
            Self::ControlFlood => "control_frames",
            Self::Http2Flood => "resets",
            _ => return None,
        })
    }

    /// The answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Wire(fault) => of_fault(fault),
            Self::Connect | Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

fn of_fault(fault: Fault) -> StatusCode {
    match fault {
        Fault::Connect => StatusCode::METHOD_NOT_ALLOWED,
        Fault::TargetTooLong => StatusCode::URI_TOO_LONG,
        Fault::TooManyFields | Fault::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Fault::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Who sent the request, and so what of the mesh's own headers is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The local application: nothing.
    Application,
    /// An authenticated proxy of the mesh: how much time is left.
    MeshPeer,
    /// A client of a gateway: nothing.
    Client {
        /// Whether its connection is TLS.
        tls: bool,
    },
}

/// What the pass took out of a request.
#[derive(Debug)]
pub(crate) struct Sanitised {
    /// The host that the request is for.
    pub(crate) authority: Authority<'static>,
    /// The same as the next hop gets it.
    pub(crate) authority_value: HeaderValue,
    /// Whether the client waits for `100 Continue`.
    pub(crate) waits: bool,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// The time that the caller leaves.
    pub(crate) time_left: Option<Duration>,
    /// Whether that ends when the answer begins.
    pub(crate) streaming: bool,
    /// How many proxies of callers it has passed. Of an application too this is believed: what passes requests
    /// on as they are closes the circle, and the number is good for nothing but being refused.
    pub(crate) hops: u16,
}

/// Makes the request safe, in place; its URI is then a canonical path and query. `accepts`: what the path may hold until
/// it is known who takes it.
pub(crate) fn sanitise(
    head: &mut request::Parts,
    sender: Sender,
    limits: &Limits,
    accepts: Accepts,
) -> Result<Sanitised, Rule> {
    match head.method {
        Method::CONNECT => return Err(Rule::Connect),
        Method::TRACE => return Err(Rule::Trace),
        _ => {}
    }
    if head.headers.len() > limits.fields {
        return Err(Rule::TooManyFields);
    }
    if head.version == Version::HTTP_2 && list_bytes(head) > limits.head_bytes {
        return Err(Rule::Wire(Fault::HeadTooLarge));
    }
    trim(&mut head.headers);
    framing(&head.headers)?;
    let authority = authority(head, sender)?;
    let authority_value =
        HeaderValue::try_from(authority.to_string()).map_err(|_malformed| Rule::HostMissing)?;
    target(head, limits, accepts)?;
    let expectation = head.headers.remove(header::EXPECT);
    if let Some(expectation) = &expectation
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Rule::Expectation);
    }
    hop_by_hop(&mut head.headers, head.version)?;
    head.headers.remove(header::HOST);
    let time_left = match sender {
        Sender::Application | Sender::Client { .. } => None,
        Sender::MeshPeer => head.headers.get(TIMEOUT_HEADER).and_then(milliseconds),
    };
    let hops = match sender {
        Sender::Application | Sender::MeshPeer => count(&head.headers.get_all(HOPS_HEADER)),
        Sender::Client { .. } => 0,
    };
    let streaming = sender == Sender::MeshPeer && head.headers.contains_key(STREAMING_HEADER);
    // A copy stays marked up to the application that gets it.
    let is_copy = |name: &HeaderName| sender == Sender::MeshPeer && *name == MIRRORED_HEADER;
    remove_all(&mut head.headers, |name| {
        (is_mesh(name) && !is_copy(name)) || spells(name, CLIENT_CERT_HEADER.as_str())
    });
    let grpc = head.version == Version::HTTP_2 && is_grpc(&head.headers);
    Ok(Sanitised {
        authority,
        authority_value,
        waits: expectation.is_some(),
        grpc,
        time_left,
        streaming,
        hops,
    })
}

/// How large a head is as HTTP/2 counts it (RFC 9113 section 6.5.2). h2 would refuse it without a reason.
fn list_bytes(head: &request::Parts) -> usize {
    const OF_FIELD: usize = 32;
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let fields = head.headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len() + OF_FIELD)
        .fold(target, usize::saturating_add)
}

/// Takes away what white space values begin and end with. HTTP/2 carries it, although it is malformed there (RFC 9113
/// section 8.2.1); the next hop of HTTP/1 reads the values without it, and so must every rule. Trimmed and not refused,
/// for gRPC lets clients send it.
fn trim(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let trimmed = value.as_bytes().trim_ascii();
        if trimmed.len() == value.len() {
            continue;
        }
        let mut kept = HeaderValue::from_bytes(trimmed).expect("a part of a value is one");
        kept.set_sensitive(value.is_sensitive());
        *value = kept;
    }
}

/// The largest, and as many as there can be if one is no number.
fn count(values: &header::GetAll<'_, HeaderValue>) -> u16 {
    let number = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.parse().unwrap_or(u16::MAX)
    };
    values.iter().map(number).max().unwrap_or_default()
}

/// Whether a message is gRPC, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
    })
}

/// Why an answer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadAnswer;

/// Makes an answer safe, in place. `from` the application, nothing of the mesh's own is believed. `agrees`: it
/// is what was asked for that the connection become something else.
pub(crate) fn sanitise_answer(
    head: &mut response::Parts,
    from: Sender,
    agrees: bool,
) -> Result<(), BadAnswer> {
    // hyper takes the other 1xx out, and there is no status above 599 (RFC 9110 section 15).
    let is_strange = head.status.is_informational() && !agrees || head.status.as_u16() > 599;
    if is_strange || framing(&head.headers).is_err() {
        return Err(BadAnswer);
    }
    hop_by_hop(&mut head.headers, head.version).map_err(|_malformed| BadAnswer)?;
    // A proxy speaks its own version, whatever the application's is (RFC 9110 section 6.2).
    head.version = Version::HTTP_11;
    if from == Sender::Application {
        remove_all(&mut head.headers, is_mesh);
    }
    Ok(())
}

/// Takes out of trailers what trailers may not say.
pub(crate) fn sanitise_trailers(trailers: &mut HeaderMap) {
    for name in &NEVER_TRAILERS {
        trailers.remove(name);
    }
    remove_all(trailers, is_mesh);
}

/// What is left to check once hyper has parsed a head; see `wire` for what it hides.
fn framing(headers: &HeaderMap) -> Result<(), Rule> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_one = |length: &HeaderValue| {
        let bytes = length.as_bytes();
        !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
    };
    // `2, 2` is one length to some parsers, and none to others.
    if lengths.next().is_some_and(|length| !is_one(length)) || lengths.next().is_some() {
        return Err(Rule::ContentLength);
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else {
        return Ok(());
    };
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Rule::TransferEncoding);
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Rule::LengthAndEncoding);
    }
    Ok(())
}

/// RFC 9112 section 3.2 and RFC 9113 section 8.3.1, without their leniencies.
fn authority(head: &request::Parts, sender: Sender) -> Result<Authority<'static>, Rule> {
    let mut lines = head.headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Rule::HostRepeated);
    }
    let line = match line {
        Some(value) => {
            let text = value
                .to_str()
                .map_err(|_malformed| Rule::Host(HostError::BadByte))?;
            Some(host::normalise(text).map_err(Rule::Host)?)
        }
        None => None,
    };
    let in_target = match head.uri.authority() {
        Some(authority) => Some(host::normalise(authority.as_str()).map_err(Rule::Host)?),
        None => None,
    };
    if head.version == Version::HTTP_2 {
        // Nobody encrypts what comes in plaintext. Over TLS clients name either.
        let is_scheme = match head.uri.scheme_str() {
            None | Some("http") => true,
            Some("https") => matches!(sender, Sender::Client { tls: true }),
            Some(_) => false,
        };
        if !is_scheme {
            return Err(Rule::Scheme);
        }
        return match (in_target, line) {
            (Some(authority), Some(host)) if authority != host => Err(Rule::HostsDiffer),
            (Some(authority), _) | (None, Some(authority)) => Ok(authority.into_owned()),
            (None, None) => Err(Rule::HostMissing),
        };
    }
    let scheme = match sender {
        Sender::Client { tls: true } => "https",
        _ => "http",
    };
    match (head.uri.scheme_str(), in_target, line) {
        (None, Some(_), _) => Err(Rule::TargetForm),
        (_, _, None) => Err(Rule::HostMissing),
        (None, None, Some(host)) => Ok(host.into_owned()),
        // The URL wins over the line, RFC 9112 section 3.2.2.
        (Some(named), Some(authority), Some(_)) if named == scheme => Ok(authority.into_owned()),
        (Some(_), ..) => Err(Rule::Scheme),
    }
}

/// Brings the target into its canonical form: path and query, nothing else.
fn target(head: &mut request::Parts, limits: &Limits, accepts: Accepts) -> Result<(), Rule> {
    let uri = std::mem::take(&mut head.uri);
    let Some(target) = uri.into_parts().path_and_query else {
        return Err(Rule::TargetForm);
    };
    if target.as_str().len() > limits.target_bytes {
        return Err(Rule::TargetTooLong);
    }
    let query = target.query();
    let printable = |byte: u8| (b'!'..=b'~').contains(&byte);
    if query.is_some_and(|query| !query.bytes().all(printable)) {
        return Err(Rule::Query);
    }
    let path = path::normalise_accepting(target.path(), accepts).map_err(Rule::Path)?;
    let canonical = if path.as_str() == target.path() {
        target
    } else {
        let text = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        };
        PathAndQuery::try_from(text).map_err(|_malformed| Rule::TargetForm)?
    };
    head.uri = Uri::from(canonical);
    Ok(())
}

/// Removes what belongs to this hop, and what `Connection` says does.
fn hop_by_hop(headers: &mut HeaderMap, version: Version) -> Result<(), Rule> {
    // Over HTTP/1 it is one hop's, and must say so (RFC 9110 section 10.1.4).
    let mut takes_trailers = version == Version::HTTP_2;
    // Only chunks and frames are followed by any.
    let has_trailers = takes_trailers || headers.contains_key(header::TRANSFER_ENCODING);
    if headers.contains_key(header::CONNECTION) {
        let lines: Vec<HeaderValue> = headers
            .get_all(header::CONNECTION)
            .iter()
            .cloned()
            .collect();
        for line in &lines {
            takes_trailers |= nominated(headers, line)?;
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if !has_trailers || announces_what_no_trailer_says(headers) {
        headers.remove(header::TRAILER);
    }
    let trailers = takes_trailers
        && headers
            .get(header::TE)
            .is_some_and(|value| value == "trailers");
    if !trailers {
        headers.remove(header::TE);
    }
    Ok(())
}

/// Whether trailers are announced that are not passed on.
fn announces_what_no_trailer_says(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::TRAILER).iter();
    let mut names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names.any(|name| {
        let name = HeaderName::from_bytes(name.trim_ascii());
        name.map_or(true, |name| {
            NEVER_TRAILERS.contains(&name) || is_mesh(&name)
        })
    })
}

/// Removes what a line of `Connection` names; whether it names `TE`.
fn nominated(headers: &mut HeaderMap, line: &HeaderValue) -> Result<bool, Rule> {
    let mut names_te = false;
    for token in line.as_bytes().split(|&byte| byte == b',') {
        let token = token.trim_ascii();
        if token.is_empty() {
            continue;
        }
        let name = HeaderName::from_bytes(token).map_err(|_malformed| Rule::Connection)?;
        if NEVER_NOMINATED.contains(&name) || is_mesh(&name) {
            return Err(Rule::Connection);
        }
        names_te |= name == header::TE;
        // Removed below, with a check of its own.
        if name != header::CONNECTION && name != header::TE {
            headers.remove(name);
        }
    }
    Ok(names_te)
}

/// Whether only the mesh may set it.
pub(crate) fn is_mesh(name: &HeaderName) -> bool {
    let start = name.as_str().get(..MESH_PREFIX.len());
    start.is_some_and(|start| is_spelling(start, MESH_PREFIX))
}

/// Whether an application could take it for `wanted`.
pub(crate) fn spells(name: &HeaderName, wanted: &str) -> bool {
    is_spelling(name.as_str(), wanted)
}

/// CGI, and what descends from it, makes `_` of `-` (RFC 3875 section 4.1.18): there `x_mesh_peer`
/// is `x-mesh-peer`.
fn is_spelling(name: &str, wanted: &str) -> bool {
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    name.len() == wanted.len() && name.bytes().map(dashed).eq(wanted.bytes())
}

/// Removes every field whose name is unwanted.
pub(crate) fn remove_all(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| unwanted(name)).cloned() {
        headers.remove(name);
    }
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let left = Duration::from_millis(text.parse().ok()?);
    Some(left.min(limits::DEADLINE_MAX))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(version: Version, method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn http1(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Sanitised, request::Parts), Rule> {
        let mut head = head(Version::HTTP_11, method, uri, headers);
        let sanitised = sanitise(
            &mut head,
            Sender::Application,
            &Limits::default(),
            Accepts::default(),
        )?;
        Ok((sanitised, head))
    }

    fn check_refused(uri: &str, headers: &[(&str, &str)], rule: Rule) {
        let refused = http1("GET", uri, headers).map(|(sanitised, _)| sanitised.authority);
        assert_eq!(refused, Err(rule), "{uri} {headers:?}");
    }

    #[test]
    fn hosts_have_one_reading() {
        check_refused("/", &[], Rule::HostMissing);
        check_refused("/", &[("host", "a"), ("host", "a")], Rule::HostRepeated);
        check_refused("/", &[("host", "a, b")], Rule::Host(HostError::BadByte));
        check_refused("/", &[("host", "a@b")], Rule::Host(HostError::BadByte));
        check_refused("/", &[("host", "a/x")], Rule::Host(HostError::BadByte));
        check_refused("/", &[("host", "a:99999")], Rule::Host(HostError::BadPort));
        check_refused("ftp://a/", &[("host", "a")], Rule::Scheme);
        check_refused("https://a/", &[("host", "a")], Rule::Scheme);
        check_refused("admin", &[("host", "a")], Rule::TargetForm);
        let (sanitised, head) =
            http1("GET", "http://Reviews.Shop.:9080/x", &[("host", "other")]).unwrap();
        assert_eq!(sanitised.authority_value, "reviews.shop:9080");
        assert_eq!(head.uri, "/x");
        assert!(!head.headers.contains_key("host"));
    }

    #[test]
    fn http2_authorities_must_agree() {
        let refused = |uri: &str, headers: &[(&str, &str)]| {
            let mut head = head(Version::HTTP_2, "GET", uri, headers);
            sanitise(
                &mut head,
                Sender::Application,
                &Limits::default(),
                Accepts::default(),
            )
            .map(|sanitised| sanitised.authority)
            .unwrap_err()
        };
        assert_eq!(refused("http://a/", &[("host", "b")]), Rule::HostsDiffer);
        assert_eq!(refused("http://u@a/", &[]), Rule::Host(HostError::BadByte));
        assert_eq!(refused("/", &[]), Rule::HostMissing);
        assert_eq!(refused("ftp://a/", &[]), Rule::Scheme);
        assert_eq!(refused("https://a/", &[]), Rule::Scheme);
        let large = "y".repeat(Limits::default().head_bytes);
        let too_large = Rule::Wire(Fault::HeadTooLarge);
        assert_eq!(refused("http://a/", &[("x", &large)]), too_large);
        let mut same = head(Version::HTTP_2, "GET", "http://A/", &[("host", "a")]);
        let sanitised = sanitise(
            &mut same,
            Sender::Application,
            &Limits::default(),
            Accepts::default(),
        )
        .unwrap();
        assert_eq!(sanitised.authority.host(), "a");
    }

    /// The hop of HTTP/1 behind takes the white space away: rules must not see another value than the application.
    #[test]
    fn values_are_what_the_next_hop_reads() {
        for value in [" yes", "yes ", "\tyes\t", "yes"] {
            let sent = [("x-evil", value), ("x-empty", " "), ("x-inner", "a b")];
            let mut head = head(Version::HTTP_2, "GET", "http://a/", &sent);
            sanitise(
                &mut head,
                Sender::Application,
                &Limits::default(),
                Accepts::default(),
            )
            .unwrap();
            assert_eq!(head.headers["x-evil"], "yes");
            assert_eq!(head.headers["x-empty"], "");
            assert_eq!(head.headers["x-inner"], "a b");
        }
    }

    #[test]
    fn the_most_hops_count() {
        let hops = |sent: &[(&str, &str)]| {
            let mut head = head(Version::HTTP_2, "GET", "http://a/", sent);
            sanitise(
                &mut head,
                Sender::Application,
                &Limits::default(),
                Accepts::default(),
            )
            .unwrap()
            .hops
        };
        assert_eq!(hops(&[]), 0);
        assert_eq!(hops(&[("x-mesh-hops", "1"), ("x-mesh-hops", "200")]), 200);
        assert_eq!(
            hops(&[("x-mesh-hops", "1"), ("x-mesh-hops", "-")]),
            u16::MAX
        );
    }

    #[test]
    fn paths_become_canonical_or_are_refused() {
        let (_, head) = http1("GET", "/pub/..//admin/./%61?q=%2e", &[("host", "a")]).unwrap();
        assert_eq!(head.uri, "/admin/a?q=%2e");
        check_refused(
            "/a%2fb",
            &[("host", "a")],
            Rule::Path(PathError::EncodedSlash),
        );
        check_refused("/a;b", &[("host", "a")], Rule::Path(PathError::Semicolon));
        check_refused("*", &[("host", "a")], Rule::Path(PathError::NotAbsolute));
        let long = format!("/{}", "a".repeat(Limits::default().target_bytes));
        check_refused(&long, &[("host", "a")], Rule::TargetTooLong);
    }

    #[test]
    fn what_belongs_to_one_hop_goes() {
        let (_, head) = http1(
            "GET",
            "/",
            &[
                ("host", "a"),
                ("connection", "close, X-Forwarded-For, upgrade"),
                ("x-forwarded-for", "10.0.0.1"),
                ("keep-alive", "1"),
                ("proxy-authorization", "x"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("x-forwarded-client-cert", "x"),
                ("x-mesh-peer", "spiffe://me"),
                ("x-mesh-timeout-ms", "1"),
                ("x-kept", "y"),
            ],
        )
        .unwrap();
        let left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-kept"]);
        for name in [
            "host",
            "x-mesh-peer",
            "content-length",
            "authorization",
            "a b",
        ] {
            check_refused(
                "/",
                &[("host", "a"), ("connection", name)],
                Rule::Connection,
            );
        }
    }

    #[test]
    fn only_peers_say_how_much_time_is_left() {
        let peer = |value: &str| {
            let mut head = head(
                Version::HTTP_11,
                "GET",
                "/",
                &[("host", "a"), ("x-mesh-timeout-ms", value)],
            );
            sanitise(
                &mut head,
                Sender::MeshPeer,
                &Limits::default(),
                Accepts::default(),
            )
            .unwrap()
            .time_left
        };
        assert_eq!(peer("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(peer("999999999999"), Some(limits::DEADLINE_MAX));
        assert_eq!(peer("-1"), None);
        assert_eq!(peer("9999999999999"), None);
        let (from_application, _) =
            http1("GET", "/", &[("host", "a"), ("x-mesh-timeout-ms", "1")]).unwrap();
        assert_eq!(from_application.time_left, None);
    }

    #[test]
    fn a_url_has_the_scheme_of_its_connection() {
        let sent = |uri: &str, tls| {
            let mut head = head(Version::HTTP_11, "GET", uri, &[("host", "a")]);
            sanitise(
                &mut head,
                Sender::Client { tls },
                &Limits::default(),
                Accepts::default(),
            )
            .map(|sanitised| sanitised.authority)
        };
        assert!(sent("https://a/", true).is_ok());
        assert!(sent("http://a/", false).is_ok());
        assert_eq!(sent("http://a/", true), Err(Rule::Scheme));
        assert_eq!(sent("https://a/", false), Err(Rule::Scheme));
    }

    #[test]
    fn methods_and_expectations() {
        let method = |name| http1(name, "/", &[("host", "a")]).map(|_| ()).unwrap_err();
        assert_eq!(method("TRACE").status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(method("CONNECT"), Rule::Connect);
        check_refused("/", &[("host", "a"), ("expect", "foo")], Rule::Expectation);
        check_refused(
            "/",
            &[
                ("host", "a"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            Rule::TransferEncoding,
        );
    }
}
