//! What one slice is to the traffic: the engine's tables, and beside them what counts and connects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use mesh_bundle::slice::{RetryBudget, Slice, Target};
use mesh_engine::retry::BudgetState;
use mesh_engine::{CalleeTable, RouteTable, Snapshot, SnapshotError};
use tokio::time::Instant;

use crate::http::metrics::{EdgeLabels, EdgeMetrics, Reporter, RequestMetrics};
use crate::upstream::endpoints::{Directory, Group, dns_names};

/// Immutable but for the endpoints, which have their own life.
#[derive(Debug)]
pub(crate) struct Tables {
    snapshot: Snapshot,
    generation: String,
    callees: HashMap<Box<str>, CalleeState>,
}

/// What the proxy keeps of a callee beside the engine's table.
#[derive(Debug)]
pub(crate) struct CalleeState {
    groups: ArcSwap<Vec<Arc<Group>>>,
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
        directory: &Directory,
        budgets: &Budgets,
        metrics: &RequestMetrics,
    ) -> Result<Self, SnapshotError> {
        let snapshot = Snapshot::build(slice)?;
        let identity = snapshot.identity().to_string();
        let state = |callee: &CalleeTable| {
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
                })
            };
            let edges = callee
                .routes()
                .iter()
                .map(|route| (route.name().into(), edge(route.name())));
            CalleeState {
                groups: ArcSwap::from_pointee(directory.groups(callee)),
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
        Ok(Self {
            snapshot,
            generation: generation.to_owned(),
            callees,
        })
    }

    /// The engine's tables.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Name of the generation that the slice came with.
    pub(crate) fn generation(&self) -> &str {
        &self.generation
    }

    /// What is kept of a callee.
    pub(crate) fn state(&self, callee: &CalleeTable) -> Option<&CalleeState> {
        self.callees.get(callee.service())
    }

    /// Forgets what only earlier tables had.
    pub(crate) fn settle(&self, budgets: &Budgets) {
        budgets.keep(&self.snapshot);
    }

    /// Works the endpoints out again.
    pub(crate) fn refresh_endpoints(&self, directory: &Directory) {
        for callee in self.snapshot.callees() {
            if let Some(state) = self.state(callee) {
                state.groups.store(Arc::new(directory.groups(callee)));
            }
        }
    }

    /// The endpoints of a target for a request to `port` of the callee that was named.
    pub(crate) fn group(&self, target: &Target, port: u16) -> Option<Arc<Group>> {
        let callee = self.snapshot.callee(&target.service)?;
        // Another service may have the same port, or be known by its only one.
        let port = callee
            .port(Some(port))
            .or_else(|| callee.port(None))?
            .number;
        let groups = self.state(callee)?.groups.load();
        groups
            .iter()
            .find(|group| group.is(target.subset.as_deref(), port))
            .cloned()
    }

    /// The names that have to be resolved.
    pub(crate) fn dns_names(&self) -> Vec<(String, u16)> {
        self.snapshot.callees().iter().flat_map(dns_names).collect()
    }
}

impl CalleeState {
    /// The counters of a route.
    pub(crate) fn edge(&self, route: &RouteTable) -> Arc<EdgeMetrics> {
        Arc::clone(self.edges.get(route.name()).unwrap_or(&self.no_route))
    }
}
