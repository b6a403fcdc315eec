//! TLS 1.3 between mesh peers: certificates are SVIDs on both sides, judged by the trust store of
//! the moment, so that neither a rotation nor a revocation needs a new configuration.
//!
//! Never there: earlier versions, renegotiation, 0-RTT, and resumption, which would take over the
//! verdict of an earlier handshake.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_bundle::spiffe::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    Error, OtherError, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use thiserror::Error as ThisError;

use super::svid::{PeerIdentity, Svid, SvidError, Usage};
use super::trust_store::TrustStore;
use crate::clock::Clock;
use crate::telemetry::TlsReason;

/// Why a TLS configuration could not be made.
#[derive(Debug, ThisError)]
#[error("configure TLS 1.3")]
pub struct TlsConfigError(#[source] Error);

/// What this process shows to its peers and what it judges them by. Clones share both, and every
/// configuration made from it follows later changes.
#[derive(Clone, Debug)]
pub struct Credentials {
    svid: Arc<ArcSwapOption<Svid>>,
    trust: Arc<ArcSwap<TrustStore>>,
    clock: Clock,
}

/// Whether an accepted connection must have a certificate. One that is shown is always verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one there is no connection.
    Required,
    /// A connection without one has no identity.
    Optional,
}

impl Credentials {
    /// No certificate yet, and trust in nobody.
    pub fn new(clock: Clock) -> Self {
        Self {
            svid: Arc::new(ArcSwapOption::empty()),
            trust: Arc::new(ArcSwap::from_pointee(TrustStore::empty())),
            clock,
        }
    }

    /// Shows this certificate from the next handshake on.
    pub fn set_svid(&self, svid: Arc<Svid>) {
        self.svid.store(Some(svid));
    }

    /// The certificate that is shown.
    pub fn svid(&self) -> Option<Arc<Svid>> {
        self.svid.load_full()
    }

    /// Judges by this from the next handshake on.
    pub fn set_trust(&self, trust: TrustStore) {
        let before = self.trust.load_full();
        self.trust.store(Arc::new(trust.after(&before)));
    }

    /// What peers are judged by.
    pub fn trust(&self) -> Arc<TrustStore> {
        self.trust.load_full()
    }

    /// What validity is judged by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Judges a chain as a handshake would now.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<PeerIdentity, SvidError> {
        self.trust
            .load()
            .verify_chain(chain, self.clock.unix_time(), usage)
    }

    /// Whether a connection that was made earlier may go on by today's trust: see [`TrustStore::verify_live`].
    pub fn judge_again(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<PeerIdentity, SvidError> {
        self.trust
            .load()
            .verify_live(chain, self.clock.unix_time(), usage)
    }

    /// For opening connections to a peer that must be one of `expected`. Shows our certificate, if
    /// there is one, to a server that asks.
    pub fn client_config(
        &self,
        expected: BTreeSet<SpiffeId>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, TlsConfigError> {
        let verifier = SvidVerifier {
            trust: Arc::clone(&self.trust),
            provider: provider(),
            expected,
            client_auth: ClientAuth::Required,
        };
        let resolver = Arc::new(ShownSvid(Arc::clone(&self.svid)));
        client_config(&self.clock, Arc::new(verifier), resolver, alpn)
    }

    /// For opening connections to one of `expected` without showing who we are: a certificate that is no longer good
    /// would be refused, where none is asked for.
    pub fn anonymous_client_config(
        &self,
        expected: BTreeSet<SpiffeId>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, TlsConfigError> {
        let verifier = SvidVerifier {
            trust: Arc::clone(&self.trust),
            provider: provider(),
            expected,
            client_auth: ClientAuth::Required,
        };
        let nothing = Arc::new(ShownSvid(Arc::new(ArcSwapOption::empty())));
        client_config(&self.clock, Arc::new(verifier), nothing, alpn)
    }

    /// For accepting connections.
    pub fn server_config(
        &self,
        client_auth: ClientAuth,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, TlsConfigError> {
        let provider = provider();
        let verifier = SvidVerifier {
            trust: Arc::clone(&self.trust),
            provider: Arc::clone(&provider),
            expected: BTreeSet::new(),
            client_auth,
        };
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsConfigError)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(ShownSvid(Arc::clone(&self.svid))));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

/// For the one connection on which nothing secret is sent and nothing is believed that is not
/// signed: any certificate will do, as long as the server has its key.
pub(crate) fn unverified_client_config(
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let verifier = Arc::new(AnyCertificate(provider()));
    let nothing = Arc::new(ShownSvid(Arc::new(ArcSwapOption::empty())));
    client_config(clock, verifier, nothing, alpn)
}

fn client_config(
    clock: &Clock,
    verifier: Arc<dyn ServerCertVerifier>,
    resolver: Arc<ShownSvid>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsConfigError)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // Peers are known by SPIFFE ID: a name would only be shown to whoever listens.
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The name to hand to a TLS connector: SVIDs are not for DNS names, so it is looked at by nobody.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])))
}

/// Always named explicitly: another crate in the process may install another default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Finds the reason in what a handshake or a read of an established connection failed with.
pub fn tls_reason(error: &io::Error) -> TlsReason {
    let mut source: Option<&(dyn StdError + 'static)> = error
        .get_ref()
        .map(|inner| inner as &(dyn StdError + 'static));
    while let Some(found) = source {
        if let Some(error) = found.downcast_ref::<Error>() {
            return rustls_reason(error);
        }
        if let Some(error) = found.downcast_ref::<io::Error>()
            && let Some(inner) = error.get_ref()
        {
            source = Some(inner);
            continue;
        }
        source = found.source();
    }
    TlsReason::TlsFailure
}

fn rustls_reason(error: &Error) -> TlsReason {
    match error {
        Error::InvalidCertificate(certificate) => certificate_reason(certificate),
        Error::NoCertificatesPresented
        | Error::AlertReceived(AlertDescription::CertificateRequired) => TlsReason::NoCertificate,
        // What the peer thought of our certificate: see `SvidError::into_rustls`.
        Error::AlertReceived(AlertDescription::CertificateExpired) => TlsReason::Expired,
        Error::AlertReceived(AlertDescription::CertificateRevoked) => TlsReason::Revoked,
        Error::AlertReceived(AlertDescription::UnknownCA) => TlsReason::WrongTrustDomain,
        Error::AlertReceived(AlertDescription::CertificateUnknown) => TlsReason::BadSpiffeId,
        _ => TlsReason::TlsFailure,
    }
}

fn certificate_reason(error: &CertificateError) -> TlsReason {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsReason::Expired,
        CertificateError::Revoked => TlsReason::Revoked,
        CertificateError::UnknownIssuer => TlsReason::WrongTrustDomain,
        CertificateError::Other(OtherError(other)) => other
            .downcast_ref::<SvidError>()
            .map_or(TlsReason::TlsFailure, SvidError::reason),
        _ => TlsReason::TlsFailure,
    }
}

/// Chooses the variant by the alert that rustls makes of it, so that the peer learns the reason.
fn into_rustls(error: SvidError) -> Error {
    let error = match error.reason() {
        TlsReason::Expired => CertificateError::Expired,
        TlsReason::Revoked => CertificateError::Revoked,
        TlsReason::WrongTrustDomain => {
            tracing::debug!(%error, "peer is not trusted");
            CertificateError::UnknownIssuer
        }
        TlsReason::NoCertificate => return Error::NoCertificatesPresented,
        TlsReason::BadSpiffeId | TlsReason::TlsFailure => {
            CertificateError::Other(OtherError(Arc::new(error)))
        }
    };
    Error::InvalidCertificate(error)
}

/// Judges the peer's certificate, on either side.
#[derive(Debug)]
struct SvidVerifier {
    trust: Arc<ArcSwap<TrustStore>>,
    provider: Arc<CryptoProvider>,
    /// Only looked at when judging a server.
    expected: BTreeSet<SpiffeId>,
    /// Only looked at when judging a client.
    client_auth: ClientAuth,
}

impl ServerCertVerifier for SvidVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self
            .trust
            .load()
            .verify(end_entity, intermediates, now, Usage::Server)
            .map_err(into_rustls)?;
        if self.expected.contains(&peer.spiffe_id) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(into_rustls(SvidError::Unexpected(
            peer.spiffe_id.to_string(),
        )))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes(&self.provider)
    }
}

impl ClientCertVerifier for SvidVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust
            .load()
            .verify(end_entity, intermediates, now, Usage::Client)
            .map_err(into_rustls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes(&self.provider)
    }
}

/// Believes nothing but that the server has the key of what it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        super::svid::check_size(end_entity, intermediates).map_err(into_rustls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(&self.0, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes(&self.0)
    }
}

fn signature(
    provider: &CryptoProvider,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &provider.signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signed, algorithms)
}

fn schemes(provider: &CryptoProvider) -> Vec<SignatureScheme> {
    provider
        .signature_verification_algorithms
        .supported_schemes()
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken".to_owned())
}

/// Shows whatever certificate we have now.
#[derive(Debug)]
struct ShownSvid(Arc<ArcSwapOption<Svid>>);

impl ShownSvid {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|svid| svid.certified())
    }
}

impl ResolvesClientCert for ShownSvid {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for ShownSvid {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

#[cfg(test)]
mod tests;
