//! `service` and the small words that only stand in one.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{External, Gateway, Root, Service};
use super::{
    Args, Argument, Entry, Keyword, Merge, Reader, Repeats, Symbol, calls, defaults, endpoints,
    facts, mtls, reach, route, subset, telemetry,
};
use crate::code;
use crate::model::{self, Extendable, Port};
use crate::value::{self, Kind, Wrong};

pub(super) static SERVICE: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Service)]),
    repeats: Repeats::Many,
    block: Some(Service),
    ..Keyword::new(
        "service",
        &[Root],
        "A service: where it is, who may call it, and how.",
    )
};

pub(super) static HOST: Keyword = Keyword {
    merge: Some(Merge::List),
    args: Args::list("HOST", &value::HOST, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "host",
        &[Service, External],
        "Hosts that name the service, instead of its own name.",
    )
};

pub(super) static IDENTITY: Keyword = Keyword {
    merge: Some(Merge::List),
    args: Args::list("IDENTITY", &value::SPIFFE_ID, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "identity",
        &[Service, External, Gateway],
        "SPIFFE IDs of its instances, instead of spiffe://<trust-domain>/service/<name> or /gateway/<name>.",
    )
};

pub(super) static CALLERS_MAY_EXTEND: Keyword = Keyword {
    merge: Some(Merge::List),
    args: Args::list("FIELD", &FIELD, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "callers-may-extend",
        &[Service],
        "What a caller's `calls` may loosen; without it a caller may only tighten.",
    )
};

const FIELDS: [(&str, Extendable); 4] = [
    ("timeout", Extendable::Timeout),
    ("attempts", Extendable::Attempts),
    ("per-try", Extendable::PerTry),
    ("causes", Extendable::Causes),
];

static FIELD: Kind = Kind {
    expected: "a field",
    words: &["timeout", "attempts", "per-try", "causes"],
    check: |value| field(value).map(drop),
};

fn field(value: &Value) -> Result<Extendable, Wrong> {
    value::one_of(value, &FIELDS)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Service> {
    // The block is read even when the name is wrong, so that one run reports everything.
    let children = reader.block(entry);
    let mut settings = model::Settings::default();
    let mut ports: Vec<Port> = Vec::new();
    let mut reach = model::Reach::default();
    let mut endpoints = Vec::new();
    let mut hosts = Vec::new();
    let mut identities = Vec::new();
    let mut subsets = Vec::new();
    let mut routes = Vec::new();
    let mut calls = Vec::new();
    let mut callers_may_extend = Vec::new();
    let mut facts = model::Facts::default();
    let mut mtls_mode = None;
    let mut told = model::Telemetry::default();
    for child in children {
        match child.word() {
            "endpoints" => endpoints.extend(endpoints::decode(reader, child)),
            "host" => hosts.extend(child.args(0, value::host)),
            "identity" => identities.extend(child.args(0, value::spiffe_id)),
            "subset" => subsets.extend(subset::decode(reader, child)),
            "route" => routes.extend(route::decode(reader, child)),
            "calls" => calls.extend(calls::decode(reader, child)),
            "callers-may-extend" => callers_may_extend.extend(child.args(0, field)),
            "mtls" => mtls_mode = mtls::decode(child),
            "telemetry" => told = telemetry::decode(reader, child),
            "facts" => facts = facts::decode(child),
            _ => {
                reach::decode(reader, child, &mut ports, &mut reach);
                defaults::setting(reader, child, &mut settings);
            }
        }
    }
    if !entry
        .node
        .children
        .iter()
        .any(|child| child.name.text == "port")
    {
        missing_port(reader, entry);
    }
    Some(model::Service {
        kind: model::Kind::Service,
        name: entry.arg(0, value::name)?,
        ports,
        endpoints,
        hosts,
        identities,
        subsets,
        routes,
        calls,
        callers_may_extend,
        facts,
        settings,
        mtls: mtls_mode,
        telemetry: told,
        reach,
        span: entry.span(),
    })
}

fn missing_port(reader: &mut Reader<'_>, entry: Entry<'_>) {
    let span = entry
        .node
        .args
        .first()
        .map_or(entry.node.name.span, |arg| arg.span);
    reader.report(
        Diagnostic::error(code::MISSING, span, "a service needs a `port`")
            .help("write the port that the application answers on: `port 8080 protocol=http`"),
    );
}
