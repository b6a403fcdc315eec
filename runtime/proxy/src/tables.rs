//! What one slice is to the traffic: the engine's tables, and beside them what counts and connects.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_bundle::slice::{
    ClientAddress, ClientCertificate, Destination, RetryBudget, Slice, Target, TlsVersion,
};
use mesh_engine::host::HostPattern;
use mesh_engine::path::Accepts;
use mesh_engine::rbac::Rules;
use mesh_engine::retry::BudgetState;
use mesh_engine::telemetry::TelemetryTable;
use mesh_engine::{CalleeTable, RouteTable, Snapshot, SnapshotError};
use tokio::time::Instant;

use crate::access::Access;
use crate::access::tokens::{ProviderError, Providers};
use crate::gateway::entries::{Entries, Listener, ListenerError};
use crate::gateway::proxy_protocol::TrustedProxies;
use crate::gateway::tls::Terms;
use crate::http::metrics::{
    AuthzCounters, EdgeLabels, EdgeMetrics, Reporter, RequestMetrics, workload,
};
use crate::http::rate_limit::{RateLimits, ServiceLimits};
use crate::secrets::Secrets;
use crate::tcp::carries_bytes;
use crate::tcp::metrics::TcpLabels;
use crate::traces::{Collector, Exporters, Resource, TracesError};
use crate::upstream::dial::{DialError, Dialling};
use crate::upstream::endpoints::{Directory, Group, Picked, dns_names};
use crate::upstream::health::Check;
use crate::upstream::pool::Endpoint;
use crate::upstream::pools::Pools;

mod meant;

pub(crate) use meant::Meant;
use meant::Pins;

/// Immutable but for the endpoints, which have their own life.
#[derive(Debug)]
pub(crate) struct Tables {
    snapshot: Snapshot,
    /// What a path may hold for any callee.
    path_accepts: Accepts,
    generation: String,
    callees: HashMap<Box<str>, CalleeState>,
    entries: Entries,
    /// Of services, gateways and externals.
    authz: HashMap<Box<str>, AuthzCounters>,
    /// Of what has no rules at all.
    no_rules: AuthzCounters,
    gateways: HashMap<Box<str>, GatewayState>,
    rate_limits: HashMap<Box<str>, ServiceLimits>,
    providers: Providers,
    /// Endpoints by their own addresses; none: nobody can call them by these.
    pins: Option<ArcSwap<Pins>>,
    /// Callees by where this proxy listens for them, with the port that is meant.
    listened: BTreeMap<SocketAddr, (Box<str>, u16)>,
    shortest_idle: Option<Duration>,
    /// In the order of the snapshot's telemetry.
    collectors: Box<[Option<Collector>]>,
}

/// A port of a callee.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'t> {
    /// The callee.
    pub(crate) callee: &'t CalleeTable,
    /// Its port.
    pub(crate) port: u16,
}

/// The counters of a gateway: of what it answers itself.
#[derive(Debug)]
pub(crate) struct GatewayState {
    edges: HashMap<Box<str>, Arc<EdgeMetrics>>,
    /// For requests that no route takes.
    pub(crate) no_route: Arc<EdgeMetrics>,
}

impl GatewayState {
    /// The counters of a route.
    pub(crate) fn edge(&self, route: &RouteTable) -> Arc<EdgeMetrics> {
        Arc::clone(self.edges.get(route.name()).unwrap_or(&self.no_route))
    }
}

/// What outlives a generation and its tables are built with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Building<'p> {
    /// Endpoints.
    pub(crate) directory: &'p Directory,
    /// Retry budgets.
    pub(crate) budgets: &'p Budgets,
    /// How many requests may enter.
    pub(crate) rate_limits: &'p RateLimits,
    /// What requests must bring.
    pub(crate) access: &'p Access,
    /// Counters.
    pub(crate) metrics: &'p RequestMetrics,
    /// Collectors.
    pub(crate) exporters: &'p Exporters,
    /// Key material.
    pub(crate) secrets: &'p Secrets,
    /// What answers in place of services outside the mesh.
    pub(crate) stand_in: Option<SocketAddr>,
    /// Whether connections may come by an endpoint's own address.
    pub(crate) intercepts: bool,
    /// Proxies in front of a gateway whose word is taken.
    pub(crate) trusted_proxies: &'p TrustedProxies,
}

/// Why tables cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TablesError {
    /// The engine cannot make sense of the slice.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The listeners of a gateway.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// A callee that is not of the mesh.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A provider of tokens.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Where traces go.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// What the proxy keeps of a callee beside the engine's table.
#[derive(Debug)]
pub(crate) struct CalleeState {
    groups: ArcSwap<Vec<Arc<Group>>>,
    /// How its endpoints are dialled.
    pub(crate) dialling: Dialling,
    /// Shared with the tables before and after, as long as policy does not change it.
    pub(crate) budget: Option<Arc<BudgetState>>,
    edges: HashMap<Box<str>, Arc<EdgeMetrics>>,
    /// For requests that no route takes.
    pub(crate) no_route: Arc<EdgeMetrics>,
}

/// Budgets that outlive a swap.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<String, Arc<BudgetState>>>);

impl Budgets {
    fn of(&self, service: &str, budget: &RetryBudget) -> Arc<BudgetState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = known.get(service).filter(|state| state.budget() == budget) {
            return Arc::clone(state);
        }
        let state = Arc::new(BudgetState::new(budget, Instant::now().into_std()));
        known.insert(service.to_owned(), Arc::clone(&state));
        state
    }

    fn keep(&self, snapshot: &Snapshot) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|service, _| {
            snapshot
                .callee(service)
                .is_some_and(|callee| callee.retry_budget().is_some())
        });
    }
}

impl Tables {
    /// Builds everything aside.
    pub(crate) fn build(
        slice: &Slice,
        generation: &str,
        with: &Building<'_>,
    ) -> Result<Self, TablesError> {
        let Building {
            directory,
            budgets,
            rate_limits: limits,
            access,
            metrics,
            exporters,
            secrets,
            stand_in,
            intercepts,
            trusted_proxies,
        } = *with;
        let snapshot = Snapshot::build(slice)?;
        let entries = Entries::build(listeners(slice), secrets, trusted_proxies)?;
        let identity = snapshot.identity().to_string();
        let mut diallings = slice
            .callees
            .iter()
            .map(|callee| {
                let dialling = Dialling::of(callee, secrets, stand_in)?;
                Ok((callee.service.as_str(), dialling))
            })
            .collect::<Result<HashMap<_, _>, DialError>>()?;
        let mut state = |callee: &CalleeTable| {
            let dialling = diallings.remove(callee.service()).unwrap_or_default();
            let edge = |route: &str| {
                metrics.edge(EdgeLabels {
                    reporter: Reporter::Source,
                    src_identity: identity.clone(),
                    dst_service: callee.service().to_owned(),
                    route: route.to_owned(),
                    subsets: callee
                        .subsets()
                        .iter()
                        .map(|subset| subset.name.clone())
                        .collect(),
                    dst_identities: callee
                        .identities()
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                })
            };
            let edges = callee
                .routes()
                .iter()
                .map(|route| (route.name().into(), edge(route.name())));
            CalleeState {
                groups: ArcSwap::from_pointee(directory.groups(callee, &dialling)),
                dialling,
                budget: callee
                    .retry_budget()
                    .map(|budget| budgets.of(callee.service(), budget)),
                edges: edges.collect(),
                no_route: edge(""),
            }
        };
        let callees = snapshot
            .callees()
            .iter()
            .map(|callee| (callee.service().into(), state(callee)));
        let callees = callees.collect();
        let gateways = snapshot.gateways().iter().map(|gateway| {
            let edge = |route: &str| {
                metrics.edge(EdgeLabels {
                    reporter: Reporter::Source,
                    src_identity: identity.clone(),
                    dst_service: gateway.name().to_owned(),
                    route: route.to_owned(),
                    subsets: Vec::new(),
                    dst_identities: Vec::new(),
                })
            };
            let edges = gateway.routes().iter();
            let state = GatewayState {
                edges: edges
                    .map(|route| (route.name().into(), edge(route.name())))
                    .collect(),
                no_route: edge(""),
            };
            (gateway.name().into(), state)
        });
        let gateways = gateways.collect();
        let entered = snapshot.services().iter();
        let entered = entered.map(|table| (table.service(), table.rules()));
        let left = snapshot.callees().iter().filter_map(|callee| {
            let rules = snapshot.external(callee.service())?;
            Some((callee.service(), rules))
        });
        let authz = entered.chain(left);
        let authz = authz.map(|(service, rules)| (service.into(), metrics.authz(service, rules)));
        let authz = authz.collect();
        let listened = snapshot.callees().iter().flat_map(|callee| {
            let listeners = callee.listeners().iter();
            listeners.map(|listener| {
                let callee = Box::from(callee.service());
                (listener.address, (callee, listener.port))
            })
        });
        let listened = listened.collect();
        let services = slice.access.services.iter();
        let rate_limits = services.map(|service| {
            let name = Box::from(service.service.as_str());
            (name, limits.of(service))
        });
        let tables = Self {
            shortest_idle: shortest_idle(slice),
            collectors: collectors(&snapshot, exporters, secrets)?,
            listened,
            authz,
            no_rules: metrics.authz("", &Rules::default()),
            gateways,
            rate_limits: rate_limits.collect(),
            providers: Providers::build(slice, &snapshot, (access, secrets))?,
            path_accepts: snapshot
                .callees()
                .iter()
                .fold(Accepts::default(), |all, callee| {
                    all.or(callee.path_accepts())
                }),
            snapshot,
            generation: generation.to_owned(),
            callees,
            entries,
            pins: intercepts.then(ArcSwap::default),
        };
        tables.pin();
        Ok(tables)
    }

    /// The engine's tables.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What a path may hold until it is known whom it calls.
    pub(crate) fn path_accepts(&self) -> Accepts {
        self.path_accepts
    }

    /// Name of the generation that the slice came with.
    pub(crate) fn generation(&self) -> &str {
        &self.generation
    }

    /// Which of the snapshot's telemetry a service has; none: it says nothing.
    pub(crate) fn telemetry_of(&self, service: &str) -> Option<usize> {
        let mut of_services = self.snapshot.telemetry().iter().skip(OF_CALLS + 1);
        let at = of_services.position(|telemetry| telemetry.service() == service);
        at.map(|at| OF_CALLS + 1 + at)
    }

    /// Where the hops of one of the snapshot's telemetry are told.
    pub(crate) fn collector(&self, telemetry: usize) -> Option<&Collector> {
        self.collectors.get(telemetry)?.as_ref()
    }

    /// Whether any hop is told.
    pub(crate) fn is_tracing(&self) -> bool {
        self.collectors.iter().any(Option::is_some)
    }

    /// Counts what the rules of a service, a gateway or an external decide.
    pub(crate) fn authz(&self, service: &str) -> &AuthzCounters {
        self.authz.get(service).unwrap_or(&self.no_rules)
    }

    /// Whether policy says that such connections may come: to a callee, or from somebody whom a rule names. Those whom
    /// rules admit without a name are too many to be known.
    pub(crate) fn knows(&self, labels: &TcpLabels) -> bool {
        let service = &labels.dst_service;
        match labels.reporter {
            Reporter::Source => self.snapshot.callee(service).is_some(),
            Reporter::Destination => {
                let mut services = self.snapshot.services().iter();
                services.any(|table| {
                    table.service() == service && table.rules().names(&labels.src_identity)
                })
            }
        }
    }

    /// The listeners of a gateway.
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The counters of a gateway.
    pub(crate) fn gateway(&self, name: &str) -> Option<&GatewayState> {
        self.gateways.get(name)
    }

    /// What is kept of a callee.
    pub(crate) fn state(&self, callee: &CalleeTable) -> Option<&CalleeState> {
        self.callees.get(callee.service())
    }

    /// The shortest time that a connection may lie unused, if policy says one.
    pub(crate) fn shortest_idle(&self) -> Option<Duration> {
        self.shortest_idle
    }

    /// Forgets what only earlier tables had.
    pub(crate) fn settle(&self, budgets: &Budgets, pools: &Pools) {
        budgets.keep(&self.snapshot);
        pools.keep(self.snapshot.callees());
    }

    /// Works the endpoints out again.
    pub(crate) fn refresh_endpoints(&self, directory: &Directory) {
        for callee in self.snapshot.callees() {
            if let Some(state) = self.state(callee) {
                state
                    .groups
                    .store(Arc::new(directory.groups(callee, &state.dialling)));
            }
        }
        self.pin();
    }

    /// Where this proxy listens for callees.
    pub(crate) fn listened(&self) -> impl Iterator<Item = SocketAddr> {
        self.listened.keys().copied()
    }

    /// The callee that this proxy listens for there, and the port that is meant.
    pub(crate) fn listens_at(&self, address: SocketAddr) -> Option<(&CalleeTable, u16)> {
        let (service, port) = self.listened.get(&address)?;
        Some((self.snapshot.callee(service)?, *port))
    }

    /// The port of the target that is meant by what goes to `port` of the callee that was named.
    pub(crate) fn place(&self, target: &Target, port: u16) -> Option<Place<'_>> {
        let callee = self.snapshot.callee(&target.service)?;
        // Another service may have the same port, or be known by its only one.
        let port = callee
            .port(target.port.or(Some(port)))
            .or_else(|| callee.port(None))?
            .number;
        Some(Place { callee, port })
    }

    /// The endpoints of a target for what goes to `port` of the callee that was named.
    pub(crate) fn group(&self, target: &Target, port: u16) -> Option<Arc<Group>> {
        let Place { callee, port } = self.place(target, port)?;
        let groups = self.state(callee)?.groups.load();
        groups
            .iter()
            .find(|group| group.is(target.subset.as_deref(), port))
            .cloned()
    }

    /// How many endpoints a callee has by state, each port counted.
    pub(crate) fn endpoints(&self, callee: &CalleeTable) -> [(&'static str, u64); 3] {
        let groups = self.state(callee).map(|state| state.groups.load_full());
        let groups = groups.iter().flat_map(|groups| groups.iter());
        let (mut available, mut ejected, mut unhealthy) = (0, 0, 0);
        for (_, member) in groups.flat_map(|group| group.whole_members()) {
            match (member.is_healthy(), member.is_ejected()) {
                (false, _) => unhealthy += 1,
                (true, true) => ejected += 1,
                (true, false) => available += 1,
            }
        }
        [
            ("available", available),
            ("ejected", ejected),
            ("unhealthy", unhealthy),
        ]
    }

    /// The endpoints of a callee by port and subset, as they are now.
    pub(crate) fn groups(&self, callee: &CalleeTable) -> Vec<Arc<Group>> {
        let state = self.state(callee);
        state.map_or_else(Vec::new, |state| state.groups.load().to_vec())
    }

    /// Picks an endpoint of a destination, another one than `tried` if there is any. Its substitutes stand in
    /// where nobody of it is well; where nobody of them is either, it is taken all the same.
    pub(crate) fn pick(
        &self,
        destination: &Destination,
        port: u16,
        tried: &[Arc<Endpoint>],
        hash: Option<u64>,
    ) -> Option<(Picked, Place<'_>)> {
        let mut rng = rand::rng();
        let mut pick = |target: &Target, unwell: bool| {
            let place = self.place(target, port)?;
            let group = self.group(target, port)?;
            if !unwell && !group.is_available() {
                return None;
            }
            Some((group.pick(tried, hash, &mut rng)?, place))
        };
        let (first, otherwise) = (&destination.target, &destination.otherwise);
        if otherwise.is_empty() {
            return pick(first, true);
        }
        let all = || std::iter::once(first).chain(otherwise);
        all()
            .find_map(|target| pick(target, false))
            .or_else(|| all().find_map(|target| pick(target, true)))
    }

    /// An endpoint that was asked for by its own address, as one of a destination.
    pub(crate) fn pinned_of(&self, endpoint: &Arc<Endpoint>, target: &Target, port: u16) -> Picked {
        let group = self.group(target, port);
        let found = group.and_then(|group| group.find(endpoint));
        found.unwrap_or_else(|| Picked {
            endpoint: Arc::clone(endpoint),
            of: None,
        })
    }

    /// How endpoints are asked whether they live.
    pub(crate) fn health_checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for callee in self.snapshot.callees() {
            let Some(state) = self.state(callee) else {
                continue;
            };
            let host = callee.hosts().iter().find_map(HostPattern::literal);
            let host = host.unwrap_or(callee.service());
            for group in state.groups.load().iter() {
                let of_member = group.members().flat_map(|(endpoint, member)| {
                    let health = member.health().iter();
                    health.map(move |(check, health)| Check {
                        service: callee.service().to_owned(),
                        port: group.port(),
                        bytes: carries_bytes(callee.port(Some(group.port()))),
                        host: host.to_owned(),
                        endpoint: Arc::clone(endpoint),
                        policy: check.clone(),
                        health: Arc::clone(health),
                    })
                });
                checks.extend(of_member);
            }
        }
        checks
    }

    /// Whose tokens are known.
    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }

    /// How many requests may enter a service or gateway.
    pub(crate) fn rate_limits(&self, service: &str) -> Option<&ServiceLimits> {
        self.rate_limits.get(service)
    }

    /// The names that have to be resolved.
    pub(crate) fn dns_names(&self) -> Vec<(String, u16)> {
        let callees = self.snapshot.callees().iter();
        callees
            .filter_map(|callee| Some((callee, self.state(callee)?)))
            .flat_map(|(callee, state)| dns_names(callee, &state.dialling))
            .collect()
    }
}

/// Position of what holds for calls in the snapshot's telemetry.
pub(crate) const OF_CALLS: usize = 0;

fn collectors(
    snapshot: &Snapshot,
    exporters: &Exporters,
    secrets: &Secrets,
) -> Result<Box<[Option<Collector>]>, TracesError> {
    let identity = snapshot.identity().to_string();
    let collector = |telemetry: &TelemetryTable| {
        let Some(traces) = telemetry.traces() else {
            return Ok(None);
        };
        let service = match telemetry.service() {
            "" => workload(&identity),
            service => service,
        };
        let resource = Resource {
            service: service.to_owned(),
            identity: identity.clone(),
            instance: exporters.instance().to_owned(),
        };
        Ok(Some(Collector {
            exporter: exporters.get(&traces.otlp, secrets)?,
            resource: Arc::new(resource),
        }))
    };
    snapshot.telemetry().iter().map(collector).collect()
}

fn shortest_idle(slice: &Slice) -> Option<Duration> {
    let of_callees = slice.callees.iter().flat_map(|callee| &callee.routes);
    let of_gateways = slice.gateways.iter().flat_map(|gateway| &gateway.routes);
    let idle = of_callees.chain(of_gateways).flat_map(|route| {
        let passed = route.exchanges.iter().map(|each| &each.exchange);
        passed
            .chain([&route.exchange])
            .map(|exchange| exchange.idle)
    });
    idle.flatten().min()
}

/// The listeners of the gateways of a slice. A service's own listeners are opened otherwise.
fn listeners(slice: &Slice) -> impl Iterator<Item = Listener> {
    let is_gateway = |name: &str| slice.gateways.iter().any(|gateway| gateway.name == name);
    let entered = slice.access.services.iter();
    entered
        .filter(move |service| is_gateway(&service.service))
        .flat_map(|service| &service.listeners)
        .map(|listener| Listener {
            port: listener.port,
            hosts: if listener.hosts.is_empty() {
                vec!["**".to_owned()]
            } else {
                listener.hosts.clone()
            },
            terms: listener.tls.as_ref().map(|tls| Terms {
                certificate: tls.certificate.clone(),
                clients: tls
                    .trust
                    .clone()
                    .filter(|_| tls.client != ClientCertificate::None),
                optional: tls.client == ClientCertificate::Optional,
                only_tls13: tls.min == TlsVersion::V1_3,
            }),
            hops: match listener.client_address {
                ClientAddress::ForwardedFor { hops } => usize::try_from(hops).unwrap_or(usize::MAX),
                ClientAddress::Peer | ClientAddress::ProxyProtocol => 0,
            },
            proxied: listener.client_address == ClientAddress::ProxyProtocol,
        })
}

impl CalleeState {
    /// The counters of a route.
    pub(crate) fn edge(&self, route: &RouteTable) -> Arc<EdgeMetrics> {
        Arc::clone(self.edges.get(route.name()).unwrap_or(&self.no_route))
    }
}
