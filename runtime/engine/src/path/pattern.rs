//! Patterns over normalised paths: templates and regular expressions.

use std::fmt;

use mesh_bundle::slice::{PathPattern, PathPatternKind};

use super::{Accepts, BareNonAscii, NormalisedPath, PathError, canonical_escapes};
use crate::filter::Captures;
use crate::limits;
use crate::regex::{Regex, RegexError};

/// A compiled path pattern.
#[derive(Clone, Debug)]
pub struct PathMatcher {
    kind: Kind,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Template(PathTemplate),
    Regex(Regex),
}

/// A path template, with its literal segments as normalised paths have them.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Of `{name}`s, by position among the segments.
    names: Box<[(usize, Box<str>)]>,
    /// Ends in `/**`.
    rest: bool,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this canonical text.
    Literal(Box<str>),
    /// `*` and `{name}`: any, but not empty.
    One,
}

/// How a pattern goes on after its fixed segments: its place in the route index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It ends there.
    End,
    /// `/**`.
    Rest,
    /// By a regular expression.
    Regex,
}

/// Why a path pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// It does not begin with `/`.
    #[error("the path pattern does not begin with a slash")]
    NotAbsolute,
    /// Longer than [`limits::PATTERN_BYTES_MAX`].
    #[error("the path pattern is longer than {} bytes", limits::PATTERN_BYTES_MAX)]
    TooLong,
    /// More than [`limits::PATTERN_SEGMENTS_MAX`].
    #[error(
        "the path pattern has more than {} segments",
        limits::PATTERN_SEGMENTS_MAX
    )]
    TooManySegments,
    /// `//`, `/./` or `/../`: normalised paths have none.
    #[error("the path pattern holds an empty or dot segment, which no normalised path has")]
    NeverMatches,
    /// `/a*`: a wildcard is a whole segment.
    #[error("segment \"{0}\" mixes a wildcard with text; a wildcard is a whole segment")]
    PartialWildcard(String),
    /// `**` in the middle.
    #[error("\"**\" stands only at the end of a path pattern")]
    RestNotLast,
    /// `{}` or a name given twice.
    #[error("segment \"{0}\" has no name of its own")]
    BadName(String),
    /// A byte or escape that no normalised path has.
    #[error(transparent)]
    Literal(#[from] PathError),
    /// Not a usable regular expression.
    #[error(transparent)]
    Regex(#[from] RegexError),
}

impl PathMatcher {
    /// Compiles a pattern.
    pub fn compile(pattern: &PathPattern) -> Result<Self, PathPatternError> {
        let kind = match &pattern.kind {
            PathPatternKind::Template(text) => Kind::Template(PathTemplate::parse(text)?),
            PathPatternKind::Regex(text) => Kind::Regex(Regex::new(text, pattern.ignore_case)?),
        };
        Ok(Self {
            kind,
            ignore_case: pattern.ignore_case,
        })
    }

    /// Whether it takes the path as it stands or as somebody else may read it, see [`NormalisedPath::readings`].
    pub fn matches_by_any_reading(&self, path: &NormalisedPath<'_>) -> bool {
        self.matches(path) || path.readings().iter().any(|path| self.matches(path))
    }

    /// Whether the pattern takes this path.
    pub fn matches(&self, path: &NormalisedPath<'_>) -> bool {
        match &self.kind {
            Kind::Template(template) => template.matches(path, self.ignore_case),
            Kind::Regex(regex) => regex.is_match(path.as_str().as_bytes()),
        }
    }

    /// What the pattern captures of a path that it takes; a regular expression captures nothing.
    pub(crate) fn capture<'t, 'r>(&'t self, path: &'r NormalisedPath<'r>) -> Captures<'t, 'r> {
        match &self.kind {
            Kind::Template(template) => template.capture(path),
            Kind::Regex(_) => Captures::default(),
        }
    }

    /// The template, unless it is a regular expression.
    pub(crate) fn template(&self) -> Option<&PathTemplate> {
        match &self.kind {
            Kind::Template(template) => Some(template),
            Kind::Regex(_) => None,
        }
    }

    /// Whether it is a template, and not a regular expression.
    pub(crate) fn is_template(&self) -> bool {
        matches!(self.kind, Kind::Template(_))
    }

    /// The fixed segments that every path taken begins with, and how the pattern goes on.
    pub(crate) fn place(&self) -> (Vec<Segment>, Placement) {
        match &self.kind {
            Kind::Template(template) => {
                let end = if template.rest {
                    Placement::Rest
                } else {
                    Placement::End
                };
                (template.segments.to_vec(), end)
            }
            Kind::Regex(regex) => (literal_segments(regex.as_str()), Placement::Regex),
        }
    }
}

impl PathTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        if text.len() > limits::PATTERN_BYTES_MAX {
            return Err(PathPatternError::TooLong);
        }
        let relative = text
            .strip_prefix('/')
            .ok_or(PathPatternError::NotAbsolute)?;
        let mut segments = Vec::new();
        let mut names: Vec<(usize, &str)> = Vec::new();
        let mut rest = false;
        let mut given = relative.split('/').peekable();
        while let Some(segment) = given.next() {
            let last = given.peek().is_none();
            if segments.len() == limits::PATTERN_SEGMENTS_MAX {
                return Err(PathPatternError::TooManySegments);
            }
            match segment {
                "**" if last => rest = true,
                "**" => return Err(PathPatternError::RestNotLast),
                "*" => segments.push(Segment::One),
                "" if !last => return Err(PathPatternError::NeverMatches),
                _ if segment.contains(['*', '{', '}']) => {
                    names.push((segments.len(), variable(segment, &names)?));
                    segments.push(Segment::One);
                }
                _ => segments.push(literal(segment)?),
            }
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
            names: names
                .into_iter()
                .map(|(position, name)| (position, name.into()))
                .collect(),
            rest,
        })
    }

    /// What every path taken begins with.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends in `/**`, and takes everything below those segments too.
    pub fn takes_rest(&self) -> bool {
        self.rest
    }

    /// The segments, each with its name if it has one.
    pub(crate) fn named_segments(&self) -> impl Iterator<Item = (&Segment, Option<&str>)> {
        let name = |position: usize| {
            let found = self.names.iter().find(|(at, _)| *at == position);
            found.map(|(_, name)| &**name)
        };
        let segments = self.segments.iter().enumerate();
        segments.map(move |(position, segment)| (segment, name(position)))
    }

    /// Whether a segment has this name.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.names.iter().any(|(_, given)| **given == *name)
    }

    /// What a path that the template takes has in its places.
    fn capture<'t, 'r>(&'t self, path: &'r NormalisedPath<'r>) -> Captures<'t, 'r> {
        let named = self.named_segments().zip(path.segments());
        let named = named.filter_map(|((_, name), text)| Some((name?, text)));
        let rest = match path.as_str().match_indices('/').nth(self.segments.len()) {
            Some((slash, _)) if self.rest => path.as_str().get(slash..).unwrap_or_default(),
            _ => "",
        };
        Captures::new(rest, named.collect())
    }

    fn matches(&self, path: &NormalisedPath<'_>, ignore_case: bool) -> bool {
        let mut given = path.segments();
        for segment in &self.segments {
            let taken = match (segment, given.next()) {
                (Segment::Literal(literal), Some(text)) if ignore_case => {
                    text.eq_ignore_ascii_case(literal)
                }
                (Segment::Literal(literal), Some(text)) => text == &**literal,
                (Segment::One, Some(text)) => !text.is_empty(),
                (_, None) => false,
            };
            if !taken {
                return false;
            }
        }
        self.rest || given.next().is_none()
    }
}

fn literal(segment: &str) -> Result<Segment, PathPatternError> {
    let canonical = canonical_escapes(segment, BareNonAscii::Escape, Accepts::default())?;
    if matches!(canonical.as_str(), "." | "..") {
        return Err(PathPatternError::NeverMatches);
    }
    Ok(Segment::Literal(canonical.into()))
}

/// The name in `{name}`.
fn variable<'t>(segment: &'t str, names: &[(usize, &str)]) -> Result<&'t str, PathPatternError> {
    let name = segment
        .strip_prefix('{')
        .and_then(|open| open.strip_suffix('}'))
        .filter(|name| !name.contains(['*', '{', '}']))
        .ok_or_else(|| PathPatternError::PartialWildcard(segment.to_owned()))?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.bytes().all(good) || names.iter().any(|(_, given)| *given == name) {
        return Err(PathPatternError::BadName(segment.to_owned()));
    }
    Ok(name)
}

/// The whole literal segments that every path taken by the regular expression begins with. It errs on
/// the side of fewer.
fn literal_segments(pattern: &str) -> Vec<Segment> {
    // A branch anywhere may be a branch at the top.
    if pattern.contains('|') {
        return Vec::new();
    }
    let mut prefix = String::new();
    let mut rest = pattern
        .strip_prefix('^')
        .unwrap_or(pattern)
        .chars()
        .peekable();
    while let Some(character) = rest.next() {
        let literal = match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '/' | '-' | '_' | '~' | '%' | '@' | ':' => {
                character
            }
            '\\' => match rest.next() {
                Some(escaped @ ('.' | '-' | '/' | '~' | '+' | '(' | ')' | '*' | '$')) => escaped,
                _ => break,
            },
            _ => break,
        };
        // A quantifier belongs to the character before it.
        if matches!(rest.peek(), Some('?' | '*' | '+' | '{')) {
            break;
        }
        prefix.push(literal);
    }
    let Some((whole, _open)) = prefix.rsplit_once('/') else {
        return Vec::new();
    };
    whole
        .split('/')
        .skip(1)
        .take(limits::PATTERN_SEGMENTS_MAX)
        .map(|segment| Segment::Literal(segment.into()))
        .collect()
}

impl fmt::Display for PathMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Template(template) => write!(f, "{:?}", template.text),
            Kind::Regex(regex) => write!(f, "regex={:?}", regex.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::normalise;

    #[track_caller]
    fn check(pattern: &PathPattern, taken: &[&str], refused: &[&str]) {
        let matcher = PathMatcher::compile(pattern).unwrap();
        for path in taken {
            assert!(
                matcher.matches(&normalise(path).unwrap()),
                "{matcher} takes {path}"
            );
        }
        for path in refused {
            assert!(
                !matcher.matches(&normalise(path).unwrap()),
                "{matcher} refuses {path}"
            );
        }
    }

    fn template(text: &str) -> PathPattern {
        crate::testing::template(text, false)
    }

    fn regex(text: &str) -> PathPattern {
        PathPattern {
            kind: PathPatternKind::Regex(text.into()),
            ignore_case: false,
        }
    }

    /// design.md, *Paths*: "`"/a"` is exact and not `"/a/"`; `*` and `{name}` take one whole non-empty
    /// segment; `/a/**` takes `/a`, `/a/` and all below; `regex="…"` takes the whole path".
    #[test]
    fn templates() {
        check(
            &template("/a"),
            &["/a", "/%61", "//a"],
            &["/a/", "/", "/ab", "/A", "/a/b"],
        );
        check(&template("/a/"), &["/a/"], &["/a", "/a/b"]);
        check(&template("/"), &["/"], &["/a"]);
        check(
            &template("/a/*"),
            &["/a/b", "/a/%2A"],
            &["/a", "/a/", "/a/b/", "/a/b/c"],
        );
        check(&template("/{x}/b"), &["/a/b"], &["/b", "/a/a/b"]);
        check(
            &template("/a/**"),
            &["/a", "/a/", "/a/b", "/a/b/c/"],
            &["/", "/ab", "/b/a"],
        );
        check(&template("/**"), &["/", "/a", "/a/b"], &[]);
        check(&template("/*/**"), &["/a", "/a/", "/a/b"], &["/"]);
        check(
            &crate::testing::template("/Aa/**", true),
            &["/aA/b"],
            &["/ab"],
        );
    }

    #[test]
    fn regexes_take_the_whole_path() {
        check(&regex("/a/[0-9]+"), &["/a/7"], &["/a/7/", "/b/a/7", "/a/x"]);
        check(&regex("/a|/b"), &["/a", "/b"], &["/ab"]);
    }

    /// What is written in a policy is brought into the form that requests come in.
    #[test]
    fn literals_are_normalised() {
        check(&template("/é/%7ea"), &["/%c3%a9/~a"], &[]);
        let both = ["/v1/things:delete", "/v1/things%3Adelete"];
        for written in both {
            check(&template(written), &both, &["/v1/things"]);
        }
        // An escaped asterisk is an asterisk, not a wildcard.
        check(&template("/%2A"), &["/*", "/%2a"], &["/a"]);
    }

    #[track_caller]
    fn check_refused(pattern: &str, expected: &str) {
        let error = PathMatcher::compile(&template(pattern)).unwrap_err();
        assert_eq!(error.to_string(), expected, "{pattern}");
    }

    #[test]
    fn refuses_what_can_never_match() {
        check_refused("a", "the path pattern does not begin with a slash");
        check_refused(
            "/a//b",
            "the path pattern holds an empty or dot segment, which no normalised path has",
        );
        check_refused(
            "/a/../b",
            "the path pattern holds an empty or dot segment, which no normalised path has",
        );
        check_refused(
            "/a*",
            "segment \"a*\" mixes a wildcard with text; a wildcard is a whole segment",
        );
        check_refused("/{}", "segment \"{}\" has no name of its own");
        check_refused("/{x}/{x}", "segment \"{x}\" has no name of its own");
        check_refused("/**/a", "\"**\" stands only at the end of a path pattern");
        check_refused("/a b", "the path holds a space or control byte");
        check_refused("/a%2fb", "the path holds an escaped slash");
        check_refused("/a;b", "the path holds a semicolon");
        check_refused(
            &"/a".repeat(65),
            "the path pattern has more than 64 segments",
        );
        check_refused(
            &format!("/{}", "a".repeat(4096)),
            "the path pattern is longer than 4096 bytes",
        );
    }

    #[track_caller]
    fn check_prefix(pattern: &str, expected: &[&str]) {
        let segments: Vec<_> = expected
            .iter()
            .map(|text| Segment::Literal((*text).into()))
            .collect();
        assert_eq!(literal_segments(pattern), segments, "{pattern}");
    }

    #[test]
    fn literal_prefix_of_a_regex_errs_on_the_side_of_fewer() {
        check_prefix("/a/b/[0-9]+", &["a", "b"]);
        check_prefix("/a/b", &["a"]);
        check_prefix(r"^/a\.b/c?/d", &["a.b"]);
        check_prefix("/a/?b", &[]);
        check_prefix("/a/b|/c/d", &[]);
        check_prefix("(?i)/a/b/", &[]);
        check_prefix("/a/(b)/c", &["a"]);
        check_prefix("/[a]/b", &[]);
        check_prefix(r"/a/\d/", &["a"]);
        check_prefix("", &[]);
    }
}
