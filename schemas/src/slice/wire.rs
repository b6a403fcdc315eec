//! Slices to messages and back. Whatever the message allows and the domain type does not is refused
//! here; which lists are sets, and by what they ascend, is written beside the fields of
//! `bundle.proto`.

use std::time::Duration;

use ipnet::IpNet;
use prost::Message;

use super::{
    Access, AccessRule, Balance, Callee, Condition, DeclaredEndpoint, Destination, Effect,
    EndpointAddress, EndpointSource, Enforcement, Exchange, FieldMatch, InboundService, Label,
    PathPattern, PathPatternKind, Port, Principal, Protocol, Retry, RetryBudget, RetryBudgetKind,
    RetryCause, Route, RouteMatch, SLICE_FORMAT, Slice, StringMatch, StringMatchKind, Subset,
    Target,
};
use crate::canonical::{
    self, NonCanonical, Wire, ascending, ascending_by_bytes, counted, each, enumeration, invalid,
    required, set, set_by_bytes, text, text_or_empty, within,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::{RejectReason, Rejection};
use crate::spiffe::SpiffeId;
use crate::statement::judge_features;

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
        return Err(Rejection::new(
            RejectReason::TooLarge,
            format!(
                "slice of {} bytes, at most {}",
                bytes.len(),
                limits::SLICE_BYTES_MAX
            ),
        ));
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

impl Wire for Condition {
    type Message = wire::Condition;

    fn to_message(&self) -> wire::Condition {
        use wire::condition::Kind;
        wire::Condition {
            kind: Some(match self {
                Self::Method(methods) => Kind::Method(strings(methods)),
                Self::Path(patterns) => Kind::Path(wire::Paths {
                    values: set_by_bytes(patterns),
                }),
                Self::Host(hosts) => Kind::Host(strings(hosts)),
                Self::Port(ports) => Kind::Port(wire::Ports {
                    values: set(ports).into_iter().map(u32::from).collect(),
                }),
                Self::Header(field) => Kind::Header(field.to_message()),
                Self::Query(field) => Kind::Query(field.to_message()),
                Self::Cookie(field) => Kind::Cookie(field.to_message()),
                Self::Claim(field) => Kind::Claim(field.to_message()),
                Self::ClientIp(nets) => Kind::ClientIp(nets_to(nets)),
                Self::PeerIp(nets) => Kind::PeerIp(nets_to(nets)),
                Self::From(who) => Kind::From(wire::Principals {
                    values: set_by_bytes(who),
                }),
                Self::Not(inner) => Kind::Not(Box::new(inner.to_message())),
            }),
        }
    }

    fn from_message(message: wire::Condition) -> Result<Self> {
        condition_from(message, 0)
    }
}

fn condition_from(message: wire::Condition, depth: usize) -> Result<Condition> {
    use wire::condition::Kind;
    Ok(match required("condition.kind", message.kind)? {
        Kind::Method(methods) => {
            let methods = values("condition.method", methods)?;
            if !methods.iter().all(|method| is_method(method)) {
                return Err(invalid("condition.method", "not an upper-case token"));
            }
            Condition::Method(methods)
        }
        Kind::Path(paths) => {
            not_empty("condition.path", &paths.values)?;
            ascending_by_bytes("condition.path", &paths.values, limits::VALUES_MAX)?;
            Condition::Path(each(paths.values)?)
        }
        Kind::Host(hosts) => Condition::Host(values("condition.host", hosts)?),
        Kind::Port(ports) => {
            not_empty("condition.port", &ports.values)?;
            ascending(
                "condition.port",
                &ports.values,
                limits::VALUES_MAX,
                |a, b| a < b,
            )?;
            let ports = ports.values.into_iter();
            Condition::Port(
                ports
                    .map(|number| port("condition.port", number))
                    .collect::<Result<_>>()?,
            )
        }
        Kind::Header(field) => {
            let field = FieldMatch::from_message(field)?;
            if field.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(invalid("condition.header", "name is not lower-case"));
            }
            Condition::Header(field)
        }
        Kind::Query(field) => Condition::Query(FieldMatch::from_message(field)?),
        Kind::Cookie(field) => Condition::Cookie(FieldMatch::from_message(field)?),
        Kind::Claim(field) => Condition::Claim(FieldMatch::from_message(field)?),
        Kind::ClientIp(nets) => Condition::ClientIp(nets_from("condition.client_ip", nets)?),
        Kind::PeerIp(nets) => Condition::PeerIp(nets_from("condition.peer_ip", nets)?),
        Kind::From(who) => {
            not_empty("condition.from", &who.values)?;
            ascending_by_bytes("condition.from", &who.values, limits::VALUES_MAX)?;
            Condition::From(each(who.values)?)
        }
        Kind::Not(inner) => {
            if depth == limits::CONDITION_DEPTH_MAX {
                return Err(invalid("condition.not", "nested too deep"));
            }
            Condition::Not(Box::new(condition_from(*inner, depth + 1)?))
        }
    })
}

fn conditions_from(
    field: &'static str,
    conditions: Vec<wire::Condition>,
) -> Result<Vec<Condition>> {
    ascending_by_bytes(field, &conditions, limits::VALUES_MAX)?;
    each(conditions)
}

/// RFC 9110 §5.6.2, without lower-case letters.
fn is_method(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    })
}

impl Wire for PathPattern {
    type Message = wire::PathPattern;

    fn to_message(&self) -> wire::PathPattern {
        use wire::path_pattern::Kind;
        wire::PathPattern {
            kind: Some(match &self.kind {
                PathPatternKind::Template(template) => Kind::Template(template.clone()),
                PathPatternKind::Regex(regex) => Kind::Regex(regex.clone()),
            }),
            ignore_case: self.ignore_case,
        }
    }

    fn from_message(message: wire::PathPattern) -> Result<Self> {
        use wire::path_pattern::Kind;
        Ok(Self {
            kind: match required("path_pattern.kind", message.kind)? {
                Kind::Template(template) => {
                    if !template.starts_with('/') {
                        return Err(invalid(
                            "path_pattern.template",
                            "does not begin with \"/\"",
                        ));
                    }
                    PathPatternKind::Template(pattern("path_pattern.template", template)?)
                }
                Kind::Regex(regex) => PathPatternKind::Regex(pattern("path_pattern.regex", regex)?),
            },
            ignore_case: message.ignore_case,
        })
    }
}

impl Wire for FieldMatch {
    type Message = wire::FieldMatch;

    fn to_message(&self) -> wire::FieldMatch {
        wire::FieldMatch {
            name: self.name.clone(),
            values: set_by_bytes(&self.values),
        }
    }

    fn from_message(message: wire::FieldMatch) -> Result<Self> {
        ascending_by_bytes("field_match.values", &message.values, limits::VALUES_MAX)?;
        Ok(Self {
            name: name("field_match.name", message.name)?,
            values: each(message.values)?,
        })
    }
}

impl Wire for StringMatch {
    type Message = wire::StringMatch;

    fn to_message(&self) -> wire::StringMatch {
        use wire::string_match::Kind;
        wire::StringMatch {
            kind: Some(match &self.kind {
                StringMatchKind::Exact(text) => Kind::Exact(text.clone()),
                StringMatchKind::Prefix(text) => Kind::Prefix(text.clone()),
                StringMatchKind::Suffix(text) => Kind::Suffix(text.clone()),
                StringMatchKind::Contains(text) => Kind::Contains(text.clone()),
                StringMatchKind::Regex(text) => Kind::Regex(text.clone()),
            }),
            ignore_case: self.ignore_case,
        }
    }

    fn from_message(message: wire::StringMatch) -> Result<Self> {
        use wire::string_match::Kind;
        Ok(Self {
            kind: match required("string_match.kind", message.kind)? {
                // A header may be empty, and an exact match may ask for that.
                Kind::Exact(value) => StringMatchKind::Exact(text_or_empty(
                    "string_match.exact",
                    value,
                    limits::TEXT_BYTES_MAX,
                )?),
                Kind::Prefix(value) => {
                    StringMatchKind::Prefix(pattern("string_match.prefix", value)?)
                }
                Kind::Suffix(value) => {
                    StringMatchKind::Suffix(pattern("string_match.suffix", value)?)
                }
                Kind::Contains(value) => {
                    StringMatchKind::Contains(pattern("string_match.contains", value)?)
                }
                Kind::Regex(value) => StringMatchKind::Regex(pattern("string_match.regex", value)?),
            },
            ignore_case: message.ignore_case,
        })
    }
}

impl Wire for Callee {
    type Message = wire::Callee;

    fn to_message(&self) -> wire::Callee {
        let mut identities: Vec<_> = self.identities.iter().map(ToString::to_string).collect();
        identities.sort();
        identities.dedup();
        let mut subsets: Vec<_> = self.subsets.iter().map(Wire::to_message).collect();
        subsets.sort_by(|a: &wire::Subset, b| a.name.cmp(&b.name));
        let mut routes: Vec<_> = self.routes.iter().map(Wire::to_message).collect();
        routes.sort_by(|a: &wire::Route, b| a.name.cmp(&b.name));
        let (source, endpoints) = match &self.endpoints {
            EndpointSource::Declared(endpoints) => {
                (wire::EndpointSource::Declared, set_by_bytes(endpoints))
            }
            EndpointSource::Discovered => (wire::EndpointSource::Discovered, Vec::new()),
        };
        wire::Callee {
            service: self.service.clone(),
            hosts: set(&self.hosts),
            ports: ports_to(&self.ports),
            identities,
            subsets,
            source: source as i32,
            endpoints,
            routes,
            retry_budget: self.retry_budget.as_ref().map(Wire::to_message),
            balance: match self.balance {
                Balance::RoundRobin => wire::Balance::RoundRobin,
                Balance::LeastRequest => wire::Balance::LeastRequest,
                Balance::Random => wire::Balance::Random,
            } as i32,
        }
    }

    fn from_message(message: wire::Callee) -> Result<Self> {
        names("callee.hosts", &message.hosts, limits::IDENTITIES_MAX)?;
        ascending(
            "callee.identities",
            &message.identities,
            limits::IDENTITIES_MAX,
            |a, b| a < b,
        )?;
        ascending(
            "callee.subsets",
            &message.subsets,
            limits::SUBSETS_MAX,
            |a, b| a.name < b.name,
        )?;
        ascending_by_bytes(
            "callee.endpoints",
            &message.endpoints,
            limits::ENDPOINTS_MAX,
        )?;
        not_empty("callee.routes", &message.routes)?;
        ascending(
            "callee.routes",
            &message.routes,
            limits::ROUTES_MAX,
            |a, b| a.name < b.name,
        )?;
        Ok(Self {
            service: name("callee.service", message.service)?,
            hosts: message.hosts,
            ports: ports_from("callee.ports", message.ports)?,
            identities: message
                .identities
                .iter()
                .map(|id| canonical::spiffe_id("callee.identities", id))
                .collect::<Result<Vec<SpiffeId>>>()?,
            subsets: each(message.subsets)?,
            endpoints: match enumeration("callee.source", message.source)? {
                wire::EndpointSource::Unspecified => return unspecified("callee.source"),
                wire::EndpointSource::Declared => {
                    EndpointSource::Declared(each(message.endpoints)?)
                }
                wire::EndpointSource::Discovered if message.endpoints.is_empty() => {
                    EndpointSource::Discovered
                }
                wire::EndpointSource::Discovered => {
                    return Err(invalid(
                        "callee.endpoints",
                        "declared although the source is discovery",
                    ));
                }
            },
            routes: each(message.routes)?,
            retry_budget: message
                .retry_budget
                .map(RetryBudget::from_message)
                .transpose()?,
            balance: match enumeration("callee.balance", message.balance)? {
                wire::Balance::Unspecified => return unspecified("callee.balance"),
                wire::Balance::RoundRobin => Balance::RoundRobin,
                wire::Balance::LeastRequest => Balance::LeastRequest,
                wire::Balance::Random => Balance::Random,
            },
        })
    }
}

impl Wire for Subset {
    type Message = wire::Subset;

    fn to_message(&self) -> wire::Subset {
        wire::Subset {
            name: self.name.clone(),
            labels: labels_to(&self.labels),
        }
    }

    fn from_message(message: wire::Subset) -> Result<Self> {
        Ok(Self {
            name: name("subset.name", message.name)?,
            labels: labels_from("subset.labels", message.labels)?,
        })
    }
}

fn labels_to(labels: &[Label]) -> Vec<wire::Label> {
    set(labels)
        .into_iter()
        .map(|label| wire::Label {
            key: label.key,
            value: label.value,
        })
        .collect()
}

fn labels_from(field: &'static str, labels: Vec<wire::Label>) -> Result<Vec<Label>> {
    ascending(field, &labels, limits::LABELS_MAX, |a, b| a.key < b.key)?;
    labels
        .into_iter()
        .map(|label| {
            Ok(Label {
                key: name("label.key", label.key)?,
                value: text_or_empty("label.value", label.value, limits::TEXT_BYTES_MAX)?,
            })
        })
        .collect()
}

impl Wire for DeclaredEndpoint {
    type Message = wire::DeclaredEndpoint;

    fn to_message(&self) -> wire::DeclaredEndpoint {
        use wire::declared_endpoint::Address;
        wire::DeclaredEndpoint {
            address: Some(match &self.address {
                EndpointAddress::Static(address) => Address::Static(address.to_string()),
                EndpointAddress::Dns { name, port } => Address::Dns(format!("{name}:{port}")),
            }),
            port: self.port.into(),
            labels: labels_to(&self.labels),
        }
    }

    fn from_message(message: wire::DeclaredEndpoint) -> Result<Self> {
        use wire::declared_endpoint::Address;
        Ok(Self {
            address: match required("declared_endpoint.address", message.address)? {
                Address::Static(address) => {
                    let address: std::net::SocketAddr = address.parse().map_err(|_| {
                        invalid("declared_endpoint.static", "not an address and a port")
                    })?;
                    port("declared_endpoint.static", address.port().into())?;
                    EndpointAddress::Static(address)
                }
                Address::Dns(address) => dns("declared_endpoint.dns", &address)?,
            },
            port: port("declared_endpoint.port", message.port)?,
            labels: labels_from("declared_endpoint.labels", message.labels)?,
        })
    }
}

fn dns(field: &'static str, address: &str) -> Result<EndpointAddress> {
    let (host, number) = address
        .rsplit_once(':')
        .ok_or_else(|| invalid(field, "has no port"))?;
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if host.is_empty() || host.len() > limits::NAME_BYTES_MAX || !host.bytes().all(allowed) {
        return Err(invalid(field, "not a lower-case DNS name"));
    }
    let number = number
        .parse()
        .map_err(|_| invalid(field, "port is not a number"))?;
    Ok(EndpointAddress::Dns {
        name: host.to_owned(),
        port: port(field, number)?,
    })
}

impl Wire for Route {
    type Message = wire::Route;

    fn to_message(&self) -> wire::Route {
        let mut destinations: Vec<_> = self.destinations.iter().map(Wire::to_message).collect();
        destinations.sort_by(|a: &wire::Destination, b| {
            (&a.service, &a.subset).cmp(&(&b.service, &b.subset))
        });
        wire::Route {
            name: self.name.clone(),
            matches: set_by_bytes(&self.matches),
            destinations,
            exchange: Some(self.exchange.to_message()),
        }
    }

    fn from_message(message: wire::Route) -> Result<Self> {
        ascending_by_bytes("route.matches", &message.matches, limits::VALUES_MAX)?;
        not_empty("route.destinations", &message.destinations)?;
        ascending(
            "route.destinations",
            &message.destinations,
            limits::DESTINATIONS_MAX,
            |a, b| (&a.service, &a.subset) < (&b.service, &b.subset),
        )?;
        if message.destinations.iter().all(|to| to.weight == 0) {
            return Err(invalid("route.destinations", "every weight is 0"));
        }
        Ok(Self {
            name: name("route.name", message.name)?,
            matches: each(message.matches)?,
            destinations: each(message.destinations)?,
            exchange: Exchange::from_message(required("route.exchange", message.exchange)?)?,
        })
    }
}

impl Wire for RouteMatch {
    type Message = wire::RouteMatch;

    fn to_message(&self) -> wire::RouteMatch {
        wire::RouteMatch {
            conditions: set_by_bytes(&self.conditions),
        }
    }

    fn from_message(message: wire::RouteMatch) -> Result<Self> {
        Ok(Self {
            conditions: conditions_from("route_match.conditions", message.conditions)?,
        })
    }
}

impl Wire for Destination {
    type Message = wire::Destination;

    fn to_message(&self) -> wire::Destination {
        wire::Destination {
            service: self.target.service.clone(),
            subset: self.target.subset.clone().unwrap_or_default(),
            weight: self.weight,
            otherwise: self
                .otherwise
                .iter()
                .map(|target| wire::Fallback {
                    service: target.service.clone(),
                    subset: target.subset.clone().unwrap_or_default(),
                })
                .collect(),
        }
    }

    fn from_message(message: wire::Destination) -> Result<Self> {
        counted(
            "destination.otherwise",
            &message.otherwise,
            limits::DESTINATIONS_MAX,
        )?;
        Ok(Self {
            target: target("destination", message.service, message.subset)?,
            weight: within("destination.weight", message.weight, 0, limits::WEIGHT_MAX)?,
            otherwise: message
                .otherwise
                .into_iter()
                .map(|to| target("destination.otherwise", to.service, to.subset))
                .collect::<Result<_>>()?,
        })
    }
}

fn target(field: &'static str, service: String, subset: String) -> Result<Target> {
    Ok(Target {
        service: name(field, service)?,
        subset: if subset.is_empty() {
            None
        } else {
            Some(name(field, subset)?)
        },
    })
}

impl Wire for Exchange {
    type Message = wire::Exchange;

    fn to_message(&self) -> wire::Exchange {
        wire::Exchange {
            timeout_ms: self.timeout.map(millis),
            connect_timeout_ms: millis(self.connect_timeout),
            retry: Some(self.retry.to_message()),
            stream_idle_ms: self.stream_idle.map(millis),
            max_duration_ms: self.max_duration.map(millis),
        }
    }

    fn from_message(message: wire::Exchange) -> Result<Self> {
        Ok(Self {
            timeout: optional_duration("exchange.timeout_ms", message.timeout_ms)?,
            connect_timeout: duration("exchange.connect_timeout_ms", message.connect_timeout_ms)?,
            retry: Retry::from_message(required("exchange.retry", message.retry)?)?,
            stream_idle: optional_duration("exchange.stream_idle_ms", message.stream_idle_ms)?,
            max_duration: optional_duration("exchange.max_duration_ms", message.max_duration_ms)?,
        })
    }
}

impl Wire for Retry {
    type Message = wire::Retry;

    fn to_message(&self) -> wire::Retry {
        wire::Retry {
            attempts: self.attempts,
            causes: set_by_bytes(&self.causes),
            per_try_ms: self.per_try.map(millis),
            any_method: self.any_method,
            backoff_base_ms: millis(self.backoff_base),
            backoff_max_ms: millis(self.backoff_max),
        }
    }

    fn from_message(message: wire::Retry) -> Result<Self> {
        ascending_by_bytes("retry.causes", &message.causes, limits::VALUES_MAX)?;
        within(
            "retry.backoff_max_ms",
            message.backoff_max_ms,
            message.backoff_base_ms,
            limits::DURATION_MS_MAX,
        )?;
        Ok(Self {
            attempts: within("retry.attempts", message.attempts, 1, limits::ATTEMPTS_MAX)?,
            causes: each(message.causes)?,
            per_try: optional_duration("retry.per_try_ms", message.per_try_ms)?,
            any_method: message.any_method,
            backoff_base: Duration::from_millis(message.backoff_base_ms),
            backoff_max: Duration::from_millis(message.backoff_max_ms),
        })
    }
}

impl Wire for RetryCause {
    type Message = wire::RetryCause;

    fn to_message(&self) -> wire::RetryCause {
        use wire::retry_cause::Kind;
        let failure = |failure: wire::RetryFailure| Kind::Failure(failure as i32);
        let class = |class: wire::RetryStatusClass| Kind::StatusClass(class as i32);
        wire::RetryCause {
            kind: Some(match *self {
                Self::ConnectFailure => failure(wire::RetryFailure::ConnectFailure),
                Self::Refused => failure(wire::RetryFailure::Refused),
                Self::Reset => failure(wire::RetryFailure::Reset),
                Self::ResetBeforeRequest => failure(wire::RetryFailure::ResetBeforeRequest),
                Self::PerTryTimeout => failure(wire::RetryFailure::PerTryTimeout),
                Self::Status(status) => Kind::Status(status.into()),
                Self::ServerError => class(wire::RetryStatusClass::RetryStatusClass5xx),
                Self::Gateway => class(wire::RetryStatusClass::Gateway),
                Self::GrpcStatus(status) => Kind::GrpcStatus(status.into()),
            }),
        }
    }

    fn from_message(message: wire::RetryCause) -> Result<Self> {
        use wire::retry_cause::Kind;
        Ok(match required("retry_cause.kind", message.kind)? {
            Kind::Failure(failure) => match enumeration("retry_cause.failure", failure)? {
                wire::RetryFailure::Unspecified => return unspecified("retry_cause.failure"),
                wire::RetryFailure::ConnectFailure => Self::ConnectFailure,
                wire::RetryFailure::Refused => Self::Refused,
                wire::RetryFailure::Reset => Self::Reset,
                wire::RetryFailure::ResetBeforeRequest => Self::ResetBeforeRequest,
                wire::RetryFailure::PerTryTimeout => Self::PerTryTimeout,
            },
            Kind::Status(status) => Self::Status(narrow("retry_cause.status", status, 100, 599)?),
            Kind::StatusClass(class) => match enumeration("retry_cause.status_class", class)? {
                wire::RetryStatusClass::Unspecified => {
                    return unspecified("retry_cause.status_class");
                }
                wire::RetryStatusClass::RetryStatusClass5xx => Self::ServerError,
                wire::RetryStatusClass::Gateway => Self::Gateway,
            },
            Kind::GrpcStatus(status) => {
                Self::GrpcStatus(narrow("retry_cause.grpc_status", status, 1, 16)?)
            }
        })
    }
}

impl Wire for RetryBudget {
    type Message = wire::RetryBudget;

    fn to_message(&self) -> wire::RetryBudget {
        let (kind, min_count, min_per_ms, window_ms) = match self.kind {
            RetryBudgetKind::Requests {
                min_count,
                min_per,
                window,
            } => (
                wire::RetryBudgetKind::Requests,
                min_count,
                millis(min_per),
                millis(window),
            ),
            RetryBudgetKind::Active { min_count } => {
                (wire::RetryBudgetKind::Active, min_count, 0, 0)
            }
        };
        wire::RetryBudget {
            share: self.share,
            kind: kind as i32,
            min_count,
            min_per_ms,
            window_ms,
        }
    }

    fn from_message(message: wire::RetryBudget) -> Result<Self> {
        let min_count = within(
            "retry_budget.min_count",
            message.min_count,
            0,
            u32::MAX.into(),
        )?;
        let kind = match enumeration("retry_budget.kind", message.kind)? {
            wire::RetryBudgetKind::Unspecified => return unspecified("retry_budget.kind"),
            wire::RetryBudgetKind::Requests => RetryBudgetKind::Requests {
                min_count,
                min_per: duration("retry_budget.min_per_ms", message.min_per_ms)?,
                window: duration("retry_budget.window_ms", message.window_ms)?,
            },
            wire::RetryBudgetKind::Active => {
                within("retry_budget.min_per_ms", message.min_per_ms, 0, 0)?;
                within("retry_budget.window_ms", message.window_ms, 0, 0)?;
                RetryBudgetKind::Active { min_count }
            }
        };
        Ok(Self {
            share: within("retry_budget.share", message.share, 0, 10_000)?,
            kind,
        })
    }
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

fn strings(values: &[String]) -> wire::Strings {
    wire::Strings {
        values: set(values),
    }
}

fn values(field: &'static str, list: wire::Strings) -> Result<Vec<String>> {
    not_empty(field, &list.values)?;
    names(field, &list.values, limits::VALUES_MAX)?;
    Ok(list.values)
}

/// Host bits are dropped, so that one network has one text.
fn nets_to(nets: &[IpNet]) -> wire::Strings {
    let texts: Vec<_> = nets.iter().map(|net| net.trunc().to_string()).collect();
    strings(&texts)
}

fn nets_from(field: &'static str, list: wire::Strings) -> Result<Vec<IpNet>> {
    values(field, list)?
        .iter()
        .map(|text| match text.parse::<IpNet>() {
            Ok(net) if net == net.trunc() => Ok(net),
            Ok(_) => Err(invalid(field, "has host bits")),
            Err(_) => Err(invalid(field, "not a network")),
        })
        .collect()
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

fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if duration.subsec_nanos() % 1_000_000 == 0 {
        whole
    } else {
        whole.saturating_add(1)
    }
}

fn duration(field: &'static str, millis: u64) -> Result<Duration> {
    within(field, millis, 1, limits::DURATION_MS_MAX).map(Duration::from_millis)
}

fn optional_duration(field: &'static str, millis: Option<u64>) -> Result<Option<Duration>> {
    millis.map(|millis| duration(field, millis)).transpose()
}
