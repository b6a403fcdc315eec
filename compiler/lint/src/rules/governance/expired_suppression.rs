//! `source/expired-suppression`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A `suppress` whose `until` has passed while its finding is still there. The finding counts again.
    ///
    /// ## Why it matters
    /// A suppression is a promise with a date. Without the date it would be a hole that nobody remembers.
    /// Which day it is comes from whoever compiles: `meshc` asks the clock or `--today`, `meshd` takes the
    /// day of the commit, so that one commit always compiles to the same.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; team shop { service cart } }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" }; retry reset attempts=2 }
    /// suppress MSH0405 at=cart reason="two instances" owner=shop until="2020-01-01"
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test"; team shop { service cart } }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" }; retry reset attempts=2 }
    /// suppress MSH0405 at=cart reason="two instances" owner=shop until="2099-01-01"
    /// ```
    pub(crate) static EXPIRED_SUPPRESSION = {
        code: "MSH0015", name: "source/expired-suppression", summary: "suppression whose day has passed",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Judged where suppressions are applied, once every other finding is known.
fn check(_: &mut RuleContext<'_>) {}

#[cfg(test)]
mod tests {
    use crate::tester::judged;

    const POLICY: &str =
        "mesh example { trust-domain \"example.test\"; team shop { service cart } }
service cart { port 80; endpoints { static \"10.0.0.1:80\" }; retry reset attempts=2 }
";

    #[test]
    fn the_last_day_still_counts() {
        let until = |day: &str| {
            judged(&format!(
                "{POLICY}suppress MSH0405 at=cart reason=\"so\" owner=shop until=\"{day}\"\n"
            ))
        };
        let (findings, suppressed) = until("2026-01-01");
        assert!(
            !findings.contains("MSH0405") && !findings.contains("MSH0015"),
            "{findings}"
        );
        assert_eq!(suppressed, 1);
        let (findings, suppressed) = until("2025-12-31");
        assert_eq!(suppressed, 0);
        insta::assert_snapshot!(findings);
    }
}
