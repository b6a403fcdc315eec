//! A TLS connection for each request, made whole each time: nothing is resumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http1;
use crate::report::{Report, Tally};
use crate::{Drive, Failure};

const READ_BYTES: usize = 16 << 10;

/// Drives until the time is over.
pub(crate) async fn run(drive: &Drive) -> Result<Report, Failure> {
    let connector = connector(drive)?;
    let start = Instant::now();
    let until = start + Duration::from_millis(drive.millis);
    let connections: Vec<_> = (0..drive.connections)
        .map(|_| tokio::spawn(connections(drive.clone(), connector.clone(), until)))
        .collect();
    let mut tallies = Vec::new();
    for connection in connections {
        tallies.push(connection.await?);
    }
    Ok(Report::sum(tallies, start))
}

fn connector(drive: &Drive) -> Result<TlsConnector, Failure> {
    let file = drive.trust.as_ref().ok_or("--trust is missing")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connections(drive: Drive, connector: TlsConnector, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut buffer = vec![0; READ_BYTES];
    while Instant::now() < until {
        let begun = Instant::now();
        let outcome = one(&drive, &connector, &mut buffer).await;
        tally.add(outcome, begun.elapsed());
    }
    tally
}

async fn one(drive: &Drive, connector: &TlsConnector, buffer: &mut [u8]) -> Result<usize, Failure> {
    let tcp = TcpStream::connect(drive.to).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(drive.host.clone())?;
    let mut tls = connector.connect(name, tcp).await?;
    let requests = http1::requests(drive);
    tls.write_all(requests.first().map_or(&[][..], Vec::as_slice))
        .await?;
    let bytes = http1::answer(&mut tls, buffer).await?;
    tls.shutdown().await?;
    Ok(bytes)
}
