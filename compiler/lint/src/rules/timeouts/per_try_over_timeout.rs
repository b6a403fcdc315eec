//! `timeouts/per-try-over-timeout`

use std::collections::BTreeMap;

use mesh_compiler::value::duration_text;
use mesh_syntax::{Diagnostic, Edit};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::{At, exchanges};

declare_rule! {
    /// ## What it flags
    /// A `per-try` longer than the `timeout` of the whole exchange. `per-try` is one try; `timeout` is
    /// all tries together.
    /// ## Why it matters
    /// The first try already uses up the whole time, so a hanging service is never tried again.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" }
    ///     timeout "15s"
    ///     retry "5xx" per-try-timeout attempts=5 per-try="16s"
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" }
    ///     timeout "15s"
    ///     retry "5xx" per-try-timeout attempts=3 per-try="5s"
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static PER_TRY_OVER_TIMEOUT = {
        code: "MSH0501", name: "timeouts/per-try-over-timeout",
        summary: "one try may take longer than all tries together",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        let spans = (
            exchange.per_try.source.span(),
            exchange.timeout.source.span(),
        );
        if let Some(finding) = finding(at) {
            cx.report_once(&mut reported, spans, &at.callee.name.value, || finding);
        }
    }
}

/// A try that a lower level allows more time than a higher one leaves for the whole exchange is only
/// cut short; one that whoever set the timeout, or someone after him, made longer is a mistake.
fn finding(at: At<'_>) -> Option<Diagnostic> {
    let exchange = at.exchange;
    let (timeout, per_try) = (exchange.timeout.value?, exchange.per_try.value?);
    let span = exchange.per_try.source.span()?;
    if per_try <= timeout || exchange.per_try.source.level() < exchange.timeout.source.level() {
        return None;
    }
    let timeout = duration_text(timeout);
    let per_try = duration_text(per_try);
    let finding = PER_TRY_OVER_TIMEOUT
        .at(
            span,
            format!(
                "a try may take {per_try}, but the whole exchange only {timeout} ({})",
                at.words()
            ),
        )
        .at("longer than the timeout")
        .help("the first try uses up the time of all; give tries less, or the exchange more")
        .fix(
            format!("write \"{timeout}\""),
            vec![Edit::new(span, format!("\"{timeout}\""))],
        );
    Some(match exchange.timeout.source.span() {
        Some(set) => finding.label(set, "the timeout"),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_default_of_another_mesh() {
        insta::assert_snapshot!(findings(
            "MSH0501",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                timeout "15s"
                retry "5xx" attempts=5 per-try="16s"
            }"#
        ));
    }

    #[test]
    fn a_caller_that_tightens_cuts_tries_short() {
        none(
            "MSH0501",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { timeout "1s" } }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                retry "5xx" attempts=2 per-try="2s"
                allow web
            }"#,
        );
    }
}
