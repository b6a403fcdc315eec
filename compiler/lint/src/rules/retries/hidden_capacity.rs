//! `retries/hidden-capacity`

use mesh_compiler::analysis::retry::{Amplification, Load, load_state, ways};
use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// Services whose declared load times what retries can make of it exceeds their declared capacity
    /// (`facts load=` and `capacity=`), or whose load alone does. Where budgets keep the sum of retries
    /// below the capacity in the long run it is a note.
    ///
    /// ## Why it matters
    /// On an ordinary day nothing shows. Once something fails, retries multiply the load beyond the
    /// capacity, which makes more fail: the service stays down when the trigger is gone (a metastable
    /// failure). It is safe only below `1/amplification` of its capacity.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow web
    ///     retry "5xx" attempts=3
    ///     facts load="600/s" capacity="1000/s"
    /// }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow web
    ///     retry "5xx" attempts=3
    ///     facts load="300/s" capacity="1000/s"
    /// }
    /// ```
    pub(crate) static HIDDEN_CAPACITY = {
        code: "MSH0411", name: "retries/hidden-capacity",
        summary: "retries would take a service beyond its capacity",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let graph = facts.declared();
    let known = |node: &&mesh_compiler::linked::Service| {
        node.facts.load.is_some() && node.facts.capacity.is_some()
    };
    if !facts.mesh().services.iter().any(|service| known(&service)) {
        return;
    }
    let mut worst = vec![(1.0_f64, 1.0_f64); graph.nodes().len()];
    let all = graph
        .sources()
        .into_iter()
        .flat_map(|source| ways(graph, source));
    for (source, first) in all {
        let from = Amplification::through(graph, source, first);
        for node in from.reached() {
            let is_asked = facts
                .mesh()
                .services
                .get(node.0)
                .is_some_and(|service| known(&service));
            let Some(found) = is_asked.then(|| from.worst(*node)).flatten() else {
                continue;
            };
            let known = &mut worst[node.0];
            *known = (
                known.0.max(found.amplification),
                known.1.max(found.budgeted),
            );
        }
    }
    for (service, (amplification, budgeted)) in facts.mesh().services.iter().zip(worst) {
        let (Some(load), Some(capacity)) = (&service.facts.load, &service.facts.capacity) else {
            continue;
        };
        let state = load_state(load.value, capacity.value, amplification);
        if state == Load::Stable {
            continue;
        }
        let name = &service.name.value;
        let (rate, most) = (number(load.value), number(capacity.value));
        let message = if state == Load::Overloaded {
            format!("`{name}` gets {rate} requests a second and can take {most}")
        } else {
            format!(
                "`{name}` gets {rate} requests a second, which retries can make {}, and can take {most}",
                number(load.value * amplification),
            )
        };
        let bounded = load.value * budgeted < capacity.value;
        let mut finding = HIDDEN_CAPACITY
            .at(load.span, message)
            .at(state.as_str())
            .label(capacity.span, "what it can take")
            .help(format!(
                "safe below {} requests a second: retry less on the way to it, bound retries by a budget, or give it \
                 more capacity",
                number(capacity.value / amplification),
            ))
            .number("load", load.value)
            .number("capacity", capacity.value)
            .number("amplification", amplification)
            .number("budgeted", budgeted)
            .number("safe_load", capacity.value / amplification);
        if bounded && state == Load::Vulnerable {
            finding.level = Level::Note;
            finding = finding.help(format!(
                "budgets keep it at {} in the long run; a burst can still exceed its capacity",
                number(load.value * budgeted),
            ));
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn tc_m1_retries_can_hold_it_down() {
        insta::assert_snapshot!(findings(
            "MSH0411",
            r#"
    mesh m { trust-domain "m.example"; refuse amplification=30; defaults { retry "5xx" attempts=3 } }
    service s { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow s; calls b }
    service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; calls c }
    service c { port 80; endpoints { static "10.0.0.4:80" }; allow b; facts load="300/s" capacity="1000/s" }"#
        ));
    }

    #[test]
    fn a_budget_keeps_it_up() {
        insta::assert_snapshot!(findings(
            "MSH0411",
            r#"
    service s { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a {
        port 80
        endpoints { static "10.0.0.2:80" }
        allow s
        retry "5xx" attempts=3
        retry-budget "20%"
        facts load="600/s" capacity="1000/s"
    }"#
        ));
    }

    #[test]
    fn absent_facts_are_not_assumed() {
        none(
            "MSH0411",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry "5xx" attempts=3; facts load="300/s" }"#,
        );
    }
}
