//! `rollout/other-scope`

use mesh_compiler::diff::Change;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A change of the mesh's name or trust domain. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Both are pinned by the trust root with which every proxy was started, so proxies refuse the
    /// generation as not theirs and go on with the last one. Proxies given a new root can't go back: a
    /// revert is then as foreign to them as this change is to the others.
    ///
    /// ## Examples
    /// ```kdl base
    /// mesh bookshop { trust-domain "bookshop.example" }
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    /// ```kdl bad
    /// mesh bookshop { trust-domain "books.example" }
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    /// ```kdl good
    /// mesh bookshop { trust-domain "bookshop.example" }
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" }; timeout "2s" }
    /// ```
    pub(crate) static OTHER_SCOPE = {
        code: "MSH1105", name: "rollout/other-scope",
        summary: "no proxy takes the change, and none could be rolled back over it",
        level: Error, since: "0.1.0", check: check,
    }
}

/// Whether the head is another mesh to every proxy.
pub(super) fn is_other_mesh(change: Change<'_>) -> bool {
    let (base, head) = (change.base, change.head);
    base.name.value != head.name.value || base.trust_domain.value != head.trust_domain.value
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let meshes = change.meshes();
    let (before, after) = (meshes.base, meshes.head);
    let changed = [
        (&before.name, &after.name, "the name of the mesh"),
        (
            &before.trust_domain,
            &after.trust_domain,
            "the trust domain",
        ),
    ];
    for (old, new, what) in changed {
        if old.value == new.value {
            continue;
        }
        cx.report(
            OTHER_SCOPE
                .at(
                    new.span,
                    format!("{what} was `{}` and is `{}`", old.value, new.value),
                )
                .at("pinned by the trust root of every proxy")
                .help("to move to another, start a new mesh with a trust root of its own beside this one, and move workloads over"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    #[test]
    fn another_trust_domain_is_another_mesh() {
        let with = |domain: &str| {
            format!(
                r#"mesh m {{ trust-domain "{domain}" }}
                service a {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}"#
            )
        };
        insta::assert_snapshot!(changes("MSH1105", &with("a.example"), &with("b.example")));
        let with = |domain: &str| {
            format!(
                r#"mesh m {{ trust-domain "{domain}" }}
                service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web }}"#
            )
        };
        for said in ["MSH0704", "MSH1104", "MSH1108"] {
            let found = changes(said, &with("a.example"), &with("b.example"));
            assert_eq!(
                found, "",
                "nothing is in between, and no plan would be taken"
            );
        }
        assert_eq!(
            changes("MSH1105", &with("a.example"), &with("a.example")),
            ""
        );
    }
}
