//! Rate limits that a service counts for all proxies: what it is asked, and what its answer means.

use std::time::Duration;

use mesh_bundle::slice::{OnFailure, RateLimit, RequestKey, Target};
use mesh_daemon::telemetry::Metrics;
use mesh_engine::Request;
use mesh_engine::limit::key_values;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::ask::{self, Unanswered};
use super::messages::{Descriptor, Entry, Override, RateLimitRequest, RateLimitResponse, Unit};
use crate::limits;
use crate::tables::Tables;

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What a key is where the request has none of it: services refuse an entry without a value.
const ABSENT: &str = "-";

/// The codes of an answer.
const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// What is counted of questions.
#[derive(Clone, Debug)]
pub(crate) struct CountedMetrics(Family<[(&'static str, String); 3], Counter>);

impl CountedMetrics {
    /// Nothing is counted yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self(metrics.register(
            "mesh_rate_limit_requests",
            "requests that a service counts against a rate: `allowed`, `limited`, or, where it did not answer, \
             `failed_open` or `failed_closed` as policy says",
            Family::default(),
        ))
    }

    /// Counts a request.
    pub(crate) fn count(&self, service: &str, via: &str, outcome: &str) {
        let labels = [
            ("dst_service", service.to_owned()),
            ("via", via.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.0.get_or_create(&labels).inc();
    }
}

/// A question about one limit.
#[derive(Debug)]
pub(crate) struct Counting<'l> {
    pub(crate) limit: &'l RateLimit,
    to: &'l Target,
    on_failure: OnFailure,
    message: RateLimitRequest,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// None: it may enter. Otherwise when it may.
    pub(crate) retry_after: Option<Duration>,
    /// As it is counted.
    pub(crate) outcome: &'static str,
}

impl<'l> Counting<'l> {
    /// The question about a request of a service; none: no service counts this limit.
    pub(crate) fn of(service: &str, limit: &'l RateLimit, request: &Request<'_>) -> Option<Self> {
        let (to, on_failure) = limit.via.as_ref()?;
        let mut entries = vec![Entry {
            key: "service".to_owned(),
            value: service.to_owned(),
        }];
        entries.extend(limit.keys.iter().map(|key| entry(key, request)));
        let descriptor = Descriptor {
            entries,
            limit: Some(rate(limit)),
        };
        Some(Self {
            limit,
            to,
            on_failure: *on_failure,
            message: RateLimitRequest {
                domain: "mesh".to_owned(),
                descriptors: vec![descriptor],
                hits_addend: 1,
            },
        })
    }

    /// Name of the service that counts.
    pub(crate) fn via(&self) -> &str {
        &self.to.service
    }

    /// Has the request counted.
    pub(crate) async fn count(
        &self,
        tables: &Tables,
        headers: http::HeaderMap,
        hops: u16,
    ) -> Counted {
        let to = (self.to, limits::RATE_LIMIT_TIMEOUT, hops);
        let told = ask::call(tables, to, SHOULD_RATE_LIMIT, (headers, &self.message)).await;
        judge(told, self.on_failure)
    }
}

fn judge(told: Result<RateLimitResponse, Unanswered>, on_failure: OnFailure) -> Counted {
    let (retry_after, outcome) = match told {
        Ok(told) if told.overall_code == OK => (None, "allowed"),
        Ok(told) if told.overall_code == OVER_LIMIT => {
            let over = told
                .statuses
                .iter()
                .filter(|status| status.code == OVER_LIMIT);
            let resets = over.filter_map(|status| {
                let left = status.duration_until_reset.as_ref()?;
                u64::try_from(left.seconds).ok()
            });
            let seconds = resets.max().unwrap_or(1);
            (Some(Duration::from_secs(seconds)), "limited")
        }
        // What is no verdict is no answer.
        Ok(_) | Err(Unanswered) => match on_failure {
            OnFailure::Allow => (None, "failed_open"),
            OnFailure::Deny => (Some(limits::RATE_LIMIT_RETRY), "failed_closed"),
        },
    };
    Counted {
        retry_after,
        outcome,
    }
}

/// One part of the key, under the name that Envoy gives it where it has one.
fn entry(key: &RequestKey, request: &Request<'_>) -> Entry {
    let name = match key {
        RequestKey::ClientIp => "remote_address".to_owned(),
        RequestKey::Caller => "caller".to_owned(),
        RequestKey::Path => "path".to_owned(),
        RequestKey::Header(name) => format!("header:{name}"),
        RequestKey::Query(name) => format!("query:{name}"),
        RequestKey::Cookie { name, .. } => format!("cookie:{name}"),
        RequestKey::Claim(name) => format!("claim:{name}"),
    };
    let mut values = Vec::new();
    key_values(key, request, &mut |value| {
        values.push(String::from_utf8_lossy(value).into_owned());
    });
    let value = values.join(",");
    Entry {
        key: name,
        value: if value.is_empty() {
            ABSENT.to_owned()
        } else {
            value
        },
    }
}

/// The rate in the units that the service has: the smallest that is no shorter than policy's, and as many times more.
fn rate(limit: &RateLimit) -> Override {
    const UNITS: [(Unit, u64); 4] = [
        (Unit::Second, 1),
        (Unit::Minute, 60),
        (Unit::Hour, 3_600),
        (Unit::Day, 86_400),
    ];
    let per = limit.per.as_millis().max(1);
    let fits = |(_, seconds): &&(Unit, u64)| u128::from(*seconds) * 1_000 >= per;
    let (unit, seconds) = UNITS.iter().find(fits).unwrap_or(&UNITS[3]);
    let scaled = u128::from(limit.count) * u128::from(*seconds) * 1_000 / per;
    Override {
        requests_per_unit: u32::try_from(scaled).unwrap_or(u32::MAX),
        unit: (*unit).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{DescriptorStatus, Timestamp};
    use super::*;

    #[test]
    fn rates_are_told_in_whole_units() {
        let told = |count, per| {
            let limit = RateLimit {
                count,
                per,
                burst: 1,
                keys: Vec::new(),
                via: None,
                route: None,
                conditions: Vec::new(),
                respond: None,
            };
            let rate = rate(&limit);
            (rate.requests_per_unit, rate.unit())
        };
        assert_eq!(told(100, Duration::from_secs(1)), (100, Unit::Second));
        assert_eq!(told(100, Duration::from_secs(10)), (600, Unit::Minute));
        assert_eq!(told(5, Duration::from_millis(500)), (10, Unit::Second));
        assert_eq!(told(7, Duration::from_hours(1)), (7, Unit::Hour));
        assert_eq!(told(4, Duration::from_hours(48)), (2, Unit::Day));
        assert_eq!(
            told(u64::MAX, Duration::from_secs(1)),
            (u32::MAX, Unit::Second)
        );
    }

    #[test]
    fn what_is_no_verdict_is_no_answer() {
        let told = |overall_code| {
            Ok(RateLimitResponse {
                overall_code,
                statuses: vec![DescriptorStatus {
                    code: overall_code,
                    duration_until_reset: Some(Timestamp {
                        seconds: 7,
                        nanos: 0,
                    }),
                }],
            })
        };
        let is = |told, on_failure, seconds: Option<u64>, outcome| {
            let counted = judge(told, on_failure);
            let retry_after = seconds.map(Duration::from_secs);
            assert_eq!(
                counted,
                Counted {
                    retry_after,
                    outcome
                }
            );
        };
        is(told(1), OnFailure::Deny, None, "allowed");
        is(told(2), OnFailure::Allow, Some(7), "limited");
        for strange in [Err(Unanswered), told(0), told(3)] {
            is(strange.clone(), OnFailure::Allow, None, "failed_open");
            is(strange, OnFailure::Deny, Some(1), "failed_closed");
        }
    }
}
