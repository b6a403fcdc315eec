//! `routing/mirror-cycle`

use mesh_compiler::analysis::call_graph::Purpose;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A `mirror` to a service that itself calls, directly or through others, what is copied: each copy
    /// makes further requests, which are copied again.
    ///
    /// ## Why it matters
    /// The requests never end, and nobody asked for any of them but the first.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; calls b }
    /// service b { port 80; endpoints { static "10.0.0.2:80" }; allow a copy; route all { mirror service=copy } }
    /// service copy { port 80; endpoints { static "10.0.0.3:80" }; allow a copy; calls b }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; calls b }
    /// service b { port 80; endpoints { static "10.0.0.2:80" }; allow a; route all { mirror service=copy } }
    /// service copy { port 80; endpoints { static "10.0.0.3:80" }; allow a }
    /// ```
    pub(crate) static MIRROR_CYCLE = {
        code: "MSH0310", name: "routing/mirror-cycle",
        summary: "copies of requests come back as requests",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let graph = cx.facts().declared();
    for round in graph.rounds() {
        let mut copies = Vec::new();
        for node in round {
            let inside = graph.leaving(*node).filter(|edge| round.contains(&edge.to));
            copies.extend(inside.filter(|edge| edge.purpose == Purpose::Mirror));
        }
        let Some(span) = copies.iter().find_map(|copy| copy.span) else {
            continue;
        };
        let names = list(round.iter().map(|node| graph.node(*node).name.as_str()));
        let how = if round.len() == 1 {
            format!("{names} gets copies of its own requests")
        } else {
            format!("{names} call each other in a round")
        };
        cx.report(
            MIRROR_CYCLE
                .at(span, format!("copies come back as requests: {how}"))
                .at("copied again each time around")
                .help("copy to a service that calls nobody on this way"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn copies_that_never_end() {
        insta::assert_snapshot!(findings(
            "MSH0310",
            r#"
    service a { port 80; endpoints { static "10.0.0.1:80" }; calls b }
    service b { port 80; endpoints { static "10.0.0.2:80" }; allow a copy; route all { mirror service=copy } }
    service copy { port 80; endpoints { static "10.0.0.3:80" }; allow a copy; calls b }"#
        ));
    }

    #[test]
    fn copies_that_end() {
        none(
            "MSH0310",
            r#"
    service a { port 80; endpoints { static "10.0.0.1:80" }; calls b }
    service b { port 80; endpoints { static "10.0.0.2:80" }; allow a; route all { mirror service=copy } }
    service copy { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#,
        );
    }
}
