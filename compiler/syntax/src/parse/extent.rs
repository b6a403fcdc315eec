//! How far a node, a block or an entry reaches, without looking into it: for what `/-` comments out, and for blocks that
//! are passed over whole.

use super::lexeme::{Class, block_comment_end, class_at, line_end, quoted_at, word_end};

/// Where [`skip`] stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    NodeEnd,
    BlockEnd,
}

/// The first position from `at` on that is no space (nor, if asked, a newline).
pub(crate) fn after_spaces(text: &str, mut at: usize, newlines: bool) -> usize {
    loop {
        match class_at(text, at) {
            (Class::Space, length) => at += length,
            (Class::Newline, length @ 1..) if newlines => at += length,
            _ => return at,
        }
    }
}

/// The first position from `at` on that is no space, newline or comment: where what `/-` comments out begins
/// (`slashdash` in the grammar of KDL 2.0).
pub(crate) fn after_line_space(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        at = after_spaces(text, at, true);
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'/'), Some(b'/')) => at = line_end(text, at),
            (Some(b'/'), Some(b'*')) => match block_comment_end(text, at) {
                Some(end) => at = end,
                None => return at,
            },
            _ => return at,
        }
    }
}

/// The end of the argument or property that begins at `at`, which is `at` if none does.
pub(crate) fn skip_entry(text: &str, at: usize) -> usize {
    let one = |at| match quoted_at(text, at) {
        Some(quoted) => quoted.end,
        None if text.as_bytes().get(at) == Some(&b'#') => word_end(text, at + 1),
        None => word_end(text, at),
    };
    let end = one(at);
    let equals = after_spaces(text, end, false);
    if text.as_bytes().get(equals) != Some(&b'=') {
        return end;
    }
    one(after_spaces(text, equals + 1, false))
}

/// Passes over a node or a block without looking into it. An error is the brace that is never closed.
pub(crate) fn skip(text: &str, from: usize, until: Until) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut outermost) = (from, 0_usize, from);
    while at < bytes.len() {
        let (class, length) = class_at(text, at);
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'"' | b'#'), _) if let Some(quoted) = quoted_at(text, at) => {
                at = quoted.end.max(at + 1);
            }
            (Some(b'/'), Some(b'/')) => at = line_end(text, at),
            (Some(b'/'), Some(b'*')) => {
                at = block_comment_end(text, at).unwrap_or(bytes.len());
            }
            (Some(b'/'), Some(b'-')) => at = after_line_space(text, at + 2),
            (Some(b'\\'), _) => {
                at = after_spaces(text, at + 1, false);
                at += if class_at(text, at).0 == Class::Newline {
                    class_at(text, at).1
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
