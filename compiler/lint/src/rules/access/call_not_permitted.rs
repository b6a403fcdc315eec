//! `access/call-not-permitted`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that a service declares with `calls`, or a route of a gateway, of which the callee's rules
    /// let no request in: no `allow` names the caller, or what is allowed is denied again. A gateway is
    /// a caller like any other, with an identity of its own.
    ///
    /// ## Why it matters
    /// Access is denied unless it is allowed, so every such call ends with 403 the moment this is
    /// deployed. `calls` says what happens; it never grants.
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
    let lockouts = facts
        .access()
        .flat_map(|(callee, access)| access.lockouts.iter().map(move |lockout| (callee, lockout)));
    for (callee, lockout) in lockouts {
        let Some(edge) = mesh.edge(lockout.caller, callee.id) else {
            continue;
        };
        let caller = mesh.service(lockout.caller);
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
            let labelled =
                |finding: mesh_syntax::Diagnostic, span| finding.label(span, label.clone());
            rules
                .into_iter()
                .fold(finding, labelled)
                .help("loosen the `deny`, or remove the call")
        };
        cx.report(finding.witness(facts.witness(&lockout.witness, callee.id)));
    }
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
