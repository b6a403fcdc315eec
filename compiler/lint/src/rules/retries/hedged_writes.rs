//! `retries/hedged-writes`

use std::collections::BTreeMap;

use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// A `hedge` on a route that takes methods that are not idempotent, and, as a note, a `hedge` on a route
    /// that retries as well: both count the same tries, so the larger of the two numbers holds and not
    /// their product.
    ///
    /// ## Why it matters
    /// A hedge is a second copy of a request that has not failed. With a POST both copies may be carried
    /// out.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; hedge "100ms" }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     route read { match { method GET }; hedge "100ms" }
    ///     route rest { match { path "/**" } }
    /// }
    /// ```
    pub(crate) static HEDGED_WRITES = {
        code: "MSH0413", name: "retries/hedged-writes",
        summary: "a request that is not idempotent is sent twice at once",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        let Some(span) = exchange
            .hedge
            .source
            .span()
            .filter(|_| exchange.hedge.value.is_some())
        else {
            continue;
        };
        let finding = if !at.only_idempotent() {
            HEDGED_WRITES
                .at(
                    span,
                    format!(
                        "a POST that takes long is sent a second time ({})",
                        at.words()
                    ),
                )
                .help("hedge only routes whose methods can be repeated")
                .possible()
        } else if at.retries() {
            let mut both = HEDGED_WRITES
                .at(
                    span,
                    format!(
                        "the route hedges and retries: {} tries in all, not {} times {} ({})",
                        exchange.hedge_attempts.value.max(exchange.attempts.value),
                        exchange.hedge_attempts.value,
                        exchange.attempts.value,
                        at.words(),
                    ),
                )
                .help("keep the one that you mean");
            both.level = Level::Note;
            both
        } else {
            continue;
        };

        cx.report_once(
            &mut reported,
            (span, at.route.span),
            &at.callee.name.value,
            || finding,
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_post_is_sent_twice() {
        insta::assert_snapshot!(findings(
            "MSH0413",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; hedge "100ms" }"#
        ));
    }

    #[test]
    fn both_count_the_same_tries() {
        insta::assert_snapshot!(findings(
            "MSH0413",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route read { match { method GET }; hedge "100ms"; retry reset attempts=3 }; route rest { match { path "/x" } } }"#
        ));
    }

    #[test]
    fn reading_twice_does_no_harm() {
        none(
            "MSH0413",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route read { match { method GET }; hedge "100ms" }; route rest { match { path "/x" } } }"#,
        );
    }
}
