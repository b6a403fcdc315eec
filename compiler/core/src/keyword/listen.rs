//! `listen`: a port of a gateway, and how connections to it are taken.

use mesh_bundle::slice::Protocol;
use mesh_syntax::{Diagnostic, Value};

use super::Place::{Gateway, Listen};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, tls};
use crate::code;
use crate::limits;
use crate::model::{ClientAddress, Listener, Spanned};
use crate::value::{self, Kind, Wrong};

pub(super) static LISTEN: Keyword = Keyword {
    args: Args::required(&[Argument::new("PORT", &value::PORT)]),
    repeats: Repeats::Many,
    merge: Some(Merge::NamedOrNew),
    props: &[Property::new(
        "protocol",
        &value::PROTOCOL,
        "What clients speak: `http` (1.1 and 2, the default) or `grpc`.",
    )],
    block: Some(Listen),
    ..Keyword::new(
        "listen",
        &[Gateway],
        "A port that the gateway takes connections on; several may share one and differ in `host`.",
    )
};

pub(super) static HOST: Keyword = Keyword {
    args: Args::list("HOST", &value::HOST, 1),
    repeats: Repeats::Many,
    merge: Some(Merge::List),
    ..Keyword::new(
        "host",
        &[Listen],
        "Hosts that are served here; without it, every host.",
    )
};

pub(super) static CLIENT_IP: Keyword = Keyword {
    args: Args::required(&[Argument::new("SOURCE", &SOURCE)]),
    merge: Some(Merge::Whole),
    props: &[Property::new(
        "hops",
        &HOPS,
        "Trusted proxies in front, each of which appends to `X-Forwarded-For`.",
    )],
    ..Keyword::new(
        "client-ip",
        &[Listen],
        "Where the client's address is taken from; the connection's peer if unsaid.",
    )
};

#[derive(Clone, Copy)]
enum Source {
    Peer,
    ProxyProtocol,
    ForwardedFor,
}

const SOURCES: [(&str, Source); 3] = [
    ("peer", Source::Peer),
    ("proxy-protocol", Source::ProxyProtocol),
    ("forwarded-for", Source::ForwardedFor),
];

static SOURCE: Kind = Kind {
    expected: "a source",
    words: &["peer", "proxy-protocol", "forwarded-for"],
    check: |value| source(value).map(drop),
};

fn source(value: &Value) -> Result<Source, Wrong> {
    value::one_of(value, &SOURCES)
}

static HOPS: Kind = Kind {
    expected: "a whole number from 1",
    words: &[],
    check: |value| hops(value).map(drop),
};

fn hops(value: &Value) -> Result<u32, Wrong> {
    value::integer(value, 1, limits::HOPS_MAX)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Listener> {
    let mut hosts = Vec::new();
    let mut server = None;
    let mut client_address = None;
    for child in reader.block(entry) {
        match child.word() {
            "host" => hosts.extend(child.args(0, value::host)),
            "tls" => {
                tls::check_server(reader, child);
                server = Some(tls::decode(child));
            }
            _ => client_address = client_ip(reader, child),
        }
    }
    Some(Listener {
        port: entry.arg(0, value::port)?,
        protocol: entry
            .prop("protocol", value::protocol)
            .map_or(Protocol::Http, |protocol| protocol.value),
        hosts,
        tls: server,
        client_address,
        span: entry.span(),
        head: entry
            .node
            .args
            .first()
            .map_or(entry.node.name.span, |port| {
                entry.node.name.span.to(port.span)
            }),
    })
}

fn client_ip(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Spanned<ClientAddress>> {
    let Spanned {
        value: source,
        span,
    } = entry.arg(0, source)?;
    let hops = entry.prop("hops", hops);
    let address = match (source, hops) {
        (Source::ForwardedFor, Some(hops)) => ClientAddress::ForwardedFor { hops: hops.value },
        (Source::ForwardedFor, None) if entry.node.prop("hops").is_some() => return None,
        (Source::ForwardedFor, None) => {
            reader.report(
                Diagnostic::error(
                    code::MISSING,
                    entry.node.name.span,
                    "`client-ip forwarded-for` needs `hops=`",
                )
                .help("a client can write `X-Forwarded-For` itself; say how many trusted proxies stand in front"),
            );
            return None;
        }
        (_, Some(hops)) => {
            reader.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    hops.span,
                    "only `client-ip forwarded-for` counts `hops`",
                )
                .help("remove `hops=`, or write `client-ip forwarded-for`"),
            );
            return None;
        }
        (Source::Peer, None) => ClientAddress::Peer,
        (Source::ProxyProtocol, None) => ClientAddress::ProxyProtocol,
    };
    Some(Spanned::new(address, span))
}
