//! `access/plaintext-callee`

use mesh_bundle::slice::MtlsMode;
use mesh_compiler::linked::Kind;
use mesh_compiler::model::Port;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that policy says happens, to a service with `mtls off`.
    ///
    /// ## Why it matters
    /// Proxies dial each other with mutual TLS, always, and never fall back. A service that takes
    /// plaintext only is reached by peers without a proxy, and by no other.
    ///
    /// As an error it can't be suppressed: every such call would fail, whoever answers for it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; mtls off; allow web; allow unauthenticated { method GET } }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; mtls permissive; allow web; allow unauthenticated { method GET } }
    /// ```
    pub(crate) static PLAINTEXT_CALLEE = {
        code: "MSH0701", name: "access/plaintext-callee",
        summary: "a mesh peer calls a service that takes plaintext only",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for edge in mesh.edges.iter().filter(|edge| edge.is_used()) {
        let (caller, callee) = (mesh.service(edge.caller), mesh.service(edge.callee));
        if !matches!(callee.kind, Kind::Service) {
            continue;
        }
        let is_off = |port: &&Port| callee.mtls_of(port) == Some(MtlsMode::Off);
        let everywhere = callee.ports.iter().all(|port| is_off(&port));
        let calls = || {
            edge.declared
                .iter()
                .filter_map(|call| caller.calls.get(*call))
        };
        // A call may mean any port, unless it says which.
        let to_port = calls().find_map(|call| {
            let (_, number) = call.listen.as_ref()?;
            let mut ports = callee.ports.iter();
            let port = ports.find(|port| port.number.value == *number)?;
            Some((call, port)).filter(|(_, port)| is_off(port))
        });
        if !everywhere && to_port.is_none() {
            continue;
        }
        let declared = to_port.map(|(call, _)| call).or_else(|| calls().next());
        let place = match to_port {
            Some((_, port)) if !everywhere => format!("port {} of ", port.number.value),
            _ => String::new(),
        };
        let routed = edge.routed.first().map(|routed| routed.span);
        let span = declared.map(|call| call.callee.span).or(routed);
        let mut finding = PLAINTEXT_CALLEE
            .at(
                span.unwrap_or(caller.name.span),
                format!(
                    "`{}` calls {place}`{}` with mutual TLS, which takes plaintext only",
                    caller.name.value, callee.name.value
                ),
            )
            .at("no connection comes up")
            .help("write `mtls permissive`, which takes both, or remove the call");
        let own = to_port.and_then(|(_, port)| port.mtls);
        let mode = own.map(|mode| mode.span);
        if let Some(mode) = mode.or_else(|| callee.mtls.source.span()) {
            finding = finding.label(mode, "plaintext only");
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(mode: &str, calls: &str) -> String {
        format!(
            r#"
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {calls} }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {mode}; allow web }}"#
        )
    }

    #[test]
    fn a_call_with_mutual_tls_to_plaintext_is_found() {
        insta::assert_snapshot!(findings("MSH0701", &with("mtls off", "calls a")));
    }

    #[test]
    fn a_call_that_says_its_port_is_judged_by_it() {
        let with = |modes: [&str; 2]| {
            format!(
                r#"
                service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a {{ listen "127.0.0.1:15432" }} }}
                service a {{ port 80{}; port 5432 protocol=tcp{}; endpoints {{ static "10.0.0.2:80" }}; allow web }}"#,
                modes[0], modes[1]
            )
        };
        none("MSH0701", &with([" { mtls off }", ""]));
        insta::assert_snapshot!(findings("MSH0701", &with(["", " { mtls off }"])));
    }

    #[test]
    fn permissive_takes_both_and_nobody_has_to_call() {
        none("MSH0701", &with("mtls permissive", "calls a"));
        none("MSH0701", &with("mtls off", ""));
    }
}
