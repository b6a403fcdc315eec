//! `gateways/unaddressed-bytes`

use mesh_bundle::slice::{EndpointAddress, Protocol};
use mesh_compiler::linked::{Endpoints, Service};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A declared call to a service of bytes (`protocol=tcp`) that nothing tells from other connections:
    /// the service has no `address`, its endpoints have no fixed ones, and the call has no `listen`.
    ///
    /// ## Why it matters
    /// Bytes name no host. The caller's proxy knows such a service by the address that is dialled, or by
    /// an address of its own where it listens; a connection to any other place is refused.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls db }
    /// service db { port 5432 protocol=tcp; endpoints { dns "db.internal:5432" }; allow web }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls db { listen "127.0.0.1:15432" } }
    /// service db { port 5432 protocol=tcp; endpoints { dns "db.internal:5432" }; allow web }
    /// ```
    pub(crate) static UNADDRESSED_BYTES = {
        code: "MSH0909", name: "gateways/unaddressed-bytes",
        summary: "a service of bytes that no connection is known by",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for caller in &mesh.services {
        for call in &caller.calls {
            let callee = mesh.service(call.callee.value);
            let is_bytes = callee
                .ports
                .iter()
                .all(|port| port.protocol == Protocol::Tcp);
            if !is_bytes || call.listen.is_some() || has_address(callee) {
                continue;
            }
            let message = format!(
                "no connection of `{}` is known to be for `{}`",
                caller.name.value, callee.name.value
            );
            cx.report(
                UNADDRESSED_BYTES
                    .at(call.callee.span, message)
                    .at("bytes name no host")
                    .label(callee.name.span, "has no address that could be dialled")
                    .help(format!(
                        "let the proxy listen for it: `calls {} {{ listen \"127.0.0.1:PORT\" }}`; or give the service its `address`",
                        callee.name.value
                    ))
                    // Discovered endpoints may be dialled one by one.
                    .possible(),
            );
        }
    }
}

fn has_address(service: &Service) -> bool {
    let is_fixed = |address: &EndpointAddress| matches!(address, EndpointAddress::Static(_));
    !service.reach.addresses.is_empty()
        || match &service.endpoints {
            Endpoints::Declared(endpoints) => endpoints
                .iter()
                .any(|endpoint| is_fixed(&endpoint.value.address)),
            Endpoints::Discovered => false,
        }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(calls: &str, db: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {calls} }}
            service db {{ port 5432 protocol=tcp; {db}; allow web }}"#
        )
    }

    #[test]
    fn a_call_by_no_address_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0909",
            &with("calls db", r#"endpoints { dns "db.test:5432" }"#)
        ));
    }

    #[test]
    fn any_address_will_do() {
        none(
            "MSH0909",
            &with("calls db", r#"endpoints { static "10.0.0.2:5432" }"#),
        );
        none(
            "MSH0909",
            &with(
                "calls db",
                r#"endpoints { dns "db.test:5432" }; address "10.1.0.1""#,
            ),
        );
        none(
            "MSH0909",
            &with(
                r#"calls db { listen "127.0.0.1:15432" }"#,
                r#"endpoints { dns "db.test:5432" }"#,
            ),
        );
    }
}
