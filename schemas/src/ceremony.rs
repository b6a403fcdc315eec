//! The first trust root of a mesh, from the public keys that people hold and the settings they
//! chose. `meshc keygen` makes the keys and writes the files.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::PublicKey;
use crate::limits::THRESHOLD_MAX;
use crate::scope::Scope;
use crate::spiffe::{SpiffeIdError, TrustDomain};
use crate::trust_root::{IdentitySource, Release, Role, RoleKind, TrustRoot};

/// The keys of one role and how many of them it takes.
#[derive(Clone, Debug)]
pub struct RoleKeys {
    /// At least 1, at most the number of distinct keys.
    pub threshold: u32,
    /// Keys, in any order.
    pub keys: Vec<PublicKey>,
}

impl RoleKeys {
    /// A role with a single key.
    pub fn one(key: PublicKey) -> Self {
        Self {
            threshold: 1,
            keys: vec![key],
        }
    }
}

/// The keys of every role that a mesh starts with.
#[derive(Clone, Debug)]
pub struct CeremonyKeys {
    /// Signs trust roots.
    pub root: RoleKeys,
    /// Signs the own trust bundle and permanent revocations.
    pub trust: RoleKeys,
    /// Signs generations.
    pub compile: RoleKeys,
    /// Signs heads, one key per distributor; its threshold is 1.
    pub head: Vec<PublicKey>,
    /// Sign their own revocation streams; the threshold is 1. May be empty with the Workload API.
    pub issuer: Vec<PublicKey>,
    /// Sign trust bundles of these foreign domains.
    pub federation: BTreeMap<TrustDomain, RoleKeys>,
}

/// What the mesh is pinned to.
#[derive(Clone, Debug)]
pub struct CeremonySettings {
    /// Mesh, environment, trust domain.
    pub scope: Scope,
    /// Full name of the followed ref, `refs/heads/main`.
    pub reference: String,
    /// Folder of the mesh in the repository; empty for the top.
    pub root_path: String,
    /// Served by `meshd dev` only.
    pub development: bool,
    /// Names of distributors; their identities are `/mesh/distributor/<name>`.
    pub distributors: Vec<String>,
    /// Names of relays; their identities are `/mesh/relay/<name>`.
    pub relays: Vec<String>,
    /// Where workloads get their certificates.
    pub identity_source: IdentitySource,
    /// Lowest proxy release that may take new generations.
    pub min_proxy: Option<Release>,
}

/// Why keys and settings do not make a trust root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CeremonyError {
    /// One key in two roles.
    #[error("key {0} has two roles")]
    SharedKey(crate::key::KeyId),
    /// A role without keys, or a threshold that its keys can't reach.
    #[error("{role}: threshold {threshold} with {keys} keys")]
    Threshold {
        /// The role.
        role: &'static str,
        /// Threshold asked for.
        threshold: u32,
        /// Distinct keys given.
        keys: usize,
    },
    /// A name that can't be part of an identity.
    #[error("name \"{name}\" can't be part of an identity")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with the identity.
        #[source]
        source: SpiffeIdError,
    },
    /// What was put together is no valid trust root.
    #[error("not a valid trust root")]
    Invalid(#[source] crate::reject::Rejection),
}

/// Trust root 1. Seal it with the root keys; the digest of its payload is what proxies pin.
pub fn first_trust_root(
    keys: &CeremonyKeys,
    settings: &CeremonySettings,
) -> Result<TrustRoot, CeremonyError> {
    let identities = |kind: &str, names: &[String]| {
        names
            .iter()
            .map(|name| {
                let id = settings
                    .scope
                    .trust_domain
                    .identity(&format!("/mesh/{kind}/{name}"));
                id.map_err(|source| CeremonyError::Name {
                    name: name.clone(),
                    source,
                })
            })
            .collect::<Result<BTreeSet<_>, _>>()
    };
    let root = TrustRoot {
        scope: settings.scope.clone(),
        version: 1,
        epoch: 0,
        development: settings.development,
        reference: settings.reference.clone(),
        root_path: settings.root_path.clone(),
        roles: roles(keys)?,
        distributors: identities("distributor", &settings.distributors)?,
        relays: identities("relay", &settings.relays)?,
        min_emit: 0,
        min_proxy: settings.min_proxy,
        identity_source: settings.identity_source,
        commit_signers: Vec::new(),
    };
    root.check().map_err(CeremonyError::Invalid)?;
    Ok(root)
}

fn roles(keys: &CeremonyKeys) -> Result<BTreeMap<RoleKind, Role>, CeremonyError> {
    let single = |keys: &[PublicKey]| RoleKeys {
        threshold: 1,
        keys: keys.to_vec(),
    };
    let mut given = vec![
        (RoleKind::Root, "root", keys.root.clone()),
        (RoleKind::Trust, "trust", keys.trust.clone()),
        (RoleKind::Compile, "compile", keys.compile.clone()),
        (RoleKind::Head, "head", single(&keys.head)),
    ];
    if !keys.issuer.is_empty() {
        given.push((RoleKind::Issuer, "issuer", single(&keys.issuer)));
    }
    for (domain, role) in &keys.federation {
        given.push((
            RoleKind::Federation(domain.clone()),
            "federation",
            role.clone(),
        ));
    }
    let mut role_of: BTreeMap<PublicKey, &'static str> = BTreeMap::new();
    let mut roles = BTreeMap::new();
    for (kind, name, role) in given {
        let distinct: BTreeSet<_> = role.keys.iter().copied().collect();
        let reachable = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
        if role.threshold == 0 || role.threshold > reachable.min(THRESHOLD_MAX) {
            return Err(CeremonyError::Threshold {
                role: name,
                threshold: role.threshold,
                keys: distinct.len(),
            });
        }
        for key in &distinct {
            if role_of
                .insert(*key, name)
                .is_some_and(|other| other != name)
            {
                return Err(CeremonyError::SharedKey(key.id()));
            }
        }
        roles.insert(
            kind,
            Role {
                threshold: role.threshold,
                keys: distinct,
            },
        );
    }
    Ok(roles)
}
