//! The running distributor as its servers see it: what is published, who is served, who may have
//! which identity.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{Credentials, PeerIdentity, Usage};
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::{ConnectionInfo, Exporter};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::endpoints::EndpointFeed;
use crate::events::{Attestation, Events};
use crate::follow::{Trigger, Watched};
use crate::issue::{IssueError, Issued, Issuer};
use crate::publish::{PublishError, Publisher};
use crate::published::Published;
use crate::status::fleet::{Fleet, KnownGeneration, ProxyKey, StatusError, StreamId};
use crate::status::{HeadReport, StatusReport, WhereReport, timestamp};

/// A running distributor.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// What it is pinned to.
    pub(crate) pinned: Pinned,
    /// What is served.
    pub(crate) publisher: Arc<Publisher>,
    /// Who may have which certificate.
    pub(crate) issuer: Issuer,
    /// What it shows and what it judges peers by.
    pub(crate) credentials: Credentials,
    /// Where following stands.
    pub(crate) watched: Watched,
    /// Makes the follower look.
    pub(crate) trigger: Trigger,
    /// Logs and metrics.
    pub(crate) events: Events,
    /// The time.
    pub(crate) clock: Clock,
    /// What the proxies reported.
    pub(crate) fleet: Mutex<Fleet>,
    /// Whom it is.
    pub(crate) identity: SpiffeId,
    /// What lies in the trust folder and has to wait, and why.
    pub(crate) held: Mutex<Vec<String>>,
    /// What join files tell the proxies to dial; known once the listener is bound.
    pub(crate) addresses: OnceLock<Vec<String>>,
}

/// What never changes while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    /// Mesh, environment, trust domain.
    pub(crate) scope: Scope,
    /// Name of the followed ref.
    pub(crate) reference: String,
    /// Whether `meshd dev` made it.
    pub(crate) development: bool,
}

/// Why there is no new certificate of the distributor itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnError {
    /// The issuer.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No proxy would believe it.
    #[error(
        "the own certificate is not good; do the intermediate and the trust bundle belong together?"
    )]
    Svid(#[source] mesh_daemon::identity::SvidError),
}

/// Why a join file was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The issuer refused.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The listener is not bound yet.
    #[error("the distributor is still starting")]
    Starting,
}

impl Mesh {
    /// Mesh, environment, trust domain.
    pub(crate) fn scope(&self) -> &Scope {
        &self.pinned.scope
    }

    /// Logs and metrics.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// What is served now.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.publisher.published()
    }

    /// What is served now, and a wake-up for every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.publisher.subscribe()
    }

    /// Whether a connection that was let in may go on.
    pub(crate) fn judge_again(&self, connection: &ConnectionInfo) -> Result<(), String> {
        match self
            .credentials
            .judge_again(&connection.chain, Usage::Client)
        {
            Ok(_identity) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the peer of a connection would be let in today, had it to come in now: for what it asks, not for what it
    /// has.
    pub(crate) fn judge(&self, connection: &ConnectionInfo) -> Result<(), String> {
        match self.credentials.judge(&connection.chain, Usage::Client) {
            Ok(_identity) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Enrols a proxy; blocks on the disk.
    pub(crate) fn enrol(
        &self,
        request: &wire::EnrolRequest,
        exporter: &Exporter,
        remote: &str,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let published = self.published();
        let trust = self.credentials.trust();
        let is_current = |identity: &SpiffeId| published.has_identity(identity);
        let (attestation, issued) = self.issuer.enrol(request, exporter, &trust, &is_current);
        self.attested(attestation, remote, issued)
    }

    /// Renews a proxy's certificate.
    pub(crate) fn renew(
        &self,
        peer: &PeerIdentity,
        csr: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let published = self.published();
        let issued = self
            .issuer
            .renew(peer, csr, |identity| published.has_identity(identity));
        self.attested(Attestation::Renewal, peer.spiffe_id.as_str(), issued)
    }

    /// Whether what is served has this workload; before anything is, nobody knows.
    pub(crate) fn may_have(&self, identity: &SpiffeId) -> bool {
        let published = self.published();
        let current = published.current();
        current.is_none_or(|current| current.slices().contains_key(identity))
    }

    /// Makes a join file; blocks on the disk.
    pub(crate) fn join_file(
        &self,
        identity: &SpiffeId,
        life: Duration,
    ) -> Result<JoinFile, JoinError> {
        let addresses = self.addresses.get().cloned().ok_or(JoinError::Starting)?;
        let token = self.issuer.create_token(identity, life)?;
        Ok(JoinFile {
            addresses,
            trust_root: self.publisher.trust_root(),
            scope: self.pinned.scope.clone(),
            identity: identity.clone(),
            token_id: token.id,
            seed: token.seed,
            expires_ms: token.expires_ms,
            floor: self
                .published()
                .current()
                .map(|current| current.statement().order),
        })
    }

    /// Replaces the discovered endpoints; blocks on the disk.
    pub(crate) fn set_endpoints(&self, feed: EndpointFeed) -> Result<u64, PublishError> {
        self.publisher.set_endpoints(feed)
    }

    /// A proxy said hello.
    pub(crate) fn connected(&self, key: &ProxyKey, hello: &wire::Hello) -> StreamId {
        self.events.stream_opened(key, &hello.version);
        self.fleet().connect(key, hello, self.clock.wall_ms())
    }

    /// Its stream ended.
    pub(crate) fn disconnected(&self, key: &ProxyKey, stream: StreamId, because: &str) {
        self.events.stream_ended(key, because);
        self.fleet().disconnect(key, stream, self.clock.wall_ms());
    }

    /// It reported; the signature was verified.
    pub(crate) fn report(&self, key: &ProxyKey, status: &wire::Status) -> Result<(), StatusError> {
        let reported = self.fleet().report(key, status, self.clock.wall_ms())?;
        self.events
            .status_reported(key, reported.phase, status, reported.reason.as_deref());
        Ok(())
    }

    /// Issues the own certificate and judges it as a proxy would.
    pub(crate) fn show_own(&self) -> Result<(), OwnError> {
        let svid = self.issuer.own(&self.identity)?;
        self.credentials
            .judge(svid.chain(), Usage::Server)
            .map_err(OwnError::Svid)?;
        self.events
            .own_certificate(&self.identity, svid.identity().not_after);
        self.credentials.set_svid(Arc::new(svid));
        Ok(())
    }

    /// It said what it serves, and which trust it has.
    pub(crate) fn heartbeat(
        &self,
        key: &ProxyKey,
        peer: &PeerIdentity,
        heartbeat: &wire::ProxyHeartbeat,
    ) {
        self.issuer.reported(peer, heartbeat.trust_bundle_version);
        self.fleet().heartbeat(key, heartbeat, self.clock.wall_ms());
    }

    /// Whether its last word about a generation was no.
    pub(crate) fn refused(&self, key: &ProxyKey, generation: &Digest) -> bool {
        self.fleet().refused(key, generation)
    }

    /// Whether proxies are served: how many, or why not.
    pub(crate) fn ready(&self) -> Result<String, String> {
        match self.published().current() {
            Some(current) => Ok(format!("serving {}", current.statement().order)),
            None => Err(format!(
                "no generation yet: {}",
                self.watched.get().0.state.as_str()
            )),
        }
    }

    /// Answer of `meshd status`.
    pub(crate) fn status(&self) -> StatusReport {
        let published = self.published();
        let (progress, since_ms) = self.watched.get();
        let (findings, findings_omitted) = progress.shown_findings();
        StatusReport {
            head: head(&published),
            reference: progress.report(&self.pinned.reference, since_ms),
            findings,
            findings_omitted,
            proxies: self.fleet().reports(&published.known()),
        }
    }

    /// Answer of `meshd where`; the commit may be given by its first characters.
    pub(crate) fn whereabouts(&self, commit: &str) -> WhereReport {
        let published = self.published();
        let known = published.known();
        let wanted = find(&known, commit);
        let (progress, _since_ms) = self.watched.get();
        let refused = progress.refusal_of(commit).filter(|_| wanted.is_none());
        let why_unknown = match refused {
            Some(_) => progress.state.as_str(),
            None => "unknown_commit",
        };
        WhereReport {
            head: head(&published),
            commit: wanted.map_or(commit, |wanted| &wanted.commit).to_owned(),
            known: wanted.is_some(),
            refused,
            proxies: self.fleet().whereabouts(wanted.ok_or(why_unknown), &known),
        }
    }

    fn attested(
        &self,
        attestation: Attestation,
        asked_by: &str,
        issued: Result<Issued, IssueError>,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        match issued {
            Ok(issued) => {
                let Issued {
                    chain,
                    admission,
                    key,
                } = issued;
                let enrolment = hex::encode(admission.enrolment.0);
                self.events
                    .identity_issued(attestation, &admission.identity, &enrolment, &key);
                Ok(chain)
            }
            Err(error) => {
                if let IssueError::Cloned(identity, cloned) = &error {
                    self.events.clone_seen(identity, &cloned.0);
                }
                self.events
                    .identity_refused(attestation, asked_by, &crate::output::chain(&error));
                Err(error)
            }
        }
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head(published: &Published) -> Option<HeadReport> {
    let head = published.head.as_ref()?;
    let known = published.current()?.known();
    Some(HeadReport {
        sequence: known.order.sequence,
        generation: known.digest.to_string(),
        commit: known.commit,
        epoch: known.order.epoch,
        emit: known.order.emit,
        issued: timestamp(head.object.version),
        expires: timestamp(head.expires_ms),
    })
}

/// The newest generation of a commit; an abbreviation must name one commit only.
fn find<'a>(known: &'a [KnownGeneration], commit: &str) -> Option<&'a KnownGeneration> {
    let mut found = known
        .iter()
        .rev()
        .filter(|known| commit.len() >= 4 && known.commit.starts_with(commit));
    let first = found.next()?;
    found
        .all(|other| other.commit == first.commit)
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use mesh_bundle::order::Order;

    use super::*;

    #[test]
    fn an_abbreviation_must_be_unambiguous() {
        let generation = |commit: &str, sequence| KnownGeneration {
            digest: Digest::of(commit.as_bytes()),
            order: Order {
                epoch: 0,
                sequence,
                emit: 1,
            },
            commit: commit.to_owned(),
        };
        let known = [
            generation("abcd11", 1),
            generation("abcd22", 2),
            generation("ef0011", 3),
        ];
        assert_eq!(
            find(&known, "ef00").map(|found| found.order.sequence),
            Some(3)
        );
        assert_eq!(
            find(&known, "abcd22").map(|found| found.order.sequence),
            Some(2)
        );
        assert_eq!(find(&known, "abcd"), None);
        assert_eq!(find(&known, "ef"), None);
        assert_eq!(find(&known, "9999"), None);
    }
}
