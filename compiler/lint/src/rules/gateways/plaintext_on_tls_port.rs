//! `gateways/plaintext-on-tls-port`

use mesh_bundle::slice::Protocol;
use mesh_compiler::analysis::entrance::is_unguarded;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// Requests in plaintext on 443 or 8443: a listener of a gateway without `tls`, or a port of
    /// something outside the mesh that is dialled there without it.
    ///
    /// ## Why it matters
    /// The other side speaks TLS on these ports, by a convention that hardly anybody breaks. What comes
    /// of it is a connection that ends after its first bytes, or requests that anybody can read.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// external stripe { host "api.stripe.example"; port 443 protocol=http; allow web }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// external stripe { host "api.stripe.example"; port 80 protocol=http dial=443 { tls }; allow web }
    /// ```
    pub(crate) static PLAINTEXT_ON_TLS_PORT = {
        code: "MSH0904", name: "gateways/plaintext-on-tls-port",
        summary: "plaintext where everybody expects TLS",
        level: Warning, since: "0.1.0", check: check,
    }
}

const TLS_PORTS: [u16; 2] = [443, 8443];

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        let name = &service.name.value;
        for listener in service.gateway().into_iter().flat_map(|own| &own.listeners) {
            let port = listener.port;
            if listener.tls.is_none() && TLS_PORTS.contains(&port.value) {
                let message = format!("`{name}` takes plaintext on {}", port.value);
                cx.report(
                    PLAINTEXT_ON_TLS_PORT
                        .at(port.span, message)
                        .at("clients speak TLS here")
                        .help("add `tls certificate=NAME`, or listen on another port")
                        .possible(),
                );
            }
        }
        if !service.is_external() && !is_unguarded(service) {
            continue;
        }
        for port in &service.ports {
            let of = |dial: &&mesh_compiler::model::Dial| {
                dial.ports.iter().any(|own| own.value == port.number.value)
            };
            let dial = service.reach.dials.iter().find(of);
            let dialled = dial.and_then(|dial| dial.dial).unwrap_or(port.number);
            let is_requests = matches!(port.protocol, Protocol::Http | Protocol::Grpc);
            let is_tls = dial.is_some_and(|dial| dial.tls.is_some());
            if is_requests && !is_tls && TLS_PORTS.contains(&dialled.value) {
                let message = format!(
                    "requests to `{name}` go to its port {} in plaintext",
                    dialled.value
                );
                cx.report(
                    PLAINTEXT_ON_TLS_PORT
                        .at(dialled.span, message)
                        .at("dialled without TLS")
                        .help("let the proxy speak TLS: `port 80 protocol=http dial=443 { tls }`; or, where the application does, `port 443 protocol=tls`")
                        .possible(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(port: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
            external bank {{ host "bank.test"; {port}; allow web }}"#
        )
    }

    #[test]
    fn externals_and_listeners_are_found() {
        insta::assert_snapshot!(findings("MSH0904", &with("port 80 dial=443")));
        insta::assert_snapshot!(findings(
            "MSH0904",
            "gateway public { listen 8443; allow unauthenticated { method GET } }"
        ));
    }

    #[test]
    fn tls_of_the_proxy_or_of_the_application_will_do() {
        none("MSH0904", &with("port 80 dial=443 { tls }"));
        none("MSH0904", &with("port 443 protocol=tls"));
        none("MSH0904", &with("port 80 dial=8080"));
        none(
            "MSH0904",
            r#"service a { port 443; endpoints { static "10.0.0.1:443" } }"#,
        );
    }
}
