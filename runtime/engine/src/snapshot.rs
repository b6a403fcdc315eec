//! The immutable tables of one slice. A proxy builds a new snapshot aside and swaps it in whole.

use std::collections::HashMap;
use std::net::IpAddr;

use mesh_bundle::slice::{
    Authorizer, Destination, Gateway, JwtProvider, OutboundService, Protocol, Slice,
};
use mesh_bundle::spiffe::SpiffeId;

use crate::condition::ConditionError;
use crate::gateway::GatewayTable;
use crate::host::HostIndex;
use crate::inbound::{Gate, InboundError, InboundTable};
use crate::rbac::{RuleError, Rules, Verdict};
use crate::request::{Peer, Request};
use crate::route::{CalleeTable, RouteError, RouteTable};
use crate::telemetry::TelemetryTable;

mod address;

use address::AddressIndex;

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
    addresses: AddressIndex,
    gateways: Box<[GatewayTable]>,
    /// Who may leave, by the name of the external.
    externals: HashMap<Box<str>, Rules>,
    jwts: Box<[JwtProvider]>,
    authorizers: Box<[Authorizer]>,
    /// That of calls first.
    telemetry: Box<[TelemetryTable]>,
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
        source: InboundError,
    },
    /// A rule for an external.
    #[error("access to external {service:?}")]
    External {
        /// Name of the external.
        service: String,
        /// Why.
        source: RuleError,
    },
    /// A gateway.
    #[error("gateway {gateway:?}")]
    Gateway {
        /// Name of the gateway.
        gateway: String,
        /// Why.
        source: RouteError,
    },
    /// A gateway that nothing says how to enter.
    #[error("gateway {gateway:?} has no ports")]
    NoPorts {
        /// Name of the gateway.
        gateway: String,
    },
    /// A token provider or authorizer that is not in the slice.
    #[error("service {service:?} asks for {gate:?}, which the slice does not have")]
    UnknownGate {
        /// Name of the service.
        service: String,
        /// Name of the provider or authorizer.
        gate: String,
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
    /// What of a service is logged.
    #[error("access log of service {service:?}")]
    AccessLog {
        /// Name of the service.
        service: String,
        /// Why.
        source: ConditionError,
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
        let inbound = services.map(|service| {
            InboundTable::build(service).map_err(|source| SnapshotError::Access {
                service: service.service.clone(),
                source,
            })
        });
        let inbound = inbound.collect::<Result<Box<[_]>, _>>()?;
        check_gates(slice, &inbound)?;
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
        let addresses = AddressIndex::build(&callees);
        let gateways = gateways(slice, &inbound)?;
        Ok(Self {
            identity: slice.identity.clone(),
            inbound,
            inbound_ports,
            callees,
            hosts,
            names,
            addresses,
            gateways,
            externals: externals(slice)?,
            jwts: slice.access.jwts.as_slice().into(),
            authorizers: slice.access.authorizers.as_slice().into(),
            telemetry: telemetry(slice)?,
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

    /// The callee whose virtual address this is, for intercepted traffic: the one under the longest
    /// prefix that has the port. `None`: nobody's, or that of several alike.
    pub fn outbound_at(&self, address: IpAddr, port: u16) -> Option<&CalleeTable> {
        let position = self.addresses.find(address, |position| {
            let callee = self.callees.get(position);
            callee.is_some_and(|callee| callee.port(Some(port)).is_some())
        })?;
        self.callees.get(position)
    }

    /// Whether this workload may send the request to a callee, and who says so: for an external its rules
    /// do, enforced here (no barrier against a compromised workload). `None`: a callee that judges for
    /// itself, where it is entered.
    pub fn leave(&self, callee: &CalleeTable, request: &Request<'_>) -> Option<Verdict<'_>> {
        if !callee.is_external() {
            return None;
        }
        let Some(rules) = self.externals.get(callee.service()) else {
            return Some(Verdict::Denied { rule: None });
        };
        let request = Request {
            peer: Peer::Identity(&self.identity),
            ..*request
        };
        Some(rules.authorise(&request))
    }

    /// The same for a connection of bytes.
    pub fn leave_with_bytes(
        &self,
        callee: &CalleeTable,
        connection: &Request<'_>,
    ) -> Option<Verdict<'_>> {
        if !callee.is_external() {
            return None;
        }
        let Some(rules) = self.externals.get(callee.service()) else {
            return Some(Verdict::Denied { rule: None });
        };
        let connection = Request {
            peer: Peer::Identity(&self.identity),
            ..*connection
        };
        Some(rules.authorise_connection(&connection))
    }

    /// Whether a request that a route of a callee sends to another service may be sent there: where that one is outside of
    /// the mesh its rules say so, of the request as it then is. What goes to the callee itself is judged as it
    /// comes, see [`Self::leave`].
    pub fn may_go(
        &self,
        callee: &CalleeTable,
        route: &RouteTable,
        to: &Destination,
        request: &Request<'_>,
    ) -> bool {
        let target = &to.target;
        let other = self.callee(&target.service);
        let other = other.filter(|other| other.is_external());
        let Some(other) = other.filter(|other| other.service() != callee.service()) else {
            return true;
        };
        let judge = |request: &Request<'_>| {
            let port = target.port.unwrap_or(request.port);
            let request = Request { port, ..*request };
            let carries_bytes = other
                .port(Some(port))
                .is_some_and(|port| matches!(port.protocol, Protocol::Tcp | Protocol::Tls));
            let verdict = if carries_bytes {
                self.leave_with_bytes(other, &request)
            } else {
                self.leave(other, &request)
            };
            verdict.is_none_or(|verdict| verdict.is_allowed())
        };
        route.forwarded(request, Some(to), judge).unwrap_or(false)
    }

    /// The rules of an external.
    pub fn external(&self, service: &str) -> Option<&Rules> {
        self.externals.get(service)
    }

    /// The gateway of that name.
    pub fn gateway(&self, name: &str) -> Option<&GatewayTable> {
        self.gateways.iter().find(|gateway| gateway.name() == name)
    }

    /// All gateways of this identity, in the order of the slice.
    pub fn gateways(&self) -> &[GatewayTable] {
        &self.gateways
    }

    /// The token provider of that name.
    pub fn jwt(&self, name: &str) -> Option<&JwtProvider> {
        self.jwts.iter().find(|jwt| jwt.name == name)
    }

    /// All token providers, in the order of the slice.
    pub fn jwts(&self) -> &[JwtProvider] {
        &self.jwts
    }

    /// The token providers that the requirements of a service or gateway speak of.
    pub fn token_providers<'s>(
        &'s self,
        table: &'s InboundTable,
    ) -> impl Iterator<Item = &'s JwtProvider> {
        let names = table.token_providers().iter();
        names.filter_map(|name| self.jwt(name))
    }

    /// The authorizer of that name.
    pub fn authorizer(&self, name: &str) -> Option<&Authorizer> {
        self.authorizers.iter().find(|each| each.name == name)
    }

    /// Logs and traces: of the calls of this identity first, then of each service and gateway that says something.
    pub fn telemetry(&self) -> &[TelemetryTable] {
        &self.telemetry
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

fn telemetry(slice: &Slice) -> Result<Box<[TelemetryTable]>, SnapshotError> {
    let failed = |service: &str, source| SnapshotError::AccessLog {
        service: service.to_owned(),
        source,
    };
    let of_calls = TelemetryTable::of_calls(&slice.telemetry);
    let of_services = slice
        .telemetry
        .iter()
        .map(|each| TelemetryTable::build(each).map_err(|source| failed(&each.service, source)));
    std::iter::once(of_calls.map_err(|source| failed("", source)))
        .chain(of_services)
        .collect()
}

/// A requirement that nobody can meet, or that nobody asks, is a mistake and never a way in.
fn check_gates(slice: &Slice, inbound: &[InboundTable]) -> Result<(), SnapshotError> {
    for table in inbound {
        for (gate, name) in table.gates() {
            let known = match gate {
                Gate::Jwt => slice.access.jwts.iter().any(|jwt| jwt.name == name),
                Gate::Authorizer => slice.access.authorizers.iter().any(|own| own.name == name),
            };
            if !known {
                return Err(SnapshotError::UnknownGate {
                    service: table.service().to_owned(),
                    gate: name.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn gateways(slice: &Slice, inbound: &[InboundTable]) -> Result<Box<[GatewayTable]>, SnapshotError> {
    let build = |gateway: &Gateway| {
        if !inbound.iter().any(|table| table.service() == gateway.name) {
            return Err(SnapshotError::NoPorts {
                gateway: gateway.name.clone(),
            });
        }
        GatewayTable::build(gateway).map_err(|source| SnapshotError::Gateway {
            gateway: gateway.name.clone(),
            source,
        })
    };
    slice.gateways.iter().map(build).collect()
}

fn externals(slice: &Slice) -> Result<HashMap<Box<str>, Rules>, SnapshotError> {
    let build = |external: &OutboundService| {
        let rules = Rules::build(&external.rules);
        let rules = rules.map_err(|source| SnapshotError::External {
            service: external.service.clone(),
            source,
        })?;
        Ok((external.service.as_str().into(), rules))
    };
    slice.access.externals.iter().map(build).collect()
}

fn ports(inbound: &[InboundTable]) -> Result<HashMap<u16, usize>, SnapshotError> {
    let mut ports = HashMap::new();
    for (position, table) in inbound.iter().enumerate() {
        for port in table.ports() {
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

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{
        Access, AccessRule, CalleeKind, Effect, Enforcement, InboundService, Principal,
        Requirement, RequirementKind,
    };

    use super::*;
    use crate::path;
    use crate::rbac::Rule;
    use crate::testing::{callee, id, method, port, regex, route};

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

    /// design.md: "for `external`, at the caller's outbound"; default deny there too.
    #[test]
    fn externals_are_judged_on_the_way_out() {
        let external = |name: &str| {
            let mut callee = callee(name, vec![route("default", Vec::new())]);
            callee.kind = CalleeKind::External { via: None };
            callee
        };
        let mut rules = service("stripe", 80).rules;
        rules[0].conditions = vec![method("POST")];
        let mut slice = Slice {
            callees: vec![
                external("stripe"),
                external("other"),
                callee("shop", Vec::new()),
            ],
            ..Slice::new(id("web"))
        };
        slice.access.externals = vec![OutboundService {
            service: "stripe".into(),
            rules,
        }];
        let snapshot = Snapshot::build(&slice).unwrap();
        let path = path::normalise("/").unwrap();
        // Whatever the request says of its peer: who leaves is the workload.
        let leave = |name: &str, method| {
            let request = Request::new(method, "a", &path);
            let verdict = snapshot.leave(snapshot.callee(name).unwrap(), &request);
            verdict.map(|verdict| verdict.is_allowed())
        };
        assert_eq!(leave("stripe", "POST"), Some(true));
        assert_eq!(leave("stripe", "GET"), Some(false));
        assert_eq!(leave("other", "POST"), Some(false));
        assert_eq!(leave("shop", "POST"), None);
    }

    #[test]
    fn virtual_addresses_name_the_callee() {
        let at = |name: &str, number, nets: &[&str]| {
            let mut callee = callee(name, Vec::new());
            callee.ports = vec![port(number)];
            callee.addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
            callee
        };
        let slice = Slice {
            callees: vec![
                at("net", 80, &["10.0.0.0/8", "fd00::/8"]),
                at("host", 80, &["10.0.0.7/32"]),
                at("port", 81, &["10.0.0.7/32"]),
                at("twin", 82, &["10.0.0.7/32"]),
                at("twin2", 82, &["::ffff:10.0.0.7/128"]),
            ],
            ..Slice::new(id("web"))
        };
        let snapshot = Snapshot::build(&slice).unwrap();
        let found = |address: &str, port| {
            let callee = snapshot.outbound_at(address.parse().unwrap(), port);
            callee.map(CalleeTable::service)
        };
        assert_eq!(found("10.0.0.7", 80), Some("host"));
        assert_eq!(found("::ffff:10.0.0.7", 81), Some("port"));
        assert_eq!(found("10.0.0.8", 80), Some("net"));
        assert_eq!(found("10.0.0.8", 81), None);
        assert_eq!(found("fd00::1", 80), Some("net"));
        assert_eq!(found("11.0.0.1", 80), None);
        assert_eq!(found("10.0.0.7", 82), None);
    }

    #[test]
    fn a_gate_must_be_known() {
        let mut slice = slice();
        let requirement = Requirement {
            kind: RequirementKind::RequireJwt("id".into()),
            route: None,
            conditions: Vec::new(),
        };
        slice.access.services[0].requirements = vec![requirement];
        let error = Snapshot::build(&slice).unwrap_err();
        assert_eq!(
            error.to_string(),
            "service \"shop\" asks for \"id\", which the slice does not have"
        );
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
