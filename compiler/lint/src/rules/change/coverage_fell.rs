//! `rollout/coverage-fell`

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::RouteId;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::routing::untested_route::taken;
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A change after which tests take a smaller share of the routes than before, with the routes that
    /// lost their tests or came without. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Coverage is lost one route at a time.
    ///
    /// ## Examples
    /// ```kdl base
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; route rest }
    /// test "all" { request GET "/" from=web to=a; expect allowed route=rest }
    /// ```
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; route new { match { path "/new" } }; route rest }
    /// test "all" { request GET "/" from=web to=a; expect allowed route=rest }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; route new { match { path "/new" } }; route rest }
    /// test "all" { request GET "/" from=web to=a; expect allowed route=rest }
    /// test "new" { request GET "/new" from=web to=a; expect allowed route=new }
    /// ```
    pub(crate) static COVERAGE_FELL = {
        code: "MSH1110", name: "rollout/coverage-fell",
        summary: "tests take a smaller share of the routes",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Routes that are shown.
const SHOWN_MAX: usize = 5;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let meshes = change.meshes();
    if meshes.base.tests.is_empty() {
        return;
    }
    let (before, after) = (coverage(meshes.base), coverage(meshes.head));
    // Shares, without fractions.
    if after.covered.len() * before.all >= before.covered.len() * after.all {
        return;
    }
    let lost: Vec<_> = after
        .untested
        .iter()
        .map(|id| (meshes.head.service(id.service), meshes.head.route(*id)))
        .filter(|(service, route)| {
            let key = (service.name.value.clone(), route.name.value.clone());
            !before.untested_names.contains(&key)
        })
        .collect();
    let names: Vec<String> = lost
        .iter()
        .take(SHOWN_MAX)
        .map(|(service, route)| format!("{}/{}", service.name.value, route.name.value))
        .collect();
    let span = lost
        .first()
        .map_or(meshes.head.name.span, |(_, route)| route.name.span);
    cx.report(
        COVERAGE_FELL
            .at(
                span,
                format!(
                    "tests take {} of {} routes, where they took {} of {}",
                    after.covered.len(),
                    after.all,
                    before.covered.len(),
                    before.all
                ),
            )
            .at("no test takes it")
            .help(format!("test {}", list(names.iter().map(String::as_str)))),
    );
}

struct Coverage {
    covered: Vec<RouteId>,
    untested: Vec<RouteId>,
    untested_names: std::collections::BTreeSet<(String, String)>,
    all: usize,
}

/// Of the routes that somebody wrote.
fn coverage(mesh: &LinkedMesh) -> Coverage {
    let taken = taken(mesh);
    let all = mesh.services.iter().flat_map(|service| {
        let routes = service.routes.iter().enumerate();
        let written = routes.filter(|(_, route)| !route.implicit);
        written.map(|(index, _)| RouteId {
            service: service.id,
            index,
        })
    });
    let (covered, untested): (Vec<RouteId>, Vec<RouteId>) = all.partition(|id| taken.contains(id));
    let name = |id: &RouteId| {
        let service = mesh.service(id.service).name.value.clone();
        (service, mesh.route(*id).name.value.clone())
    };
    Coverage {
        all: covered.len() + untested.len(),
        untested_names: untested.iter().map(name).collect(),
        covered,
        untested,
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    const POLICY: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; route one { match { path "/1" } }; route rest }
        test "one" { request GET "/1" from=web to=a; expect allowed }
        "#;
    const REST: &str = "test \"rest\" { request GET \"/\" from=web to=a; expect allowed }\n";

    #[test]
    fn a_test_that_goes_takes_its_route_along() {
        insta::assert_snapshot!(changes("MSH1110", &format!("{POLICY}{REST}"), POLICY));
    }

    #[test]
    fn more_tests_are_welcome() {
        assert_eq!(changes("MSH1110", POLICY, &format!("{POLICY}{REST}")), "");
    }
}
