//! `retries/non-idempotent`

use std::collections::BTreeMap;

use mesh_bundle::slice::RetryCause;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// Routes whose retries repeat requests that are not idempotent: `methods=any` together with a cause
    /// that may come after the service has done the work (a status, `reset`, `per-try-timeout`), on a route
    /// that takes methods such as POST.
    ///
    /// ## Why it matters
    /// The order is placed twice. A POST that ran into a timeout may well have been carried out.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service orders {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     retry "5xx" attempts=2 methods=any
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service orders {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     retry "5xx" attempts=2
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static NON_IDEMPOTENT = {
        code: "MSH0403", name: "retries/non-idempotent",
        summary: "requests that are not idempotent are sent again",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        let late = (exchange.causes.value.iter()).find(|cause| !comes_before_the_work(**cause));
        let Some(span) = exchange.any_method.source.span() else {
            continue;
        };
        if !at.retries() || !exchange.any_method.value || late.is_none() || at.only_idempotent() {
            continue;
        }

        cx.report_once(&mut reported, (span, at.route.span), &at.callee.name.value, || NON_IDEMPOTENT
                    .at(
                        span,
                        format!("a POST that may have been carried out is sent again ({})", at.words()),
                    )
                    .at("for every method")
                    .help(
                        "leave `methods=any` out, or match only methods that can be repeated; where requests \
                         carry a key that makes them idempotent, suppress this with that as the reason",
                    ));
    }
}

/// Whether nobody can have acted on the request yet.
const fn comes_before_the_work(cause: RetryCause) -> bool {
    matches!(
        cause,
        RetryCause::ConnectFailure | RetryCause::Refused | RetryCause::ResetBeforeRequest
    )
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_post_may_be_sent_again() {
        insta::assert_snapshot!(findings(
            "MSH0403",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry "5xx" attempts=2 methods=any }"#
        ));
    }

    #[test]
    fn nobody_has_acted_on_it_yet() {
        none(
            "MSH0403",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry connect-failure attempts=2 methods=any }"#,
        );
    }

    #[test]
    fn reading_can_be_repeated() {
        none(
            "MSH0403",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route read { match { method GET }; retry "5xx" attempts=2 methods=any }; route rest { match { path "/x" } } }"#,
        );
    }
}
