//! The smallest parts of KDL 2: white space, words, numbers, strings and comments, and where each ends.
//!
//! Every function looks at the text from a position on and takes time linear in what it passes over.

use super::work;

/// What begins at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Space,
    Newline,
    Other,
}

/// The class of the character at `at`, with its length in bytes; the end of the text is a newline of no length.
pub(crate) fn class_at(text: &str, at: usize) -> (Class, usize) {
    work::looked_at(1);
    let Some(byte) = text.as_bytes().get(at) else {
        return (Class::Newline, 0);
    };
    match byte {
        b' ' | b'\t' => (Class::Space, 1),
        b'\r' if text.as_bytes().get(at + 1) == Some(&b'\n') => (Class::Newline, 2),
        b'\n' | b'\r' | 0x0B | 0x0C => (Class::Newline, 1),
        0..0x80 => (Class::Other, 1),
        _ => match text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(char @ ('\u{85}' | '\u{2028}' | '\u{2029}')) => (Class::Newline, char.len_utf8()),
            Some(
                char @ ('\u{A0}'
                | '\u{1680}'
                | '\u{2000}'..='\u{200A}'
                | '\u{202F}'
                | '\u{205F}'
                | '\u{3000}'
                | '\u{FEFF}'),
            ) => (Class::Space, char.len_utf8()),
            Some(char) => (Class::Other, char.len_utf8()),
            // Only reached inside a character, where no caller stops.
            None => (Class::Other, 1),
        },
    }
}

/// Whether KDL forbids this character everywhere: control characters, and those that reorder text on screen.
pub(super) fn is_disallowed(char: char) -> bool {
    matches!(char,
        '\0'..='\u{8}' | '\u{E}'..='\u{1F}' | '\u{7F}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// Whether a byte that is neither space nor newline may be inside a word.
fn is_word_byte(byte: u8) -> bool {
    !matches!(
        byte,
        b'\\' | b'/' | b'(' | b')' | b'{' | b'}' | b';' | b'[' | b']' | b'"' | b'#' | b'='
    )
}

/// The end of the word that begins at `at`, which is `at` if none does.
pub(crate) fn word_end(text: &str, mut at: usize) -> usize {
    while let (Class::Other, length) = class_at(text, at) {
        if !text.as_bytes().get(at).copied().is_some_and(is_word_byte) {
            break;
        }
        at += length;
    }
    at
}

/// The end of what someone who forgot the quotes probably meant as one value: up to a space, a quote, a
/// semicolon or a brace that it does not itself pair.
pub(super) fn run_end(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut open = 0_usize;
    while let (Class::Other, length) = class_at(text, at) {
        match bytes.get(at) {
            Some(b'{') if closes_in_run(bytes, at) => open += 1,
            Some(b'}') if open > 0 => open -= 1,
            Some(b';' | b'"' | b'{' | b'}') => break,
            _ => {}
        }
        at += length;
    }
    at
}

/// Whether `{` at `at` is a short `{name}` as in a path template.
fn closes_in_run(bytes: &[u8], at: usize) -> bool {
    const TEMPLATE_NAME_BYTES_MAX: usize = 64;
    work::looked_at(TEMPLATE_NAME_BYTES_MAX);
    let name = bytes.iter().skip(at + 1).take(TEMPLATE_NAME_BYTES_MAX);
    let stop = name
        .copied()
        .find(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b',')));
    stop == Some(b'}') && bytes.get(at + 1) != Some(&b'}')
}

/// The end of the comment that begins at `at`, or nothing if it is never closed.
pub(crate) fn block_comment_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        work::looked_at(1);
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// The end of the line, without its newline.
pub(crate) fn line_end(text: &str, mut at: usize) -> usize {
    loop {
        match class_at(text, at) {
            (Class::Newline, _) => return at,
            (_, length) => at += length,
        }
    }
}

/// A string and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// One past its last byte.
    pub(crate) end: usize,
    /// Where its content begins and ends.
    pub(crate) content: (usize, usize),
    pub(crate) problem: Option<QuotedProblem>,
}

/// What is wrong with a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuotedProblem {
    /// Not closed on its line, or, with three quotes, not at all.
    Unclosed,
    /// A `\` at this place before something it can't escape.
    Escape(usize),
    /// Text on the line of the opening three quotes, or before the closing ones.
    MultiLineShape,
    /// A line that is indented less than the closing three quotes, or otherwise.
    Indentation,
}

/// The string that begins at `at` with a quote or with `#` marks before a quote.
pub(crate) fn quoted_at(text: &str, at: usize) -> Option<Quoted> {
    let bytes = text.as_bytes();
    let hashes = bytes
        .get(at..)?
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    work::looked_at(hashes);
    let quote = at + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let raw = hashes > 0;
    let three = bytes.get(quote..quote + 3) == Some(b"\"\"\"");
    // `#"""#` on one line is a raw string of one quote in KDL; the parser says what to write instead.
    Some(if three {
        multi_line(text, quote + 3, hashes, raw)
    } else {
        single_line(text, quote + 1, hashes, raw)
    })
}

fn single_line(text: &str, begin: usize, hashes: usize, raw: bool) -> Quoted {
    let bytes = text.as_bytes();
    let mut problem = None;
    let mut at = begin;
    loop {
        let (class, length) = class_at(text, at);
        if class == Class::Newline {
            return Quoted {
                end: at,
                content: (begin, at),
                problem: Some(QuotedProblem::Unclosed),
            };
        }
        match bytes.get(at) {
            Some(b'"') if closes(bytes, at + 1, hashes) => {
                return Quoted {
                    end: at + 1 + hashes,
                    content: (begin, at),
                    problem,
                };
            }
            Some(b'\\') if !raw => match escape_end(text, at) {
                Some(end) => at = end,
                None => {
                    problem = problem.or(Some(QuotedProblem::Escape(at)));
                    at += 1;
                    // What follows may be a newline, which ends the string; anything else belongs to it.
                    if let (Class::Other, length) = class_at(text, at) {
                        at += length;
                    }
                }
            },
            _ => at += length,
        }
    }
}

fn multi_line(text: &str, begin: usize, hashes: usize, raw: bool) -> Quoted {
    let bytes = text.as_bytes();
    let mut problem =
        (class_at(text, begin).0 != Class::Newline).then_some(QuotedProblem::MultiLineShape);
    let mut at = begin;
    // Whether an escape joins lines; where indentation counts is then for the parser to say.
    let mut continued = false;
    let mut blank_line = true;
    while at < bytes.len() {
        let (class, length) = class_at(text, at);
        match bytes.get(at) {
            Some(b'"')
                if bytes.get(at..at + 3) == Some(b"\"\"\"") && closes(bytes, at + 3, hashes) =>
            {
                let shape = (!blank_line).then_some(QuotedProblem::MultiLineShape);
                let lines = text.get(begin..at).unwrap_or_default();
                let uneven = (!continued && !is_even(lines)).then_some(QuotedProblem::Indentation);
                return Quoted {
                    end: at + 3 + hashes,
                    content: (begin, at),
                    problem: problem.or(shape).or(uneven),
                };
            }
            Some(b'\\') if !raw => match escape_end(text, at) {
                Some(end) => {
                    blank_line = false;
                    continued |= text
                        .get(at..end)
                        .is_some_and(|escape| escape.contains(['\n', '\r']));
                    at = end;
                    continue;
                }
                None => problem = problem.or(Some(QuotedProblem::Escape(at))),
            },
            _ => {}
        }
        blank_line = class == Class::Newline || (blank_line && class == Class::Space);
        at += length;
    }
    Quoted {
        end: at,
        content: (begin, at),
        problem: Some(QuotedProblem::Unclosed),
    }
}

/// Whether every line that is not blank begins as the last one does, which stands before the closing quotes.
fn is_even(lines: &str) -> bool {
    work::looked_at(lines.len());
    let is_newline = |char| {
        matches!(
            char,
            '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let Some((lines, indent)) = lines.rsplit_once(is_newline) else {
        return true;
    };
    // The first is the rest of the line of the opening quotes.
    lines
        .split(is_newline)
        .skip(1)
        .all(|line| line.starts_with(indent) || line.trim().is_empty())
}

fn closes(bytes: &[u8], at: usize, hashes: usize) -> bool {
    work::looked_at(hashes);
    bytes
        .get(at..at + hashes)
        .is_some_and(|marks| marks.iter().all(|byte| *byte == b'#'))
}

/// The end of the escape at `at`, or nothing if KDL 2 has no such escape.
fn escape_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.get(at + 1)? {
        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' | b's' => Some(at + 2),
        b'u' => {
            let digits = bytes
                .get(at + 3..)?
                .iter()
                .take(7)
                .take_while(|byte| byte.is_ascii_hexdigit())
                .count();
            let number = text.get(at + 3..at + 3 + digits)?;
            let is_char = u32::from_str_radix(number, 16)
                .ok()
                .and_then(char::from_u32)
                .is_some();
            let closed =
                bytes.get(at + 2) == Some(&b'{') && bytes.get(at + 3 + digits) == Some(&b'}');
            (closed && is_char && digits <= 6).then_some(at + 4 + digits)
        }
        _ => {
            // A backslash before white space swallows all of it.
            let mut end = at + 1;
            while let (Class::Space | Class::Newline, length @ 1..) = class_at(text, end) {
                end += length;
            }
            (end > at + 1).then_some(end)
        }
    }
}

/// What a bare word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// A name or word of the language.
    Plain,
    /// A number that means what it looks like.
    Number,
    /// A number that loses something of how it is written: `007`, `1.10`.
    LossyNumber,
    /// Begins like a number and is none: `5xx`.
    NotNumber,
    /// How KDL 1 wrote this keyword: `true`.
    Keyword,
}

/// Tells numbers, keywords and plain words apart.
pub(super) fn classify(word: &str) -> Word {
    if matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan") {
        return Word::Keyword;
    }
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let after_dot = unsigned.strip_prefix('.').unwrap_or(unsigned);
    if !after_dot.starts_with(|char: char| char.is_ascii_digit()) {
        return Word::Plain;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            let starts = digits.starts_with(|char: char| char.is_digit(radix));
            let fits = i128::from_str_radix(&digits.replace('_', ""), radix).is_ok();
            return if starts && fits {
                Word::Number
            } else {
                Word::NotNumber
            };
        }
    }
    decimal(unsigned)
}

fn decimal(unsigned: &str) -> Word {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    if ![Some(whole), fraction, exponent]
        .into_iter()
        .flatten()
        .all(is_digits)
    {
        return Word::NotNumber;
    }
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let trailing_zero = fraction.is_some_and(|digits| digits.len() > 1 && digits.ends_with('0'));
    if leading_zero || trailing_zero {
        Word::LossyNumber
    } else {
        Word::Number
    }
}

/// Digits with underscores between, few enough for the integers of the parser.
fn is_digits(text: &str) -> bool {
    const DIGITS_MAX: usize = 38;
    text.starts_with(|char: char| char.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
        && text.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_numbers() {
        let cases = [
            ("reviews", Word::Plain),
            ("-", Word::Plain),
            ("-x", Word::Plain),
            (".x", Word::Plain),
            ("true", Word::Keyword),
            ("truely", Word::Plain),
            ("0", Word::Number),
            ("-12", Word::Number),
            ("1_000", Word::Number),
            ("0x1F", Word::Number),
            ("0xZ", Word::NotNumber),
            ("1.5", Word::Number),
            ("1.10", Word::LossyNumber),
            ("007", Word::LossyNumber),
            ("1e3", Word::Number),
            ("1e", Word::NotNumber),
            (".5", Word::NotNumber),
            ("5xx", Word::NotNumber),
            ("20%", Word::NotNumber),
            ("10.0.0.7:9080", Word::NotNumber),
            ("999999999999999999999999999999999999999", Word::NotNumber),
        ];
        for (word, expected) in cases {
            assert_eq!(classify(word), expected, "{word}");
        }
    }

    #[test]
    fn strings_end_where_kdl_ends_them() {
        let end = |text: &str| quoted_at(text, 0).map(|quoted| (quoted.end, quoted.problem));
        assert_eq!(end(r#""a\"b" c"#), Some((6, None)));
        assert_eq!(end(r###"#"a"b"# c"###), Some((7, None)));
        assert_eq!(end("\"a\nb\""), Some((2, Some(QuotedProblem::Unclosed))));
        assert_eq!(end("\"a\\\n  b\""), Some((8, None)));
        assert_eq!(end(r#""\d""#), Some((4, Some(QuotedProblem::Escape(1)))));
        assert_eq!(end("\"\"\"\n a\n \"\"\" c"), Some((11, None)));
        assert_eq!(end("#\"\"\"\n a\n \"\"\"# c"), Some((13, None)));
        assert_eq!(
            end("\"\"\"a\"\"\""),
            Some((7, Some(QuotedProblem::MultiLineShape)))
        );
        assert_eq!(end(r#""\u{1F600}""#), Some((11, None)));
        assert_eq!(
            end(r#""\u{D800}""#).and_then(|(_, problem)| problem),
            Some(QuotedProblem::Escape(1))
        );
        assert_eq!(
            end("\"\"\"\na\n \"\"\""),
            Some((10, Some(QuotedProblem::Indentation)))
        );
        assert_eq!(end("\"\"\"\n\n  a\n \"\"\""), Some((13, None)));
        assert_eq!(end("word"), None);
    }

    #[test]
    fn comments_nest() {
        assert_eq!(block_comment_end("/* a /* b */ c */ d", 0), Some(17));
        assert_eq!(block_comment_end("/* a /* b */ c", 0), None);
        assert_eq!(block_comment_end("/*/", 0), None);
    }
}
