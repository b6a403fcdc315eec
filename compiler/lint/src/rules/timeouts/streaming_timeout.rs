//! `timeouts/streaming-timeout`

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// A `timeout` or `per-try` that a `streaming` route or its caller sets for itself: streams are not
    /// bounded by it.
    ///
    /// ## Why it matters
    /// Whoever wrote it believes that the stream ends by then. What ends a stream is `stream-idle=` and
    /// `max-duration=`.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { streaming; timeout "30s" } }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { streaming; timeout stream-idle="1m" max-duration="1h" } }
    /// ```
    pub(crate) static STREAMING_TIMEOUT = {
        code: "MSH0508", name: "timeouts/streaming-timeout",
        summary: "a timeout that does not bound a stream",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = std::collections::BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let Some(streaming) = at.routes().find_map(|route| route.actions.streaming) else {
            continue;
        };
        let fields = [&at.exchange.timeout, &at.exchange.per_try];
        let own = fields
            .into_iter()
            .find(|field| field.value.is_some() && field.source.level() >= 4);
        let Some(span) = own.and_then(|field| field.source.span()) else {
            continue;
        };

        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            STREAMING_TIMEOUT
                .at(
                    span,
                    format!("a stream is not ended by this ({})", at.words()),
                )
                .label(streaming, "the route carries streams")
                .help("bound streams by `timeout stream-idle=… max-duration=…`")
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_stream_goes_on() {
        insta::assert_snapshot!(findings(
            "MSH0508",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route all { streaming; timeout "30s" } }"#
        ));
    }

    #[test]
    fn everybodys_timeout_is_for_the_rest() {
        none(
            "MSH0508",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "30s"; route all { streaming } }"#,
        );
    }
}
