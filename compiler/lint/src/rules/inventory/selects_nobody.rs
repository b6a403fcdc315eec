//! `linking/selects-nobody`

use std::collections::BTreeSet;

use mesh_compiler::code;
use mesh_compiler::model::Principal;
use mesh_syntax::{Diagnostic, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A rule for all identities below a path, `"spiffe://…/**"`, that takes none: no service of the mesh
    /// has such an identity, and the inventory knows none outside of it. Needs an `inventory.kdl` that lists
    /// `identity`.
    ///
    /// ## Why it matters
    /// An `allow` that admits nobody is most often a path with a typo, and somebody waits outside.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test" }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow "spiffe://example.test/job/**" }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { identity "spiffe://example.test/jobs/nightly" }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test" }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow "spiffe://example.test/jobs/**" }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { identity "spiffe://example.test/jobs/nightly" }
    /// ```
    pub(crate) static SELECTS_NOBODY = {
        code: "MSH0108", name: "linking/selects-nobody", summary: "a rule for identities that nobody has",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let Some(inventory) = cx.inventory(&SELECTS_NOBODY) else {
        cx.skip_code(code::IDENTITY.code, "needs an inventory file");
        return;
    };
    if inventory.identities.is_empty() {
        for code in [SELECTS_NOBODY.page.code, code::IDENTITY.code] {
            cx.skip_code(code, "needs an inventory file with `identity`");
        }
        return;
    }
    let own = mesh.services.iter().flat_map(|service| &service.identities);
    let seen = inventory.identities.iter().map(|seen| &seen.value);
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for identity in own.chain(seen) {
        known.insert(identity.as_str());
    }
    let is_below = |prefix: &str| {
        known
            .range(prefix..)
            .next()
            .is_some_and(|first| first.starts_with(prefix))
    };
    let date = inventory.date;
    // A rule of `defaults` stands in every service and is wrong once.
    let mut told: BTreeSet<(Span, &str)> = BTreeSet::new();
    for rule in mesh.services.iter().flat_map(|service| &service.access) {
        let Some(span) = rule.source.span() else {
            continue;
        };
        for who in &rule.who {
            let (text, finding) = match who {
                Principal::SpiffePrefix(prefix) if !is_below(prefix) => (
                    prefix.as_str(),
                    SELECTS_NOBODY.at(span, format!("nobody has an identity below `{prefix}`")),
                ),
                Principal::SpiffeId(id) if !known.contains(id.as_str()) => (
                    id.as_str(),
                    Diagnostic::warning(
                        code::IDENTITY,
                        span,
                        format!("nobody has the identity `{id}`"),
                    ),
                ),
                _ => continue,
            };
            if told.insert((span, text)) {
                cx.report(
                    finding
                        .possible()
                        .label(date.span, "as of this day")
                        .help("correct it, or add who has it to the inventory"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, judged};

    #[test]
    fn an_identity_that_nobody_has() {
        insta::assert_snapshot!(findings(
            "MSH0112",
            "mesh example { trust-domain \"example.test\" }
service reviews { port 80; endpoints { static \"10.0.0.2:80\" }; allow \"spiffe://example.test/jobs/weekly\" }
// file: inventory.kdl
inventory \"2026-01-01\" { identity \"spiffe://example.test/jobs/nightly\" }
"
        ));
    }

    #[test]
    fn a_path_that_nobody_is_below() {
        let (findings, _) = judged(
            "mesh example { trust-domain \"example.test\"; defaults { allow \"spiffe://example.test/job/**\" \"spiffe://example.test/service/**\" } }
service a { port 80; endpoints { static \"10.0.0.2:80\" } }
service b { port 80; endpoints { static \"10.0.0.3:80\" } }
// file: inventory.kdl
inventory \"2026-01-01\" { identity \"spiffe://example.test/jobs/nightly\" }
",
        );
        let found = findings.split("\n\n").filter(|one| one.contains("MSH0108"));
        insta::assert_snapshot!(found.collect::<Vec<_>>().join("\n\n"));
    }
}
