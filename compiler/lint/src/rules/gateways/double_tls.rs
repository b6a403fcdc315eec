//! `gateways/double-tls`

use mesh_bundle::slice::Protocol;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A port of `protocol=tls`, whose bytes are TLS already, on a leg that the proxy makes TLS again.
    ///
    /// ## Why it matters
    /// The other side ends one layer and finds another handshake where it expects requests.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank { listen "127.0.0.1:15443" } }
    /// external bank { host "api.bank.example"; port 443 protocol=tls { tls }; allow web }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank { listen "127.0.0.1:15443" } }
    /// external bank { host "api.bank.example"; port 443 protocol=tls; allow web }
    /// ```
    pub(crate) static DOUBLE_TLS = {
        code: "MSH0713", name: "gateways/double-tls",
        summary: "TLS of the application inside TLS of the proxy",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        for dial in &service.reach.dials {
            let Some(tls) = &dial.tls else { continue };
            let own = service.ports.iter().find(|port| {
                port.protocol == Protocol::Tls
                    && dial
                        .ports
                        .iter()
                        .any(|dialled| dialled.value == port.number.value)
            });
            let Some(port) = own else { continue };
            cx.report(
                DOUBLE_TLS
                    .at(
                        tls.span,
                        format!(
                            "what comes for port {} of `{}` is TLS already, and the proxy wraps it again",
                            port.number.value, service.name.value
                        ),
                    )
                    .at("the second layer")
                    .label(port.number.span, "`protocol=tls`: the application's own TLS")
                    .help("remove `tls`; or let the application speak plainly to its proxy: `protocol=http` or `protocol=tcp`"),
            );
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
    fn tls_in_tls_is_found() {
        insta::assert_snapshot!(findings("MSH0713", &with("port 443 protocol=tls { tls }")));
    }

    #[test]
    fn one_layer_is_one() {
        none("MSH0713", &with("port 443 protocol=tls"));
        none("MSH0713", &with("port 80 dial=443 { tls }"));
        none(
            "MSH0713",
            &with("port 443 protocol=tls; port 80 dial=444 { tls }"),
        );
    }
}
