//! What several cases need: a running bookshop, and questions to its proxies.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_tests::{
    Dev, DevOptions, Failure, PolicyRepository, ProxyConfig, Response, http_get, workspace_root,
};

/// How long a condition may take to come true before the case has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The bookshop on this machine, with its folder.
pub(crate) struct Bookshop {
    pub(crate) dev: Dev,
    // Last: the processes end before their folder goes.
    _folder: tempfile::TempDir,
}

/// Starts the bookshop; the demo traffic only where a case asks for it.
pub(crate) fn bookshop(rate: u32) -> Result<Bookshop, Failure> {
    bookshop_with(rate, |_, _| Ok(Vec::new()))
}

/// The same, after something was prepared in its folder and repository; gives further arguments of
/// `meshd dev`.
pub(crate) fn bookshop_with(
    rate: u32,
    prepare: impl FnOnce(&Path, &PolicyRepository) -> Result<Vec<String>, Failure>,
) -> Result<Bookshop, Failure> {
    let folder = tempfile::Builder::new().prefix("mesh-e2e-").tempdir()?;
    let policies = workspace_root().join("policies/examples/bookshop");
    let repository = PolicyRepository::create(folder.path(), &policies)?;
    let mut options = DevOptions {
        arguments: vec!["--rate".to_owned(), rate.to_string()],
    };
    let prepared = prepare(folder.path(), &repository)?;
    options.arguments.extend(prepared);
    let dev = Dev::start(repository.path(), folder.path(), &options)?;
    Ok(Bookshop {
        dev,
        _folder: folder,
    })
}

impl Bookshop {
    /// A GET as the application of `from` would send it.
    pub(crate) fn get(
        &self,
        from: &str,
        to: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, Failure> {
        http_get(self.dev.instance(from)?.outbound, to, path, headers)
    }

    /// What the first proxy of a service says it serves.
    pub(crate) fn served(&self, service: &str) -> Result<ProxyConfig, Failure> {
        let proxies = self.dev.proxies()?;
        proxies
            .into_iter()
            .find(|proxy| proxy.service == service)
            .ok_or_else(|| Failure::new(format!("no proxy of {service}")))
    }

    /// All metrics of the first proxy of a service.
    pub(crate) fn metrics(&self, service: &str) -> Result<String, Failure> {
        let instance = self.dev.instance(service)?;
        Ok(http_get(instance.metrics, "localhost", "/metrics", &[])?.body)
    }

    /// The sum of a metric of one proxy over the series that contain all of `labels`.
    pub(crate) fn metric(
        &self,
        service: &str,
        name: &str,
        labels: &[&str],
    ) -> Result<f64, Failure> {
        sum(&self.metrics(service)?, name, labels)
    }
}

/// The sum of a metric in Prometheus text over the series that contain all of `labels`.
pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        if !rest.starts_with(['{', ' ']) || !labels.iter().all(|label| rest.contains(label)) {
            continue;
        }
        let value = rest.rsplit(' ').next().unwrap_or_default();
        sum += value.parse::<f64>()?;
    }
    Ok(sum)
}

/// Certificate and key of a server that only those trust who are given the certificate, as PEM.
pub(crate) fn certificate_of(host: &str) -> Result<String, Failure> {
    let mut params = rcgen::CertificateParams::new([host.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// One request over TLS, as a browser sends it that trusts one certificate.
pub(crate) fn https(
    to: SocketAddr,
    name: &str,
    trusted: &Path,
    request: &str,
) -> Result<Response, Failure> {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted)?)?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned())?;
    runtime()?.block_on(async {
        let tcp = tokio::net::TcpStream::connect(to).await?;
        let mut tls = connector.connect(name, tcp).await?;
        tls.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await?;
        Response::parse(&answer)
    })
}

/// For cases that need sockets that nobody else offers.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
