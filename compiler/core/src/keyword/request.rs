//! `request` and `connect`: the request of a test, or its connection.

use super::Place::{Request, Test};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol};
use crate::model::{Spanned, TestRequest};
use crate::value;

pub(super) static REQUEST: Keyword = Keyword {
    args: Args::required(&[
        Argument::new("METHOD", &value::METHOD),
        Argument::new("PATH", &value::REQUEST_PATH),
    ]),
    props: PROPS,
    block: Some(Request),
    ..Keyword::new("request", &[Test], "The request that is sent.")
};

pub(super) static CONNECT: Keyword = Keyword {
    props: PROPS,
    ..Keyword::new(
        "connect",
        &[Test],
        "The connection that is made, to a port of bytes; `host=` is the name that TLS asks for.",
    )
};

const PROPS: &[Property] = &[
    Property::new(
        "from",
        &value::CALLER,
        "The calling service or gateway, `unauthenticated`, or an identity in quotes that may be of another mesh.",
    )
    .required()
    .refers(Symbol::Caller),
    Property::new("to", &value::NAME, "The called service.")
        .required()
        .refers(Symbol::Service),
    Property::new(
        "host",
        &value::HOST,
        "Host as sent, when it is not the called service's.",
    ),
    Property::new(
        "port",
        &value::PORT,
        "Port, when the called service has several.",
    ),
    Property::new(
        "client-ip",
        &value::ADDRESS,
        "Address of the client, as the gateway establishes it.",
    ),
    Property::new(
        "peer-ip",
        &value::ADDRESS,
        "Address of the connection's peer.",
    ),
];

pub(super) static HEADER: Keyword = pair("header", PAIR, "A header that is sent.");
pub(super) static QUERY: Keyword = pair("query", PAIR, "A query parameter that is sent.");
pub(super) static COOKIE: Keyword = pair("cookie", PAIR, "A cookie that is sent.");
pub(super) static CLAIM: Keyword = pair("claim", PAIR, "A claim of the verified token.");

const PAIR: &[Argument] = &[
    Argument::new("NAME", &value::FIELD_NAME),
    Argument::new("VALUE", &value::TEXT),
];

const fn pair(name: &'static str, args: &'static [Argument], summary: &'static str) -> Keyword {
    Keyword {
        args: Args::required(args),
        repeats: Repeats::Many,
        ..Keyword::new(name, &[Request], summary)
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<TestRequest> {
    let mut headers = Vec::new();
    let mut query = Vec::new();
    let mut cookies = Vec::new();
    let mut claims = Vec::new();
    for child in reader.block(entry) {
        let pair = child
            .arg(0, value::field_name)
            .zip(child.arg(1, value::text));
        let Some((name, value)) = pair.map(|(name, value)| (name.value, value.value)) else {
            continue;
        };
        match child.word() {
            "header" => headers.push((name.to_ascii_lowercase(), value)),
            "query" => query.push((name, value)),
            "claim" => claims.push((name, value)),
            _ => cookies.push((name, value)),
        }
    }
    let is_connection = entry.word() == "connect";
    let nothing = |text: &str| Spanned::new(text.to_owned(), entry.node.name.span);
    let (method, path) = if is_connection {
        (nothing(""), nothing("/"))
    } else {
        let method = entry.arg(0, value::method)?;
        (method, entry.arg(1, value::request_path)?)
    };
    Some(TestRequest {
        is_connection,
        method,
        path,
        from: match entry.prop("from", value::caller)? {
            Spanned { value: None, .. } => None,
            Spanned {
                value: Some(name),
                span,
            } => Some(Spanned::new(name, span)),
        },
        to: entry.prop("to", value::name)?,
        host: entry.prop("host", value::host),
        port: entry.prop("port", value::port),
        headers,
        query,
        cookies,
        claims,
        client_ip: entry.prop("client-ip", value::address),
        peer_ip: entry.prop("peer-ip", value::address),
        span: entry.span(),
    })
}
