//! `routing/empty-subset`

use mesh_bundle::slice::DeclaredEndpoint;
use mesh_compiler::linked::{Destination, Endpoints, LinkedMesh, Service, Subset};
use mesh_compiler::model::Spanned;
use mesh_syntax::{Diagnostic, Level, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A subset that selects none of the endpoints which its service declares or, where they are
    /// discovered, none of the instances that the inventory counts. It is an error where policy declares the
    /// endpoints and a route sends requests there without an `else`, else a warning.
    ///
    /// ## Why it matters
    /// Every request sent there ends with 503 `no_healthy_upstream`.
    ///
    /// As an error it can't be suppressed: every such request would fail, whoever answers for it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=90; to v2 weight=10 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" version=v1; static "10.0.0.8:9080" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=90; to v2 weight=10 }
    /// }
    /// ```
    pub(crate) static EMPTY_SUBSET = {
        code: "MSH0306", name: "routing/empty-subset", summary: "subset selects no endpoint",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut uncounted = false;
    for service in &mesh.services {
        for subset in &service.subsets {
            let finding = match &service.endpoints {
                Endpoints::Declared(endpoints) => declared(mesh, service, subset, endpoints),
                Endpoints::Discovered => {
                    let inventory = mesh.inventory.as_ref();
                    let found = inventory
                        .and_then(|inventory| inventory.instances_with(service.id, &subset.labels));
                    uncounted |= found.is_none();
                    (found == Some(0)).then(|| {
                        let place = inventory.and_then(|all| all.services.get(&service.id));
                        let finding = finding(service, subset, "instance").possible();
                        match place {
                            Some(found) => finding.label(found.span, "what the inventory found"),
                            None => finding,
                        }
                    })
                }
            };
            cx.report_some(finding);
        }
    }
    if uncounted {
        cx.skip(
            &EMPTY_SUBSET,
            "needs an inventory file with the `instances` of services whose endpoints are discovered",
        );
    }
}

fn declared(
    mesh: &LinkedMesh,
    service: &Service,
    subset: &Subset,
    endpoints: &[Spanned<DeclaredEndpoint>],
) -> Option<Diagnostic> {
    let selects = |endpoint: &Spanned<DeclaredEndpoint>| {
        let own = &endpoint.value.labels;
        subset.labels.iter().all(|label| own.contains(&label.value))
    };
    if endpoints.iter().any(selects) {
        return None;
    }
    let mut finding = finding(service, subset, "endpoint");
    match taken(mesh, service, subset) {
        Some(branch) => finding = finding.label(branch, "sends requests there"),
        None => finding.level = Level::Warning,
    }
    Some(match endpoints.first() {
        Some(first) => finding.label(first.span, "does not carry them"),
        None => finding,
    })
}

/// A branch that sends requests to the subset and nowhere else.
fn taken(mesh: &LinkedMesh, service: &Service, subset: &Subset) -> Option<Span> {
    let index = service
        .subsets
        .iter()
        .position(|own| own.name.value == subset.name.value);
    let routes = mesh.services.iter().flat_map(|service| &service.routes);
    let mut branches = routes.flat_map(|route| &route.destinations);
    let leads = |to: &&Destination| {
        let target = to.target;
        target.service == service.id
            && target.subset == index
            && to.weight > 0
            && to.otherwise.is_empty()
    };
    branches.find(leads).map(|to| to.span)
}

fn finding(service: &Service, subset: &Subset, what: &str) -> Diagnostic {
    let labels: Vec<String> = subset
        .labels
        .iter()
        .map(|label| format!("{}={}", label.value.key, label.value.value))
        .collect();
    EMPTY_SUBSET
        .at(
            subset.name.span,
            format!(
                "no {what} of `{}` carries {}, so its subset `{}` is empty",
                service.name.value,
                labels.join(" "),
                subset.name.value
            ),
        )
        .at("selects nothing")
        .help("give the labels to the endpoints that are meant, or correct them here")
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn labels_that_no_endpoint_carries_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0306",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" version=v1 zone=b; static "10.0.0.2:80" version=v2 zone=a }
                subset one { labels version=v1 zone=a }
                subset two { labels version=v2 }
                route all { to one weight=1; to two weight=1 }
            }"#
        ));
    }

    #[test]
    fn a_subset_that_no_request_depends_on_is_no_error() {
        for route in [
            "",
            "route all { to two { else one } }",
            "route all { to one weight=1; to two weight=0 }",
        ] {
            let found = findings(
                "MSH0306",
                &format!(
                    r#"service a {{
                        port 80
                        endpoints {{ static "10.0.0.1:80" version=v1 }}
                        subset one {{ labels version=v1 }}
                        subset two {{ labels version=v2 }}
                        {route}
                    }}"#
                ),
            );
            assert!(found.starts_with("warning"), "{found}");
        }
    }

    #[test]
    fn discovered_endpoints_are_not_known() {
        none(
            "MSH0306",
            r#"
            service a {
                port 80
                endpoints { kubernetes namespace=shop }
                subset one { labels version=v1 }
                route all { to one }
            }"#,
        );
    }

    #[test]
    fn instances_are_counted_where_there_is_an_inventory() {
        const MESH: &str = "mesh example { trust-domain \"example.test\" }
service a { port 80; subset v2 { labels version=v2 zone=a }; route all { to v2 } }
// file: inventory.kdl
";
        let inventory = |instances: &str| {
            format!("{MESH}inventory \"2026-01-01\" {{ service a {{ {instances} }} }}\n")
        };
        none("MSH0306", &inventory("instances 1 version=v2 zone=a"));
        none("MSH0306", &inventory("facts load=\"1/s\""));
        insta::assert_snapshot!(findings(
            "MSH0306",
            &inventory("instances 3 version=v1 zone=a; instances 0 version=v2 zone=a")
        ));
    }
}
