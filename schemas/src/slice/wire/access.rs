//! Who may enter a workload: services, ports, rules and principals.

use super::action::{accepts_from, accepts_to};
use super::condition::conditions_from;
use super::{Result, name, port, unspecified};
use crate::canonical::{
    self, Wire, ascending, ascending_by_bytes, each, enumeration, invalid, required, set_by_bytes,
    text,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Access, AccessRule, Effect, Enforcement, InboundService, OutboundService, Port, Principal,
    Protocol,
};

impl Wire for Access {
    type Message = wire::Access;

    fn to_message(&self) -> wire::Access {
        let mut services: Vec<_> = self.services.iter().map(Wire::to_message).collect();
        services.sort_by(|a: &wire::InboundService, b| a.service.cmp(&b.service));
        let mut externals: Vec<_> = self.externals.iter().map(Wire::to_message).collect();
        externals.sort_by(|a: &wire::OutboundService, b| a.service.cmp(&b.service));
        let mut jwts: Vec<_> = self.jwts.iter().map(Wire::to_message).collect();
        jwts.sort_by(|a: &wire::JwtProvider, b| a.name.cmp(&b.name));
        let mut authorizers: Vec<_> = self.authorizers.iter().map(Wire::to_message).collect();
        authorizers.sort_by(|a: &wire::Authorizer, b| a.name.cmp(&b.name));
        wire::Access {
            services,
            externals,
            jwts,
            authorizers,
        }
    }

    fn from_message(message: wire::Access) -> Result<Self> {
        ascending(
            "access.services",
            &message.services,
            limits::INBOUND_SERVICES_MAX,
            |a, b| a.service < b.service,
        )?;
        ascending(
            "access.externals",
            &message.externals,
            limits::CALLEES_MAX,
            |a, b| a.service < b.service,
        )?;
        ascending("access.jwts", &message.jwts, limits::GATES_MAX, |a, b| {
            a.name < b.name
        })?;
        ascending(
            "access.authorizers",
            &message.authorizers,
            limits::GATES_MAX,
            |a, b| a.name < b.name,
        )?;
        Ok(Self {
            services: each(message.services)?,
            externals: each(message.externals)?,
            jwts: each(message.jwts)?,
            authorizers: each(message.authorizers)?,
        })
    }
}

impl Wire for InboundService {
    type Message = wire::InboundService;

    fn to_message(&self) -> wire::InboundService {
        let mut mtls: Vec<_> = self.mtls.iter().map(Wire::to_message).collect();
        mtls.sort_by_key(|port: &wire::PortMtls| port.port);
        wire::InboundService {
            service: self.service.clone(),
            ports: ports_to(&self.ports),
            rules: set_by_bytes(&self.rules),
            listeners: set_by_bytes(&self.listeners),
            mtls,
            requirements: set_by_bytes(&self.requirements),
            rate_limits: set_by_bytes(&self.rate_limits),
            probes: set_by_bytes(&self.probes),
            path_accepts: accepts_to(&self.path_accepts),
        }
    }

    fn from_message(message: wire::InboundService) -> Result<Self> {
        ascending_by_bytes("inbound_service.rules", &message.rules, limits::RULES_MAX)?;
        ascending_by_bytes(
            "inbound_service.listeners",
            &message.listeners,
            limits::LISTENERS_MAX,
        )?;
        ascending(
            "inbound_service.mtls",
            &message.mtls,
            limits::PORTS_MAX,
            |a, b| a.port < b.port,
        )?;
        ascending_by_bytes(
            "inbound_service.requirements",
            &message.requirements,
            limits::RULES_MAX,
        )?;
        ascending_by_bytes(
            "inbound_service.rate_limits",
            &message.rate_limits,
            limits::RULES_MAX,
        )?;
        ascending_by_bytes(
            "inbound_service.probes",
            &message.probes,
            limits::VALUES_MAX,
        )?;
        Ok(Self {
            service: name("inbound_service.service", message.service)?,
            ports: ports_from("inbound_service.ports", message.ports)?,
            rules: each(message.rules)?,
            listeners: each(message.listeners)?,
            mtls: each(message.mtls)?,
            requirements: each(message.requirements)?,
            rate_limits: each(message.rate_limits)?,
            probes: each(message.probes)?,
            path_accepts: accepts_from("inbound_service.path_accepts", message.path_accepts)?,
        })
    }
}

impl Wire for OutboundService {
    type Message = wire::OutboundService;

    fn to_message(&self) -> wire::OutboundService {
        wire::OutboundService {
            service: self.service.clone(),
            rules: set_by_bytes(&self.rules),
        }
    }

    fn from_message(message: wire::OutboundService) -> Result<Self> {
        ascending_by_bytes("outbound_service.rules", &message.rules, limits::RULES_MAX)?;
        Ok(Self {
            service: name("outbound_service.service", message.service)?,
            rules: each(message.rules)?,
        })
    }
}

pub(super) fn ports_to(ports: &[Port]) -> Vec<wire::Port> {
    let mut messages: Vec<_> = ports.iter().map(Wire::to_message).collect();
    messages.sort_by_key(|port| (port.number, port.protocol));
    messages.dedup();
    messages
}

pub(super) fn ports_from(field: &'static str, ports: Vec<wire::Port>) -> Result<Vec<Port>> {
    ascending(field, &ports, limits::PORTS_MAX, |a, b| a.number < b.number)?;
    each(ports)
}

impl Wire for Port {
    type Message = wire::Port;

    fn to_message(&self) -> wire::Port {
        wire::Port {
            number: self.number.into(),
            protocol: match self.protocol {
                Protocol::Http => wire::Protocol::Http,
                Protocol::Grpc => wire::Protocol::Grpc,
                Protocol::Tcp => wire::Protocol::Tcp,
                Protocol::Tls => wire::Protocol::Tls,
            } as i32,
        }
    }

    fn from_message(message: wire::Port) -> Result<Self> {
        Ok(Self {
            number: port("port.number", message.number)?,
            protocol: match enumeration("port.protocol", message.protocol)? {
                wire::Protocol::Unspecified => return unspecified("port.protocol"),
                wire::Protocol::Http => Protocol::Http,
                wire::Protocol::Grpc => Protocol::Grpc,
                wire::Protocol::Tcp => Protocol::Tcp,
                wire::Protocol::Tls => Protocol::Tls,
            },
        })
    }
}

impl Wire for AccessRule {
    type Message = wire::AccessRule;

    fn to_message(&self) -> wire::AccessRule {
        wire::AccessRule {
            name: self.name.clone(),
            effect: match self.effect {
                Effect::Allow => wire::Effect::Allow,
                Effect::Deny => wire::Effect::Deny,
            } as i32,
            enforcement: match self.enforcement {
                Enforcement::Enforce => wire::Enforcement::Enforce,
                Enforcement::Audit => wire::Enforcement::Audit,
            } as i32,
            who: set_by_bytes(&self.who),
            conditions: set_by_bytes(&self.conditions),
        }
    }

    fn from_message(message: wire::AccessRule) -> Result<Self> {
        ascending_by_bytes("access_rule.who", &message.who, limits::VALUES_MAX)?;
        let effect = match enumeration("access_rule.effect", message.effect)? {
            wire::Effect::Unspecified => return unspecified("access_rule.effect"),
            wire::Effect::Allow => Effect::Allow,
            wire::Effect::Deny => Effect::Deny,
        };
        if effect == Effect::Allow && message.who.is_empty() {
            return Err(invalid("access_rule.who", "an allow rule without a who"));
        }
        Ok(Self {
            name: text("access_rule.name", message.name, limits::TEXT_BYTES_MAX)?,
            effect,
            enforcement: match enumeration("access_rule.enforcement", message.enforcement)? {
                wire::Enforcement::Unspecified => return unspecified("access_rule.enforcement"),
                wire::Enforcement::Enforce => Enforcement::Enforce,
                wire::Enforcement::Audit => Enforcement::Audit,
            },
            who: each(message.who)?,
            conditions: conditions_from("access_rule.conditions", message.conditions)?,
        })
    }
}

impl Wire for Principal {
    type Message = wire::Principal;

    fn to_message(&self) -> wire::Principal {
        use wire::principal::Kind;
        wire::Principal {
            kind: Some(match self {
                Self::SpiffeId(id) => Kind::SpiffeId(id.to_string()),
                Self::SpiffePrefix(prefix) => Kind::SpiffePrefix(prefix.clone()),
                Self::Any => Kind::Any(wire::Unit {}),
                Self::Unauthenticated => Kind::Unauthenticated(wire::Unit {}),
            }),
        }
    }

    fn from_message(message: wire::Principal) -> Result<Self> {
        use wire::principal::Kind;
        Ok(match required("principal.kind", message.kind)? {
            Kind::SpiffeId(id) => Self::SpiffeId(canonical::spiffe_id("principal.spiffe_id", &id)?),
            Kind::SpiffePrefix(prefix) => Self::SpiffePrefix(spiffe_prefix(prefix)?),
            Kind::Any(wire::Unit {}) => Self::Any,
            Kind::Unauthenticated(wire::Unit {}) => Self::Unauthenticated,
        })
    }
}

/// `spiffe://domain/` or deeper: what is left without the last `/` and with a segment is an ID.
fn spiffe_prefix(prefix: String) -> Result<String> {
    const FIELD: &str = "principal.spiffe_prefix";
    if !prefix.ends_with('/') {
        return Err(invalid(FIELD, "does not end in \"/\""));
    }
    canonical::spiffe_id(FIELD, &format!("{prefix}x"))?;
    Ok(prefix)
}
