//! The immutable tables of one slice. A proxy builds a new snapshot aside and swaps it in whole.

use std::collections::HashMap;

use mesh_bundle::slice::{InboundService, Port, Slice};
use mesh_bundle::spiffe::SpiffeId;

use crate::host::HostIndex;
use crate::rbac::{Rule, RuleError, Rules, Verdict};
use crate::request::Request;
use crate::route::{CalleeTable, RouteError};

/// Everything that decides about a workload's requests, compiled from its slice.
#[derive(Clone, Debug)]
pub struct Snapshot {
    identity: SpiffeId,
    inbound: Box<[InboundTable]>,
    /// Position in `inbound`.
    inbound_ports: HashMap<u16, usize>,
    callees: Box<[CalleeTable]>,
    /// Positions in `callees`; several services may share a host and differ in port.
    hosts: HostIndex<Vec<usize>>,
    /// Positions in `callees`.
    names: HashMap<Box<str>, usize>,
}

/// One service as its own proxy sees it.
#[derive(Clone, Debug)]
pub struct InboundTable {
    service: Box<str>,
    ports: Box<[Port]>,
    rules: Rules,
}

/// Why a slice cannot become a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A callee.
    #[error("callee {service:?}")]
    Callee {
        /// Name of the callee.
        service: String,
        /// Why.
        source: RouteError,
    },
    /// A rule of a service.
    #[error("access to service {service:?}")]
    Access {
        /// Name of the service.
        service: String,
        /// Why.
        source: RuleError,
    },
    /// Two services of one identity claim the same inbound port, so it tells them no longer apart.
    #[error("services {first:?} and {second:?} share port {port}")]
    SharedPort {
        /// The port.
        port: u16,
        /// One service.
        first: String,
        /// The other.
        second: String,
    },
    /// Two callees of one name.
    #[error("callee {service:?} is there twice")]
    TwoCallees {
        /// Name of the callee.
        service: String,
    },
}

impl Snapshot {
    /// Compiles a slice. Nothing of a slice that is refused is used.
    pub fn build(slice: &Slice) -> Result<Self, SnapshotError> {
        let services = slice.access.services.iter();
        let inbound = services
            .map(InboundTable::build)
            .collect::<Result<Box<[_]>, _>>()?;
        let callees = slice.callees.iter().map(|callee| {
            CalleeTable::build(callee).map_err(|source| SnapshotError::Callee {
                service: callee.service.clone(),
                source,
            })
        });
        let callees = callees.collect::<Result<Box<[_]>, _>>()?;
        let mut hosts: HostIndex<Vec<usize>> = HostIndex::default();
        let mut names = HashMap::new();
        for (position, callee) in callees.iter().enumerate() {
            for pattern in callee.hosts() {
                let sharing = hosts.entry(pattern);
                // Two spellings of one host are one.
                if sharing.last() != Some(&position) {
                    sharing.push(position);
                }
            }
            if names.insert(callee.service().into(), position).is_some() {
                return Err(SnapshotError::TwoCallees {
                    service: callee.service().to_owned(),
                });
            }
        }
        let inbound_ports = ports(&inbound)?;
        Ok(Self {
            identity: slice.identity.clone(),
            inbound,
            inbound_ports,
            callees,
            hosts,
            names,
        })
    }

    /// Whose snapshot this is.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The callee that `Host[:port]` names, in explicit mode. Of several that share a host, the one
    /// under the most specific pattern that has the port. `None`: the workload may not call it, or it
    /// is not known, or it has no such port, or several are meant alike: then it needs the port.
    pub fn outbound(&self, authority_host: &str, port: Option<u16>) -> Option<&CalleeTable> {
        let most_specific = self.hosts.find(authority_host, |positions| {
            let mut meant = positions
                .iter()
                .filter_map(|position| self.callees.get(*position))
                .filter(|callee| port.is_none() || callee.port(port).is_some());
            let first = meant.next()?;
            // None of several wins by its place in the slice.
            Some(meant.next().is_none().then_some(first))
        });
        most_specific.flatten()
    }

    /// The callee of that name.
    pub fn callee(&self, service: &str) -> Option<&CalleeTable> {
        self.names
            .get(service)
            .and_then(|position| self.callees.get(*position))
    }

    /// All callees, in the order of the slice.
    pub fn callees(&self) -> &[CalleeTable] {
        &self.callees
    }

    /// The service behind an inbound port.
    pub fn inbound(&self, port: u16) -> Option<&InboundTable> {
        self.inbound_ports
            .get(&port)
            .and_then(|position| self.inbound.get(*position))
    }

    /// All services of this identity.
    pub fn services(&self) -> &[InboundTable] {
        &self.inbound
    }
}

fn ports(inbound: &[InboundTable]) -> Result<HashMap<u16, usize>, SnapshotError> {
    let mut ports = HashMap::new();
    for (position, table) in inbound.iter().enumerate() {
        for port in &table.ports {
            let earlier = ports
                .insert(port.number, position)
                .and_then(|first| inbound.get(first));
            if let Some(earlier) = earlier {
                return Err(SnapshotError::SharedPort {
                    port: port.number,
                    first: earlier.service().to_owned(),
                    second: table.service().to_owned(),
                });
            }
        }
    }
    Ok(ports)
}

impl InboundTable {
    /// Compiles a service of a slice.
    pub fn build(service: &InboundService) -> Result<Self, SnapshotError> {
        let rules = Rules::build(&service.rules).map_err(|source| SnapshotError::Access {
            service: service.service.clone(),
            source,
        })?;
        Ok(Self {
            service: service.service.as_str().into(),
            ports: service.ports.as_slice().into(),
            rules,
        })
    }

    /// Name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<Port> {
        self.ports
            .iter()
            .find(|port| port.number == number)
            .copied()
    }

    /// Whether the request may enter.
    pub fn authorise(&self, request: &Request<'_>) -> Verdict<'_> {
        self.rules.authorise(request)
    }

    /// The rules that only log and that take the request.
    pub fn audit_hits<'t>(&'t self, request: &Request<'t>) -> impl Iterator<Item = &'t Rule> {
        self.rules.audit_hits(request)
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{Access, AccessRule, Effect, Enforcement, Principal};

    use super::*;
    use crate::path;
    use crate::request::Peer;
    use crate::testing::{callee, id, port, regex, route};

    fn service(name: &str, number: u16) -> InboundService {
        let rules = vec![AccessRule {
            name: "allow web".into(),
            effect: Effect::Allow,
            enforcement: Enforcement::Enforce,
            who: vec![Principal::SpiffeId(id("web"))],
            conditions: Vec::new(),
        }];
        InboundService {
            service: name.into(),
            ports: vec![port(number)],
            rules,
            ..InboundService::default()
        }
    }

    fn slice() -> Slice {
        let mut admin = callee("admin", Vec::new());
        admin.hosts = vec!["shop".into(), "**.example".into()];
        admin.ports = vec![port(9000)];
        let mut shop = callee("shop", vec![route("default", Vec::new())]);
        shop.hosts.push("api.example".into());
        Slice {
            access: Access {
                services: vec![service("shop", 80), service("admin", 9000)],
                ..Access::default()
            },
            callees: vec![shop, admin],
            ..Slice::new(id("shop"))
        }
    }

    #[track_caller]
    fn check(authority: &str, expected: Option<&str>) {
        let snapshot = Snapshot::build(&slice()).unwrap();
        let authority = crate::host::normalise(authority).unwrap();
        let found = snapshot.outbound(authority.host(), authority.port());
        assert_eq!(found.map(CalleeTable::service), expected, "{authority}");
    }

    /// design.md: "Explicit mode: `Host[:port]` names it"; "the same for unknown names".
    #[test]
    fn host_and_port_name_the_callee() {
        check("SHOP.:80", Some("shop"));
        check("shop:9000", Some("admin"));
        check("api.example", Some("shop"));
        check("api.example:9000", Some("admin"));
        check("x.example", Some("admin"));
        check("shop:81", None);
        check("unknown", None);
    }

    /// design.md: "No silent winner", "the port needed if it has several": which of two services that
    /// share a host is meant does not depend on their order in the slice.
    #[test]
    fn a_shared_host_needs_the_port() {
        check("shop", None);
        let mut slice = slice();
        for callee in &mut slice.callees {
            callee.hosts = vec!["shop".into(), "SHOP.".into()];
        }
        slice.callees.reverse();
        let snapshot = Snapshot::build(&slice).unwrap();
        let found = |port| snapshot.outbound("shop", port).map(CalleeTable::service);
        assert_eq!(
            [found(None), found(Some(80)), found(Some(9000))],
            [None, Some("shop"), Some("admin")]
        );
        for callee in &mut slice.callees {
            callee.ports = vec![port(80)];
        }
        let snapshot = Snapshot::build(&slice).unwrap();
        assert!(snapshot.outbound("shop", Some(80)).is_none());
    }

    #[test]
    fn the_inbound_port_tells_services_apart() {
        let snapshot = Snapshot::build(&slice()).unwrap();
        assert_eq!(
            snapshot.inbound(80).map(InboundTable::service),
            Some("shop")
        );
        assert_eq!(
            snapshot.inbound(9000).map(InboundTable::service),
            Some("admin")
        );
        assert!(snapshot.inbound(1).is_none());
        let path = path::normalise("/").unwrap();
        let web = id("web");
        let request = Request {
            peer: Peer::Identity(&web),
            ..Request::new("GET", "a", &path)
        };
        let verdict = snapshot.inbound(80).unwrap().authorise(&request);
        assert_eq!(verdict.rule().map(Rule::name), Some("allow web"));
    }

    #[test]
    fn refuses() {
        let refused = |change: fn(&mut Slice)| {
            let mut slice = slice();
            change(&mut slice);
            Snapshot::build(&slice).unwrap_err().to_string()
        };
        let shared = refused(|slice| slice.access.services.push(service("other", 80)));
        assert_eq!(shared, "services \"shop\" and \"other\" share port 80");
        let twice = refused(|slice| slice.callees.push(callee("shop", Vec::new())));
        assert_eq!(twice, "callee \"shop\" is there twice");
        let pattern = refused(|slice| {
            let matches = vec![mesh_bundle::slice::RouteMatch {
                conditions: vec![regex("(")],
            }];
            slice
                .callees
                .push(callee("bad", vec![route("bad", matches)]));
        });
        assert_eq!(pattern, "callee \"bad\"");
    }
}
