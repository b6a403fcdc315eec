//! `access/call-not-permitted`

use std::collections::BTreeSet;

use mesh_compiler::analysis::passage::{self, Refusal, When};
use mesh_compiler::linked::Service;
use mesh_syntax::{Diagnostic, Span};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided;

declare_rule! {
    /// ## What it flags
    /// A call that a service declares with `calls`, or a route of a gateway, of which the callee's rules
    /// let no request in: no `allow` names the caller, or what is allowed is denied again. A gateway is
    /// a caller like any other, with an identity of its own, of which only the requests count that its
    /// route takes, as they arrive: with the path, host and headers that the route writes, and after the
    /// routes of the service itself. That a part of them is refused is no finding: a service may let in
    /// less than a gateway sends, and only its author knows what is meant. A note says where sets are
    /// too large to decide it.
    ///
    /// ## Why it matters
    /// Access is denied unless it is allowed, so every such call ends with 403 the moment this is
    /// deployed. `calls` says what happens; it never grants.
    ///
    /// As an error it can't be suppressed: every such call would fail, whoever answers for it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    pub(crate) static CALL_NOT_PERMITTED = {
        code: "MSH0114", name: "access/call-not-permitted",
        summary: "a declared call is refused by the callee",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    let gateways = mesh.services.iter().filter(|each| each.gateway().is_some());
    let (behind, undecided): (Vec<Refusal>, _) = passage::ask(mesh, |passages| {
        gateways
            .flat_map(|gateway| passages.refused_behind(gateway.id))
            .collect()
    });
    undecided::report_routes(cx, &CALL_NOT_PERMITTED, undecided, |service, route| {
        format!("whether what the route `{route}` of `{service}` sends on is let in")
    });
    let mut locked_out = BTreeSet::new();
    let lockouts = facts
        .access()
        .flat_map(|(callee, access)| access.lockouts.iter().map(move |lockout| (callee, lockout)));
    for (callee, lockout) in lockouts {
        let Some(edge) = mesh.edge(lockout.caller, callee.id) else {
            continue;
        };
        let caller = mesh.service(lockout.caller);
        let pair = (lockout.caller, callee.id);
        locked_out.insert(pair);
        let (from, to) = (&caller.name.value, &callee.name.value);
        let mut calls = edge
            .declared
            .iter()
            .filter_map(|call| caller.calls.get(*call));
        let (span, says) = match (calls.next(), edge.routed.first()) {
            (Some(call), _) => (call.callee.span, "calls"),
            (None, Some(routed)) => (routed.span, "routes requests to"),
            (None, None) => match edge.asked.first() {
                Some(asked) => (asked.span, "asks"),
                None => continue,
            },
        };
        let mut finding = CALL_NOT_PERMITTED
            .at(
                span,
                format!("`{from}` {says} `{to}`, which lets none of its requests in"),
            )
            .at("refused, always");
        let rules: Vec<_> = edge
            .permitted
            .iter()
            .filter_map(|rule| callee.access.get(*rule)?.source.span())
            .collect();
        finding = if rules.is_empty() {
            finding
                .label(callee.name.span, format!("no rule here lets `{from}` in"))
                .help(format!(
                    "add `allow {from}` to `{to}`, with the methods and paths that it needs"
                ))
        } else {
            let label = format!("names `{from}`, but a `deny` or its own conditions leave nothing");
            let labelled = |finding: Diagnostic, span| finding.label(span, label.clone());
            rules
                .into_iter()
                .fold(finding, labelled)
                .help("loosen the `deny`, or remove the call")
        };
        // A gateway sends what comes from outside, and that is what can be tried.
        let mut routed = behind.iter();
        let routed = routed.find(|refusal| (refusal.route.service, refusal.by) == pair);
        cx.report(finding.witness(match routed {
            Some(refusal) => facts.witness(&refusal.witness, caller.id),
            None => facts.witness(&lockout.witness, callee.id),
        }));
    }
    for refusal in &behind {
        if !locked_out.contains(&(refusal.route.service, refusal.by)) {
            cx.report(refused_behind(facts, refusal));
        }
    }
}

/// A route of a gateway whose requests are all refused, though others of the gateway are let in.
fn refused_behind(facts: &Facts<'_>, refusal: &Refusal) -> Diagnostic {
    let mesh = facts.mesh();
    let (gateway, callee) = (
        mesh.service(refusal.route.service),
        mesh.service(refusal.by),
    );
    let (from, to) = (&gateway.name.value, &callee.name.value);
    let route = &mesh.route(refusal.route).name.value;
    let when = match refusal.when {
        When::Otherwise => " when nothing else is healthy",
        When::Always | When::Copy => "",
    };
    let mut finding = CALL_NOT_PERMITTED
        .at(
            refusal.span,
            format!("the route `{route}` of `{from}` leads to `{to}`{when}, which lets none of its requests in"),
        )
        .at("refused, always");
    for span in rules_for(facts, gateway, callee) {
        finding = finding.label(span, format!("lets in other requests of `{from}`"));
    }
    finding
        .help(format!(
            "let in, with `allow {from}` in `{to}`, the methods and paths that the route sends on"
        ))
        .witness(facts.witness(&refusal.witness, gateway.id))
}

/// The rules that let something of a caller in.
fn rules_for(facts: &Facts<'_>, caller: &Service, callee: &Service) -> Vec<Span> {
    let edge = facts.mesh().edge(caller.id, callee.id);
    let rules = edge.into_iter().flat_map(|edge| &edge.permitted);
    rules
        .filter_map(|rule| callee.access.get(*rule)?.source.span())
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_caller_that_nobody_lets_in_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0114",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service other { port 80; endpoints { static "10.0.0.3:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow other }"#
        ));
    }

    #[test]
    fn an_allow_that_is_denied_again_is_no_permission() {
        insta::assert_snapshot!(findings(
            "MSH0114",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { path "/a/*" }
                deny { path "/a/**" }
            }"#
        ));
    }

    #[test]
    fn a_service_that_does_not_let_its_gateway_in_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0114",
            r#"
            gateway public {
                listen 8080
                allow unauthenticated
                route shop { match { path "/shop/**" }; to shop }
                route pay { match { path "/pay/**" }; to pay }
            }
            service shop { port 80; endpoints { static "10.0.0.2:80" }; allow public { method GET } }
            service pay { port 80; endpoints { static "10.0.0.3:80" }; allow shop }"#
        ));
    }

    fn behind(route: &str, rules: &str, of_shop: &str) -> String {
        format!(
            r#"
            gateway public {{
                listen 8080
                allow unauthenticated
                route books {{ {route} }}
            }}
            service shop {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {rules}; {of_shop} }}
            service store {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow public {{ path "/store/**" }} }}"#
        )
    }

    const BOOKS: &str = r#"match { path "/books/**"; method GET }; to shop"#;

    #[test]
    fn a_route_none_of_whose_requests_is_let_in_is_found() {
        let of = |route, rule| findings("MSH0114", &behind(route, rule, ""));
        insta::assert_snapshot!(of(BOOKS, r#"allow public { path "/book/**" }"#));
        insta::assert_snapshot!(of(BOOKS, "allow public { method POST }"));
        insta::assert_snapshot!(of(
            r#"match { path "/books/**" }; rewrite path="/shop/**"; to shop"#,
            r#"allow public { path "/books/**" }"#
        ));
        insta::assert_snapshot!(of(
            r#"match { path "/books/**" }; request-headers { remove "x-key" }; to shop"#,
            r#"allow public { header x-key }"#
        ));
    }

    #[test]
    fn what_the_service_behind_does_with_them_counts() {
        insta::assert_snapshot!(findings(
            "MSH0114",
            &behind(
                BOOKS,
                r#"allow public { path "/books/**" }"#,
                r#"route all { rewrite path="/store/**"; to }"#
            )
        ));
        none(
            "MSH0114",
            &behind(
                BOOKS,
                r#"allow public { path "/store/**" }"#,
                r#"route all { rewrite path="/store/**"; to service=store }"#,
            ),
        );
        none(
            "MSH0114",
            &behind(
                BOOKS,
                "allow public { method POST }",
                "route all { respond 404 }",
            ),
        );
    }

    #[test]
    fn a_part_of_what_a_route_takes_is_enough() {
        none(
            "MSH0114",
            &behind(BOOKS, r#"allow public { path "/books/7" }"#, ""),
        );
        none(
            "MSH0114",
            &behind(
                r#"match { path "/books/**" }; rewrite path="/shop/**"; to shop"#,
                r#"allow public { path "/shop/a" }"#,
                "",
            ),
        );
        none(
            "MSH0114",
            &behind(
                r#"match { path "/books/**" }; request-headers { set "x-key" "1" }; to shop"#,
                r#"allow public { header x-key "1" }"#,
                "",
            ),
        );
    }

    #[test]
    fn a_part_is_enough() {
        none(
            "MSH0114",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow any { path "/a/**" }
                deny { path "/a/*" }
            }"#,
        );
    }
}
