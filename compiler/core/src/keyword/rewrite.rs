//! `rewrite`: another path or host for the request.

use mesh_bundle::slice::{PathPattern, PathPatternKind, Rewrite};
use mesh_engine::path::PathMatcher;
use mesh_syntax::Value;

use super::Place::Route;
use super::{Entry, Keyword, Property};
use crate::value::{self, Kind, Wrong};

pub(super) static REWRITE: Keyword = Keyword {
    props: &[
        Property::new(
            "path",
            &PATH,
            "Another path; `**` and `{x}` stand for what the pattern captured.",
        ),
        Property::new("host", &value::EXACT_HOST, "Another host."),
    ],
    ..Keyword::new(
        "rewrite",
        &[Route],
        "Requests are matched as received, then sent with another path or host.",
    )
};

pub(super) static PATH: Kind = Kind {
    expected: "a path in quotes, such as \"/b/**\"",
    words: &[],
    check: |value| path(value).map(drop),
};

/// A path with places for captures, in the syntax of patterns.
pub(super) fn path(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    let pattern = PathPattern {
        kind: PathPatternKind::Template(text.clone()),
        ignore_case: false,
    };
    match PathMatcher::compile(&pattern) {
        Ok(_) if text.split('/').any(|segment| segment == "*") => Err(Wrong::because(format!(
            "\"{text}\" does not say which segment `*` stands for"
        ))
        .help("give it a name in both patterns: `{id}`")),
        Ok(_) => Ok(text),
        Err(error) => Err(Wrong::because(error.to_string())),
    }
}

pub(super) fn decode(entry: Entry<'_>) -> Option<Rewrite> {
    let rewrite = Rewrite {
        path: entry.prop("path", path).map(|path| path.value),
        host: entry.prop("host", value::exact_host).map(|host| host.value),
    };
    (rewrite != Rewrite::default()).then_some(rewrite)
}
