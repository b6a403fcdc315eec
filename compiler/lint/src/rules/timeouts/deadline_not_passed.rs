//! `timeouts/deadline-not-passed`

use std::collections::BTreeMap;

use mesh_bundle::slice::RetryCause;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// Calls that are tried again, or hedged, while the one before may still be worked on, to something that is not told
    /// how long its caller waits: an `external`, or a service with `unmeshed`.
    ///
    /// ## Why it matters
    /// Proxies of the mesh tell each other what is left of the time, and give up together. Beyond them nobody knows: a
    /// try that was given up is worked on to its end beside the next one, so a service that is slow already has several
    /// times the work. The retry model calls this abandoned work.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank }
    /// external bank {
    ///     host "bank.example"
    ///     port 80
    ///     allow web
    ///     timeout "3s"
    ///     retry per-try-timeout attempts=3 per-try="1s"
    ///     retry-budget "20%" of=active min=3
    /// }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank }
    /// external bank {
    ///     host "bank.example"
    ///     port 80
    ///     allow web
    ///     timeout "3s"
    ///     retry connect-failure attempts=3 per-try="1s"
    ///     retry-budget "20%" of=active min=3
    /// }
    /// ```
    pub(crate) static DEADLINE_NOT_PASSED = {
        code: "MSH0509", name: "timeouts/deadline-not-passed",
        summary: "tries that are given up are worked on beside the next",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let why = if at.callee.is_external() {
            "outside of the mesh"
        } else if at.callee.reach.unmeshed.is_some() {
            "beside which no proxy stands"
        } else {
            continue;
        };
        let exchange = at.exchange;
        let hangs = exchange.causes.value.contains(&RetryCause::PerTryTimeout);
        let given_up = at.retries() && hangs && exchange.per_try.value.is_some();
        let hedges = exchange.hedge.value.is_some() && exchange.hedge_attempts.value > 1;
        let (tries, source) = if given_up {
            (exchange.attempts.value, exchange.causes.source)
        } else if hedges {
            (exchange.hedge_attempts.value, exchange.hedge.source)
        } else {
            continue;
        };
        let Some(span) = source.span() else { continue };
        cx.report_once(
            &mut reported,
            (span, at.callee.id),
            &at.callee.name.value,
            || {
                DEADLINE_NOT_PASSED
                    .at(
                        span,
                        format!(
                            "`{}`, {why}, may work on {tries} tries of one call at once ({})",
                            at.callee.name.value,
                            at.words(),
                        ),
                    )
                    .label(at.callee.name.span, "is not told how long its caller waits")
                    .help("do not try again what hangs there, or bound it by `limits requests=`")
                    .number("tries", f64::from(tries))
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(kind: &str, retry: &str) -> String {
        format!(
            r#"
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls b {{ {retry} }} }}
            {kind} b {{ port 80; host "b.example"; endpoints {{ static "192.0.2.2:80" }}; allow web; callers-may-extend attempts causes }}"#
        )
    }

    #[test]
    fn what_has_no_proxy_is_not_told() {
        let policy = r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls b; calls c }
            service b { port 80; endpoints { static "10.0.0.2:80" }; unmeshed; retry per-try-timeout attempts=3 per-try="1s" }
            external c { port 80; host "c.example"; allow web; hedge "100ms" attempts=2 }"#;
        insta::assert_snapshot!(findings("MSH0509", policy));
    }

    #[test]
    fn what_the_caller_asks_for_counts_and_proxies_tell_each_other() {
        let retry = "retry per-try-timeout attempts=2 per-try=\"1s\"";
        none("MSH0509", &with("service", retry));
        none("MSH0509", &with("service", "retry reset attempts=2"));
    }
}
