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

/// How a field sent several times is judged: by every one of its lines, or by some one of them.
/// `not` turns one into the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is there and every line matches. For `allow`.
    Every,
    /// One line matches. For `deny` and `match`.
    Some,
}

impl Reading {
    fn reversed(self) -> Self {
        match self {
            Self::Every => Self::Some,
            Self::Some => Self::Every,
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
            Condition::ClientIp(nets) => Self::ClientIp(nets.as_slice().into()),
            Condition::PeerIp(nets) => Self::PeerIp(nets.as_slice().into()),
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
            Self::Path(patterns) => patterns.iter().any(|pattern| pattern.matches(request.path)),
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
