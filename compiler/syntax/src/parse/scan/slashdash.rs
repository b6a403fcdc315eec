//! What is commented out by `/-`.
//!
//! It never reaches the parser, whose time doubles with each such block inside another.

use super::super::extent::{Until, after_line_space, skip, skip_entry};
use super::super::trap;
use super::{Scanner, State};

impl Scanner<'_> {
    /// Takes out what `/-` comments out: a node, a block or one argument or property.
    pub(super) fn slashdash(&mut self) {
        let start = self.at;
        let inner = after_line_space(self.text, self.at + 2);
        let end = match (self.state, self.text.as_bytes().get(inner)) {
            (State::Node, _) => skip(self.text, inner, Until::NodeEnd),
            (_, Some(b'{')) => skip(self.text, inner, Until::BlockEnd),
            _ => Ok(skip_entry(self.text, inner)),
        };
        if self.is_nothing(inner, end) {
            self.report(trap::nothing_commented_out(self.span(start, start + 2)));
        }
        let end = end.unwrap_or_else(|open| {
            self.report(trap::unclosed_block(self.span(open, open + 1)));
            self.close_all_at_end()
        });
        self.blank(start..end);
        self.at = end;
        self.spaced = true;
    }

    /// Whether `/-` has nothing behind it, as far as comments and line ends may be between them.
    fn is_nothing(&self, inner: usize, end: Result<usize, usize>) -> bool {
        if self.state != State::Node {
            return end == Ok(inner);
        }
        let mut bytes = self.text.as_bytes().get(inner..).into_iter().flatten();
        match bytes.next() {
            Some(b'/') => matches!(bytes.next(), Some(b'/' | b'*' | b'-')),
            Some(b'{' | b'}' | b';' | b'\\') | None => true,
            Some(_) => false,
        }
    }
}
