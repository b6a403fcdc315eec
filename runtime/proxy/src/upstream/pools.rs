//! What this proxy knows of its destinations beyond where they are: how much goes there, who was left out
//! for its answers, who lives. It outlives a swap as long as what policy says of it stays the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use mesh_bundle::slice::{Balance, HealthCheck, Pool};
use mesh_engine::CalleeTable;
use mesh_engine::balance::{PeakEwma, share_after};
use mesh_engine::breaker::{Breaker, Counted};
use mesh_engine::health::Health;
use mesh_engine::outlier::{Cause, Detector, Ejected, Host, Outcome};
use tokio::time::Instant;

use super::gate::Gate;
use super::metrics::UpstreamMetrics;
use crate::limits;

/// All destinations.
#[derive(Debug)]
pub(crate) struct Pools {
    known: Mutex<BTreeMap<Name, Arc<PoolState>>>,
    metrics: UpstreamMetrics,
}

/// A service, and its subset if that has a pool of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The service.
    pub(crate) service: String,
    /// Empty: all that have none of their own.
    pub(crate) subset: String,
}

/// Which of its endpoints: the port of the service, and the address.
pub(super) type MemberKey = (u16, SocketAddr);

/// What is known of one destination.
#[derive(Debug)]
pub(crate) struct PoolState {
    name: Name,
    balance: Balance,
    pool: Pool,
    /// None: nothing is limited.
    gate: Option<Arc<Gate>>,
    /// None: nobody is left out.
    detector: Option<Arc<Detector>>,
    members: Mutex<BTreeMap<MemberKey, Arc<MemberState>>>,
    /// How many these are.
    size: AtomicUsize,
    metrics: UpstreamMetrics,
}

/// What is known of one endpoint of a destination.
#[derive(Debug)]
pub(crate) struct MemberState {
    since: StdInstant,
    /// Whether it has its full share; then the clock is not asked any more.
    grown: AtomicBool,
    latency: Arc<Mutex<PeakEwma>>,
    host: Arc<Host>,
    /// One per check of the pool.
    health: Box<[(HealthCheck, Arc<Health>)]>,
}

impl Pools {
    /// Knows nothing yet.
    pub(crate) fn new(metrics: UpstreamMetrics) -> Self {
        Self {
            known: Mutex::default(),
            metrics,
        }
    }

    /// The pool of a subset, or of all endpoints, as policy has it now.
    pub(super) fn of(&self, callee: &CalleeTable, subset: Option<&str>) -> Arc<PoolState> {
        let (balance, pool) = callee.pool(subset);
        let has_own =
            subset.is_some_and(|name| callee.subset(name).is_some_and(|own| own.pool.is_some()));
        let name = Name {
            service: callee.service().to_owned(),
            subset: subset.filter(|_| has_own).unwrap_or_default().to_owned(),
        };
        let mut known = lock(&self.known);
        let before = known.get(&name);
        if let Some(same) = before.filter(|same| same.balance == balance && same.pool == *pool) {
            return Arc::clone(same);
        }
        let state = PoolState::new(name.clone(), balance, pool, before, &self.metrics);
        let state = Arc::new(state);
        known.insert(name, Arc::clone(&state));
        state
    }

    /// Forgets what no callee has any more.
    pub(crate) fn keep(&self, callees: &[CalleeTable]) {
        let callees: HashMap<&str, &CalleeTable> = callees
            .iter()
            .map(|callee| (callee.service(), callee))
            .collect();
        let is_wanted = |name: &Name| {
            let callee = callees.get(name.service.as_str());
            callee.is_some_and(|callee| {
                let own = |subset: &mesh_bundle::slice::Subset| subset.pool.is_some();
                name.subset.is_empty() || callee.subset(&name.subset).is_some_and(own)
            })
        };
        lock(&self.known).retain(|name, _| is_wanted(name));
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Arc<PoolState>> {
        lock(&self.known).values().cloned().collect()
    }
}

impl PoolState {
    fn new(
        name: Name,
        balance: Balance,
        pool: &Pool,
        before: Option<&Arc<Self>>,
        metrics: &UpstreamMetrics,
    ) -> Self {
        let limits = pool.limits;
        let is_limited = [
            limits.connections,
            limits.pending,
            limits.requests,
            limits.retries,
            limits.requests_per_connection,
            limits.adaptive,
        ]
        .iter()
        .any(Option::is_some);
        let gate = before
            .and_then(|before| before.gate.clone())
            .filter(|gate| *gate.breaker().limits() == limits);
        let new_gate = || is_limited.then(|| Arc::new(Gate::new(Breaker::new(limits))));
        let detector = before
            .and_then(|before| before.detector.clone())
            .filter(|detector| Some(detector.policy()) == pool.outlier.as_ref());
        let same_detector = detector.is_some();
        let new_detector = || pool.outlier.map(|outlier| Arc::new(Detector::new(outlier)));
        let members = before.map(|before| {
            let members = lock(&before.members);
            let carried = members.iter().map(|(key, member)| {
                let member = member.carried(same_detector, &pool.health_checks);
                (*key, Arc::new(member))
            });
            carried.collect::<BTreeMap<_, _>>()
        });
        let members = members.unwrap_or_default();
        Self {
            name,
            balance,
            gate: gate.or_else(new_gate),
            detector: detector.or_else(new_detector),
            size: AtomicUsize::new(members.len()),
            members: Mutex::new(members),
            pool: pool.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// What is counted of it.
    pub(crate) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Who is left out.
    pub(crate) fn ejected(&self) -> usize {
        self.detector
            .as_ref()
            .map_or(0, |detector| detector.ejected())
    }

    /// How an endpoint is picked.
    pub(crate) fn balance(&self) -> Balance {
        self.balance
    }

    /// What policy says of it.
    pub(crate) fn policy(&self) -> &Pool {
        &self.pool
    }

    /// Its limits; none: nothing is limited.
    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// Its endpoints.
    pub(crate) fn members(&self) -> Vec<(MemberKey, Arc<MemberState>)> {
        let members = lock(&self.members);
        members
            .iter()
            .map(|(key, member)| (*key, Arc::clone(member)))
            .collect()
    }

    /// What is known of an endpoint; one that is new begins.
    pub(super) fn member(&self, key: MemberKey) -> Arc<MemberState> {
        let mut members = lock(&self.members);
        let member = members
            .entry(key)
            .or_insert_with(|| Arc::new(MemberState::new(&self.pool.health_checks)));
        let member = Arc::clone(member);
        self.size.store(members.len(), Ordering::Relaxed);
        member
    }

    /// Forgets all endpoints but these.
    pub(super) fn keep(&self, present: &BTreeSet<MemberKey>) {
        let mut members = lock(&self.members);
        members.retain(|key, member| {
            let stays = present.contains(key);
            if let Some(detector) = self.detector.as_ref().filter(|_| !stays) {
                detector.forget(&member.host);
            }
            stays
        });
        self.size.store(members.len(), Ordering::Relaxed);
    }

    /// Takes note of what came of a try, and how long that took, if it was not over before anybody could answer.
    pub(crate) fn observe(&self, member: &MemberState, outcome: Outcome, took: Option<Duration>) {
        let breaker = self.gate.as_ref().map(|gate| gate.breaker());
        let adaptive = breaker.and_then(|breaker| Some((breaker, breaker.adaptive()?)));
        if self.balance != Balance::PeakEwma && self.detector.is_none() && adaptive.is_none() {
            return;
        }
        let now = Instant::now().into_std();
        // An answer that says that it failed may have come without any work.
        let tells = took.filter(|_| outcome == Outcome::NoAnswer || !outcome.is_5xx());
        if let Some(((breaker, adaptive), took)) = adaptive.zip(tells) {
            adaptive.observe(took, breaker.used(Counted::Requests), now);
        }
        if let Some(took) = took.filter(|_| self.balance == Balance::PeakEwma) {
            lock(&member.latency).observe(took, now);
        }
        let Some(detector) = &self.detector else {
            return;
        };
        let hosts = self.size.load(Ordering::Relaxed);
        if let Some(cause) = detector.observe(&member.host, outcome, now, hosts) {
            self.eject(cause, detector.ejected(), hosts);
        }
    }

    fn eject(&self, cause: Cause, out: usize, of: usize) {
        self.metrics().ejected(&self.name, cause);
        let (service, subset) = (&self.name.service, &self.name.subset);
        let cause = cause.as_str();
        tracing::info!(service, subset, cause, out, of, "an endpoint is left out");
    }

    /// Counts what there was no room for.
    pub(crate) fn refused(&self, counted: Counted) {
        self.metrics().refused(&self.name, counted);
    }

    /// Looks whether somebody may come back, and who is worse than the others; says when to look again.
    pub(crate) fn look(&self, now: StdInstant) -> Option<Duration> {
        let detector = self.detector.as_ref()?;
        let members = self.members();
        for ((_, address), member) in &members {
            if detector.look(&member.host, now) {
                let (service, subset) = (&self.name.service, &self.name.subset);
                tracing::info!(service, subset, %address, "an endpoint is asked again");
            }
        }
        let hosts: Vec<&Host> = members.iter().map(|(_, member)| &*member.host).collect();
        for (_, cause) in detector.compare(&hosts, now) {
            self.eject(cause, detector.ejected(), hosts.len());
        }
        Some(detector.every())
    }
}

impl MemberState {
    fn new(checks: &[HealthCheck]) -> Self {
        let now = Instant::now().into_std();
        Self {
            since: now,
            grown: AtomicBool::new(false),
            latency: Arc::new(Mutex::new(PeakEwma::new(limits::EXPECTED_LATENCY, now))),
            host: Arc::default(),
            health: healths(checks, &[]),
        }
    }

    /// The same under another policy.
    fn carried(&self, same_detector: bool, checks: &[HealthCheck]) -> Self {
        Self {
            since: self.since,
            grown: AtomicBool::new(false),
            latency: Arc::clone(&self.latency),
            host: if same_detector {
                Arc::clone(&self.host)
            } else {
                Arc::default()
            },
            health: healths(checks, &self.health),
        }
    }

    /// Whether it was left out for its answers.
    pub(crate) fn is_ejected(&self) -> bool {
        self.host.is_ejected()
    }

    /// Why it was left out for its answers, and until when.
    pub(crate) fn ejection(&self) -> Option<Ejected> {
        self.host.ejection()
    }

    /// Whether it answers when it is asked.
    pub(crate) fn is_healthy(&self) -> bool {
        self.health.iter().all(|(_, health)| health.is_healthy())
    }

    /// Its checks, and what they have shown.
    pub(crate) fn health(&self) -> &[(HealthCheck, Arc<Health>)] {
        &self.health
    }

    /// Of 10,000: in which share of picks it takes part.
    pub(super) fn share(&self, slow_start: Option<Duration>) -> u32 {
        let Some(slow_start) = slow_start else {
            return 10_000;
        };
        if self.grown.load(Ordering::Relaxed) {
            return 10_000;
        }
        let age = Instant::now()
            .into_std()
            .saturating_duration_since(self.since);
        let share = share_after(age, slow_start);
        self.grown.store(share == 10_000, Ordering::Relaxed);
        share
    }

    /// What one more request costs there in time.
    pub(super) fn cost(&self, active: usize) -> u64 {
        lock(&self.latency).cost(active, Instant::now().into_std())
    }
}

fn healths(
    checks: &[HealthCheck],
    before: &[(HealthCheck, Arc<Health>)],
) -> Box<[(HealthCheck, Arc<Health>)]> {
    let health = |check: &HealthCheck| {
        let same = before.iter().find(|(earlier, _)| earlier == check);
        let health = match same {
            Some((_, health)) => Arc::clone(health),
            None => Arc::new(Health::new(check)),
        };
        (check.clone(), health)
    };
    checks.iter().map(health).collect()
}

/// A panic elsewhere leaves what is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
