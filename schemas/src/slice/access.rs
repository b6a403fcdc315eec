//! All that decides about entering a workload, and about leaving it for an external.

use std::time::Duration;

use ipnet::IpNet;

use super::{Condition, PathAccepts, PathPattern, Respond, ServerTls, Target};
use crate::spiffe::SpiffeId;

/// All that decides about entering the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The services that this identity serves, told apart by inbound port.
    pub services: Vec<InboundService>,
    /// Who may leave for an external, enforced at the caller.
    pub externals: Vec<OutboundService>,
    /// Whose tokens are known.
    pub jwts: Vec<JwtProvider>,
    /// Services that are asked whether a request may enter.
    pub authorizers: Vec<Authorizer>,
}

/// One service or gateway as its own proxy sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundService {
    /// Name of the service.
    pub service: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Rules; deny beats allow, nothing allowed means denied.
    pub rules: Vec<AccessRule>,
    /// How connections are taken, of a gateway and of ports with TLS of their own.
    pub listeners: Vec<Listener>,
    /// Ports where mTLS is not strict.
    pub mtls: Vec<PortMtls>,
    /// What a request must bring beyond an allow rule.
    pub requirements: Vec<Requirement>,
    /// How many requests may enter.
    pub rate_limits: Vec<RateLimit>,
    /// What is admitted in plaintext to see whether the service lives.
    pub probes: Vec<Probe>,
    /// What paths may hold since some route of the service says so.
    pub path_accepts: Vec<PathAccepts>,
}

/// Who may call an external; the rules decide as those of an [`InboundService`] do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundService {
    /// Name of the external.
    pub service: String,
    /// Rules; deny beats allow, nothing allowed means denied.
    pub rules: Vec<AccessRule>,
}

/// How connections to a port are taken. Several may share a port and differ in hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// 1 to 65,535.
    pub port: u16,
    /// As in [`Condition::Host`]; empty: any.
    pub hosts: Vec<String>,
    /// None: this leg is plaintext, or with [`Protocol::Tls`] passed on as it is.
    pub tls: Option<ServerTls>,
    /// Where the client's address is taken from.
    pub client_address: ClientAddress,
}

/// Where a listener takes the client's address from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The peer of the connection.
    #[default]
    Peer,
    /// The PROXY protocol's header.
    ProxyProtocol,
    /// The entry of `X-Forwarded-For` that this many trusted hops before us appended; at least 1.
    ForwardedFor {
        /// Hops before us.
        hops: u32,
    },
}

/// A port where mTLS is not strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMtls {
    /// The port.
    pub port: u16,
    /// What it takes instead.
    pub mode: MtlsMode,
}

/// What a port takes; strict is what holds where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// mTLS and plaintext.
    Permissive,
    /// Plaintext only.
    Off,
}

/// What a request must bring beyond an allow rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What.
    pub kind: RequirementKind,
    /// Only requests that this route of the gateway takes; None: all.
    pub route: Option<String>,
    /// And.
    pub conditions: Vec<Condition>,
}

/// What a [`Requirement`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequirementKind {
    /// A token that the keys of this provider verify.
    RequireJwt(String),
    /// The same, but only when there is a token.
    AcceptJwt(String),
    /// The word of this authorizer.
    RequireAuthorizer(String),
}

/// Whose tokens are known, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtProvider {
    /// Unique in the slice.
    pub name: String,
    /// The claim `iss`.
    pub issuer: String,
    /// One of which the claim `aud` must hold; empty: any.
    pub audiences: Vec<String>,
    /// Its keys.
    pub jwks: Jwks,
    /// Where a token may be, in order; empty: `Authorization: Bearer`.
    pub locations: Vec<TokenLocation>,
    /// Claims that the service is told.
    pub forwards: Vec<ClaimHeader>,
}

/// The keys of a [`JwtProvider`], as a JSON Web Key Set (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// The file as it is in the repository.
    Inline(Vec<u8>),
    /// Where to fetch it.
    Url(String),
}

/// Where a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenLocation {
    /// A header; lower-case.
    Header(String),
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// A claim that the service is told in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimHeader {
    /// Name of the claim.
    pub claim: String,
    /// Lower-case.
    pub header: String,
}

/// A service that is asked whether a request may enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    /// Unique in the slice.
    pub name: String,
    /// Who is asked; a callee of the slice.
    pub to: Target,
    /// How it is asked.
    pub protocol: AuthorizerProtocol,
    /// How long it may take.
    pub timeout: Duration,
    /// What happens when it doesn't answer.
    pub on_failure: OnFailure,
    /// Request headers that it is sent; lower-case.
    pub send_headers: Vec<String>,
    /// Headers of its answer that go on to the service; lower-case.
    pub keep_headers: Vec<String>,
    /// Headers of its refusal that go back to the caller; lower-case.
    pub return_headers: Vec<String>,
    /// So much of the body it is sent; 0: none.
    pub body_bytes: u64,
}

/// How an [`Authorizer`] is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizerProtocol {
    /// An HTTP request like the one that is judged.
    Http,
    /// Envoy's `ext_authz` service.
    Grpc,
}

/// What happens when whoever is asked doesn't answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The request goes on.
    Allow,
    /// It is refused.
    Deny,
}

/// How many requests may enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// This many requests …
    pub count: u64,
    /// … in this time.
    pub per: Duration,
    /// Requests at once; at least 1.
    pub burst: u64,
    /// One compound key; empty: all requests together.
    pub keys: Vec<RequestKey>,
    /// The service that counts for all proxies, and what happens when it doesn't answer. None: each
    /// proxy counts for itself.
    pub via: Option<(Target, OnFailure)>,
    /// Only requests that this route of the gateway takes; None: all.
    pub route: Option<String>,
    /// And.
    pub conditions: Vec<Condition>,
    /// None: 429.
    pub respond: Option<Respond>,
}

/// A property of a request that tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKey {
    /// The client's address.
    ClientIp,
    /// SPIFFE ID of the peer.
    Caller,
    /// The normalised path.
    Path,
    /// A header; lower-case.
    Header(String),
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Set when the request has none, for so long; None: never set.
        ttl: Option<Duration>,
    },
    /// A claim of the verified JWT.
    Claim(String),
}

/// GET of these paths is admitted in plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Or.
    pub paths: Vec<PathPattern>,
    /// Peers that it is admitted from; empty: any.
    pub peer_ip: Vec<IpNet>,
}

/// A port and what the application speaks there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// 1 to 65,535.
    pub number: u16,
    /// What the application speaks.
    pub protocol: Protocol,
}

/// What an application speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS that the application itself ends.
    Tls,
}

/// One `allow` or `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// As people wrote it, `allow productpage`.
    pub name: String,
    /// What it does.
    pub effect: Effect,
    /// Whether it decides or only logs.
    pub enforcement: Enforcement,
    /// Or. Empty only with [`Effect::Deny`], and then everyone.
    pub who: Vec<Principal>,
    /// And.
    pub conditions: Vec<Condition>,
}

/// What an access rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Admits.
    Allow,
    /// Refuses, and beats every [`Effect::Allow`].
    Deny,
}

/// Whether an access rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It decides.
    Enforce,
    /// It is logged and decides nothing.
    Audit,
}

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Exactly this identity.
    SpiffeId(SpiffeId),
    /// Every identity that starts with this text; it ends in `/`.
    SpiffePrefix(String),
    /// Any peer with a verified identity.
    Any,
    /// A peer without a certificate, and no other.
    Unauthenticated,
}
