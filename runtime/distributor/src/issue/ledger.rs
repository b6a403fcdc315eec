//! Which certificate each enrolment has: the newest key, so that a renewal from another one is seen, and what the
//! replacement of an authority has to wait for. It outlives a restart; what has expired is forgotten.

use std::collections::BTreeMap;

use mesh_bundle::digest::Digest;
use mesh_bundle::spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::issue::certificate::EnrolmentId;

/// Every enrolment whose newest certificate may still be of use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    enrolments: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    identity: String,
    /// SHA-256 of the public key of the newest certificate.
    key: String,
    /// Of the one that it replaced: the answer with the newest may have been lost.
    before: Option<String>,
    /// SHA-256 of the root authority above it.
    root: String,
    /// Unix seconds at which the newest ends.
    ends: u64,
    /// Version of the own trust bundle that its proxy says it has.
    #[serde(default)]
    bundle: u64,
    /// Two proxies have had its key.
    #[serde(default)]
    cloned: bool,
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) enrolment: EnrolmentId,
    pub(crate) identity: &'a SpiffeId,
    /// Digest of the public key.
    pub(crate) key: Digest,
    /// Digest of the root authority above it.
    pub(crate) root: Digest,
    /// Unix seconds.
    pub(crate) ends: u64,
}

/// A renewal that only a clone would ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key was superseded: two proxies have a key of enrolment {0}; neither is renewed, revoke the enrolment and enrol anew"
)]
pub(crate) struct Cloned(pub(crate) String);

/// Whom a step of a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// SPIFFE ID.
    pub(crate) identity: String,
    /// Which of its enrolments.
    pub(crate) enrolment: String,
    /// Unix seconds at which it has expired and is waited for no longer.
    pub(crate) until: u64,
}

impl Ledger {
    /// Judges a renewal by the key that asks and the key that is asked for. Two keys of one enrolment that both want to
    /// go on are two proxies: from then on neither may.
    pub(crate) fn judge(
        &mut self,
        enrolment: EnrolmentId,
        from: Digest,
        to: Digest,
    ) -> Result<(), Cloned> {
        let name = hex::encode(enrolment.0);
        // Of a state directory that was lost, or of a release that kept none.
        let Some(known) = self.enrolments.get_mut(&name) else {
            return Ok(());
        };
        let is_newest = known.key == from.to_hex();
        let is_again = known.before == Some(from.to_hex()) && known.key == to.to_hex();
        if !known.cloned && (is_newest || is_again) {
            return Ok(());
        }
        known.cloned = true;
        Err(Cloned(name))
    }

    /// Notes a certificate as the newest of its enrolment.
    pub(crate) fn issued(&mut self, entry: &Entry<'_>) {
        let name = hex::encode(entry.enrolment.0);
        let key = entry.key.to_hex();
        let last = self.enrolments.get(&name);
        let before = match last {
            Some(last) if last.key == key => last.before.clone(),
            last => last.map(|last| last.key.clone()),
        };
        let known = Known {
            identity: entry.identity.to_string(),
            key,
            before,
            root: entry.root.to_hex(),
            ends: entry.ends,
            bundle: last.map_or(0, |last| last.bundle),
            cloned: false,
        };
        self.enrolments.insert(name, known);
    }

    /// Notes which trust bundle a proxy has; whether that is news.
    pub(crate) fn reported(&mut self, enrolment: &str, bundle: u64) -> bool {
        match self.enrolments.get_mut(enrolment) {
            Some(known) if known.bundle != bundle => {
                known.bundle = bundle;
                true
            }
            _ => false,
        }
    }

    /// Lets go of those that ended before `then`, Unix seconds.
    pub(crate) fn forget(&mut self, then: u64) {
        self.enrolments.retain(|_, known| known.ends >= then);
    }

    /// Who has a good certificate and not this trust bundle yet.
    pub(crate) fn without_bundle(&self, version: u64, now: u64) -> Vec<Waiting> {
        self.waiting(now, |known| known.bundle < version)
    }

    /// Who has a good certificate below none of these roots.
    pub(crate) fn below_none(&self, roots: &[Digest], now: u64) -> Vec<Waiting> {
        self.waiting(now, |known| {
            !roots.iter().any(|root| root.to_hex() == known.root)
        })
    }

    /// Good certificates.
    pub(crate) fn live(&self, now: u64) -> usize {
        let live = self.enrolments.values().filter(|known| known.ends >= now);
        live.count()
    }

    fn waiting(&self, now: u64, lacks: impl Fn(&Known) -> bool) -> Vec<Waiting> {
        let live = self
            .enrolments
            .iter()
            .filter(|(_, known)| known.ends >= now && lacks(known));
        let waiting = live.map(|(enrolment, known)| Waiting {
            identity: known.identity.clone(),
            enrolment: enrolment.clone(),
            until: known.ends,
        });
        waiting.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::id;

    const A: EnrolmentId = EnrolmentId([1; 8]);

    fn key(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn issue(ledger: &mut Ledger, name: &str) {
        ledger.issued(&Entry {
            enrolment: A,
            identity: &id("a"),
            key: key(name),
            root: key("root"),
            ends: 100,
        });
    }

    #[test]
    fn keys_follow_each_other_and_a_lost_answer_is_given_again() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.judge(A, key("one"), key("two")), Ok(()), "not known");
        issue(&mut ledger, "one");
        assert_eq!(ledger.judge(A, key("one"), key("two")), Ok(()));
        issue(&mut ledger, "two");
        assert_eq!(ledger.judge(A, key("one"), key("two")), Ok(()), "lost");
        issue(&mut ledger, "two");
        assert_eq!(
            ledger.judge(A, key("one"), key("two")),
            Ok(()),
            "lost again"
        );
        assert_eq!(ledger.judge(A, key("two"), key("three")), Ok(()));
    }

    #[test]
    fn a_superseded_key_that_goes_on_is_a_clone_and_both_end() {
        let mut ledger = Ledger::default();
        issue(&mut ledger, "one");
        issue(&mut ledger, "two");
        let cloned = Err(Cloned(hex::encode(A.0)));
        assert_eq!(ledger.judge(A, key("one"), key("other")), cloned);
        assert_eq!(ledger.judge(A, key("two"), key("three")), cloned, "both");
        let stored = serde_json::to_string(&ledger).unwrap();
        let mut stored: Ledger = serde_json::from_str(&stored).unwrap();
        assert_eq!(stored.judge(A, key("two"), key("three")), cloned);
    }

    #[test]
    fn a_rotation_waits_for_good_certificates_alone() {
        let mut ledger = Ledger::default();
        issue(&mut ledger, "one");
        assert_eq!(ledger.live(100), 1);
        assert_eq!(ledger.without_bundle(2, 100).len(), 1);
        assert!(ledger.reported(&hex::encode(A.0), 2));
        assert!(!ledger.reported(&hex::encode(A.0), 2));
        assert!(ledger.without_bundle(2, 100).is_empty());
        assert_eq!(ledger.below_none(&[key("other")], 100)[0].until, 100);
        assert!(
            ledger
                .below_none(&[key("other"), key("root")], 100)
                .is_empty()
        );
        assert!(ledger.below_none(&[key("other")], 101).is_empty());
        ledger.forget(101);
        assert_eq!(ledger, Ledger::default());
    }
}
