//! `access/plaintext-callee`

use mesh_bundle::slice::MtlsMode;
use mesh_compiler::linked::Kind;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that policy says happens, to a service with `mtls off`.
    ///
    /// ## Why it matters
    /// Proxies dial each other with mutual TLS, always, and never fall back. A service that takes
    /// plaintext only is reached by peers without a proxy, and by no other.
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
        let off = callee.has_mtls_everywhere(Some(MtlsMode::Off));
        if !off || !matches!(callee.kind, Kind::Service) {
            continue;
        }
        let declared = edge
            .declared
            .first()
            .and_then(|call| caller.calls.get(*call));
        let routed = edge.routed.first().map(|routed| routed.span);
        let span = declared.map(|call| call.callee.span).or(routed);
        let mut finding = PLAINTEXT_CALLEE
            .at(
                span.unwrap_or(caller.name.span),
                format!(
                    "`{}` calls `{}` with mutual TLS, which takes plaintext only",
                    caller.name.value, callee.name.value
                ),
            )
            .at("no connection comes up")
            .help("write `mtls permissive`, which takes both, or remove the call");
        if let Some(mode) = callee.mtls.source.span() {
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
    fn permissive_takes_both_and_nobody_has_to_call() {
        none("MSH0701", &with("mtls permissive", "calls a"));
        none("MSH0701", &with("mtls off", ""));
    }
}
