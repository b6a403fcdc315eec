//! What keeps changes from doing harm, as one line of text.

use mesh_compiler::linked::{ClaimKind, Invariant, Inventory, LinkedMesh, ServiceId};
use mesh_compiler::model::{SuppressedAt, Suppression, Test};
use mesh_compiler::trial::{Call, quoted};
use mesh_syntax::Span;

use super::after;
use super::condition::{conditions, principal};
use crate::render::expectation::expected;

/// An `invariant`.
pub(in crate::difference) fn invariant(mesh: &LinkedMesh, one: &Invariant) -> String {
    let names = |ids: &[ServiceId]| -> String {
        let names = ids.iter().map(|id| mesh.service(*id).name.value.as_str());
        names.collect::<Vec<_>>().join(" ")
    };
    let claims = one.claims.iter().map(|claim| match &claim.kind {
        ClaimKind::Reaches { target, only } => {
            format!("reaches {} only {}", names(&[*target]), names(only))
        }
        ClaimKind::Isolated { from, to } => {
            format!("isolated {} from {}", names(from), names(to))
        }
        ClaimKind::Decided {
            allowed,
            from,
            to,
            conditions: asked,
        } => {
            let word = if *allowed { "allowed" } else { "denied" };
            let who: Vec<String> = from.iter().map(principal).collect();
            let who = after("from", &who);
            format!("{word} {}{who}{}", names(&[*to]), conditions(asked.iter()))
        }
    });
    let mut claims: Vec<String> = claims.collect();
    claims.sort();
    format!("{} {{ {} }}", quoted(&one.text.value), claims.join("; "))
}

/// A `suppress`.
pub(in crate::difference) fn suppression(one: &Suppression) -> String {
    let mut text = one.code.value.clone();
    match one.at.as_ref().map(|at| &at.value) {
        None => {}
        Some(SuppressedAt::Definition(name)) => text = format!("{text} at={name}"),
        Some(SuppressedAt::File { path, .. }) => text = format!("{text} at={}", quoted(path)),
    }
    if let Some(route) = &one.route {
        text = format!("{text} route={}", route.value);
    }
    format!(
        "{text} until={} owner={} reason={}",
        one.until.value,
        one.owner.value,
        quoted(&one.reason)
    )
}

/// The lines of an `inventory`, with their places.
pub(in crate::difference) fn inventory(
    mesh: &LinkedMesh,
    one: &Inventory,
) -> Vec<(String, Option<Span>)> {
    let name = |id: &ServiceId| mesh.service(*id).name.value.clone();
    let date = (format!("of {}", one.date.value), Some(one.date.span));
    let services = one.services.iter().flat_map(|(id, known)| {
        known.instances.iter().map(move |instances| {
            let mut text = format!("{} {} instances", name(id), instances.count.value);
            for label in &instances.labels {
                text = format!("{text} {}={}", label.value.key, label.value.value);
            }
            (text, Some(instances.span))
        })
    });
    let end = |end: &Result<ServiceId, String>| match end {
        Ok(id) => name(id),
        Err(other) => other.clone(),
    };
    let observed = one.observed.iter().map(|call| {
        let rate = call.rate.map_or(String::new(), |rate| format!(" {rate}/s"));
        let text = format!("{} calls {}{rate}", end(&call.from), end(&call.to));
        (text, Some(call.span))
    });
    let identities = one.identities.iter();
    let identities = identities.map(|id| (id.value.to_string(), Some(id.span)));
    std::iter::once(date)
        .chain(services)
        .chain(observed)
        .chain(identities)
        .collect()
}

/// What a test sends and expects, where it is run: enough to tell whether another one is the same test.
pub(in crate::difference) fn test(test: &Test) -> String {
    let expected = test.expect.iter().map(|expect| {
        let services = expect.shares.iter().map(|share| {
            let service = share.service.as_ref();
            service.map(|service| service.value.as_str())
        });
        format!("{:?} {:?}", expected(expect), services.collect::<Vec<_>>())
    });
    let mut expected: Vec<String> = expected.collect();
    expected.sort();
    let mut environments: Vec<&str> = test
        .environments
        .iter()
        .map(|name| name.value.as_str())
        .collect();
    environments.sort_unstable();
    format!(
        "{environments:?} {:?} {expected:?}",
        Call::from(&test.request)
    )
}
