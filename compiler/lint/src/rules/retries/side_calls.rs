//! `retries/side-calls`

use mesh_compiler::analysis::call_graph::{Edge, Purpose};
use mesh_compiler::analysis::retry::{Amplification, ways};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A service that is asked or copied to on the way (`mirror`) and that retries of others hit more often
    /// than the limit allows (`refuse amplification=`): what one request causes there, over all the services
    /// that it passes, compared with a day on which nothing fails.
    ///
    /// ## Why it matters
    /// Nobody calls it, so nobody thinks of it when attempts are added; and it serves many, so that it is
    /// the first to give way.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh shop { trust-domain "shop.example"; refuse amplification=4; defaults { retry "5xx" attempts=2; retry-budget "20%" } }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; calls c }
    /// service c { port 80; endpoints { static "10.0.0.4:80" }; allow b; retry none; route all { mirror service=copy; retry "5xx" attempts=2 } }
    /// service copy { port 80; endpoints { static "10.0.0.5:80" }; allow b }
    /// ```
    /// ```kdl good
    /// mesh shop { trust-domain "shop.example"; refuse amplification=4; defaults { retry "5xx" attempts=2; retry-budget "20%" } }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; calls c }
    /// service c { port 80; endpoints { static "10.0.0.4:80" }; allow b; route all { mirror service=copy; retry none } }
    /// service copy { port 80; endpoints { static "10.0.0.5:80" }; allow b }
    /// ```
    pub(crate) static SIDE_CALLS = {
        code: "MSH0412", name: "retries/side-calls",
        summary: "retries multiply what is asked or copied to on the way",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let graph = facts.declared();
    let aside = |edge: &Edge| edge.purpose != Purpose::Call;
    if !graph.edges().any(|id| aside(graph.edge(id))) {
        return;
    }
    let limit = f64::from(facts.mesh().refuse.amplification.value);
    let mut worst: Vec<Option<(f64, f64)>> = vec![None; graph.nodes().len()];
    let all = graph
        .sources()
        .into_iter()
        .flat_map(|source| ways(graph, source));
    for (source, first) in all {
        let from = Amplification::through(graph, source, first);
        for node in from.reached() {
            if !graph.entering(*node).any(|(_, edge)| aside(edge)) {
                continue;
            }
            let Some(found) = from
                .worst(*node)
                .filter(|worst| worst.amplification > limit)
            else {
                continue;
            };
            let known = &mut worst[node.0];
            if known.is_none_or(|known| found.amplification > known.0) {
                *known = Some((found.amplification, found.calls));
            }
        }
    }
    for (node, worst) in graph.nodes().zip(worst) {
        let Some((amplification, calls)) = worst else {
            continue;
        };
        let mut edges = graph.entering(node).filter(|(_, edge)| aside(edge));
        let Some((first, span)) = edges.find_map(|(_, edge)| Some((edge, edge.span?))) else {
            continue;
        };
        let name = &graph.node(node).name;
        let mut finding = SIDE_CALLS
            .at(
                span,
                format!(
                    "one request from outside can become {} requests to `{name}` ({}), {} times what it is when nothing \
                     fails; the limit is {}",
                    number(calls),
                    first.purpose.as_str(),
                    number(amplification),
                    number(limit),
                ),
            )
            .about(name)
            .help("retry less on the way to whatever it is asked or copied for")
            .number("amplification", amplification)
            .number("calls", calls)
            .number("limit", limit);
        for (_, edge) in edges {
            if let Some(span) = edge.span {
                finding = finding.label(span, "here too");
            }
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn copies_multiply_too() {
        insta::assert_snapshot!(findings(
            "MSH0412",
            r#"
    mesh m { trust-domain "m.example"; refuse amplification=8; defaults { retry "5xx" attempts=3; retry-budget "20%" } }
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; route all { mirror service=copy share="50%" } }
    service copy { port 80; endpoints { static "10.0.0.5:80" }; allow a }"#
        ));
    }

    #[test]
    fn a_copy_of_each_is_no_amplification() {
        none(
            "MSH0412",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; route all { mirror service=copy } }
    service copy { port 80; endpoints { static "10.0.0.5:80" }; allow web }"#,
        );
    }
}
