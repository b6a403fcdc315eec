//! `retries/stacked-layers`

use std::sync::Arc;

use mesh_compiler::linked::{Edge, Exchange, Kind, LinkedMesh, Service};
use mesh_syntax::{Level, Span};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// An `external` that is reached `via` a gateway where both retry: the caller's proxy what the gateway answers, and the
    /// gateway's route what the external answers. Above `refuse attempts=` it is a warning, else a note. Elsewhere only the
    /// proxy that calls retries: a gateway's route and the service's own are levels of one policy, and a hedge shares the
    /// tries of a retry. What libraries of an application retry nobody can declare.
    ///
    /// ## Why it matters
    /// The tries multiply: three at the caller and three at the gateway are nine calls to somebody else's service, and
    /// neither place says so.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway egress { listen 8080; allow web; route bank { to bank; retry "5xx" attempts=3 per-try="1s" } }
    /// external bank { host "bank.example"; port 80; via egress; allow web egress; retry "5xx" attempts=3 per-try="1s" }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank }
    /// ```
    /// ```kdl good
    /// gateway egress { listen 8080; allow web; route bank { to bank; retry "5xx" attempts=3 per-try="1s" } }
    /// external bank { host "bank.example"; port 80; via egress; allow web egress; retry "5xx" attempts=3 per-try="1s" }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank { retry none } }
    /// ```
    pub(crate) static STACKED_LAYERS = {
        code: "MSH0404", name: "retries/stacked-layers", summary: "two proxies on one way retry",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for external in &mesh.services {
        let Kind::External(outside) = &external.kind else {
            continue;
        };
        let Some(gateway) = outside.via.map(|via| via.value) else {
            continue;
        };
        let leads = mesh.edge(gateway, external.id);
        let Some(second) = leads.and_then(|edge| {
            let exchanges = edge.routed.iter().flat_map(|routed| &routed.exchanges);
            most(exchanges)
        }) else {
            continue;
        };
        let callers = mesh.edges.entering(external.id);
        for edge in callers.filter(|edge| edge.caller != gateway && edge.is_used()) {
            if let Some(first) = most(&edge.exchanges) {
                report(cx, mesh, external, (edge, gateway), first, second);
            }
        }
    }
}

fn report(
    cx: &mut RuleContext<'_>,
    mesh: &LinkedMesh,
    external: &Service,
    (edge, gateway): (&Edge, mesh_compiler::linked::ServiceId),
    first: (u32, Option<Span>),
    second: (u32, Option<Span>),
) {
    let caller = mesh.service(edge.caller);
    let gateway = &mesh.service(gateway).name.value;
    let declared = edge
        .declared
        .first()
        .and_then(|call| caller.calls.get(*call));
    let span = first.1.or(declared.map(|call| call.callee.span));
    let tries = f64::from(first.0) * f64::from(second.0);
    let mut finding = STACKED_LAYERS
        .at(
            span.unwrap_or(external.name.span),
            format!(
                "`{}` tries {} times, and `{gateway}` on the way to `{}` {} times for each: {} calls",
                caller.name.value,
                first.0,
                external.name.value,
                second.0,
                number(tries),
            ),
        )
        .about(&external.name.value)
        .help("let one of the two retry: the gateway, which is nearer")
        .number("attempts", tries);
    if let Some(other) = second.1.filter(|other| Some(*other) != span) {
        finding = finding.label(other, "tried again here as well");
    }
    if tries <= f64::from(mesh.refuse.attempts.value) {
        finding.level = Level::Note;
    }
    cx.report(finding);
}

/// The exchange that tries most often, if any tries again, and where it says so.
fn most<'m>(exchanges: impl IntoIterator<Item = &'m Arc<Exchange>>) -> Option<(u32, Option<Span>)> {
    let tries = exchanges
        .into_iter()
        .filter(|exchange| exchange.attempts.value > 1 && !exchange.causes.value.is_empty());
    let most = tries.max_by_key(|exchange| exchange.attempts.value)?;
    Some((most.attempts.value, most.attempts.source.span()))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(calls: &str, route: &str) -> String {
        format!(
            r#"
            gateway egress {{ listen 8080; allow web; route bank {{ to bank; {route} }} }}
            external bank {{ host "bank.example"; port 80; via egress; allow web egress; retry "5xx" attempts=3 per-try="1s" }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls bank {{ {calls} }} }}"#
        )
    }

    #[test]
    fn tries_of_two_proxies_multiply() {
        insta::assert_snapshot!(findings(
            "MSH0404",
            &with("timeout \"9s\"", "timeout \"9s\"")
        ));
        let few = findings(
            "MSH0404",
            &with("retry \"5xx\" attempts=2", "retry \"5xx\" attempts=2"),
        );
        assert!(few.starts_with("note "), "{few}");
    }

    #[test]
    fn one_of_them_is_enough() {
        none("MSH0404", &with("retry none", ""));
        none("MSH0404", &with("", "retry none"));
    }
}
