//! `GET /pools`: what this proxy knows of its destinations and of who enters: limits and how much of them is used,
//! endpoints and why some are left out, retry budgets, rates.

use std::collections::BTreeSet;
use std::time::Instant as StdInstant;

use mesh_bundle::slice::{Balance, RateLimit, RetryBudgetKind};
use mesh_daemon::admin::AdminResponse;
use mesh_engine::CalleeTable;
use mesh_engine::breaker::Counted;
use mesh_engine::retry::BudgetState;
use serde::Serialize;
use tokio::time::Instant;

use super::query::Query;
use crate::data_plane::DataPlane;
use crate::http::rate_limit::RateLimits;
use crate::limits;
use crate::tables::Tables;
use crate::upstream::endpoints::Group;
use crate::upstream::pool::Endpoint;
use crate::upstream::pools::{MemberState, PoolState};

/// The answer. Field names are a contract; what is not set is null.
#[derive(Debug, Serialize)]
struct Page {
    pools: Vec<Shown>,
    /// Of services whose requests enter here; only on the first page.
    rate_limits: Vec<Rate>,
    /// Pools of which nothing is shown yet are of services after this one.
    next: Option<String>,
}

/// A destination.
#[derive(Debug, Serialize)]
struct Shown {
    service: String,
    /// Of a subset that has a pool of its own.
    subset: Option<String>,
    balance: &'static str,
    limits: Vec<Limit>,
    retry_budget: Option<Budget>,
    ejected: usize,
    endpoints: Vec<At>,
}

/// A limit that policy sets, and how much of it is used.
#[derive(Debug, Serialize)]
struct Limit {
    kind: &'static str,
    used: u32,
    most: u32,
    /// Whether `most` follows how long answers take.
    adaptive: bool,
}

/// A retry budget, and how much of it is used.
#[derive(Debug, Serialize)]
struct Budget {
    /// `requests` of the window, or `active` ones.
    of: &'static str,
    /// Of 10,000.
    share: u32,
    tries: u64,
    retries: u64,
}

/// An endpoint.
#[derive(Debug, Serialize)]
struct At {
    port: u16,
    address: String,
    /// `available`, `ejected` or `unhealthy`.
    state: &'static str,
    /// Why it is ejected.
    cause: Option<&'static str>,
    /// For how long yet.
    ejected_for_ms: Option<u64>,
    /// How often it was lately.
    ejections: Option<u32>,
    /// Requests in flight there, of whichever destination.
    active: u64,
}

/// A rate limit, and what it has counted.
#[derive(Debug, Serialize)]
struct Rate {
    service: String,
    /// Of a gateway that counts what this route takes.
    route: Option<String>,
    count: u64,
    per_ms: u64,
    burst: u64,
    /// Whether each caller, client or the like is counted for itself.
    keyed: bool,
    /// Requests that may enter at once; null where it depends on the key.
    room: Option<u64>,
    /// Keys that are remembered.
    keys: Option<usize>,
}

/// Tells about the slice that is served.
pub(crate) fn pools(data_plane: &DataPlane, query: &str) -> AdminResponse {
    let query = Query::read(query, &["service", "after", "limit"]);
    let asked = query.and_then(|query| {
        let max = limits::SHOWN_ROWS_MAX as u64;
        let limit = query.number("limit", max, max)?.max(1);
        Ok((
            query,
            usize::try_from(limit).unwrap_or(limits::SHOWN_ROWS_MAX),
        ))
    });
    let (query, limit) = match asked {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let mut page = Page {
        pools: Vec::new(),
        rate_limits: Vec::new(),
        next: None,
    };
    if let Some((tables, rates)) = data_plane.state() {
        let wanted = (query.text("service"), query.text("after"));
        fill(&mut page, &tables, wanted, limit);
        if query.text("after").is_none() {
            page.rate_limits = entering(&tables, &rates, query.text("service"));
        }
    }
    AdminResponse::json(&page)
}

fn fill(
    page: &mut Page,
    tables: &Tables,
    (service, after): (Option<&str>, Option<&str>),
    limit: usize,
) {
    let mut callees: Vec<&CalleeTable> = tables.snapshot().callees().iter().collect();
    callees.sort_by_key(|callee| callee.service());
    let wanted = callees.into_iter().filter(|callee| {
        service.is_none_or(|service| service == callee.service())
            && after.is_none_or(|after| callee.service() > after)
    });
    let mut left = limit;
    for callee in wanted {
        if left == 0 {
            page.next = page.pools.last().map(|last| last.service.clone());
            return;
        }
        for pool in of_callee(tables, callee) {
            left = left.saturating_sub(pool.endpoints.len().max(1));
            page.pools.push(pool);
        }
    }
}

/// The pools of a callee: that of all endpoints, and those of subsets that have their own.
fn of_callee(tables: &Tables, callee: &CalleeTable) -> Vec<Shown> {
    let groups = tables.groups(callee);
    let mut names = BTreeSet::new();
    let mut pools = Vec::new();
    for group in &groups {
        if !names.insert(group.pool().name().clone()) {
            continue;
        }
        let pool = group.pool();
        let subset = Some(&pool.name().subset).filter(|subset| !subset.is_empty());
        let of_pool = groups
            .iter()
            .filter(|each| each.is(subset.map(String::as_str), each.port()));
        let budget = tables.state(callee).and_then(|state| state.budget.as_ref());
        pools.push(Shown {
            service: callee.service().to_owned(),
            subset: subset.cloned(),
            balance: word(pool.balance()),
            limits: used(pool),
            retry_budget: budget.map(|budget| spent(budget)),
            ejected: pool.ejected(),
            endpoints: of_pool.flat_map(|group| ends(group)).collect(),
        });
    }
    pools
}

fn ends(group: &Group) -> Vec<At> {
    let now = Instant::now().into_std();
    let end = |(endpoint, member)| at(group.port(), endpoint, member, now);
    group
        .members()
        .map(|(endpoint, member)| end((&**endpoint, &**member)))
        .collect()
}

fn at(port: u16, endpoint: &Endpoint, member: &MemberState, now: StdInstant) -> At {
    let ejection = member.ejection();
    let left = ejection
        .and_then(|ejected| ejected.until)
        .map(|until| until.saturating_duration_since(now).as_millis());
    At {
        port,
        address: endpoint.address().to_string(),
        state: match (member.is_healthy(), ejection) {
            (false, _) => "unhealthy",
            (true, Some(_)) => "ejected",
            (true, None) => "available",
        },
        cause: ejection.map(|ejected| ejected.cause.as_str()),
        ejected_for_ms: left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
        ejections: ejection.map(|ejected| ejected.times),
        active: endpoint.active().into(),
    }
}

fn used(pool: &PoolState) -> Vec<Limit> {
    let Some(gate) = pool.gate() else {
        return Vec::new();
    };
    let breaker = gate.breaker();
    let limit = |counted: Counted| {
        Some(Limit {
            kind: counted.as_str(),
            used: breaker.used(counted),
            most: breaker.most(counted)?,
            adaptive: counted == Counted::Requests && breaker.adaptive().is_some(),
        })
    };
    Counted::ALL.into_iter().filter_map(limit).collect()
}

fn spent(state: &BudgetState) -> Budget {
    let usage = state.usage(Instant::now().into_std());
    Budget {
        of: match state.budget().kind {
            RetryBudgetKind::Requests { .. } => "requests",
            RetryBudgetKind::Active { .. } => "active",
        },
        share: state.budget().share,
        tries: usage.tries,
        retries: usage.retries,
    }
}

fn entering(tables: &Tables, rates: &RateLimits, service: Option<&str>) -> Vec<Rate> {
    let entered = tables.snapshot().services().iter();
    let entered = entered.map(mesh_engine::InboundTable::service);
    let wanted = entered.filter(|entered| service.is_none_or(|service| service == *entered));
    let rate = |service: &str, (limit, room, keys): (RateLimit, u64, usize)| {
        let keyed = !limit.keys.is_empty();
        Rate {
            service: service.to_owned(),
            route: limit.route,
            count: limit.count,
            per_ms: u64::try_from(limit.per.as_millis()).unwrap_or(u64::MAX),
            burst: limit.burst,
            keyed,
            room: (!keyed).then_some(room),
            keys: keyed.then_some(keys),
        }
    };
    wanted
        .flat_map(|service| {
            let all = rates.shown(service).into_iter();
            all.map(move |shown| rate(service, shown))
        })
        .collect()
}

fn word(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "round-robin",
        Balance::LeastRequest => "least-request",
        Balance::Random => "random",
        Balance::PeakEwma => "peak-ewma",
        Balance::RingHash => "ring-hash",
        Balance::Maglev => "maglev",
    }
}
