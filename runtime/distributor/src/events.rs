//! What happens, once: each event writes its log line and counts its metric here and nowhere else.

use std::sync::atomic::AtomicU64;

use mesh_bundle::messages::distribution as wire;
use mesh_bundle::order::Order;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::status::fleet::{Phase, ProxyKey};
use crate::trust::Change;

type Labelled = Family<Vec<(&'static str, String)>, Counter>;

/// The metrics of a distributor.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sequence: Gauge<u64, AtomicU64>,
    head_issued: Gauge<f64, AtomicU64>,
    certificate_expiry: Gauge<u64, AtomicU64>,
    commits: Labelled,
    identities: Labelled,
    trust: Labelled,
    clones: Counter,
    statuses: Labelled,
    rejected: Labelled,
    streams: Gauge,
    repairs: Counter,
}

/// How a certificate came to be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attestation {
    /// A join token.
    JoinToken,
    /// A certificate that is still valid.
    Renewal,
    /// The key of one that has expired.
    Possession,
}

impl Attestation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::Renewal => "renewal",
            Self::Possession => "possession",
        }
    }
}

impl Events {
    /// Registers everything.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            sequence: metrics.register(
                "mesh_config_generation",
                "Sequence of the generation that the head names",
                Gauge::default(),
            ),
            head_issued: metrics.register(
                "mesh_head_issued_timestamp_seconds",
                "When the newest head was signed",
                Gauge::default(),
            ),
            certificate_expiry: metrics.register(
                "mesh_cert_expiry_timestamp_seconds",
                "When the own certificate ends",
                Gauge::default(),
            ),
            commits: metrics.register("mesh_commits", "Judged commits", Family::default()),
            identities: metrics.register(
                "mesh_identities",
                "Requests for certificates",
                Family::default(),
            ),
            trust: metrics.register(
                "mesh_trust_updates",
                "Times that something new was found in the trust folder",
                Family::default(),
            ),
            clones: metrics.register(
                "mesh_identity_clones",
                "Renewals that were refused because another proxy has the key too",
                Counter::default(),
            ),
            statuses: metrics.register(
                "mesh_proxy_statuses",
                "Statuses that proxies reported",
                Family::default(),
            ),
            rejected: metrics.register(
                "mesh_config_rejected",
                "Generations that proxies reported as rejected or reverted",
                Family::default(),
            ),
            streams: metrics.register(
                "mesh_proxy_streams",
                "Open streams of proxies",
                Gauge::default(),
            ),
            repairs: metrics.register(
                "mesh_proxy_repairs",
                "Generations sent again because a heartbeat named another",
                Counter::default(),
            ),
        }
    }

    /// A head was signed.
    pub(crate) fn head_signed(&self, issued_ms: u64, order: Order) {
        self.sequence.set(order.sequence);
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 fit into 52 bits"
        )]
        self.head_issued.set(issued_ms as f64 / 1000.0);
        tracing::debug!(issued_ms, %order, "signed a head");
    }

    /// The distributor has a new certificate of its own.
    pub(crate) fn own_certificate(&self, identity: &SpiffeId, not_after: u64) {
        self.certificate_expiry.set(not_after);
        tracing::debug!(%identity, not_after, "issued the own certificate");
    }

    /// A commit became the current generation.
    pub(crate) fn commit_accepted(&self, commit: &str, order: Order, slices: usize) {
        self.commits
            .get_or_create(&vec![("result", "accepted".to_owned())])
            .inc();
        tracing::info!(commit, %order, slices, "a commit is served");
    }

    /// A commit was refused; the follower logs why.
    pub(crate) fn commit_refused(&self, commit: &str, findings: usize) {
        self.commits
            .get_or_create(&vec![("result", "refused".to_owned())])
            .inc();
        tracing::debug!(commit, findings, "a commit is refused");
    }

    /// Something new in the trust folder is served.
    pub(crate) fn trust_taken(&self, change: &Change) {
        self.count_trust("taken");
        tracing::warn!(%change, "took new trust, and every proxy is told");
    }

    /// What is in the trust folder is not served.
    pub(crate) fn trust_refused(&self, error: &str) {
        self.count_trust("refused");
        tracing::error!(
            error,
            "did not take what is new in the trust folder; what was served stays"
        );
    }

    /// Certificates are issued by another authority.
    pub(crate) fn authority_taken(&self, key: &str, root: &str) {
        self.count_trust("taken");
        tracing::warn!(
            key,
            root,
            "issues with another intermediate authority from now on"
        );
    }

    /// Two proxies have the key of one enrolment.
    pub(crate) fn clone_seen(&self, identity: &SpiffeId, enrolment: &str) {
        self.clones.inc();
        tracing::error!(%identity, enrolment, "a certificate was renewed by a key that was replaced: two proxies have had it, \
            neither is renewed any more; revoke the enrolment, find out how the key got away, and enrol anew");
    }

    fn count_trust(&self, result: &str) {
        let labels = vec![("result", result.to_owned())];
        self.trust.get_or_create(&labels).inc();
    }

    /// A proxy got a certificate. This is the record of an attestation: who, on what evidence.
    pub(crate) fn identity_issued(
        &self,
        attestation: Attestation,
        identity: &SpiffeId,
        enrolment: &str,
        key: &str,
    ) {
        let attestation = attestation.as_str();
        self.count_identity(attestation, "issued");
        tracing::info!(attestation, %identity, enrolment, key, "issued a certificate");
    }

    /// A proxy of this machine got a join file for the user that it runs as.
    pub(crate) fn local_attested(&self, identity: &SpiffeId, who: &str, token: &str) {
        self.count_identity("unix_user", "issued");
        tracing::info!(attestation = "unix_user", %identity, who, token, "made a join token for a local proxy");
    }

    /// A user of this machine stands for nobody.
    pub(crate) fn local_refused(&self, uid: u32) {
        self.count_identity("unix_user", "refused");
        tracing::warn!(
            attestation = "unix_user",
            uid,
            "refused a join token: the user stands for nobody"
        );
    }

    /// A proxy got none.
    pub(crate) fn identity_refused(&self, attestation: Attestation, asked_by: &str, error: &str) {
        let attestation = attestation.as_str();
        self.count_identity(attestation, "refused");
        tracing::warn!(attestation, asked_by, error, "refused a certificate");
    }

    fn count_identity(&self, attestation: &str, result: &str) {
        let labels = vec![
            ("attestation", attestation.to_owned()),
            ("result", result.to_owned()),
        ];
        self.identities.get_or_create(&labels).inc();
    }

    /// A proxy opened its stream.
    pub(crate) fn stream_opened(&self, key: &ProxyKey, version: &str) {
        self.streams.inc();
        tracing::info!(identity = %key.identity, instance = key.instance, version, "a proxy follows");
    }

    /// A stream ended.
    pub(crate) fn stream_ended(&self, key: &ProxyKey, because: &str) {
        self.streams.dec();
        tracing::info!(identity = %key.identity, instance = key.instance, because, "a proxy no longer follows");
    }

    /// A proxy reported; `reason` has been checked to be a word.
    pub(crate) fn status_reported(
        &self,
        key: &ProxyKey,
        phase: Phase,
        status: &wire::Status,
        reason: Option<&str>,
    ) {
        self.statuses
            .get_or_create(&vec![("phase", phase.as_str().to_owned())])
            .inc();
        let sequence = status
            .generation
            .as_ref()
            .and_then(|generation| generation.order.as_ref());
        let sequence = sequence.map_or(0, |order| order.sequence);
        let (identity, instance, phase) = (&key.identity, &key.instance, phase.as_str());
        match reason {
            Some(reason) => {
                self.rejected
                    .get_or_create(&vec![("reason", known_reason(reason).to_owned())])
                    .inc();
                tracing::warn!(%identity, instance, phase, sequence, reason, "a proxy reported");
            }
            None => tracing::debug!(%identity, instance, phase, sequence, "a proxy reported"),
        }
    }

    /// A heartbeat named another generation than was sent.
    pub(crate) fn repaired(&self, key: &ProxyKey) {
        self.repairs.inc();
        tracing::warn!(identity = %key.identity, instance = key.instance, "a proxy serves something else; sending again");
    }
}

/// Proxies say what they like; a label has a bounded number of values.
fn known_reason(reason: &str) -> &str {
    // The name of a missing feature is for people; as a label it would have no bound.
    let reason = reason.split_once(':').map_or(reason, |(name, _)| name);
    let known = mesh_bundle::reject::RejectReason::ALL
        .iter()
        .map(|known| known.as_str());
    known
        .into_iter()
        .find(|known| *known == reason)
        .unwrap_or("other")
}
