//! `retries/no-budget`

use std::collections::BTreeMap;

use mesh_compiler::linked::{Exchange, Service};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// Services whose callers retry while no `retry-budget` bounds the share of retries.
    ///
    /// ## Why it matters
    /// Attempts bound what one request can do; only a budget bounds what all requests together do
    /// when everything fails. Three attempts without a budget are three times the load on a service
    /// that already cannot carry it; with a budget of 20 % it is 1.2 times.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     retry "5xx" attempts=2
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     retry "5xx" attempts=2
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static NO_BUDGET = {
        code: "MSH0405", name: "retries/no-budget", summary: "retries without a budget",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    // Retries that `defaults` set for everybody are one thing to change, and one finding.
    let mut places: BTreeMap<Span, Vec<&Service>> = BTreeMap::new();
    for service in &mesh.services {
        // What a gateway's route asks for is done to the service that it leads to.
        if service.retry_budget.value.is_some() || service.gateway().is_some() {
            continue;
        }
        let edges = mesh.edges.entering(service.id);
        let of_callers = edges.flat_map(|edge| {
            let of_gateway = edge.routed.iter().flat_map(|routed| &routed.exchanges);
            edge.exchanges.iter().chain(of_gateway)
        });
        let own = service.routes.iter().map(|route| &route.exchange);
        for span in own
            .chain(of_callers)
            .filter_map(|exchange| retries_at(exchange))
        {
            let services = places.entry(span).or_default();
            if services.last().is_none_or(|last| last.id != service.id) {
                services.push(service);
            }
        }
    }
    for (span, services) in places {
        let names = list(services.iter().map(|service| service.name.value.as_str()));
        let mut finding = NO_BUDGET
            .at(
                span,
                format!("calls to {names} are retried without a budget"),
            )
            .at("retries, unbounded in sum")
            .help("add `retry-budget \"20%\"` to the service, or to `defaults` for all of them");
        for service in services {
            finding.add_subject(&service.name.value);
        }
        cx.report(finding);
    }
}

/// Where retries were asked for, if there are any.
fn retries_at(exchange: &Exchange) -> Option<Span> {
    let retries = exchange.attempts.value > 1 && !exchange.causes.value.is_empty();
    retries.then(|| exchange.attempts.source.span()).flatten()
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn one_place_is_one_finding() {
        insta::assert_snapshot!(findings(
            "MSH0405",
            r#"
            mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=2 } }
            service a { port 80; endpoints { static "10.0.0.1:80" } }
            service b { port 80; endpoints { static "10.0.0.2:80" } }
            service c { port 80; endpoints { static "10.0.0.3:80" }; retry-budget "20%" }"#
        ));
    }

    #[test]
    fn a_single_attempt_needs_no_budget() {
        none(
            "MSH0405",
            r#"
            service a { port 80; endpoints { static "10.0.0.1:80" }; retry "5xx" attempts=1 }
            service b { port 80; endpoints { static "10.0.0.2:80" } }"#,
        );
    }

    #[test]
    fn the_route_of_a_gateway_retries_calls_to_what_it_leads_to() {
        let policy = |budget: &str| {
            format!(
                r#"
            gateway public {{ listen 8080; allow unauthenticated; route all {{ to a; retry reset attempts=2 per-try="1s" }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public; callers-may-extend attempts causes; {budget} }}"#
            )
        };
        assert!(findings("MSH0405", &policy("")).contains("calls to `a` are retried"));
        none("MSH0405", &policy("retry-budget \"20%\""));
    }
}
