//! Callees: where they are, their subsets and routes.

use super::condition::conditions_from;
use super::{Result, name, names, not_empty, port, ports_from, ports_to, unspecified};
use crate::canonical::{
    self, Wire, ascending, ascending_by_bytes, counted, each, enumeration, invalid, required, set,
    set_by_bytes, text_or_empty, within,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Balance, Callee, DeclaredEndpoint, Destination, EndpointAddress, EndpointSource, Exchange,
    Label, RetryBudget, Route, RouteMatch, Subset, Target,
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
                    let address: std::net::SocketAddr =
                        address.parse().map_err(|error: std::net::AddrParseError| {
                            invalid("declared_endpoint.static", &error.to_string())
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
        .map_err(|error: std::num::ParseIntError| invalid(field, &error.to_string()))?;
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
