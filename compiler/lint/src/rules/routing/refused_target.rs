//! `routing/refused-target`

use mesh_compiler::analysis::passage::{self, Refusal, When};
use mesh_compiler::linked::{Edge, Service};
use mesh_syntax::Diagnostic;

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided;

declare_rule! {
    /// ## What it flags
    /// A route that sends requests on to another service, at once or when the first has no healthy
    /// endpoint, or copies of them, and the other lets none of those requests in: none that the caller
    /// can send and the route takes, with the path, host and headers that it writes. A branch of weight 0
    /// gets no requests, and a caller that the route's own conditions leave out sends none.
    ///
    /// ## Why it matters
    /// The other service sees who called, not whose route it was. What should have helped in an outage
    /// answers 403 instead, and nobody learns of it before.
    ///
    /// As an error it can't be suppressed: every such request would fail, whoever answers for it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow web; route all { to { else service=archive } } }
    /// service archive { port 80; endpoints { static "10.0.0.3:80" } }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow web; route all { to { else service=archive } } }
    /// service archive { port 80; endpoints { static "10.0.0.3:80" }; allow web }
    /// ```
    pub(crate) static REFUSED_TARGET = {
        code: "MSH0312", name: "routing/refused-target",
        summary: "a route leads to a service that refuses the caller",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    let led = mesh.edges.iter().filter(|edge| !edge.led.is_empty());
    let (refusals, undecided): (Vec<_>, _) = passage::ask(mesh, |passages| {
        let routes = led.flat_map(|edge| edge.led.iter().map(move |id| (edge, *id)));
        routes
            .flat_map(|(edge, id)| {
                let refusals = passages.led(edge.caller, edge.callee, id);
                refusals.into_iter().map(move |refusal| (edge, id, refusal))
            })
            .collect()
    });
    for (edge, id, refusal) in refusals {
        let ends = (mesh.service(edge.caller), mesh.service(edge.callee));
        let finding = refused(facts, ends, &refusal);
        let to_owner = || mesh.edge(edge.caller, id.service);
        let happens = id.service == edge.caller || to_owner().is_some_and(Edge::is_used);
        cx.report(if happens { finding } else { finding.possible() });
    }
    undecided::report_routes(cx, &REFUSED_TARGET, undecided, |service, route| {
        format!(
            "whether those to whom the route `{route}` of `{service}` leads let its requests in"
        )
    });
}

fn refused(
    facts: &Facts<'_>,
    (caller, target): (&Service, &Service),
    refusal: &Refusal,
) -> Diagnostic {
    let mesh = facts.mesh();
    let (owner, route) = (
        mesh.service(refusal.route.service),
        mesh.route(refusal.route),
    );
    let (from, to) = (&caller.name.value, &target.name.value);
    let what = match refusal.when {
        When::Copy => "copies requests",
        When::Always | When::Otherwise => "leads requests",
    };
    let when = match refusal.when {
        When::Otherwise => " when nothing else is healthy",
        When::Always | When::Copy => "",
    };
    let mut finding = REFUSED_TARGET
        .at(
            refusal.span,
            format!(
                "route `{}` of `{}` {what} of `{from}` to `{to}`{when}, which lets none of them in",
                route.name.value, owner.name.value
            ),
        )
        .at("refused, always");
    let edge = mesh.edge(caller.id, target.id);
    let rules: Vec<_> = edge
        .into_iter()
        .flat_map(|edge| &edge.permitted)
        .filter_map(|rule| target.access.get(*rule)?.source.span())
        .collect();
    finding = if rules.is_empty() {
        finding
            .label(target.name.span, format!("no rule here lets `{from}` in"))
            .help(format!("add `allow {from}` to `{to}`"))
    } else {
        let label = format!("lets in other requests of `{from}`");
        let labelled = |finding: Diagnostic, span| finding.label(span, label.clone());
        rules.into_iter().fold(finding, labelled).help(format!(
            "let in, with `allow {from}` in `{to}`, what the route sends there"
        ))
    };
    // A gateway's requests come from outside, and are met at the gateway first.
    let met = if caller.gateway().is_some() {
        caller
    } else {
        owner
    };
    finding.witness(facts.witness(&refusal.witness, met.id))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(route: &str, rules: &str) -> String {
        format!(
            r#"
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; route all {{ {route} }} }}
            service b {{ port 80; endpoints {{ static "10.0.0.3:80" }}; {rules} }}"#
        )
    }

    #[test]
    fn a_failover_that_refuses_is_found() {
        insta::assert_snapshot!(findings("MSH0312", &with("to { else service=b }", "")));
    }

    #[test]
    fn a_share_that_is_refused_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0312",
            &with("to weight=9; to service=b weight=1", "allow a")
        ));
    }

    #[test]
    fn who_is_let_in_may_be_led_there() {
        none(
            "MSH0312",
            &with("to { else service=b }", "allow web { method GET }"),
        );
    }

    #[test]
    fn a_target_that_refuses_just_these_requests_is_found() {
        let of = |route, rule| findings("MSH0312", &with(route, rule));
        insta::assert_snapshot!(of(
            r#"match { header user "tester"; path "/reviews/**" }; to service=b"#,
            r#"allow web { path "/details/**" }"#
        ));
        insta::assert_snapshot!(of(
            r#"match { path "/reviews/**" }; to { else service=b }"#,
            r#"allow web { path "/details/**" }"#
        ));
        insta::assert_snapshot!(of(
            r#"match { path "/reviews/**" }; to; mirror service=b share="10%""#,
            r#"allow web { method POST }; deny { path "/reviews/**" }"#
        ));
    }

    #[test]
    fn what_the_route_writes_and_whom_it_takes_counts() {
        none(
            "MSH0312",
            &with(
                r#"match { path "/reviews/**" }; rewrite path="/details/**"; to service=b"#,
                r#"allow web { path "/details/**" }"#,
            ),
        );
        none(
            "MSH0312",
            &with("match { not { from web } }; to service=b", ""),
        );
        none("MSH0312", &with("to weight=1; to service=b weight=0", ""));
    }

    #[test]
    fn a_gateway_is_let_in_where_routes_behind_it_lead() {
        let store = |rule: &str| {
            format!(
                r#"
                gateway edge {{ listen 80 {{ host "m.example" }}; allow unauthenticated; route all {{ to store }} }}
                service store {{
                    port 80
                    endpoints {{ static "10.0.0.1:80" }}
                    allow edge
                    route x {{ match {{ path "/x" }}; to service=other }}
                }}
                service other {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {rule} }}
                service web {{ port 80; endpoints {{ static "10.0.0.3:80" }} }}"#
            )
        };
        none("MSH0312", &store("allow web edge"));
        none("MSH0312", &store(r#"allow edge { path "/x" }"#));
        insta::assert_snapshot!(findings("MSH0312", &store("allow web")));
        insta::assert_snapshot!(findings("MSH0312", &store(r#"allow edge { path "/y" }"#)));
    }
}
