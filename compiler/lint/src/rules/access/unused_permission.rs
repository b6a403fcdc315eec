//! `access/unused-permission`

use std::collections::BTreeSet;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` that names a service which declares no call to this one, and which the inventory, if
    /// there is one, has not seen calling.
    ///
    /// ## Why it matters
    /// Permissions that nobody uses are what an intruder uses. Or the call does happen and is not
    /// declared, and then the analysis of retries does not see it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    pub(crate) static UNUSED_PERMISSION = {
        code: "MSH0115", name: "access/unused-permission",
        summary: "permitted, but nobody declares the call",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let seen = mesh
        .inventory
        .iter()
        .flat_map(|inventory| &inventory.observed);
    let seen: BTreeSet<_> = seen
        .filter_map(|call| Some((*call.from.as_ref().ok()?, *call.to.as_ref().ok()?)))
        .collect();
    // The route of a gateway, say, is a use that needs no `calls`.
    for edge in mesh.edges.iter().filter(|edge| !edge.is_used()) {
        // Who is seen to call needs it, and should declare it: MSH0116 says so.
        if seen.contains(&(edge.caller, edge.callee)) {
            continue;
        }
        let (caller, callee) = (mesh.service(edge.caller), mesh.service(edge.callee));
        let rules = edge
            .permitted
            .iter()
            .filter_map(|rule| callee.access.get(*rule));
        let Some(span) = rules
            .filter(|rule| rule.named.contains(&edge.caller))
            .find_map(|rule| rule.source.span())
        else {
            continue;
        };
        let (from, to) = (&caller.name.value, &callee.name.value);
        cx.report(
            UNUSED_PERMISSION
                .at(
                    span,
                    format!("`{to}` lets `{from}` in, but `{from}` declares no call to it"),
                )
                .at(format!("nobody says that `{from}` needs this"))
                .label(caller.name.span, format!("has no `calls {to}`"))
                .help(format!(
                    "add `calls {to}` to `{from}` if it calls it, else remove the permission"
                )),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_named_caller_that_does_not_call_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0115",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" } }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web }"#
        ));
    }

    #[test]
    fn a_gateway_needs_what_its_routes_lead_to() {
        none(
            "MSH0115",
            r#"
            gateway public {
                listen 80 { host "shop.example" }
                allow unauthenticated
                route all { match { path "/**" }; to a }
            }
            service a { port 80; endpoints { static "10.0.0.1:80" }; allow public }"#,
        );
    }

    #[test]
    fn rules_for_everybody_name_nobody() {
        none(
            "MSH0115",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" } }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow any }"#,
        );
    }
}
