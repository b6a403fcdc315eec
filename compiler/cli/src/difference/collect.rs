//! From two linked meshes to what changes between them. Facts come from the compiler; here they get names and places.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::diff::access::orphaned;
use mesh_compiler::diff::grants::{Grants, Who};
use mesh_compiler::diff::routes::Moves;
use mesh_compiler::diff::skew::{Break, Cause};
use mesh_compiler::diff::staging::Staging;
use mesh_compiler::diff::{Change, slices, staging};
use mesh_compiler::level::Shown;
use mesh_compiler::linked::{Route, ServiceId};
use mesh_compiler::trial::{Call, Decision, Trial};
use mesh_syntax::{SourceSet, Witness};
use serde_json::Value;

use super::amplification::amplification;
use super::settings::settings;
use super::unnamed::unnamed;
use super::written::{place, source, written};
use super::{
    Access, Branch, Called, Difference, Edge, Moved, Rule, Service, Skew, Slice, Taken, Timeout,
    Unknown,
};

/// Two meshes with the files that they were made from.
#[derive(Clone, Copy)]
pub(crate) struct Meshes<'m> {
    pub(crate) change: Change<'m>,
    pub(crate) old: &'m SourceSet,
    pub(crate) new: &'m SourceSet,
}

/// Compares two meshes.
pub(crate) fn difference(meshes: &Meshes<'_>) -> Difference {
    let change = meshes.change;
    let mut found = Difference::default();
    let records = slices::records(change);
    let touched: BTreeSet<&SpiffeId> = records.iter().flatten().map(|one| &one.identity).collect();
    found.services = services(meshes);
    (found.settings, found.guards) = settings(meshes, &touched);
    found.slices = records.iter().flatten().map(slice).collect();
    found.calls = calls(change);
    skews(meshes, &mut found);
    access(meshes, &mut found);
    routes(meshes, &mut found);
    found.timeouts = timeouts(meshes);
    found.amplification = amplification(change);
    let unnamed = unnamed(records.iter().flatten(), &found);
    found.settings.extend(unnamed);
    if records.is_none() {
        found.unknown.push(Unknown {
            what: "slices",
            service: None,
            reason: "a trust domain is none".to_owned(),
            environments: Vec::new(),
        });
    }
    found
}

fn slice(record: &slices::Record) -> Slice {
    let text = |of: Option<(mesh_bundle::digest::Digest, usize)>| of.map(|of| of.0.to_string());
    let bytes = record.after.or(record.before).map_or(0, |of| of.1);
    Slice {
        workload: record.identity.to_string(),
        before: text(record.before),
        after: text(record.after),
        bytes,
        bytes_before: record.before.map(|of| of.1),
        environments: Vec::new(),
    }
}

fn services(meshes: &Meshes<'_>) -> Vec<Service> {
    let change = meshes.change;
    let pairs = change.pairs().into_iter();
    let found = pairs.filter_map(|pair| {
        let (change, (service, sources)) = match (pair.base, pair.head) {
            (None, Some(id)) => ("added", (change.head.service(id), meshes.new)),
            (Some(id), None) => ("removed", (change.base.service(id), meshes.old)),
            _ => return None,
        };
        Some(Service {
            change,
            name: service.name.value.clone(),
            kind: service.kind.word(),
            source: place(sources, service.name.span),
            environments: Vec::new(),
        })
    });
    found.collect()
}

fn calls(change: Change<'_>) -> Vec<Called> {
    let used = |mesh: &'_ LinkedMesh| -> BTreeSet<(String, String)> {
        let name = |id: ServiceId| mesh.service(id).name.value.clone();
        let edges = mesh.edges.iter().filter(|edge| edge.is_used());
        edges
            .map(|edge| (name(edge.caller), name(edge.callee)))
            .collect()
    };
    let (before, after) = (used(change.base), used(change.head));
    let called = |change, (from, to): &(String, String)| Called {
        change,
        from: from.clone(),
        to: to.clone(),
        environments: Vec::new(),
    };
    let added = after.difference(&before).map(|ends| called("added", ends));
    let removed = before
        .difference(&after)
        .map(|ends| called("removed", ends));
    added.chain(removed).collect()
}

/// A request as outputs show it, with the name of whoever sends it.
fn shown(mesh: &LinkedMesh, point: &Point, to: &str) -> Witness {
    let service = mesh.service_named(to).map(|id| mesh.service(id));
    let named = |identity: &String| {
        let mut services = mesh.services.iter();
        let owner = services.find(|service| {
            let mut own = service.identities.iter();
            own.any(|own| own.as_str() == identity)
        });
        owner.map_or_else(|| identity.clone(), |owner| owner.name.value.clone())
    };
    let several = service.is_some_and(|service| service.ports.len() > 1);
    point.to_witness(point.from.as_ref().map(named), to.to_owned(), several)
}

fn skews(meshes: &Meshes<'_>, found: &mut Difference) {
    let change = meshes.change;
    let staging = staging::of(change);
    let name = |id| change.head.service(id).name.value.clone();
    for (position, skew) in staging.skews.iter().enumerate() {
        let (from, to) = (name(skew.edge.caller.head), name(skew.edge.callee.head));
        let sides = [&skew.old_caller, &skew.new_caller];
        let point = sides
            .iter()
            .find_map(|side| side.as_ref()?.witness.as_ref());
        found.unsafe_skew.push(Skew {
            old_caller: skew.old_caller.as_ref().map(|each| because(each, true)),
            new_caller: skew.new_caller.as_ref().map(|each| because(each, false)),
            orderless: staging.orderless.contains(&position),
            keep: keep(
                change,
                &staging,
                [skew.edge.caller.head, skew.edge.callee.head],
            ),
            witness: point.map(|point| shown(change.head, point, &to)),
            from,
            to,
            environments: Vec::new(),
        });
    }
    for gone in orphaned(change) {
        let to = &change.base.service(gone.callee).name.value;
        for caller in gone.callers {
            found.unsafe_skew.push(Skew {
                from: name(caller.head),
                to: to.clone(),
                old_caller: Some("it still calls a service that is gone".to_owned()),
                new_caller: None,
                orderless: false,
                keep: vec![format!("service {to}, until no proxy calls it any more")],
                witness: None,
                environments: Vec::new(),
            });
        }
    }
    if staging.unknown > 0 {
        found.unknown.push(Unknown {
            what: "unsafe_skew",
            service: None,
            reason: format!(
                "{} pairs of services are too large to compare",
                staging.unknown
            ),
            environments: Vec::new(),
        });
    }
}

fn because(each: &Break, old_caller: bool) -> String {
    let (caller, callee) = if old_caller {
        ("old", "new")
    } else {
        ("new", "old")
    };
    match each.cause {
        Cause::CalleeIdentity => {
            format!("the {callee} callee does not have the identity that the {caller} caller dials")
        }
        Cause::Port => {
            format!("the {callee} callee does not have the port that the {caller} caller dials")
        }
        Cause::Protocol => {
            format!("the {caller} caller and the {callee} callee carry the port differently")
        }
        Cause::CallerIdentity => {
            format!("the {callee} callee's rules do not know the identity of the {caller} caller")
        }
        Cause::Rules => {
            format!("the {callee} callee refuses the {caller} caller what works before and after")
        }
        Cause::Transport => format!(
            "of the {caller} caller and the {callee} callee one has mutual TLS and the other plaintext only"
        ),
    }
}

/// What an intermediate commit has to keep of one pair.
fn keep(change: Change<'_>, staging: &Staging, ends: [ServiceId; 2]) -> Vec<String> {
    let beside = staging.kept_beside.iter().flatten();
    let mut kept = Vec::new();
    for beside in beside.filter(|beside| ends.contains(&beside.service)) {
        let name = &change.head.service(beside.service).name.value;
        let identities = beside.identities.iter();
        kept.extend(identities.map(|id| format!("identity {id} of {name}")));
        kept.extend(
            beside
                .ports
                .iter()
                .map(|port| format!("port {port} of {name}")),
        );
        kept.extend(
            beside
                .rules
                .iter()
                .map(|rule| format!("`{rule}` of {name}")),
        );
        if beside.permissive {
            kept.push(format!("both ways into {name} with `mtls permissive`"));
        }
    }
    kept
}

fn access(meshes: &Meshes<'_>, found: &mut Difference) {
    let change = meshes.change;
    let grants = Grants::of(change);
    let mut trials = [Trial::new(change.base), Trial::new(change.head)];
    for grant in grants.all {
        let to = change.name_of(grant.callee).to_owned();
        let (mesh, sources) = if grant.is_gained {
            (change.head, meshes.new)
        } else {
            (change.base, meshes.old)
        };
        let from = match &grant.who {
            Who::Unauthenticated => "unauthenticated".to_owned(),
            Who::Any => "any".to_owned(),
            Who::Prefix(prefix) => format!("{prefix}**"),
            Who::Service(name) | Who::Identity(name) => name.clone(),
        };
        let point = grant.witness.as_ref();
        let mut witness = point.map(|point| shown(mesh, point, &to));
        if let (Who::Service(name), Some(witness)) = (&grant.who, &mut witness) {
            // To a service without a proxy it shows no identity, and is its caller all the same.
            witness.from = Some(name.clone());
        }
        let trial = &mut trials[usize::from(grant.is_gained)];
        let outcome = witness
            .as_ref()
            .and_then(|witness| trial.run(&Call::from(witness)).ok());
        let rule = outcome
            .filter(|outcome| outcome.decision == Decision::Allowed)
            .and_then(|outcome| outcome.rule)
            .map(|rule| Rule {
                name: rule.name,
                source: source(sources, rule.source),
            });
        let is_declared = |mesh: &LinkedMesh| {
            let ends = mesh.service_named(&from).zip(mesh.service_named(&to));
            ends.and_then(|(from, to)| mesh.edge(from, to))
                .is_some_and(mesh_compiler::linked::Edge::is_used)
        };
        found.access.push(Access {
            change: if grant.is_gained { "gained" } else { "lost" },
            entire: grant.is_entire,
            declared: is_declared(change.head),
            from,
            to,
            rule,
            witness,
            environments: Vec::new(),
        });
    }
    for (pair, why) in grants.unknown {
        found.unknown.push(Unknown {
            what: "access",
            service: Some(change.name_of(pair).to_owned()),
            reason: why.to_string(),
            environments: Vec::new(),
        });
    }
}

fn routes(meshes: &Meshes<'_>, found: &mut Difference) {
    let change = meshes.change;
    let moves = Moves::of(change);
    for each in moves.all {
        let (before, after) = (
            change.base.service(each.service.base),
            change.head.service(each.service.head),
        );
        let was = each.before.and_then(|index| before.routes.get(index));
        let is = each.after.and_then(|index| after.routes.get(index));
        found.routes.push(Moved {
            service: after.name.value.clone(),
            kind: after.kind.word(),
            before: was.map(|route| taken(change.base, meshes.old, route)),
            after: is.map(|route| taken(change.head, meshes.new, route)),
            witness: Some(shown(change.head, &each.witness, &after.name.value)),
            environments: Vec::new(),
        });
    }
    for (kept, why) in moves.unknown {
        found.unknown.push(Unknown {
            what: "routes",
            service: Some(change.head.service(kept.head).name.value.clone()),
            reason: why.to_string(),
            environments: Vec::new(),
        });
    }
}

fn taken(mesh: &LinkedMesh, sources: &SourceSet, route: &Route) -> Taken {
    let actions = &route.actions;
    let text = |span| written(sources, span);
    let name = |target: mesh_compiler::linked::Target| {
        let service = mesh.service(target.service);
        let subset = target.subset.and_then(|index| service.subsets.get(index));
        let subset = subset.map(|subset| subset.name.value.clone());
        (service.name.value.clone(), subset)
    };
    let to = route.destinations.iter().map(|to| {
        let (service, subset) = name(to.target);
        let otherwise = to.otherwise.iter().map(|other| {
            let (service, subset) = name(*other);
            subset.unwrap_or(service)
        });
        Branch {
            service,
            subset,
            port: to.target.port,
            weight: to.weight,
            otherwise: otherwise.collect(),
        }
    });
    let mut filters: Vec<String> = Vec::new();
    filters.extend(actions.mirrors.iter().map(|one| text(one.span)));
    filters.extend(actions.fault.iter().map(|one| text(one.span)));
    let headers = [&actions.request_headers, &actions.response_headers];
    filters.extend(headers.into_iter().flatten().map(|one| text(one.span)));
    filters.extend(actions.cors.iter().map(|one| text(one.span)));
    filters.extend(actions.upgrade.iter().map(|one| text(one.span)));
    if !actions.path_accepts.is_empty() {
        let words: Vec<String> = actions
            .path_accepts
            .iter()
            .map(|one| format!("{one:?}"))
            .collect();
        filters.push(format!("path-accepts {}", words.join(" ").to_lowercase()));
    }
    filters.extend(actions.streaming.iter().map(|span| text(*span)));
    Taken {
        route: route.name.value.clone(),
        source: place(sources, route.span),
        to: to.collect(),
        answer: actions.answer.as_ref().map(|answer| text(answer.span)),
        rewrite: actions.rewrite.as_ref().map(|rewrite| text(rewrite.span)),
        filters,
    }
}

/// A field, its values and their sources, before and after.
type Changed = (&'static str, [(String, String); 2]);

/// Calls whose timeouts and retries differ, by what differs: one line of `defaults` may be thousands of calls.
fn timeouts(meshes: &Meshes<'_>) -> Vec<Timeout> {
    let change = meshes.change;
    let mut found: BTreeMap<Changed, ([Value; 2], Vec<Edge>)> = BTreeMap::new();
    for edge in &change.head.edges {
        let ends = (
            change.kept_service(edge.caller),
            change.kept_service(edge.callee),
        );
        let (Some(caller), Some(callee)) = ends else {
            continue;
        };
        let Some(was) = change.base.edge(caller.base, callee.base) else {
            continue;
        };
        let before = change.base.service(callee.base);
        let after = change.head.service(callee.head);
        for (route, exchange) in after.routes.iter().zip(&edge.exchanges) {
            let mut routes = before.routes.iter().zip(&was.exchanges);
            let old = routes.find(|(old, _)| old.name.value == route.name.value);
            let Some((_, was)) = old.filter(|(_, old)| !same_values(old, exchange)) else {
                continue;
            };
            let fields = exchange.shown();
            for (field, old, set_by) in was.shown() {
                let new = fields.iter().find(|(name, _, _)| *name == field);
                // Without a limit of its own a try only follows the timeout.
                let follows = field == "per_try" && was.per_try.value == exchange.per_try.value;
                let Some((_, new, sets)) = new.filter(|(_, new, _)| *new != old && !follows) else {
                    continue;
                };
                let values = [value(&old), value(new)];
                let key = [
                    (values[0].to_string(), source(meshes.old, set_by)),
                    (values[1].to_string(), source(meshes.new, *sets)),
                ];
                let entry = found.entry((field, key));
                entry.or_insert_with(|| (values, Vec::new())).1.push(Edge {
                    from: change.head.service(edge.caller).name.value.clone(),
                    to: after.name.value.clone(),
                    route: route.name.value.clone(),
                });
            }
        }
    }
    let found = found
        .into_iter()
        .map(|((field, sources), (values, mut edges))| {
            edges.sort();
            let [before, after] = values;
            let [(_, before_source), (_, after_source)] = sources;
            Timeout {
                field,
                before,
                before_source,
                after,
                after_source,
                edges,
                environments: Vec::new(),
            }
        });
    found.collect()
}

/// Who set them does not matter.
fn same_values(
    before: &mesh_compiler::linked::Exchange,
    after: &mesh_compiler::linked::Exchange,
) -> bool {
    before.timeout.value == after.timeout.value
        && before.connect.value == after.connect.value
        && before.stream_idle.value == after.stream_idle.value
        && before.max_duration.value == after.max_duration.value
        && before.attempts.value == after.attempts.value
        && before.causes.value == after.causes.value
        && before.per_try.value == after.per_try.value
        && before.any_method.value == after.any_method.value
        && before.backoff_base.value == after.backoff_base.value
        && before.backoff_max.value == after.backoff_max.value
        && before.idle.value == after.idle.value
        && before.hedge.value == after.hedge.value
        && before.hedge_attempts.value == after.hedge_attempts.value
}

fn value(value: &Shown) -> Value {
    match value {
        Shown::Text(text) => Value::from(text.as_str()),
        Shown::Number(number) => Value::from(*number),
        Shown::List(words) => Value::from(words.clone()),
        Shown::None => Value::Null,
    }
}
