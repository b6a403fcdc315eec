//! `retries/amplification-grew`

use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::analysis::retry::Paths;
use mesh_compiler::linked::ServiceId;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A service that one request from outside can hit more often than before the change, by retries
    /// along declared calls, when it fails or hangs. Found with `meshc check --base REF`; above the limit
    /// of `refuse amplification=` it is MSH0401 as well.
    ///
    /// ## Why it matters
    /// Amplification grows hop by hop, in files of different teams. Each change looks harmless.
    ///
    /// ## Examples
    /// ```kdl base
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry "5xx" attempts=2; retry-budget "20%" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }
    /// ```
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry "5xx" attempts=2; retry-budget "20%" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; retry "5xx" attempts=3; retry-budget "20%" }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { retry none } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry "5xx" attempts=2; retry-budget "20%" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; retry "5xx" attempts=2; retry-budget "20%" }
    /// ```
    pub(crate) static AMPLIFICATION_GREW = {
        code: "MSH0416", name: "retries/amplification-grew",
        summary: "one request can become more calls than before",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Services that one finding each is worth.
const SHOWN_MAX: usize = 20;
/// Products of whole numbers; less than this is rounding.
const ROUNDING: f64 = 1e-6;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let meshes = change.meshes();
    let (before, after) = (
        CallGraph::of(meshes.base).declared(),
        CallGraph::of(meshes.head).declared(),
    );
    let (old, new) = (Paths::of(&before), Paths::of(&after));
    let calls = |graph: &CallGraph, paths: &Paths<'_>, name: &str| {
        graph
            .named(name)
            .map(|node| paths.fast(node).0.max(paths.slow(node)))
    };
    let mut grown: Vec<(ServiceId, f64, f64)> = meshes
        .kept()
        .filter_map(|kept| {
            let name = &meshes.head.service(kept.head).name.value;
            let was = calls(&before, &old, name)?;
            let is = calls(&after, &new, name)?;
            (is > was + ROUNDING).then_some((kept.head, was, is))
        })
        .collect();
    // The worst first; the rest is on the way to them.
    grown.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    for (service, was, is) in grown.into_iter().take(SHOWN_MAX) {
        let name = &meshes.head.service(service).name;
        cx.report(
            AMPLIFICATION_GREW
                .at(
                    name.span,
                    format!(
                        "one request from outside can become {} calls to `{}`, where it was {}",
                        number(is),
                        name.value,
                        number(was)
                    ),
                )
                .at("is called more often when something fails")
                .help(format!(
                    "`meshc graph` shows the path to `{}` with the factor of each hop; retry at one of them only",
                    name.value
                ))
                .number("before", was)
                .number("after", is),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(at_a: u32, at_b: u32) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; defaults {{ retry-budget "20%" }} }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; calls b; retry "5xx" attempts={at_a} }}
            service b {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow a; retry "5xx" attempts={at_b} }}"#
        )
    }

    #[test]
    fn growth_at_the_end_of_a_path_is_found() {
        insta::assert_snapshot!(changes("MSH0416", &with(2, 1), &with(2, 3)));
    }

    #[test]
    fn less_is_no_finding() {
        assert_eq!(changes("MSH0416", &with(3, 2), &with(2, 2)), "");
    }
}
