//! Trust that changes while the distributor runs: people sign it elsewhere and put it into the trust folder. What is
//! not believed, or would take something back, leaves what was served before.

use mesh_bundle::reject::Rejection;
use mesh_bundle::trust_root::{RoleKind, TrustRoot};

use super::{Inner, PublishError, Publisher};
use crate::keys::Keys;
use crate::store::StoreError;
use crate::trust::{Change, Trust, TrustError};

/// Why the trust folder was not taken; what was served before still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// It is not what may follow.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A new root changes what cannot change under a process that runs.
    #[error("trust root {version} changes {what}; restart this distributor to take it")]
    Restart {
        /// The new version.
        version: u64,
        /// What.
        what: &'static str,
    },
    /// What is served would be nobody's.
    #[error(
        "trust root {version} does not vouch for the generation that is served; publish both together and restart"
    )]
    Generation {
        /// The new version.
        version: u64,
        /// Why not.
        #[source]
        rejection: Rejection,
    },
    /// It was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Publisher {
    /// Takes what another reading of the trust folder has beyond what is served, and tells every proxy at once. Says
    /// what changed.
    pub(crate) fn take_trust(&self, read: &Trust) -> Result<Vec<Change>, TakeError> {
        let mut inner = self.lock();
        let (next, changes) = inner.trust.followed_by(read, self.keys.issuer.id())?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let version = next.root.version;
        if let Some(what) = needs_restart(&inner.trust.root, &next.root, &self.keys) {
            return Err(TakeError::Restart { version, what });
        }
        if let Some(current) = inner.generations.last() {
            next.root
                .verify_generation(current.signed())
                .map_err(|rejection| TakeError::Generation { version, rejection })?;
        }
        let store = next.store()?;
        inner.trust = next;
        keep_bundle(&inner).map_err(PublishError::Store)?;
        self.credentials.set_trust(store);
        self.publish(&mut inner)?;
        Ok(changes)
    }

    /// Digest of the newest trust root: what join files pin.
    pub(crate) fn trust_root(&self) -> mesh_bundle::digest::Digest {
        self.lock().trust.root.digest()
    }
}

/// What is served outlives a restart: the folder may hold one that has to wait.
pub(super) fn keep_bundle(inner: &Inner) -> Result<(), StoreError> {
    let own = inner.trust.root.scope.trust_domain.as_str();
    let Some(bundle) = inner.trust.bundles.get(own) else {
        return Ok(());
    };
    match bundle.object.envelope.clone().try_into() {
        Ok(envelope) => inner.store.save_trust_bundle(&envelope),
        // It was verified as one.
        Err(_never) => Ok(()),
    }
}

/// What else in this process goes by the root that it was started with.
fn needs_restart(now: &TrustRoot, next: &TrustRoot, keys: &Keys) -> Option<&'static str> {
    let same = [
        (now.scope == next.scope, "mesh, environment or trust domain"),
        (now.epoch == next.epoch, "the epoch"),
        (now.reference == next.reference, "the followed ref"),
        (
            now.root_path == next.root_path,
            "the folder of the policies",
        ),
        (
            now.identity_source == next.identity_source,
            "where identities come from",
        ),
        (
            now.commit_signers == next.commit_signers,
            "who signs commits",
        ),
        (
            now.distributors.is_subset(&next.distributors),
            "the identities of distributors",
        ),
        (
            next.min_emit <= mesh_compiler::EMIT,
            "the lowest emit number",
        ),
    ];
    if let Some((_, what)) = same.iter().find(|(same, _)| !same) {
        return Some(what);
    }
    let own = [
        (RoleKind::Compile, &keys.compile),
        (RoleKind::Head, &keys.head),
        (RoleKind::Issuer, &keys.issuer),
    ];
    let holds = |(kind, key): &(RoleKind, &mesh_bundle::key::SigningKey)| {
        next.roles
            .get(kind)
            .is_some_and(|role| role.threshold == 1 && role.keys.contains(&key.public()))
    };
    (!own.iter().all(holds)).then_some("the keys of this distributor")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
    use mesh_daemon::clock::Clock;

    use super::*;
    use crate::fixture::{Fixture, NOW_MS, id, slice};

    fn read(fixture: &Fixture) -> Trust {
        Trust::read(&fixture.folder.path().join("trust")).unwrap()
    }

    fn write(fixture: &Fixture, name: &str, bytes: &[u8]) {
        fs::write(fixture.folder.path().join("trust").join(name), bytes).unwrap();
    }

    /// Revocations of the trust role, of these services.
    fn permanent(fixture: &Fixture, version: u64, names: &[&str]) {
        let entry = |name: &&str| Revocation {
            subject: RevokedSubject::SpiffeId(id(name)),
            issued_before: None,
        };
        let stream = Revocations {
            version,
            issued_ms: NOW_MS,
            entries: names.iter().map(entry).collect(),
        };
        let envelope = stream.seal(&fixture.root.scope, &[&fixture.key("trust")]);
        write(fixture, "revocations.trust.envelope", &envelope.encode());
    }

    #[test]
    fn new_trust_is_served_and_an_old_file_takes_nothing_back() {
        let fixture = Fixture::new(false);
        let publisher = fixture.publisher(&Clock::manual(NOW_MS));
        assert_eq!(publisher.take_trust(&read(&fixture)).unwrap(), []);
        permanent(&fixture, 2, &["a"]);
        let changes = publisher.take_trust(&read(&fixture)).unwrap();
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(publisher.published().revocations.len(), 2);
        let listed = publisher.revocations();
        assert_eq!((listed.len(), listed[0].by.as_str()), (1, "trust"));

        permanent(&fixture, 1, &[]);
        assert_eq!(publisher.take_trust(&read(&fixture)).unwrap(), []);
        assert_eq!(publisher.revocations().len(), 1);
        permanent(&fixture, 2, &["b"]);
        let error = publisher.take_trust(&read(&fixture)).unwrap_err();
        assert!(error.to_string().contains("another version 2"), "{error}");
        fs::remove_file(
            fixture
                .folder
                .path()
                .join("trust/revocations.trust.envelope"),
        )
        .unwrap();
        assert_eq!(publisher.take_trust(&read(&fixture)).unwrap(), []);
        assert_eq!(publisher.revocations().len(), 1);
    }

    #[test]
    fn a_new_root_is_taken_if_nothing_else_here_goes_by_what_it_changes() {
        let fixture = Fixture::new(false);
        let publisher = fixture.publisher(&Clock::manual(NOW_MS));
        publisher
            .accept(fixture.served(1, &[slice("a", &[])]))
            .unwrap();
        let next = |change: &dyn Fn(&mut TrustRoot)| {
            let mut root = fixture.root.clone();
            root.version = 2;
            change(&mut root);
            let envelope = root.seal(&[&fixture.key("root")]);
            write(&fixture, "trust-root.2.envelope", &envelope.encode());
        };
        next(&|root| root.epoch = 1);
        let refused = publisher.take_trust(&read(&fixture)).unwrap_err();
        assert!(
            refused.to_string().contains("changes the epoch"),
            "{refused}"
        );
        assert_eq!(publisher.published().trust_roots.len(), 1);
        let pin = publisher.trust_root();
        next(&|root| {
            root.relays
                .insert("spiffe://test.example/mesh/relay/one".parse().unwrap());
        });
        assert_eq!(publisher.take_trust(&read(&fixture)).unwrap().len(), 1);
        assert_eq!(publisher.published().trust_roots.len(), 2);
        assert_ne!(publisher.trust_root(), pin);
    }
}
