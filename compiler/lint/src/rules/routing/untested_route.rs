//! `routing/untested-route`

use std::collections::BTreeSet;

use mesh_compiler::linked::RouteId;
use mesh_compiler::{LinkedMesh, Trial};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// Routes that no test's request takes, one finding for each service. Only where the mesh has
    /// tests at all.
    ///
    /// ## Why it matters
    /// Nobody notices when a change takes their requests away. A finding's witness, and what
    /// `meshc explain --request` prints, is ready to paste as a test.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     route testers { match { header user "tester" } }
    ///     route rest
    ///     allow productpage
    /// }
    /// test "everybody" { request GET "/" from=productpage to=reviews; expect allowed route=rest }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     route testers { match { header user "tester" } }
    ///     route rest
    ///     allow productpage
    /// }
    /// test "everybody" { request GET "/" from=productpage to=reviews; expect allowed route=rest }
    /// test "testers" { request GET "/" from=productpage to=reviews { header user "tester" }; expect allowed route=testers }
    /// ```
    pub(crate) static UNTESTED_ROUTE = {
        code: "MSH0219", name: "routing/untested-route", summary: "no test takes a route",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    if mesh.tests.is_empty() {
        return;
    }
    let taken = taken(mesh);
    for service in &mesh.services {
        let untested = |(index, route): &(usize, &mesh_compiler::linked::Route)| {
            let id = RouteId {
                service: service.id,
                index: *index,
            };
            !route.implicit && !taken.contains(&id)
        };
        let routes: Vec<_> = service
            .routes
            .iter()
            .enumerate()
            .filter(untested)
            .map(|(_, route)| route)
            .collect();
        let Some((first, others)) = routes.split_first() else {
            continue;
        };
        let names = list(routes.iter().map(|route| route.name.value.as_str()));
        let mut finding = UNTESTED_ROUTE
            .at(
                first.name.span,
                format!("no test takes {names} of `{}`", service.name.value),
            )
            .at("untested")
            .help("write a test whose request it takes");
        for other in others {
            finding = finding.label(other.name.span, "untested");
        }
        cx.report(finding);
    }
}

/// The routes that tests take.
pub(crate) fn taken(mesh: &LinkedMesh) -> BTreeSet<RouteId> {
    let mut trial = Trial::new(mesh);
    let mut taken: BTreeSet<RouteId> = BTreeSet::new();
    for test in &mesh.tests {
        // A test that can't run has findings of its own.
        if let Ok(outcome) = trial.test(test).outcome {
            taken.extend(outcome.touched.routes);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const POLICY: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service a {
            port 80
            endpoints { static "10.0.0.2:80" }
            allow web
            route one { match { path "/1" } }
            route two { match { path "/2" } }
            route rest
        }"#;

    #[test]
    fn routes_without_a_request_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0219",
            &format!("{POLICY}\ntest \"x\" {{ request GET \"/1\" from=web to=a; expect allowed }}")
        ));
    }

    #[test]
    fn without_any_test_nothing_is_said() {
        none("MSH0219", POLICY);
    }
}
