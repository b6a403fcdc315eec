//! Which endpoints each callee has: what the slice declares or the feed says, narrowed to the
//! identities that the slice names. Worked out when one of them changes, never per request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mesh_bundle::slice::{DeclaredEndpoint, EndpointAddress, EndpointSource, Label};
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::CalleeTable;
use mesh_engine::balance::{self, Balancer, HashTable, Nearness};
use mesh_engine::host::HostPattern;
use mesh_engine::outlier::Outcome;

use super::connect::{MeshClient, Security};
use super::dial::{Dialling, Sharing};
use super::gate::{Gate, Room};
use super::outside::may_be_dialled;
use super::pool::{Endpoint, Shared};
use super::pools::{MemberKey, MemberState, PoolState, Pools};
use crate::data_plane::EndpointSet;

/// An endpoint as balancing sees it.
#[derive(Debug)]
pub(crate) struct Member {
    endpoint: Arc<Endpoint>,
    state: Arc<MemberState>,
    slow_start: Option<Duration>,
    tier: Option<usize>,
}

impl balance::Endpoint for Member {
    fn is_available(&self) -> bool {
        !self.state.is_ejected() && self.state.is_healthy()
    }

    fn active(&self) -> usize {
        usize::try_from(self.endpoint.active()).unwrap_or(usize::MAX)
    }

    fn cost(&self) -> u64 {
        self.state.cost(self.active())
    }

    fn share(&self) -> u32 {
        self.state.share(self.slow_start)
    }

    fn tier(&self) -> Option<usize> {
        self.tier
    }
}

/// The endpoints of one destination.
#[derive(Debug)]
pub(crate) struct Group {
    subset: Option<String>,
    port: u16,
    balancer: Balancer,
    table: Option<HashTable>,
    members: Vec<Member>,
    pool: Arc<PoolState>,
}

/// An endpoint that was picked.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// As whose; none: nobody's any more, as may be with one that a connection was made to.
    pub(crate) of: Option<(Arc<Group>, Arc<MemberState>)>,
}

impl Picked {
    /// What is known of the destination.
    pub(crate) fn pool(&self) -> Option<&Arc<PoolState>> {
        self.of.as_ref().map(|(group, _)| &group.pool)
    }

    /// How large a request's body may be there.
    pub(crate) fn body_bytes_max(&self) -> Option<u64> {
        self.pool()?.policy().limits.body_bytes
    }

    /// What a connection to it may take of the destination's limits.
    pub(crate) fn room(&self) -> Option<Room<'_>> {
        let (group, _) = self.of.as_ref()?;
        let gate = group.pool.gate()?;
        Some(Room { gate, group })
    }

    /// Takes note of what came of a try.
    pub(crate) fn observe(&self, outcome: Outcome, took: Option<Duration>) {
        if let Some((group, state)) = &self.of {
            group.pool.observe(state, outcome, took);
        }
    }
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

    /// What is known of the destination.
    pub(crate) fn pool(&self) -> &Arc<PoolState> {
        &self.pool
    }

    /// Its endpoints, if these are all of the port.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let all = self.members.iter().filter(|_| self.subset.is_none());
        all.map(|member| &member.endpoint)
    }

    /// The same, with what is known of them.
    pub(crate) fn whole_members(
        &self,
    ) -> impl Iterator<Item = (&Arc<Endpoint>, &Arc<MemberState>)> {
        self.members().filter(|_| self.subset.is_none())
    }

    /// Its endpoints, and what is known of them.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Arc<Endpoint>, &Arc<MemberState>)> {
        let members = self.members.iter();
        members.map(|member| (&member.endpoint, &member.state))
    }

    /// Whether any endpoint of it is well.
    pub(crate) fn is_available(&self) -> bool {
        let well = |member: &Member| {
            balance::Endpoint::is_available(member) && balance::Endpoint::tier(member).is_some()
        };
        self.members.iter().any(well)
    }

    /// Picks an endpoint, another one than `tried` if there is any. `hash` is of what tells clients apart; none: they are
    /// all alike.
    pub(crate) fn pick(
        self: &Arc<Self>,
        tried: &[Arc<Endpoint>],
        hash: Option<u64>,
        rng: &mut impl rand::Rng,
    ) -> Option<Picked> {
        let position = |tried: &Arc<Endpoint>| {
            self.members
                .iter()
                .position(|member| Arc::ptr_eq(&member.endpoint, tried))
        };
        let tried: Vec<usize> = tried.iter().filter_map(position).collect();
        let (members, balancer) = (&self.members, &self.balancer);
        let picked = match self.table.as_ref().zip(hash) {
            Some((table, hash)) => balancer.pick_hashed(table, hash, members, &tried),
            None => balancer.pick(members, &tried, rng),
        };
        members.get(picked?).map(|member| self.picked(member))
    }

    /// This endpoint as one of the group, if it is.
    pub(crate) fn find(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> Option<Picked> {
        let mut members = self.members.iter();
        let member = members.find(|member| Arc::ptr_eq(&member.endpoint, endpoint))?;
        Some(self.picked(member))
    }

    fn picked(self: &Arc<Self>, member: &Member) -> Picked {
        Picked {
            endpoint: Arc::clone(&member.endpoint),
            of: Some((Arc::clone(self), Arc::clone(&member.state))),
        }
    }

    /// Closes a connection of these limits that lies idle; says whether there was one.
    pub(super) fn make_room(&self, gate: &Arc<Gate>) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.endpoint.close_idle(gate))
    }
}

/// All endpoints that this proxy knows.
#[derive(Debug)]
pub(crate) struct Directory {
    shared: Arc<Shared>,
    pools: Arc<Pools>,
    /// Of this instance: what is near to it.
    labels: Vec<Label>,
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
    pub(crate) fn new(shared: Arc<Shared>, pools: Arc<Pools>, labels: Vec<Label>) -> Self {
        Self {
            shared,
            pools,
            labels,
            state: Mutex::default(),
        }
    }

    /// What all endpoints share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is known of destinations.
    pub(crate) fn pools(&self) -> &Arc<Pools> {
        &self.pools
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
        let mut present: BTreeMap<String, (Arc<PoolState>, BTreeSet<MemberKey>)> = BTreeMap::new();
        let groups = groups.map(|(subset, labels, port)| {
            let pool = self.pools.of(callee, subset.map(String::as_str));
            let (_, keys) = present
                .entry(pool.name().subset.clone())
                .or_insert_with(|| (Arc::clone(&pool), BTreeSet::new()));
            let members: Vec<_> = endpoints
                .iter()
                .filter(|(candidate, _)| {
                    candidate.port == port
                        && labels.iter().all(|label| candidate.labels.contains(label))
                })
                .map(|(candidate, endpoint)| (candidate.labels, endpoint))
                .collect();
            keys.extend(
                members
                    .iter()
                    .map(|(_, endpoint)| (port, endpoint.address())),
            );
            Arc::new(self.group(subset.cloned(), port, &pool, &members))
        });
        let groups = groups.collect();
        for (pool, keys) in present.into_values() {
            pool.keep(&keys);
        }
        groups
    }

    fn group(
        &self,
        subset: Option<String>,
        port: u16,
        pool: &Arc<PoolState>,
        members: &[(&[Label], &Arc<Endpoint>)],
    ) -> Group {
        let policy = pool.policy();
        let locality = policy.locality.as_ref();
        let tiers = locality.map(|locality| {
            let labels = members.iter().map(|(labels, _)| *labels);
            Nearness::new(locality, &self.labels).tiers(labels)
        });
        let choices = policy
            .choices
            .and_then(|choices| usize::try_from(choices).ok());
        let balancer = Balancer::new(pool.balance())
            .with_choices(choices.unwrap_or(2))
            .with_min_healthy(locality.map_or(0, |locality| locality.min_healthy));
        let names: Vec<String> = members
            .iter()
            .map(|(_, endpoint)| endpoint.address().to_string())
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let member = |(position, (_, endpoint)): (usize, &(&[Label], &Arc<Endpoint>))| Member {
            state: pool.member((port, endpoint.address())),
            endpoint: Arc::clone(endpoint),
            slow_start: policy.slow_start,
            tier: match &tiers {
                None => Some(0),
                Some(tiers) => tiers.get(position).copied().flatten(),
            },
        };
        Group {
            subset,
            port,
            balancer,
            table: HashTable::build(pool.balance(), &names),
            members: members.iter().enumerate().map(member).collect(),
            pool: Arc::clone(pool),
        }
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
