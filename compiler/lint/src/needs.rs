//! Checks that need more than policy must say: which of them a mesh gives nothing to work on. Counted
//! aloud, so that silence is never mistaken for health.

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::Service;
use mesh_compiler::model::Facts;

use crate::rule::Skipped;

/// A check, whether a mesh has what it needs, and what that is.
type Need = (&'static str, fn(&LinkedMesh) -> bool, &'static str);

const NEEDS: &[Need] = &[
    (
        "MSH0406",
        |mesh| {
            any(mesh, |facts| facts.replicas.is_some()) && any(mesh, |facts| facts.load.is_some())
        },
        "needs `facts replicas=` and `facts load=` of a service that calls others",
    ),
    (
        "MSH0411",
        |mesh| {
            any(mesh, |facts| {
                facts.load.is_some() && facts.capacity.is_some()
            })
        },
        "needs `facts load=` and `facts capacity=` of a service",
    ),
    (
        "MSH0604",
        |mesh| {
            any(mesh, |facts| {
                facts.load.is_some() && facts.handling.is_some()
            })
        },
        "needs `facts load=` and `facts handling=` of a service, and `facts replicas=` of its callers",
    ),
    (
        "MSH0605",
        |mesh| {
            let mut limiting =
                (mesh.services.iter()).filter(|service| !service.rate_limits.is_empty());
            limiting.all(|service| {
                let facts = &service.facts;
                service.gateway().is_some() || facts.load.is_some() || facts.capacity.is_some()
            })
        },
        "needs `facts load=` or `facts capacity=` of every service that limits rates",
    ),
    (
        "MSH0607",
        |mesh| {
            let mut limiting =
                (mesh.services.iter()).filter(|service| !service.rate_limits.is_empty());
            limiting.all(|service| service.facts.replicas.is_some())
        },
        "needs `facts replicas=` of every service that limits rates",
    ),
];

fn any(mesh: &LinkedMesh, has: fn(&Facts) -> bool) -> bool {
    let has = |service: &Service| has(&service.facts);
    mesh.services.iter().any(has)
}

/// Checks for which a mesh declares nothing, ascending by code.
pub(crate) fn skipped(mesh: &LinkedMesh) -> Vec<Skipped> {
    let lacking = NEEDS.iter().filter(|(_, has, _)| !has(mesh));
    lacking
        .map(|(code, _, reason)| Skipped {
            code,
            reason: (*reason).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tester::{load, sources};

    fn codes(policy: &str) -> Vec<&'static str> {
        let mesh = load(&sources(policy)).mesh.unwrap();
        skipped(&mesh).iter().map(|skipped| skipped.code).collect()
    }

    #[test]
    fn what_lacks_facts_is_counted() {
        let service = |facts: &str| {
            format!("service a {{ port 80; endpoints {{ static \"10.0.0.1:80\" }}; {facts} }}")
        };
        assert_eq!(codes(&service("")), ["MSH0406", "MSH0411", "MSH0604"]);
        let known = "facts load=\"1/s\" capacity=\"2/s\" replicas=2 handling=\"1ms\"";
        assert!(codes(&service(known)).is_empty());
        assert_eq!(
            codes(&service(
                "rate-limit \"1/s\"; facts load=\"1/s\" capacity=\"1/s\" handling=\"1s\""
            )),
            ["MSH0406", "MSH0607"]
        );
        assert!(NEEDS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
