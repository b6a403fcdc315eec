//! TLS towards clients that are no mesh peers: 1.2 and 1.3, with certificates that are given to the
//! proxy by name and followed when their files change.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;

use crate::secrets::{Secrets, provider};

/// ALPN of HTTP/2 (RFC 9113 section 3.2).
pub(crate) const HTTP2: &[u8] = b"h2";
/// ALPN of HTTP/1.1 (RFC 7301 section 6).
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// How clients of a listener are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Name of the certificate.
    pub(crate) certificate: String,
    /// Name of the roots that certificates of clients must lead to; none: clients need none.
    pub(crate) clients: Option<String>,
    /// Whether a client may come without one all the same.
    pub(crate) optional: bool,
    /// Whether TLS 1.2 is refused.
    pub(crate) only_tls13: bool,
}

/// Why clients cannot be met as policy says.
#[derive(Debug, Error)]
pub(crate) enum TermsError {
    /// Policy uses a name that this proxy was not given.
    #[error("no key material is called {name}; this proxy needs --secret {name}=FILE")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A certificate without its key.
    #[error("the key material {name} has no private key, so it is no certificate to show")]
    NoKey {
        /// The name.
        name: String,
    },
    /// rustls refuses.
    #[error("configure TLS for the clients of {name}: {source}")]
    Tls {
        /// The name of the certificate.
        name: String,
        /// Why.
        source: rustls::Error,
    },
    /// Roots that are none.
    #[error("the roots {name} cannot be used: {detail}")]
    Roots {
        /// The name.
        name: String,
        /// Why.
        detail: String,
    },
}

/// A configuration for these terms.
pub(crate) fn server_config(
    terms: &Terms,
    secrets: &Secrets,
) -> Result<Arc<ServerConfig>, TermsError> {
    let name = &terms.certificate;
    let unknown = |name: &String| TermsError::Unknown { name: name.clone() };
    let shown = secrets.get(name).ok_or_else(|| unknown(name))?;
    if shown.key.is_none() {
        return Err(TermsError::NoKey { name: name.clone() });
    }
    let provider = Arc::new(provider());
    let clients = match &terms.clients {
        None => Arc::new(NoClientAuth) as Arc<_>,
        Some(trust) => {
            let material = secrets.get(trust).ok_or_else(|| unknown(trust))?;
            let bad = |detail: String| TermsError::Roots {
                name: trust.clone(),
                detail,
            };
            let mut roots = RootCertStore::empty();
            for root in &material.certificates {
                roots
                    .add(root.clone())
                    .map_err(|error| bad(error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = if terms.optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            verifier.build().map_err(|error| bad(error.to_string()))?
        }
    };
    let versions: &[&SupportedProtocolVersion] = if terms.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|source| TermsError::Tls {
            name: name.clone(),
            source,
        })?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(Shown {
            secrets: secrets.clone(),
            name: name.clone(),
        }));
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    // Early data can be replayed, and whether a request bears that is not ours to say.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The certificate that a name stands for at the moment of the handshake.
#[derive(Debug)]
struct Shown {
    secrets: Secrets,
    name: String,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.secrets.get(&self.name)?.key.clone()
    }
}
