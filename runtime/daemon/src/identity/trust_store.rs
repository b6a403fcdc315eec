//! The roots of each trust domain and the revocations, and the verification of a chain by both.
//!
//! There is no merged root store: the leaf says which trust domain it is of, and only that domain's
//! roots are tried, so that a federated authority can vouch for its own domain and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::revocations::{CertificateFacts, Revocations};
use mesh_bundle::trust_bundle::TrustBundle;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::svid::{self, PeerIdentity, SvidError, Usage};

/// Former roots of a trust domain that are remembered; beyond, connections of older ones end.
const FORMER_ROOTS_MAX: usize = 32;

/// Why a set of roots cannot be used.
#[derive(Debug, Error)]
pub enum TrustStoreError {
    /// One of them is not a certificate.
    #[error("root certificate {index} of trust domain {trust_domain} is malformed")]
    Root {
        /// Whose.
        trust_domain: String,
        /// Place in the list.
        index: usize,
    },
}

/// What certificates are judged by. Immutable: a change is a new store.
#[derive(Clone, Debug, Default)]
pub struct TrustStore {
    domains: BTreeMap<String, Vec<Root>>,
    /// Roots that were trusted before, for connections that were made by them.
    former: BTreeMap<String, Vec<Root>>,
    revocations: Vec<Revocations>,
}

#[derive(Clone, Debug)]
struct Root {
    anchor: TrustAnchor<'static>,
    spki: Digest,
}

impl TrustStore {
    /// Trusts nobody.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Trusts these roots, DER, for their trust domain, in place of any that it had.
    pub fn with_roots<'a>(
        mut self,
        trust_domain: &str,
        roots: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TrustStoreError> {
        let roots = roots
            .into_iter()
            .enumerate()
            .map(|(index, der)| {
                root(&CertificateDer::from(der)).ok_or_else(|| TrustStoreError::Root {
                    trust_domain: trust_domain.to_owned(),
                    index,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.domains.insert(trust_domain.to_owned(), roots);
        Ok(self)
    }

    /// Trusts the authorities of a trust bundle for its trust domain, in place of any that it had.
    pub fn with_bundle(self, bundle: &TrustBundle) -> Result<Self, TrustStoreError> {
        let roots = bundle.x509_authorities.iter().map(Vec::as_slice);
        self.with_roots(bundle.trust_domain.as_str(), roots)
    }

    /// Enforces this stream beside those that it has: what counts is the union.
    #[must_use]
    pub fn with_revocations(mut self, stream: Revocations) -> Self {
        self.revocations.push(stream);
        self
    }

    /// Remembers the roots that the store before had beyond this: connections that were made by them outlive a
    /// rotation. Those of a trust domain that is trusted no more are not among them.
    #[must_use]
    pub(crate) fn after(mut self, before: &Self) -> Self {
        for (domain, now) in &self.domains {
            let earlier = [before.domains.get(domain), before.former.get(domain)];
            let mut former: Vec<Root> = Vec::new();
            for root in earlier.into_iter().flatten().flatten() {
                let is_known = |known: &&Root| known.anchor == root.anchor;
                if !now.iter().any(|known| is_known(&known))
                    && !former.iter().any(|known| is_known(&known))
                {
                    former.push(root.clone());
                }
            }
            former.truncate(FORMER_ROOTS_MAX);
            self.former.insert(domain.clone(), former);
        }
        self
    }

    /// Judges the chain of a connection that was made when it was good: it may go on although a certificate in it has
    /// expired since, or its root was replaced. What ends it is a revocation of anything in the chain, its root included,
    /// and that its trust domain is trusted no more.
    pub fn verify_live(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<PeerIdentity, SvidError> {
        let strict = self.verify_chain(chain, now, usage);
        if !matches!(
            strict,
            Err(SvidError::Expired | SvidError::NotYetValid | SvidError::Untrusted(_))
        ) {
            return strict;
        }
        let (leaf, intermediates) = chain.split_first().ok_or(SvidError::NoCertificate)?;
        let identity = PeerIdentity::from_leaf(leaf)?;
        let domain = identity.spiffe_id.trust_domain();
        let mut roots = match self.domains.get(domain) {
            Some(roots) if !roots.is_empty() => roots.clone(),
            _ => return Err(SvidError::UnknownTrustDomain(domain.to_owned())),
        };
        roots.extend(self.former.get(domain).into_iter().flatten().cloned());
        let then = now.as_secs().clamp(identity.not_before, identity.not_after);
        let then = UnixTime::since_unix_epoch(Duration::from_secs(then));
        let issuers = chain_to(&roots, leaf, intermediates, then, usage)?;
        if self.is_revoked(&identity, &issuers) {
            return Err(SvidError::Revoked);
        }
        Ok(identity)
    }

    /// Verifies a chain and returns what its leaf says.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<PeerIdentity, SvidError> {
        svid::check_size(leaf, intermediates)?;
        let identity = PeerIdentity::from_leaf(leaf)?;
        let trust_domain = identity.spiffe_id.trust_domain().to_owned();
        let roots = self
            .domains
            .get(&trust_domain)
            .ok_or(SvidError::UnknownTrustDomain(trust_domain))?;
        let issuers = chain_to(roots, leaf, intermediates, now, usage)?;
        if self.is_revoked(&identity, &issuers) {
            return Err(SvidError::Revoked);
        }
        Ok(identity)
    }

    /// Verifies a chain, leaf first, as [`TrustStore::verify`] does.
    pub fn verify_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<PeerIdentity, SvidError> {
        let (leaf, intermediates) = chain.split_first().ok_or(SvidError::NoCertificate)?;
        self.verify(leaf, intermediates, now, usage)
    }

    fn is_revoked(&self, identity: &PeerIdentity, issuers: &[Digest]) -> bool {
        let enrolment = identity.enrolment_id();
        let facts = CertificateFacts {
            spiffe_id: &identity.spiffe_id,
            leaf_spki: &identity.leaf_spki,
            issuer_spkis: issuers,
            enrolment_id: enrolment.as_deref(),
            issued_s: identity.not_before,
        };
        self.revocations
            .iter()
            .any(|stream| stream.revokes(facts).is_some())
    }
}

fn root(der: &CertificateDer<'_>) -> Option<Root> {
    let spki = Digest::of(svid::parse(der).ok()?.public_key().raw);
    let anchor = webpki::anchor_from_trusted_cert(der).ok()?.to_owned();
    Some(Root { anchor, spki })
}

/// Builds the chain and returns the keys of all who signed in it, root included.
fn chain_to(
    roots: &[Root],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<Vec<Digest>, SvidError> {
    let end_entity =
        EndEntityCert::try_from(leaf).map_err(|_error| SvidError::Malformed("not X.509"))?;
    let anchors: Vec<_> = roots.iter().map(|root| root.anchor.clone()).collect();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let path = end_entity
        .verify_for_usage(
            provider.signature_verification_algorithms.all,
            &anchors,
            intermediates,
            now,
            match usage {
                Usage::Server => KeyUsage::server_auth(),
                Usage::Client => KeyUsage::client_auth(),
            },
            None,
            None,
        )
        .map_err(|error| path_error(&error))?;
    issuers(&path, roots)
}

fn issuers(path: &VerifiedPath<'_>, roots: &[Root]) -> Result<Vec<Digest>, SvidError> {
    let mut issuers = Vec::new();
    for intermediate in path.intermediate_certificates() {
        svid::check_intermediate(&intermediate.der())?;
        issuers.push(Digest::of(&intermediate.subject_public_key_info()));
    }
    issuers.extend(
        roots
            .iter()
            .filter(|root| root.anchor == *path.anchor())
            .map(|root| root.spki),
    );
    Ok(issuers)
}

fn path_error(error: &webpki::Error) -> SvidError {
    match error {
        webpki::Error::CertExpired { .. } => SvidError::Expired,
        webpki::Error::CertNotValidYet { .. } => SvidError::NotYetValid,
        webpki::Error::RequiredEkuNotFoundContext(_) => SvidError::KeyUsage,
        other => SvidError::Untrusted(other.to_string()),
    }
}
