//! `access/nobody-admitted`

use mesh_bundle::slice::{Effect, Enforcement};
use mesh_compiler::analysis::passage::{self, Closed};
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::linked::{Kind, Service};
use mesh_syntax::{Diagnostic, Level};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided;

declare_rule! {
    /// ## What it flags
    /// A service that has rules which admit, and that no request whatever can enter: each of them asks
    /// for what no request has, or a `deny` refuses all of it. And a gateway whose rules let nobody in, or
    /// let in none of the requests that one of its routes takes.
    ///
    /// ## Why it matters
    /// The service is cut off while its rules read as if it were not. Behind a gateway that is an outage
    /// for everybody outside: whoever comes gets 403, whatever stands behind it. A gateway without any
    /// `allow` lets nobody in either, and routes show that somebody was meant to come.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET }; deny { not { method POST } } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET }; deny { not { method GET } } }
    /// ```
    pub(crate) static NOBODY_ADMITTED = {
        code: "MSH0802", name: "access/nobody-admitted",
        summary: "rules that admit, and nobody gets in",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, access) in facts.access() {
        if service.gateway().is_some() {
            continue;
        }
        if !access.closed {
            continue;
        }
        let mut finding = NOBODY_ADMITTED
            .at(
                service.name.span,
                format!("no request can enter `{}`, in spite of its rules", service.name.value),
            )
            .at("cut off")
            .help("loosen the `deny`, or the conditions; a service that nobody may enter needs no `allow`");
        let overruled = access.overruled.iter();
        let denies: std::collections::BTreeSet<usize> = overruled
            .flat_map(|overruled| overruled.by.iter().copied())
            .collect();
        for deny in denies
            .into_iter()
            .filter_map(|rule| service.access.get(rule))
        {
            if let Some(span) = deny.source.span() {
                finding = finding.label(span, "refuses what the others let in");
            }
        }
        finding.level = Level::Warning;
        cx.report(finding);
    }
    let mesh = facts.mesh();
    // What leaves by a gateway is judged where it leaves; nobody comes to its routes.
    let is_left_by = |gateway: &Service| {
        mesh.services.iter().any(|each| match &each.kind {
            Kind::External(external) => external.via.is_some_and(|via| via.value == gateway.id),
            Kind::Service | Kind::Gateway(_) => false,
        })
    };
    let gateways = mesh.services.iter().filter(|each| each.gateway().is_some());
    let gateways = gateways.filter(|gateway| !is_left_by(gateway));
    let (closed, undecided): (Vec<_>, _) = passage::ask(mesh, |passages| {
        gateways
            .map(|gateway| (gateway, passages.closed(gateway.id)))
            .collect()
    });
    for (gateway, closed) in closed {
        for closed in closed {
            cx.report(closed_gateway(facts, gateway, &closed));
        }
    }
    undecided::report_routes(cx, &NOBODY_ADMITTED, undecided, |service, route| {
        format!("whether `{service}` lets in a request that its route `{route}` takes")
    });
}

fn closed_gateway(facts: &Facts<'_>, gateway: &Service, closed: &Closed) -> Diagnostic {
    let name = &gateway.name;
    let route = closed.route.and_then(|route| gateway.routes.get(route));
    let mut finding = match route {
        Some(route) => NOBODY_ADMITTED.at(
            route.name.span,
            format!(
                "`{}` lets in no request that its route `{}` takes",
                name.value, route.name.value
            ),
        ),
        None => NOBODY_ADMITTED.at(
            name.span,
            format!(
                "nobody can enter `{}`, whose rules let no request of its routes in",
                name.value
            ),
        ),
    }
    .at("refused, always");
    let probe = Probe::of(facts.mesh(), gateway.id);
    let speaks = |rule: usize| {
        let probe = probe.as_ref();
        probe.is_some_and(|probe| probe.takes(rule, &closed.witness))
    };
    let mut is_denied = false;
    for (index, rule) in gateway.access.iter().enumerate() {
        let Some(span) = rule
            .source
            .span()
            .filter(|_| rule.enforcement == Enforcement::Enforce)
        else {
            continue;
        };
        let label = match (rule.effect, speaks(index)) {
            (Effect::Deny, false) => continue,
            (Effect::Deny, true) => {
                is_denied = true;
                "refuses the request below"
            }
            (Effect::Allow, true) => "would let it in",
            (Effect::Allow, false) => "lets in other requests",
        };
        finding = finding.label(span, label);
    }
    finding = if is_denied {
        finding.help("loosen the `deny`, or remove what nobody is to reach")
    } else {
        finding.help(format!(
            "let in what is meant to come from outside: `allow unauthenticated` in `{}`, with methods and paths",
            name.value
        ))
    };
    finding.witness(facts.witness(&closed.witness, gateway.id))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_service_that_denies_all_that_it_allows_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0802",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" } }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { path "/a/*" }
                allow web { path "/b" }
                deny { path "/a/**" }
                deny { path "/b" }
            }"#
        ));
    }

    fn gateway(rules: &str) -> String {
        format!(
            r#"
            gateway public {{
                listen 8080
                {rules}
                route shop {{ match {{ path "/shop/**" }}; to shop }}
                route pay {{ match {{ path "/pay/**" }}; to shop }}
                route old {{ match {{ path "/old/**" }}; redirect path="/shop/**" }}
            }}
            service shop {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public }}"#
        )
    }

    #[test]
    fn a_gateway_that_nobody_enters_is_found() {
        insta::assert_snapshot!(findings("MSH0802", &gateway("")));
        insta::assert_snapshot!(findings("MSH0802", &gateway("deny unauthenticated")));
        insta::assert_snapshot!(findings(
            "MSH0802",
            &gateway(r#"allow unauthenticated { path "/book/**" }"#)
        ));
    }

    #[test]
    fn a_route_that_nobody_reaches_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0802",
            &gateway(r#"allow unauthenticated { path "/shop/**" "/old/**" }"#)
        ));
        insta::assert_snapshot!(findings(
            "MSH0802",
            &gateway(r#"allow unauthenticated; deny { path "/pay/**" }"#)
        ));
    }

    #[test]
    fn a_part_of_what_each_route_takes_is_enough() {
        none("MSH0802", &gateway("allow unauthenticated { method POST }"));
        none("MSH0802", &gateway("allow any"));
    }

    #[test]
    fn without_any_allow_it_is_meant() {
        none(
            "MSH0802",
            r#"service a { port 80; endpoints { static "10.0.0.2:80" }; deny { method PUT } }"#,
        );
    }
}
