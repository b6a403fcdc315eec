//! The conditions of a request, compiled. The same words mean the same in `match`, `allow`, `deny`
//! and wherever else they stand.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_bundle::slice::{Condition, Principal};

use crate::host::{HostPattern, HostPatternError};
use crate::limits;
use crate::path::{PathMatcher, PathPatternError};
use crate::request::{Peer, Request};

mod field;

pub use field::{FieldMatcher, StringMatcher, StringMatcherError};
pub(crate) use field::{cookie_values, query_values};

/// How what can be read in two ways is judged: a field sent several times, by every one of its lines or by some one of
/// them; and a path with what only some routes accept, as it stands or by any way to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every line matches and there is one; the path as it stands. For `allow`.
    Every,
    /// One line matches; the path by any reading. For `deny`, and for what a request must bring.
    Some,
    /// One line matches; the path as it stands. For `match`.
    Match,
    /// What `not` makes of that: every line; the path as it stands.
    MatchNot,
}

impl Reading {
    fn reversed(self) -> Self {
        match self {
            Self::Every => Self::Some,
            Self::Some => Self::Every,
            Self::Match => Self::MatchNot,
            Self::MatchNot => Self::Match,
        }
    }
}

/// One compiled condition.
#[derive(Clone, Debug)]
pub enum ConditionMatcher {
    /// One of these methods.
    Method(Box<[Box<str>]>),
    /// One of these paths.
    Path(Box<[PathMatcher]>),
    /// One of these hosts.
    Host(Box<[HostPattern]>),
    /// One of these ports.
    Port(Box<[u16]>),
    /// A header.
    Header(FieldMatcher),
    /// A query parameter.
    Query(FieldMatcher),
    /// A cookie.
    Cookie(FieldMatcher),
    /// A claim of a verified token.
    Claim(FieldMatcher),
    /// The client's address is in one of these.
    ClientIp(Box<[IpNet]>),
    /// The peer's address is in one of these.
    PeerIp(Box<[IpNet]>),
    /// The caller is one of these.
    From(Box<[Principal]>),
    /// The opposite.
    Not(Box<Self>),
}

/// Why a condition is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// A path pattern is none.
    #[error("bad path pattern {pattern:?}")]
    Path {
        /// As written.
        pattern: String,
        /// Why.
        source: PathPatternError,
    },
    /// A host pattern is none.
    #[error("bad host pattern {pattern:?}")]
    Host {
        /// As written.
        pattern: String,
        /// Why.
        source: HostPatternError,
    },
    /// A value to compare with is none.
    #[error("bad value for {field:?}")]
    Value {
        /// Name of the header, parameter, cookie or claim.
        field: String,
        /// Why.
        source: StringMatcherError,
    },
    /// A prefix of identities that could end inside a name.
    #[error("the identity prefix {0:?} does not end in a slash")]
    Prefix(String),
    /// `not` nested deeper than [`limits::NOT_NESTING_MAX`].
    #[error("more than {} nested \"not\"", limits::NOT_NESTING_MAX)]
    TooDeep,
    /// More than [`limits::ALTERNATIVES_MAX`].
    #[error(
        "one match stands for more than {} combinations",
        limits::ALTERNATIVES_MAX
    )]
    TooManyAlternatives,
    /// Its combinations, each written out, hold more than [`limits::ALTERNATIVES_BYTES_MAX`].
    #[error(
        "the combinations of one match hold more than {} bytes",
        limits::ALTERNATIVES_BYTES_MAX
    )]
    AlternativesTooLarge,
}

impl ConditionMatcher {
    /// Compiles a condition.
    pub fn compile(condition: &Condition) -> Result<Self, ConditionError> {
        Self::compile_within(condition, limits::NOT_NESTING_MAX)
    }

    fn compile_within(condition: &Condition, depth: usize) -> Result<Self, ConditionError> {
        Ok(match condition {
            Condition::Method(methods) => Self::Method(
                methods
                    .iter()
                    .map(|method| method.as_str().into())
                    .collect(),
            ),
            Condition::Path(patterns) => {
                let compile = |pattern| {
                    PathMatcher::compile(pattern)
                        .map_err(|source| ConditionError::path(pattern, source))
                };
                Self::Path(patterns.iter().map(compile).collect::<Result<_, _>>()?)
            }
            Condition::Host(patterns) => {
                let compile = |pattern: &String| {
                    HostPattern::parse(pattern).map_err(|source| ConditionError::Host {
                        pattern: pattern.clone(),
                        source,
                    })
                };
                Self::Host(patterns.iter().map(compile).collect::<Result<_, _>>()?)
            }
            Condition::Port(ports) => Self::Port(ports.as_slice().into()),
            Condition::Header(field) => Self::Header(FieldMatcher::compile(field)?),
            Condition::Query(field) => Self::Query(FieldMatcher::compile(field)?),
            Condition::Cookie(field) => Self::Cookie(FieldMatcher::compile(field)?),
            Condition::Claim(field) => Self::Claim(FieldMatcher::compile(field)?),
            Condition::ClientIp(nets) => Self::ClientIp(nets.iter().map(canonical).collect()),
            Condition::PeerIp(nets) => Self::PeerIp(nets.iter().map(canonical).collect()),
            Condition::From(principals) => {
                principals.iter().try_for_each(check_principal)?;
                Self::From(principals.as_slice().into())
            }
            Condition::Not(inner) => {
                let depth = depth.checked_sub(1).ok_or(ConditionError::TooDeep)?;
                Self::Not(Box::new(Self::compile_within(inner, depth)?))
            }
        })
    }

    /// Whether the request meets the condition.
    pub fn matches(&self, request: &Request<'_>, reading: Reading) -> bool {
        match self {
            Self::Method(methods) => methods.iter().any(|method| **method == *request.method),
            Self::Path(patterns) => patterns.iter().any(|pattern| match reading {
                Reading::Some => pattern.matches_by_any_reading(request.path),
                Reading::Every | Reading::Match | Reading::MatchNot => {
                    pattern.matches(request.path)
                }
            }),
            Self::Host(patterns) => patterns.iter().any(|pattern| pattern.matches(request.host)),
            Self::Port(ports) => ports.contains(&request.port),
            Self::Header(field) => field.matches_header(request, reading),
            Self::Query(field) => field.matches_query(request, reading),
            Self::Cookie(field) => field.matches_cookie(request, reading),
            Self::Claim(field) => field.matches_claim(request),
            Self::ClientIp(nets) => contains(nets, request.client_ip),
            Self::PeerIp(nets) => contains(nets, request.peer_ip),
            Self::From(principals) => principals.iter().any(|who| admits(who, request.peer)),
            Self::Not(inner) => !inner.matches(request, reading.reversed()),
        }
    }

    /// Whether a connection meets the condition before a byte of it is read. Its host is the name that TLS
    /// asks for, empty if there is none. `None`: the condition is about requests, and nobody can say.
    pub fn holds_of_connection(&self, connection: &Request<'_>) -> Option<bool> {
        match self {
            Self::Port(_) | Self::ClientIp(_) | Self::PeerIp(_) | Self::From(_) => {
                Some(self.matches(connection, Reading::Some))
            }
            Self::Host(_) if !connection.host.is_empty() => {
                Some(self.matches(connection, Reading::Some))
            }
            Self::Not(inner) => inner.holds_of_connection(connection).map(|holds| !holds),
            Self::Host(_)
            | Self::Method(_)
            | Self::Path(_)
            | Self::Header(_)
            | Self::Query(_)
            | Self::Cookie(_)
            | Self::Claim(_) => None,
        }
    }
}

impl ConditionError {
    pub(crate) fn path(
        pattern: &mesh_bundle::slice::PathPattern,
        source: PathPatternError,
    ) -> Self {
        use mesh_bundle::slice::PathPatternKind::{Regex, Template};
        let (Template(text) | Regex(text)) = &pattern.kind;
        Self::Path {
            pattern: text.clone(),
            source,
        }
    }
}

/// A prefix that does not end in a slash would take `…/web-admin` for `…/web`.
pub(crate) fn check_principal(principal: &Principal) -> Result<(), ConditionError> {
    match principal {
        Principal::SpiffePrefix(prefix) if !prefix.ends_with('/') => {
            Err(ConditionError::Prefix(prefix.clone()))
        }
        _ => Ok(()),
    }
}

/// Whether the peer is who the principal says. Only [`Principal::Unauthenticated`] takes a peer
/// without an identity.
pub(crate) fn admits(principal: &Principal, peer: Peer<'_>) -> bool {
    match (principal, peer) {
        (Principal::SpiffeId(id), Peer::Identity(peer)) => id == peer,
        (Principal::SpiffePrefix(prefix), Peer::Identity(peer)) => {
            peer.as_str().starts_with(prefix.as_str())
        }
        (Principal::Any, Peer::Identity(_)) => true,
        (Principal::Unauthenticated, Peer::Unauthenticated) => true,
        (Principal::Unauthenticated, Peer::Identity(_)) => false,
        (_, Peer::Unauthenticated) => false,
    }
}

/// A net of IPv4 in IPv6 is the net of IPv4, since addresses are asked in that form.
pub(crate) fn canonical(net: &IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => net
            .addr()
            .to_ipv4_mapped()
            .zip(net.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped
        .and_then(|(address, length)| IpNet::new(address.into(), length).ok())
        .unwrap_or(*net)
}

/// An address that is not known is in no net. IPv4 in IPv6 (`::ffff:10.0.0.1`) is IPv4.
fn contains(nets: &[IpNet], address: Option<IpAddr>) -> bool {
    let Some(address) = address else { return false };
    let address = address.to_canonical();
    nets.iter().any(|net| net.contains(&address))
}

impl fmt::Display for ConditionMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(methods) => list(f, "method", methods),
            Self::Path(patterns) => list(f, "path", patterns),
            Self::Host(patterns) => quoted(f, "host", patterns),
            Self::Port(ports) => list(f, "port", ports),
            Self::Header(field) => write!(f, "header {field}"),
            Self::Query(field) => write!(f, "query {field}"),
            Self::Cookie(field) => write!(f, "cookie {field}"),
            Self::Claim(field) => write!(f, "claim {field}"),
            Self::ClientIp(nets) => quoted(f, "client-ip", nets),
            Self::PeerIp(nets) => quoted(f, "peer-ip", nets),
            Self::From(principals) => {
                f.write_str("from")?;
                principals.iter().try_for_each(|who| match who {
                    Principal::SpiffeId(id) => write!(f, " {:?}", id.as_str()),
                    Principal::SpiffePrefix(prefix) => write!(f, " \"{prefix}**\""),
                    Principal::Any => f.write_str(" any"),
                    Principal::Unauthenticated => f.write_str(" unauthenticated"),
                })
            }
            Self::Not(inner) => write!(f, "not {{ {inner} }}"),
        }
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, word: &str, values: &[T]) -> fmt::Result {
    f.write_str(word)?;
    values.iter().try_for_each(|value| write!(f, " {value}"))
}

fn quoted<T: fmt::Display>(f: &mut fmt::Formatter<'_>, word: &str, values: &[T]) -> fmt::Result {
    f.write_str(word)?;
    values
        .iter()
        .try_for_each(|value| write!(f, " \"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;
    use crate::request::HeaderView;
    use crate::testing::{exact, from, host, id, method, not, present};
    use mesh_bundle::slice::{FieldMatch, StringMatch, StringMatchKind};

    /// `expected` for [`Reading::Every`] and [`Reading::Some`].
    #[track_caller]
    fn check(condition: &Condition, request: &Request<'_>, expected: (bool, bool)) {
        let matcher = ConditionMatcher::compile(condition).unwrap();
        let found = (
            matcher.matches(request, Reading::Every),
            matcher.matches(request, Reading::Some),
        );
        assert_eq!(found, expected, "{matcher}");
    }

    #[track_caller]
    fn with_request(fill: impl FnOnce(&mut Request<'_>), ask: impl FnOnce(&Request<'_>)) {
        let path = path::normalise("/a").unwrap();
        let mut request = Request::new("GET", "a.b", &path);
        fill(&mut request);
        ask(&request);
    }

    const YES: (bool, bool) = (true, true);
    const NO: (bool, bool) = (false, false);

    /// design.md: "For a header sent several times `allow` needs every line to match, `deny` and
    /// `match` need one, `not` reverses this."
    #[test]
    fn header_sent_several_times() {
        let both = [("x", "a"), ("x", "b")];
        let once = [("X", "a")];
        let none: [(&str, &str); 0] = [];
        let x = |value| Condition::Header(exact("x", value));
        for (headers, condition, expected) in [
            (&both[..], x("a"), (false, true)),
            (&both, not(x("a")), (false, true)),
            (&both, not(x("c")), YES),
            (&both, Condition::Header(present("x")), YES),
            (&once, x("a"), YES),
            (&once, not(x("a")), NO),
            (&none, x("a"), NO),
            (&none, not(x("a")), YES),
            (&none, Condition::Header(present("x")), NO),
            (&none, not(Condition::Header(present("x"))), YES),
            (&both, not(not(x("a"))), (false, true)),
        ] {
            let headers: Vec<_> = headers.to_vec();
            with_request(
                |_| {},
                |request| {
                    check(
                        &condition,
                        &Request {
                            headers: &headers,
                            ..*request
                        },
                        expected,
                    );
                },
            );
        }
    }

    fn value(kind: StringMatchKind, ignore_case: bool) -> Condition {
        let values = vec![StringMatch { kind, ignore_case }];
        Condition::Header(FieldMatch {
            name: "x".into(),
            values,
        })
    }

    #[test]
    fn values() {
        use StringMatchKind::{Contains, Exact, Prefix, Regex, Suffix};
        let check_value = |kind: fn(String) -> StringMatchKind, text: &str, line: &[u8]| {
            let headers = vec![("x", line)];
            let matches = |ignore_case| {
                let condition = value(kind(text.to_owned()), ignore_case);
                let matcher = ConditionMatcher::compile(&condition).unwrap();
                let path = path::normalise("/").unwrap();
                let request = Request {
                    headers: &headers,
                    ..Request::new("GET", "a", &path)
                };
                matcher.matches(&request, Reading::Some)
            };
            (matches(false), matches(true))
        };
        assert_eq!(check_value(Exact, "Ab", b"Ab"), (true, true));
        assert_eq!(check_value(Exact, "Ab", b"aB"), (false, true));
        assert_eq!(check_value(Exact, "Ab", b"Abc"), (false, false));
        assert_eq!(check_value(Prefix, "Ab", b"abc"), (false, true));
        assert_eq!(check_value(Prefix, "Ab", b"A"), (false, false));
        assert_eq!(check_value(Suffix, "bC", b"abC"), (true, true));
        assert_eq!(check_value(Suffix, "bC", b"C"), (false, false));
        assert_eq!(check_value(Contains, "b.", b"\xffaB.c"), (false, true));
        assert_eq!(check_value(Regex, "a.c", b"a\xffc"), (true, true));
        assert_eq!(check_value(Regex, "a.c", b"xabc"), (false, false));
        assert_eq!(check_value(Exact, "", b""), (true, true));
    }

    #[test]
    fn query_is_decoded() {
        let query = |name, value| Condition::Query(exact(name, value));
        with_request(
            |request| request.query = "a=1&b=x+y%20z&c&a=2&%64=%zz",
            |request| {
                check(&query("a", "1"), request, (false, true));
                check(&query("b", "x y z"), request, YES);
                check(&query("c", ""), request, YES);
                check(&query("d", "%zz"), request, YES);
                check(&Condition::Query(present("e")), request, NO);
            },
        );
    }

    #[test]
    fn cookies() {
        let headers = vec![("cookie", "a=1; b=2"), ("cookie", "aa=3;a=4")];
        let cookie = |name, value| Condition::Cookie(exact(name, value));
        with_request(
            |_| {},
            |request| {
                let request = &Request {
                    headers: &headers,
                    ..*request
                };
                check(&cookie("a", "1"), request, (false, true));
                check(&cookie("b", "2"), request, YES);
                check(&cookie("aa", "3"), request, YES);
                check(&cookie("c", "2"), request, NO);
            },
        );
    }

    #[test]
    fn claims_are_sets_and_need_a_token() {
        let claims: Vec<(&str, &str)> = vec![("groups", "admin"), ("groups", "staff")];
        let admin = Condition::Claim(exact("groups", "admin"));
        with_request(
            |_| {},
            |request| {
                check(&admin, request, NO);
                let claims: Option<&dyn HeaderView> = Some(&claims);
                check(&admin, &Request { claims, ..*request }, YES);
            },
        );
    }

    fn admits_caller(condition: &Condition, peer: Peer<'_>) -> bool {
        let path = path::normalise("/").unwrap();
        let request = Request {
            peer,
            ..Request::new("GET", "a", &path)
        };
        ConditionMatcher::compile(condition)
            .unwrap()
            .matches(&request, Reading::Some)
    }

    #[test]
    fn callers() {
        let web = id("web");
        let prefix = |text: &str| Condition::From(vec![Principal::SpiffePrefix(text.into())]);
        let any = Condition::From(vec![Principal::Any]);
        let nobody = Condition::From(vec![Principal::Unauthenticated]);
        for (condition, web_matches, stranger_matches) in [
            (from("web"), true, false),
            (from("cart"), false, false),
            (prefix("spiffe://t.example/service/"), true, false),
            (prefix("spiffe://t.example/service/web/"), false, false),
            (any, true, false),
            (nobody, false, true),
        ] {
            let by_web = admits_caller(&condition, Peer::Identity(&web));
            assert_eq!(by_web, web_matches, "{condition:?}");
            let by_stranger = admits_caller(&condition, Peer::Unauthenticated);
            assert_eq!(by_stranger, stranger_matches, "{condition:?}");
        }
        let open = ConditionMatcher::compile(&prefix("spiffe://t.example/service/we"));
        assert!(matches!(open, Err(ConditionError::Prefix(_))));
    }

    #[test]
    fn addresses() {
        let net = |text: &str| Condition::ClientIp(vec![text.parse().unwrap()]);
        with_request(
            |request| request.client_ip = "::ffff:10.1.2.3".parse().ok(),
            |request| {
                check(&net("10.0.0.0/8"), request, YES);
                check(&net("11.0.0.0/8"), request, NO);
                check(&net("::ffff:10.0.0.0/104"), request, YES);
                check(&net("::ffff:0.0.0.0/96"), request, YES);
                check(
                    &Condition::PeerIp(vec!["::/0".parse().unwrap()]),
                    request,
                    NO,
                );
            },
        );
    }

    #[test]
    fn the_rest() {
        with_request(
            |request| request.port = 80,
            |request| {
                check(&method("GET"), request, YES);
                check(&method("get"), request, NO);
                check(&host("*.b"), request, YES);
                check(&Condition::Port(vec![81, 80]), request, YES);
                check(&not(Condition::Port(vec![80])), request, NO);
            },
        );
        let deep = (0..9).fold(method("GET"), |inner, _| not(inner));
        let error = ConditionMatcher::compile(&deep).unwrap_err();
        assert_eq!(error, ConditionError::TooDeep);
    }

    #[test]
    fn reads_as_it_is_written() {
        let shown = |condition| ConditionMatcher::compile(&condition).unwrap().to_string();
        assert_eq!(
            shown(Condition::Header(exact("user", "tester"))),
            r#"header user "tester""#
        );
        assert_eq!(
            shown(not(crate::testing::path("/a/**"))),
            r#"not { path "/a/**" }"#
        );
        assert_eq!(shown(host("*.b")), r#"host "*.b""#);
        assert_eq!(
            shown(Condition::Method(vec!["GET".into(), "PUT".into()])),
            "method GET PUT"
        );
    }
}
