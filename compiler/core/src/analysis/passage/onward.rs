//! What is known of requests after a route has sent them on.

use std::collections::BTreeMap;

use mesh_bundle::slice::{
    Condition, FieldMatch, HeaderEdits, PathPattern, PathPatternKind, StringMatch, StringMatchKind,
};

use crate::analysis::request_space::{CapExceeded, Changes, Repeated, Space};
use crate::linked::{Destination, Route};

/// What becomes of a header.
#[derive(Clone)]
enum Edited {
    /// There is one line, with this value.
    Set(String),
    /// There is none.
    Removed,
    /// One of its lines has this value; others may be anything.
    Added(String),
}

/// The requests as the route sends them: at least all of them, from whomever and to whatever port.
pub(super) fn sent_on(
    space: &Space,
    route: &Route,
    to: Option<&Destination>,
) -> Result<Space, CapExceeded> {
    let edited = edits(route, to);
    let rewrite = route.actions.rewrite.as_ref().map(|rewrite| &rewrite.value);
    let path = rewrite.and_then(|rewrite| rewrite.path.as_ref());
    let host = rewrite.and_then(|rewrite| rewrite.host.as_ref());
    let mut known = Vec::new();
    let mut added = Vec::new();
    if let Some(path) = path {
        known.push(Condition::Path(vec![PathPattern {
            kind: PathPatternKind::Template(path.clone()),
            ignore_case: false,
        }]));
    }
    if let Some(host) = host {
        known.push(Condition::Host(vec![host.clone()]));
    }
    for (name, edited) in &edited {
        let header = |values| {
            Condition::Header(FieldMatch {
                name: (*name).to_owned(),
                values,
            })
        };
        match edited {
            // Cookies are made out of several lines.
            _ if *name == "cookie" => {}
            Edited::Set(value) => known.push(header(exactly(value))),
            Edited::Added(value) => added.push(header(exactly(value))),
            Edited::Removed => known.push(Condition::Not(Box::new(header(Vec::new())))),
        }
    }
    let sent = changed(space, route, &edited);
    sent.intersection(&Space::of_conditions(&known, Repeated::Every)?)?
        .intersection(&Space::of_conditions(&added, Repeated::One)?)
}

/// The requests that may arrive in the set once the route has sent them on: what the route writes may be anything before.
pub(super) fn arrives_as(space: &Space, route: &Route, to: Option<&Destination>) -> Space {
    changed(space, route, &edits(route, to))
}

/// What of a set does not depend on anything that the route writes.
fn changed(space: &Space, route: &Route, edited: &BTreeMap<&str, Edited>) -> Space {
    let rewrite = route.actions.rewrite.as_ref().map(|rewrite| &rewrite.value);
    space.sent_on(&Changes {
        path: rewrite.is_some_and(|rewrite| rewrite.path.is_some()),
        host: rewrite.is_some_and(|rewrite| rewrite.host.is_some()),
        header: &|name| edited.contains_key(name) || is_of_proxies(name),
    })
}

/// What becomes of the headers that a route and one of its branches edit, by name.
fn edits<'r>(route: &'r Route, to: Option<&'r Destination>) -> BTreeMap<&'r str, Edited> {
    let mut edited = BTreeMap::new();
    let of_route = route.actions.request_headers.as_ref();
    let of_route = of_route.map(|edits| &edits.value);
    for edits in of_route.into_iter().chain(to.map(|to| &to.request_headers)) {
        edit(&mut edited, edits);
    }
    edited
}

fn exactly(value: &str) -> Vec<StringMatch> {
    vec![StringMatch {
        kind: StringMatchKind::Exact(value.to_owned()),
        ignore_case: false,
    }]
}

fn edit<'e>(edited: &mut BTreeMap<&'e str, Edited>, edits: &'e HeaderEdits) {
    for line in &edits.set {
        edited.insert(&line.name, Edited::Set(line.value.clone()));
    }
    for name in &edits.remove {
        edited.insert(name, Edited::Removed);
    }
    for line in &edits.add {
        edited.insert(&line.name, Edited::Added(line.value.clone()));
    }
}

/// Whether proxies write such a header by themselves, so that it is not what the client sent.
fn is_of_proxies(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "authorization",
        "baggage",
        "forwarded",
        "traceparent",
        "tracestate",
        "via",
        "x-request-id",
    ];
    NAMES.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("x-mesh-")
}
