//! What a request must bring to enter, beyond being allowed, and how many may: as written.

use std::time::Duration;

use mesh_bundle::slice::{AuthorizerProtocol, OnFailure, RequestKey, Respond, TokenLocation};
use mesh_syntax::Span;

use super::{Condition, Spanned, Target};

/// A `jwt`.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// Its name.
    pub name: Spanned<String>,
    /// The claim `iss`.
    pub issuer: Spanned<String>,
    /// One of which the claim `aud` must hold; empty: any.
    pub audiences: Vec<Spanned<String>>,
    /// Where its keys are.
    pub jwks: JwksSource,
    /// Where a token may be, in order; empty: `Authorization: Bearer`.
    pub locations: Vec<TokenLocation>,
    /// Claims and the headers that carry them.
    pub forwards: Vec<(Spanned<String>, Spanned<String>)>,
    /// The whole node.
    pub span: Span,
}

/// Where the keys of a `jwt` are.
#[derive(Clone, Debug, PartialEq)]
pub enum JwksSource {
    /// A file, relative to the mesh's folder.
    File(Spanned<String>),
    /// Fetched by the proxies.
    Url(Spanned<String>),
}

/// An `authorizer`.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorizer {
    /// Its name.
    pub name: Spanned<String>,
    /// Who is asked.
    pub to: Target,
    /// How.
    pub protocol: Option<Spanned<AuthorizerProtocol>>,
    /// How long the answer may take.
    pub timeout: Option<Spanned<Duration>>,
    /// What happens when there is none.
    pub on_failure: Option<Spanned<OnFailure>>,
    /// Headers that are sent along.
    pub send_headers: Vec<Spanned<String>>,
    /// Headers of the answer that go on to the service.
    pub keep_headers: Vec<Spanned<String>>,
    /// Headers of a refusal that go back to the caller.
    pub return_headers: Vec<Spanned<String>>,
    /// Bytes of the body that are sent.
    pub body: Option<Spanned<u64>>,
    /// The whole node.
    pub span: Span,
}

/// What a [`Requirement`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequirementKind {
    /// `require jwt`
    RequireJwt,
    /// `accept jwt`
    AcceptJwt,
    /// `require authorizer`
    RequireAuthorizer,
}

/// One `require` or `accept`.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// What it is about.
    pub kind: RequirementKind,
    /// The `jwt` or `authorizer`.
    pub name: Spanned<String>,
    /// And.
    pub conditions: Vec<Condition>,
    /// The whole node.
    pub span: Span,
    /// Its words, without the block.
    pub head: Span,
}

/// One `rate-limit`.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// So many requests in such a time.
    pub rate: Spanned<(u64, Duration)>,
    /// Requests at once.
    pub burst: Option<Spanned<u32>>,
    /// The service that counts for all proxies.
    pub via: Option<Spanned<String>>,
    /// Its port, where it has several.
    pub port: Option<Spanned<u16>>,
    /// What happens when it does not answer.
    pub on_failure: Option<Spanned<OnFailure>>,
    /// One compound key; empty: all requests together.
    pub keys: Vec<RequestKey>,
    /// What those that are too many are told; 429 where absent.
    pub respond: Option<Respond>,
    /// And.
    pub conditions: Vec<Condition>,
    /// The whole node.
    pub span: Span,
    /// Its word and values, without the block.
    pub head: Span,
}

/// One `probe`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Or: templates.
    pub paths: Vec<Spanned<String>>,
    /// Peers; empty: any.
    pub peer_ip: Vec<Spanned<ipnet::IpNet>>,
    /// The whole node.
    pub span: Span,
    /// Its word and paths, without the block.
    pub head: Span,
}
