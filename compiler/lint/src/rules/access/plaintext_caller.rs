//! `access/plaintext-caller`

use std::collections::BTreeSet;

use mesh_compiler::analysis::entrance::is_unguarded;
use mesh_compiler::linked::{Kind, Service, ServiceId};
use mesh_syntax::Diagnostic;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service that takes only mutual TLS, and a caller without a proxy: one that is `unmeshed` and
    /// declares the call, or, with an inventory, one that was seen and that policy does not know by an
    /// identity. What probes may do, they may in plaintext; a service with a `probe` is therefore only
    /// suspected.
    ///
    /// ## Why it matters
    /// Without a proxy beside it a caller speaks plaintext, which a strict service refuses before any
    /// rule is looked at. An `allow` for its name changes nothing: it can't show who it is.
    ///
    /// As an error it can't be suppressed: every such call would fail, whoever answers for it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service legacy { port 80; endpoints { static "10.0.0.1:80" }; unmeshed; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow legacy }
    /// ```
    /// ```kdl good
    /// service legacy { port 80; endpoints { static "10.0.0.1:80" }; unmeshed; calls a }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     mtls permissive
    ///     allow unauthenticated { method GET; path "/stock/**"; peer-ip "10.0.0.1/32" }
    /// }
    /// ```
    pub(crate) static PLAINTEXT_CALLER = {
        code: "MSH0703", name: "access/plaintext-caller",
        summary: "a caller without a proxy, of a service that takes only mutual TLS",
        level: Error, since: "0.1.0", check: check,
    }
}

fn is_strict(service: &Service) -> bool {
    matches!(service.kind, Kind::Service)
        && service.has_mtls_everywhere(None)
        && !is_unguarded(service)
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut told: BTreeSet<(ServiceId, ServiceId)> = BTreeSet::new();
    for edge in mesh.edges.iter().filter(|edge| edge.is_used()) {
        let (caller, callee) = (mesh.service(edge.caller), mesh.service(edge.callee));
        if !is_unguarded(caller) || !is_strict(callee) {
            continue;
        }
        told.insert((caller.id, callee.id));
        let call = edge
            .declared
            .first()
            .and_then(|call| caller.calls.get(*call));
        let span = call.map_or(caller.name.span, |call| call.callee.span);
        let message = format!(
            "`{}` has no proxy and calls `{}`, which takes only mutual TLS",
            caller.name.value, callee.name.value
        );
        let mut finding = PLAINTEXT_CALLER
            .at(span, message)
            .at(if callee.probes.is_empty() {
                "refused, always"
            } else {
                "refused, unless it only probes"
            });
        if let Some(unmeshed) = caller.reach.unmeshed {
            finding = finding.label(unmeshed, "no proxy, and so no identity");
        }
        cx.report(finished(finding, callee));
    }
    let Some(inventory) = mesh.inventory.as_ref() else {
        // Calls that policy declares are judged all the same.
        cx.skip(
            &PLAINTEXT_CALLER,
            "judges the calls that policy declares; those that were only seen need an inventory file with `observed`",
        );
        return;
    };
    for seen in &inventory.observed {
        let Ok(callee) = seen.to else { continue };
        let name = match &seen.from {
            Ok(caller) if told.contains(&(*caller, callee)) => continue,
            Ok(caller) if is_unguarded(mesh.service(*caller)) => &mesh.service(*caller).name.value,
            // Who has an identity has shown it.
            Err(name) if !name.starts_with("spiffe://") => name,
            _ => continue,
        };
        let callee = mesh.service(callee);
        if is_strict(callee) {
            let message = format!(
                "`{name}` was seen calling `{}`, which takes only mutual TLS, and policy knows no proxy of it",
                callee.name.value
            );
            let finding = PLAINTEXT_CALLER
                .at(seen.span, message)
                .at("refused, if it has none");
            cx.report(finished(finding, callee).possible());
        }
    }
}

fn finished(finding: Diagnostic, callee: &Service) -> Diagnostic {
    let finding = match callee.mtls.source.span() {
        Some(mode) => finding.label(mode, "only mutual TLS"),
        None => finding.label(callee.name.span, "only mutual TLS, as nothing else is said"),
    };
    let finding = finding.help(
        "give the caller a proxy; until it has one, write `mtls permissive` with `allow unauthenticated` and what it needs",
    );
    if callee.probes.is_empty() {
        finding
    } else {
        finding.possible()
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(legacy: &str, a: &str) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example" }}
service legacy {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {legacy} }}
service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {a} }}
"#
        )
    }

    #[test]
    fn a_declared_call_in_plaintext_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0703",
            &with("unmeshed; calls a", "allow legacy")
        ));
        // Which has no finding of its own beside this one.
        none("MSH0114", &with("unmeshed; calls a", "allow legacy"));
    }

    #[test]
    fn a_probe_may_be_all_that_it_wants() {
        insta::assert_snapshot!(findings(
            "MSH0703",
            &with("unmeshed; calls a", "probe \"/healthz\"")
        ));
    }

    #[test]
    fn what_was_seen_is_suspected() {
        let seen = |from: &str| {
            format!(
                "{}// file: inventory.kdl\ninventory \"2026-01-01\" {{ observed {from} to=a }}",
                with("", "allow legacy")
            )
        };
        insta::assert_snapshot!(findings("MSH0703", &seen("cron")));
        none("MSH0703", &seen("\"spiffe://m.example/jobs/cron\""));
        none("MSH0703", &seen("legacy"));
    }

    #[test]
    fn whoever_takes_plaintext_takes_it() {
        none("MSH0703", &with("unmeshed; calls a", "mtls permissive"));
        none("MSH0703", &with("unmeshed; calls a", "unmeshed"));
        none("MSH0703", &with("calls a", "allow legacy"));
    }
}
