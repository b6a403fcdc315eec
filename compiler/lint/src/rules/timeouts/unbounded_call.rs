//! `timeouts/unbounded-call`

use std::collections::BTreeMap;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// Calls without any limit of time: neither a `timeout` nor a `per-try`. Routes that are marked
    /// `streaming` have limits of their own.
    ///
    /// ## Why it matters
    /// A callee that hangs holds the caller's request, its connection and its memory for as long as it
    /// likes, and everybody above waits with it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; timeout none }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "30s" }
    /// ```
    pub(crate) static UNBOUNDED_CALL = {
        code: "MSH0504", name: "timeouts/unbounded-call",
        summary: "a call that may take for ever",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        let streams = at.route.actions.streaming.is_some();
        let unbounded =
            !streams && exchange.timeout.value.is_none() && exchange.per_try.value.is_none();
        let Some(span) = exchange.timeout.source.span().filter(|_| unbounded) else {
            continue;
        };

        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            UNBOUNDED_CALL
                .at(
                    span,
                    format!("nothing ends a call that hangs ({})", at.words()),
                )
                .at("no limit")
                .help("give the exchange a `timeout`, be it a long one")
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn nothing_ends_it() {
        insta::assert_snapshot!(findings(
            "MSH0504",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout none }"#
        ));
    }

    #[test]
    fn a_limit_for_each_try_is_one() {
        none(
            "MSH0504",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout none; retry reset attempts=2 per-try="5s" }"#,
        );
    }
}
