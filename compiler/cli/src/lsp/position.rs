//! Places as the protocol counts them, line and column from 0, and byte offsets.

use lsp_types::{Position, Range};
use mesh_syntax::{SourceSet, Span};

/// What a column counts, as client and server agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// Bytes.
    Utf8,
    /// Units of UTF-16, which every client knows.
    #[default]
    Utf16,
}

impl Encoding {
    /// Its name in the protocol.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Utf16 => "utf-16",
        }
    }

    fn width(self, letter: char) -> usize {
        match self {
            Self::Utf8 => letter.len_utf8(),
            Self::Utf16 => letter.len_utf16(),
        }
    }

    /// The place of an offset; one past the end counts as the end.
    pub(super) fn position(self, text: &str, offset: usize) -> Position {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = text.get(..offset).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or_default();
        let column: usize = column.chars().map(|letter| self.width(letter)).sum();
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            character: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }

    /// The offset of a place; one past the end of its line, or of the text, counts as that end.
    pub(super) fn offset(self, text: &str, position: Position) -> usize {
        let mut start = 0;
        for _ in 0..position.line {
            let rest = text.get(start..).unwrap_or_default();
            match rest.find('\n') {
                Some(newline) => start += newline + 1,
                None => return text.len(),
            }
        }
        let rest = text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut column = 0;
        for (index, letter) in line.char_indices() {
            if column >= position.character as usize {
                return start + index;
            }
            column += self.width(letter);
        }
        start + line.len()
    }

    /// The range of a span in its file.
    pub(super) fn range(self, sources: &SourceSet, span: Span) -> Range {
        let text = sources.text(span.file).unwrap_or_default();
        self.range_in(text, &span.range())
    }

    /// The range of bytes of a text.
    pub(super) fn range_in(self, text: &str, range: &std::ops::Range<usize>) -> Range {
        Range {
            start: self.position(text, range.start),
            end: self.position(text, range.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_as_agreed() {
        let text = "aß\n𝄞b\r\nc";
        for (encoding, offset, line, character) in [
            (Encoding::Utf8, 3, 0, 3),
            (Encoding::Utf16, 3, 0, 2),
            (Encoding::Utf8, 8, 1, 4),
            (Encoding::Utf16, 8, 1, 2),
            (Encoding::Utf16, 9, 1, 3),
            (Encoding::Utf16, 11, 2, 0),
            (Encoding::Utf16, 12, 2, 1),
        ] {
            let position = Position { line, character };
            assert_eq!(encoding.position(text, offset), position, "{offset}");
            assert_eq!(encoding.offset(text, position), offset, "{position:?}");
        }
    }

    #[test]
    fn what_lies_outside_is_the_nearest_inside() {
        let offset =
            |line, character| Encoding::Utf16.offset("ab\r\n𝄞", Position { line, character });
        assert_eq!(offset(0, 99), 2);
        assert_eq!(offset(7, 0), 8);
        // Inside of a pair of units.
        assert_eq!(offset(1, 1), 8);
        assert_eq!(Encoding::Utf8.position("ß", 1), Position::new(0, 0));
        assert_eq!(Encoding::Utf8.position("ß", 9), Position::new(0, 2));
    }
}
