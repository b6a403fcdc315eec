//! The certificate over time: loaded from the store, got with a join file, renewed at half of its
//! life. A certificate that has expired with nobody to renew it fails closed, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon::identity::svid::{SvidError, Usage};
use mesh_daemon::identity::{Svid, WorkloadKey};
use mesh_daemon::join_file::{JoinFile, is_asked_for};
use mesh_daemon::rpc::{MutualConnection, VerifiedConnection};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::task::JoinSet;

use super::enrol::{self, EnrolError};
use super::link::Backoff;
use super::traffic::Traffic;
use super::{Subscriber, chain, warn};

/// First pause before a renewal that failed is tried again, in seconds; doubled each time, and spread.
const RETRY_FIRST: u64 = 20;

/// The longest one: a fleet that all failed must not come back at once, nor give up.
const RETRY_MAX: u64 = 10 * 60;

/// The longest that a distributor may spread renewals that it asks for.
const RENEW_WITHIN_MAX: Duration = Duration::from_hours(1);

/// How long before they are issued certificates begin to be valid (`trust.md`).
const SVID_BACKDATED: Duration = Duration::from_mins(5);

/// The longest that a join token lives (`trust.md`), so that its end says when it was made at the
/// earliest. Issuer and certificate go by the same clock.
const JOIN_TOKEN_LIFE_MAX: Duration = Duration::from_mins(10);

/// An answer to a renewal, and the key that it is for.
pub(super) type Renewed = (
    Result<Vec<CertificateDer<'static>>, EnrolError>,
    WorkloadKey,
);

/// When the certificate is renewed, and the renewal that is under way.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    at: Option<UnixTime>,
    failures: u32,
    under_way: JoinSet<Renewed>,
}

impl Renewal {
    /// Waits for the renewal that is under way; for ever if there is none.
    pub(super) async fn finished(&mut self) -> Option<Renewed> {
        match self.under_way.join_next().await {
            Some(finished) => finished.ok(),
            None => std::future::pending().await,
        }
    }

    fn plan(&mut self, svid: &Svid) {
        self.failures = 0;
        self.at = Some(svid.renew_at(fastrand::f64()));
    }

    /// Renews at some moment within this time.
    fn plan_within(&mut self, now: UnixTime, within: Duration) {
        let pause = within.mul_f64(fastrand::f64());
        self.at = Some(UnixTime::since_unix_epoch(
            Duration::from_secs(now.as_secs()) + pause,
        ));
    }

    /// The pause grows with each failure, and shrinks as the end comes near: then any chance is to be taken.
    fn plan_retry(&mut self, now: UnixTime, ends: u64) {
        let left = ends.saturating_sub(now.as_secs());
        let grown = RETRY_FIRST.saturating_mul(1 << self.failures.min(8));
        let longest = grown.min(RETRY_MAX).min((left / 8).max(RETRY_FIRST));
        self.failures = self.failures.saturating_add(1);
        let pause = longest / 2 + fastrand::u64(0..=longest / 2);
        self.at = Some(UnixTime::since_unix_epoch(Duration::from_secs(
            now.as_secs() + pause,
        )));
    }
}

impl<T: Traffic> Subscriber<T> {
    /// Shows the stored certificate, if it is still good.
    pub(super) fn load_certificate(&mut self) {
        let Some((key, certificates)) = self.belief.contents().keys.svid.clone() else {
            return;
        };
        let certificates = certificates.into_iter().map(CertificateDer::from).collect();
        let svid = WorkloadKey::from_pkcs8(&key)
            .map_err(EnrolError::from)
            .and_then(|key| Ok(Svid::new(certificates, key)?));
        match svid {
            Ok(svid) if *svid.spiffe_id() == self.context.workload.identity => {
                let svid = Arc::new(svid);
                self.context.credentials.set_svid(Arc::clone(&svid));
                self.certificate_changed(&svid);
            }
            Ok(svid) => {
                tracing::error!(identity = %svid.spiffe_id(), "stored certificate is for another");
            }
            Err(error) => tracing::error!(error = chain(&error), "stored certificate is no good"),
        }
    }

    /// Whether peers would take our certificate now.
    pub(super) fn has_certificate(&self) -> bool {
        self.context.credentials.svid().is_some_and(|svid| {
            self.context
                .credentials
                .judge(svid.chain(), Usage::Client)
                .is_ok()
        })
    }

    /// Enrols with the join file until there is a certificate. Without a join file one that has only expired may be
    /// replaced by what its key proves; one that is revoked is for an operator to replace.
    pub(super) async fn ensure_certificate(&mut self) {
        let mut backoff = Backoff::default();
        let mut turn = 0_usize;
        while !self.has_certificate() {
            let Some((path, join)) = self.join_file() else {
                if !self.prove_possession().await {
                    tracing::error!(
                        "no valid certificate and no join file: a new join file is needed"
                    );
                }
                return;
            };
            let address = join
                .addresses
                .get(turn % join.addresses.len().max(1))
                .cloned()
                .unwrap_or_default();
            turn = turn.wrapping_add(1);
            match self.enrol(&address, &join).await {
                Ok(svid) => {
                    tracing::info!(identity = %svid.spiffe_id(), "enrolled");
                    self.certificate_changed(&svid);
                    remove_join_file(&path);
                    return;
                }
                Err(error) => {
                    if let EnrolError::Rejected(rejection) = &error {
                        self.refused(rejection);
                    }
                    warn(&error, "could not enrol at", &address);
                    tokio::time::sleep(backoff.next(error.is_refused())).await;
                }
            }
        }
    }

    /// Asks for a certificate in place of one that has expired, once at each distributor; false if none would be given.
    async fn prove_possession(&mut self) -> bool {
        let Some(svid) = self.context.credentials.svid() else {
            return false;
        };
        let judged = self.context.credentials.judge(svid.chain(), Usage::Client);
        if judged.err() != Some(SvidError::Expired) {
            return false;
        }
        for address in self.belief.contents().addresses.clone() {
            match self.reattest(&address, &svid).await {
                Ok(renewed) => {
                    tracing::info!(
                        expires = renewed.identity().not_after,
                        "the certificate had expired; its key has got a new one"
                    );
                    self.certificate_changed(&renewed);
                    return true;
                }
                Err(EnrolError::Status(status))
                    if status.code() == tonic::Code::PermissionDenied =>
                {
                    tracing::error!(
                        why = status.message(),
                        "the expired certificate is not replaced"
                    );
                    return false;
                }
                // Whoever follows the distributor tells of it.
                Err(error) => tracing::debug!(error = chain(&error), address, "not replaced yet"),
            }
        }
        true
    }

    async fn reattest(&mut self, address: &str, expired: &Svid) -> Result<Arc<Svid>, EnrolError> {
        let clock = self.context.clock.clone();
        for rejection in enrol::refresh(address, &mut self.belief, &clock).await? {
            self.refused(&rejection);
        }
        self.trust_changed();
        self.directory.send_replace(super::directory(&self.belief));
        let key = self.pending_key()?;
        let distributors = self.belief.acceptance().trust_root().distributors.clone();
        let mut connection =
            VerifiedConnection::connect(address, &self.context.credentials, distributors).await?;
        let chain = connection.enrol_by_possession(expired, key.csr()?).await?;
        let identity = self.context.workload.identity.clone();
        enrol::accept(
            chain,
            key,
            &identity,
            &mut self.belief,
            &self.context.credentials,
        )
    }

    async fn enrol(&mut self, address: &str, join: &JoinFile) -> Result<Arc<Svid>, EnrolError> {
        let clock = self.context.clock.clone();
        for rejection in enrol::refresh(address, &mut self.belief, &clock).await? {
            self.refused(&rejection);
        }
        self.belief.set_addresses(join.addresses.clone());
        self.trust_changed();
        self.head_seen();
        self.directory.send_replace(super::directory(&self.belief));
        enrol::enrol(address, join, &mut self.belief, &self.context.credentials).await
    }

    /// A join file for this very proxy. It may have been put there while we run.
    fn join_file(&self) -> Option<(PathBuf, JoinFile)> {
        let path = self.context.join_path.clone()?;
        let join = match JoinFile::read(&path) {
            Ok(join) => join,
            Err(error) => {
                tracing::warn!(error = chain(&error), "no join file");
                return None;
            }
        };
        if !self.is_for_us(&join) {
            tracing::error!("join file is for another proxy, or pins another trust root");
            return None;
        }
        Some((path, join))
    }

    fn is_for_us(&self, join: &JoinFile) -> bool {
        let contents = self.belief.contents();
        let pins_our_root = self
            .belief
            .acceptance()
            .trust_roots()
            .any(|root| root.digest() == join.trust_root);
        join.identity == contents.identity && join.scope == contents.scope && pins_our_root
    }

    /// Removes the join file that the stored certificate was got with, or an older one: a proxy that
    /// ended right after it had enrolled has left it. A newer one stays, for when it is needed.
    pub(super) fn remove_used_join_file(&self) {
        let (Some(path), Some(svid)) = (&self.context.join_path, self.context.credentials.svid())
        else {
            return;
        };
        // Asking for another would use it up.
        if is_asked_for(path) {
            return;
        }
        // Mostly there is none; one that cannot be read is told when it is needed.
        let Ok(join) = JoinFile::read(path) else {
            return;
        };
        let issued = Duration::from_secs(svid.identity().not_before) + SVID_BACKDATED;
        let made = Duration::from_millis(join.expires_ms).saturating_sub(JOIN_TOKEN_LIFE_MAX);
        if self.has_certificate() && self.is_for_us(&join) && made <= issued {
            tracing::info!("the join file is used up");
            remove_join_file(path);
        }
    }

    /// Asks for the next certificate when it is time and somebody can be asked. Over a connection of its own, which
    /// shows the newest certificate: the stream's goes on with that which it was opened with, and whoever renews by a
    /// certificate that was replaced is taken for a clone.
    pub(super) fn renew_if_due(&mut self) {
        let now = self.context.clock.unix_time();
        let due = self.renewal.at.is_some_and(|at| now >= at);
        let Some(distributor) = self.context.view.get().distributor else {
            return;
        };
        if !due || !self.renewal.under_way.is_empty() {
            return;
        }
        let ends = self.context.credentials.svid();
        let ends = ends.map_or(0, |svid| svid.identity().not_after);
        self.renewal.plan_retry(now, ends);
        // The same key again if an earlier answer was lost.
        let key = match self.pending_key() {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(error = chain(&error), "could not ask for renewal");
                return;
            }
        };
        let credentials = self.context.credentials.clone();
        let distributors = self.belief.acceptance().trust_root().distributors.clone();
        self.renewal.under_way.spawn(async move {
            let renewing = async {
                let mut connection =
                    MutualConnection::connect(&distributor, &credentials, distributors).await?;
                Ok(connection.renew(key.csr()?).await?)
            };
            (renewing.await, key)
        });
    }

    /// Renews soon, as the distributor asks: an authority is being replaced.
    pub(super) fn renew_within(&mut self, within: Duration) {
        let now = self.context.clock.unix_time();
        self.renewal.plan_within(now, within.min(RENEW_WITHIN_MAX));
        self.renew_if_due();
    }

    /// The key that a certificate is being asked for; it is kept until there is one.
    fn pending_key(&mut self) -> Result<WorkloadKey, EnrolError> {
        if let Some(pending) = &self.belief.contents().keys.pending {
            return Ok(WorkloadKey::from_pkcs8(pending)?);
        }
        let key = WorkloadKey::generate()?;
        self.belief.keys_mut().pending = Some(key.pkcs8().to_vec());
        self.belief.save()?;
        Ok(key)
    }

    /// Takes the answer to a renewal. One that is no good changes nothing, and is asked for again.
    pub(super) fn renewed(&mut self, renewed: Option<Renewed>) {
        let Some((answer, key)) = renewed else { return };
        let identity = self.context.workload.identity.clone();
        let accepted = answer.and_then(|chain| {
            enrol::accept(
                chain,
                key,
                &identity,
                &mut self.belief,
                &self.context.credentials,
            )
        });
        match accepted {
            Ok(svid) => {
                tracing::info!(expires = svid.identity().not_after, "certificate renewed");
                self.certificate_changed(&svid);
            }
            Err(error) => tracing::warn!(error = chain(&error), "renewal failed"),
        }
    }

    fn certificate_changed(&mut self, svid: &Svid) {
        self.renewal.plan(svid);
        let expires = svid.identity().not_after;
        let expired = expires < self.context.clock.unix_time().as_secs();
        self.context.view.update(|state| {
            state.certificate_expires = Some(expires);
            state.certificate_expired = expired;
        });
    }
}

fn remove_join_file(path: &Path) {
    if is_asked_for(path) {
        return;
    }
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, "could not remove the join file, which is used up");
    }
}
