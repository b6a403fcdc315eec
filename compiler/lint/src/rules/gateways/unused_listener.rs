//! `gateways/unused-listener`

use mesh_bundle::slice::Condition;
use mesh_compiler::analysis::probe;
use mesh_compiler::analysis::request_space::{CapExceeded, Repeated, Space};
use mesh_compiler::linked::{Listener, Service};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided::{self, Open};

declare_rule! {
    /// ## What it flags
    /// A listener of a gateway whose requests no route of the gateway takes.
    ///
    /// ## Why it matters
    /// It answers everything with 404, and is open to the world for nothing.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway public {
    ///     listen 8080 { host "shop.example" }
    ///     listen 8081 { host "admin.example" }
    ///     allow unauthenticated { method GET }
    ///     route shop { match { port 8080 }; to productpage }
    /// }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; allow public { method GET } }
    /// ```
    /// ```kdl good
    /// gateway public {
    ///     listen 8080 { host "shop.example" }
    ///     allow unauthenticated { method GET }
    ///     route shop { match { port 8080 }; to productpage }
    /// }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; allow public { method GET } }
    /// ```
    pub(crate) static UNUSED_LISTENER = {
        code: "MSH0910", name: "gateways/unused-listener",
        summary: "no route takes what a listener accepts",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        let Some(gateway) = service.gateway() else {
            continue;
        };
        for listener in &gateway.listeners {
            match is_used(service, listener) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(why) => {
                    let open = Open {
                        span: listener.span,
                        question: format!(
                            "whether a route of `{}` takes what comes to port {}{}",
                            service.name.value,
                            listener.port.value,
                            hosts(listener)
                        ),
                        why,
                    };
                    undecided::report(cx, &UNUSED_LISTENER, [open]);
                    continue;
                }
            }
            cx.report(
                UNUSED_LISTENER
                    .at(
                        listener.span,
                        format!(
                            "no route of the gateway `{}` takes a request that comes to port {}{}",
                            service.name.value,
                            listener.port.value,
                            hosts(listener),
                        ),
                    )
                    .at("answers everything with 404")
                    .help("add a route, or remove the listener"),
            );
        }
    }
}

fn hosts(listener: &Listener) -> String {
    if listener.hosts.is_empty() {
        String::new()
    } else {
        format!(" for {}", listener.hosts.join(", "))
    }
}

fn is_used(gateway: &Service, listener: &Listener) -> Result<bool, CapExceeded> {
    let mut conditions = vec![Condition::Port(vec![listener.port.value])];
    if !listener.hosts.is_empty() {
        conditions.push(Condition::Host(listener.hosts.clone()));
    }
    let comes = Space::of_conditions(&conditions, Repeated::One)?;
    for route in &gateway.routes {
        let takes = Space::of_matches(&probe::matches(route))?;
        if !takes.intersection(&comes)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(conditions: &str) -> String {
        format!(
            r#"
            gateway public {{
                listen 8080 {{ host "shop.example" }}
                listen 8080 {{ host "admin.example" }}
                listen 8081
                allow unauthenticated {{ method GET }}
                route a {{ match {{ {conditions} }}; to a }}
            }}
            service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; allow public {{ method GET }} }}"#
        )
    }

    #[test]
    fn listeners_that_nothing_follows_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0910",
            &with("host \"shop.example\"; port 8080")
        ));
    }

    #[test]
    fn a_route_for_everything_uses_all() {
        none("MSH0910", &with("path \"/**\""));
    }
}
