//! What a proxy must be able to do to run a slice. A slice lists the features it needs; a proxy that
//! lacks one refuses the whole generation with `unknown_feature`, before it reads anything else of
//! the slice.
//!
//! A new field of a slice comes with a new name here, so that an older proxy refuses it by name
//! and never mistakes it for damage.

use crate::slice::{Callee, Slice};

mod required;

/// HTTP/1.1 and HTTP/2 ports.
pub const PROTOCOL_HTTP: &str = "protocol.http";
/// gRPC ports.
pub const PROTOCOL_GRPC: &str = "protocol.grpc";
/// Ports that carry opaque bytes.
pub const PROTOCOL_TCP: &str = "protocol.tcp";
/// Ports whose TLS the application ends.
pub const PROTOCOL_TLS: &str = "protocol.tls";
/// Access rules that are only logged.
pub const ACCESS_AUDIT: &str = "access.audit";
/// Access rules for peers without a certificate.
pub const ACCESS_UNAUTHENTICATED: &str = "access.unauthenticated";
/// Conditions on the claims of a JWT.
pub const CONDITION_CLAIM: &str = "condition.claim";
/// Conditions on the client's address.
pub const CONDITION_CLIENT_IP: &str = "condition.client-ip";
/// Conditions on the peer's address.
pub const CONDITION_PEER_IP: &str = "condition.peer-ip";
/// Addresses written in policy.
pub const ENDPOINTS_STATIC: &str = "endpoints.static";
/// DNS names written in policy.
pub const ENDPOINTS_DNS: &str = "endpoints.dns";
/// Endpoint sets streamed beside the slices.
pub const ENDPOINTS_DISCOVERED: &str = "endpoints.discovered";
/// Retries.
pub const RETRY: &str = "retry";
/// Retry budgets as a share of requests.
pub const RETRY_BUDGET_REQUESTS: &str = "retry-budget.requests";
/// Retry budgets as a share of requests in flight.
pub const RETRY_BUDGET_ACTIVE: &str = "retry-budget.active";
/// Endpoints in turn.
pub const BALANCE_ROUND_ROBIN: &str = "balance.round-robin";
/// The less busy of two endpoints.
pub const BALANCE_LEAST_REQUEST: &str = "balance.least-request";
/// Endpoints at random.
pub const BALANCE_RANDOM: &str = "balance.random";

/// Rate limits that each proxy counts for itself.
pub const ACCESS_RATE_LIMIT: &str = "access.rate-limit";
/// Rate limits that a service counts.
pub const ACCESS_RATE_LIMIT_VIA: &str = "access.rate-limit.via";
/// Tokens verified with keys of the slice.
pub const ACCESS_JWT: &str = "access.jwt";
/// Tokens verified with keys that are fetched.
pub const ACCESS_JWT_URL: &str = "access.jwt.url";
/// Services that are asked whether a request may enter.
pub const ACCESS_AUTHORIZER: &str = "access.authorizer";
/// Authorizers that are sent the beginning of the body.
pub const ACCESS_AUTHORIZER_BODY: &str = "access.authorizer.body";
/// Ports where mTLS is not strict.
pub const ACCESS_MTLS: &str = "access.mtls";
/// Probes in plaintext.
pub const ACCESS_PROBE: &str = "access.probe";
/// Routes of a gateway.
pub const GATEWAY: &str = "gateway";
/// Listeners with a certificate of their own.
pub const LISTENER_TLS: &str = "listener.tls";
/// Listeners that ask clients for certificates.
pub const LISTENER_CLIENT_CERTIFICATE: &str = "listener.client-certificate";
/// Clients' addresses from the PROXY protocol.
pub const LISTENER_PROXY_PROTOCOL: &str = "listener.proxy-protocol";
/// Clients' addresses from `X-Forwarded-For`.
pub const LISTENER_FORWARDED_FOR: &str = "listener.forwarded-for";
/// Callees outside the mesh.
pub const CALLEE_EXTERNAL: &str = "callee.external";
/// Callees outside the mesh behind a gateway.
pub const CALLEE_EXTERNAL_VIA: &str = "callee.external.via";
/// Services without a sidecar.
pub const CALLEE_UNMESHED: &str = "callee.unmeshed";
/// Virtual addresses.
pub const CALLEE_ADDRESS: &str = "callee.address";
/// Ports dialled under another number.
pub const CALLEE_DIAL: &str = "callee.dial";
/// TLS to a peer that is not of the mesh.
pub const CALLEE_TLS: &str = "callee.tls";
/// Addresses where the caller's proxy listens for a callee.
pub const CALLEE_LISTEN: &str = "callee.listen";
/// Routes to another port.
pub const ROUTE_DESTINATION_PORT: &str = "route.destination-port";
/// Redirects.
pub const ROUTE_REDIRECT: &str = "route.redirect";
/// Requests that stay with one of several destinations.
pub const ROUTE_STICKY: &str = "route.sticky";
/// Answers of the proxy itself.
pub const ROUTE_RESPOND: &str = "route.respond";
/// Rewritten paths and hosts.
pub const ROUTE_REWRITE: &str = "route.rewrite";
/// Copies of requests.
pub const ROUTE_MIRROR: &str = "route.mirror";
/// Failures on purpose.
pub const ROUTE_FAULT: &str = "route.fault";
/// Edited headers.
pub const ROUTE_HEADERS: &str = "route.headers";
/// CORS.
pub const ROUTE_CORS: &str = "route.cors";
/// Routes that say what a connection may become.
pub const ROUTE_UPGRADE: &str = "route.upgrade";
/// Paths with what is refused elsewhere.
pub const ROUTE_PATH_ACCEPTS: &str = "route.path-accepts";
/// Routes whose timeout ends with the request.
pub const ROUTE_STREAMING: &str = "route.streaming";
/// Idle timeouts of connections.
pub const TIMEOUT_IDLE: &str = "timeout.idle";
/// Hedged requests.
pub const HEDGE: &str = "hedge";
/// The endpoint that answers sooner.
pub const BALANCE_PEAK_EWMA: &str = "balance.peak-ewma";
/// Endpoints by hash, on a ring.
pub const BALANCE_RING_HASH: &str = "balance.ring-hash";
/// Endpoints by hash, in a table.
pub const BALANCE_MAGLEV: &str = "balance.maglev";
/// Another number of endpoints to compare.
pub const BALANCE_CHOICES: &str = "balance.choices";
/// New endpoints that get their share slowly.
pub const BALANCE_SLOW_START: &str = "balance.slow-start";
/// Subsets with a pool of their own.
pub const POOL_SUBSET: &str = "pool.subset";
/// Near endpoints first.
pub const POOL_LOCALITY: &str = "pool.locality";
/// Limits of connections and requests.
pub const POOL_LIMITS: &str = "pool.limits";
/// Limits of bodies.
pub const POOL_LIMITS_BODY: &str = "pool.limits.body";
/// A number of requests that follows how long answers take.
pub const POOL_LIMITS_ADAPTIVE: &str = "pool.limits.adaptive";
/// Endpoints left out for their answers.
pub const POOL_OUTLIER: &str = "pool.outlier";
/// Endpoints left out for giving no answers.
pub const POOL_OUTLIER_LOCAL: &str = "pool.outlier.local";
/// Endpoints left out for being worse than the others.
pub const POOL_OUTLIER_RATES: &str = "pool.outlier.rates";
/// Endpoints asked whether they live.
pub const POOL_HEALTH_CHECK: &str = "pool.health-check";
/// Access logs as policy has them.
pub const TELEMETRY_ACCESS_LOG: &str = "telemetry.access-log";
/// Traces.
pub const TELEMETRY_TRACES: &str = "telemetry.traces";

/// Every feature that this release can write and read, ascending; a proxy carries out fewer.
pub const KNOWN: &[&str] = &[
    ACCESS_AUDIT,
    ACCESS_AUTHORIZER,
    ACCESS_AUTHORIZER_BODY,
    ACCESS_JWT,
    ACCESS_JWT_URL,
    ACCESS_MTLS,
    ACCESS_PROBE,
    ACCESS_RATE_LIMIT,
    ACCESS_RATE_LIMIT_VIA,
    ACCESS_UNAUTHENTICATED,
    BALANCE_CHOICES,
    BALANCE_LEAST_REQUEST,
    BALANCE_MAGLEV,
    BALANCE_PEAK_EWMA,
    BALANCE_RANDOM,
    BALANCE_RING_HASH,
    BALANCE_ROUND_ROBIN,
    BALANCE_SLOW_START,
    CALLEE_ADDRESS,
    CALLEE_DIAL,
    CALLEE_EXTERNAL,
    CALLEE_EXTERNAL_VIA,
    CALLEE_LISTEN,
    CALLEE_TLS,
    CALLEE_UNMESHED,
    CONDITION_CLAIM,
    CONDITION_CLIENT_IP,
    CONDITION_PEER_IP,
    ENDPOINTS_DISCOVERED,
    ENDPOINTS_DNS,
    ENDPOINTS_STATIC,
    GATEWAY,
    HEDGE,
    LISTENER_CLIENT_CERTIFICATE,
    LISTENER_FORWARDED_FOR,
    LISTENER_PROXY_PROTOCOL,
    LISTENER_TLS,
    POOL_HEALTH_CHECK,
    POOL_LIMITS,
    POOL_LIMITS_ADAPTIVE,
    POOL_LIMITS_BODY,
    POOL_LOCALITY,
    POOL_OUTLIER,
    POOL_OUTLIER_LOCAL,
    POOL_OUTLIER_RATES,
    POOL_SUBSET,
    PROTOCOL_GRPC,
    PROTOCOL_HTTP,
    PROTOCOL_TCP,
    PROTOCOL_TLS,
    RETRY,
    RETRY_BUDGET_ACTIVE,
    RETRY_BUDGET_REQUESTS,
    ROUTE_CORS,
    ROUTE_DESTINATION_PORT,
    ROUTE_FAULT,
    ROUTE_HEADERS,
    ROUTE_MIRROR,
    ROUTE_PATH_ACCEPTS,
    ROUTE_REDIRECT,
    ROUTE_RESPOND,
    ROUTE_REWRITE,
    ROUTE_STICKY,
    ROUTE_STREAMING,
    ROUTE_UPGRADE,
    TELEMETRY_ACCESS_LOG,
    TELEMETRY_TRACES,
    TIMEOUT_IDLE,
];

/// The features that the proxy of this release carries out, ascending.
pub const SUPPORTED: &[&str] = &[
    ACCESS_AUDIT,
    ACCESS_AUTHORIZER,
    ACCESS_JWT,
    ACCESS_JWT_URL,
    ACCESS_MTLS,
    ACCESS_PROBE,
    ACCESS_RATE_LIMIT,
    ACCESS_RATE_LIMIT_VIA,
    ACCESS_UNAUTHENTICATED,
    BALANCE_CHOICES,
    BALANCE_LEAST_REQUEST,
    BALANCE_MAGLEV,
    BALANCE_PEAK_EWMA,
    BALANCE_RANDOM,
    BALANCE_RING_HASH,
    BALANCE_ROUND_ROBIN,
    BALANCE_SLOW_START,
    CALLEE_ADDRESS,
    CALLEE_DIAL,
    CALLEE_EXTERNAL,
    CALLEE_LISTEN,
    CALLEE_TLS,
    CALLEE_UNMESHED,
    CONDITION_CLAIM,
    CONDITION_CLIENT_IP,
    CONDITION_PEER_IP,
    ENDPOINTS_DISCOVERED,
    ENDPOINTS_DNS,
    ENDPOINTS_STATIC,
    GATEWAY,
    HEDGE,
    LISTENER_CLIENT_CERTIFICATE,
    LISTENER_FORWARDED_FOR,
    LISTENER_PROXY_PROTOCOL,
    LISTENER_TLS,
    POOL_HEALTH_CHECK,
    POOL_LIMITS,
    POOL_LIMITS_ADAPTIVE,
    POOL_LIMITS_BODY,
    POOL_LOCALITY,
    POOL_OUTLIER,
    POOL_OUTLIER_LOCAL,
    POOL_OUTLIER_RATES,
    POOL_SUBSET,
    PROTOCOL_GRPC,
    PROTOCOL_HTTP,
    PROTOCOL_TCP,
    PROTOCOL_TLS,
    RETRY,
    RETRY_BUDGET_ACTIVE,
    RETRY_BUDGET_REQUESTS,
    ROUTE_CORS,
    ROUTE_DESTINATION_PORT,
    ROUTE_FAULT,
    ROUTE_HEADERS,
    ROUTE_MIRROR,
    ROUTE_PATH_ACCEPTS,
    ROUTE_REDIRECT,
    ROUTE_RESPOND,
    ROUTE_REWRITE,
    ROUTE_STICKY,
    ROUTE_STREAMING,
    ROUTE_UPGRADE,
    TELEMETRY_ACCESS_LOG,
    TELEMETRY_TRACES,
    TIMEOUT_IDLE,
];

/// The features that this slice's content needs, ascending: what the compiler writes into
/// [`Slice::required_features`].
pub fn required_by(slice: &Slice) -> Vec<String> {
    required::by(slice)
}

/// The part of them that one callee needs, ascending.
pub fn required_by_callee(callee: &Callee) -> Vec<&'static str> {
    required::by_callee(callee)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ascending() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        assert!(SUPPORTED.is_sorted_by(|a, b| a < b));
        assert!(SUPPORTED.iter().all(|feature| KNOWN.contains(feature)));
    }
}
