//! What a path pattern captured of a request's path, and the paths that are made of it.

use crate::condition::{ConditionMatcher, Reading};
use crate::limits;
use crate::path::{
    NormalisedPath, PathError, PathMatcher, PathPatternError, PathTemplate, Segment,
};
use crate::request::Request;
use crate::route::path_ranks;

/// What the pattern that takes a request captured of its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures<'t, 'r> {
    rest: &'r str,
    named: Vec<(&'t str, &'r str)>,
}

impl<'t, 'r> Captures<'t, 'r> {
    pub(crate) fn new(rest: &'r str, named: Vec<(&'t str, &'r str)>) -> Self {
        Self { rest, named }
    }

    /// What `**` took: nothing, or text that begins with a slash.
    pub fn rest(&self) -> &'r str {
        self.rest
    }

    /// What `{name}` took.
    pub fn named(&self, name: &str) -> Option<&'r str> {
        let found = self.named.iter().find(|(named, _)| *named == name);
        found.map(|(_, text)| *text)
    }

    /// What the most specific of the patterns that take the request captured; without a condition on
    /// paths the whole path, as `/**` does.
    pub(crate) fn of(matches: &'t [Box<[ConditionMatcher]>], request: &Request<'r>) -> Self {
        let path: &'r NormalisedPath<'r> = request.path;
        let holds = |all: &[ConditionMatcher]| {
            all.iter()
                .all(|condition| condition.matches(request, Reading::Match))
        };
        let mut best: Option<&'t PathMatcher> = None;
        let held = matches.iter().filter(|all| holds(all));
        for pattern in held.flat_map(|all| patterns(all)) {
            if pattern.matches(path)
                && best.is_none_or(|best| path_ranks(best) < path_ranks(pattern))
            {
                best = Some(pattern);
            }
        }
        match best {
            Some(pattern) => pattern.capture(path),
            None => Self::new(path.as_str(), Vec::new()),
        }
    }
}

/// The path patterns of one match.
fn patterns(all: &[ConditionMatcher]) -> impl Iterator<Item = &PathMatcher> {
    all.iter().flat_map(|condition| match condition {
        ConditionMatcher::Path(patterns) => &**patterns,
        _ => &[],
    })
}

/// A path with places for what a pattern captured.
#[derive(Clone, Debug)]
pub struct PathRewrite {
    parts: Box<[Part]>,
    rest: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<str>),
    Named(Box<str>),
}

/// Why a path with captures is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathRewriteError {
    /// Not a path.
    #[error(transparent)]
    Template(#[from] PathPatternError),
    /// `*`: what it stands for has no name.
    #[error("\"*\" has no name to be written by; name the segment of the pattern, \"{{x}}\"")]
    Unnamed,
    /// A pattern of the route lacks it.
    #[error("a path pattern of the route has no \"{0}\" to capture")]
    NotCaptured(String),
}

impl PathRewrite {
    /// Reads a path whose captures all patterns of these matches have.
    pub(crate) fn build(
        text: &str,
        matches: &[Box<[ConditionMatcher]>],
    ) -> Result<Self, PathRewriteError> {
        let template = PathTemplate::parse(text)?;
        let part = |(segment, name): (&Segment, Option<&str>)| match (segment, name) {
            (Segment::Literal(text), _) => Ok(Part::Literal(text.clone())),
            (Segment::One, Some(name)) => Ok(Part::Named(name.into())),
            (Segment::One, None) => Err(PathRewriteError::Unnamed),
        };
        let rewrite = Self {
            parts: template
                .named_segments()
                .map(part)
                .collect::<Result<_, _>>()?,
            rest: template.takes_rest(),
        };
        if matches.is_empty() {
            rewrite.check(None)?;
        }
        for all in matches {
            let mut any = false;
            for pattern in patterns(all) {
                any = true;
                rewrite.check(Some(pattern))?;
            }
            if !any {
                rewrite.check(None)?;
            }
        }
        Ok(rewrite)
    }

    /// Without a pattern there is `/**`.
    fn check(&self, pattern: Option<&PathMatcher>) -> Result<(), PathRewriteError> {
        let template = pattern.and_then(PathMatcher::template);
        let has_rest = match (pattern, template) {
            (None, _) => true,
            (Some(_), template) => template.is_some_and(PathTemplate::takes_rest),
        };
        if self.rest && !has_rest {
            return Err(PathRewriteError::NotCaptured("**".to_owned()));
        }
        for part in &self.parts {
            if let Part::Named(name) = part
                && !template.is_some_and(|template| template.names(name))
            {
                return Err(PathRewriteError::NotCaptured(format!("{{{name}}}")));
            }
        }
        Ok(())
    }

    /// The path made of what was captured. What is captured and what is written are in canonical form,
    /// and so is what they make together.
    pub fn apply(&self, captures: &Captures<'_, '_>) -> Result<NormalisedPath<'static>, PathError> {
        let mut path = String::new();
        for part in &self.parts {
            path.push('/');
            path.push_str(match part {
                Part::Literal(text) => text,
                Part::Named(name) => captures.named(name).unwrap_or_default(),
            });
        }
        if self.rest {
            path.push_str(captures.rest);
        }
        if path.is_empty() {
            path.push('/');
        }
        if path.len() > limits::PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        Ok(NormalisedPath::of_canonical(path))
    }
}
