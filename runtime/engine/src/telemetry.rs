//! What of a service's requests is logged, and how many are traced.

use std::time::Duration;

use mesh_bundle::slice::{
    AccessLog, AccessLogFilter, AccessLogFormat, StatusRange, Telemetry, Traces,
};

use crate::condition::{ConditionError, ConditionMatcher, Reading};
use crate::request::Request;

/// Logs and traces of a service, compiled.
#[derive(Clone, Debug, Default)]
pub struct TelemetryTable {
    service: Box<str>,
    log: Option<LogTable>,
    traces: Option<Traces>,
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct LogTable {
    format: AccessLogFormat,
    /// Or; empty: everything.
    only: Box<[LogFilter]>,
}

#[derive(Clone, Debug)]
struct LogFilter {
    declared: AccessLogFilter,
    conditions: Box<[ConditionMatcher]>,
}

/// The filters whose conditions a request meets. How it ends says whether one of them takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates(Option<Box<[usize]>>);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of HTTP; `None`: nobody answered.
    pub status: Option<u16>,
    /// Of gRPC.
    pub grpc_status: Option<u8>,
    /// The whole exchange.
    pub duration: Duration,
}

impl TelemetryTable {
    /// Compiles what a service says.
    pub fn build(telemetry: &Telemetry) -> Result<Self, ConditionError> {
        Ok(Self {
            service: telemetry.service.as_str().into(),
            log: telemetry
                .access_log
                .as_ref()
                .map(LogTable::build)
                .transpose()?,
            traces: telemetry.traces.clone(),
        })
    }

    /// What holds for the calls of an identity: which of its services makes one nobody can tell, so whatever any of
    /// them asks for is done.
    pub fn of_calls(all: &[Telemetry]) -> Result<Self, ConditionError> {
        let logs: Vec<&AccessLog> = all
            .iter()
            .filter_map(|each| each.access_log.as_ref())
            .collect();
        let wanted: Vec<_> = logs
            .iter()
            .filter(|log| log.format != AccessLogFormat::None)
            .collect();
        let log = match (wanted.first(), logs.first()) {
            // One that says nothing has its requests logged as the proxy was told.
            _ if logs.len() < all.len() => None,
            (Some(first), _) => Some(AccessLog {
                format: first.format,
                only: if wanted.iter().any(|log| log.only.is_empty()) {
                    Vec::new()
                } else {
                    wanted.iter().flat_map(|log| &log.only).cloned().collect()
                },
            }),
            (None, first) => first.map(|first| (*first).clone()),
        };
        let traces = all.iter().filter_map(|each| each.traces.as_ref());
        Ok(Self {
            service: "".into(),
            log: log.as_ref().map(LogTable::build).transpose()?,
            traces: traces.max_by_key(|traces| traces.share).cloned(),
        })
    }

    /// Name of the service; empty: of calls.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What is logged; `None`: as the proxy was told at start.
    pub fn log(&self) -> Option<&LogTable> {
        self.log.as_ref()
    }

    /// Where traces go, and of how many requests.
    pub fn traces(&self) -> Option<&Traces> {
        self.traces.as_ref()
    }
}

impl LogTable {
    fn build(log: &AccessLog) -> Result<Self, ConditionError> {
        let only = log.only.iter().map(|filter| {
            let conditions = filter.conditions.iter().map(ConditionMatcher::compile);
            Ok(LogFilter {
                declared: filter.clone(),
                conditions: conditions.collect::<Result<_, _>>()?,
            })
        });
        Ok(Self {
            format: log.format,
            only: only.collect::<Result<_, ConditionError>>()?,
        })
    }

    /// How it is logged.
    pub fn format(&self) -> AccessLogFormat {
        self.format
    }

    /// Whether a filter asks about more than how a request ends.
    pub fn has_conditions(&self) -> bool {
        self.only.iter().any(|filter| !filter.conditions.is_empty())
    }

    /// What may take this request, to be asked while it is at hand.
    pub fn candidates(&self, request: &Request<'_>) -> Candidates {
        if !self.has_conditions() {
            return Candidates::default();
        }
        let meets = |filter: &LogFilter| {
            let mut conditions = filter.conditions.iter();
            conditions.all(|condition| condition.matches(request, Reading::Match))
        };
        let met = self
            .only
            .iter()
            .enumerate()
            .filter(|(_, filter)| meets(filter));
        Candidates(Some(met.map(|(at, _)| at).collect()))
    }

    /// Whether a request is logged. What was never at hand to be asked about is not let pass for that.
    pub fn takes(&self, candidates: &Candidates, ended: Ended) -> bool {
        if self.format == AccessLogFormat::None {
            return false;
        }
        let is_candidate = |at: usize| match &candidates.0 {
            None => true,
            Some(met) => met.contains(&at),
        };
        self.only.is_empty()
            || self
                .only
                .iter()
                .enumerate()
                .any(|(at, filter)| is_candidate(at) && filter.takes(ended))
    }
}

impl LogFilter {
    fn takes(&self, ended: Ended) -> bool {
        let AccessLogFilter {
            statuses,
            slower_than,
            ..
        } = &self.declared;
        let is_slow = slower_than.is_none_or(|limit| ended.duration > limit);
        is_slow && (statuses.is_empty() || ended.is_of(statuses))
    }
}

impl Ended {
    /// Whether it ended with one of these. A gRPC status that is no success counts as what it is in HTTP.
    pub fn is_of(&self, statuses: &[StatusRange]) -> bool {
        let of_grpc = self.grpc_status.filter(|status| *status != 0).map(in_http);
        let status = of_grpc.or(self.status);
        status.is_some_and(|status| {
            let mut ranges = statuses.iter();
            ranges.any(|range| (range.from..=range.to).contains(&status))
        })
    }
}

/// What a gRPC status is in HTTP, as `google/rpc/code.proto` has it.
fn in_http(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::Condition;

    use super::*;
    use crate::path;
    use crate::request::{NoHeaders, Peer};

    const SERVER_ERRORS: StatusRange = StatusRange { from: 500, to: 599 };

    fn asked<T>(method: &str, question: impl FnOnce(&Request<'_>) -> T) -> T {
        let path = path::normalise("/").unwrap();
        question(&Request {
            method,
            host: "a",
            path: &path,
            query: "",
            headers: &NoHeaders,
            claims: None,
            port: 80,
            peer: Peer::Unauthenticated,
            peer_ip: None,
            client_ip: None,
        })
    }

    fn ended(status: u16, millis: u64) -> Ended {
        Ended {
            status: Some(status),
            grpc_status: None,
            duration: Duration::from_millis(millis),
        }
    }

    fn log(only: Vec<AccessLogFilter>) -> AccessLog {
        AccessLog {
            format: AccessLogFormat::Json,
            only,
        }
    }

    #[test]
    fn one_filter_is_enough_and_all_of_it_must_hold() {
        let slow = AccessLogFilter {
            slower_than: Some(Duration::from_secs(1)),
            ..AccessLogFilter::default()
        };
        let failed_posts = AccessLogFilter {
            statuses: vec![SERVER_ERRORS],
            conditions: vec![Condition::Method(vec!["POST".to_owned()])],
            ..AccessLogFilter::default()
        };
        let table = LogTable::build(&log(vec![slow, failed_posts])).unwrap();
        let takes = |method, ended| {
            let candidates = asked(method, |request| table.candidates(request));
            table.takes(&candidates, ended)
        };
        assert!(!takes("GET", ended(200, 1)));
        assert!(takes("GET", ended(200, 1_001)));
        assert!(!takes("GET", ended(503, 1)));
        assert!(takes("POST", ended(503, 1)));
        assert!(!takes("POST", ended(404, 1)));
        // Never at hand to be asked about its method.
        assert!(table.takes(&Candidates::default(), ended(500, 1)));
    }

    #[test]
    fn failures_of_grpc_are_failures() {
        let of_grpc = |status| Ended {
            grpc_status: Some(status),
            ..ended(200, 1)
        };
        assert!(of_grpc(14).is_of(&[SERVER_ERRORS]));
        assert!(!of_grpc(5).is_of(&[SERVER_ERRORS]));
        assert!(!of_grpc(0).is_of(&[SERVER_ERRORS]));
        let nobody = Ended {
            status: None,
            ..ended(0, 1)
        };
        assert!(!nobody.is_of(&[SERVER_ERRORS]));
    }

    #[test]
    fn calls_are_told_of_as_any_service_of_the_identity_asks() {
        let telemetry = |log: Option<AccessLog>, share| Telemetry {
            service: "a".to_owned(),
            access_log: log,
            traces: Some(Traces {
                share,
                otlp: format!("http://{share}:4317"),
            }),
        };
        let errors = || AccessLogFilter {
            statuses: vec![SERVER_ERRORS],
            ..AccessLogFilter::default()
        };
        let none = AccessLog {
            format: AccessLogFormat::None,
            only: Vec::new(),
        };
        let of = |all: &[Telemetry]| TelemetryTable::of_calls(all).unwrap();
        let both = of(&[
            telemetry(Some(log(vec![errors()])), 1),
            telemetry(Some(none.clone()), 10),
        ]);
        let takes = |table: &TelemetryTable, status| {
            let log = table.log().unwrap();
            log.takes(&Candidates::default(), ended(status, 1))
        };
        assert!(takes(&both, 500) && !takes(&both, 200));
        assert_eq!(both.traces().unwrap().share, 10);
        let all = of(&[
            telemetry(Some(log(vec![errors()])), 1),
            telemetry(Some(log(Vec::new())), 1),
        ]);
        assert!(takes(&all, 200));
        assert!(!takes(&of(&[telemetry(Some(none), 1)]), 500));
        assert!(of(&[telemetry(None, 1)]).log().is_none());
        assert!(of(&[]).log().is_none() && of(&[]).traces().is_none());
    }
}
