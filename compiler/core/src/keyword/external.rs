//! `external`: something outside the mesh that its workloads call.

use mesh_syntax::Diagnostic;

use super::Place::{External, Root};
use super::{
    Args, Argument, Entry, Keyword, Reader, Repeats, Symbol, defaults, endpoints, reach, route,
};
use crate::code;
use crate::model::{self, Kind};
use crate::value;

pub(super) static EXTERNAL: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Service)]),
    repeats: Repeats::Many,
    block: Some(External),
    ..Keyword::new(
        "external",
        &[Root],
        "Something outside the mesh: its hosts and ports, and who may call it.",
    )
};

pub(super) static VIA: Keyword = Keyword {
    args: Args::required(&[Argument::new("GATEWAY", &value::NAME).refers(Symbol::Gateway)]),
    ..Keyword::new(
        "via",
        &[External],
        "The gateway by which its requests leave the mesh.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Service> {
    // The block is read even when the name is wrong, so that one run reports everything.
    let children = reader.block(entry);
    let mut settings = model::Settings::default();
    let mut external = model::External::default();
    let mut reach = model::Reach::default();
    let mut ports = Vec::new();
    let mut sources = Vec::new();
    let mut hosts = Vec::new();
    let mut identities = Vec::new();
    let mut routes = Vec::new();
    for child in children {
        match child.word() {
            "endpoints" => sources.extend(endpoints::decode(reader, child)),
            "host" => hosts.extend(child.args(0, value::host)),
            "identity" => identities.extend(child.args(0, value::spiffe_id)),
            "route" => routes.extend(route::decode(reader, child)),
            "via" => external.via = child.arg(0, value::name),
            _ => {
                reach::decode(reader, child, &mut ports, &mut reach);
                defaults::setting(reader, child, &mut settings);
            }
        }
    }
    if let Some(mode) = ports.iter().find_map(|port| port.mtls) {
        reader.report(
            Diagnostic::error(
                code::EXCLUSIVE,
                mode.span,
                "what is outside of the mesh has no mode of mutual TLS",
            )
            .help("`tls` in the port says how it is dialled; `mtls` stands in ports of services"),
        );
    }
    let span = entry
        .node
        .args
        .first()
        .map_or(entry.node.name.span, |arg| arg.span);
    for (word, help) in [
        ("host", "name it as requests do: `host \"api.stripe.com\"`"),
        (
            "port",
            "write the port that requests ask for, and the one to dial: `port 80 dial=443 { tls }`",
        ),
    ] {
        if entry.node.children_named(word).next().is_none() {
            reader.report(
                Diagnostic::error(code::MISSING, span, format!("an external needs a `{word}`"))
                    .help(help),
            );
        }
    }
    Some(model::Service {
        ports,
        endpoints: sources,
        hosts,
        identities,
        routes,
        settings,
        reach,
        ..model::Service::new(
            Kind::External(external),
            entry.arg(0, value::name)?,
            entry.span(),
        )
    })
}
