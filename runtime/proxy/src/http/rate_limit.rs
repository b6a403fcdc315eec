//! How many requests may enter: counted by a service for all proxies, or by this proxy for itself, and across swaps as long as policy says the
//! same of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_bundle::slice::{InboundService, RateLimit};
use mesh_daemon::telemetry::Metrics;
use mesh_engine::limit::{Admission, RateLimiter, RequestKeyBytes, request_key};
use mesh_engine::{InboundTable, Request};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use crate::access::counted::Counting;

/// All rate limits that outlive a swap.
#[derive(Clone, Debug)]
pub(crate) struct RateLimits {
    known: Arc<Mutex<HashMap<String, Vec<Own>>>>,
    refused: Family<[(&'static str, String); 2], Counter>,
}

/// One limit, and what it has counted.
#[derive(Clone, Debug)]
struct Own {
    limit: RateLimit,
    limiter: Arc<Mutex<RateLimiter>>,
}

/// The limits of one service, in the order of the slice.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceLimits(Box<[Own]>);

/// Why a request may not enter.
#[derive(Debug)]
pub(crate) struct Limited<'l> {
    /// When it may.
    pub(crate) retry_after: Duration,
    /// By which limit.
    pub(crate) limit: &'l RateLimit,
}

impl RateLimits {
    /// Nothing is counted yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            known: Arc::default(),
            refused: metrics.register(
                "mesh_rate_limited",
                "requests over a rate that policy allows",
                Family::default(),
            ),
        }
    }

    /// The limits of a service of a slice.
    pub(crate) fn of(&self, service: &InboundService) -> ServiceLimits {
        let mut known = lock(&self.known);
        let before = known.get(&service.service).cloned().unwrap_or_default();
        let mut before: Vec<Option<Own>> = before.into_iter().map(Some).collect();
        let now = Instant::now().into_std();
        let counting = |limit: &RateLimit| {
            let same = before
                .iter_mut()
                .find(|earlier| earlier.as_ref().is_some_and(|each| each.limit == *limit));
            same.and_then(Option::take).unwrap_or_else(|| Own {
                limit: limit.clone(),
                limiter: Arc::new(Mutex::new(RateLimiter::new(limit, now))),
            })
        };
        let all: Vec<_> = service.rate_limits.iter().map(counting).collect();
        if all.is_empty() {
            known.remove(&service.service);
        } else {
            known.insert(service.service.clone(), all.clone());
        }
        ServiceLimits(all.into())
    }

    /// Each limit of a service, what one without keys would let in now, and how many keys are remembered.
    pub(crate) fn shown(&self, service: &str) -> Vec<(RateLimit, u64, usize)> {
        let now = Instant::now().into_std();
        let known = lock(&self.known);
        let all = known.get(service).into_iter().flatten();
        let shown = all.map(|counting| {
            let limiter = lock(&counting.limiter);
            let room = limiter.room(&RequestKeyBytes::from(&[][..]), now);
            (counting.limit.clone(), room, limiter.len())
        });
        shown.collect()
    }

    /// Counts a request that may not enter.
    pub(crate) fn refused(&self, service: &str, route: Option<&str>) {
        let labels = [
            ("dst_service", service.to_owned()),
            ("route", route.unwrap_or_default().to_owned()),
        ];
        self.refused.get_or_create(&labels).inc();
    }
}

impl ServiceLimits {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What services are asked that count a request for all proxies.
    pub(crate) fn counted_elsewhere(
        &self,
        table: &InboundTable,
        request: &Request<'_>,
        route: Option<&str>,
    ) -> Vec<Counting<'_>> {
        let about = table.rate_limits(request, route);
        let own = about.filter_map(|(position, _)| self.0.get(position));
        own.filter_map(|own| Counting::of(table.service(), &own.limit, request))
            .collect()
    }

    /// Counts a request that this proxy counts itself; says by which limit it may not enter, if it may not. `route` is the gateway's that takes it.
    pub(crate) fn admit(
        &self,
        table: &InboundTable,
        request: &Request<'_>,
        route: Option<&str>,
    ) -> Option<Limited<'_>> {
        let now = Instant::now().into_std();
        for (position, _) in table.rate_limits(request, route) {
            let Some(Own { limit, limiter }) = self.0.get(position) else {
                continue;
            };
            if limit.via.is_some() {
                continue;
            }
            let key = request_key(&limit.keys, request);
            let admission = lock(limiter).admit(&key, now);
            if let Admission::Limited { retry_after } = admission {
                return Some(Limited { retry_after, limit });
            }
        }
        None
    }
}

/// A panic elsewhere leaves counts that are still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
