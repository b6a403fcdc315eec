//! What the proxies reported. It knows neither sockets nor signatures: whoever calls has verified
//! who speaks. Reports are claims of an identity, kept in memory only: after a restart the proxies
//! connect again and say where they are.

use std::collections::BTreeMap;

use mesh_bundle::digest::Digest;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::order::Order;
use mesh_bundle::spiffe::SpiffeId;

use crate::limits;
use crate::status::{ProxyReport, ServingReport, timestamp};

/// All proxies that have connected.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    proxies: BTreeMap<ProxyKey, Proxy>,
    streams: u64,
}

/// One proxy: an identity may have many instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProxyKey {
    /// Verified.
    pub(crate) identity: SpiffeId,
    /// As the proxy says.
    pub(crate) instance: String,
}

/// Names one stream of one proxy, so that the end of an old stream does not hide a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamId(u64);

#[derive(Debug, Default)]
struct Proxy {
    stream: Option<StreamId>,
    labels: Vec<String>,
    version: String,
    last: Option<Reported>,
    serving: Option<Serving>,
    seen_ms: u64,
}

/// The last status of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    /// How far it is.
    pub(crate) phase: Phase,
    generation: Digest,
    order: Option<Order>,
    slice: Option<Digest>,
    /// Why it refused or stepped back; a word.
    pub(crate) reason: Option<String>,
    detail: Option<String>,
    since_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Serving {
    generation: Digest,
    order: Option<Order>,
    slice: Option<Digest>,
    swap_ns: Option<u64>,
    since_ms: u64,
}

/// How far a proxy is with a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has the bytes.
    Received,
    /// It believes them.
    Verified,
    /// Its tables are built.
    Prepared,
    /// Requests are decided by it.
    Serving,
    /// It will not step below it.
    Confirmed,
    /// It refused it.
    Rejected,
    /// It stepped back from it.
    Reverted,
}

impl Phase {
    /// The name in outputs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Prepared => "prepared",
            Self::Serving => "serving",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Reverted => "reverted",
        }
    }

    fn from_wire(phase: i32) -> Option<Self> {
        Some(match wire::Phase::try_from(phase).ok()? {
            wire::Phase::Unspecified => return None,
            wire::Phase::Received => Self::Received,
            wire::Phase::Verified => Self::Verified,
            wire::Phase::Prepared => Self::Prepared,
            wire::Phase::Serving => Self::Serving,
            wire::Phase::Confirmed => Self::Confirmed,
            wire::Phase::Rejected => Self::Rejected,
            wire::Phase::Reverted => Self::Reverted,
        })
    }
}

/// A status that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StatusError {
    /// Not one of the phases.
    #[error("status names no phase")]
    Phase,
    /// No generation, or a digest of another length.
    #[error("status names no generation")]
    Generation,
}

/// What a generation that this distributor keeps was compiled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownGeneration {
    /// Digest of the generation.
    pub(crate) digest: Digest,
    /// Its place in the order.
    pub(crate) order: Order,
    /// Hexadecimal.
    pub(crate) commit: String,
}

impl Fleet {
    /// Notes that a proxy opened a stream; an older one of the same proxy no longer counts.
    pub(crate) fn connect(&mut self, key: &ProxyKey, hello: &wire::Hello, now_ms: u64) -> StreamId {
        if !self.proxies.contains_key(key) && self.proxies.len() >= limits::PROXIES_MAX {
            self.forget_one();
        }
        self.streams += 1;
        let stream = StreamId(self.streams);
        let proxy = self.proxies.entry(key.clone()).or_default();
        proxy.stream = Some(stream);
        proxy.seen_ms = now_ms;
        proxy.version = bounded(&hello.version);
        proxy.labels = hello
            .labels
            .iter()
            .take(limits::HELLO_LIST_MAX)
            .map(|label| bounded(&format!("{}={}", label.key, label.value)))
            .collect();
        stream
    }

    /// Notes that a stream ended.
    pub(crate) fn disconnect(&mut self, key: &ProxyKey, stream: StreamId, now_ms: u64) {
        if let Some(proxy) = self.proxies.get_mut(key)
            && proxy.stream == Some(stream)
        {
            proxy.stream = None;
            proxy.seen_ms = now_ms;
        }
    }

    /// Records a status; what was understood of it is returned for the log.
    pub(crate) fn report(
        &mut self,
        key: &ProxyKey,
        status: &wire::Status,
        now_ms: u64,
    ) -> Result<Reported, StatusError> {
        let phase = Phase::from_wire(status.phase).ok_or(StatusError::Phase)?;
        let generation = status.generation.as_ref().ok_or(StatusError::Generation)?;
        let digest = digest(&generation.digest).ok_or(StatusError::Generation)?;
        let order = generation.order.as_ref().map(|order| Order {
            epoch: order.epoch,
            sequence: order.sequence,
            emit: order.emit,
        });
        let mut reported = Reported {
            phase,
            generation: digest,
            order,
            slice: self::digest(&status.slice),
            reason: matches!(phase, Phase::Rejected | Phase::Reverted)
                .then(|| reason(&status.reason)),
            detail: (!status.detail.is_empty()).then(|| bounded(&status.detail)),
            since_ms: now_ms,
        };
        let Some(proxy) = self.proxies.get_mut(key) else {
            return Ok(reported);
        };
        proxy.seen_ms = now_ms;
        if let Some(last) = &proxy.last {
            reported.since_ms = last.since_ms;
            if *last != reported {
                reported.since_ms = now_ms;
            }
        }
        if matches!(phase, Phase::Serving | Phase::Confirmed) {
            let swap_ns = (phase == Phase::Serving && status.swap_ns > 0).then_some(status.swap_ns);
            proxy.serve(digest, order, reported.slice, swap_ns, now_ms);
        }
        proxy.last = Some(reported.clone());
        Ok(reported)
    }

    /// Records what a heartbeat says is served.
    pub(crate) fn heartbeat(
        &mut self,
        key: &ProxyKey,
        heartbeat: &wire::ProxyHeartbeat,
        now_ms: u64,
    ) {
        let Some(proxy) = self.proxies.get_mut(key) else {
            return;
        };
        proxy.seen_ms = now_ms;
        match digest(&heartbeat.generation) {
            Some(generation) => {
                proxy.serve(generation, None, digest(&heartbeat.slice), None, now_ms);
            }
            None => proxy.serving = None,
        }
    }

    /// Whether the last word of a proxy about this generation was no.
    pub(crate) fn refused(&self, key: &ProxyKey, generation: &Digest) -> bool {
        self.proxies
            .get(key)
            .and_then(|proxy| proxy.last.as_ref())
            .is_some_and(|last| {
                last.generation == *generation
                    && matches!(last.phase, Phase::Rejected | Phase::Reverted)
            })
    }

    /// Every proxy, ascending by identity and instance.
    pub(crate) fn reports(&self, known: &[KnownGeneration]) -> Vec<ProxyReport> {
        self.proxies
            .iter()
            .map(|(key, proxy)| proxy.report(key, known))
            .collect()
    }

    /// Every proxy, with whether it serves the generation, and why not; or why there is no generation.
    pub(crate) fn whereabouts(
        &self,
        wanted: Result<&KnownGeneration, &str>,
        known: &[KnownGeneration],
    ) -> Vec<ProxyReport> {
        self.proxies
            .iter()
            .map(|(key, proxy)| {
                let mut report = proxy.report(key, known);
                let serving = proxy.serving.as_ref().map(|serving| serving.generation);
                let serves = wanted.is_ok_and(|wanted| serving == Some(wanted.digest));
                report.serves = Some(serves);
                report.reason = if serves {
                    None
                } else {
                    Some(proxy.why_not(wanted, &report))
                };
                report
            })
            .collect()
    }

    /// Makes room: the longest disconnected proxy goes, or the longest silent one.
    fn forget_one(&mut self) {
        let oldest = self
            .proxies
            .iter()
            .min_by_key(|(_key, proxy)| (proxy.stream.is_some(), proxy.seen_ms))
            .map(|(key, _proxy)| key.clone());
        if let Some(key) = oldest {
            self.proxies.remove(&key);
        }
    }
}

impl Proxy {
    fn serve(
        &mut self,
        generation: Digest,
        order: Option<Order>,
        slice: Option<Digest>,
        swap_ns: Option<u64>,
        now_ms: u64,
    ) {
        match &mut self.serving {
            Some(serving) if serving.generation == generation => {
                serving.order = serving.order.or(order);
                serving.swap_ns = serving.swap_ns.or(swap_ns);
                serving.slice = slice.or(serving.slice);
            }
            serving => {
                *serving = Some(Serving {
                    generation,
                    order,
                    slice,
                    swap_ns,
                    since_ms: now_ms,
                });
            }
        }
    }

    fn report(&self, key: &ProxyKey, known: &[KnownGeneration]) -> ProxyReport {
        let find = |digest: &Digest| known.iter().find(|known| known.digest == *digest);
        let serving = self.serving.as_ref();
        // A proxy that reconnects has nothing new to say: its heartbeat then stands for a status.
        let (phase, generation, order, slice, since_ms) = match (&self.last, serving) {
            (Some(last), _) => (
                Some(last.phase),
                Some(last.generation),
                last.order,
                last.slice,
                Some(last.since_ms),
            ),
            (None, Some(serving)) => (
                Some(Phase::Serving),
                Some(serving.generation),
                serving.order,
                serving.slice,
                Some(serving.since_ms),
            ),
            (None, None) => (None, None, None, None, None),
        };
        let order = order.or_else(|| generation.as_ref().and_then(find).map(|known| known.order));
        ProxyReport {
            workload: workload(&key.identity),
            identity: key.identity.to_string(),
            instance: key.instance.clone(),
            labels: self.labels.clone(),
            version: (!self.version.is_empty()).then(|| self.version.clone()),
            connected: self.stream.is_some(),
            phase: phase.map(|phase| phase.as_str().to_owned()),
            sequence: order.map(|order| order.sequence),
            slice: slice.map(|slice| slice.to_string()),
            reason: self.last.as_ref().and_then(|last| last.reason.clone()),
            detail: self.last.as_ref().and_then(|last| last.detail.clone()),
            since: since_ms.map(timestamp),
            serving: serving.map(|serving| {
                let known = find(&serving.generation);
                ServingReport {
                    generation: serving.generation.to_string(),
                    sequence: serving
                        .order
                        .or_else(|| known.map(|known| known.order))
                        .map(|order| order.sequence),
                    commit: known.map(|known| known.commit.clone()),
                    swap_ns: serving.swap_ns,
                }
            }),
            serves: None,
        }
    }

    fn why_not(&self, wanted: Result<&KnownGeneration, &str>, report: &ProxyReport) -> String {
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(why_unknown) => return why_unknown.to_owned(),
        };
        if let Some(last) = &self.last
            && last.generation == wanted.digest
        {
            return last
                .reason
                .clone()
                .unwrap_or_else(|| format!("still_{}", last.phase.as_str()));
        }
        if self.stream.is_none() {
            return "disconnected".to_owned();
        }
        match report.serving.as_ref().and_then(|serving| serving.sequence) {
            Some(sequence) => format!("serves_sequence_{sequence}"),
            None => "not_reported".to_owned(),
        }
    }
}

/// A digest of the right length.
pub(crate) fn digest(bytes: &[u8]) -> Option<Digest> {
    Digest::try_from(bytes).ok()
}

/// The last part of an identity, which by default is the name of the service.
pub(crate) fn workload(identity: &SpiffeId) -> String {
    identity
        .as_str()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Reasons end up in metrics and tables; one that is not a word of the vocabulary's shape does not.
fn reason(text: &str) -> String {
    let plain = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_:.-".contains(&byte)
        });
    if plain { text } else { "other" }.to_owned()
}

/// Text from a proxy, cut to its bound and without control characters, which terminals would obey.
pub(crate) fn bounded(text: &str) -> String {
    let mut bounded = String::new();
    for character in text.chars().map(|character| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    }) {
        if bounded.len() + character.len_utf8() > limits::PROXY_TEXT_BYTES_MAX {
            break;
        }
        bounded.push(character);
    }
    bounded
}

#[cfg(test)]
mod tests {
    use mesh_bundle::messages::bundle as signed;

    use super::*;

    fn key(name: &str) -> ProxyKey {
        ProxyKey {
            identity: SpiffeId::parse(&format!("spiffe://test.example/service/{name}")).unwrap(),
            instance: format!("{name}-1"),
        }
    }

    fn hello() -> wire::Hello {
        wire::Hello {
            version: "0.1.0".to_owned(),
            ..wire::Hello::default()
        }
    }

    fn known(sequence: u64) -> KnownGeneration {
        KnownGeneration {
            digest: Digest::of(&sequence.to_be_bytes()),
            order: Order {
                epoch: 0,
                sequence,
                emit: 1,
            },
            commit: format!("{sequence:040}"),
        }
    }

    fn status(phase: wire::Phase, sequence: u64, reason: &str) -> wire::Status {
        wire::Status {
            phase: phase.into(),
            generation: Some(signed::GenerationRef {
                digest: Digest::of(&sequence.to_be_bytes()).as_bytes().to_vec(),
                order: Some(signed::Order {
                    epoch: 0,
                    sequence,
                    emit: 1,
                }),
            }),
            slice: vec![7; 32],
            reason: reason.to_owned(),
            ..wire::Status::default()
        }
    }

    #[test]
    fn a_rejection_keeps_what_is_served() {
        let mut fleet = Fleet::default();
        fleet.connect(&key("a"), &hello(), 1);
        fleet
            .report(&key("a"), &status(wire::Phase::Serving, 1, ""), 2)
            .unwrap();
        fleet
            .report(&key("a"), &status(wire::Phase::Rejected, 2, "bad_proof"), 3)
            .unwrap();
        let reports = fleet.reports(&[known(1), known(2)]);
        assert_eq!(reports[0].phase.as_deref(), Some("rejected"));
        assert_eq!(reports[0].sequence, Some(2));
        assert_eq!(reports[0].reason.as_deref(), Some("bad_proof"));
        assert_eq!(reports[0].serving.as_ref().unwrap().sequence, Some(1));
        assert!(fleet.refused(&key("a"), &known(2).digest));
        assert!(!fleet.refused(&key("a"), &known(1).digest));
    }

    #[test]
    fn since_is_when_the_report_changed() {
        let mut fleet = Fleet::default();
        fleet.connect(&key("a"), &hello(), 1);
        for now_ms in [1_000, 2_000] {
            fleet
                .report(&key("a"), &status(wire::Phase::Serving, 1, ""), now_ms)
                .unwrap();
        }
        assert_eq!(fleet.reports(&[])[0].since, Some(timestamp(1_000)));
        fleet
            .report(&key("a"), &status(wire::Phase::Confirmed, 1, ""), 3_000)
            .unwrap();
        assert_eq!(fleet.reports(&[])[0].since, Some(timestamp(3_000)));
    }

    #[test]
    fn whereabouts_say_why_not() {
        let mut fleet = Fleet::default();
        for name in ["a", "b", "c", "d"] {
            fleet.connect(&key(name), &hello(), 1);
        }
        fleet
            .report(&key("a"), &status(wire::Phase::Serving, 2, ""), 2)
            .unwrap();
        fleet
            .report(
                &key("b"),
                &status(wire::Phase::Rejected, 2, "unknown_feature"),
                2,
            )
            .unwrap();
        fleet
            .report(&key("c"), &status(wire::Phase::Confirmed, 1, ""), 2)
            .unwrap();
        let answers: Vec<_> = fleet
            .whereabouts(Ok(&known(2)), &[known(1), known(2)])
            .into_iter()
            .map(|report| (report.serves, report.reason))
            .collect();
        let no = |reason: &str| (Some(false), Some(reason.to_owned()));
        assert_eq!(
            answers,
            [
                (Some(true), None),
                no("unknown_feature"),
                no("serves_sequence_1"),
                no("not_reported")
            ]
        );
        assert_eq!(
            fleet.whereabouts(Err("unknown_commit"), &[])[0]
                .reason
                .as_deref(),
            Some("unknown_commit")
        );
    }

    #[test]
    fn a_heartbeat_stands_for_a_status_after_a_restart() {
        let mut fleet = Fleet::default();
        fleet.connect(&key("a"), &hello(), 1);
        let heartbeat = wire::ProxyHeartbeat {
            generation: known(7).digest.as_bytes().to_vec(),
            ..wire::ProxyHeartbeat::default()
        };
        fleet.heartbeat(&key("a"), &heartbeat, 2);
        let reports = fleet.reports(&[known(7)]);
        assert_eq!(reports[0].phase.as_deref(), Some("serving"));
        assert_eq!(reports[0].sequence, Some(7));
    }

    #[test]
    fn the_end_of_an_old_stream_does_not_hide_a_new_one() {
        let mut fleet = Fleet::default();
        let old = fleet.connect(&key("a"), &hello(), 1);
        let new = fleet.connect(&key("a"), &hello(), 2);
        fleet.disconnect(&key("a"), old, 3);
        assert!(fleet.reports(&[])[0].connected);
        fleet.disconnect(&key("a"), new, 4);
        assert!(!fleet.reports(&[])[0].connected);
    }

    #[test]
    fn nonsense_is_refused_and_text_is_bounded() {
        let mut fleet = Fleet::default();
        fleet.connect(&key("a"), &hello(), 1);
        assert_eq!(
            fleet.report(&key("a"), &wire::Status::default(), 2),
            Err(StatusError::Phase)
        );
        let mut unnamed = status(wire::Phase::Serving, 1, "");
        unnamed.generation = None;
        assert_eq!(
            fleet.report(&key("a"), &unnamed, 2),
            Err(StatusError::Generation)
        );
        assert_eq!(reason("Robert'); DROP"), "other");
        let missing = "unknown_feature:balance.ring-hash";
        assert_eq!(reason(missing), missing);
        assert_eq!(bounded("a\u{1b}[2Jb"), "a [2Jb");
        assert_eq!(bounded(&"é".repeat(500)).len(), 256);
    }
}
