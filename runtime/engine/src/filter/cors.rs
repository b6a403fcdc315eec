//! Which other sites' pages may call: the CORS protocol of the Fetch standard
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>), decided by policy and not by the service.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_bundle::slice::Cors;

use crate::host::{self, HostPattern, HostPatternError};
use crate::request::{HeaderView, Request};

/// Every header by which an answer takes part in the protocol; those of the service are dropped.
const OF_THE_PROTOCOL: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// The CORS policy of a route.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    any_origin: bool,
    origins: Box<[OriginPattern]>,
    methods: List,
    headers: List,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsDecision {
    /// It takes no part in the protocol.
    Pass,
    /// It goes on, and these headers are set in its answer by [`CorsPolicy::answer`].
    Allow {
        /// The origin that may read the answer; `None`: it may not, and the answer says nothing.
        origin: Option<HeaderValue>,
    },
    /// It asks before the real request, and is answered 204 with these headers.
    Preflight(HeaderMap),
}

/// Why CORS is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// Not `scheme://host[:port]` or `*`.
    #[error("{0:?} is not an origin, as \"https://shop.example\" is")]
    Origin(String),
    /// The host of an origin.
    #[error("bad host in origin {origin:?}")]
    Host {
        /// As written.
        origin: String,
        /// Why.
        source: HostPatternError,
    },
    /// Any site could then act with its visitors' cookies; browsers refuse it too.
    #[error("any origin together with credentials lets every site act as its visitors")]
    AnyOriginWithCredentials,
    /// A method or header that cannot be sent.
    #[error("{0:?} is not the name of a method or header")]
    Name(String),
}

/// `https://*.shop.example:8443`
#[derive(Clone, Debug)]
struct OriginPattern {
    scheme: Box<str>,
    host: HostPattern,
    port: Option<u16>,
}

/// Names that may be asked for.
#[derive(Clone, Debug)]
struct List {
    any: bool,
    line: Option<HeaderValue>,
}

impl CorsPolicy {
    /// Compiles CORS.
    pub fn build(cors: &Cors) -> Result<Self, CorsError> {
        let any_origin = cors.origins.iter().any(|origin| origin == "*");
        if any_origin && cors.credentials {
            return Err(CorsError::AnyOriginWithCredentials);
        }
        let patterns = cors.origins.iter().filter(|origin| *origin != "*");
        let expose = List::build(&cors.expose)?;
        Ok(Self {
            any_origin,
            origins: patterns
                .map(|origin| OriginPattern::parse(origin))
                .collect::<Result<_, _>>()?,
            methods: List::build(&cors.methods)?,
            headers: List::build(&cors.headers)?,
            expose: expose.line,
            credentials: cors.credentials,
            max_age: cors.max_age.map(|age| HeaderValue::from(age.as_secs())),
        })
    }

    /// What to do with a request, as received.
    pub fn decide(&self, request: &Request<'_>) -> CorsDecision {
        // More than one origin is no browser's.
        let Some(origin) = one_line(request.headers, "origin") else {
            return CorsDecision::Pass;
        };
        let allowed = self.allows(&origin).then_some(origin);
        let asked = one_line(request.headers, "access-control-request-method");
        let Some(method) = asked.filter(|_| request.method == "OPTIONS") else {
            return CorsDecision::Allow { origin: allowed };
        };
        CorsDecision::Preflight(self.preflight(allowed.as_ref(), &method, request.headers))
    }

    /// Sets what an answer says of the protocol; what the service said of it is dropped.
    pub fn answer(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in OF_THE_PROTOCOL {
            headers.remove(name);
        }
        self.allow_origin(origin, headers);
        if origin.is_some()
            && let Some(expose) = &self.expose
        {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn preflight(
        &self,
        origin: Option<&HeaderValue>,
        method: &HeaderValue,
        asked: &dyn HeaderView,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.allow_origin(origin, &mut headers);
        if origin.is_none() {
            return headers;
        }
        if let Some(methods) = self.methods.answer(|| Some(method.clone())) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let wanted = || one_line(asked, "access-control-request-headers");
        if let Some(allowed) = self.headers.answer(wanted) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        if let Some(age) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
        }
        headers
    }

    fn allow_origin(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        // Caches must not give one origin what another was told, a refusal included.
        if !self.any_origin {
            headers.append(VARY, HeaderValue::from_name(ORIGIN));
        }
        let Some(origin) = origin else { return };
        let value = if self.any_origin {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        if self.any_origin {
            return true;
        }
        let Some((scheme, host, port)) = origin.to_str().ok().and_then(split_origin) else {
            return false;
        };
        let Ok(host) = host::normalise(host) else {
            return false;
        };
        self.origins.iter().any(|pattern| {
            scheme.eq_ignore_ascii_case(&pattern.scheme)
                && port == pattern.port
                && pattern.host.matches(host.host())
        })
    }
}

impl OriginPattern {
    fn parse(text: &str) -> Result<Self, CorsError> {
        let bad = || CorsError::Origin(text.to_owned());
        let (scheme, host, port) = split_origin(text).ok_or_else(bad)?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(letter) {
            return Err(bad());
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase().into(),
            host: HostPattern::parse(host).map_err(|source| CorsError::Host {
                origin: text.to_owned(),
                source,
            })?,
            port,
        })
    }
}

/// Scheme, host and port; the port of the scheme is none, as browsers leave it out.
fn split_origin(text: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, authority) = text.split_once("://")?;
    let bare = |authority| Some((scheme, authority, None));
    let Some((host, port)) = authority.rsplit_once(':') else {
        return bare(authority);
    };
    if host.starts_with('[') && !host.ends_with(']') {
        return bare(authority);
    }
    let port: u16 = port.parse().ok()?;
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Some((
        scheme,
        host,
        Some(port).filter(|port| Some(*port) != default),
    ))
}

impl List {
    fn build(names: &[String]) -> Result<Self, CorsError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for name in names {
            if name.is_empty() || !name.bytes().all(token) {
                return Err(CorsError::Name(name.clone()));
            }
        }
        let joined = names.join(", ");
        Ok(Self {
            any: names.iter().any(|name| name == "*"),
            line: HeaderValue::from_str(&joined)
                .ok()
                .filter(|line| !line.is_empty()),
        })
    }

    /// The list, or with `*` what was asked for: a literal `*` means nothing beside credentials.
    fn answer(&self, asked: impl FnOnce() -> Option<HeaderValue>) -> Option<HeaderValue> {
        if self.any { asked() } else { self.line.clone() }
    }
}

/// The value of a header that is there exactly once.
fn one_line(headers: &dyn HeaderView, name: &str) -> Option<HeaderValue> {
    let mut value = None;
    let mut lines = 0_usize;
    headers.visit(name, &mut |line| {
        lines += 1;
        value = HeaderValue::from_bytes(line).ok();
    });
    value.filter(|_| lines == 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::path;

    fn cors() -> Cors {
        let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Cors {
            origins: strings(&["https://shop.example", "https://*.shop.example:8443"]),
            methods: strings(&["PUT", "DELETE"]),
            headers: strings(&["x-token"]),
            expose: strings(&["x-total"]),
            credentials: true,
            max_age: Some(Duration::from_mins(10)),
        }
    }

    fn decide(cors: &Cors, method: &str, headers: &[(&str, &str)]) -> CorsDecision {
        let policy = CorsPolicy::build(cors).unwrap();
        let path = path::normalise("/").unwrap();
        let headers = headers.to_vec();
        let request = Request {
            headers: &headers,
            ..Request::new(method, "api", &path)
        };
        policy.decide(&request)
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn preflight() {
        let asked = [
            ("origin", "https://shop.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-token,x-other"),
        ];
        let CorsDecision::Preflight(headers) = decide(&cors(), "OPTIONS", &asked) else {
            panic!("it is one");
        };
        assert_eq!(
            lines(&headers),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: x-token",
                "access-control-allow-methods: PUT, DELETE",
                "access-control-allow-origin: https://shop.example",
                "access-control-max-age: 600",
                "vary: origin",
            ]
        );
        let stranger = [
            ("origin", "https://evil.example"),
            ("access-control-request-method", "PUT"),
        ];
        let CorsDecision::Preflight(headers) = decide(&cors(), "OPTIONS", &stranger) else {
            panic!("it is one");
        };
        assert_eq!(lines(&headers), ["vary: origin"]);
    }

    #[test]
    fn stars_answer_with_what_is_asked() {
        let any = Cors {
            origins: vec!["*".into()],
            methods: vec!["*".into()],
            headers: vec!["*".into()],
            ..Cors::default()
        };
        let asked = [
            ("origin", "https://anyone.example"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "x-a, x-b"),
        ];
        let CorsDecision::Preflight(headers) = decide(&any, "OPTIONS", &asked) else {
            panic!("it is one");
        };
        assert_eq!(
            lines(&headers),
            [
                "access-control-allow-headers: x-a, x-b",
                "access-control-allow-methods: PATCH",
                "access-control-allow-origin: *",
            ]
        );
    }

    #[test]
    fn other_requests_go_on() {
        assert_eq!(decide(&cors(), "GET", &[]), CorsDecision::Pass);
        // Asking for the options of a resource is no preflight.
        let options = [("origin", "https://shop.example")];
        assert!(matches!(
            decide(&cors(), "OPTIONS", &options),
            CorsDecision::Allow { origin: Some(_) }
        ));
        let twice = [("origin", "https://shop.example"), ("origin", "https://b")];
        assert_eq!(decide(&cors(), "GET", &twice), CorsDecision::Pass);
        let stranger = [("origin", "https://evil.example")];
        assert_eq!(
            decide(&cors(), "GET", &stranger),
            CorsDecision::Allow { origin: None }
        );
    }

    #[track_caller]
    fn check_origin(origin: &str, allowed: bool) {
        let decision = decide(&cors(), "GET", &[("origin", origin)]);
        let CorsDecision::Allow { origin: found } = decision else {
            panic!("it takes part");
        };
        assert_eq!(found.is_some(), allowed, "{origin}");
    }

    #[test]
    fn origins() {
        check_origin("https://shop.example", true);
        check_origin("https://shop.example:443", true);
        check_origin("https://shop.example:8443", false);
        check_origin("http://shop.example", false);
        check_origin("https://a.shop.example:8443", true);
        check_origin("https://a.b.shop.example:8443", false);
        check_origin("https://a.shop.example", false);
        check_origin("https://evilshop.example", false);
        check_origin("https://shop.example.evil.example", false);
        check_origin("null", false);
        check_origin("https://", false);
    }

    /// What the service said of the protocol does not survive.
    #[test]
    fn answers() {
        let policy = CorsPolicy::build(&cors()).unwrap();
        let origin = HeaderValue::from_static("https://shop.example");
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        let mut refused = headers.clone();
        policy.answer(Some(&origin), &mut headers);
        assert_eq!(
            lines(&headers),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-origin: https://shop.example",
                "access-control-expose-headers: x-total",
                "vary: accept",
                "vary: origin",
            ]
        );
        policy.answer(None, &mut refused);
        assert_eq!(lines(&refused), ["vary: accept", "vary: origin"]);
    }

    #[test]
    fn refuses() {
        let refused = |change: fn(&mut Cors)| {
            let mut cors = cors();
            change(&mut cors);
            CorsPolicy::build(&cors).unwrap_err()
        };
        assert_eq!(
            refused(|cors| cors.origins.push("*".into())),
            CorsError::AnyOriginWithCredentials
        );
        for origin in ["null", "shop.example", "://shop.example", "https://a:b"] {
            let mut cors = cors();
            cors.origins = vec![origin.to_owned()];
            assert!(CorsPolicy::build(&cors).is_err(), "{origin}");
        }
        assert!(matches!(
            refused(|cors| cors.headers.push("a b".into())),
            CorsError::Name(_)
        ));
    }

    proptest! {
        /// An origin is allowed exactly when it is one of those written, label by label.
        #[test]
        fn origins_are_those_of_a_naive_model(
            scheme in "https?", labels in proptest::collection::vec("[ab]", 1..4),
            port in proptest::option::of(prop_oneof![Just(80_u16), Just(443), Just(8443)]),
            written in "https?", star in any::<bool>(), tail in proptest::collection::vec("[ab]", 1..3),
            written_port in proptest::option::of(prop_oneof![Just(80_u16), Just(443), Just(8443)]),
        ) {
            let text = |scheme: &str, host: &str, port: Option<u16>| match port {
                Some(port) => format!("{scheme}://{host}:{port}"),
                None => format!("{scheme}://{host}"),
            };
            let host = labels.join(".");
            let pattern = if star { format!("*.{}", tail.join(".")) } else { tail.join(".") };
            let cors = Cors {
                origins: vec![text(&written, &pattern, written_port)],
                ..Cors::default()
            };
            let number = |scheme: &str, port: Option<u16>| {
                port.unwrap_or(if scheme == "https" { 443 } else { 80 })
            };
            let below = if star { labels.get(1..) } else { labels.get(..) };
            let expected = scheme == written
                && number(&scheme, port) == number(&written, written_port)
                && below == Some(tail.as_slice());
            let origin = text(&scheme, &host, port);
            let decision = decide(&cors, "GET", &[("origin", &origin)]);
            prop_assert_eq!(
                matches!(decision, CorsDecision::Allow { origin: Some(_) }),
                expected
            );
        }
    }
}
