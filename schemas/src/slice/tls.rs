//! TLS that is not the mesh's own. Certificates and authorities are names of key material that the
//! proxy is given; none is in a slice.

/// TLS that a proxy ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate and key.
    pub certificate: String,
    /// Authorities of client certificates.
    pub trust: Option<String>,
    /// Whether clients need a certificate.
    pub client: ClientCertificate,
    /// Lowest version.
    pub min: TlsVersion,
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None is asked for.
    #[default]
    None,
    /// Verified when there is one.
    Optional,
    /// Verified, and without one there is no connection.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    #[default]
    V1_2,
    /// TLS 1.3, RFC 8446.
    V1_3,
}

/// TLS to a peer that is not of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// None: the host.
    pub sni: Option<String>,
    /// Names of which the peer's certificate must have one; empty: the SNI.
    pub sans: Vec<String>,
    /// None: the authorities of the system.
    pub trust: Option<String>,
    /// None: no client certificate.
    pub certificate: Option<String>,
    /// Lowest version.
    pub min: TlsVersion,
}
