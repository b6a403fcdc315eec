//! What access rules mean at each port of a service: at a port of bytes nothing is known of a connection but
//! who comes, from where, to which port, and under which name, as the engine judges it
//! ([`authorise_connection`](mesh_engine::InboundTable::authorise_connection)).
//!
//! A name is what TLS asks for. A connection to a port of TLS without one is no part of the sets: wherever it is
//! let in, so is one with any name.

use mesh_bundle::slice::{AccessRule, Condition, Effect, Protocol};
use mesh_engine::rbac::{Rule, Verdict};
use mesh_engine::{InboundTable, Request};

use super::request_space::{CapExceeded, Repeated, Space};
use crate::linked::Service;

/// Whether a port carries bytes, as the proxy of its service sees it.
pub(super) fn carries_bytes(table: &InboundTable, port: u16) -> bool {
    let port = table.port(port);
    port.is_some_and(|port| is_of_bytes(port.protocol))
}

/// Whether nobody makes out requests in a protocol.
const fn is_of_bytes(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tcp | Protocol::Tls)
}

/// Whether what comes to a port may enter, a request or a connection of bytes.
pub(super) fn authorise<'t>(table: &'t InboundTable, request: &Request<'_>) -> Verdict<'t> {
    match connection(table, request) {
        Some(connection) => table.authorise_connection(&connection),
        None => table.authorise(request),
    }
}

/// Whether a rule speaks of what comes to a port.
pub(super) fn takes(table: &InboundTable, rule: &Rule, request: &Request<'_>) -> bool {
    match connection(table, request) {
        Some(connection) => rule.takes_connection(&connection),
        None => rule.takes(request),
    }
}

/// What is known of a connection, if the request is to a port of bytes. Only TLS names a host.
fn connection<'r>(table: &InboundTable, request: &Request<'r>) -> Option<Request<'r>> {
    match table.port(request.port)?.protocol {
        Protocol::Tcp => Some(Request {
            host: "",
            ..*request
        }),
        Protocol::Tls => Some(*request),
        Protocol::Http | Protocol::Grpc => None,
    }
}

/// Whether a rule at a port of TLS tells connections with a name from those without, which are no part of the sets.
pub(super) fn asks_for_a_name(service: &Service, rule: &AccessRule) -> bool {
    fn of_host(condition: &Condition) -> bool {
        match condition {
            Condition::Host(_) => true,
            Condition::Not(inner) => of_host(inner),
            _ => false,
        }
    }
    !ports(service, Protocol::Tls).is_empty() && rule.conditions.iter().any(of_host)
}

fn of_bytes(service: &Service) -> Vec<u16> {
    let mut ports = ports(service, Protocol::Tcp);
    ports.extend(self::ports(service, Protocol::Tls));
    ports
}

fn ports(service: &Service, protocol: Protocol) -> Vec<u16> {
    let ports = service.ports.iter();
    ports
        .filter(|port| port.protocol == protocol)
        .map(|port| port.number.value)
        .collect()
}

/// Those of some requests to a service that are requests, and no connections of bytes.
pub(super) fn only_requests(service: &Service, space: Space) -> Result<Space, CapExceeded> {
    let ports = of_bytes(service);
    if ports.is_empty() {
        return Ok(space);
    }
    let elsewhere = Condition::Not(Box::new(Condition::Port(ports)));
    space.intersection(&Space::of_conditions(&[elsewhere], Repeated::One)?)
}

/// The requests to a service, and the connections of bytes, that a rule speaks of, whatever it then does.
pub(crate) fn spoken_of(service: &Service, rule: &AccessRule) -> Result<Space, CapExceeded> {
    let mut spoken_of = only_requests(service, Space::of_rule(rule)?)?;
    for (protocol, has_names) in [(Protocol::Tcp, false), (Protocol::Tls, true)] {
        let ports = ports(service, protocol);
        let mut known = rule.clone();
        known
            .conditions
            .retain(|condition| is_known(condition, has_names));
        // What nobody can know keeps an `allow` from admitting, and no `deny` from refusing.
        let admits_nobody =
            rule.effect == Effect::Allow && known.conditions.len() < rule.conditions.len();
        if !ports.is_empty() && !admits_nobody {
            let connections = Space::of_rule(&known)?.intersection(&Space::to_ports(ports)?)?;
            spoken_of = spoken_of.union(&connections)?;
        }
    }
    Ok(spoken_of)
}

/// Whether a condition can be judged of a connection.
fn is_known(condition: &Condition, has_names: bool) -> bool {
    match condition {
        Condition::Port(_) | Condition::ClientIp(_) | Condition::PeerIp(_) | Condition::From(_) => {
            true
        }
        Condition::Host(_) => has_names,
        Condition::Not(inner) => is_known(inner, has_names),
        Condition::Method(_)
        | Condition::Path(_)
        | Condition::Header(_)
        | Condition::Query(_)
        | Condition::Cookie(_)
        | Condition::Claim(_) => false,
    }
}
