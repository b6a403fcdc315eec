//! Another path or host for the request.

use mesh_bundle::slice::Rewrite;

use super::FilterError;
use super::capture::{Captures, PathRewrite};
use crate::condition::ConditionMatcher;
use crate::host;
use crate::path::{NormalisedPath, PathError};

/// A rewrite, compiled.
#[derive(Clone, Debug)]
pub struct RewritePolicy {
    path: Option<PathRewrite>,
    host: Option<Box<str>>,
}

/// What is left as it was received is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten<'t> {
    /// The path.
    pub path: Option<NormalisedPath<'static>>,
    /// The host.
    pub host: Option<&'t str>,
}

impl RewritePolicy {
    pub(crate) fn build(
        rewrite: &Rewrite,
        matches: &[Box<[ConditionMatcher]>],
    ) -> Result<Self, FilterError> {
        Ok(Self {
            path: build_path(rewrite.path.as_deref(), matches)?,
            host: build_host(rewrite.host.as_deref())?,
        })
    }

    /// The rewritten request. An error is a path too long to be sent.
    pub fn apply(&self, captures: &Captures<'_, '_>) -> Result<Rewritten<'_>, PathError> {
        let path = self.path.as_ref().map(|path| path.apply(captures));
        Ok(Rewritten {
            path: path.transpose()?,
            host: self.host.as_deref(),
        })
    }

    /// The host that replaces the received one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

pub(super) fn build_path(
    path: Option<&str>,
    matches: &[Box<[ConditionMatcher]>],
) -> Result<Option<PathRewrite>, FilterError> {
    let build = |path: &str| {
        PathRewrite::build(path, matches).map_err(|source| FilterError::Path {
            path: path.to_owned(),
            source,
        })
    };
    path.map(build).transpose()
}

/// A host in its normal form; a port is no part of it.
pub(super) fn build_host(host: Option<&str>) -> Result<Option<Box<str>>, FilterError> {
    let build = |text: &str| {
        let authority = host::normalise(text).map_err(|source| FilterError::Host {
            host: text.to_owned(),
            source,
        })?;
        if authority.port().is_some() {
            return Err(FilterError::Host {
                host: text.to_owned(),
                source: host::HostError::BadByte,
            });
        }
        Ok(authority.host().into())
    };
    host.map(build).transpose()
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{Route, RouteMatch};

    use super::*;
    use crate::request::Request;
    use crate::route::CalleeTable;
    use crate::testing::{all, callee, method, not, path as path_is, regex, route};
    use crate::{path, route};

    fn rewriting(path: &str, matches: Vec<RouteMatch>) -> Result<CalleeTable, route::RouteError> {
        let mut route: Route = route("r", matches);
        route.filters.rewrite = Some(Rewrite {
            path: Some(path.to_owned()),
            host: None,
        });
        CalleeTable::build(&callee("shop", vec![route]))
    }

    #[track_caller]
    fn check(pattern: &str, to: &str, cases: &[(&str, &str)]) {
        let table = rewriting(to, vec![all([path_is(pattern)])]).unwrap();
        for (received, expected) in cases {
            let received = path::normalise(received).unwrap();
            let request = Request::new("GET", "shop", &received);
            let route = table.route(&request).unwrap();
            let rewritten = route.rewrite(&request).unwrap();
            let path = rewritten.path.unwrap();
            assert_eq!(path.as_str(), *expected, "{pattern} -> {to}: {received}");
            // What is made is canonical: normalising it changes nothing.
            assert_eq!(path::normalise(path.as_str()).unwrap(), path);
        }
    }

    #[test]
    fn stars_and_names_stand_for_what_was_captured() {
        check(
            "/a/**",
            "/b/**",
            &[
                ("/a", "/b"),
                ("/a/", "/b/"),
                ("/a/x", "/b/x"),
                ("/a/x/y/", "/b/x/y/"),
            ],
        );
        check("/a/**", "/**", &[("/a", "/"), ("/a/", "/"), ("/a/x", "/x")]);
        check("/**", "/b/**", &[("/", "/b/"), ("/x", "/b/x")]);
        check(
            "/a/{id}/{part}",
            "/{part}/of/{id}",
            &[("/a/7/b%2Ec", "/b.c/of/7")],
        );
        check("/a/{id}/**", "/b/{id}", &[("/a/7/x/y", "/b/7")]);
        check("/a/*", "/b", &[("/a/x", "/b")]);
        check("/é", "/ü", &[("/%c3%a9", "/%C3%BC")]);
    }

    /// The most specific pattern captures, whatever the order in which they are written.
    #[test]
    fn of_several_patterns_the_most_specific_captures() {
        let several = ["/a/**", "/a/b/**"];
        for patterns in [several, [several[1], several[0]]] {
            let matches = patterns.map(|pattern| all([path_is(pattern)])).to_vec();
            let table = rewriting("/c/**", matches).unwrap();
            let received = path::normalise("/a/b/x").unwrap();
            let request = Request::new("GET", "shop", &received);
            let route = table.route(&request).unwrap();
            let rewritten = route.rewrite(&request).unwrap();
            assert_eq!(rewritten.path.unwrap().as_str(), "/c/x");
        }
    }

    /// A match that does not hold captures nothing.
    #[test]
    fn only_matches_that_hold_capture() {
        let matches = vec![
            all([path_is("/a/**")]),
            all([path_is("/a/b/**"), method("POST")]),
        ];
        let table = rewriting("/c/**", matches).unwrap();
        let received = path::normalise("/a/b/x").unwrap();
        let request = Request::new("GET", "shop", &received);
        let rewritten = table.route(&request).unwrap().rewrite(&request).unwrap();
        assert_eq!(rewritten.path.unwrap().as_str(), "/c/b/x");
    }

    #[test]
    fn without_a_pattern_the_whole_path_is_captured() {
        for matches in [
            Vec::new(),
            vec![all([method("GET")])],
            vec![all([not(path_is("/b"))])],
        ] {
            let table = rewriting("/c/**", matches).unwrap();
            let received = path::normalise("/a/b").unwrap();
            let request = Request::new("GET", "shop", &received);
            let rewritten = table.route(&request).unwrap().rewrite(&request).unwrap();
            assert_eq!(rewritten.path.unwrap().as_str(), "/c/a/b");
        }
    }

    #[test]
    fn a_path_that_grows_too_long_is_an_error() {
        let to = format!("/{}/**", "b".repeat(4_000));
        let table = rewriting(&to, vec![all([path_is("/a/**")])]).unwrap();
        let received = format!("/a/{}", "x".repeat(crate::limits::PATH_BYTES_MAX - 10));
        let received = path::normalise(&received).unwrap();
        let request = Request::new("GET", "shop", &received);
        let rewritten = table.route(&request).unwrap().rewrite(&request);
        assert_eq!(rewritten.unwrap_err(), PathError::TooLong);
    }

    #[track_caller]
    fn refused(path: &str, matches: Vec<RouteMatch>, expected: &str) {
        let error = rewriting(path, matches).unwrap_err();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        assert_eq!(cause.to_string(), expected, "{path}");
    }

    #[test]
    fn refuses_what_is_not_captured() {
        let nothing = "a path pattern of the route has no \"**\" to capture";
        refused("/b/**", vec![all([path_is("/a")])], nothing);
        refused("/b/**", vec![all([regex("/a/.*")])], nothing);
        let some = vec![all([path_is("/a/**")]), all([path_is("/b/*")])];
        refused("/b/**", some, nothing);
        let no_name = "a path pattern of the route has no \"{x}\" to capture";
        refused("/b/{x}", vec![all([path_is("/a/{y}")])], no_name);
        refused("/b/{x}", Vec::new(), no_name);
        refused(
            "/b/*",
            vec![all([path_is("/a/*")])],
            "\"*\" has no name to be written by; name the segment of the pattern, \"{x}\"",
        );
        refused(
            "b",
            Vec::new(),
            "the path pattern does not begin with a slash",
        );
    }
}
