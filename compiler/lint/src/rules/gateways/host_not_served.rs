//! `gateways/host-not-served`

use mesh_bundle::slice::Condition;
use mesh_compiler::analysis::routes::Impossible;
use mesh_compiler::linked::Service;
use mesh_compiler::model::Spanned;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A route of a gateway that asks for hosts which none of the gateway's listeners serves.
    ///
    /// ## Why it matters
    /// No request ever reaches the route: the listener knows only its own hosts.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway public {
    ///     listen 8080 { host "shop.example" }
    ///     allow unauthenticated { method GET }
    ///     route api { match { host "api.example" }; to productpage }
    /// }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; allow public { method GET } }
    /// ```
    /// ```kdl good
    /// gateway public {
    ///     listen 8080 { host "shop.example" "api.example" }
    ///     allow unauthenticated { method GET }
    ///     route api { match { host "api.example" }; to productpage }
    /// }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; allow public { method GET } }
    /// ```
    pub(crate) static HOST_NOT_SERVED = {
        code: "MSH0208", name: "gateways/host-not-served",
        summary: "a route asks for a host that its gateway does not serve",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, routes) in facts.routes() {
        let Some(gateway) = service.gateway() else {
            continue;
        };
        for impossible in &routes.impossible {
            let Some(condition) = unserved_host(service, impossible) else {
                continue;
            };
            let route = &service.routes[impossible.route];
            let mut finding = HOST_NOT_SERVED
                .at(
                    condition.span,
                    format!(
                        "route `{}` asks for a host that the gateway `{}` does not serve",
                        route.name.value, service.name.value
                    ),
                )
                .at("no listener has it")
                .help("add the host to a `listen`, or correct it here");
            for listener in &gateway.listeners {
                let hosts: Vec<&str> = listener.hosts.iter().map(String::as_str).collect();
                let serves = format!("serves {}", hosts.join(", "));
                finding = finding.label(listener.span, serves);
            }
            cx.report(finding);
        }
    }
}

/// The condition on hosts that alone makes a match of a gateway impossible.
pub(crate) fn unserved_host<'m>(
    service: &'m Service,
    impossible: &Impossible,
) -> Option<&'m Spanned<Condition>> {
    service.gateway()?;
    let each = service
        .routes
        .get(impossible.route)?
        .matches
        .get(impossible.position)?;
    let [only] = impossible.conditions.as_slice() else {
        return None;
    };
    let condition = each.conditions.get(*only)?;
    matches!(condition.value, Condition::Host(_)).then_some(condition)
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(conditions: &str) -> String {
        format!(
            r#"
            gateway public {{
                listen 8080 {{ host "shop.example" "*.shop.example" }}
                listen 8081 {{ host "admin.example" }}
                allow unauthenticated {{ method GET }}
                route a {{ match {{ {conditions} }}; to a }}
            }}
            service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; allow public {{ method GET }} }}"#
        )
    }

    #[test]
    fn a_host_of_nobody_is_found_once() {
        let policy = with("path \"/x\"; host \"other.example\" \"x.y.shop.example\"");
        insta::assert_snapshot!(findings("MSH0208", &policy));
        none("MSH0217", &policy);
    }

    #[test]
    fn a_host_below_a_star_is_served_and_another_port_is_another_matter() {
        none("MSH0208", &with("host \"a.shop.example\""));
        none("MSH0208", &with("host \"admin.example\"; port 8080"));
        insta::assert_snapshot!(findings(
            "MSH0217",
            &with("host \"admin.example\"; port 8080")
        ));
    }
}
