//! Named values of a request: headers, query parameters, cookies and claims.

use std::borrow::Cow;
use std::fmt;

use mesh_bundle::slice::{FieldMatch, StringMatch, StringMatchKind};

use super::{ConditionError, Reading};
use crate::limits;
use crate::regex::{Regex, RegexError};
use crate::request::Request;

/// A compiled [`FieldMatch`].
#[derive(Clone, Debug)]
pub struct FieldMatcher {
    name: Box<str>,
    values: Box<[StringMatcher]>,
}

/// A compiled [`StringMatch`].
#[derive(Clone, Debug)]
pub struct StringMatcher {
    pattern: StringMatch,
    /// For the kinds that a comparison of bytes does not settle.
    search: Option<Regex>,
}

/// Why a value to compare with is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StringMatcherError {
    /// Longer than [`limits::PATTERN_BYTES_MAX`].
    #[error("the value is longer than {} bytes", limits::PATTERN_BYTES_MAX)]
    TooLong,
    /// Not a usable regular expression.
    #[error(transparent)]
    Regex(#[from] RegexError),
}

impl StringMatcher {
    /// Compiles a pattern over values.
    pub fn compile(pattern: &StringMatch) -> Result<Self, StringMatcherError> {
        use StringMatchKind::{Contains, Exact, Prefix, Regex as Expression, Suffix};
        let search = match &pattern.kind {
            Exact(text) | Prefix(text) | Suffix(text) => {
                if text.len() > limits::PATTERN_BYTES_MAX {
                    return Err(StringMatcherError::TooLong);
                }
                None
            }
            // By automaton, since a naive search is quadratic in what a stranger sends.
            Contains(text) => Some(Regex::containing(text, pattern.ignore_case)?),
            Expression(text) => Some(Regex::new(text, pattern.ignore_case)?),
        };
        Ok(Self {
            pattern: pattern.clone(),
            search,
        })
    }

    /// Whether the value matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        if let Some(search) = &self.search {
            return search.is_match(value);
        }
        let same = |part: Option<&[u8]>, text: &str| match part {
            Some(part) if self.pattern.ignore_case => part.eq_ignore_ascii_case(text.as_bytes()),
            Some(part) => part == text.as_bytes(),
            None => false,
        };
        match &self.pattern.kind {
            StringMatchKind::Exact(text) => same(Some(value), text),
            StringMatchKind::Prefix(text) => same(value.get(..text.len()), text),
            StringMatchKind::Suffix(text) => {
                let start = value.len().checked_sub(text.len());
                same(start.and_then(|start| value.get(start..)), text)
            }
            StringMatchKind::Contains(_) | StringMatchKind::Regex(_) => false,
        }
    }
}

impl FieldMatcher {
    pub(super) fn compile(field: &FieldMatch) -> Result<Self, ConditionError> {
        let values = field
            .values
            .iter()
            .map(StringMatcher::compile)
            .collect::<Result<_, _>>();
        let values = values.map_err(|source| ConditionError::Value {
            field: field.name.clone(),
            source,
        })?;
        Ok(Self {
            name: field.name.as_str().into(),
            values,
        })
    }

    pub(super) fn matches_header(&self, request: &Request<'_>, reading: Reading) -> bool {
        let mut lines = Lines::default();
        request
            .headers
            .visit(&self.name, &mut |line| lines.see(self.admits(line)));
        lines.judge(reading)
    }

    pub(super) fn matches_query(&self, request: &Request<'_>, reading: Reading) -> bool {
        let mut lines = Lines::default();
        query_values(request, &self.name, &mut |value| {
            lines.see(self.admits(value));
        });
        lines.judge(reading)
    }

    pub(super) fn matches_cookie(&self, request: &Request<'_>, reading: Reading) -> bool {
        let mut lines = Lines::default();
        cookie_values(request, &self.name, &mut |value| {
            lines.see(self.admits(value));
        });
        lines.judge(reading)
    }

    /// A claim with several values is a set (`groups`), of which one is enough.
    pub(super) fn matches_claim(&self, request: &Request<'_>) -> bool {
        let mut lines = Lines::default();
        if let Some(claims) = request.claims {
            claims.visit(&self.name, &mut |value| lines.see(self.admits(value)));
        }
        lines.judge(Reading::Some)
    }

    fn admits(&self, value: &[u8]) -> bool {
        self.values.is_empty() || self.values.iter().any(|pattern| pattern.matches(value))
    }
}

/// Each value that the query gives this parameter, decoded.
pub(crate) fn query_values(request: &Request<'_>, name: &str, each: &mut dyn FnMut(&[u8])) {
    for pair in request.query.split('&') {
        let (given, value) = pair.split_once('=').unwrap_or((pair, ""));
        if *decode(given) == *name.as_bytes() {
            each(&decode(value));
        }
    }
}

/// Each value of a cookie. RFC 6265 §5.4: `cookie: a=1; b=2`; HTTP/2 may send each pair in a line of its
/// own.
pub(crate) fn cookie_values(request: &Request<'_>, name: &str, each: &mut dyn FnMut(&[u8])) {
    request.headers.visit("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let value = pair
                .trim_ascii()
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="));
            if let Some(value) = value {
                each(value);
            }
        }
    });
}

/// What the lines seen so far amount to.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    matching: bool,
    failing: bool,
}

impl Lines {
    fn see(&mut self, matches: bool) {
        self.matching |= matches;
        self.failing |= !matches;
    }

    fn judge(self, reading: Reading) -> bool {
        match reading {
            Reading::Every | Reading::MatchNot => self.matching && !self.failing,
            Reading::Some | Reading::Match => self.matching,
        }
    }
}

/// Form decoding of a name or value of a query. What is not an escape stays as it is.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (*first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => byte,
        });
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for FieldMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.values
            .iter()
            .try_for_each(|value| write!(f, " {value}"))
    }
}

impl fmt::Display for StringMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern.kind {
            StringMatchKind::Exact(text) => write!(f, "{text:?}")?,
            StringMatchKind::Prefix(text) => write!(f, "prefix={text:?}")?,
            StringMatchKind::Suffix(text) => write!(f, "suffix={text:?}")?,
            StringMatchKind::Contains(text) => write!(f, "contains={text:?}")?,
            StringMatchKind::Regex(text) => write!(f, "regex={text:?}")?,
        }
        if self.pattern.ignore_case {
            f.write_str(" case=ignore")
        } else {
            Ok(())
        }
    }
}
