//! Why something signed is not believed. The names are those of the reason vocabulary that status,
//! logs and metrics share.

use std::fmt;

/// The name of a reason for configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// The envelope has no signature.
    Unsigned,
    /// No signature is by a key that the role has.
    UnknownSigner,
    /// Fewer distinct keys of the role signed than its threshold asks for.
    Threshold,
    /// The bytes end early.
    Truncated,
    /// Larger than its limit.
    TooLarge,
    /// Not the one encoding of a valid value.
    NonCanonical,
    /// Made for another mesh.
    WrongMesh,
    /// Made for another environment.
    WrongEnvironment,
    /// Made for another trust domain.
    WrongTrustDomain,
    /// The slice is another identity's.
    WrongWorkload,
    /// Its order, version, epoch or counter is below what is already believed.
    OrderTooLow,
    /// Another statement with the same order or version is already believed.
    Equivocation,
    /// The Merkle proof does not lead to the signed root.
    BadProof,
    /// It needs a format, feature or release that this program does not have.
    UnknownFeature,
    /// The followed ref was rewritten, or the statement speaks of another ref.
    RefRewritten,
    /// The commit's policy has errors, or a verified slice makes no sense to the engine.
    PolicyInvalid,
    /// The clock of whoever issued it is more than five minutes ahead.
    ClockSkew,
}

impl RejectReason {
    /// Every reason, in the order of the vocabulary.
    pub const ALL: [Self; 17] = [
        Self::Unsigned,
        Self::UnknownSigner,
        Self::Threshold,
        Self::Truncated,
        Self::TooLarge,
        Self::NonCanonical,
        Self::WrongMesh,
        Self::WrongEnvironment,
        Self::WrongTrustDomain,
        Self::WrongWorkload,
        Self::OrderTooLow,
        Self::Equivocation,
        Self::BadProof,
        Self::UnknownFeature,
        Self::RefRewritten,
        Self::PolicyInvalid,
        Self::ClockSkew,
    ];

    /// The name, `unknown_signer`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::UnknownSigner => "unknown_signer",
            Self::Threshold => "threshold",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::NonCanonical => "non_canonical",
            Self::WrongMesh => "wrong_mesh",
            Self::WrongEnvironment => "wrong_environment",
            Self::WrongTrustDomain => "wrong_trust_domain",
            Self::WrongWorkload => "wrong_workload",
            Self::OrderTooLow => "order_too_low",
            Self::Equivocation => "equivocation",
            Self::BadProof => "bad_proof",
            Self::UnknownFeature => "unknown_feature",
            Self::RefRewritten => "ref_rewritten",
            Self::PolicyInvalid => "policy_invalid",
            Self::ClockSkew => "clock_skew",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: its reason, and what exactly was wrong, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    reason: RejectReason,
    detail: String,
    /// The feature that is missing, where that is the reason.
    feature: Option<String>,
}

impl Rejection {
    /// A refusal for this reason.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            feature: None,
        }
    }

    /// A refusal of something that needs a feature of this name.
    pub fn missing_feature(what: &str, feature: &str) -> Self {
        let feature = feature.escape_debug().to_string();
        Self {
            detail: format!("{what} needs \"{feature}\""),
            feature: Some(feature),
            reason: RejectReason::UnknownFeature,
        }
    }

    /// Name of the reason, with that of a missing feature: `unknown_feature:hedge`.
    pub fn name(&self) -> String {
        match &self.feature {
            Some(feature) => format!("{}:{feature}", self.reason),
            None => self.as_str().to_owned(),
        }
    }

    /// The reason.
    pub const fn reason(&self) -> RejectReason {
        self.reason
    }

    /// Name of the reason.
    pub const fn as_str(&self) -> &'static str {
        self.reason.as_str()
    }

    /// What exactly was wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = RejectReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(names.len(), RejectReason::ALL.len());
    }
}
