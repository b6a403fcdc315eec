//! `route` and `match`

use super::Place::{External, Gateway, Match, Root, Route, Service};
use super::{
    Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, Symbol, action, condition,
    defaults, rate_limit, require, to,
};
use crate::model::{self, Actions, Exchange};
use crate::value;

pub(super) static ROUTE: Keyword = Keyword {
    merge: Some(Merge::Named),
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Route)]),
    repeats: Repeats::Many,
    block: Some(Route),
    ..Keyword::new(
        "route",
        &[Service, External, Gateway],
        "Requests of one kind: where they go, and with what patience.",
    )
};

pub(super) static ROUTE_OF_GATEWAY: Keyword = Keyword {
    merge: Some(Merge::Named),
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Route)]),
    repeats: Repeats::Many,
    props: &[Property::new(
        "gateway",
        &value::NAME,
        "The gateway, which must delegate such requests to the team that owns the file.",
    )
    .required()
    .refers(Symbol::Gateway)],
    block: Some(Route),
    ..Keyword::new(
        "route",
        &[Root],
        "A route of a gateway, in a file of the team whose requests it takes.",
    )
};

pub(super) static MATCH: Keyword = Keyword {
    repeats: Repeats::Many,
    block: Some(Match),
    ..Keyword::new(
        "match",
        &[Route],
        "Conditions that hold together; of several `match` one is enough.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Route> {
    let mut matches = Vec::new();
    let mut destinations = Vec::new();
    let mut requirements = Vec::new();
    let mut rate_limits = Vec::new();
    let mut exchange = Exchange::default();
    let mut actions = Actions::default();
    let children = reader.block(entry);
    action::check_exclusive(reader, &children);
    for child in children {
        match child.word() {
            "match" => matches.push(model::Match {
                conditions: condition::decode_block(reader, child),
                span: child.span(),
            }),
            "require" | "accept" => requirements.extend(require::decode(reader, child)),
            "rate-limit" => rate_limits.extend(rate_limit::decode(reader, child)),
            "to" => destinations.push(to::decode(reader, child)),
            _ => {
                defaults::exchange(reader, child, &mut exchange);
                action::decode(reader, child, &mut actions);
            }
        }
    }
    Some(model::Route {
        name: entry.arg(0, value::name)?,
        matches,
        destinations,
        actions,
        requirements,
        rate_limits,
        exchange,
        span: entry.span(),
    })
}

pub(super) fn decode_of_gateway(
    reader: &mut Reader<'_>,
    entry: Entry<'_>,
) -> Option<model::GatewayRoute> {
    let route = decode(reader, entry);
    Some(model::GatewayRoute {
        gateway: entry.prop("gateway", value::name)?,
        route: route?,
    })
}
