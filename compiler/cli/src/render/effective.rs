//! The values that hold for a request, written as policy writes them.

use std::time::Duration;

use mesh_bundle::slice::RetryCause;
use mesh_compiler::linked::{Exchange, Source};
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
    Number(u32),
    /// A list of words.
    List(Vec<String>),
    /// Not limited.
    None,
}

/// Every field of an exchange.
pub(super) fn fields(exchange: &Exchange, sources: &SourceSet) -> Vec<EffectiveField> {
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
    vec![
        field(
            "timeout",
            optional(exchange.timeout.value),
            exchange.timeout.source,
        ),
        field(
            "attempts",
            EffectiveValue::Number(exchange.attempts.value),
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
    ]
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
