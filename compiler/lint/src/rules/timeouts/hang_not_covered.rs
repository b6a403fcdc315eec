//! `timeouts/hang-not-covered`

use std::collections::BTreeMap;

use mesh_bundle::slice::RetryCause;
use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::retried;

declare_rule! {
    /// ## What it flags
    /// Retries without a `per-try`: the first try may take the whole `timeout`, and nothing is left for
    /// another one. It is a warning where `per-try-timeout` is among the causes, which then never happens,
    /// and a note elsewhere.
    ///
    /// ## Why it matters
    /// Retries are expected to help when one instance hangs. Without a limit for each try they only help
    /// when calls fail at once.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     timeout "5s"
    ///     retry "5xx" per-try-timeout attempts=2
    ///     retry-budget "20%" of=active min=3
    /// }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     timeout "5s"
    ///     retry "5xx" per-try-timeout attempts=2 per-try="2s"
    ///     retry-budget "20%" of=active min=3
    /// }
    /// ```
    pub(crate) static HANG_NOT_COVERED = {
        code: "MSH0511", name: "timeouts/hang-not-covered",
        summary: "retries that never cover a hang",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in retried(cx.facts()) {
        let exchange = at.exchange;
        if exchange.per_try.value.is_some() || exchange.timeout.value.is_none() {
            continue;
        }
        let Some(span) = exchange.causes.source.span() else {
            continue;
        };
        let named = exchange.causes.value.contains(&RetryCause::PerTryTimeout);
        let message = if named {
            format!(
                "`per-try-timeout` never happens without `per-try=` ({})",
                at.words()
            )
        } else {
            format!(
                "a try that hangs leaves no time for another one ({})",
                at.words()
            )
        };
        let mut finding = HANG_NOT_COVERED
            .at(span, message)
            .at("the first try may take the whole timeout")
            .help("give each try its share of the timeout with `per-try=`");
        if !named {
            finding.level = Level::Note;
        }
        cx.report_once(&mut reported, span, &at.callee.name.value, || finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn what_is_named_never_happens() {
        insta::assert_snapshot!(findings(
            "MSH0511",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry per-try-timeout attempts=2 }"#
        ));
    }

    #[test]
    fn what_fails_at_once_is_a_note() {
        insta::assert_snapshot!(findings(
            "MSH0511",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry "5xx" attempts=2 }"#
        ));
    }

    #[test]
    fn each_try_has_its_time() {
        none(
            "MSH0511",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "5s"; retry "5xx" attempts=2 per-try="2s" }"#,
        );
    }
}
