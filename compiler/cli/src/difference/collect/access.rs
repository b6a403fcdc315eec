//! Who is let in and was not, and the other way round, with the rule that says so.

use mesh_compiler::LinkedMesh;
use mesh_compiler::diff::grants::{Grants, Who};
use mesh_compiler::trial::{Call, Decision, Trial};

use super::{Meshes, shown};
use crate::difference::written::source;
use crate::difference::{Access, Difference, Rule, Unknown};

pub(super) fn access(meshes: &Meshes<'_>, found: &mut Difference) {
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
        let mut witness = point.map(|point| shown(mesh, point, &to, change.names_port(&to)));
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
            refused_behind: grant.refused_behind,
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
