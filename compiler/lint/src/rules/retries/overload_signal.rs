//! `retries/overload-signal`

use std::collections::BTreeMap;

use mesh_bundle::slice::RetryCause;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::retried;

declare_rule! {
    /// ## What it flags
    /// Retries of answers by which a service says that it is overloaded: 429 and gRPC's
    /// `RESOURCE_EXHAUSTED` (`grpc-8`). The proxy waits its own back-off before a retry, not the time that a
    /// `Retry-After` asks for.
    ///
    /// ## Why it matters
    /// Whoever says "too much" gets more. A limit that is answered with retries moves no load away; it adds
    /// to it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; retry 429 503 attempts=2; retry-budget "20%" }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; retry 503 attempts=2; retry-budget "20%" }
    /// ```
    pub(crate) static OVERLOAD_SIGNAL = {
        code: "MSH0408", name: "retries/overload-signal",
        summary: "a service that says it is overloaded is called again",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in retried(cx.facts()) {
        let causes = &at.exchange.causes;
        let signals: Vec<&str> = (causes.value.iter().copied())
            .filter_map(|cause| match cause {
                RetryCause::Status(429) => Some("429"),
                RetryCause::GrpcStatus(8) => Some("grpc-8"),
                _ => None,
            })
            .collect();
        let Some(span) = causes.source.span().filter(|_| !signals.is_empty()) else {
            continue;
        };
        let say = if signals.len() == 1 { "says" } else { "say" };
        let names = crate::rules::words::list(signals);
        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            OVERLOAD_SIGNAL
                .at(
                    span,
                    format!(
                        "{names} {say} that there is too much already ({})",
                        at.words()
                    ),
                )
                .at("answered with another call")
                .help(format!("take {names} out of the causes"))
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn too_much_is_answered_with_more() {
        insta::assert_snapshot!(findings(
            "MSH0408",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry 429 "5xx" grpc-8 attempts=2 }"#
        ));
    }

    #[test]
    fn other_statuses_say_something_else() {
        none(
            "MSH0408",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry "5xx" 425 attempts=2 }"#,
        );
    }
}
