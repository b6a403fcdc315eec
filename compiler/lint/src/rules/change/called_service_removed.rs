//! `linking/called-service-removed`

use mesh_compiler::diff::access::{name_of, orphaned};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A service that is removed in the same change as the `calls` of services that stay. Found with
    /// `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Generations roll out proxy by proxy. Those that still have the old one call a service whose own
    /// proxies already deny everything and drain.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" } }
    /// ```
    pub(crate) static CALLED_SERVICE_REMOVED = {
        code: "MSH0117", name: "linking/called-service-removed",
        summary: "a service is removed together with the calls to it",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let meshes = change.meshes();
    for each in orphaned(meshes) {
        let gone = &name_of(meshes.base, each.callee).value;
        let names: Vec<_> = each
            .callers
            .iter()
            .map(|caller| name_of(meshes.head, caller.head))
            .collect();
        let Some((first, others)) = names.split_first() else {
            continue;
        };
        let list = list(names.iter().map(|name| name.value.as_str()));
        let mut finding = CALLED_SERVICE_REMOVED
            .at(
                first.span,
                format!("`{gone}` is removed, and until this change {list} called it"),
            )
            .at("calls it until its proxies have the new generation")
            .help(format!(
                "remove the calls first, and `{gone}` in a later commit, once every proxy serves the first"
            ));
        for other in others {
            finding = finding.label(other.span, "this one too");
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    #[test]
    fn a_service_removed_under_its_callers_is_found() {
        let web = r#"service web { port 80; endpoints { static "10.0.0.1:80" }"#;
        insta::assert_snapshot!(changes(
            "MSH0117",
            &format!(
                "{web}; calls a }}\nservice a {{ port 80; allow web; endpoints {{ static \"10.0.0.2:80\" }} }}"
            ),
            &format!("{web} }}"),
        ));
    }

    #[test]
    fn nobody_misses_what_nobody_called() {
        let web = r#"service web { port 80; endpoints { static "10.0.0.1:80" } }"#;
        let a = r#"service a { port 80; allow web; endpoints { static "10.0.0.2:80" } }"#;
        assert_eq!(changes("MSH0117", &format!("{web}\n{a}"), web), "");
    }
}
