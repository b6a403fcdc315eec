//! Callees: where they are, how they are dialled, and their subsets.

use std::net::SocketAddr;

use super::access::{ports_from, ports_to};
use super::condition::{nets_from, nets_to};
use super::pool::{balance_from, balance_to};
use super::{
    Result, name, names, not_empty, optional_name, optional_port, port, unless_default, unspecified,
};
use crate::canonical::{
    self, Wire, ascending, ascending_by_bytes, each, enumeration, invalid, required, set,
    set_by_bytes, text_or_empty,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Callee, CalleeKind, CalleeListener, ClientTls, DeclaredEndpoint, EndpointAddress,
    EndpointSource, Label, Pool, PortDial, RetryBudget, Subset, SubsetPool,
};
use crate::spiffe::SpiffeId;

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
        let mut dials: Vec<_> = self.dials.iter().map(Wire::to_message).collect();
        dials.sort_by_key(|dial: &wire::PortDial| dial.port);
        let mut listeners: Vec<_> = self.listeners.iter().map(Wire::to_message).collect();
        listeners.sort_by(|a: &wire::CalleeListener, b| a.address.cmp(&b.address));
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
            balance: balance_to(self.balance),
            kind: kind_to(&self.kind),
            addresses: nets_to(&self.addresses),
            dials,
            listeners,
            pool: unless_default(self.pool.to_message()),
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
        ascending("callee.dials", &message.dials, limits::PORTS_MAX, |a, b| {
            a.port < b.port
        })?;
        ascending(
            "callee.listeners",
            &message.listeners,
            limits::PORTS_MAX,
            |a, b| a.address < b.address,
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
            balance: balance_from("callee.balance", message.balance)?,
            kind: kind_from(message.kind)?,
            addresses: nets_from("callee.addresses", &message.addresses)?,
            dials: each(message.dials)?,
            listeners: each(message.listeners)?,
            pool: Pool::from_message(message.pool.unwrap_or_default())?,
        })
    }
}

impl Wire for Subset {
    type Message = wire::Subset;

    fn to_message(&self) -> wire::Subset {
        wire::Subset {
            name: self.name.clone(),
            labels: labels_to(&self.labels),
            pool: self.pool.as_ref().map(Wire::to_message),
        }
    }

    fn from_message(message: wire::Subset) -> Result<Self> {
        Ok(Self {
            name: name("subset.name", message.name)?,
            labels: labels_from("subset.labels", message.labels)?,
            pool: message.pool.map(SubsetPool::from_message).transpose()?,
        })
    }
}

fn kind_to(kind: &CalleeKind) -> Option<wire::CalleeKind> {
    use wire::callee_kind::Kind;
    let kind = match kind {
        CalleeKind::Meshed => return None,
        CalleeKind::Unmeshed => Kind::Unmeshed(wire::Unit {}),
        CalleeKind::External { via } => Kind::External(wire::External {
            via: via.clone().unwrap_or_default(),
        }),
    };
    Some(wire::CalleeKind { kind: Some(kind) })
}

fn kind_from(message: Option<wire::CalleeKind>) -> Result<CalleeKind> {
    use wire::callee_kind::Kind;
    let Some(message) = message else {
        return Ok(CalleeKind::Meshed);
    };
    Ok(match required("callee_kind.kind", message.kind)? {
        Kind::Unmeshed(wire::Unit {}) => CalleeKind::Unmeshed,
        Kind::External(external) => CalleeKind::External {
            via: optional_name("external.via", external.via)?,
        },
    })
}

impl Wire for PortDial {
    type Message = wire::PortDial;

    fn to_message(&self) -> wire::PortDial {
        wire::PortDial {
            port: self.port.into(),
            dial: self.dial.map_or(0, u32::from),
            tls: self.tls.as_ref().map(Wire::to_message),
        }
    }

    fn from_message(message: wire::PortDial) -> Result<Self> {
        Ok(Self {
            port: port("port_dial.port", message.port)?,
            dial: optional_port("port_dial.dial", message.dial)?,
            tls: message.tls.map(ClientTls::from_message).transpose()?,
        })
    }
}

impl Wire for CalleeListener {
    type Message = wire::CalleeListener;

    fn to_message(&self) -> wire::CalleeListener {
        wire::CalleeListener {
            address: self.address.to_string(),
            port: self.port.into(),
        }
    }

    fn from_message(message: wire::CalleeListener) -> Result<Self> {
        Ok(Self {
            address: socket_address("callee_listener.address", &message.address)?,
            port: port("callee_listener.port", message.port)?,
        })
    }
}

fn socket_address(field: &'static str, text: &str) -> Result<SocketAddr> {
    let address: SocketAddr = text
        .parse()
        .map_err(|error: std::net::AddrParseError| invalid(field, &error.to_string()))?;
    port(field, address.port().into())?;
    Ok(address)
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
                    EndpointAddress::Static(socket_address("declared_endpoint.static", &address)?)
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
        .map_err(|error: std::num::ParseIntError| invalid(field, &error.to_string()))?;
    Ok(EndpointAddress::Dns {
        name: host.to_owned(),
        port: port(field, number)?,
    })
}
