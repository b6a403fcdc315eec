//! The one layout of policy files: text in, text out.
//!
//! Every comment and every literal stays as it is written, and in its place: only white space, `;` and `\` at the ends
//! of lines change. What is laid out is compared with what it was before it is handed over.

mod concrete;
mod print;

use rayon::prelude::*;

use self::concrete::concrete;
use self::print::print;
use crate::diagnostic::code;
use crate::source::{FileId, KEY_SET_SUFFIX, SourceSet};
use crate::{Diagnostic, Edit, Level, Node, Span, Value, parse_file};

/// Why a file was not formatted.
#[derive(Debug)]
pub enum FormatError {
    /// It has mistakes; these.
    Mistakes(Vec<Diagnostic>),
    /// What came out would not have meant the same. That is a fault of this crate.
    Fault,
}

/// Formats a file of a set; nothing if it is formatted already.
///
/// Formatting again changes nothing. It takes time linear in the file.
pub fn format(sources: &SourceSet, file: FileId) -> Result<Option<String>, FormatError> {
    let (nodes, findings) = parse_file(sources, file);
    if findings.iter().any(|found| found.level == Level::Error) {
        return Err(FormatError::Mistakes(findings));
    }
    let path = sources.path(file);
    let Some(text) = sources
        .text(file)
        .filter(|_| !path.ends_with(KEY_SET_SUFFIX))
    else {
        return Ok(None);
    };
    let formatted = concrete(text).map(|whole| print(&whole, newline(text)));
    match formatted {
        Some(formatted) if formatted == text => Ok(None),
        Some(formatted) if is_kept(text, &formatted) && is_same(&nodes, &formatted) => {
            Ok(Some(formatted))
        }
        _ => Err(FormatError::Fault),
    }
}

/// [`format()`] for every file of a set, in their order.
pub fn format_all(sources: &SourceSet) -> Vec<Result<Option<String>, FormatError>> {
    let files: Vec<FileId> = sources.files().collect();
    let formatted = files.into_par_iter().map(|file| format(sources, file));
    formatted.collect()
}

/// That a file is not formatted, with the fix; nothing where it is, or can't be.
pub fn not_formatted(sources: &SourceSet, file: FileId) -> Option<Diagnostic> {
    let after = format(sources, file).ok()??;
    let before = sources.text(file)?;
    let same = before.bytes().zip(after.bytes());
    let same = same.take_while(|(before, after)| before == after).count();
    // Whole lines: the first that differs, and from there up to those that end both.
    let begin = before.get(..before.floor_char_boundary(same))?;
    let begin = begin.rfind('\n').map_or(0, |at| at + 1);
    let (old, new) = (before.get(begin..)?, after.get(begin..)?);
    let (old_lines, new_lines) = (lines(old), lines(new));
    let tail = old_lines.iter().rev().zip(new_lines.iter().rev());
    let tail = tail.take_while(|(old, new)| old == new);
    let tail: usize = tail.map(|(line, _)| line.len()).sum();
    let (old, new) = (
        old.get(..old.len().saturating_sub(tail))?,
        new.get(..new.len().saturating_sub(tail))?,
    );
    let first_line = old.lines().next().unwrap_or_default();
    let place = Span::new(file, begin, begin + first_line.len());
    let edit = Edit::new(Span::new(file, begin, begin + old.len()), new);
    Some(
        Diagnostic::note(code::NOT_FORMATTED, place, "this file is not formatted")
            .at("from here on it is laid out otherwise than `meshc fmt` does it")
            .help("format it with `meshc fmt`, which keeps every comment and literal")
            .fix("format the file", vec![edit]),
    )
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// [`format()`] for a text that is no file.
pub fn format_text(text: &str) -> Result<Option<String>, FormatError> {
    let mut sources = SourceSet::new();
    let file = sources.add("text.kdl", text.as_bytes().to_vec());
    format(&sources, file)
}

/// How lines end. The last one is decisive: in what was formatted it is never part of a string or comment.
fn newline(text: &str) -> &'static str {
    match text.trim_end_matches(|char| char != '\n') {
        lines if lines.ends_with("\r\n") => "\r\n",
        _ => "\n",
    }
}

/// Whether two texts differ only in what formatting may change.
fn is_kept(before: &str, after: &str) -> bool {
    kept(before).eq(kept(after))
}

fn kept(text: &str) -> impl Iterator<Item = char> {
    let may_change = |char: char| char.is_whitespace() || matches!(char, ';' | '\\' | '\u{FEFF}');
    text.chars().filter(move |char| !may_change(*char))
}

/// Whether a text has these nodes, wherever they stand.
fn is_same(nodes: &[Node], text: &str) -> bool {
    let mut sources = SourceSet::new();
    let file = sources.add("formatted.kdl", text.as_bytes().to_vec());
    let (after, findings) = parse_file(&sources, file);
    findings.is_empty() && equal(nodes, &after)
}

fn equal(before: &[Node], after: &[Node]) -> bool {
    let same = |before: &Node, after: &Node| {
        let args = before.args.iter().map(|arg| &arg.value);
        let props = before
            .props
            .iter()
            .zip(&after.props)
            .all(|(a, b)| a.name.text == b.name.text && equal_value(&a.value, &b.value));
        before.name.text == after.name.text
            && before.args.len() == after.args.len()
            && args.zip(&after.args).all(|(a, b)| equal_value(a, &b.value))
            && before.props.len() == after.props.len()
            && props
            && before.has_block == after.has_block
            && equal(&before.children, &after.children)
    };
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| same(a, b))
}

/// Numbers that are none are equal too.
fn equal_value(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Float(before), Value::Float(after)) => before.to_bits() == after.to_bits(),
        (before, after) => before == after,
    }
}

#[cfg(test)]
mod tests;
