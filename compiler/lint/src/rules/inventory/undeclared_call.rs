//! `access/undeclared-call`

use std::collections::BTreeSet;

use mesh_compiler::linked::{self, Kind};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that the inventory has seen and that policy does not declare: the caller has no `calls` for
    /// it, or is a gateway none of whose routes leads there. Needs an `inventory.kdl` that lists `observed`.
    ///
    /// ## Why it matters
    /// The analyses of retries and timeouts follow declared calls. One that happens and is not declared
    /// makes every number behind it too small; one from somewhere that policy does not know at all is
    /// for somebody to look at.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test" }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { observed productpage to=reviews rate="20/s" }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test" }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { observed productpage to=reviews rate="20/s" }
    /// ```
    pub(crate) static UNDECLARED_CALL = {
        code: "MSH0116", name: "access/undeclared-call", summary: "a call was seen that nobody declares",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let Some(inventory) = cx.inventory(&UNDECLARED_CALL) else {
        return;
    };
    if inventory.observed.is_empty() {
        cx.skip(&UNDECLARED_CALL, "needs an inventory file with `observed`");
        return;
    }
    let mut told = BTreeSet::new();
    for call in &inventory.observed {
        // What policy does not know at all is MSH0906.
        let Ok(callee) = call.to else { continue };
        let from = match &call.from {
            Ok(id) => mesh.service(*id).name.value.clone(),
            Err(name) => name.clone(),
        };
        let to = mesh.service(callee).name.value.clone();
        if !told.insert((from.clone(), to.clone())) {
            continue;
        }
        let declared = match (&call.from, &call.to) {
            (Ok(caller), Ok(callee)) => mesh
                .edge(*caller, *callee)
                .is_some_and(linked::Edge::is_used),
            _ => false,
        };
        if declared {
            continue;
        }
        let finding = UNDECLARED_CALL
            .at(
                call.span,
                format!("`{from}` calls `{to}`, which no policy declares"),
            )
            .possible();
        let finding = match &call.from {
            Ok(caller) => {
                let caller = mesh.service(*caller);
                let missing = match caller.kind {
                    Kind::Gateway(_) => format!("a route with `to {to}`"),
                    Kind::Service | Kind::External(_) => format!("`calls {to}`"),
                };
                finding
                    .label(
                        caller.name.span,
                        format!("has no {}", missing.trim_start_matches("a ")),
                    )
                    .help(format!(
                        "add {missing} to `{from}`, or find out why it calls"
                    ))
            }
            Err(_) => finding.help(format!(
                "policy does not know `{from}`: declare it, or find out what it is"
            )),
        };
        cx.report(match call.rate {
            Some(rate) => finding.number("rate", rate),
            None => finding,
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const MESH: &str = "mesh example { trust-domain \"example.test\" }
service a { port 80; endpoints { static \"10.0.0.1:80\" }; calls b }
service b { port 80; endpoints { static \"10.0.0.2:80\" }; allow a }
// file: inventory.kdl
";

    #[test]
    fn declared_calls_are_expected() {
        none(
            "MSH0116",
            &format!("{MESH}inventory \"2026-01-01\" {{ observed a to=b }}"),
        );
        none("MSH0116", MESH);
    }

    #[test]
    fn what_a_route_of_a_gateway_leads_to_is_declared() {
        let mesh = MESH.replace(
            "calls b }",
            "calls b; allow public }
gateway public { listen 80 { host \"shop.example\" }; allow unauthenticated
    route all { match { path \"/**\" }; to a } }",
        );
        let seen =
            |to: &str| format!("{mesh}inventory \"2026-01-01\" {{ observed public to={to} }}");
        none("MSH0116", &seen("a"));
        let found = findings("MSH0116", &seen("b"));
        assert!(found.contains("has no route with `to b`"), "{found}");
    }

    #[test]
    fn others_are_shown_once_each() {
        insta::assert_snapshot!(findings(
            "MSH0116",
            &format!(
                "{MESH}inventory \"2026-01-01\" {{
    observed b to=a rate=\"120/m\"
    observed b to=a
    observed \"spiffe://example.test/service/b\" to=a
    observed \"spiffe://example.test/jobs/nightly\" to=b
    observed a to=stripe
}}"
            )
        ));
    }
}
