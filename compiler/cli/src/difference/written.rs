//! Policy as its authors wrote it, on one line: without comments, and with single blanks.

use mesh_compiler::linked::Source;
use mesh_syntax::{SourceSet, Span};

/// Longest text that is shown of one setting.
const CHARS_MAX: usize = 200;

/// The text of a span.
pub(super) fn written(sources: &SourceSet, span: Span) -> String {
    let text = without_comments(sources.slice(span).unwrap_or_default());
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        None => line,
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
    }
}

/// The texts of spans, with their places, ascending.
pub(super) fn lines(
    sources: &SourceSet,
    spans: impl Iterator<Item = Span>,
) -> Vec<(String, Option<Span>)> {
    let mut lines: Vec<(String, Option<Span>)> = spans
        .map(|span| (written(sources, span), Some(span)))
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

/// Where something stands, as in `teams/a.kdl:7`.
pub(super) fn place(sources: &SourceSet, span: Span) -> String {
    let (line, _) = sources.line_column(span);
    format!("{}:{line}", sources.path(span.file))
}

/// The same of a value that may be built in.
pub(super) fn source(sources: &SourceSet, source: Source) -> String {
    let span = source.span();
    span.map_or_else(|| "built-in".to_owned(), |span| place(sources, span))
}

fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let (mut quoted, mut escaped) = (false, false);
    while let Some(char) = chars.next() {
        if quoted {
            quoted = escaped || char != '"';
            escaped = !escaped && char == '\\';
            kept.push(char);
            continue;
        }
        match (char, chars.peek()) {
            ('/', Some('/')) => while chars.next_if(|next| *next != '\n').is_some() {},
            ('/', Some('*')) => {
                let mut last = ' ';
                for next in chars.by_ref().skip(1) {
                    if (last, next) == ('*', '/') {
                        break;
                    }
                    last = next;
                }
            }
            _ => {
                quoted = char == '"';
                kept.push(char);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_line_ends_are_left_out() {
        let mut sources = SourceSet::new();
        let text = "to v1 { // why\n    else \"http://x\" /* not\n    this */ v2\n}";
        let file = sources.add("a.kdl", text.as_bytes().to_vec());
        let span = Span::new(file, 0, text.len());
        assert_eq!(written(&sources, span), "to v1 { else \"http://x\" v2 }");
    }
}
