//! Slices to messages and back. Whatever the message allows and the domain type does not is refused
//! here; which lists are sets, and by what they ascend, is written beside the fields of
//! `bundle.proto`.

use prost::Message;

use super::{
    Access, AccessRule, Effect, Enforcement, InboundService, Port, Principal, Protocol,
    SLICE_FORMAT, Slice,
};
use crate::canonical::{
    self, NonCanonical, Wire, ascending, ascending_by_bytes, each, enumeration, invalid, required,
    set, set_by_bytes, text, within,
};
use crate::envelope::too_large;
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::Rejection;
use crate::statement::judge_features;

mod callee;
mod condition;
mod exchange;

type Result<T> = std::result::Result<T, NonCanonical>;

/// What is read of a slice before anything else; every format keeps these two fields.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, repeated, tag = "2")]
    required_features: Vec<String>,
}

pub(super) fn encode(slice: &Slice) -> Vec<u8> {
    canonical::encode(slice)
}

pub(super) fn encode_access(access: &Access) -> Vec<u8> {
    canonical::encode(access)
}

pub(super) fn decode(bytes: &[u8], supported: &[&str]) -> std::result::Result<Slice, Rejection> {
    if bytes.len() > limits::SLICE_BYTES_MAX {
        return Err(too_large("slice", bytes.len(), limits::SLICE_BYTES_MAX));
    }
    let header: Header = canonical::decode_message("slice", bytes)?;
    judge_features(
        "slice",
        header.format,
        SLICE_FORMAT,
        &header.required_features,
        supported,
    )?;
    canonical::decode("slice", bytes)
}

impl Wire for Slice {
    type Message = wire::Slice;

    fn to_message(&self) -> wire::Slice {
        let mut callees: Vec<_> = self.callees.iter().map(Wire::to_message).collect();
        callees.sort_by(|a: &wire::Callee, b| a.service.cmp(&b.service));
        wire::Slice {
            format: SLICE_FORMAT,
            required_features: set(&self.required_features),
            identity: self.identity.to_string(),
            access: Some(self.access.to_message()),
            callees,
        }
    }

    fn from_message(message: wire::Slice) -> Result<Self> {
        within("slice.format", message.format, SLICE_FORMAT, SLICE_FORMAT)?;
        names(
            "slice.required_features",
            &message.required_features,
            limits::FEATURES_MAX,
        )?;
        ascending(
            "slice.callees",
            &message.callees,
            limits::CALLEES_MAX,
            |a, b| a.service < b.service,
        )?;
        Ok(Self {
            required_features: message.required_features,
            identity: canonical::spiffe_id("slice.identity", &message.identity)?,
            access: Access::from_message(required("slice.access", message.access)?)?,
            callees: each(message.callees)?,
        })
    }
}

impl Wire for Access {
    type Message = wire::Access;

    fn to_message(&self) -> wire::Access {
        let mut services: Vec<_> = self.services.iter().map(Wire::to_message).collect();
        services.sort_by(|a: &wire::InboundService, b| a.service.cmp(&b.service));
        wire::Access { services }
    }

    fn from_message(message: wire::Access) -> Result<Self> {
        ascending(
            "access.services",
            &message.services,
            limits::INBOUND_SERVICES_MAX,
            |a, b| a.service < b.service,
        )?;
        Ok(Self {
            services: each(message.services)?,
        })
    }
}

impl Wire for InboundService {
    type Message = wire::InboundService;

    fn to_message(&self) -> wire::InboundService {
        wire::InboundService {
            service: self.service.clone(),
            ports: ports_to(&self.ports),
            rules: set_by_bytes(&self.rules),
        }
    }

    fn from_message(message: wire::InboundService) -> Result<Self> {
        ascending_by_bytes("inbound_service.rules", &message.rules, limits::RULES_MAX)?;
        Ok(Self {
            service: name("inbound_service.service", message.service)?,
            ports: ports_from("inbound_service.ports", message.ports)?,
            rules: each(message.rules)?,
        })
    }
}

fn ports_to(ports: &[Port]) -> Vec<wire::Port> {
    let mut messages: Vec<_> = ports.iter().map(Wire::to_message).collect();
    messages.sort_by_key(|port| (port.number, port.protocol));
    messages.dedup();
    messages
}

fn ports_from(field: &'static str, ports: Vec<wire::Port>) -> Result<Vec<Port>> {
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
            conditions: condition::conditions_from("access_rule.conditions", message.conditions)?,
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

fn name(field: &'static str, value: String) -> Result<String> {
    text(field, value, limits::NAME_BYTES_MAX)
}

fn pattern(field: &'static str, value: String) -> Result<String> {
    text(field, value, limits::TEXT_BYTES_MAX)
}

/// A strictly ascending list of names.
fn names(field: &'static str, list: &[String], count_max: usize) -> Result<()> {
    ascending(field, list, count_max, |a, b| a < b)?;
    for value in list {
        name(field, value.clone())?;
    }
    Ok(())
}

fn not_empty<T>(field: &'static str, list: &[T]) -> Result<()> {
    if list.is_empty() {
        return Err(invalid(field, "empty"));
    }
    Ok(())
}

fn port(field: &'static str, number: u32) -> Result<u16> {
    narrow(field, number, 1, u16::MAX.into())
}

/// A number within bounds that fit the narrower type.
fn narrow<N: TryFrom<u32>>(field: &'static str, number: u32, low: u32, high: u32) -> Result<N> {
    match N::try_from(within(field, number, low, high)?) {
        Ok(narrowed) => Ok(narrowed),
        Err(_) => Err(invalid(field, "out of range")),
    }
}

fn unspecified<T>(field: &'static str) -> Result<T> {
    Err(invalid(field, "unspecified"))
}
