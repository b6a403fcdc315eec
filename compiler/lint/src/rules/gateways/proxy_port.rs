//! `gateways/proxy-port`

use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service or gateway that listens where its own proxy does: 15001 (outbound), 15006 (inbound),
    /// 15021 (health) or 15090 (metrics).
    ///
    /// ## Why it matters
    /// One of the two can't start; or what the proxy tells its operator is open to everybody.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service stats { port 15090; endpoints { static "10.0.0.1:15090" } }
    /// ```
    /// ```kdl good
    /// service stats { port 9090; endpoints { static "10.0.0.1:9090" } }
    /// ```
    pub(crate) static PROXY_PORT = {
        code: "MSH0911", name: "gateways/proxy-port",
        summary: "a port that the proxy itself listens on",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// The proxy's own ports, and what they are for.
const PROXY_PORTS: [(u16, &str); 4] = [
    (15_001, "outbound requests"),
    (15_006, "inbound requests"),
    (15_021, "health"),
    (15_090, "metrics"),
];

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        let own = service.ports.iter().map(|port| port.number);
        let listeners = service
            .gateway()
            .into_iter()
            .flat_map(|gateway| &gateway.listeners);
        let mut numbers: Vec<(u16, Span)> = own
            .chain(listeners.map(|listener| listener.port))
            .map(|port| (port.value, port.span))
            .collect();
        numbers.sort_unstable();
        numbers.dedup_by_key(|(number, _)| *number);
        for (number, span) in numbers {
            let Some((_, what)) = PROXY_PORTS.iter().find(|(port, _)| *port == number) else {
                continue;
            };
            cx.report(
                PROXY_PORT
                    .at(
                        span,
                        format!(
                            "`{}` listens on {number}, where its own proxy listens for {what}",
                            service.name.value
                        ),
                    )
                    .at("taken")
                    .help("choose another port, or give the proxy another at its start"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn services_and_gateways_are_looked_at() {
        insta::assert_snapshot!(findings(
            "MSH0911",
            r#"
            service a { port 15021; endpoints { static "10.0.0.1:15021" } }
            gateway public { listen 15001; allow unauthenticated { method GET }; route a { to a } }"#
        ));
    }

    #[test]
    fn other_ports_are_free() {
        none(
            "MSH0911",
            r#"service a { port 15000; endpoints { static "10.0.0.1:15000" } }"#,
        );
    }
}
