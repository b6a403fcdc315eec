//! The trust root: which keys may state what, for one scope. Version N+1 is signed by the root keys
//! of N and of N+1; a proxy starts with one that is pinned by digest.

use std::collections::{BTreeMap, BTreeSet};

use crate::canonical::{
    self, NonCanonical, Wire, ascending, ascending_by_bytes, each, enumeration, invalid, required,
    set_by_bytes, text, text_or_empty, within,
};
use crate::digest::Digest;
use crate::envelope::{Envelope, PayloadType};
use crate::generation::{Generation, digest};
use crate::head::{Head, version};
use crate::key::{KeyId, PublicKey, SigningKey};
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::{RejectReason, Rejection};
use crate::revocations::Revocations;
use crate::scope::Scope;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::statement::{self, Signers, Statement, Verified};
use crate::trust_bundle::TrustBundle;

/// What a role's keys may state. A key has one role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// Trust roots.
    Root,
    /// The own trust bundle, and permanent revocations.
    Trust,
    /// Generations.
    Compile,
    /// Heads.
    Head,
    /// A revocation stream of its own.
    Issuer,
    /// The trust bundle of this foreign domain. One key may have this role for several domains.
    Federation(TrustDomain),
}

/// The keys of a role and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// At least 1, at most the number of keys.
    pub threshold: u32,
    /// Its keys.
    pub keys: BTreeSet<PublicKey>,
}

/// Where workloads get their certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// The mesh's own issuer.
    Issuer,
    /// The SPIFFE Workload API.
    WorkloadApi,
}

/// Who may sign commits of the followed ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitSigner {
    /// One line of an OpenSSH `allowed_signers` file.
    Ssh(String),
    /// OpenPGP v4 fingerprint.
    Openpgp([u8; 20]),
}

/// Which keys may state what, and what a mesh is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRoot {
    /// Of every statement under this root; it never changes.
    pub scope: Scope,
    /// At least 1; each version follows the one before.
    pub version: u64,
    /// First part of every generation's order; may rise, never falls.
    pub epoch: u64,
    /// Made by `meshd dev`: no other distributor serves it.
    pub development: bool,
    /// Full name of the followed ref, `refs/heads/main`.
    pub reference: String,
    /// Folder of the mesh in the repository; empty for the top.
    pub root_path: String,
    /// Roles; [`RoleKind::Root`] is always there.
    pub roles: BTreeMap<RoleKind, Role>,
    /// Identities of distributors, `/mesh/distributor/<name>`.
    pub distributors: BTreeSet<SpiffeId>,
    /// Identities of relays, `/mesh/relay/<name>`.
    pub relays: BTreeSet<SpiffeId>,
    /// Lowest byte-format number of the compiler that is accepted.
    pub min_emit: u32,
    /// Lowest proxy release that may take new generations, `0.1.0`; none: any.
    pub min_proxy: Option<Release>,
    /// Where workloads get their certificates.
    pub identity_source: IdentitySource,
    /// Empty: commits need no signature.
    pub commit_signers: Vec<CommitSigner>,
}

/// A release, `0.1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// Major, minor and patch number.
    pub numbers: [u32; 3],
}

/// A text is not a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a release, written like \"0.1.0\"")]
pub struct ReleaseError;

impl std::str::FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let mut numbers = [0; 3];
        let mut parts = text.split('.');
        for number in &mut numbers {
            let parsed = parts.next().and_then(|part| part.parse().ok());
            *number = parsed.ok_or(ReleaseError)?;
        }
        match parts.next() {
            None => Ok(Self { numbers }),
            Some(_) => Err(ReleaseError),
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl TrustRoot {
    /// States this root, in its own scope. A version after the first needs the root keys of the
    /// version before as well as its own.
    pub fn seal(&self, keys: &[&SigningKey]) -> Envelope {
        statement::seal(self, &self.scope, keys)
    }

    /// SHA-256 of the payload that states this root: what a proxy pins.
    pub fn digest(&self) -> Digest {
        Digest::of(&statement::payload(self, &self.scope))
    }

    /// Whether this value can be stated at all: what it would encode to is decoded again.
    pub fn check(&self) -> Result<(), Rejection> {
        self.scope
            .expect(&Scope::from_message(self.scope.to_message())?)?;
        Self::from_body(&self.scope, &self.body()).map(drop)
    }

    /// Takes the root whose digest is pinned; its own root keys must have signed it too.
    pub fn verify_pinned(envelope: &Envelope, pin: &Digest) -> Result<Verified<Self>, Rejection> {
        statement::expect_type(envelope, PayloadType::TrustRoot)?;
        if envelope.payload_digest() != *pin {
            return Err(Rejection::new(
                RejectReason::UnknownSigner,
                format!(
                    "trust root {} is not the pinned {pin}",
                    envelope.payload_digest()
                ),
            ));
        }
        let claimed: Verified<Self> = statement::open(envelope, None, BTreeSet::new())?;
        claimed.value().verify(envelope, &RoleKind::Root)
    }

    /// Takes the next version, signed by the root keys of this one and its own.
    pub fn verify_next(&self, envelope: &Envelope) -> Result<Verified<Self>, Rejection> {
        let by_this: Verified<Self> = self.verify(envelope, &RoleKind::Root)?;
        let next: Verified<Self> = by_this.value().verify(envelope, &RoleKind::Root)?;
        if next.version == self.version && next.digest() != self.digest() {
            return Err(Rejection::new(
                RejectReason::Equivocation,
                format!("another trust root of version {}", next.version),
            ));
        }
        if next.version <= self.version {
            return Err(Rejection::new(
                RejectReason::OrderTooLow,
                format!(
                    "trust root version {}, already at {}",
                    next.version, self.version
                ),
            ));
        }
        if next.version - self.version != 1 {
            return Err(Rejection::new(
                RejectReason::UnknownSigner,
                format!(
                    "trust root version {} does not follow {}: the chain has a gap",
                    next.version, self.version
                ),
            ));
        }
        if next.epoch < self.epoch {
            return Err(Rejection::new(
                RejectReason::OrderTooLow,
                format!("trust root epoch {}, already at {}", next.epoch, self.epoch),
            ));
        }
        Ok(next)
    }

    /// Takes a generation signed by the compile role, of this root's ref, folder, epoch and
    /// minimum. The floor and equivocation are judged by [`crate::acceptance`].
    pub fn verify_generation(
        &self,
        envelope: &Envelope,
    ) -> Result<Verified<Generation>, Rejection> {
        let generation: Verified<Generation> = self.verify(envelope, &RoleKind::Compile)?;
        if generation.reference != self.reference || generation.root_path != self.root_path {
            return Err(Rejection::new(
                RejectReason::RefRewritten,
                format!(
                    "generation of {} \"{}\", the trust root follows {} \"{}\"",
                    generation.reference, generation.root_path, self.reference, self.root_path
                ),
            ));
        }
        if generation.order.epoch != self.epoch {
            let reason = if generation.order.epoch < self.epoch {
                RejectReason::OrderTooLow
            } else {
                // It needs a trust root that is not here yet.
                RejectReason::UnknownSigner
            };
            return Err(Rejection::new(
                reason,
                format!(
                    "generation {} is not of epoch {}",
                    generation.order, self.epoch
                ),
            ));
        }
        if generation.order.emit < self.min_emit {
            return Err(Rejection::new(
                RejectReason::OrderTooLow,
                format!(
                    "generation {}, the lowest emit number is {}",
                    generation.order, self.min_emit
                ),
            ));
        }
        Ok(generation)
    }

    /// Takes a head signed by the head role. Time and counters are judged by
    /// [`crate::acceptance`].
    pub fn verify_head(&self, envelope: &Envelope) -> Result<Verified<Head>, Rejection> {
        self.verify(envelope, &RoleKind::Head)
    }

    /// Takes a trust bundle: the own domain's from the trust role, a foreign one from the
    /// federation role of that very domain.
    pub fn verify_trust_bundle(
        &self,
        envelope: &Envelope,
    ) -> Result<Verified<TrustBundle>, Rejection> {
        statement::expect_type(envelope, PayloadType::TrustBundle)?;
        let mut refusals = Vec::new();
        for kind in self.roles.keys() {
            let domain = match kind {
                RoleKind::Trust => &self.scope.trust_domain,
                RoleKind::Federation(domain) => domain,
                _ => continue,
            };
            match self.verify::<TrustBundle>(envelope, kind) {
                Ok(bundle) if bundle.trust_domain == *domain => return Ok(bundle),
                Ok(bundle) => refusals.push(Rejection::new(
                    RejectReason::UnknownSigner,
                    format!(
                        "signed for {domain}, not for {}, whose bundle it is",
                        bundle.trust_domain
                    ),
                )),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(most_telling(refusals))
    }

    /// Whether enough of the keys that signed this bundle may still do so. It was verified under this
    /// root or one before it.
    pub(crate) fn vouches_for(&self, bundle: &Verified<TrustBundle>) -> bool {
        let kind = if bundle.trust_domain == self.scope.trust_domain {
            RoleKind::Trust
        } else {
            RoleKind::Federation(bundle.trust_domain.clone())
        };
        self.roles.get(&kind).is_some_and(|role| {
            let signers = role.keys.iter().map(PublicKey::id);
            let count = signers.filter(|key| bundle.signers().contains(key)).count();
            u32::try_from(count).is_ok_and(|count| count >= role.threshold)
        })
    }

    /// Takes a revocation stream: an issuer's own, or the trust role's.
    pub fn verify_revocations(
        &self,
        envelope: &Envelope,
    ) -> Result<Verified<Revocations>, Rejection> {
        statement::expect_type(envelope, PayloadType::Revocations)?;
        let mut refusals = Vec::new();
        for kind in [RoleKind::Trust, RoleKind::Issuer] {
            match self.verify(envelope, &kind) {
                Ok(revocations) => return Ok(revocations),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(most_telling(refusals))
    }

    /// The roles that a key has; more than one only for federation.
    pub fn roles_of(&self, key: KeyId) -> Vec<&RoleKind> {
        self.roles
            .iter()
            .filter(|(_, role)| role.keys.iter().any(|held| held.id() == key))
            .map(|(kind, _)| kind)
            .collect()
    }

    fn verify<T: Statement>(
        &self,
        envelope: &Envelope,
        kind: &RoleKind,
    ) -> Result<Verified<T>, Rejection> {
        let role = self.roles.get(kind);
        let keys: Vec<_> = role
            .iter()
            .flat_map(|role| role.keys.iter().copied())
            .collect();
        let threshold = role.map_or(1, |role| role.threshold);
        let signers = Signers {
            keys: &keys,
            threshold: usize::try_from(threshold).unwrap_or(usize::MAX),
        };
        statement::verify(envelope, &self.scope, signers)
    }
}

/// Of the refusals by several roles, one that got further than not knowing the signer.
fn most_telling(refusals: Vec<Rejection>) -> Rejection {
    let unknown = Rejection::new(
        RejectReason::UnknownSigner,
        "no signature is by a key that may state this",
    );
    refusals
        .into_iter()
        .find(|refusal| refusal.reason() != RejectReason::UnknownSigner)
        .unwrap_or(unknown)
}

impl Statement for TrustRoot {
    const TYPE: PayloadType = PayloadType::TrustRoot;

    fn body(&self) -> Vec<u8> {
        canonical::encode(&Body(self.clone()))
    }

    fn from_body(scope: &Scope, body: &[u8]) -> Result<Self, Rejection> {
        let Body(mut root) = canonical::decode("trust_root", body)?;
        root.scope = scope.clone();
        let own = |id: &SpiffeId| id.trust_domain() == scope.trust_domain.as_str();
        if !root.distributors.iter().chain(&root.relays).all(own) {
            return Err(invalid("trust_root.distributors", "of another trust domain").into());
        }
        let foreign = |kind: &RoleKind| match kind {
            RoleKind::Federation(domain) => *domain != scope.trust_domain,
            _ => true,
        };
        if !root.roles.keys().all(foreign) {
            return Err(invalid("trust_root.roles", "federation with the own domain").into());
        }
        Ok(root)
    }
}

/// The body of the statement; the scope is beside it and set afterwards.
struct Body(TrustRoot);

impl Wire for Body {
    type Message = wire::TrustRoot;

    fn to_message(&self) -> wire::TrustRoot {
        let root = &self.0;
        let mut keys: Vec<_> = root
            .roles
            .values()
            .flat_map(|role| role.keys.iter().copied())
            .collect();
        keys.sort_by_key(PublicKey::id);
        keys.dedup();
        let mut roles: Vec<_> = root.roles.iter().map(role_to).collect();
        roles.sort_by(|a, b| (a.kind, &a.domain).cmp(&(b.kind, &b.domain)));
        wire::TrustRoot {
            version: root.version,
            epoch: root.epoch,
            development: root.development,
            r#ref: root.reference.clone(),
            root_path: root.root_path.clone(),
            keys: keys.iter().map(Wire::to_message).collect(),
            roles,
            distributors: root.distributors.iter().map(ToString::to_string).collect(),
            relays: root.relays.iter().map(ToString::to_string).collect(),
            min_emit: root.min_emit,
            min_proxy: root.min_proxy.map(|it| it.to_string()).unwrap_or_default(),
            identity_source: match root.identity_source {
                IdentitySource::Issuer => wire::IdentitySource::Issuer,
                IdentitySource::WorkloadApi => wire::IdentitySource::WorkloadApi,
            } as i32,
            commit_signers: set_by_bytes(&root.commit_signers),
        }
    }

    fn from_message(message: wire::TrustRoot) -> Result<Self, NonCanonical> {
        ascending_by_bytes(
            "trust_root.commit_signers",
            &message.commit_signers,
            limits::COMMIT_SIGNERS_MAX,
        )?;
        Ok(Self(TrustRoot {
            scope: Scope {
                mesh: String::new(),
                environment: String::new(),
                trust_domain: canonical::trust_domain("trust_root.scope", "unset")?,
            },
            version: version("trust_root.version", message.version)?,
            epoch: message.epoch,
            development: message.development,
            reference: text("trust_root.ref", message.r#ref, limits::REF_BYTES_MAX)?,
            root_path: text_or_empty(
                "trust_root.root_path",
                message.root_path,
                limits::REF_BYTES_MAX,
            )?,
            roles: roles_from(message.keys, message.roles)?,
            distributors: identities(
                "trust_root.distributors",
                &message.distributors,
                SpiffeId::distributor,
            )?,
            relays: identities("trust_root.relays", &message.relays, SpiffeId::relay)?,
            min_emit: message.min_emit,
            min_proxy: match message.min_proxy.as_str() {
                "" => None,
                release => Some(release.parse().map_err(|error: ReleaseError| {
                    invalid("trust_root.min_proxy", &error.to_string())
                })?),
            },
            identity_source: match enumeration(
                "trust_root.identity_source",
                message.identity_source,
            )? {
                wire::IdentitySource::Unspecified => {
                    return Err(invalid("trust_root.identity_source", "unspecified"));
                }
                wire::IdentitySource::Issuer => IdentitySource::Issuer,
                wire::IdentitySource::WorkloadApi => IdentitySource::WorkloadApi,
            },
            commit_signers: each(message.commit_signers)?,
        }))
    }
}

fn role_to((kind, role): (&RoleKind, &Role)) -> wire::Role {
    let mut key_ids: Vec<_> = role
        .keys
        .iter()
        .map(|key| key.id().as_bytes().to_vec())
        .collect();
    key_ids.sort();
    let (kind, domain) = match kind {
        RoleKind::Root => (wire::RoleKind::Root, String::new()),
        RoleKind::Trust => (wire::RoleKind::Trust, String::new()),
        RoleKind::Compile => (wire::RoleKind::Compile, String::new()),
        RoleKind::Head => (wire::RoleKind::Head, String::new()),
        RoleKind::Issuer => (wire::RoleKind::Issuer, String::new()),
        RoleKind::Federation(domain) => (wire::RoleKind::Federation, domain.to_string()),
    };
    wire::Role {
        kind: kind as i32,
        domain,
        threshold: role.threshold,
        key_ids,
    }
}

/// Every key has exactly one kind of role, every role names keys that are there.
fn roles_from(
    keys: Vec<wire::PublicKey>,
    roles: Vec<wire::Role>,
) -> Result<BTreeMap<RoleKind, Role>, NonCanonical> {
    let keys: Vec<PublicKey> = {
        canonical::counted("trust_root.keys", &keys, limits::KEYS_MAX)?;
        each(keys)?
    };
    let by_id: BTreeMap<_, _> = keys.iter().map(|key| (key.id(), *key)).collect();
    ascending("trust_root.keys", &keys, limits::KEYS_MAX, |a, b| {
        a.id() < b.id()
    })?;
    ascending("trust_root.roles", &roles, limits::ROLES_MAX, |a, b| {
        (a.kind, &a.domain) < (b.kind, &b.domain)
    })?;
    let mut decoded: BTreeMap<RoleKind, Role> = BTreeMap::new();
    let mut kind_of: BTreeMap<KeyId, wire::RoleKind> = BTreeMap::new();
    for role in roles {
        let kind = enumeration("role.kind", role.kind)?;
        ascending("role.key_ids", &role.key_ids, limits::KEYS_MAX, |a, b| {
            a < b
        })?;
        let mut members = BTreeSet::new();
        for bytes in &role.key_ids {
            let id = KeyId::from_digest(digest("role.key_ids", bytes)?);
            members.insert(*required("role.key_ids", by_id.get(&id))?);
            if kind_of.insert(id, kind).is_some_and(|other| other != kind) {
                return Err(invalid("role.key_ids", "a key has two roles"));
            }
        }
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        // Heads and revocation streams are counted per key, so one key makes one.
        let reachable = match kind {
            wire::RoleKind::Head | wire::RoleKind::Issuer => 1,
            _ => limits::THRESHOLD_MAX,
        };
        let threshold = within("role.threshold", role.threshold, 1, count.min(reachable))?;
        decoded.insert(
            role_kind(kind, &role.domain)?,
            Role {
                threshold,
                keys: members,
            },
        );
    }
    if kind_of.len() != keys.len() {
        return Err(invalid("trust_root.keys", "a key has no role"));
    }
    required("trust_root.roles", decoded.get(&RoleKind::Root))?;
    Ok(decoded)
}

fn role_kind(kind: wire::RoleKind, domain: &str) -> Result<RoleKind, NonCanonical> {
    let kind = match kind {
        wire::RoleKind::Unspecified => return Err(invalid("role.kind", "unspecified")),
        wire::RoleKind::Root => RoleKind::Root,
        wire::RoleKind::Trust => RoleKind::Trust,
        wire::RoleKind::Compile => RoleKind::Compile,
        wire::RoleKind::Head => RoleKind::Head,
        wire::RoleKind::Issuer => RoleKind::Issuer,
        wire::RoleKind::Federation => {
            return Ok(RoleKind::Federation(canonical::trust_domain(
                "role.domain",
                domain,
            )?));
        }
    };
    if !domain.is_empty() {
        return Err(invalid("role.domain", "only federation has one"));
    }
    Ok(kind)
}

fn identities(
    field: &'static str,
    list: &[String],
    name: impl Fn(&SpiffeId) -> Option<&str>,
) -> Result<BTreeSet<SpiffeId>, NonCanonical> {
    ascending(
        field,
        list,
        limits::INFRASTRUCTURE_IDENTITIES_MAX,
        |a, b| a < b,
    )?;
    list.iter()
        .map(|text| {
            let id = canonical::spiffe_id(field, text)?;
            match name(&id) {
                Some(_) => Ok(id),
                None => Err(invalid(field, "not below the reserved path of its kind")),
            }
        })
        .collect()
}

impl Wire for CommitSigner {
    type Message = wire::CommitSigner;

    fn to_message(&self) -> wire::CommitSigner {
        use wire::commit_signer::Kind;
        wire::CommitSigner {
            kind: Some(match self {
                Self::Ssh(line) => Kind::Ssh(line.clone()),
                Self::Openpgp(fingerprint) => Kind::Openpgp(fingerprint.to_vec()),
            }),
        }
    }

    fn from_message(message: wire::CommitSigner) -> Result<Self, NonCanonical> {
        use wire::commit_signer::Kind;
        Ok(match required("commit_signer.kind", message.kind)? {
            Kind::Ssh(line) => Self::Ssh(text("commit_signer.ssh", line, limits::TEXT_BYTES_MAX)?),
            Kind::Openpgp(fingerprint) => {
                Self::Openpgp(canonical::array("commit_signer.openpgp", &fingerprint)?)
            }
        })
    }
}

#[cfg(test)]
mod tests;
