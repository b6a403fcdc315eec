//! What a path may hold that is refused elsewhere, where a route says so.

use std::borrow::Cow;

use mesh_bundle::slice::PathAccepts;

use super::{NormalisedPath, PathError, resolve};

/// Whether encoded slashes, encoded backslashes and semicolons may be in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Accepts {
    pub(super) slash: bool,
    pub(super) backslash: bool,
    pub(super) semicolon: bool,
}

impl Accepts {
    /// Whatever any route may accept.
    pub(super) const ALL: Self = Self {
        slash: true,
        backslash: true,
        semicolon: true,
    };

    /// Those of a route.
    pub fn new(accepts: &[PathAccepts]) -> Self {
        Self {
            slash: accepts.contains(&PathAccepts::EncodedSlash),
            backslash: accepts.contains(&PathAccepts::EncodedBackslash),
            semicolon: accepts.contains(&PathAccepts::Semicolon),
        }
    }

    /// What either accepts. A path is brought into its form before its route is known: with what all
    /// routes accept together, and then the route that takes it [`Self::allow`]s it or not.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            slash: self.slash || other.slash,
            backslash: self.backslash || other.backslash,
            semicolon: self.semicolon || other.semicolon,
        }
    }

    /// Whether the escape of this byte stays.
    pub(super) fn escape(self, decoded: u8) -> bool {
        match decoded {
            b'/' => self.slash,
            b'\\' => self.backslash,
            _ => false,
        }
    }

    /// Refuses a path that holds what is not accepted.
    pub fn allow(self, path: &NormalisedPath<'_>) -> Result<(), PathError> {
        let text = path.as_str();
        if !self.slash && text.contains("%2F") {
            return Err(PathError::EncodedSlash);
        }
        if !self.backslash && text.contains("%5C") {
            return Err(PathError::EncodedBackslash);
        }
        if !self.semicolon && text.contains(';') {
            return Err(PathError::Semicolon);
        }
        Ok(())
    }
}

/// What only some routes accept, as it stands in a path, and the rule that refuses it elsewhere.
const MARKS: [(&str, PathError); 3] = [
    (";", PathError::Semicolon),
    ("%2F", PathError::EncodedSlash),
    ("%5C", PathError::EncodedBackslash),
];

/// Refuses a segment that whoever decodes it, or cuts its parameters off, would read as a step up:
/// `..%2Fadmin`, `..;x`. It is asked only of paths that hold what only some routes accept.
pub(super) fn check_hidden_steps(path: &str) -> Result<(), PathError> {
    for segment in path.split('/') {
        let Some((_, refusal)) = MARKS.iter().find(|(mark, _)| segment.contains(mark)) else {
            continue;
        };
        let mut pieces = vec![segment];
        for (mark, _) in MARKS {
            pieces = pieces.iter().flat_map(|piece| piece.split(mark)).collect();
        }
        if pieces.iter().any(|piece| matches!(*piece, "." | "..")) {
            return Err(*refusal);
        }
    }
    Ok(())
}

/// Refuses a step up over a segment that holds what only some routes accept: `/a;b/..`, `/a%2Fb/..`. Servers disagree
/// on how many levels such a segment is; and resolved, the path would be taken by routes that refuse it as it came.
pub(super) fn check_steps_over(escaped: &str, resolved: &str) -> Result<(), PathError> {
    for (mark, refusal) in MARKS {
        if escaped.matches(mark).count() != resolved.matches(mark).count() {
            return Err(refusal);
        }
    }
    Ok(())
}

/// What servers read in a path with what only some routes accept, each once and none as it stands: those that decode
/// its escapes, those that cut parameters off, and those that do both, in either order.
pub(super) fn readings(path: &str, accepts: Accepts) -> Vec<NormalisedPath<'static>> {
    if accepts == Accepts::default() || !MARKS.iter().any(|(mark, _)| path.contains(mark)) {
        return Vec::new();
    }
    let slashes = |text: &str| text.replace("%2F", "/");
    let backslashes = |text: &str| text.replace("%5C", "/");
    let both = |text: &str| backslashes(&slashes(text));
    let decoders: [&dyn Fn(&str) -> String; 3] = [&slashes, &backslashes, &both];
    let bare = without_parameters(path);
    let mut texts = vec![resolve(&bare)];
    for decode in decoders {
        let decoded = decode(path);
        texts.push(resolve(&without_parameters(&decoded)));
        texts.push(resolve(&decode(&bare)));
        texts.push(resolve(&decoded));
    }
    texts.sort_unstable();
    texts.dedup();
    texts.retain(|text| text != path);
    let reading = |text| NormalisedPath {
        text: Cow::Owned(text),
        readings: Vec::new(),
    };
    texts.into_iter().map(reading).collect()
}

/// Each segment up to its first semicolon (RFC 3986 §3.3 knows these parameters, and leaves their meaning to servers).
fn without_parameters(path: &str) -> String {
    let names = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::{normalise, normalise_accepting};

    const ALL: Accepts = Accepts::ALL;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, PathError>) {
        let path = normalise_accepting(raw, ALL);
        assert_eq!(
            path.as_ref().map(NormalisedPath::as_str),
            expected.as_ref().copied(),
            "{raw}"
        );
    }

    #[test]
    fn what_is_accepted_has_one_form() {
        check("/a%2fb", Ok("/a%2Fb"));
        check("/a%5cb", Ok("/a%5Cb"));
        check("/a;b=1", Ok("/a;b=1"));
        check("/a%3Bb", Ok("/a;b"));
        check("/a/%2e%2e/b%2Fc", Ok("/b%2Fc"));
        // Nothing else is accepted with it.
        check("/a\\b", Err(PathError::Backslash));
        check("/a%00", Err(PathError::Control));
    }

    /// What decodes an escape, or cuts parameters off, must not find a step up behind it.
    #[test]
    fn steps_that_hide_are_refused() {
        check("/a/..%2fadmin", Err(PathError::EncodedSlash));
        check("/a/x%2f..", Err(PathError::EncodedSlash));
        check("/a/..;/admin", Err(PathError::Semicolon));
        check("/a/..;x=1", Err(PathError::Semicolon));
        check("/a/.%2e%5cadmin", Err(PathError::EncodedBackslash));
        check("/a/.;/b", Err(PathError::Semicolon));
        check("/a/..b%2Fc", Ok("/a/..b%2Fc"));
    }

    /// Where the step leads depends on how many levels the segment before it is.
    #[test]
    fn steps_over_what_is_accepted_are_refused() {
        check("/;/..", Err(PathError::Semicolon));
        check("/a;b/../c", Err(PathError::Semicolon));
        check("/a%2Fb/../c", Err(PathError::EncodedSlash));
        check("/a%5Cb/%2e%2e/c", Err(PathError::EncodedBackslash));
        check("/a;b/x/../c", Ok("/a;b/c"));
        check("/a;b/./c", Ok("/a;b/c"));
    }

    #[test]
    fn what_servers_may_read() {
        let readings = |raw| {
            let path = normalise_accepting(raw, ALL).unwrap();
            let texts = path.readings().iter().map(NormalisedPath::as_str);
            texts.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(readings("/a/b"), [""; 0]);
        assert_eq!(readings("/a;x/b"), ["/a/b"]);
        assert_eq!(readings("/a/;/b"), ["/a/b"]);
        assert_eq!(readings("/a%2fb"), ["/a/b"]);
        assert_eq!(readings("/%5ca"), ["/a"]);
        assert_eq!(readings("/a;x%2Fb"), ["/a", "/a/b", "/a;x/b"]);
        assert_eq!(readings("/a%2Fb%5Cc"), ["/a%2Fb/c", "/a/b%5Cc", "/a/b/c"]);
    }

    #[test]
    fn each_alone() {
        let alone = |accepts| Accepts::new(&[accepts]);
        let slash = alone(PathAccepts::EncodedSlash);
        assert!(normalise_accepting("/a%2Fb", slash).is_ok());
        let refused = normalise_accepting("/a%5Cb", slash);
        assert_eq!(refused, Err(PathError::EncodedBackslash));
        let both = slash.or(alone(PathAccepts::Semicolon));
        let path = normalise_accepting("/a%2Fb;c", both).unwrap();
        assert_eq!(both.allow(&path), Ok(()));
        assert_eq!(slash.allow(&path), Err(PathError::Semicolon));
        assert_eq!(
            Accepts::default().allow(&path),
            Err(PathError::EncodedSlash)
        );
    }

    proptest! {
        /// Accepting more changes no path that is taken without it, and what is made is its own form.
        #[test]
        fn accepting_more_changes_nothing_else(raw in "(/|/[a.;%25cCfF\\\\]{0,6}){1,4}") {
            let strict = normalise(&raw);
            let lax = normalise_accepting(&raw, ALL);
            if let Ok(strict) = &strict {
                prop_assert_eq!(lax.as_ref(), Ok(strict));
            }
            if let Ok(lax) = lax {
                let again = normalise_accepting(lax.as_str(), ALL);
                prop_assert_eq!(again.as_ref(), Ok(&lax));
                prop_assert_eq!(strict.is_ok(), Accepts::default().allow(&lax).is_ok());
            }
        }
    }
}
