//! `resilience/limit-below-load`

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A `limits requests=` below what the declared load needs: requests in flight are the load times the
    /// time that each takes (Little's law), and all callers' proxies together allow fewer. Needs
    /// `facts load=` and `handling=` of the service and `facts replicas=` of all its callers.
    ///
    /// ## Why it matters
    /// The limit refuses requests on an ordinary day.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; facts replicas=2 }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow web
    ///     limits requests=10
    ///     facts load="1000/s" handling="50ms"
    /// }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; facts replicas=2 }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow web
    ///     limits requests=50
    ///     facts load="1000/s" handling="50ms"
    /// }
    /// ```
    pub(crate) static LIMIT_BELOW_LOAD = {
        code: "MSH0604", name: "resilience/limit-below-load",
        summary: "a limit refuses the ordinary load",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let graph = facts.declared();
    for (service, node) in facts.mesh().services.iter().zip(graph.nodes()) {
        let limit = &service.pool.limits.requests;
        let (Some(load), Some(handling)) = (&service.facts.load, &service.facts.handling) else {
            continue;
        };
        let (Some(each), Some(span)) = (limit.value, limit.source.span()) else {
            continue;
        };
        let mut callers: Vec<_> = graph.entering(node).map(|(_, edge)| edge.from).collect();
        callers.sort_unstable();
        callers.dedup();
        let replicas = callers.iter().map(|caller| graph.node(*caller).replicas);
        let Some(proxies) = replicas
            .sum::<Option<f64>>()
            .filter(|proxies| *proxies > 0.0)
        else {
            continue;
        };
        let needed = load.value * handling.value.as_secs_f64();
        let allowed = proxies * f64::from(each);
        if allowed >= needed {
            continue;
        }
        cx.report(
            LIMIT_BELOW_LOAD
                .at(
                    span,
                    format!(
                        "`{}` has {} requests in flight on an ordinary day, and its callers' {} proxies allow {}",
                        service.name.value,
                        number(needed),
                        number(proxies),
                        number(allowed),
                    ),
                )
                .label(load.span, "so many requests")
                .label(handling.span, "each takes so long")
                .help(format!("each proxy needs at least {}", number((needed / proxies).ceil())))
                .number("in_flight", needed)
                .number("allowed", allowed),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn little_says_fifty() {
        insta::assert_snapshot!(findings(
            "MSH0604",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; facts replicas=2 }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; limits requests=10; facts load="1000/s" handling="50ms" }"#
        ));
    }

    #[test]
    fn an_unknown_caller_may_be_many() {
        none(
            "MSH0604",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; limits requests=10; facts load="1000/s" handling="50ms" }"#,
        );
    }
}
