//! External authorization: whether the service that policy names lets a request in, what it adds, and what is told to
//! whoever is refused. No answer is decided as policy says, and never taken for one.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{StatusCode, request};
use mesh_bundle::slice::{Authorizer, AuthorizerProtocol, OnFailure};
use mesh_daemon::telemetry::Metrics;
use mesh_engine::Peer;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::ask::{self, Question, Unanswered};
use super::messages::{
    Address, AskedRequest, AttributeContext, CheckRequest, CheckResponse, HeaderOption,
    HttpRequest, Peer as PeerMessage, SocketAddress, Timestamp,
};
use crate::http::sanitise::is_mesh;
use crate::tables::Tables;
use crate::upstream::connect::HttpVersion;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What an authorizer may not set, whatever policy says: it would change where a request begins and ends.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is counted of authorizers.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizerMetrics(Family<[(&'static str, String); 3], Counter>);

impl AuthorizerMetrics {
    /// Nothing is counted yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self(metrics.register(
            "mesh_authorizer_requests",
            "requests about which an authorizer was asked: `allowed`, `denied`, or, where it did not answer, \
             `failed_open` or `failed_closed` as policy says",
            Family::default(),
        ))
    }

    /// Counts a request.
    pub(crate) fn count(&self, service: &str, authorizer: &str, outcome: &str) {
        let labels = [
            ("dst_service", service.to_owned()),
            ("authorizer", authorizer.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.0.get_or_create(&labels).inc();
    }
}

/// A request that is judged.
#[derive(Debug)]
pub(crate) struct Judged<'r> {
    pub(crate) head: &'r request::Parts,
    pub(crate) authority: &'r HeaderValue,
    pub(crate) scheme: &'static str,
    pub(crate) peer: Peer<'r>,
    pub(crate) client_ip: std::net::IpAddr,
    /// The service, and its port, that the request comes to.
    pub(crate) service: &'r str,
    pub(crate) port: u16,
    /// How many proxies of callers the question has passed.
    pub(crate) hops: u16,
}

/// What an authorizer says.
#[derive(Debug)]
pub(crate) enum Word {
    /// It may enter; with these headers.
    Allowed(HeaderMap),
    /// It may not.
    Denied(Denial),
}

/// What whoever is refused is told.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on.
    Enter {
        /// What the authorizer adds.
        adding: HeaderMap,
        /// As it is counted.
        outcome: &'static str,
    },
    /// It does not.
    Refused {
        /// None: there was no answer.
        denial: Option<Denial>,
        /// As it is counted.
        outcome: &'static str,
    },
}

/// Asks an authorizer about a request.
pub(crate) async fn judge(
    tables: &Tables,
    authorizer: &Authorizer,
    judged: &Judged<'_>,
) -> Verdict {
    let word = match authorizer.protocol {
        AuthorizerProtocol::Grpc => by_grpc(tables, authorizer, judged).await,
        AuthorizerProtocol::Http => by_http(tables, authorizer, judged).await,
    };
    match (word, authorizer.on_failure) {
        (Ok(Word::Allowed(adding)), _) => Verdict::Enter {
            adding,
            outcome: "allowed",
        },
        (Ok(Word::Denied(denial)), _) => Verdict::Refused {
            denial: Some(denial),
            outcome: "denied",
        },
        (Err(Unanswered), OnFailure::Allow) => Verdict::Enter {
            adding: HeaderMap::new(),
            outcome: "failed_open",
        },
        (Err(Unanswered), OnFailure::Deny) => Verdict::Refused {
            denial: None,
            outcome: "failed_closed",
        },
    }
}

async fn by_http(
    tables: &Tables,
    authorizer: &Authorizer,
    judged: &Judged<'_>,
) -> Result<Word, Unanswered> {
    let mut headers = ask::trace(&judged.head.headers);
    headers.extend(only(&authorizer.send_headers, &judged.head.headers));
    let path = judged.head.uri.path_and_query().cloned();
    let question = Question {
        to: &authorizer.to,
        method: judged.head.method.clone(),
        path: path.unwrap_or(PathAndQuery::from_static("/")),
        host: Some(judged.authority.clone()),
        headers,
        body: None,
        version: HttpVersion::Http1,
        limit: authorizer.timeout,
        hops: judged.hops,
    };
    let answer = ask::ask(tables, question).await?;
    let status = StatusCode::from_u16(answer.status).map_err(|_strange| Unanswered)?;
    if status.is_success() {
        return Ok(Word::Allowed(only(
            &authorizer.keep_headers,
            &answer.headers,
        )));
    }
    // It has failed itself, and says nothing of the request.
    if status.is_server_error() || status.is_informational() {
        return Err(Unanswered);
    }
    Ok(Word::Denied(Denial {
        status,
        headers: only(&authorizer.return_headers, &answer.headers),
        body: answer.body,
    }))
}

async fn by_grpc(
    tables: &Tables,
    authorizer: &Authorizer,
    judged: &Judged<'_>,
) -> Result<Word, Unanswered> {
    let message = check_request(authorizer, judged);
    let to = (&authorizer.to, authorizer.timeout, judged.hops);
    let headers = ask::trace(&judged.head.headers);
    let told: CheckResponse = ask::call(tables, to, CHECK, (headers, &message)).await?;
    // An empty message says nothing, and least of all yes.
    let status = told.status.ok_or(Unanswered)?;
    if status.code == 0 {
        let headers = told.ok.map(|ok| ok.headers).unwrap_or_default();
        return Ok(Word::Allowed(named(&authorizer.keep_headers, headers)));
    }
    let denied = told.denied.unwrap_or_default();
    let code = denied.status.map_or(0, |status| status.code);
    let code = u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    // What is refused is not told that all is well.
    let code = code.filter(|code| !code.is_informational() && !code.is_success());
    Ok(Word::Denied(Denial {
        status: code.unwrap_or(StatusCode::FORBIDDEN),
        headers: named(&authorizer.return_headers, denied.headers),
        body: denied.body.into(),
    }))
}

fn check_request(authorizer: &Authorizer, judged: &Judged<'_>) -> CheckRequest {
    let Judged {
        head,
        authority,
        scheme,
        peer,
        client_ip,
        service,
        port,
        ..
    } = judged;
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &only(&authorizer.send_headers, &head.headers) {
        // A value that is no text goes without what is not.
        let value = String::from_utf8_lossy(value.as_bytes());
        let lines = headers.entry(name.as_str().to_owned()).or_default();
        if !lines.is_empty() {
            lines.push(',');
        }
        lines.push_str(&value);
    }
    let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let id = head.headers.get("x-request-id");
    let id = id.and_then(|id| id.to_str().ok());
    let size = head.headers.get(header::CONTENT_LENGTH);
    let size = size.and_then(|size| size.to_str().ok()?.parse().ok());
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let address = |address: String, port: u16| {
        Some(Address {
            socket_address: Some(SocketAddress {
                address,
                port_value: port.into(),
            }),
        })
    };
    let http = HttpRequest {
        id: id.unwrap_or_default().to_owned(),
        method: head.method.as_str().to_owned(),
        headers,
        path: path.to_owned(),
        host: String::from_utf8_lossy(authority.as_bytes()).into_owned(),
        scheme: (*scheme).to_owned(),
        size: size.unwrap_or(-1),
        protocol: format!("{:?}", head.version),
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(PeerMessage {
                address: address(client_ip.to_string(), 0),
                principal: match peer {
                    Peer::Identity(identity) => identity.to_string(),
                    Peer::Unauthenticated => String::new(),
                },
                ..PeerMessage::default()
            }),
            destination: Some(PeerMessage {
                address: address(String::new(), *port),
                service: (*service).to_owned(),
                ..PeerMessage::default()
            }),
            request: Some(AskedRequest {
                time: Some(Timestamp {
                    seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                    nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
                }),
                http: Some(http),
            }),
        }),
    }
}

/// Those of these names.
fn only(names: &[String], from: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in names.iter().filter_map(|name| may_be_set(name)) {
        for value in from.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

fn named(names: &[String], from: Vec<HeaderOption>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for header in from.into_iter().filter_map(|option| option.header) {
        let key = header.key.to_ascii_lowercase();
        let Some(name) = names
            .iter()
            .find(|name| **name == key)
            .and_then(|name| may_be_set(name))
        else {
            continue;
        };
        let value = if header.raw_value.is_empty() {
            header.value.into_bytes()
        } else {
            header.raw_value
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    }
    headers
}

/// What policy lets an authorizer say that is not the mesh's, or HTTP's, alone.
pub(crate) fn may_be_set(name: &str) -> Option<HeaderName> {
    let name = HeaderName::try_from(name).ok()?;
    (!is_mesh(&name) && !FRAMING.contains(&name)).then_some(name)
}
