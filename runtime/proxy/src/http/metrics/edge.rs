//! The counters of one edge: who calls what by which route. A request finds its own by a small number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_daemon::telemetry::Reason;

use crate::histogram::{Histogram, LATENCY, OVERHEAD, SIZES};
use crate::limits;

/// Which side of a call this proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reporter {
    /// The caller's.
    Source,
    /// The callee's.
    Destination,
}

impl Reporter {
    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// How the mesh side of a connection is kept from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Tls {
    /// In plaintext, or there was none.
    #[default]
    None,
    /// Towards a service outside the mesh.
    Simple,
    /// Between proxies.
    Mutual,
}

impl Tls {
    const ALL: [Self; 3] = [Self::None, Self::Simple, Self::Mutual];

    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Simple => "tls",
            Self::Mutual => "mutual",
        }
    }
}

/// What the requests of an edge share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EdgeLabels {
    /// Which side reports.
    pub(crate) reporter: Reporter,
    /// SPIFFE ID of the caller; empty if it has none.
    pub(crate) src_identity: String,
    /// The service that is called; empty if the request names none that is known.
    pub(crate) dst_service: String,
    /// The route; empty where none was chosen.
    pub(crate) route: String,
    /// Names of subsets, referred to by position.
    pub(crate) subsets: Vec<String>,
    /// SPIFFE IDs that those who answer may have, referred to by position.
    pub(crate) dst_identities: Vec<String>,
}

impl EdgeLabels {
    /// Of what is not told apart.
    pub(super) fn others() -> Self {
        Self {
            reporter: Reporter::Destination,
            src_identity: String::new(),
            dst_service: String::new(),
            route: String::new(),
            subsets: Vec::new(),
            dst_identities: Vec::new(),
        }
    }
}

/// The counters of one edge.
#[derive(Debug)]
pub(crate) struct EdgeMetrics {
    labels: Arc<EdgeLabels>,
    /// Made with the first request: most routes of a large mesh have none here.
    measured: OnceLock<Box<Measured>>,
}

/// What is measured of an edge's requests.
#[derive(Debug)]
pub(super) struct Measured {
    series: Box<[Series]>,
    /// Endings that found no room.
    pub(super) others: AtomicU64,
    /// By class of the ending.
    pub(super) duration: [OnceLock<Histogram>; CLASSES.len()],
    pub(super) first_byte: [OnceLock<Histogram>; CLASSES.len()],
    pub(super) overhead: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    /// Of gRPC: of requests, and of answers.
    pub(super) messages: [AtomicU64; 2],
}

/// A counter and the number of what it counts; 0 while nobody has it.
#[derive(Debug, Default)]
struct Series {
    key: AtomicU64,
    count: AtomicU64,
}

/// How a request ended, as far as it becomes labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Index in [`METHODS`].
    pub(crate) method: usize,
    /// Index in [`PROTOCOLS`].
    pub(crate) protocol: usize,
    /// What the client got; 0 if nothing.
    pub(crate) code: u16,
    /// From head or trailers.
    pub(crate) grpc_status: Option<u8>,
    /// None: it went well.
    pub(crate) reason: Option<Reason>,
    /// Position in the edge's subsets.
    pub(crate) subset: Option<usize>,
    /// Position in the edge's identities.
    pub(crate) dst_identity: Option<usize>,
    /// Of the mesh side.
    pub(crate) tls: Tls,
}

/// How long a request took, and what it carried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measures {
    /// The whole exchange.
    pub(crate) duration: Duration,
    /// To the head of the answer.
    pub(crate) first_byte: Option<Duration>,
    /// What of that the proxy took for itself.
    pub(crate) overhead: Option<Duration>,
    /// Of the request's body.
    pub(crate) bytes_in: u64,
    /// Of the answer's body.
    pub(crate) bytes_out: u64,
}

/// Which messages of gRPC.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Messages {
    /// Those of the client.
    Request,
    /// Those of the server.
    Response,
}

/// Methods that are named in labels; the last stands for all others.
pub(crate) const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "_OTHER",
];

/// Protocols as labels.
pub(crate) const PROTOCOLS: [&str; 3] = ["http/1.1", "http/2", "grpc"];

/// Classes of endings, for histograms: no answer at all, by the first digit, and a gRPC status that is no success.
pub(super) const CLASSES: [&str; 7] = ["", "1xx", "2xx", "3xx", "4xx", "5xx", "grpc_error"];

/// Statuses that gRPC has; others, which only a program can make up, are counted as one.
const GRPC_STATUSES: u8 = 17;

/// The index of a method.
pub(crate) fn method_index(method: &str) -> usize {
    METHODS
        .iter()
        .position(|known| *known == method)
        .unwrap_or(METHODS.len() - 1)
}

impl Ending {
    /// Never 0, and read back by [`Ending::of_key`].
    fn key(self) -> u64 {
        let reason = self.reason.map_or(0, |reason| {
            let known = Reason::ALL.iter();
            let mut known = known.map(|known| known.name() == reason.name());
            known.position(|is_it| is_it).map_or(0, |at| at + 1)
        });
        let grpc = self
            .grpc_status
            .map_or(0, |status| u64::from(status.min(GRPC_STATUSES)) + 1);
        let position = |at: Option<usize>| at.map_or(0, |at| at as u64 + 1);
        let tls = Tls::ALL.iter().position(|tls| *tls == self.tls);
        1 << 63
            | (tls.unwrap_or(0) as u64) << 60
            | (position(self.dst_identity) & 0xff) << 52
            | (position(self.subset) & 0xfff) << 40
            | (reason as u64 & 0xff) << 32
            | grpc << 20
            | u64::from(self.code & 0x3ff) << 8
            | (self.protocol as u64 & 0x3) << 4
            | (self.method as u64 & 0xf)
    }

    fn of_key(key: u64) -> Self {
        let part = |shift: u32, mask: u64| usize::try_from(key >> shift & mask).unwrap_or(0);
        let small = |shift, mask| u16::try_from(part(shift, mask)).unwrap_or(0);
        let reason = part(32, 0xff).checked_sub(1);
        Self {
            method: part(0, 0xf),
            protocol: part(4, 0x3),
            code: small(8, 0x3ff),
            grpc_status: small(20, 0xff)
                .checked_sub(1)
                .and_then(|it| u8::try_from(it).ok()),
            reason: reason.and_then(|at| Reason::ALL.get(at)).copied(),
            subset: part(40, 0xfff).checked_sub(1),
            dst_identity: part(52, 0xff).checked_sub(1),
            tls: Tls::ALL.get(part(60, 0x3)).copied().unwrap_or_default(),
        }
    }

    /// The name of its gRPC status; empty if it is not gRPC or has none.
    pub(super) fn grpc_status_label(self) -> String {
        match self.grpc_status {
            None => String::new(),
            Some(GRPC_STATUSES..) => "_OTHER".to_owned(),
            Some(status) => status.to_string(),
        }
    }

    /// Whether it was gRPC.
    pub(super) fn is_grpc(self) -> bool {
        PROTOCOLS.get(self.protocol) == Some(&"grpc")
    }

    fn class(self) -> usize {
        match (self.grpc_status, self.code) {
            (Some(1..), _) => 6,
            (_, 100..600) => usize::from(self.code / 100),
            _ => 0,
        }
    }
}

impl EdgeMetrics {
    /// Nothing was counted yet.
    pub(crate) fn new(labels: Arc<EdgeLabels>) -> Self {
        Self {
            labels,
            measured: OnceLock::new(),
        }
    }

    /// What the requests of this edge share.
    pub(crate) fn labels(&self) -> &EdgeLabels {
        &self.labels
    }

    /// The position of a subset's name.
    pub(crate) fn subset(&self, name: &str) -> Option<usize> {
        self.labels.subsets.iter().position(|subset| subset == name)
    }

    /// The position of the identity of who answers.
    pub(crate) fn dst_identity(&self, identity: &str) -> Option<usize> {
        let known = &self.labels.dst_identities;
        known.iter().position(|known| known == identity)
    }

    /// What was measured; none: no request ended yet.
    pub(super) fn measured(&self) -> Option<&Measured> {
        self.measured.get().map(Box::as_ref)
    }

    fn measuring(&self) -> &Measured {
        self.measured.get_or_init(|| Box::new(Measured::new()))
    }

    /// Counts an ending.
    pub(crate) fn count(&self, ending: Ending, measures: &Measures) {
        let measured = self.measuring();
        measured.count(ending.key());
        let class = ending.class();
        let of_class = |histograms: &[OnceLock<Histogram>], time: Duration| {
            if let Some(histogram) = histograms.get(class) {
                histogram
                    .get_or_init(|| Histogram::new(&LATENCY))
                    .observe_time(time);
            }
        };
        of_class(&measured.duration, measures.duration);
        if let Some(first_byte) = measures.first_byte {
            of_class(&measured.first_byte, first_byte);
        }
        if let Some(overhead) = measures.overhead {
            measured.overhead.observe_time(overhead);
        }
        measured.request_bytes.observe(measures.bytes_in);
        measured.response_bytes.observe(measures.bytes_out);
    }

    /// Counts messages of gRPC as they pass.
    pub(crate) fn count_messages(&self, whose: Messages, messages: u64) {
        if messages > 0 {
            let [request, response] = &self.measuring().messages;
            let counter = match whose {
                Messages::Request => request,
                Messages::Response => response,
            };
            counter.fetch_add(messages, Ordering::Relaxed);
        }
    }
}

impl Measured {
    fn new() -> Self {
        Self {
            series: (0..limits::SERIES_PER_ROUTE)
                .map(|_| Series::default())
                .collect(),
            others: AtomicU64::new(0),
            duration: Default::default(),
            first_byte: Default::default(),
            overhead: Histogram::new(&OVERHEAD),
            request_bytes: Histogram::new(&SIZES),
            response_bytes: Histogram::new(&SIZES),
            messages: Default::default(),
        }
    }

    fn count(&self, key: u64) {
        for series in &self.series {
            let mut at = series.key.load(Ordering::Relaxed);
            if at == 0 {
                at = match series
                    .key
                    .compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed)
                {
                    Ok(_) => key,
                    Err(other) => other,
                };
            }
            if at == key {
                series.count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.others.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted, by ending.
    pub(super) fn endings(&self) -> impl Iterator<Item = (Ending, u64)> {
        let series = self.series.iter().map(|series| {
            let key = series.key.load(Ordering::Relaxed);
            (key, series.count.load(Ordering::Relaxed))
        });
        series
            .take_while(|(key, _)| *key != 0)
            .map(|(key, count)| (Ending::of_key(key), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_read_back_as_it_was() {
        for reason in Reason::ALL.map(Some).into_iter().chain([None]) {
            for tls in Tls::ALL {
                let ending = Ending {
                    method: 8,
                    protocol: 2,
                    code: 599,
                    grpc_status: Some(16),
                    reason,
                    subset: Some(4_000),
                    dst_identity: Some(200),
                    tls,
                };
                assert_eq!(Ending::of_key(ending.key()), ending);
            }
        }
        let bare = Ending {
            method: 0,
            protocol: 0,
            code: 0,
            grpc_status: None,
            reason: None,
            subset: None,
            dst_identity: None,
            tls: Tls::None,
        };
        assert_ne!(bare.key(), 0);
        assert_eq!(Ending::of_key(bare.key()), bare);
        let strange = Ending {
            grpc_status: Some(200),
            ..bare
        };
        assert_eq!(Ending::of_key(strange.key()).grpc_status_label(), "_OTHER");
    }
}
