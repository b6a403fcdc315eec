//! `access/identity-without-mtls`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Effect, MtlsMode, Principal};
use mesh_compiler::linked::{Kind, Service};
use mesh_syntax::Span;

use super::shared;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` for identities at a service with `mtls off`.
    ///
    /// ## Why it matters
    /// An identity is what mutual TLS proves. Peers in plaintext have none, so the rule lets nobody in.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; mtls off; allow web; allow unauthenticated { method GET } }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; mtls off; allow unauthenticated { method GET } }
    /// ```
    pub(crate) static IDENTITY_WITHOUT_MTLS = {
        code: "MSH0807", name: "access/identity-without-mtls",
        summary: "a rule for identities where nobody has one",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    // Callers of externals are known to their own proxy, and clients of gateways to its listeners.
    let meshed = |service: &&Service| matches!(service.kind, Kind::Service);
    for service in mesh.services.iter().filter(meshed) {
        for rule in &service.access {
            // Only the ports that the rule leaves in question count.
            let mut ports = shared::ports_of(service, rule).peekable();
            let is_off = |port| service.mtls_of(port) == Some(MtlsMode::Off);
            if ports.peek().is_none() || !ports.all(is_off) {
                continue;
            }
            let anybody = rule.who.contains(&Principal::Unauthenticated);
            let Some(span) = rule.source.span() else {
                continue;
            };
            if rule.effect != Effect::Allow || anybody || !seen.insert(span) {
                continue;
            }
            let mut finding = IDENTITY_WITHOUT_MTLS
                .at(
                    span,
                    format!(
                        "`{}` takes plaintext only{}, so `{}` lets nobody in",
                        service.name.value, shared::there(service, rule), rule.name
                    ),
                )
                .at("no peer has an identity here")
                .help("write `mtls permissive` while peers move to mutual TLS, or `allow unauthenticated`");
            if let Some(mode) = shared::mode_of(service, rule) {
                finding = finding.label(mode, "no mutual TLS");
            }
            cx.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(mode: &str) -> String {
        format!(
            r#"
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {mode}; allow web }}"#
        )
    }

    #[test]
    fn a_rule_for_identities_in_plaintext_is_found() {
        insta::assert_snapshot!(findings("MSH0807", &with("mtls off")));
    }

    #[test]
    fn who_leaves_for_an_external_is_known() {
        none(
            "MSH0807",
            r#"mesh m { trust-domain "m.example"; mtls off }
            service a { port 80; endpoints { static "10.0.0.2:80" }; calls e; allow unauthenticated }
            external e { host "e.test"; port 80; allow a }"#,
        );
    }

    #[test]
    fn each_port_has_its_own_mode() {
        let with = |rule: &str| {
            format!(
                r#"
                service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
                service a {{ port 80; port 81 {{ mtls off }}; endpoints {{ static "10.0.0.2:80" }}; {rule} }}"#
            )
        };
        none("MSH0807", &with("allow web"));
        none("MSH0807", &with("allow web { port 80 }"));
        insta::assert_snapshot!(findings("MSH0807", &with("allow web { port 81 }")));
        none("MSH0803", &with("allow unauthenticated { port 81 }"));
        insta::assert_snapshot!(findings(
            "MSH0803",
            &with("allow unauthenticated { port 80 }")
        ));
    }

    #[test]
    fn permissive_has_identities() {
        none("MSH0807", &with("mtls permissive"));
    }
}
