//! The fields of an exchange and of a retry budget as explanations and editors print them.

use std::time::Duration;

use mesh_bundle::slice::RetryCause;

use super::{Effective, Exchange};
use crate::level::{Shown, ShownField};
use crate::model::{BudgetMinimum, RetryBudget};
use crate::value::{duration_text, percent_text};

impl Exchange {
    /// Every field, built-in ones included.
    pub fn shown(&self) -> Vec<ShownField> {
        // Without a limit of its own a try may take as long as the whole.
        let per_try = if self.per_try.value.is_some() {
            &self.per_try
        } else {
            &self.timeout
        };
        let causes = self
            .causes
            .value
            .iter()
            .map(RetryCause::to_string)
            .collect();
        let mut fields = vec![
            optional("timeout", &self.timeout),
            (
                "attempts",
                Shown::Number(u64::from(self.attempts.value)),
                self.attempts.source,
            ),
            optional("per_try", per_try),
            ("causes", Shown::List(causes), self.causes.source),
            timed("connect", &self.connect),
            optional("stream_idle", &self.stream_idle),
            optional("max_duration", &self.max_duration),
            timed("backoff", &self.backoff_base),
            timed("backoff_max", &self.backoff_max),
            optional("idle", &self.idle),
            optional("hedge", &self.hedge),
        ];
        if self.hedge.value.is_some() {
            fields.push((
                "hedge_attempts",
                Shown::Number(u64::from(self.hedge_attempts.value)),
                self.hedge_attempts.source,
            ));
        }
        fields
    }
}

/// The time of a rate, as policy writes it: one of a unit needs no number.
fn unit_text(per: Duration) -> String {
    let text = duration_text(per);
    match text.strip_prefix('1') {
        Some(unit) if !unit.starts_with(|first: char| first.is_ascii_digit()) => unit.to_owned(),
        _ => text,
    }
}

impl Effective<Option<RetryBudget>> {
    /// The budget as policy writes it, without quotes; nothing where there is none.
    pub fn shown(&self) -> Option<ShownField> {
        let budget = self.value.as_ref()?;
        let share = percent_text(budget.share);
        let text = match budget.minimum {
            BudgetMinimum::Requests { count, per, window } => format!(
                "{share} of=requests min={count}/{} window={}",
                unit_text(per),
                duration_text(window)
            ),
            BudgetMinimum::Active { count } => format!("{share} of=active min={count}"),
        };
        Some(("retry_budget", Shown::Text(text), self.source))
    }
}

fn optional(name: &'static str, field: &Effective<Option<Duration>>) -> ShownField {
    (name, field.value.map_or(Shown::None, time), field.source)
}

fn timed(name: &'static str, field: &Effective<Duration>) -> ShownField {
    (name, time(field.value), field.source)
}

/// In whole seconds where that loses nothing, else in milliseconds.
fn time(duration: Duration) -> Shown {
    Shown::Text(match duration.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    })
}
