//! `routing/no-default-route`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service that lets some request in for which it has no route. The request is shown. A service
    /// without any route has the implicit one and is never flagged, nor is one whose rules only let in
    /// what its routes take.
    ///
    /// ## Why it matters
    /// Such a request is answered 404 by the caller's proxy, for the reason `no_route`.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route reads { match { method GET } }
    ///     allow productpage
    /// }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route reads { match { method GET } }
    ///     allow productpage { method GET }
    /// }
    /// ```
    pub(crate) static NO_DEFAULT_ROUTE = {
        code: "MSH0207", name: "routing/no-default-route",
        summary: "no route takes some of the requests that are let in",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, routes) in facts.routes() {
        let Some(point) = &routes.uncovered else {
            continue;
        };
        let name = &service.name.value;
        cx.report(
            NO_DEFAULT_ROUTE
                .at(
                    service.name.span,
                    format!("`{name}` lets requests in that none of its routes takes"),
                )
                .at("has no route for some requests")
                .help(
                    "add a route without `match` for the rest, or let in only what the routes take",
                )
                .witness(facts.witness(point, service.id)),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_permitted_request_without_a_route_is_shown() {
        insta::assert_snapshot!(findings(
            "MSH0207",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                route reads { match { path "/a/**"; method GET } }
                allow web { method GET }
            }"#
        ));
    }

    #[test]
    fn what_nobody_may_send_needs_no_route() {
        none(
            "MSH0207",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                route reads { match { method GET } }
            }"#,
        );
    }
}
