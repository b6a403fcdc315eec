//! What the mesh looks like from here: the reports of `meshd status` and `meshd where`. The field
//! names are a contract; fields are added, never renamed.

pub(crate) mod fleet;
pub(crate) mod table;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;

/// Answer of `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// What the head names; null before the first good commit.
    pub(crate) head: Option<HeadReport>,
    /// The followed ref.
    #[serde(rename = "ref")]
    pub(crate) reference: RefReport,
    /// Why the newest commit was refused; empty when it was not.
    pub(crate) findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub(crate) findings_omitted: usize,
    /// Ascending by identity and instance.
    pub(crate) proxies: Vec<ProxyReport>,
}

/// What the head names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadReport {
    /// Reachable commits.
    pub(crate) sequence: u64,
    /// Digest of the generation.
    pub(crate) generation: String,
    /// Commit it was compiled from.
    pub(crate) commit: String,
    /// Epoch of the trust root.
    pub(crate) epoch: u64,
    /// Byte-format number of the compiler.
    pub(crate) emit: u32,
    /// When the head was signed.
    pub(crate) issued: String,
    /// When it ends unless signed anew.
    pub(crate) expires: String,
}

/// State of the followed ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefReport {
    /// Full name.
    pub(crate) name: String,
    /// Where things stand.
    pub(crate) state: RefState,
    /// Commit that the ref names, as last seen.
    pub(crate) tip: Option<String>,
    /// For people.
    pub(crate) detail: Option<String>,
    /// When `state` or `tip` last changed.
    pub(crate) since: String,
}

/// What the follower last saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefState {
    /// It has not looked yet.
    Starting,
    /// The tip is served.
    Following,
    /// The tip did not compile, or says another mesh; the last generation stays.
    PolicyInvalid,
    /// The tip does not descend from the last accepted commit; the last generation stays.
    RefRewritten,
    /// The repository has no such ref.
    RefMissing,
    /// The repository cannot be read.
    RepositoryUnreadable,
    /// The tip could not be compiled for a reason of our own; it is tried again.
    Failed,
}

impl RefState {
    /// The name in the JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Following => "following",
            Self::PolicyInvalid => "policy_invalid",
            Self::RefRewritten => "ref_rewritten",
            Self::RefMissing => "ref_missing",
            Self::RepositoryUnreadable => "repository_unreadable",
            Self::Failed => "failed",
        }
    }
}

/// What one proxy reported; a claim of that identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProxyReport {
    /// Last part of the identity.
    pub(crate) workload: String,
    /// SPIFFE ID.
    pub(crate) identity: String,
    /// Which of the identity's proxies.
    pub(crate) instance: String,
    /// Labels of the instance, `key=value`.
    pub(crate) labels: Vec<String>,
    /// Release of the proxy.
    pub(crate) version: Option<String>,
    /// Whether its stream is open.
    pub(crate) connected: bool,
    /// Phase of the last status.
    pub(crate) phase: Option<String>,
    /// Generation that the last status was about.
    pub(crate) sequence: Option<u64>,
    /// Slice that the last status was about.
    pub(crate) slice: Option<String>,
    /// Why it was rejected or reverted.
    pub(crate) reason: Option<String>,
    /// For people.
    pub(crate) detail: Option<String>,
    /// Since when it reports this.
    pub(crate) since: Option<String>,
    /// What it serves, also while it looks at something newer.
    pub(crate) serving: Option<ServingReport>,
    /// Only in answers of `where`: whether it serves that commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serves: Option<bool>,
}

/// What a proxy serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServingReport {
    /// Digest of the generation.
    pub(crate) generation: String,
    /// Null for a generation that this distributor no longer knows.
    pub(crate) sequence: Option<u64>,
    /// Null for a generation that this distributor no longer knows.
    pub(crate) commit: Option<String>,
    /// How long the pointer swap took.
    pub(crate) swap_ns: Option<u64>,
}

/// Answer of `GET /where/<commit>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhereReport {
    /// What the head names.
    pub(crate) head: Option<HeadReport>,
    /// The commit that was meant, in full where it is known.
    pub(crate) commit: String,
    /// Whether a kept generation was compiled from it.
    pub(crate) known: bool,
    /// Why the distributor refused it, if it is the newest commit and was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// Every proxy, with `serves`.
    pub(crate) proxies: Vec<ProxyReport>,
}

/// Unix milliseconds as text.
pub(crate) fn timestamp(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(1_763_631_000_123), "2025-11-20T09:30:00.123Z");
        assert_eq!(timestamp(u64::MAX), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn states_are_named_alike_in_json_and_text() {
        for state in [
            RefState::Starting,
            RefState::Following,
            RefState::PolicyInvalid,
            RefState::RefRewritten,
            RefState::RefMissing,
            RefState::RepositoryUnreadable,
            RefState::Failed,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
