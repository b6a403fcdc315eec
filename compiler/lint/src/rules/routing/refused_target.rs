//! `routing/refused-target`

use mesh_bundle::slice::Principal;
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::{Likely, Point, Space};
use mesh_compiler::linked::{Edge, LinkedMesh, Route};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A route that sends requests on to another service, at once or when the first has no healthy
    /// endpoint, which lets none of the caller's requests in.
    ///
    /// ## Why it matters
    /// The other service sees who called, not whose route it was. What should have helped in an outage
    /// answers 403 instead, and nobody learns of it before.
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
    let refused = |edge: &&Edge| !edge.led.is_empty() && edge.permitted.is_empty();
    for edge in mesh.edges.iter().filter(refused) {
        let (caller, target) = (mesh.service(edge.caller), mesh.service(edge.callee));
        let Some(id) = edge.led.first() else {
            continue;
        };
        let (owner, route) = (mesh.service(id.service), mesh.route(*id));
        let (span, later) = place(route, edge).unwrap_or((route.name.span, false));
        let when = if later {
            " when nothing else is healthy"
        } else {
            ""
        };
        let mut finding = REFUSED_TARGET
            .at(
                span,
                format!(
                    "route `{}` of `{}` leads requests of `{}` to `{}`{when}, which lets none of them in",
                    route.name.value, owner.name.value, caller.name.value, target.name.value
                ),
            )
            .at("refused, always")
            .label(target.name.span, format!("no rule here lets `{}` in", caller.name.value))
            .help(format!("add `allow {}` to `{}`", caller.name.value, target.name.value));
        if let Some(point) = witness(mesh, edge) {
            finding = finding.witness(facts.witness(&point, target.id));
        }
        let happens = mesh
            .edge(edge.caller, id.service)
            .is_some_and(Edge::is_used);
        cx.report(if happens { finding } else { finding.possible() });
    }
}

/// The branch that leads there, and whether only as a last resort.
fn place(route: &Route, edge: &Edge) -> Option<(Span, bool)> {
    let direct = |to: &&mesh_compiler::linked::Destination| to.target.service == edge.callee;
    if let Some(to) = route.destinations.iter().find(direct) {
        return Some((to.span, false));
    }
    let indirect = route.destinations.iter().find(|to| {
        to.otherwise
            .iter()
            .any(|target| target.service == edge.callee)
    });
    indirect.map(|to| (to.span, true))
}

fn witness(mesh: &LinkedMesh, edge: &Edge) -> Option<Point> {
    let probe = Probe::of(mesh, edge.callee)?;
    let identities = &mesh.service(edge.caller).identities;
    let who: Vec<Principal> = identities
        .iter()
        .cloned()
        .map(Principal::SpiffeId)
        .collect();
    let ports = mesh
        .service(edge.callee)
        .ports
        .iter()
        .map(|port| port.number.value);
    let space = Space::from(&who)
        .ok()?
        .intersection(&Space::to_ports(ports).ok()?)
        .ok()?;
    let likely = Likely {
        callers: identities.iter().map(ToString::to_string).collect(),
        ..probe.likely().clone()
    };
    let point = space.pick(&likely).ok()??;
    (probe.is_allowed(&point) == Some(false)).then_some(point)
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
}
