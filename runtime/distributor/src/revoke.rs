//! What the issuer of this distributor has revoked, as operators say it and as it is kept. It knows neither keys nor
//! files: what comes of it is signed and published elsewhere.

use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::revocations::{Revocation, RevokedSubject};
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::status::timestamp;

/// What a revocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A workload identity, whatever certificates it has.
    SpiffeId,
    /// One enrolment, with every certificate that came of it.
    Enrolment,
    /// The key of one certificate.
    LeafKey,
    /// The key of an authority, with every certificate below it.
    IssuerKey,
}

impl Kind {
    /// The name in outputs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SpiffeId => "spiffe_id",
            Self::Enrolment => "enrolment",
            Self::LeafKey => "leaf_key",
            Self::IssuerKey => "issuer_key",
        }
    }
}

/// Which certificates of the subject are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    /// All there are and all to come.
    #[default]
    All,
    /// Those that were issued until now.
    UntilNow,
    /// Those that were issued before a moment, RFC 3339.
    Before(String),
}

/// Body of `POST /revocations` and of `DELETE /revocations`, which looks at the subject alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// What `value` is.
    pub(crate) kind: Kind,
    /// A SPIFFE ID, or hexadecimal.
    pub(crate) value: String,
    /// Which of its certificates.
    #[serde(default)]
    pub(crate) which: Which,
    /// For whoever reads the list later.
    #[serde(default)]
    pub(crate) reason: String,
}

/// One revocation, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    kind: Kind,
    value: String,
    /// Unix seconds; certificates that begin to be valid before are refused.
    valid_before: Option<u64>,
    at_ms: u64,
    reason: String,
}

/// All of this issuer, ascending by subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
}

/// A line of `GET /revocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Key id of the stream.
    pub(crate) stream: String,
    /// `issuer`: of this distributor, which may take it back; `trust`: for good; `other`: of another issuer.
    pub(crate) by: String,
    /// What `value` is.
    pub(crate) kind: Kind,
    /// The subject.
    pub(crate) value: String,
    /// Null: every certificate, also those to come.
    pub(crate) issued_before: Option<String>,
    /// Since when; null for other streams, which do not say it.
    pub(crate) since: Option<String>,
    /// As it was given.
    pub(crate) reason: String,
}

/// Why a revocation cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RevokeError {
    /// Not a SPIFFE ID.
    #[error("{0:?} is not a SPIFFE ID")]
    SpiffeId(String),
    /// Not an enrolment.
    #[error(
        "{0:?} is not an enrolment: those have 16 hexadecimal digits, as the log says when a certificate is issued"
    )]
    Enrolment(String),
    /// Not a digest.
    #[error("{0:?} is not the SHA-256 of a public key: 64 hexadecimal digits")]
    Key(String),
    /// Not a time.
    #[error("{0:?} is not a time such as 2027-03-01T12:00:00Z")]
    Time(String),
    /// Too much text.
    #[error("a reason has at most {} bytes", limits::REASON_BYTES_MAX)]
    Reason,
    /// Nothing to take back.
    #[error("this issuer has not revoked that; `meshd revoke --list` shows what it has")]
    Unknown,
    /// Nobody would follow us any more.
    #[error(
        "that would revoke this distributor's own certificate, and no proxy would listen to it any more; if its key is lost, replace the intermediate first, or sign it with the trust key: `meshc trust revoke`"
    )]
    Own,
}

impl Asked {
    fn subject(&self) -> Result<RevokedSubject, RevokeError> {
        let value = || self.value.clone();
        let key = || Digest::from_hex(&self.value).map_err(|_digits| RevokeError::Key(value()));
        Ok(match self.kind {
            Kind::SpiffeId => RevokedSubject::SpiffeId(
                SpiffeId::parse(&self.value).map_err(|_text| RevokeError::SpiffeId(value()))?,
            ),
            Kind::Enrolment => {
                let mut id = [0; 8];
                hex::decode_to_slice(&self.value, &mut id)
                    .map_err(|_digits| RevokeError::Enrolment(value()))?;
                RevokedSubject::EnrolmentId(hex::encode(id))
            }
            Kind::LeafKey => RevokedSubject::LeafSpki(key()?),
            Kind::IssuerKey => RevokedSubject::IssuerSpki(key()?),
        })
    }

    /// What is kept of it.
    pub(crate) fn entry(&self, now_ms: u64) -> Result<Entry, RevokeError> {
        if self.reason.len() > limits::REASON_BYTES_MAX {
            return Err(RevokeError::Reason);
        }
        let (kind, value) = parts(&self.subject()?);
        // Certificates begin to be valid before they are issued. One that is issued within the same second as a
        // revocation is refused too: better one too many, which is renewed, than one too few.
        let begins = |issued_s: u64| issued_s.saturating_sub(limits::SVID_BACKDATED.as_secs());
        let valid_before = match &self.which {
            Which::All => None,
            Which::UntilNow => Some(begins(now_ms / 1000) + 1),
            Which::Before(time) => {
                let parsed: Option<jiff::Timestamp> = time.parse().ok();
                let seconds = parsed.and_then(|time| u64::try_from(time.as_second()).ok());
                // Zero would mean every certificate.
                Some(begins(seconds.ok_or_else(|| RevokeError::Time(time.clone()))?).max(1))
            }
        };
        Ok(Entry {
            kind,
            value,
            valid_before,
            at_ms: now_ms,
            reason: self.reason.clone(),
        })
    }
}

impl Entries {
    /// What a stream says, for a distributor that keeps none yet.
    pub(crate) fn of_stream(entries: &[Revocation], now_ms: u64) -> Self {
        let mut all = Self::default();
        for revocation in entries {
            let (kind, value) = parts(&revocation.subject);
            all.add(Entry {
                kind,
                value,
                valid_before: revocation.issued_before,
                at_ms: now_ms,
                reason: String::new(),
            });
        }
        all
    }

    /// Adds one. Of two about one subject that which reaches further counts.
    pub(crate) fn add(&mut self, entry: Entry) {
        let same = |known: &&mut Entry| known.kind == entry.kind && known.value == entry.value;
        if let Some(known) = self.entries.iter_mut().find(same) {
            let further = match (known.valid_before, entry.valid_before) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(known), Some(new)) => new > known,
            };
            if further {
                *known = entry;
            }
            return;
        }
        self.entries.push(entry);
        self.entries
            .sort_by(|a, b| (a.kind, &a.value).cmp(&(b.kind, &b.value)));
    }

    /// Takes one back.
    pub(crate) fn remove(&mut self, asked: &Asked) -> Result<(), RevokeError> {
        let (kind, value) = parts(&asked.subject()?);
        let before = self.entries.len();
        self.entries
            .retain(|entry| (entry.kind, &entry.value) != (kind, &value));
        if self.entries.len() == before {
            return Err(RevokeError::Unknown);
        }
        Ok(())
    }

    /// Lets go of what only certificates could meet that have all expired: those of the own trust domain live a
    /// bounded time.
    pub(crate) fn forget_expired(&mut self, own: &TrustDomain, now_ms: u64) {
        let longest = limits::SVID_LIFE_MAX + limits::SVID_BACKDATED + Duration::from_hours(1);
        self.entries.retain(|entry| {
            let is_own = match entry.kind {
                Kind::SpiffeId => {
                    SpiffeId::parse(&entry.value).is_ok_and(|id| id.trust_domain() == own.as_str())
                }
                Kind::Enrolment => true,
                Kind::LeafKey | Kind::IssuerKey => false,
            };
            let over = |before: u64| before.saturating_add(longest.as_secs()) < now_ms / 1000;
            !(is_own && entry.valid_before.is_some_and(over))
        });
    }

    /// As a stream states them.
    pub(crate) fn revocations(&self) -> Vec<Revocation> {
        let stated = self.entries.iter().filter_map(|entry| {
            let asked = Asked {
                kind: entry.kind,
                value: entry.value.clone(),
                which: Which::All,
                reason: String::new(),
            };
            // What is kept was parsed before.
            let subject = asked.subject().ok()?;
            Some(Revocation {
                subject,
                issued_before: entry.valid_before,
            })
        });
        stated.collect()
    }

    /// Since when a subject is revoked, and why.
    pub(crate) fn note(&self, kind: Kind, value: &str) -> Option<(u64, &str)> {
        let found = self
            .entries
            .iter()
            .find(|entry| entry.kind == kind && entry.value == value)?;
        Some((found.at_ms, &found.reason))
    }
}

/// How a revocation of any stream is listed.
pub(crate) fn listed(revocation: &Revocation, stream: &str, by: &str) -> Listed {
    let (kind, value) = parts(&revocation.subject);
    let issued = |before: u64| before.saturating_add(limits::SVID_BACKDATED.as_secs());
    Listed {
        stream: stream.to_owned(),
        by: by.to_owned(),
        kind,
        value,
        issued_before: revocation
            .issued_before
            .map(|before| timestamp(issued(before).saturating_mul(1000))),
        since: None,
        reason: String::new(),
    }
}

fn parts(subject: &RevokedSubject) -> (Kind, String) {
    match subject {
        RevokedSubject::SpiffeId(id) => (Kind::SpiffeId, id.to_string()),
        RevokedSubject::EnrolmentId(id) => (Kind::Enrolment, id.clone()),
        RevokedSubject::LeafSpki(key) => (Kind::LeafKey, key.to_hex()),
        RevokedSubject::IssuerSpki(key) => (Kind::IssuerKey, key.to_hex()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::NOW_MS;

    const ID: &str = "spiffe://test.example/service/a";

    fn asked(kind: Kind, value: &str, which: Which) -> Asked {
        Asked {
            kind,
            value: value.to_owned(),
            which,
            reason: String::new(),
        }
    }

    fn one(kind: Kind, value: &str, which: Which) -> Result<Option<u64>, RevokeError> {
        let entry = asked(kind, value, which).entry(NOW_MS)?;
        Ok(entry.valid_before)
    }

    #[test]
    fn moments_are_those_of_issuing_and_not_of_validity() {
        let now = NOW_MS / 1000;
        assert_eq!(one(Kind::SpiffeId, ID, Which::All), Ok(None));
        // Issued now, a certificate is valid from five minutes ago.
        let valid = now - 300;
        let limit = one(Kind::SpiffeId, ID, Which::UntilNow).unwrap().unwrap();
        assert!(valid < limit && valid + 1 >= limit, "{limit}");
        let noon = Which::Before("2026-01-01T00:00:00Z".to_owned());
        assert_eq!(one(Kind::SpiffeId, ID, noon), Ok(Some(now - 300)));
        let ancient = Which::Before("1970-01-01T00:00:00Z".to_owned());
        assert_eq!(one(Kind::SpiffeId, ID, ancient), Ok(Some(1)), "never: all");
        let bad = Which::Before("yesterday".to_owned());
        assert_eq!(
            one(Kind::SpiffeId, ID, bad),
            Err(RevokeError::Time("yesterday".to_owned()))
        );
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for (kind, value) in [
            (Kind::SpiffeId, "service/a"),
            (Kind::Enrolment, "1234"),
            (Kind::Enrolment, "zzzzzzzzzzzzzzzz"),
            (Kind::LeafKey, ""),
            (Kind::IssuerKey, "00"),
        ] {
            assert!(one(kind, value, Which::All).is_err(), "{value}");
        }
        let mut wordy = asked(Kind::SpiffeId, ID, Which::All);
        wordy.reason = "x".repeat(limits::REASON_BYTES_MAX + 1);
        assert_eq!(wordy.entry(NOW_MS), Err(RevokeError::Reason));
    }

    #[test]
    fn of_two_about_one_subject_the_wider_counts_and_both_go_together() {
        let mut entries = Entries::default();
        let mut add = |which: Which| {
            entries.add(asked(Kind::SpiffeId, ID, which).entry(NOW_MS).unwrap());
            entries.revocations()
        };
        let first = add(Which::Before("2025-01-01T00:00:00Z".to_owned()));
        let wider = add(Which::UntilNow);
        assert!(wider[0].issued_before > first[0].issued_before);
        let narrower = add(Which::Before("2025-06-01T00:00:00Z".to_owned()));
        assert_eq!(narrower, wider);
        assert_eq!(add(Which::All)[0].issued_before, None);
        assert_eq!(add(Which::UntilNow)[0].issued_before, None);
        let subject = asked(Kind::SpiffeId, ID, Which::All);
        assert_eq!(entries.remove(&subject), Ok(()));
        assert_eq!(entries.remove(&subject), Err(RevokeError::Unknown));
    }

    #[test]
    fn what_no_living_certificate_can_meet_is_let_go_and_nothing_else() {
        let mut entries = Entries::default();
        let digest = Digest::of(b"key").to_hex();
        let foreign = "spiffe://other.example/a";
        for (kind, value, which) in [
            (Kind::SpiffeId, ID, Which::UntilNow),
            (Kind::SpiffeId, foreign, Which::UntilNow),
            (Kind::Enrolment, "0102030405060708", Which::All),
            (Kind::LeafKey, digest.as_str(), Which::UntilNow),
        ] {
            entries.add(asked(kind, value, which).entry(NOW_MS).unwrap());
        }
        let own = TrustDomain::parse("test.example").unwrap();
        let week = NOW_MS + 7 * 24 * 3_600_000;
        entries.forget_expired(&own, week);
        assert_eq!(entries.revocations().len(), 4);
        entries.forget_expired(&own, week + 7_200_000);
        assert_eq!(entries.revocations().len(), 3);
        assert_eq!(entries.note(Kind::SpiffeId, ID), None);
        assert!(entries.note(Kind::SpiffeId, foreign).is_some());
    }
}
