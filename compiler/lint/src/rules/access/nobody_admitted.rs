//! `access/nobody-admitted`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service that has rules which admit, and that no request whatever can enter: each of them asks
    /// for what no request has, or a `deny` refuses all of it.
    ///
    /// ## Why it matters
    /// The service is cut off while its rules read as if it were not.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET }; deny { not { method POST } } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET }; deny { not { method GET } } }
    /// ```
    pub(crate) static NOBODY_ADMITTED = {
        code: "MSH0802", name: "access/nobody-admitted",
        summary: "rules that admit, and nobody gets in",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, access) in facts.access() {
        if !access.closed {
            continue;
        }
        let mut finding = NOBODY_ADMITTED
            .at(
                service.name.span,
                format!("no request can enter `{}`, in spite of its rules", service.name.value),
            )
            .at("cut off")
            .help("loosen the `deny`, or the conditions; a service that nobody may enter needs no `allow`");
        let overruled = access.overruled.iter();
        let denies: std::collections::BTreeSet<usize> = overruled
            .flat_map(|overruled| overruled.by.iter().copied())
            .collect();
        for deny in denies
            .into_iter()
            .filter_map(|rule| service.access.get(rule))
        {
            if let Some(span) = deny.source.span() {
                finding = finding.label(span, "refuses what the others let in");
            }
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_service_that_denies_all_that_it_allows_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0802",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" } }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { path "/a/*" }
                allow web { path "/b" }
                deny { path "/a/**" }
                deny { path "/b" }
            }"#
        ));
    }

    #[test]
    fn without_any_allow_it_is_meant() {
        none(
            "MSH0802",
            r#"service a { port 80; endpoints { static "10.0.0.2:80" }; deny { method PUT } }"#,
        );
    }
}
