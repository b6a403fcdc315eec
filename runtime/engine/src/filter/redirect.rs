//! Tells the client to go elsewhere.

use std::fmt::Write as _;

use mesh_bundle::slice::Redirect;

use super::FilterError;
use super::capture::{Captures, PathRewrite};
use super::rewrite::{build_host, build_path};
use crate::condition::ConditionMatcher;
use crate::path::{NormalisedPath, PathError};

/// A redirect, compiled.
#[derive(Clone, Debug)]
pub struct RedirectPolicy {
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<PathRewrite>,
    status: u16,
}

/// Where the client thought that it was.
#[derive(Clone, Copy, Debug)]
pub struct Received<'r> {
    /// `http` or `https`.
    pub scheme: &'r str,
    /// Host as in [`crate::host::Authority::host`].
    pub host: &'r str,
    /// The port of its authority, if it gave one.
    pub port: Option<u16>,
    /// Its path.
    pub path: &'r NormalisedPath<'r>,
    /// Its query, without `?`.
    pub query: &'r str,
}

impl RedirectPolicy {
    pub(crate) fn build(
        redirect: &Redirect,
        matches: &[Box<[ConditionMatcher]>],
    ) -> Result<Self, FilterError> {
        if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
            return Err(FilterError::Status(redirect.status));
        }
        Ok(Self {
            scheme: redirect.scheme.as_deref().map(Into::into),
            host: build_host(redirect.host.as_deref())?,
            port: redirect.port,
            path: build_path(redirect.path.as_deref(), matches)?,
            status: redirect.status,
        })
    }

    /// Status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The `location` of the answer, always absolute. Another scheme without a port means the port of that
    /// scheme; the port of a scheme is not written. The query goes along.
    pub fn location(
        &self,
        received: &Received<'_>,
        captures: &Captures<'_, '_>,
    ) -> Result<String, PathError> {
        let scheme = self.scheme.as_deref().unwrap_or(received.scheme);
        let host = self.host.as_deref().unwrap_or(received.host);
        let port = match (self.port, &self.scheme, &self.host) {
            (Some(port), _, _) => Some(port),
            // The received port belongs to the received scheme and host.
            (None, None, None) => received.port,
            (None, _, _) => None,
        };
        let mut location = format!("{scheme}://{host}");
        if let Some(port) = port.filter(|port| *port != default_port(scheme)) {
            write!(location, ":{port}").expect("writing to a String cannot fail");
        }
        match &self.path {
            Some(path) => location.push_str(path.apply(captures)?.as_str()),
            None => location.push_str(received.path.as_str()),
        }
        if !received.query.is_empty() {
            location.push('?');
            location.push_str(received.query);
        }
        Ok(location)
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    #[track_caller]
    fn check(redirect: &Redirect, received: &str, expected: &str) {
        let policy = RedirectPolicy::build(redirect, &[]).unwrap();
        let (scheme, rest) = received.split_once("://").unwrap();
        let (authority, target) = rest.split_once('/').unwrap();
        let authority = crate::host::normalise(authority).unwrap();
        let target = format!("/{target}");
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = path::normalise(path).unwrap();
        let received = Received {
            scheme,
            host: authority.host(),
            port: authority.port(),
            path: &path,
            query,
        };
        let captures = Captures::new(path.as_str(), Vec::new());
        assert_eq!(policy.location(&received, &captures).unwrap(), expected);
    }

    fn to(change: impl FnOnce(&mut Redirect)) -> Redirect {
        let mut redirect = Redirect::default();
        change(&mut redirect);
        redirect
    }

    #[test]
    fn what_is_not_said_stays() {
        let https = to(|to| to.scheme = Some("https".into()));
        check(&https, "http://shop:8080/a?b=c", "https://shop/a?b=c");
        check(&https, "http://shop/", "https://shop/");
        let host = to(|to| to.host = Some("Other.Example".into()));
        check(&host, "http://shop:8080/a", "http://other.example/a");
        let path = to(|to| to.path = Some("/new/**".into()));
        check(
            &path,
            "http://shop:8080/a/b?q",
            "http://shop:8080/new/a/b?q",
        );
        check(&path, "http://shop:80/a", "http://shop/new/a");
        let fixed = to(|to| to.path = Some("/gone".into()));
        check(&fixed, "https://[::1]:8443/a", "https://[::1]:8443/gone");
        let port = to(|to| {
            to.scheme = Some("https".into());
            to.port = Some(8443);
        });
        check(&port, "http://shop/a", "https://shop:8443/a");
        let default = to(|to| {
            to.scheme = Some("https".into());
            to.port = Some(443);
        });
        check(&default, "http://shop:80/a", "https://shop/a");
    }

    #[test]
    fn refuses_what_is_no_redirect() {
        let odd = to(|to| to.status = 304);
        assert_eq!(
            RedirectPolicy::build(&odd, &[]).unwrap_err(),
            FilterError::Status(304)
        );
        let host = to(|to| to.host = Some("a b".into()));
        assert!(RedirectPolicy::build(&host, &[]).is_err());
        let port = to(|to| to.host = Some("a:80".into()));
        assert!(RedirectPolicy::build(&port, &[]).is_err());
    }
}
