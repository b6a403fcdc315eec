//! Which endpoints each callee has: what the slice declares or the feed says, narrowed to the
//! identities that the slice names. Worked out when one of them changes, never per request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mesh_bundle::slice::{EndpointAddress, EndpointSource, Label};
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::CalleeTable;
use mesh_engine::balance::{self, Balancer};

use super::connect::{MeshClient, Security};
use super::pool::{Endpoint, Shared};
use crate::data_plane::EndpointSet;
use crate::limits;

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

#[derive(Debug, Default)]
struct State {
    /// Raised by every change.
    version: u64,
    fed: BTreeMap<String, Vec<EndpointSet>>,
    resolved: BTreeMap<(String, u16), Vec<SocketAddr>>,
    known: HashMap<(SocketAddr, BTreeSet<SpiffeId>), Weak<Endpoint>>,
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
    pub(crate) fn groups(&self, callee: &CalleeTable) -> Vec<Arc<Group>> {
        let mut state = self.lock();
        let State {
            fed,
            resolved,
            known,
            ..
        } = &mut *state;
        let candidates = candidates(callee, fed.get(callee.service()), resolved);
        let endpoints: Vec<_> = candidates
            .iter()
            .filter_map(|candidate| Some((candidate, self.endpoint(known, callee, candidate)?)))
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
        known: &mut HashMap<(SocketAddr, BTreeSet<SpiffeId>), Weak<Endpoint>>,
        callee: &CalleeTable,
        candidate: &Candidate<'_>,
    ) -> Option<Arc<Endpoint>> {
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
        let key = (candidate.address, identities);
        if let Some(endpoint) = known.get(&key).and_then(Weak::upgrade) {
            return Some(endpoint);
        }
        let client = MeshClient::new(&self.shared.credentials, &key.1)
            .inspect_err(|error| tracing::error!(%error, "no TLS towards an endpoint"))
            .ok()?;
        let endpoint = Arc::new(Endpoint::new(
            candidate.address,
            Security::Mesh(client),
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
    fed: Option<&'a Vec<EndpointSet>>,
    resolved: &BTreeMap<(String, u16), Vec<SocketAddr>>,
) -> Vec<Candidate<'a>> {
    if let Some(sets) = fed {
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
    let EndpointSource::Declared(declared) = callee.endpoints() else {
        return Vec::new();
    };
    declared
        .iter()
        .flat_map(|endpoint| {
            let addresses = match &endpoint.address {
                EndpointAddress::Static(address) => vec![*address],
                EndpointAddress::Dns { name, port } => resolved
                    .get(&(name.clone(), *port))
                    .cloned()
                    .unwrap_or_default(),
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

/// The names that a callee's declared endpoints have.
pub(crate) fn dns_names(callee: &CalleeTable) -> impl Iterator<Item = (String, u16)> {
    let declared = match callee.endpoints() {
        EndpointSource::Declared(declared) => declared.as_slice(),
        EndpointSource::Discovered => &[],
    };
    declared
        .iter()
        .filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Dns { name, port } => Some((name.clone(), *port)),
            EndpointAddress::Static(_) => None,
        })
}

/// Asks the system for the addresses of a name, in one order whatever order they come in.
pub(crate) async fn resolve(name: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((name, port)).await;
    match found {
        Ok(addresses) => {
            let mut addresses: Vec<_> = addresses.take(limits::DNS_ADDRESSES_MAX).collect();
            addresses.sort_unstable();
            addresses.dedup();
            Some(addresses)
        }
        Err(error) => {
            // What it resolved to before is kept.
            tracing::warn!(name, %error, "a declared endpoint's name does not resolve");
            None
        }
    }
}
