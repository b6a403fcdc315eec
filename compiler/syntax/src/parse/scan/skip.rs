//! What is commented out by `/-`, and blocks that are passed over whole.
//!
//! It never reaches the parser, whose time doubles with each such block inside another.

use super::super::lexeme::{Class, block_comment_end, class_at, line_end, quoted_at, word_end};
use super::super::trap;
use super::{Scanner, State};

/// Where [`Scanner::skip`] stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    NodeEnd,
    BlockEnd,
}

impl Scanner<'_> {
    /// Takes out what `/-` comments out: a node, a block or one argument or property.
    pub(super) fn slashdash(&mut self) {
        let start = self.at;
        let inner = self.after_spaces(self.at + 2, true);
        let end = match (self.state, self.text.as_bytes().get(inner)) {
            (State::Node, _) => self.skip(inner, Until::NodeEnd),
            (_, Some(b'{')) => self.skip(inner, Until::BlockEnd),
            _ => Ok(self.skip_entry(inner)),
        };
        let end = end.unwrap_or_else(|open| {
            self.report(trap::unclosed_block(self.span(open, open + 1)));
            self.close_all_at_end()
        });
        self.blank(start..end);
        self.at = end;
        self.spaced = true;
    }

    pub(super) fn skip_entry(&self, at: usize) -> usize {
        let one = |at| match quoted_at(self.text, at) {
            Some(quoted) => quoted.end,
            None if self.text.as_bytes().get(at) == Some(&b'#') => word_end(self.text, at + 1),
            None => word_end(self.text, at),
        };
        let end = one(at);
        let equals = self.after_spaces(end, false);
        if self.text.as_bytes().get(equals) != Some(&b'=') {
            return end;
        }
        one(self.after_spaces(equals + 1, false))
    }

    /// Passes over a node or a block without looking into it. An error is the brace that is never closed.
    pub(super) fn skip(&self, from: usize, until: Until) -> Result<usize, usize> {
        let bytes = self.text.as_bytes();
        let (mut at, mut depth, mut outermost) = (from, 0_usize, from);
        while at < bytes.len() {
            let (class, length) = class_at(self.text, at);
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'"' | b'#'), _) if let Some(quoted) = quoted_at(self.text, at) => {
                    at = quoted.end.max(at + 1);
                }
                (Some(b'/'), Some(b'/')) => at = line_end(self.text, at),
                (Some(b'/'), Some(b'*')) => {
                    at = block_comment_end(self.text, at).unwrap_or(bytes.len());
                }
                (Some(b'\\'), _) => {
                    at = self.after_spaces(at + 1, false);
                    at += if class_at(self.text, at).0 == Class::Newline {
                        class_at(self.text, at).1
                    } else {
                        0
                    };
                }
                (Some(b'{'), _) => {
                    if depth == 0 {
                        outermost = at;
                    }
                    depth += 1;
                    at += 1;
                }
                (Some(b'}'), _) if depth == 0 => return Ok(at),
                (Some(b'}'), _) => {
                    depth -= 1;
                    at += 1;
                    if depth == 0 && until == Until::BlockEnd {
                        return Ok(at);
                    }
                }
                (byte, _)
                    if depth == 0
                        && until == Until::NodeEnd
                        && (class == Class::Newline || byte == Some(&b';')) =>
                {
                    return Ok(at);
                }
                _ => at += length.max(1),
            }
        }
        if depth == 0 { Ok(at) } else { Err(outermost) }
    }
}
