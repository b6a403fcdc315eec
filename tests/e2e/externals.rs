//! What leaves the mesh: by whom, and over which TLS.

use std::path::Path;
use std::sync::Arc;

use mesh_tests::{Failure, PolicyRepository, Response, http_request};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::support::{Bookshop, bookshop, bookshop_with, certificate_of};

const HOST: &str = "api.payments.example";
const CHARGES: &str = "/v1/charges";

fn call(shop: &Bookshop, from: &str, method: &str, path: &str) -> Result<Response, Failure> {
    http_request(shop.dev.instance(from)?.outbound, method, HOST, path, &[])
}

#[test]
fn only_those_leave_who_may_and_only_with_what_they_may() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let paid = call(&shop, "orders", "POST", CHARGES)?;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!(
        paid.header("x-echo-service"),
        Some("outside"),
        "something local stands in for it"
    );
    for (from, method, path) in [
        ("orders", "GET", CHARGES),
        ("orders", "POST", "/v1/refunds"),
        ("productpage", "POST", CHARGES),
    ] {
        let denied = call(&shop, from, method, path)?;
        assert_eq!(denied.status, 403, "{from} {method} {path}: {denied:?}");
        assert_eq!(denied.header("x-mesh-reason"), Some("authz_denied"));
    }
    Ok(())
}

/// A server that is no mesh peer; each answer tells the name that was asked for in the handshake.
struct Provider {
    address: std::net::SocketAddr,
    // Dropped, it ends.
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    fn start(pem: &Path) -> Result<Self, Failure> {
        let chain = vec![CertificateDer::from_pem_file(pem)?];
        let config =
            ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, PrivateKeyDer::from_pem_file(pem)?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let asked = tls.get_ref().1.server_name().unwrap_or_default().to_owned();
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = tls.read_u8().await else { return };
                        head.push(byte);
                    }
                    let answer = format!(
                        "HTTP/1.1 201 Created\r\nx-asked-for: {asked}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    );
                    drop(tls.write_all(answer.as_bytes()).await);
                    drop(tls.shutdown().await);
                });
            }
        });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }
}

/// A mesh that calls the provider itself, and trusts this certificate.
fn shop_with(provider: &Provider, trusted: &Path) -> Result<Bookshop, Failure> {
    bookshop_with(0, |folder: &Path, repository: &PolicyRepository| {
        let here = format!(
            "endpoints {{ static \"{}\" }}\n    port 80 dial=443 {{ tls min=\"1.3\" trust=provider }}",
            provider.address
        );
        let edits = [("port 80 dial=443 { tls min=\"1.3\" }", here.as_str())];
        repository.edit(&folder.join("edit"), "teams/checkout/payments.kdl", &edits)?;
        Ok(vec![
            "--externals=real".to_owned(),
            format!("--secret=provider={}", trusted.display()),
        ])
    })
}

#[test]
fn tls_begins_at_the_proxy_and_is_verified() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let [own, others] = ["own.pem", "others.pem"].map(|name| folder.path().join(name));
    for file in [&own, &others] {
        std::fs::write(file, certificate_of(HOST)?)?;
    }
    let provider = Provider::start(&own)?;
    let shop = shop_with(&provider, &own)?;
    let paid = call(&shop, "orders", "POST", CHARGES)?;
    assert_eq!(paid.status, 201, "{paid:?}");
    assert_eq!(paid.header("x-asked-for"), Some(HOST));
    drop(shop);
    let shop = shop_with(&provider, &others)?;
    let refused = call(&shop, "orders", "POST", CHARGES)?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("x-mesh-reason"), Some("tls_failure"));
    Ok(())
}
