//! Who gets in: nobody without a certificate, from another trust domain, expired, or not allowed; and
//! each refusal has its reason.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{Credentials, Svid, TrustStore, WorkloadKey};
use mesh_tests::{Failure, wait_until};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Bookshop, LIMIT, bookshop, runtime, sum};

const SERVER: &str = "reviews";

/// What a peer that goes straight to the inbound port gets to read.
async fn dial(shop: &Bookshop, credentials: &Credentials) -> Result<Vec<u8>, Failure> {
    let inbound: SocketAddr = shop.dev.instance(SERVER)?.inbound;
    let identity = SpiffeId::parse("spiffe://bookshop.example/service/reviews")?;
    let config = credentials.client_config([identity].into(), &[b"mesh-h1"])?;
    let tcp = TcpStream::connect(inbound).await?;
    let connector = TlsConnector::from(config);
    let mut answer = Vec::new();
    let name = mesh_daemon::identity::tls::server_name();
    // In TLS 1.3 the client learns of the refusal when it first reads.
    if let Ok(mut tls) = connector.connect(name, tcp).await {
        let request = b"GET /reviews/7 HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n";
        if tls.write_all(request).await.is_ok() {
            drop(tls.read_to_end(&mut answer).await);
        }
    }
    Ok(answer)
}

/// Waits for the refusal of a handshake to be counted for this reason.
fn wait_counted(shop: &Bookshop, reason: &str) -> Result<(), Failure> {
    const NAME: &str = "mesh_tls_handshakes_failed_total";
    wait_until("the refusal is counted", LIMIT, || {
        let metrics = shop.metrics(SERVER)?;
        if sum(&metrics, NAME, &[&format!("reason=\"{reason}\"")])? >= 1.0 {
            return Ok(());
        }
        let told: Vec<&str> = metrics
            .lines()
            .filter(|line| line.starts_with(NAME))
            .collect();
        Err(Failure::new(format!("{reason} is not among {told:?}")))
    })
}

/// Credentials that trust the bookshop and show a forged certificate of this identity, or none.
fn stranger(shop: &Bookshop, spiffe_id: Option<&str>) -> Result<Credentials, Failure> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    let ca = CertificateDer::from_pem_file(shop.dev.state().join("trust/trust/ca.pem"))?;
    let credentials = Credentials::new(Clock::system());
    credentials.set_trust(TrustStore::empty().with_roots("bookshop.example", [ca.as_ref()])?);
    if let Some(spiffe_id) = spiffe_id {
        credentials.set_svid(Arc::new(forged(spiffe_id)?));
    }
    Ok(credentials)
}

/// A certificate that is good in every way, but for the authority, which nobody has heard of.
fn forged(spiffe_id: &str) -> Result<Svid, Failure> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.subject_alt_names = vec![SanType::URI(spiffe_id.try_into()?)];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let key = KeyPair::generate()?;
    let chain = vec![leaf.signed_by(&key, &authority)?.der().clone()];
    Ok(Svid::new(
        chain,
        WorkloadKey::from_pkcs8(&key.serialize_der())?,
    )?)
}

#[test]
fn a_peer_without_a_certificate_is_refused() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let answer = runtime()?.block_on(dial(&shop, &stranger(&shop, None)?))?;
    assert_eq!(String::from_utf8_lossy(&answer), "");
    wait_counted(&shop, "no_certificate")
}

#[test]
fn a_peer_of_another_trust_domain_is_refused() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let identity = "spiffe://elsewhere.example/service/productpage";
    let credentials = stranger(&shop, Some(identity))?;
    let answer = runtime()?.block_on(dial(&shop, &credentials))?;
    assert_eq!(String::from_utf8_lossy(&answer), "");
    wait_counted(&shop, "wrong_trust_domain")
}

#[test]
fn a_forged_authority_of_the_own_trust_domain_is_refused() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let identity = "spiffe://bookshop.example/service/productpage";
    let credentials = stranger(&shop, Some(identity))?;
    let answer = runtime()?.block_on(dial(&shop, &credentials))?;
    assert_eq!(String::from_utf8_lossy(&answer), "");
    wait_counted(&shop, "wrong_trust_domain")
}

#[test]
fn plaintext_is_refused() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let inbound = shop.dev.instance(SERVER)?.inbound;
    let answer = mesh_tests::http_get(inbound, "reviews", "/reviews/7", &[]);
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status != 200),
        "{answer:?}"
    );
    wait_counted(&shop, "tls_failure")
}

#[test]
fn a_peer_that_is_not_allowed_is_refused_with_a_reason() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    // A path that no rule of the callee allows: refused where the callee's own proxy decides.
    let denied = shop.get("reviews", "ratings", "/admin", &[])?;
    assert_eq!(denied.status, 403, "{denied:?}");
    assert_eq!(denied.header("x-mesh-reason"), Some("authz_denied"));
    // The callee counts when its answer has left, which its caller may read before.
    wait_until("the refusal is counted", LIMIT, || {
        let labels = ["reporter=\"destination\"", "reason=\"authz_denied\""];
        if shop.metric("ratings", "mesh_requests_total", &labels)? >= 1.0 {
            return Ok(());
        }
        Err(Failure::new("not counted"))
    })?;
    // A service that the caller may not know of: refused before it leaves.
    let unknown = shop.get("details", "ratings", "/ratings/7", &[])?;
    assert_eq!(unknown.status, 403, "{unknown:?}");
    assert_eq!(unknown.header("x-mesh-reason"), Some("authz_denied"));
    Ok(())
}
