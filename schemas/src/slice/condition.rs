//! Conditions on requests, and the patterns inside them.

use ipnet::IpNet;

use super::Principal;

/// One condition on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Upper-case method tokens, or.
    Method(Vec<String>),
    /// Patterns over the normalised path, or.
    Path(Vec<PathPattern>),
    /// `a.b`, `*.b` (one label), `**.b` (one or more), `**`; or.
    Host(Vec<String>),
    /// Ports of the service, or.
    Port(Vec<u16>),
    /// A request header; the name is lower-case.
    Header(FieldMatch),
    /// A query parameter.
    Query(FieldMatch),
    /// A cookie.
    Cookie(FieldMatch),
    /// A claim of the verified JWT.
    Claim(FieldMatch),
    /// Address of the client, as established by the listener; or.
    ClientIp(Vec<IpNet>),
    /// Address of the peer of the connection; or.
    PeerIp(Vec<IpNet>),
    /// The caller; or.
    From(Vec<Principal>),
    /// The opposite of one condition.
    Not(Box<Self>),
}

/// One pattern over normalised paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// Template or regular expression.
    pub kind: PathPatternKind,
    /// ASCII letters match in either case.
    pub ignore_case: bool,
}

/// How a path pattern is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPatternKind {
    /// `/a`, `/a/*`, `/a/{id}`, `/a/**`.
    Template(String),
    /// Anchored at both ends.
    Regex(String),
}

/// A header, query parameter, cookie or claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// Lower-case for headers.
    pub name: String,
    /// Or. Empty: present, whatever its value.
    pub values: Vec<StringMatch>,
}

/// One pattern over a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringMatch {
    /// How to compare.
    pub kind: StringMatchKind,
    /// ASCII letters match in either case.
    pub ignore_case: bool,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatchKind {
    /// The whole value.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Any part.
    Contains(String),
    /// Anchored at both ends.
    Regex(String),
}
