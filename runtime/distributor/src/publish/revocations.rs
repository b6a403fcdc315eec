//! The revocations of this distributor's issuer: changed by operators, signed anew every hour, on the disk before
//! anyone is told.

use mesh_bundle::envelope::Envelope;
use mesh_bundle::revocations::Revocations;
use mesh_bundle::statement::Verified;
use mesh_bundle::trust_root::RoleKind;
use mesh_daemon::identity::{TrustStore, Usage};

use super::{Inner, PublishError, Publisher};
use crate::revoke::{self, Asked, Entries, Listed, RevokeError};
use crate::status::timestamp;
use crate::store::StoreError;
use crate::trust::Trust;

/// Why a revocation was not made, or not taken back; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// It cannot be.
    #[error(transparent)]
    Asked(#[from] RevokeError),
    /// It was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Publisher {
    /// Signs the issuer's revocations anew.
    pub(crate) fn renew_revocations(&self) -> Result<(), PublishError> {
        let mut inner = self.lock();
        let mut own = inner.own.clone();
        own.forget_expired(&inner.trust.root.scope.trust_domain, self.clock.wall_ms());
        let signed = self.sign(&inner, &own)?;
        self.enforce(&mut inner, own, signed)
    }

    /// Revokes something: every proxy is told at once.
    pub(crate) fn revoke(&self, asked: &Asked) -> Result<Listed, ChangeError> {
        let entry = asked.entry(self.clock.wall_ms())?;
        let mut inner = self.lock();
        let mut own = inner.own.clone();
        own.add(entry);
        let signed = self.sign(&inner, &own)?;
        self.keeps_us(&inner, &signed)?;
        self.enforce(&mut inner, own, signed)?;
        let all = inner.listed(&self.keys.issuer.id().to_hex());
        let subject = |listed: &Listed| listed.kind == asked.kind && is_same(&listed.value, asked);
        let made = all.into_iter().find(subject).ok_or(RevokeError::Unknown)?;
        tracing::warn!(
            kind = made.kind.as_str(),
            value = made.value,
            issued_before = made.issued_before,
            reason = made.reason,
            "revoked"
        );
        Ok(made)
    }

    /// Takes a revocation of this issuer back.
    pub(crate) fn take_back(&self, asked: &Asked) -> Result<(), ChangeError> {
        let mut inner = self.lock();
        let mut own = inner.own.clone();
        own.remove(asked)?;
        let signed = self.sign(&inner, &own)?;
        self.enforce(&mut inner, own, signed)?;
        tracing::warn!(
            kind = asked.kind.as_str(),
            value = asked.value,
            "took a revocation back"
        );
        Ok(())
    }

    /// What is revoked, by whomever.
    pub(crate) fn revocations(&self) -> Vec<Listed> {
        self.lock().listed(&self.keys.issuer.id().to_hex())
    }

    /// What was kept, or what the trust folder says of our stream before anything was. A file that is gone is not
    /// nothing revoked: signed as such, it would let everybody in again.
    pub(super) fn own_entries(&self, inner: &Inner) -> Result<Entries, StoreError> {
        if let Some(kept) = inner.store.revocations()? {
            return Ok(kept);
        }
        let key = self.keys.issuer.id().to_hex();
        if inner.counters.revocations.contains_key(&key) {
            return Err(StoreError::LostRevocations);
        }
        let stream = inner.trust.revocations.get(&self.keys.issuer.id());
        Ok(stream.map_or_else(Entries::default, |stream| {
            Entries::of_stream(&stream.value.entries, self.clock.wall_ms())
        }))
    }

    fn sign(
        &self,
        inner: &Inner,
        own: &Entries,
    ) -> Result<(Envelope, Verified<Revocations>), PublishError> {
        let key = self.keys.issuer.id();
        let last = inner.trust.revocations.get(&key);
        let stored = inner.counters.revocations.get(&key.to_hex());
        let version = last
            .map_or(0, |stream| stream.value.version)
            .max(stored.copied().unwrap_or(0))
            .saturating_add(1);
        let revocations = Revocations {
            version,
            issued_ms: self.clock.wall_ms(),
            entries: own.revocations(),
        };
        let envelope = revocations.seal(&inner.trust.root.scope, &[&self.keys.issuer]);
        let verified = inner
            .trust
            .root
            .verify_revocations(&envelope)
            .map_err(PublishError::Own)?;
        Ok((envelope, verified))
    }

    /// Refuses what would cut this distributor itself off.
    fn keeps_us(
        &self,
        inner: &Inner,
        (envelope, verified): &(Envelope, Verified<Revocations>),
    ) -> Result<(), ChangeError> {
        let Some(svid) = self.credentials.svid() else {
            return Ok(());
        };
        let mut trust = inner.trust.clone();
        trust.add_revocations(envelope, verified);
        let judged = judge(&trust, |store| {
            let now = self.credentials.clock().unix_time();
            store.verify_chain(svid.chain(), now, Usage::Server).is_ok()
        })?;
        if judged {
            Ok(())
        } else {
            Err(RevokeError::Own.into())
        }
    }

    fn enforce(
        &self,
        inner: &mut Inner,
        own: Entries,
        (envelope, verified): (Envelope, Verified<Revocations>),
    ) -> Result<(), PublishError> {
        let key = self.keys.issuer.id().to_hex();
        inner.store.save_revocations(&own)?;
        inner.counters.revocations.insert(key, verified.version);
        inner.store.save_counters(&inner.counters)?;
        inner.own = own;
        inner.trust.add_revocations(&envelope, &verified);
        self.credentials.set_trust(inner.trust.store()?);
        self.publish(inner)
    }
}

impl Inner {
    fn listed(&self, issuer: &str) -> Vec<Listed> {
        let mut all = Vec::new();
        for stream in self.trust.revocations.values() {
            let name = stream.object.name.as_str();
            let roles = self.trust.root.roles_of(stream.reference.key_id);
            let by = match roles.as_slice() {
                _ if name == issuer => "issuer",
                [RoleKind::Trust] => "trust",
                _ => "other",
            };
            for revocation in &stream.value.entries {
                let mut listed = revoke::listed(revocation, name, by);
                if by == "issuer"
                    && let Some((since, reason)) = self.own.note(listed.kind, &listed.value)
                {
                    listed.since = Some(timestamp(since));
                    reason.clone_into(&mut listed.reason);
                }
                all.push(listed);
            }
        }
        all
    }
}

/// Digests and enrolments may be written in several ways.
fn is_same(value: &str, asked: &Asked) -> bool {
    let bare = asked.value.strip_prefix("sha256:").unwrap_or(&asked.value);
    value.eq_ignore_ascii_case(bare)
}

fn judge(trust: &Trust, judge: impl FnOnce(&TrustStore) -> bool) -> Result<bool, PublishError> {
    Ok(judge(&trust.store()?))
}
