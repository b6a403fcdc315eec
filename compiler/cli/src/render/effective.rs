//! The values that hold for a request, written as policy writes them.

use mesh_compiler::level::Shown;
use mesh_compiler::linked::Source;
use mesh_compiler::trial::TakenRoute;
use mesh_syntax::{SourceSet, Span};

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
    let shown = route.exchange.shown().into_iter();
    let pool = route.pool.shown().into_iter();
    let fields = shown.chain(pool).chain(route.retry_budget.shown());
    let fields = fields.map(|(name, value, source)| EffectiveField {
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

/// Where something stands, or that it is built in.
pub(super) fn place(sources: &SourceSet, source: Source) -> String {
    source
        .span()
        .map_or_else(|| "built-in".to_owned(), |span| place_of(sources, span))
}

/// `mesh.kdl:6`.
pub(super) fn place_of(sources: &SourceSet, span: Span) -> String {
    let (line, _) = sources.line_column(span);
    format!("{}:{line}", sources.path(span.file))
}
