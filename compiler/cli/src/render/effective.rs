//! The values that hold for a request, written as policy writes them.

use std::time::Duration;

use mesh_bundle::slice::RetryCause;
use mesh_compiler::level::Shown;
use mesh_compiler::linked::{Exchange, Source};
use mesh_compiler::model::{BudgetMinimum, RetryBudget};
use mesh_compiler::trial::TakenRoute;
use mesh_compiler::value::{duration_text, percent_text};
use mesh_syntax::SourceSet;

/// One field and who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EffectiveField {
    pub(super) name: &'static str,
    pub(super) value: EffectiveValue,
    /// `mesh.kdl:6` or `built-in`.
    pub(super) source: String,
}

/// What a field is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EffectiveValue {
    /// A time or word.
    Text(String),
    /// A count.
    Number(u64),
    /// A list of words.
    List(Vec<String>),
    /// Not limited.
    None,
}

/// Every field of an exchange, and what files say of endpoints and retry budget.
pub(super) fn fields(route: &TakenRoute, sources: &SourceSet) -> Vec<EffectiveField> {
    let mut fields = of_exchange(&route.exchange, sources);
    fields.extend(of_pool(route, sources));
    fields
}

fn of_exchange(exchange: &Exchange, sources: &SourceSet) -> Vec<EffectiveField> {
    let field = |name, value, source| EffectiveField {
        name,
        value,
        source: place(sources, source),
    };
    // Without a limit of its own a try may take as long as the whole.
    let per_try = if exchange.per_try.value.is_some() {
        &exchange.per_try
    } else {
        &exchange.timeout
    };
    let causes = exchange.causes.value.iter().copied().map(cause).collect();
    let mut fields = vec![
        field(
            "timeout",
            optional(exchange.timeout.value),
            exchange.timeout.source,
        ),
        field(
            "attempts",
            EffectiveValue::Number(u64::from(exchange.attempts.value)),
            exchange.attempts.source,
        ),
        field("per_try", optional(per_try.value), per_try.source),
        field(
            "causes",
            EffectiveValue::List(causes),
            exchange.causes.source,
        ),
        field(
            "connect",
            time(exchange.connect.value),
            exchange.connect.source,
        ),
        field(
            "stream_idle",
            optional(exchange.stream_idle.value),
            exchange.stream_idle.source,
        ),
        field(
            "max_duration",
            optional(exchange.max_duration.value),
            exchange.max_duration.source,
        ),
        field(
            "backoff",
            time(exchange.backoff_base.value),
            exchange.backoff_base.source,
        ),
        field(
            "backoff_max",
            time(exchange.backoff_max.value),
            exchange.backoff_max.source,
        ),
        field("idle", optional(exchange.idle.value), exchange.idle.source),
        field(
            "hedge",
            optional(exchange.hedge.value),
            exchange.hedge.source,
        ),
    ];
    if exchange.hedge.value.is_some() {
        fields.push(field(
            "hedge_attempts",
            EffectiveValue::Number(u64::from(exchange.hedge_attempts.value)),
            exchange.hedge_attempts.source,
        ));
    }
    fields
}

/// What files say of the endpoints and the budget.
fn of_pool(route: &TakenRoute, sources: &SourceSet) -> Vec<EffectiveField> {
    let mut shown = route.pool.shown();
    if let Some(budget) = &route.retry_budget.value {
        let budget = Shown::Text(budget_text(budget));
        shown.push(("retry_budget", budget, route.retry_budget.source));
    }
    let fields = shown
        .into_iter()
        .map(|(name, value, source)| EffectiveField {
            name,
            value: match value {
                Shown::None => EffectiveValue::None,
                Shown::Number(number) => EffectiveValue::Number(number),
                Shown::Text(text) => EffectiveValue::Text(text),
                Shown::List(list) => EffectiveValue::List(list),
            },
            source: place(sources, source),
        });
    fields.collect()
}

/// A budget as policy writes it, without quotes.
fn budget_text(budget: &RetryBudget) -> String {
    let share = percent_text(budget.share);
    match budget.minimum {
        BudgetMinimum::Requests { count, per, window } => format!(
            "{share} of=requests min={count}/{} window={}",
            duration_text(per),
            duration_text(window)
        ),
        BudgetMinimum::Active { count } => format!("{share} of=active min={count}"),
    }
}

fn optional(duration: Option<Duration>) -> EffectiveValue {
    duration.map_or(EffectiveValue::None, time)
}

/// In whole seconds where that loses nothing, else in milliseconds.
fn time(duration: Duration) -> EffectiveValue {
    let text = match duration.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    };
    EffectiveValue::Text(text)
}

fn cause(cause: RetryCause) -> String {
    match cause {
        RetryCause::ConnectFailure => "connect-failure".to_owned(),
        RetryCause::Refused => "refused".to_owned(),
        RetryCause::Reset => "reset".to_owned(),
        RetryCause::ResetBeforeRequest => "reset-before-request".to_owned(),
        RetryCause::PerTryTimeout => "per-try-timeout".to_owned(),
        RetryCause::ServerError => "5xx".to_owned(),
        RetryCause::Gateway => "gateway".to_owned(),
        RetryCause::Status(status) => status.to_string(),
        RetryCause::GrpcStatus(status) => format!("grpc-{status}"),
    }
}

/// Where something stands, or that it is built in.
pub(super) fn place(sources: &SourceSet, source: Source) -> String {
    source.span().map_or_else(
        || "built-in".to_owned(),
        |span| {
            let (line, _) = sources.line_column(span);
            format!("{}:{line}", sources.path(span.file))
        },
    )
}
