//! The roots of each trust domain and the revocations, and the verification of a chain by both.
//!
//! There is no merged root store: the leaf says which trust domain it is of, and only that domain's
//! roots are tried, so that a federated authority can vouch for its own domain and no other.

use std::collections::BTreeMap;

use mesh_bundle::digest::Digest;
use mesh_bundle::revocations::{CertificateFacts, Revocations};
use mesh_bundle::trust_bundle::TrustBundle;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::svid::{self, PeerIdentity, SvidError, Usage};

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

    /// Verifies a chain, leaf first, as [`TrustStore::verify`] does: for connections that live on
    /// when trust changes.
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
