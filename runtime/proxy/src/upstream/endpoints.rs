//! Which endpoints each callee has: what the slice declares or the feed says, narrowed to the
//! identities that the slice names. Worked out when one of them changes, never per request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mesh_bundle::slice::{DeclaredEndpoint, EndpointAddress, EndpointSource, Label};
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::CalleeTable;
use mesh_engine::balance::{self, Balancer};
use mesh_engine::host::HostPattern;

use super::connect::{MeshClient, Security};
use super::dial::{Dialling, Sharing};
use super::outside::may_be_dialled;
use super::pool::{Endpoint, Shared};
use crate::data_plane::EndpointSet;

/// An endpoint as balancing sees it.
#[derive(Debug)]
pub(crate) struct Member(pub(crate) Arc<Endpoint>);

impl balance::Endpoint for Member {
    fn is_available(&self) -> bool {
        true
    }

    fn active(&self) -> usize {
        usize::try_from(self.0.active()).unwrap_or(usize::MAX)
    }
}

/// The endpoints of one destination.
#[derive(Debug)]
pub(crate) struct Group {
    subset: Option<String>,
    port: u16,
    balancer: Balancer,
    members: Vec<Member>,
}

impl Group {
    /// Whether it is the group of that subset (none: all endpoints) and port.
    pub(crate) fn is(&self, subset: Option<&str>, port: u16) -> bool {
        self.port == port && self.subset.as_deref() == subset
    }

    /// The port of the service.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its endpoints, if these are all of the port.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let all = self.members.iter().filter(|_| self.subset.is_none());
        all.map(|Member(endpoint)| endpoint)
    }

    /// Picks an endpoint, another one than `tried` if there is any.
    pub(crate) fn pick(
        &self,
        tried: &[Arc<Endpoint>],
        rng: &mut impl rand::Rng,
    ) -> Option<Arc<Endpoint>> {
        let position = |tried: &Arc<Endpoint>| {
            self.members
                .iter()
                .position(|member| Arc::ptr_eq(&member.0, tried))
        };
        let tried: Vec<usize> = tried.iter().filter_map(position).collect();
        let picked = self.balancer.pick(&self.members, &tried, rng)?;
        self.members.get(picked).map(|member| Arc::clone(&member.0))
    }
}

/// All endpoints that this proxy knows.
#[derive(Debug)]
pub(crate) struct Directory {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// An endpoint lasts as long as somebody uses it.
type Known = HashMap<(SocketAddr, Sharing), Weak<Endpoint>>;

#[derive(Debug, Default)]
struct State {
    /// Raised by every change.
    version: u64,
    fed: BTreeMap<String, Vec<EndpointSet>>,
    resolved: BTreeMap<(String, u16), Vec<SocketAddr>>,
    known: Known,
    /// The local application's.
    kept: Vec<Weak<Endpoint>>,
}

/// One endpoint before it is looked up.
struct Candidate<'a> {
    address: SocketAddr,
    port: u16,
    labels: &'a [Label],
    spiffe_id: Option<&'a SpiffeId>,
}

impl Directory {
    /// Knows nothing yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            state: Mutex::default(),
        }
    }

    /// What all endpoints share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A number that changes whenever [`Directory::groups`] could.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Replaces everything that was fed.
    pub(crate) fn feed(&self, sets: Vec<EndpointSet>) {
        let mut fed: BTreeMap<String, Vec<EndpointSet>> = BTreeMap::new();
        for set in sets {
            fed.entry(set.service.clone()).or_default().push(set);
        }
        let mut state = self.lock();
        state.fed = fed;
        state.version += 1;
    }

    /// Notes what a name resolves to; says whether that is news.
    pub(crate) fn resolved(&self, name: &str, port: u16, addresses: &[SocketAddr]) -> bool {
        let mut state = self.lock();
        let before = state
            .resolved
            .insert((name.to_owned(), port), addresses.to_vec());
        let news = before.as_deref() != Some(addresses);
        state.version += u64::from(news);
        news
    }

    /// Sweeps this endpoint too.
    pub(crate) fn keep(&self, endpoint: &Arc<Endpoint>) {
        self.lock().kept.push(Arc::downgrade(endpoint));
    }

    /// The endpoints of a callee by subset and port.
    pub(crate) fn groups(&self, callee: &CalleeTable, dialling: &Dialling) -> Vec<Arc<Group>> {
        let mut state = self.lock();
        let State {
            fed,
            resolved,
            known,
            ..
        } = &mut *state;
        let candidates = candidates(callee, dialling, fed.get(callee.service()), resolved);
        let endpoints: Vec<_> = candidates
            .iter()
            .filter_map(|candidate| {
                Some((
                    candidate,
                    self.endpoint(known, callee, dialling, candidate)?,
                ))
            })
            .collect();
        let subsets = callee
            .subsets()
            .iter()
            .map(|subset| (Some(&subset.name), &*subset.labels));
        let all = [(None, [].as_slice())];
        let wanted = all.into_iter().chain(subsets);
        let groups = wanted.flat_map(|(subset, labels)| {
            callee
                .ports()
                .iter()
                .map(move |port| (subset, labels, port.number))
        });
        groups
            .map(|(subset, labels, port)| {
                let members = endpoints.iter().filter(|(candidate, _)| {
                    candidate.port == port
                        && labels.iter().all(|label| candidate.labels.contains(label))
                });
                Arc::new(Group {
                    subset: subset.cloned(),
                    port,
                    balancer: Balancer::new(callee.balance()),
                    members: members
                        .map(|(_, endpoint)| Member(Arc::clone(endpoint)))
                        .collect(),
                })
            })
            .collect()
    }

    /// The endpoint with its pool, if it may be dialled at all.
    fn endpoint(
        &self,
        known: &mut Known,
        callee: &CalleeTable,
        dialling: &Dialling,
        candidate: &Candidate<'_>,
    ) -> Option<Arc<Endpoint>> {
        if let Some((sharing, security)) = dialling.security(candidate.port) {
            return self.known(known, candidate.address, sharing, || Some(security));
        }
        let identities: BTreeSet<SpiffeId> = callee
            .identities()
            .iter()
            .filter(|identity| {
                candidate
                    .spiffe_id
                    .is_none_or(|narrowed| narrowed == *identity)
            })
            .cloned()
            .collect();
        if identities.is_empty() {
            let (service, address) = (callee.service(), candidate.address);
            tracing::warn!(service, %address, "an endpoint claims an identity that its service has not");
            return None;
        }
        let client = MeshClient::new(&self.shared.credentials, &identities);
        let sharing = Sharing::Mesh(identities);
        self.known(known, candidate.address, sharing, || {
            let client = client
                .inspect_err(|error| tracing::error!(%error, "no TLS towards an endpoint"))
                .ok()?;
            Some(Security::Mesh(client))
        })
    }

    /// The endpoint that is known, or a new one.
    fn known(
        &self,
        known: &mut Known,
        address: SocketAddr,
        sharing: Sharing,
        security: impl FnOnce() -> Option<Security>,
    ) -> Option<Arc<Endpoint>> {
        let key = (address, sharing);
        if let Some(endpoint) = known.get(&key).and_then(Weak::upgrade) {
            return Some(endpoint);
        }
        let endpoint = Arc::new(Endpoint::new(
            address,
            security()?,
            Arc::clone(&self.shared),
        ));
        known.insert(key, Arc::downgrade(&endpoint));
        Some(endpoint)
    }

    /// Lets go of connections that were not used for long, and of endpoints that are gone.
    pub(crate) fn sweep(&self) {
        let mut state = self.lock();
        state
            .known
            .retain(|_, endpoint| endpoint.strong_count() > 0);
        let all = state.known.values().chain(&state.kept);
        let endpoints: Vec<_> = all.filter_map(Weak::upgrade).collect();
        drop(state);
        for endpoint in endpoints {
            endpoint.sweep();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves maps that are still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn candidates<'a>(
    callee: &'a CalleeTable,
    dialling: &Dialling,
    fed: Option<&'a Vec<EndpointSet>>,
    resolved: &BTreeMap<(String, u16), Vec<SocketAddr>>,
) -> Vec<Candidate<'a>> {
    let plain = |address, port| Candidate {
        address,
        port,
        labels: &[],
        spiffe_id: None,
    };
    if let Dialling::StandIn(address) = dialling {
        let ports = callee.ports().iter();
        return ports.map(|port| plain(*address, port.number)).collect();
    }
    // A feed cannot lead out of the mesh.
    if let Some(sets) = fed.filter(|_| !dialling.leaves()) {
        let of_set = |set: &'a EndpointSet| {
            set.addresses.iter().map(|(port, address)| Candidate {
                address: *address,
                port: *port,
                labels: &set.labels,
                spiffe_id: set.spiffe_id.as_ref(),
            })
        };
        return sets.iter().flat_map(of_set).collect();
    }
    let is_external = matches!(dialling, Dialling::External(_));
    let found = |name: &str, port: u16| {
        let all = resolved.get(&(name.to_owned(), port));
        let all = all.into_iter().flatten().copied();
        let leaves = dialling.leaves();
        all.filter(move |address| {
            // Whoever is met with mutual TLS must say who it is; anybody else is where the name says.
            let may_be = !leaves || may_be_dialled(address.ip());
            if !may_be {
                tracing::warn!(name, %address, "a name leads where no name may lead, and is not followed");
            }
            may_be
        })
            .collect::<Vec<_>>()
    };
    let declared = declared(callee);
    if declared.is_empty() && is_external {
        let by_host = hosts_to_dial(callee, dialling).flat_map(|(port, name, really)| {
            let addresses = found(name, really).into_iter();
            addresses.map(move |address| plain(address, port))
        });
        return by_host.collect();
    }
    declared
        .iter()
        .flat_map(|endpoint| {
            let addresses = match &endpoint.address {
                EndpointAddress::Static(address) => vec![*address],
                EndpointAddress::Dns { name, port } => found(name, *port),
            };
            addresses.into_iter().map(|address| Candidate {
                address,
                port: endpoint.port,
                labels: &endpoint.labels,
                spiffe_id: None,
            })
        })
        .collect()
}

fn declared(callee: &CalleeTable) -> &[DeclaredEndpoint] {
    match callee.endpoints() {
        EndpointSource::Declared(declared) => declared,
        EndpointSource::Discovered => &[],
    }
}

/// Where an external without endpoints is: at its hosts. Port of the service, name, port to dial.
fn hosts_to_dial<'a>(
    callee: &'a CalleeTable,
    dialling: &'a Dialling,
) -> impl Iterator<Item = (u16, &'a str, u16)> {
    let ports = callee.ports().iter().map(|port| port.number);
    ports.flat_map(move |port| {
        let (really, _) = dialling.really(port);
        let hosts = callee.hosts().iter().filter_map(HostPattern::literal);
        hosts.map(move |host| (port, host, really))
    })
}

/// The names that a callee's endpoints have.
pub(crate) fn dns_names(callee: &CalleeTable, dialling: &Dialling) -> Vec<(String, u16)> {
    if matches!(dialling, Dialling::StandIn(_)) {
        return Vec::new();
    }
    let declared = declared(callee);
    if declared.is_empty() && matches!(dialling, Dialling::External(_)) {
        let hosts = hosts_to_dial(callee, dialling);
        return hosts
            .map(|(_, host, port)| (host.to_owned(), port))
            .collect();
    }
    declared
        .iter()
        .filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Dns { name, port } => Some((name.clone(), *port)),
            EndpointAddress::Static(_) => None,
        })
        .collect()
}
