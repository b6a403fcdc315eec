//! Certificates that clients of a gateway must show.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{
    ClientCertificate, Port, Principal, Protocol, ServerTls, Slice, TlsVersion,
};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::harness::*;
use crate::secrets::tests::certificate;
use crate::secrets::{SecretPath, Secrets, provider};

const HTTPS: u16 = 8443;

type Sender = hyper::client::conn::http1::SendRequest<TestBody>;

/// A gateway with two sets of roots for clients: `clients` and `others`.
struct Shop {
    mesh: Mesh,
    gateway: Proxy,
    reviews: Proxy,
    root: CertificateDer<'static>,
    /// Certificate and key, in PEM.
    client: String,
    other: String,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let mesh = Mesh::new();
        let application = Application::named("v1").await;
        let reviews = mesh.proxy("reviews", Some(application.address));
        let mut admitting = mesh.admitting("reviews", &[]);
        let gateway = mesh.authority.id("/gateway/public");
        admitting.access.services[0].rules = vec![allow(Principal::SpiffeId(gateway))];
        reviews.apply(&admitting);
        let folder = tempfile::tempdir().unwrap();
        let (shown, root) = certificate("shop.example");
        let (client, _) = certificate("client.example");
        let (other, _) = certificate("other.example");
        let given = [
            ("shop-cert", &shown),
            ("clients", &client),
            ("others", &other),
        ];
        let paths = given.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let name = name.to_owned();
            SecretPath { name, path }
        });
        let credentials = mesh.authority.credentials("/gateway/public");
        let secrets = Secrets::read(&paths).unwrap();
        let gateway = Proxy::start_with(credentials, None, secrets);
        let at = endpoints("reviews", &[("v1", reviews.inbound())]);
        gateway.plane.set_endpoints(at);
        Self {
            mesh,
            gateway,
            reviews,
            root,
            client,
            other,
            _folder: folder,
        }
    }

    fn slice(&self, client: ClientCertificate, trust: Option<&str>) -> Slice {
        let port = Port {
            number: HTTPS,
            protocol: Protocol::Http,
        };
        let calling = self.mesh.calling(vec![route()]);
        let rules = vec![allow(Principal::Unauthenticated)];
        let mut slice = self.mesh.entered_by(calling, port, "shop.example", rules);
        slice.access.services[0].listeners[0].tls = Some(ServerTls {
            certificate: "shop-cert".to_owned(),
            trust: trust.map(str::to_owned),
            client,
            min: TlsVersion::V1_2,
        });
        slice
    }

    fn ask_for(&self, client: ClientCertificate, trust: Option<&str>) {
        self.gateway.apply(&self.slice(client, trust));
    }

    /// A connection of whoever shows this.
    async fn connect(
        &self,
        shown: Option<&str>,
        version: &'static SupportedProtocolVersion,
    ) -> Option<Sender> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(pem) => {
                let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        let tcp = TcpStream::connect(self.gateway.listener(HTTPS))
            .await
            .unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, tcp).await.ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    /// The status of a request on a connection of its own; none: it was not met. TLS 1.3 tells a client that its
    /// certificate will not do only after the handshake.
    async fn ask(
        &self,
        shown: Option<&str>,
        version: &'static SupportedProtocolVersion,
    ) -> Option<StatusCode> {
        let mut sender = self.connect(shown, version).await?;
        on(&mut sender).await
    }
}

async fn on(sender: &mut Sender) -> Option<StatusCode> {
    let request = Request::get("/")
        .header("host", "shop.example")
        .header("x-forwarded-client-cert", "Subject=\"CN=root\"")
        .body(empty())
        .unwrap();
    let got = read(sender.send_request(request).await.ok()?).await.ok()?;
    assert!(!got.headers.contains_key("got-x-forwarded-client-cert"));
    Some(got.status)
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn only_who_shows_a_certificate_of_these_roots_is_met() {
    let shop = Shop::open().await;
    shop.ask_for(ClientCertificate::Required, Some("clients"));
    for version in VERSIONS {
        let good = shop.ask(Some(&shop.client), version).await;
        assert_eq!(good, Some(StatusCode::OK), "{version:?}");
        assert_eq!(shop.ask(None, version).await, None, "{version:?}");
        assert_eq!(
            shop.ask(Some(&shop.other), version).await,
            None,
            "{version:?}"
        );
    }
    let metrics = shop.gateway.metrics.encode();
    assert!(metrics.contains("reason=\"tls_failure\""), "{metrics}");
}

#[tokio::test]
async fn an_optional_certificate_must_be_good_all_the_same() {
    let shop = Shop::open().await;
    shop.ask_for(ClientCertificate::Optional, Some("clients"));
    for version in VERSIONS {
        assert_eq!(shop.ask(None, version).await, Some(StatusCode::OK));
        let good = shop.ask(Some(&shop.client), version).await;
        assert_eq!(good, Some(StatusCode::OK));
        assert_eq!(shop.ask(Some(&shop.other), version).await, None);
    }
}

#[tokio::test]
async fn a_connection_that_was_met_before_must_come_again() {
    let shop = Shop::open().await;
    let met_by = async |shown: Option<&str>| {
        let mut sender = shop.connect(shown, &rustls::version::TLS13).await.unwrap();
        assert_eq!(on(&mut sender).await, Some(StatusCode::OK));
        sender
    };
    shop.ask_for(ClientCertificate::None, None);
    let mut open = met_by(None).await;
    shop.ask_for(ClientCertificate::Optional, Some("clients"));
    let mut known = met_by(Some(&shop.client)).await;
    shop.ask_for(ClientCertificate::Required, Some("clients"));
    assert_eq!(on(&mut open).await, Some(StatusCode::MISDIRECTED_REQUEST));
    // It may not have shown one.
    assert_eq!(on(&mut known).await, Some(StatusCode::MISDIRECTED_REQUEST));
    let mut required = met_by(Some(&shop.client)).await;
    shop.ask_for(ClientCertificate::Required, Some("others"));
    assert_eq!(
        on(&mut required).await,
        Some(StatusCode::MISDIRECTED_REQUEST)
    );
    let mut other = met_by(Some(&shop.other)).await;
    // Where less is asked, nobody need come again.
    shop.ask_for(ClientCertificate::None, None);
    assert_eq!(on(&mut other).await, Some(StatusCode::OK));
    drop(shop.reviews);
}

#[tokio::test]
async fn roots_that_the_proxy_was_not_given_are_missed_before_anything_changes() {
    let shop = Shop::open().await;
    let slice = shop.slice(ClientCertificate::Required, Some("nobodys"));
    let refused = shop.gateway.plane.prepare(&slice, "0.1.2").unwrap_err();
    let told = crate::subscribe::chain(&refused);
    assert!(told.contains("--secret nobodys=FILE"), "{told}");
}
