//! Requests that are treated otherwise: what either route does with them.

use mesh_compiler::LinkedMesh;
use mesh_compiler::diff::routes::Moves;
use mesh_compiler::linked::Route;
use mesh_syntax::SourceSet;

use super::{Meshes, has_several_ports, shown};
use crate::difference::written::{place, written};
use crate::difference::{Branch, Difference, Moved, Taken, Unknown};

pub(super) fn routes(meshes: &Meshes<'_>, found: &mut Difference) {
    let change = meshes.change;
    let moves = Moves::of(change);
    for each in moves.all {
        let (before, after) = (
            change.base.service(each.service.base),
            change.head.service(each.service.head),
        );
        let was = each.before.and_then(|index| before.routes.get(index));
        let is = each.after.and_then(|index| after.routes.get(index));
        // What no route takes on one side may have come to a port that is not there.
        let is_new_or_gone = was.is_none() || is.is_none();
        let name = &after.name.value;
        let names_port =
            has_several_ports(change.head, name) || (is_new_or_gone && change.names_port(name));
        found.routes.push(Moved {
            service: name.clone(),
            kind: after.kind.word(),
            before: was.map(|route| taken(change.base, meshes.old, route)),
            after: is.map(|route| taken(change.head, meshes.new, route)),
            witness: Some(shown(change.head, &each.witness, name, names_port)),
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
    filters.extend(actions.sticky.iter().map(|one| text(one.span)));
    Taken {
        route: route.name.value.clone(),
        source: place(sources, route.span),
        to: to.collect(),
        answer: actions.answer.as_ref().map(|answer| text(answer.span)),
        rewrite: actions.rewrite.as_ref().map(|rewrite| text(rewrite.span)),
        filters,
    }
}
