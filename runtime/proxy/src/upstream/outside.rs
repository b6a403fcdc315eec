//! TLS towards services that are not of the mesh: verified against given roots or the system's, by the
//! name that policy says. There is no way from here to leave a certificate unverified.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error as ThisError;

use super::connect::{Carries, HttpVersion};
use crate::gateway::tls::{HTTP1, HTTP2};
use crate::secrets::{Secrets, provider};

/// Where distributions keep the roots of the system.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is asked of the other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Terms {
    /// The name that is asked for.
    pub(crate) name: String,
    /// Names of which its certificate must have one; empty: the name that is asked for.
    pub(crate) alternatives: Vec<String>,
    /// Name of the roots that its certificate must lead to; none: the system's.
    pub(crate) trust: Option<String>,
    /// Name of the certificate that is shown to it.
    pub(crate) certificate: Option<String>,
    /// Whether TLS 1.2 is refused.
    pub(crate) only_tls13: bool,
}

/// Why these terms cannot be kept.
#[derive(Debug, ThisError)]
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
    /// No roots at all.
    #[error("this system has no roots, in {}; policy can name some with `trust=`", SYSTEM_ROOTS.join(", "))]
    NoRoots,
    /// A name that no certificate has.
    #[error("{name:?} is no name of a server")]
    Name {
        /// The name.
        name: String,
    },
    /// rustls refuses.
    #[error("configure TLS towards {name}: {detail}")]
    Tls {
        /// The name that is asked for.
        name: String,
        /// Why.
        detail: String,
    },
}

/// TLS towards one service that is not of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct OutsideClient {
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

impl OutsideClient {
    /// For these terms.
    pub(crate) fn new(terms: &Terms, secrets: &Secrets) -> Result<Self, TermsError> {
        let config = |alpn: &[&[u8]]| config(terms, secrets, alpn).map(Arc::new);
        Ok(Self {
            name: server_name(&terms.name)?,
            http1: config(&[HTTP1])?,
            http2: config(&[HTTP2])?,
            bytes: config(&[])?,
        })
    }

    /// The name that is asked for.
    pub(crate) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// What to connect with.
    pub(crate) fn config(&self, carries: Carries) -> Arc<ClientConfig> {
        Arc::clone(match carries {
            Carries::Http(HttpVersion::Http1) => &self.http1,
            Carries::Http(HttpVersion::Http2) => &self.http2,
            Carries::Bytes => &self.bytes,
        })
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TermsError> {
    ServerName::try_from(name.to_owned()).map_err(|_malformed| TermsError::Name {
        name: name.to_owned(),
    })
}

fn config(terms: &Terms, secrets: &Secrets, alpn: &[&[u8]]) -> Result<ClientConfig, TermsError> {
    let failed = |detail: String| TermsError::Tls {
        name: terms.name.clone(),
        detail,
    };
    let provider = Arc::new(provider());
    let roots = match &terms.trust {
        Some(trust) => given_roots(trust, secrets)?,
        None => system_roots(SYSTEM_ROOTS.iter().map(Path::new)).ok_or(TermsError::NoRoots)?,
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let names = if terms.alternatives.is_empty() {
        vec![server_name(&terms.name)?]
    } else {
        let names = terms.alternatives.iter();
        names
            .map(|name| server_name(name))
            .collect::<Result<_, _>>()?
    };
    let versions: &[&SupportedProtocolVersion] = if terms.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OneOf { names, inner }));
    let mut config = match &terms.certificate {
        None => config.with_no_client_auth(),
        Some(name) => {
            let shown = secrets.get(name);
            let shown = shown.ok_or_else(|| TermsError::Unknown { name: name.clone() })?;
            if shown.key.is_none() {
                return Err(TermsError::NoKey { name: name.clone() });
            }
            config.with_client_cert_resolver(Arc::new(Shown {
                secrets: secrets.clone(),
                name: name.clone(),
            }))
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn given_roots(name: &str, secrets: &Secrets) -> Result<RootCertStore, TermsError> {
    let material = secrets.get(name).ok_or_else(|| TermsError::Unknown {
        name: name.to_owned(),
    })?;
    let mut roots = RootCertStore::empty();
    for root in &material.certificates {
        roots.add(root.clone()).map_err(|error| TermsError::Tls {
            name: name.to_owned(),
            detail: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// The first of these files that is there; a root in it that cannot be used is left out, as every
/// program on the system does.
fn system_roots<'p>(mut files: impl Iterator<Item = &'p Path>) -> Option<RootCertStore> {
    let found = files.find(|file| file.is_file())?;
    let read = CertificateDer::pem_file_iter(found).ok()?;
    let mut roots = RootCertStore::empty();
    let (usable, _left_out) = roots.add_parsable_certificates(read.flatten());
    (usable > 0).then_some(roots)
}

/// Accepts a certificate that is good for one of several names.
#[derive(Debug)]
struct OneOf {
    /// Never empty.
    names: Vec<ServerName<'static>>,
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OneOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut verdict = Err(CertificateError::NotValidForName.into());
        for name in &self.names {
            verdict =
                self.inner
                    .verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The certificate that a name stands for at the moment of the handshake.
#[derive(Debug)]
struct Shown {
    secrets: Secrets,
    name: String,
}

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.secrets.get(&self.name)?.key.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether an address that a name resolved to may be dialled for a service outside the mesh. Whoever
/// holds the name must not be able to point a proxy at its own machine: its neighbours' admin ports, or
/// the cloud's metadata, which is credentials.
pub(crate) fn may_be_dialled(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                // "This network" (RFC 1122 section 3.2.1.3); Linux dials itself.
                || v4.octets()[0] == 0
                // The metadata service of Alibaba Cloud, in the range of carriers' NAT.
                || v4.octets() == [100, 100, 100, 200])
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                // The metadata service of AWS over IPv6.
                || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
                // Of the deprecated form of an IPv4 address, `::a.b.c.d` (RFC 4291 section 2.5.5.1).
                || v6.segments()[..6] == [0; 6])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_to_the_machine_itself_or_to_its_metadata() {
        for forbidden in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
        ] {
            assert!(!may_be_dialled(forbidden.parse().unwrap()), "{forbidden}");
        }
        for allowed in ["10.0.0.1", "203.0.113.1", "2001:db8::1", "100.64.0.1"] {
            assert!(may_be_dialled(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn roots_of_the_system_are_those_of_the_first_file_there() {
        let folder = tempfile::tempdir().unwrap();
        let (text, _) = crate::secrets::tests::certificate("root.example");
        let file = folder.path().join("roots.pem");
        std::fs::write(&file, format!("# a comment\n{text}")).unwrap();
        let missing = folder.path().join("missing.pem");
        let roots = system_roots([missing.as_path(), file.as_path()].into_iter());
        assert_eq!(roots.map(|roots| roots.len()), Some(1));
        assert!(system_roots([missing.as_path()].into_iter()).is_none());
    }

    #[test]
    fn terms_that_cannot_be_kept_are_refused() {
        let refused = |change: fn(&mut Terms)| {
            let mut terms = Terms {
                name: "api.stripe.com".to_owned(),
                alternatives: Vec::new(),
                trust: Some("roots".to_owned()),
                certificate: None,
                only_tls13: false,
            };
            change(&mut terms);
            OutsideClient::new(&terms, &Secrets::default())
                .unwrap_err()
                .to_string()
        };
        assert!(refused(|_| {}).contains("--secret roots=FILE"));
        assert!(refused(|terms| "a b".clone_into(&mut terms.name)).contains("no name of a server"));
    }
}
