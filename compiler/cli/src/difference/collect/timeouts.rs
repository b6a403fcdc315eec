//! Timeouts and retries of calls, before and after, and a request of each that shows it.

use std::collections::BTreeMap;

use mesh_compiler::level::Shown;
use mesh_compiler::linked::{RouteId, ServiceId};
use mesh_compiler::trial::{Coverable, Trial};
use serde_json::Value;

use super::Meshes;
use crate::difference::written::source;
use crate::difference::{Edge, Timeout};

/// Fields for which a request is looked for that shows them: each takes as long as a test of its route.
const WITNESSES_MAX: usize = 64;
/// Calls of one field that are tried.
const CALLS_MAX: usize = 3;

/// A field, its values and their sources, before and after.
type Changed = (&'static str, [(String, String); 2]);

/// A call by a route, and who it is of in the head.
type Found = (Edge, (ServiceId, RouteId));

/// Calls whose timeouts and retries differ, by what differs: one line of `defaults` may be thousands of calls.
pub(super) fn timeouts(meshes: &Meshes<'_>) -> Vec<Timeout> {
    let change = meshes.change;
    let mut found: BTreeMap<Changed, ([Value; 2], Vec<Found>)> = BTreeMap::new();
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
        for (index, (route, exchange)) in after.routes.iter().zip(&edge.exchanges).enumerate() {
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
                let named = Edge {
                    from: change.head.service(edge.caller).name.value.clone(),
                    to: after.name.value.clone(),
                    route: route.name.value.clone(),
                };
                let service = edge.callee;
                let ids = (edge.caller, RouteId { service, index });
                let calls = &mut entry.or_insert_with(|| (values, Vec::new())).1;
                calls.push((named, ids));
            }
        }
    }
    let mut trial = Trial::new(change.head);
    let found =
        found
            .into_iter()
            .enumerate()
            .map(|(position, ((field, sources), (values, mut edges)))| {
                edges.sort();
                let tried = if position < WITNESSES_MAX {
                    CALLS_MAX
                } else {
                    0
                };
                let mut tried = edges.iter().take(tried);
                let witness = tried.find_map(|(_, (caller, route))| {
                    trial.covering_from(Coverable::Route(*route), *caller)
                });
                let edges = edges.into_iter().map(|(edge, _)| edge).collect();
                let [before, after] = values;
                let [(_, before_source), (_, after_source)] = sources;
                Timeout {
                    field,
                    before,
                    before_source,
                    after,
                    after_source,
                    edges,
                    witness,
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
