//! `timeouts/connect-over-try`

use std::collections::BTreeMap;

use mesh_compiler::value::duration_text;
use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// A `connect=` that is no shorter than one try may take. Where no file sets `connect=` it is a note.
    ///
    /// ## Why it matters
    /// The try is over before connecting has failed: an instance that cannot be reached uses up a whole
    /// try, and counts as a hang (`per-try-timeout`) and not as `connect-failure`, which is the one failure
    /// that is always safe to retry.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     timeout "5s" connect="2s"
    ///     retry connect-failure attempts=2 per-try="1s"
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     timeout "5s" connect="250ms"
    ///     retry connect-failure attempts=2 per-try="1s"
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static CONNECT_OVER_TRY = {
        code: "MSH0506", name: "timeouts/connect-over-try",
        summary: "connecting may take longer than a try",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        let (limit, source) = match (exchange.per_try.value, exchange.timeout.value) {
            (Some(per_try), Some(timeout)) if timeout < per_try => {
                (timeout, exchange.timeout.source)
            }
            (Some(per_try), _) => (per_try, exchange.per_try.source),
            (None, Some(timeout)) => (timeout, exchange.timeout.source),
            (None, None) => continue,
        };
        let connect = &exchange.connect;
        let Some(span) = connect.source.span().or(source.span()) else {
            continue;
        };
        if connect.value < limit {
            continue;
        }
        let mut finding = CONNECT_OVER_TRY
            .at(
                span,
                format!(
                    "connecting may take {}, and a whole try no longer than {} ({})",
                    duration_text(connect.value),
                    duration_text(limit),
                    at.words(),
                ),
            )
            .help(
                "set `connect=` well below the time of a try: in one network it takes milliseconds",
            );
        match (connect.source.span(), source.span()) {
            (None, _) => finding.level = Level::Note,
            (Some(_), Some(other)) if other != span => {
                finding = finding.label(other, "the time of a try");
            }
            _ => {}
        }
        cx.report_once(&mut reported, (span, source), &at.callee.name.value, || {
            finding
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_try_is_over_first() {
        insta::assert_snapshot!(findings(
            "MSH0506",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "5s" connect="1s"; retry connect-failure attempts=2 per-try="1s" }"#
        ));
    }

    #[test]
    fn the_built_in_second_is_a_note() {
        insta::assert_snapshot!(findings(
            "MSH0506",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "800ms" }"#
        ));
    }

    #[test]
    fn milliseconds_are_enough() {
        none(
            "MSH0506",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "5s" connect="250ms"; retry reset attempts=2 per-try="1s" }"#,
        );
    }
}
