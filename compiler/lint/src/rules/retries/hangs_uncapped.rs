//! `retries/uncapped-concurrency`

use std::collections::BTreeMap;

use mesh_bundle::slice::RetryCause;
use mesh_compiler::model::BudgetMinimum;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::retried;

declare_rule! {
    /// ## What it flags
    /// Retries of tries that hang (`per-try-timeout`) while nothing bounds how many retries are in flight at
    /// once: no budget `of=active` and no `limits retries=`. A budget `of=requests` bounds how many retries
    /// begin in a second, not how many wait.
    ///
    /// ## Why it matters
    /// When a service hangs each retry waits as long as a try may take. Ten retries a second that each wait
    /// two seconds are twenty connections that a slow service holds open, for each calling proxy.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     retry per-try-timeout attempts=2 per-try="2s"
    ///     retry-budget "20%" of=requests
    /// }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     retry per-try-timeout attempts=2 per-try="2s"
    ///     retry-budget "20%" of=active min=3
    /// }
    /// ```
    pub(crate) static HANGS_UNCAPPED = {
        code: "MSH0407", name: "retries/uncapped-concurrency",
        summary: "nothing bounds how many retries wait at once",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in retried(cx.facts()) {
        let hangs = at
            .exchange
            .causes
            .value
            .contains(&RetryCause::PerTryTimeout);
        let budget = at.callee.retry_budget.value.as_ref();
        let active =
            budget.is_some_and(|budget| matches!(budget.minimum, BudgetMinimum::Active { .. }));
        let Some(span) = at
            .exchange
            .causes
            .source
            .span()
            .filter(|_| hangs && !active)
        else {
            continue;
        };

        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            HANGS_UNCAPPED
                .at(
                    span,
                    format!(
                        "nothing bounds how many retries wait at once ({})",
                        at.words()
                    ),
                )
                .at("each waits as long as a try may take")
                .help(
                    "bound them by `limits retries=` or by `retry-budget \"20%\" of=active min=3`",
                )
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn retries_that_wait_pile_up() {
        insta::assert_snapshot!(findings(
            "MSH0407",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry per-try-timeout attempts=2 per-try="1s"; retry-budget "20%" }"#
        ));
    }

    #[test]
    fn failures_at_once_do_not_wait() {
        none(
            "MSH0407",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry "5xx" attempts=2; retry-budget "20%" }"#,
        );
    }
}
