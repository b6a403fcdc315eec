//! Regular expressions that take the whole value, in linear time, on bytes.
//!
//! They work on bytes and not on text, so that a header value that is not UTF-8 cannot slip past a
//! rule; `.` is one byte, classes and case are those of ASCII.

use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, meta};

use crate::limits;

/// A regular expression, anchored at both ends. Clones share its automaton.
#[derive(Clone)]
pub struct Regex {
    pattern: Box<str>,
    engine: Engine,
}

/// The table needs no scratch memory and so takes no lock. A pattern too large for one falls back to
/// an engine whose scratch memory comes from a pool.
#[derive(Clone)]
enum Engine {
    Table(Arc<dense::DFA<Vec<u32>>>),
    Pooled(meta::Regex),
}

/// Why a regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// Longer than [`limits::PATTERN_BYTES_MAX`].
    #[error(
        "the regular expression is longer than {} bytes",
        limits::PATTERN_BYTES_MAX
    )]
    TooLong,
    /// Not a regular expression, or one that is not linear (back-references, look-around).
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// Its automaton is larger than [`limits::REGEX_BYTES_MAX`].
    #[error(
        "the regular expression needs more than {} bytes of memory",
        limits::REGEX_BYTES_MAX
    )]
    TooLarge,
}

impl Regex {
    /// Compiles a pattern; with `ignore_case`, ASCII letters match in either case.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, RegexError> {
        if pattern.len() > limits::PATTERN_BYTES_MAX {
            return Err(RegexError::TooLong);
        }
        let syntax = syntax::Config::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(limits::REGEX_NESTING_MAX)
            .case_insensitive(ignore_case);
        // On its own first: `a)|(b` must not become valid by the group that is put around it.
        syntax::parse_with(pattern, &syntax).map_err(|error| RegexError::Syntax(reason(&error)))?;
        let anchored = format!(r"(?:{pattern})\z");
        syntax::parse_with(&anchored, &syntax)
            .map_err(|error| RegexError::Syntax(reason(&error)))?;
        let engine = Engine::new(&anchored, syntax)?;
        Ok(Self {
            pattern: pattern.into(),
            engine,
        })
    }

    /// Compiles the search for `text` anywhere in the value.
    pub fn containing(text: &str, ignore_case: bool) -> Result<Self, RegexError> {
        if text.len() > limits::PATTERN_BYTES_MAX / 4 {
            return Err(RegexError::TooLong);
        }
        let mut pattern = String::from("(?s:.*");
        for byte in text.bytes() {
            use fmt::Write as _;
            write!(pattern, r"\x{byte:02x}").expect("writing to a String cannot fail");
        }
        pattern.push_str(".*)");
        Self::new(&pattern, ignore_case)
    }

    /// Whether the whole value matches.
    pub fn is_match(&self, value: &[u8]) -> bool {
        let input = Input::new(value).anchored(Anchored::Yes).earliest(true);
        match &self.engine {
            Engine::Table(table) => table
                .try_search_fwd(&input)
                .expect("without quit bytes and with an anchored start a search cannot fail")
                .is_some(),
            Engine::Pooled(regex) => regex.is_match(input),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

impl Engine {
    fn new(anchored: &str, syntax: syntax::Config) -> Result<Self, RegexError> {
        let nfa = NFA::compiler()
            .syntax(syntax)
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(limits::REGEX_BYTES_MAX)),
            )
            .build(anchored)
            .map_err(|_too_large| RegexError::TooLarge)?;
        let table = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .dfa_size_limit(Some(limits::REGEX_TABLE_BYTES_MAX))
                    .determinize_size_limit(Some(limits::REGEX_TABLE_BYTES_MAX)),
            )
            .build_from_nfa(&nfa);
        if let Ok(table) = table {
            return Ok(Self::Table(Arc::new(table)));
        }
        meta::Regex::builder()
            .configure(
                meta::Config::new()
                    .utf8_empty(false)
                    .nfa_size_limit(Some(limits::REGEX_BYTES_MAX))
                    .hybrid_cache_capacity(limits::REGEX_BYTES_MAX),
            )
            .syntax(syntax)
            .build(anchored)
            .map(Self::Pooled)
            .map_err(|_too_large| RegexError::TooLarge)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.pattern).finish()
    }
}

/// The last line of the parser's drawing, which is the one that says what is wrong.
fn reason(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, value: &[u8], expected: bool) {
        let regex = Regex::new(pattern, false).unwrap();
        assert_eq!(regex.is_match(value), expected, "{pattern} on {value:?}");
    }

    #[test]
    fn takes_the_whole_value() {
        check("a", b"a", true);
        check("a", b"ab", false);
        check("a", b"ba", false);
        check("a|ab", b"ab", true);
        check("a|b", b"b", true);
        check("", b"", true);
        check("(?m)^a$", b"a\nb", false);
        check("(?i)a", b"A", true);
    }

    #[test]
    fn works_on_bytes() {
        check("a.b", b"a\xffb", true);
        check(r"[^a]+", b"\x80\x81", true);
        check("é", "é".as_bytes(), true);
    }

    #[test]
    fn refuses_what_only_the_group_around_it_makes_valid() {
        assert!(Regex::new("a)|(b", false).is_err());
        assert!(Regex::new("(?x)a # note", false).is_err());
        assert!(Regex::new(r"(a)\1", false).is_err());
        assert!(Regex::new("(?=a)", false).is_err());
        assert!(Regex::new(&"(".repeat(4000), false).is_err());
    }

    #[test]
    fn bounds_size() {
        assert_eq!(
            Regex::new(&"a".repeat(100_000), false).unwrap_err(),
            RegexError::TooLong
        );
        assert_eq!(
            Regex::new("((a{100}){100}){100}", false).unwrap_err(),
            RegexError::TooLarge
        );
    }

    /// bad-inputs row 41: a pattern that costs a backtracking engine exponential time.
    #[test]
    fn is_linear() {
        let value = [vec![b'a'; 1 << 20], vec![b'!']].concat();
        check("(a+)+", &value, false);
        // Too large for a table: needs 2^20 states.
        check("(a|b)*a(a|b){20}", &value, false);
    }

    #[test]
    fn contains() {
        let regex = Regex::containing("b.\n", true).unwrap();
        assert!(regex.is_match(b"\xffaB.\nc\n"));
        assert!(!regex.is_match(b"abc"));
    }
}
