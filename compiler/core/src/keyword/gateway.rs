//! `gateway`: where requests from outside enter the mesh.

use mesh_syntax::Diagnostic;

use super::Place::{Delegate, Gateway, Root};
use super::{
    Args, Argument, Entry, Keyword, Reader, Repeats, Symbol, condition, defaults, listen, route,
    telemetry,
};
use crate::code;
use crate::model::{self, Port};
use crate::value;

pub(super) static GATEWAY: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Service)]),
    repeats: Repeats::Many,
    block: Some(Gateway),
    ..Keyword::new(
        "gateway",
        &[Root],
        "A gateway: where it listens, who may enter, and where its requests go.",
    )
};

pub(super) static DELEGATE: Keyword = Keyword {
    args: Args::required(&[Argument::new("TEAM", &value::NAME).refers(Symbol::Team)]),
    repeats: Repeats::Many,
    block: Some(Delegate),
    ..Keyword::new(
        "delegate",
        &[Gateway],
        "Requests that the routes of a team's own files may take.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Service> {
    // The block is read even when the name is wrong, so that one run reports everything.
    let children = reader.block(entry);
    let mut settings = model::Settings::default();
    let mut gateway = model::Gateway::default();
    let mut identities = Vec::new();
    let mut routes = Vec::new();
    let mut told = model::Telemetry::default();
    for child in children {
        match child.word() {
            "telemetry" => told = telemetry::decode(reader, child),
            "listen" => gateway.listeners.extend(listen::decode(reader, child)),
            "delegate" => gateway.delegates.extend(delegate(reader, child)),
            "identity" => identities.extend(child.args(0, value::spiffe_id)),
            "route" => routes.extend(route::decode(reader, child)),
            _ => defaults::setting(reader, child, &mut settings),
        }
    }
    if entry.node.children_named("listen").next().is_none() {
        let span = entry
            .node
            .args
            .first()
            .map_or(entry.node.name.span, |arg| arg.span);
        reader.report(
            Diagnostic::error(code::MISSING, span, "a gateway needs a `listen`")
                .help("write the port that it takes connections on: `listen 8080 { host \"shop.example\" }`"),
        );
    }
    // Several listeners may share a port; what they speak there is compared when they are linked.
    let mut ports: Vec<Port> = Vec::new();
    for listener in &gateway.listeners {
        if ports
            .iter()
            .all(|port| port.number.value != listener.port.value)
        {
            ports.push(Port::new(listener.port, listener.protocol));
        }
    }
    let mut hosts: Vec<_> = gateway
        .listeners
        .iter()
        .flat_map(|listener| listener.hosts.clone())
        .collect();
    hosts.sort_by(|a, b| (&a.value, a.span).cmp(&(&b.value, b.span)));
    hosts.dedup_by(|a, b| a.value == b.value);
    if gateway
        .listeners
        .iter()
        .any(|listener| listener.hosts.is_empty())
    {
        hosts.clear();
    }
    Some(model::Service {
        ports,
        hosts,
        identities,
        routes,
        settings,
        telemetry: told,
        ..model::Service::new(
            model::Kind::Gateway(gateway),
            entry.arg(0, value::name)?,
            entry.span(),
        )
    })
}

fn delegate(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Delegate> {
    let conditions = condition::decode_block(reader, entry);
    if !entry.node.has_block {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "`delegate` needs its conditions",
            )
            .help("say which requests the team's routes may take: `delegate TEAM { path \"/team/**\" }`"),
        );
    }
    Some(model::Delegate {
        team: entry.arg(0, value::name)?,
        conditions,
        span: entry.span(),
    })
}
