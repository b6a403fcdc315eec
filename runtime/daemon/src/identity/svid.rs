//! X.509-SVIDs: what a certificate must look like to be one, and what is read from it.
//!
//! The rules are those of the SPIFFE standard, X.509-SVID: sections 2 (SPIFFE ID), 4 (constraints
//! and usage) and 5 (validation).

use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::spiffe::{SpiffeId, SpiffeIdError};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::csr::{WorkloadKey, WorkloadKeyError};
use crate::limits::{CERTIFICATE_BYTES_MAX, CHAIN_LENGTH_MAX};
use crate::telemetry::TlsReason;

/// Why a certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SvidError {
    /// The peer showed none.
    #[error("no certificate")]
    NoCertificate,
    /// More certificates, or larger ones, than are looked at.
    #[error("certificate chain too large")]
    TooLarge,
    /// Not X.509.
    #[error("certificate is malformed: {0}")]
    Malformed(&'static str),
    /// A leaf must have exactly one URI among its names.
    #[error("certificate has {0} URI names instead of one")]
    UriNames(usize),
    /// The URI is not a SPIFFE ID.
    #[error("certificate's URI is not a SPIFFE ID")]
    SpiffeId(#[source] SpiffeIdError),
    /// A leaf must not be an authority.
    #[error("leaf certificate is an authority")]
    LeafIsAuthority,
    /// A leaf must be for signatures and must not be for signing certificates or lists.
    #[error("leaf certificate has the wrong key usage")]
    KeyUsage,
    /// A certificate between leaf and root that must not sign others.
    #[error("intermediate certificate may not sign certificates")]
    IntermediateUsage,
    /// Before its first moment.
    #[error("certificate is not valid yet")]
    NotYetValid,
    /// After its last moment.
    #[error("certificate has expired")]
    Expired,
    /// No roots of this trust domain are held.
    #[error("trust domain {0} is not trusted")]
    UnknownTrustDomain(String),
    /// No chain to a root of the leaf's own trust domain.
    #[error("certificate does not lead to a root of its trust domain: {0}")]
    Untrusted(String),
    /// A list of revocations names it.
    #[error("certificate is revoked")]
    Revoked,
    /// A good certificate of someone else.
    #[error("peer is {0}, which was not expected")]
    Unexpected(String),
}

impl SvidError {
    /// The reason under which it is logged, counted and reported.
    pub fn reason(&self) -> TlsReason {
        match self {
            Self::NoCertificate => TlsReason::NoCertificate,
            Self::NotYetValid | Self::Expired => TlsReason::Expired,
            Self::UnknownTrustDomain(_) | Self::Untrusted(_) => TlsReason::WrongTrustDomain,
            Self::Revoked => TlsReason::Revoked,
            Self::TooLarge
            | Self::Malformed(_)
            | Self::UriNames(_)
            | Self::SpiffeId(_)
            | Self::LeafIsAuthority
            | Self::KeyUsage
            | Self::IntermediateUsage
            | Self::Unexpected(_) => TlsReason::BadSpiffeId,
        }
    }
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// By the side that accepted the connection.
    Server,
    /// By the side that opened it.
    Client,
}

/// What a leaf certificate says. That it is true was established by whoever verified the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The one SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// First second of validity, Unix time.
    pub not_before: u64,
    /// Last second of validity, Unix time.
    pub not_after: u64,
    /// SHA-256 of the subject public key info.
    pub leaf_spki: Digest,
    /// As an integer in big-endian bytes, without leading zeros.
    pub serial: Vec<u8>,
    public_key: Vec<u8>,
}

impl PeerIdentity {
    /// Reads a leaf, with every rule that a leaf can be checked for alone.
    pub fn from_leaf(leaf: &CertificateDer<'_>) -> Result<Self, SvidError> {
        let leaf = parse(leaf)?;
        check_leaf(&leaf)?;
        let spiffe_id = spiffe_id(&leaf)?;
        let (not_before, not_after) = validity(&leaf)?;
        Ok(Self {
            spiffe_id,
            not_before,
            not_after,
            leaf_spki: Digest::of(leaf.public_key().raw),
            serial: leaf.serial.to_bytes_be(),
            public_key: leaf.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Reads the peer of a finished handshake, whose chain TLS has verified.
    pub fn from_handshake(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, SvidError> {
        let leaf = chain
            .and_then(<[_]>::first)
            .ok_or(SvidError::NoCertificate)?;
        Self::from_leaf(leaf)
    }

    /// The enrolment that this certificate goes back to: see [`serial_number`].
    pub fn enrolment_id(&self) -> Option<String> {
        match self.serial.split_first() {
            Some((&SERIAL_LEAD, rest)) if rest.len() == 16 => rest.get(..8).map(hex::encode),
            _ => None,
        }
    }

    /// Verifies a signature that the peer's key made over DSSE's PAE, such as a status message's.
    pub fn verify_signature(&self, payload_type: &str, body: &[u8], signature: &[u8]) -> bool {
        let message = mesh_bundle::envelope::pae(payload_type, body);
        aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            &self.public_key,
        )
        .verify(&message, signature)
        .is_ok()
    }
}

/// First octet of every serial number: keeps the number positive and its length fixed.
const SERIAL_LEAD: u8 = 1;

/// The serial number of a certificate that an issuer of the mesh signs: the enrolment it goes back
/// to, then a random part. An enrolment is revoked by the first, in hex.
pub fn serial_number(enrolment: [u8; 8], random: [u8; 8]) -> [u8; 17] {
    let mut serial = [SERIAL_LEAD; 17];
    for (to, from) in serial
        .iter_mut()
        .skip(1)
        .zip(enrolment.into_iter().chain(random))
    {
        *to = from;
    }
    serial
}

/// This workload's own certificate and key, ready for TLS.
#[derive(Clone, Debug)]
pub struct Svid {
    identity: PeerIdentity,
    key: WorkloadKey,
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// Joins a chain, leaf first, and the key that the leaf is for. That the chain is trusted is
    /// for [`super::TrustStore::verify`] to say.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: WorkloadKey,
    ) -> Result<Self, SvidKeyError> {
        let identity = PeerIdentity::from_handshake(Some(&chain))?;
        if identity.public_key != key.public_key() {
            return Err(SvidKeyError::OtherKey);
        }
        let certified = Arc::new(CertifiedKey::new(chain, key.signing_key()?));
        Ok(Self {
            identity,
            key,
            certified,
        })
    }

    /// An SVID as a careless or hostile peer would show it.
    #[cfg(test)]
    pub(crate) fn unchecked(chain: Vec<CertificateDer<'static>>, key: &WorkloadKey) -> Self {
        let identity = PeerIdentity {
            spiffe_id: SpiffeId::parse("spiffe://nobody.example/x").unwrap(),
            not_before: 0,
            not_after: 0,
            leaf_spki: Digest::of(b""),
            serial: Vec::new(),
            public_key: Vec::new(),
        };
        Self {
            identity,
            key: key.clone(),
            certified: Arc::new(CertifiedKey::new(chain, key.signing_key().unwrap())),
        }
    }

    /// Whose it is.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.identity.spiffe_id
    }

    /// What the leaf says.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The key; status messages are signed with it.
    pub fn key(&self) -> &WorkloadKey {
        &self.key
    }

    /// Leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// As rustls wants it.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// When to renew: at half of its life, or up to a tenth of it sooner, so that a fleet that started
    /// together does not renew together. `spread` is a random number from 0 to 1.
    pub fn renew_at(&self, spread: f64) -> UnixTime {
        let life = self
            .identity
            .not_after
            .saturating_sub(self.identity.not_before);
        let life = Duration::from_secs(life);
        let after = life.mul_f64(0.4 + 0.1 * spread.clamp(0.0, 1.0));
        UnixTime::since_unix_epoch(Duration::from_secs(self.identity.not_before) + after)
    }
}

/// Why a chain and a key are not an SVID.
#[derive(Debug, Error)]
pub enum SvidKeyError {
    /// The leaf breaks the rules.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The leaf is for another key.
    #[error("certificate is for another key")]
    OtherKey,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] WorkloadKeyError),
}

/// Refuses chains that are too long or too large before anything is parsed.
pub(crate) fn check_size(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), SvidError> {
    let fits = |certificate: &CertificateDer<'_>| certificate.len() <= CERTIFICATE_BYTES_MAX;
    if intermediates.len() < CHAIN_LENGTH_MAX && fits(leaf) && intermediates.iter().all(fits) {
        return Ok(());
    }
    Err(SvidError::TooLarge)
}

/// Parses a certificate and nothing after it.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, SvidError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(SvidError::Malformed("bytes after the certificate")),
        Err(_) => Err(SvidError::Malformed("not X.509")),
    }
}

/// X.509-SVID, 4: a leaf is no authority, is for digital signatures, and signs no certificates and
/// no lists; extended usage, if stated, holds for both sides of TLS.
fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), SvidError> {
    let constraints = leaf
        .basic_constraints()
        .map_err(|_error| SvidError::Malformed("basic constraints"))?;
    if constraints.is_some_and(|found| found.value.ca) {
        return Err(SvidError::LeafIsAuthority);
    }
    let usage = leaf
        .key_usage()
        .map_err(|_error| SvidError::Malformed("key usage"))?
        .ok_or(SvidError::KeyUsage)?;
    let usage_fits = usage.critical
        && usage.value.digital_signature()
        && !usage.value.key_cert_sign()
        && !usage.value.crl_sign();
    if !usage_fits {
        return Err(SvidError::KeyUsage);
    }
    let extended = leaf
        .extended_key_usage()
        .map_err(|_error| SvidError::Malformed("extended key usage"))?;
    let extended_fits =
        extended.is_none_or(|found| found.value.server_auth && found.value.client_auth);
    if !extended_fits {
        return Err(SvidError::KeyUsage);
    }
    Ok(())
}

/// X.509-SVID, 4: whatever signs a leaf is an authority and says so.
pub(crate) fn check_intermediate(der: &CertificateDer<'_>) -> Result<(), SvidError> {
    let certificate = parse(der)?;
    let is_authority = certificate
        .basic_constraints()
        .map_err(|_error| SvidError::Malformed("basic constraints"))?
        .is_some_and(|found| found.value.ca);
    let may_sign = certificate
        .key_usage()
        .map_err(|_error| SvidError::Malformed("key usage"))?
        .is_some_and(|found| found.value.key_cert_sign());
    if is_authority && may_sign {
        return Ok(());
    }
    Err(SvidError::IntermediateUsage)
}

/// X.509-SVID, 2: exactly one URI name, and it is the SPIFFE ID. A NUL or anything else that is not
/// of a SPIFFE ID's alphabet makes it none.
fn spiffe_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = leaf
        .subject_alternative_name()
        .map_err(|_error| SvidError::Malformed("subject alternative name"))?;
    let mut uris = names
        .iter()
        .flat_map(|found| &found.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let (first, others) = (uris.next(), uris.count());
    let uri = match (first, others) {
        (Some(uri), 0) => uri,
        (None, _) => return Err(SvidError::UriNames(0)),
        (Some(_), others) => return Err(SvidError::UriNames(others + 1)),
    };
    // A SPIFFE ID without a path names a trust domain and not a workload; it does not parse.
    SpiffeId::parse(uri).map_err(SvidError::SpiffeId)
}

fn validity(leaf: &X509Certificate<'_>) -> Result<(u64, u64), SvidError> {
    let seconds = |time: i64| {
        u64::try_from(time).map_err(|_error| SvidError::Malformed("validity before 1970"))
    };
    let validity = leaf.validity();
    Ok((
        seconds(validity.not_before.timestamp())?,
        seconds(validity.not_after.timestamp())?,
    ))
}
