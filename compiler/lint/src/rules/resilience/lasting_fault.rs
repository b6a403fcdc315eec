//! `resilience/lasting-fault`

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::written;

declare_rule! {
    /// ## What it flags
    /// A `fault` without `until`: failures on purpose that nobody ends.
    ///
    /// ## Why it matters
    /// An experiment that is forgotten is an outage with a policy. With a day at which it ends it cannot be.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault { abort 503 share="10%" } } }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault until="2099-01-01" { abort 503 share="10%" } } }
    /// ```
    pub(crate) static LASTING_FAULT = {
        code: "MSH0608", name: "resilience/lasting-fault",
        summary: "failures on purpose without an end",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for at in written(cx.facts().mesh()) {
        if let Some(fault) = at
            .route
            .actions
            .fault
            .as_ref()
            .filter(|fault| fault.until.is_none())
        {
            cx.report(
                LASTING_FAULT
                    .at(
                        fault.span,
                        format!("nothing ends these failures ({})", at.words()),
                    )
                    .help("say when the experiment is over: `fault until=\"2027-03-01\" { … }`"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn nobody_ends_it() {
        insta::assert_snapshot!(findings(
            "MSH0608",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault { delay "2s" } } }"#
        ));
    }

    #[test]
    fn it_ends() {
        none(
            "MSH0608",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault until="2099-01-01" { delay "2s" } } }"#,
        );
    }
}
