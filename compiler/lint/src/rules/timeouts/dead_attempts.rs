//! `timeouts/dead-attempts`

use std::collections::BTreeMap;

use mesh_compiler::linked::Exchange;
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;
use crate::rules::words::seconds;

declare_rule! {
    /// ## What it flags
    /// Attempts that can never begin when each try takes its whole `per-try`: the `timeout` of the
    /// exchange is over before.
    ///
    /// ## Why it matters
    /// The policy promises more tries than it can make, exactly when the service is slow. When the
    /// service fails at once all of them do happen, so the number still counts for amplification.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     timeout "2s"
    ///     retry "5xx" per-try-timeout attempts=3 per-try="1s"
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     timeout "3s"
    ///     retry "5xx" per-try-timeout attempts=3 per-try="1s"
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static DEAD_ATTEMPTS = {
        code: "MSH0502", name: "timeouts/dead-attempts",
        summary: "attempts that no time is left for",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported: BTreeMap<[Option<Span>; 3], usize> = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        let Some(dead) = dead(exchange) else { continue };
        let Some(span) = dead.spans[0].or(dead.spans[1]).or(dead.spans[2]) else {
            continue;
        };
        let message = format!(
            "tries of {} that take their whole time leave no room for {} of {} within {} ({})",
            dead.per_try,
            dead.count,
            exchange.attempts.value,
            dead.timeout,
            at.words(),
        );
        let mut finding = DEAD_ATTEMPTS
            .at(span, message)
            .at(format!(
                "only {} of them fit",
                exchange.attempts.value - dead.count
            ))
            .help("shorten `per-try`, lengthen `timeout`, or ask for fewer attempts")
            .number("dead_attempts", f64::from(dead.count));
        for (other, label) in [
            (dead.spans[1], "the time of one try"),
            (dead.spans[2], "the time of all tries"),
        ] {
            if let Some(other) = other.filter(|other| *other != span) {
                finding = finding.label(other, label);
            }
        }
        cx.report_once(&mut reported, dead.spans, &at.callee.name.value, || finding);
    }
}

struct Dead {
    count: u32,
    per_try: String,
    timeout: String,
    /// Of attempts, per-try and timeout.
    spans: [Option<Span>; 3],
}

fn dead(exchange: &Exchange) -> Option<Dead> {
    let (per_try, timeout) = (exchange.per_try.value?, exchange.timeout.value?);
    // A try longer than the whole is another finding, MSH0501.
    if exchange.causes.value.is_empty() || per_try.is_zero() || per_try > timeout {
        return None;
    }
    let fitting = timeout.as_nanos().div_ceil(per_try.as_nanos());
    let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
    let count = exchange
        .attempts
        .value
        .checked_sub(fitting)
        .filter(|count| *count > 0)?;
    Some(Dead {
        count,
        per_try: seconds(per_try),
        timeout: seconds(timeout),
        spans: [
            exchange.attempts.source.span(),
            exchange.per_try.source.span(),
            exchange.timeout.source.span(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_third_second_of_two() {
        insta::assert_snapshot!(findings(
            "MSH0502",
            r#"
            mesh m { trust-domain "m.example"; defaults { timeout "2s" } }
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                retry "5xx" attempts=3 per-try="1s"
            }"#
        ));
    }

    #[test]
    fn a_caller_that_tightens_the_timeout_kills_attempts() {
        insta::assert_snapshot!(findings(
            "MSH0502",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { timeout "1500ms" } }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                retry "5xx" attempts=3 per-try="1s"
                allow web
            }"#
        ));
    }

    #[test]
    fn a_try_that_is_cut_short_still_begins() {
        none(
            "MSH0502",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                timeout "2500ms"
                retry "5xx" attempts=3 per-try="1s"
            }"#,
        );
    }
}
