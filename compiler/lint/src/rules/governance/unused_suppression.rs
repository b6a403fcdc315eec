//! `source/unused-suppression`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A `suppress` whose finding is not there. Where several environments are checked, one that is used
    /// in any of them is used.
    ///
    /// ## Why it matters
    /// It would hide the next finding of that code, which nobody has looked at.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; team shop { service cart } }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" } }
    /// suppress MSH0405 at=cart reason="two instances" owner=shop until="2099-01-01"
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test"; team shop { service cart } }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    pub(crate) static UNUSED_SUPPRESSION = {
        code: "MSH0016", name: "source/unused-suppression", summary: "suppression of nothing",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Judged where suppressions are applied, once every other finding is known.
fn check(_: &mut RuleContext<'_>) {}

#[cfg(test)]
mod tests {
    use crate::tester::judged;

    #[test]
    fn a_suppression_at_another_place_is_unused() {
        let (findings, suppressed) = judged(
            "mesh example { trust-domain \"example.test\"; team shop { service cart pay } }
service cart { port 80; endpoints { static \"10.0.0.1:80\" }; route a { retry reset attempts=2 } }
service pay { port 80; endpoints { static \"10.0.0.2:80\" } }
suppress MSH0405 at=pay reason=\"so\" owner=shop until=\"2099-01-01\"
",
        );
        assert_eq!(suppressed, 0);
        assert!(findings.contains("MSH0405"), "{findings}");
        let unused: Vec<&str> = findings
            .split("\n\n")
            .filter(|one| one.contains("MSH0016"))
            .collect();
        insta::assert_snapshot!(unused.join("\n\n"));
    }

    const MESH: &str = "mesh example { trust-domain \"example.test\"; team shop { service cart pay }; defaults { retry reset attempts=2 per-try=\"1s\" } }
service cart { port 80; endpoints { static \"10.0.0.1:80\" } }
service pay { port 80; endpoints { static \"10.0.0.2:80\" }; allow cart }
";

    fn suppress(code: &str, at: &str) -> String {
        format!("suppress {code} at={at} reason=\"so\" owner=shop until=\"2099-01-01\"\n")
    }

    #[test]
    fn what_is_wrong_for_several_needs_an_answer_for_each() {
        let (findings, suppressed) = judged(&format!("{MESH}{}", suppress("MSH0405", "pay")));
        assert!(
            findings.contains("MSH0405") && suppressed == 0,
            "{findings}"
        );
        assert!(!findings.contains("MSH0016"), "{findings}");
        let both = suppress("MSH0405", "pay") + &suppress("MSH0405", "cart");
        let (findings, suppressed) = judged(&format!("{MESH}{both}"));
        assert!(
            !findings.contains("MSH0405") && suppressed == 1,
            "{findings}"
        );
    }

    #[test]
    fn a_name_in_the_text_is_not_what_a_finding_is_about() {
        let (findings, suppressed) = judged(&format!("{MESH}{}", suppress("MSH0115", "cart")));
        assert!(
            findings.contains("lets `cart` in") && findings.contains("MSH0016"),
            "{findings}"
        );
        assert_eq!(suppressed, 0);
        assert_eq!(
            judged(&format!("{MESH}{}", suppress("MSH0115", "pay"))).1,
            1
        );
    }

    #[test]
    fn a_file_is_what_lies_in_it() {
        let at = |file: &str| {
            judged(&format!(
                "{MESH}// file: pay/rules.kdl
service b {{ port 80; endpoints {{ static \"10.0.0.3:80\" }}; allow cart }}
// file: last.kdl
{}",
                suppress("MSH0115", file)
            ))
        };
        let (findings, suppressed) = at("\"pay/rules.kdl\"");
        assert!(
            !findings.contains("`b` lets") && findings.contains("`pay` lets"),
            "{findings}"
        );
        assert_eq!(suppressed, 1);
        let (findings, _) = at("\"pay/rule.kdl\"");
        assert!(findings.contains("there is no policy file"), "{findings}");
    }
}
