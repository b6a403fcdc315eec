//! What is logged where policy says nothing, as the proxy is told at start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_bundle::slice::{AccessLogFormat, StatusRange};
use mesh_engine::telemetry::Ended;

use crate::args::duration;

/// How, and what of it.
#[derive(Clone, Debug)]
pub(crate) struct LogDefaults {
    /// As JSON or as text.
    pub(crate) format: AccessLogFormat,
    /// Or; empty: everything.
    pub(crate) only: Vec<Only>,
}

impl Default for LogDefaults {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Json,
            only: Vec::new(),
        }
    }
}

/// Records that are written; its fields are and.
#[derive(Clone, Debug, Default)]
pub(crate) struct Only {
    /// Only what did not end well.
    errors: bool,
    statuses: Vec<StatusRange>,
    slower_than: Option<Duration>,
    route: Option<String>,
    /// One of so many, of those that the others take.
    sample: Option<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    of: u64,
    seen: Arc<AtomicU64>,
}

/// What a record is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'r> {
    /// How it ended.
    pub(crate) ended: Ended,
    /// Whether it ended well: the proxy had nothing to say against it.
    pub(crate) well: bool,
    /// The route; empty: none.
    pub(crate) route: &'r str,
}

/// Takes one `--access-log-only`.
pub(crate) fn only(text: &str) -> Result<Only, String> {
    let mut only = Only::default();
    for part in text.split(',') {
        match part.split_once('=') {
            None if part == "errors" => only.errors = true,
            Some(("status", status)) => only.statuses.push(status_range(status)?),
            Some(("slower-than", time)) => only.slower_than = Some(duration(time)?),
            Some(("route", route)) if !route.is_empty() => only.route = Some(route.to_owned()),
            Some(("sample", share)) => only.sample = Some(sample(share)?),
            _ => {
                return Err(format!(
                    "{part:?} is none of errors, status=5xx, slower-than=1s, route=NAME, sample=1/100"
                ));
            }
        }
    }
    Ok(only)
}

fn status_range(text: &str) -> Result<StatusRange, String> {
    let wrong = || format!("{text:?} is no status and no class such as 5xx");
    let class = text.strip_suffix("xx").map(str::parse::<u16>);
    match class {
        Some(Ok(digit @ 1..=5)) => Ok(StatusRange {
            from: digit * 100,
            to: digit * 100 + 99,
        }),
        Some(_) => Err(wrong()),
        None => match text.parse() {
            Ok(status @ 100..=599) => Ok(StatusRange {
                from: status,
                to: status,
            }),
            _ => Err(wrong()),
        },
    }
}

fn sample(text: &str) -> Result<Sample, String> {
    let of = text.strip_prefix("1/").map(str::parse);
    match of {
        Some(Ok(of @ 1..)) => Ok(Sample {
            of,
            seen: Arc::default(),
        }),
        _ => Err(format!("{text:?} is not 1/N")),
    }
}

impl LogDefaults {
    pub(super) fn takes(&self, seen: Seen<'_>) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.takes(seen))
    }
}

impl Only {
    fn takes(&self, seen: Seen<'_>) -> bool {
        let failed = !seen.well || seen.ended.is_of(&[StatusRange { from: 500, to: 599 }]);
        let is_slow = |limit: Duration| seen.ended.duration > limit;
        (!self.errors || failed)
            && (self.statuses.is_empty() || seen.ended.is_of(&self.statuses))
            && self.slower_than.is_none_or(is_slow)
            && self.route.as_ref().is_none_or(|route| route == seen.route)
            && self.sample.as_ref().is_none_or(Sample::is_due)
    }
}

impl Sample {
    fn is_due(&self) -> bool {
        self.seen
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: u16, millis: u64) -> Seen<'static> {
        Seen {
            ended: Ended {
                status: Some(status),
                grpc_status: None,
                duration: Duration::from_millis(millis),
            },
            well: true,
            route: "everyone",
        }
    }

    #[test]
    fn one_is_enough_and_all_of_it_must_hold() {
        let defaults = |only_: &[&str]| LogDefaults {
            only: only_.iter().map(|text| only(text).unwrap()).collect(),
            ..LogDefaults::default()
        };
        let errors = defaults(&["errors"]);
        assert!(errors.takes(seen(503, 1)) && !errors.takes(seen(404, 1)));
        let broken = Seen {
            well: false,
            ..seen(200, 1)
        };
        assert!(errors.takes(broken));
        let either = defaults(&["status=404", "slower-than=1s,route=everyone"]);
        assert!(either.takes(seen(404, 1)) && either.takes(seen(200, 1_001)));
        assert!(!either.takes(seen(200, 1)));
        let elsewhere = defaults(&["slower-than=1s,route=testers"]);
        assert!(!elsewhere.takes(seen(200, 1_001)));
        let some = defaults(&["sample=1/10", "errors"]);
        let taken = (0..100).filter(|_| some.takes(seen(200, 1))).count();
        assert_eq!(taken, 10);
        assert!((0..20).all(|_| some.takes(seen(500, 1))));
        assert!(defaults(&[]).takes(seen(200, 1)));
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for bad in [
            "",
            "error",
            "status=6xx",
            "status=99",
            "slower-than=1",
            "sample=2/3",
            "sample=1/0",
            "route=",
        ] {
            assert!(only(bad).is_err(), "{bad}");
        }
    }
}
