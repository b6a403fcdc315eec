//! `resilience/idle-fault`

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::written;

declare_rule! {
    /// ## What it flags
    /// A `fault` that happens to no request: a share of 0 %, or a route that the proxy answers itself
    /// (`redirect`, `respond`).
    ///
    /// ## Why it matters
    /// The experiment shows that nothing breaks, because nothing happens.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault until="2099-01-01" { abort 503 share="0%" } } }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault until="2099-01-01" { abort 503 share="5%" } } }
    /// ```
    pub(crate) static IDLE_FAULT = {
        code: "MSH0609", name: "resilience/idle-fault",
        summary: "failures on purpose that never happen",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for at in written(cx.facts().mesh()) {
        let Some(fault) = &at.route.actions.fault else {
            continue;
        };
        let shares = [
            fault.delay.map(|delay| delay.value.share),
            fault.abort.map(|abort| abort.value.share),
        ];
        let why = if shares.iter().flatten().all(|share| *share == 0) {
            "no request has a share in it"
        } else if at.route.actions.answer.is_some() {
            "the proxy answers the requests of this route itself"
        } else {
            continue;
        };
        cx.report(
            IDLE_FAULT
                .at(fault.span, format!("{why} ({})", at.words()))
                .help("give it a share, or take it away"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn nobody_has_a_share() {
        insta::assert_snapshot!(findings(
            "MSH0609",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault until="2099-01-01" { abort 503 share="0%" } } }"#
        ));
    }

    #[test]
    fn somebody_has() {
        none(
            "MSH0609",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route all { fault until="2099-01-01" { abort 503 share="1%" } } }"#,
        );
    }
}
