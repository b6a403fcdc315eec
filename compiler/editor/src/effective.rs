//! The values that hold in the end, as lines of a table that says who set each.

use mesh_compiler::level::{Shown, ShownField};
use mesh_compiler::linked::{Exchange, Service, ServiceId, Source};
use mesh_syntax::SourceSet;

use crate::hover::Compiled;

/// The fields that a word sets; none: every field.
pub(crate) fn fields_of(word: &str) -> Option<&'static [&'static str]> {
    Some(match word {
        "timeout" => &["timeout", "connect", "stream_idle", "idle", "max_duration"],
        "retry" => &["attempts", "per_try", "causes"],
        "backoff" => &["backoff", "backoff_max"],
        "hedge" => &["hedge", "hedge_attempts"],
        _ => return None,
    })
}

/// What holds for one route, built-in values left out unless they are asked for.
pub(crate) fn table(compiled: Compiled<'_>, exchange: &Exchange, only: Option<&[&str]>) -> String {
    let fields = exchange.shown().into_iter();
    let fields = fields.filter(|(name, _, source)| match only {
        Some(only) => only.contains(name),
        None => *source != Source::BuiltIn || *name == "timeout" || *name == "attempts",
    });
    rows(compiled.sources, fields)
}

/// Whether a word is about endpoints, or about retries to all of them.
pub(crate) fn is_of_pool(word: &str) -> bool {
    matches!(
        word,
        "balance" | "locality" | "limits" | "outlier" | "health-check" | "retry-budget"
    )
}

/// What files say of a service's endpoints and of retries to it; of one word, or of all.
pub(crate) fn pool(compiled: Compiled<'_>, service: &Service, word: Option<&str>) -> String {
    let prefix = word.unwrap_or_default().replace('-', "_");
    let fields = service.pool.shown().into_iter();
    let fields = fields
        .chain(service.retry_budget.shown())
        .filter(|(name, ..)| name.starts_with(&prefix));
    rows(compiled.sources, fields)
}

fn rows(sources: &SourceSet, fields: impl Iterator<Item = ShownField>) -> String {
    let mut text = String::new();
    for (name, value, source) in fields {
        if text.is_empty() {
            text.push_str("| effective | | set by |\n|---|---|---|\n");
        }
        let name = name.replace('_', "-");
        let value = value_text(&value);
        let source = place(sources, source);
        text.extend([format!("| {name} | `{value}` | {source} |\n")]);
    }
    text
}

fn value_text(value: &Shown) -> String {
    match value {
        Shown::None => "none".to_owned(),
        Shown::Number(number) => number.to_string(),
        Shown::Text(text) => text.clone(),
        Shown::List(list) if list.is_empty() => "none".to_owned(),
        Shown::List(list) => list.join(" "),
    }
}

/// Where something stands, or that it is built in.
fn place(sources: &SourceSet, source: Source) -> String {
    source.span().map_or_else(
        || "built-in".to_owned(),
        |span| {
            let (line, _) = sources.line_column(span);
            format!("{}:{line}", sources.path(span.file))
        },
    )
}

/// What holds for the calls of one service to another, by route of the callee.
pub(crate) fn of_calls(
    compiled: Compiled<'_>,
    caller: ServiceId,
    callee: ServiceId,
    only: Option<&[&str]>,
) -> String {
    let Some(edge) = compiled.mesh.edge(caller, callee) else {
        return String::new();
    };
    let routes = &compiled.mesh.service(callee).routes;
    let of = routes.iter().zip(&edge.exchanges);
    by_route(
        compiled,
        of.map(|(route, exchange)| (route.name.value.as_str(), exchange.as_ref())),
        only,
    )
}

/// What holds for each route of a service, for callers that tighten nothing.
pub(crate) fn of_routes(
    compiled: Compiled<'_>,
    service: &Service,
    only: Option<&[&str]>,
) -> String {
    let routes = service.routes.iter();
    by_route(
        compiled,
        routes.map(|route| (route.name.value.as_str(), route.exchange.as_ref())),
        only,
    )
}

/// One table for all routes where they agree, else one for each.
fn by_route<'m>(
    compiled: Compiled<'_>,
    routes: impl Iterator<Item = (&'m str, &'m Exchange)>,
    only: Option<&[&str]>,
) -> String {
    let mut tables: Vec<(Vec<&str>, String)> = Vec::new();
    for (name, exchange) in routes {
        let table = table(compiled, exchange, only);
        match tables.iter_mut().find(|(_, other)| *other == table) {
            Some((names, _)) => names.push(name),
            None => tables.push((vec![name], table)),
        }
    }
    if let [(_, table)] = tables.as_slice() {
        return table.clone();
    }
    let mut text = String::new();
    for (names, table) in tables {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        text.extend([format!("route {}\n\n{table}\n", names.join(", "))]);
    }
    text
}
