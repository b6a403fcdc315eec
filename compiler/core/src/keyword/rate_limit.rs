//! `rate-limit`: how many requests may enter.

use mesh_syntax::Diagnostic;

use super::Place::{Defaults, Gateway, Policy, RateLimit, Route, Service};
use super::{
    Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol, authorizer, condition, per,
    respond,
};
use crate::code;
use crate::model;
use crate::value;

pub(super) static RATE_LIMIT: Keyword = Keyword {
    args: Args::required(&[Argument::new("RATE", &value::RATE)]),
    repeats: Repeats::Many,
    props: &[
        Property::new(
            "burst",
            &value::COUNT,
            "Requests at once; as many as the rate counts if unsaid.",
        ),
        Property::new(
            "via",
            &value::NAME,
            "The service that counts for all proxies; without it each counts for itself.",
        )
        .refers(Symbol::Service),
        Property::new(
            "port",
            &value::PORT,
            "The port of `via`, where it has several.",
        ),
        Property::new(
            "on-failure",
            &authorizer::ON_FAILURE_KIND,
            "What happens when `via` does not answer; `allow` if unsaid.",
        ),
    ],
    block: Some(RateLimit),
    ..Keyword::new(
        "rate-limit",
        &[Defaults, Policy, Service, Gateway, Route],
        "How many requests may enter; with conditions, of such requests; with `per`, of each client.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::RateLimit> {
    let mut keys = Vec::new();
    let mut conditions = Vec::new();
    let mut answer = None;
    for child in reader.block(entry) {
        match child.word() {
            "respond" => answer = respond::decode(reader, child),
            "per" => keys.extend(per::decode(reader, child)),
            _ => conditions.extend(condition::decode(reader, child)),
        }
    }
    let via = entry.prop("via", value::name);
    let on_failure = entry.prop("on-failure", authorizer::on_failure);
    if let (None, Some(on_failure)) = (&via, on_failure) {
        reader.report(
            Diagnostic::error(
                code::EXCLUSIVE,
                on_failure.span,
                "only a limit with `via=` can fail",
            )
            .help("a proxy that counts for itself needs nobody; remove `on-failure=`"),
        );
    }
    let port = entry.prop("port", value::port);
    if let (None, Some(port)) = (&via, port) {
        reader.report(
            Diagnostic::error(code::EXCLUSIVE, port.span, "only `via=` has a port")
                .help("requests of one port are limited by the condition `port N` in the block; remove `port=`"),
        );
    }
    Some(model::RateLimit {
        rate: entry.arg(0, value::rate)?,
        burst: entry.prop("burst", value::count),
        via,
        port,
        on_failure,
        keys,
        respond: answer,
        conditions,
        span: entry.span(),
        head: entry.head(),
    })
}
