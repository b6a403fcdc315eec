//! The certificate over time: loaded from the store, got with a join file, renewed at half of its
//! life. A certificate that has expired with nobody to renew it fails closed, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon::identity::svid::Usage;
use mesh_daemon::identity::{Svid, WorkloadKey, WorkloadKeyError};
use mesh_daemon::join_file::JoinFile;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::task::JoinSet;

use super::enrol::{self, EnrolError};
use super::link::Backoff;
use super::traffic::Traffic;
use super::{Subscriber, chain, warn};

/// Shortest and longest pause before a renewal that failed is tried again.
const RETRY: std::ops::Range<u64> = 20..60;

/// How long before they are issued certificates begin to be valid (`trust.md`).
const SVID_BACKDATED: Duration = Duration::from_mins(5);

/// The longest that a join token lives (`trust.md`), so that its end says when it was made at the
/// earliest. Issuer and certificate go by the same clock.
const JOIN_TOKEN_LIFE_MAX: Duration = Duration::from_mins(10);

/// An answer to a renewal, and the key that it is for.
pub(super) type Renewed = (
    Result<Vec<CertificateDer<'static>>, tonic::Status>,
    WorkloadKey,
);

/// When the certificate is renewed, and the renewal that is under way.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    at: Option<UnixTime>,
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
        self.at = Some(svid.renew_at(fastrand::f64()));
    }

    fn plan_retry(&mut self, now: UnixTime) {
        let pause = fastrand::u64(RETRY);
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
                .judge_again(svid.chain(), Usage::Client)
                .is_ok()
        })
    }

    /// Enrols with the join file until there is a certificate. Without a join file there is nothing
    /// to wait for: the stored certificate is expired or revoked, and only an operator can help.
    pub(super) async fn ensure_certificate(&mut self) {
        let mut backoff = Backoff::default();
        let mut turn = 0_usize;
        while !self.has_certificate() {
            let Some((path, join)) = self.join_file() else {
                tracing::error!("no valid certificate and no join file: a new join file is needed");
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

    /// Asks for the next certificate when it is time and somebody can be asked.
    pub(super) fn renew_if_due(&mut self) {
        let now = self.context.clock.unix_time();
        let due = self.renewal.at.is_some_and(|at| now >= at);
        let Some(connection) = &self.connection else {
            return;
        };
        if !due || !self.renewal.under_way.is_empty() {
            return;
        }
        match new_request() {
            Ok((key, csr)) => {
                let mut connection = connection.clone();
                let renewal = async move { (connection.renew(csr).await, key) };
                self.renewal.under_way.spawn(renewal);
            }
            Err(error) => tracing::error!(error = chain(&error), "could not ask for renewal"),
        }
        self.renewal.plan_retry(now);
    }

    /// Takes the answer to a renewal. One that is no good changes nothing, and is asked for again.
    pub(super) fn renewed(&mut self, renewed: Option<Renewed>) {
        let Some((answer, key)) = renewed else { return };
        let identity = self.context.workload.identity.clone();
        let accepted = answer.map_err(EnrolError::from).and_then(|chain| {
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
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, "could not remove the join file, which is used up");
    }
}

fn new_request() -> Result<(WorkloadKey, Vec<u8>), WorkloadKeyError> {
    let key = WorkloadKey::generate()?;
    let csr = key.csr()?;
    Ok((key, csr))
}
