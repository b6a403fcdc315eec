//! Text of strangers as a terminal may show it: nothing in it moves the cursor, changes colours or reorders what stands
//! beside it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mesh_syntax::{Diagnostic, FileId, SourceSet};

/// What a terminal would obey instead of showing it. Newlines are for whoever wrote the text around it.
fn is_command(char: char) -> bool {
    let reorders = matches!(
        char,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
    );
    reorders || (char.is_control() && !matches!(char, '\n' | '\t'))
}

/// A text with escapes for what a terminal would obey.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().flat_map(|char| {
        let escape = is_command(char).then(|| char.escape_unicode());
        let plain = escape.is_none().then_some(char);
        escape.into_iter().flatten().chain(plain)
    });
    Cow::Owned(shown.collect())
}

/// Texts of files that hold what a terminal would obey, with something else of the same length for it, so that every
/// position in them stays true.
#[derive(Debug, Default)]
pub(crate) struct Masked(BTreeMap<FileId, String>);

impl Masked {
    /// The files that findings point into.
    pub(crate) fn of<'d>(
        sources: &SourceSet,
        findings: impl IntoIterator<Item = &'d Diagnostic>,
    ) -> Self {
        let spans = findings.into_iter().flat_map(|found| {
            let labels = found.labels.iter().map(|label| label.span.file);
            labels.chain([found.span.file])
        });
        let mut files: Vec<FileId> = spans.collect();
        files.sort_unstable();
        files.dedup();
        let masked = files.into_iter().filter_map(|file| {
            let text = sources.text(file)?;
            text.contains(is_command).then(|| (file, masked(text)))
        });
        Self(masked.collect())
    }

    /// The text of a file, as it may be shown.
    pub(crate) fn text<'s>(&'s self, sources: &'s SourceSet, file: FileId) -> Option<&'s str> {
        let masked = self.0.get(&file).map(String::as_str);
        masked.or_else(|| sources.text(file))
    }
}

fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let ends_line = char == '\r' && chars.peek() == Some(&'\n');
        masked.push(match char.len_utf8() {
            _ if !is_command(char) || ends_line => char,
            1 => '?',
            2 => '¿',
            _ => '\u{FFFD}',
        });
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31mb\u{202e}c\u{9b}d\r\ne\rf\u{7}é\n";

    #[test]
    fn escapes_say_what_they_stand_for() {
        assert_eq!(
            escaped(HOSTILE),
            "a\\u{1b}[31mb\\u{202e}c\\u{9b}d\\u{d}\ne\\u{d}f\\u{7}é\n"
        );
        assert!(matches!(escaped("plain – é\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn masks_keep_positions_and_line_ends() {
        assert_eq!(masked(HOSTILE), "a?[31mb\u{FFFD}c¿d\r\ne?f?é\n");
        assert_eq!(masked(HOSTILE).len(), HOSTILE.len());
    }
}
