//! What a proxy must be able to do to run a slice. A slice lists the features it needs; a proxy that
//! lacks one refuses the whole generation with `unknown_feature`, before it reads anything else of
//! the slice.
//!
//! A new field of a slice comes with a new name here, so that an older proxy refuses it by name
//! and never mistakes it for damage.

use std::collections::BTreeSet;

use crate::slice::{
    Balance, Callee, Condition, EndpointAddress, EndpointSource, Enforcement, Port, Principal,
    Protocol, RetryBudgetKind, Slice,
};

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

/// The features of this release, ascending.
pub const SUPPORTED: &[&str] = &[
    ACCESS_AUDIT,
    ACCESS_UNAUTHENTICATED,
    BALANCE_LEAST_REQUEST,
    BALANCE_RANDOM,
    BALANCE_ROUND_ROBIN,
    CONDITION_CLIENT_IP,
    CONDITION_PEER_IP,
    ENDPOINTS_DISCOVERED,
    ENDPOINTS_DNS,
    ENDPOINTS_STATIC,
    PROTOCOL_GRPC,
    PROTOCOL_HTTP,
    RETRY,
    RETRY_BUDGET_ACTIVE,
    RETRY_BUDGET_REQUESTS,
];

/// The features that this slice's content needs, ascending: what the compiler writes into
/// [`Slice::required_features`].
pub fn required_by(slice: &Slice) -> Vec<String> {
    let mut needed = BTreeSet::new();
    for service in &slice.access.services {
        ports(&service.ports, &mut needed);
        for rule in &service.rules {
            if rule.enforcement == Enforcement::Audit {
                needed.insert(ACCESS_AUDIT);
            }
            if rule.who.contains(&Principal::Unauthenticated) {
                needed.insert(ACCESS_UNAUTHENTICATED);
            }
            conditions(&rule.conditions, &mut needed);
        }
    }
    for callee in &slice.callees {
        of_callee(callee, &mut needed);
    }
    needed.into_iter().map(str::to_owned).collect()
}

fn of_callee(callee: &Callee, needed: &mut BTreeSet<&'static str>) {
    ports(&callee.ports, needed);
    match &callee.endpoints {
        EndpointSource::Discovered => {
            needed.insert(ENDPOINTS_DISCOVERED);
        }
        EndpointSource::Declared(endpoints) => {
            needed.extend(endpoints.iter().map(|endpoint| match endpoint.address {
                EndpointAddress::Static(_) => ENDPOINTS_STATIC,
                EndpointAddress::Dns { .. } => ENDPOINTS_DNS,
            }));
        }
    }
    for route in &callee.routes {
        for route_match in &route.matches {
            conditions(&route_match.conditions, needed);
        }
        if route.exchange.retry.attempts > 1 {
            needed.insert(RETRY);
        }
    }
    if let Some(budget) = &callee.retry_budget {
        needed.insert(match budget.kind {
            RetryBudgetKind::Requests { .. } => RETRY_BUDGET_REQUESTS,
            RetryBudgetKind::Active { .. } => RETRY_BUDGET_ACTIVE,
        });
    }
    needed.insert(match callee.balance {
        Balance::RoundRobin => BALANCE_ROUND_ROBIN,
        Balance::LeastRequest => BALANCE_LEAST_REQUEST,
        Balance::Random => BALANCE_RANDOM,
    });
}

fn ports(ports: &[Port], needed: &mut BTreeSet<&'static str>) {
    needed.extend(ports.iter().map(|port| match port.protocol {
        Protocol::Http => PROTOCOL_HTTP,
        Protocol::Grpc => PROTOCOL_GRPC,
        Protocol::Tcp => PROTOCOL_TCP,
        Protocol::Tls => PROTOCOL_TLS,
    }));
}

fn conditions(conditions: &[Condition], needed: &mut BTreeSet<&'static str>) {
    for condition in conditions {
        // `not` holds one condition, so this loop ends.
        let mut inner = condition;
        while let Condition::Not(next) = inner {
            inner = next;
        }
        match inner {
            Condition::Claim(_) => needed.insert(CONDITION_CLAIM),
            Condition::ClientIp(_) => needed.insert(CONDITION_CLIENT_IP),
            Condition::PeerIp(_) => needed.insert(CONDITION_PEER_IP),
            Condition::From(who) if who.contains(&Principal::Unauthenticated) => {
                needed.insert(ACCESS_UNAUTHENTICATED)
            }
            _ => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_is_ascending() {
        assert!(SUPPORTED.is_sorted_by(|a, b| a < b));
    }
}
