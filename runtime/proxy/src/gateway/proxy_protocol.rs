//! The client of a connection that a proxy in front passes on, as that proxy says in the PROXY protocol; asked of
//! trusted proxies alone, before the first byte of the client.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use mesh_engine::proxy_protocol::{self, Header, Progress, ProxyProtocolError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Why it is not known who the client is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoClient {
    /// Anybody else could claim to be anyone.
    #[error("{0} is no trusted proxy")]
    Stranger(IpAddr),
    /// It ended, or said too little in time.
    #[error("no header came")]
    Nothing,
    /// What came is no header.
    #[error(transparent)]
    Malformed(#[from] ProxyProtocolError),
}

/// Proxies whose word is taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(pub(crate) Vec<IpNet>);

impl TrustedProxies {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Reads whose connection it is. Not a byte of the client's is read.
    pub(crate) async fn client<IO: AsyncRead + Unpin>(
        &self,
        io: &mut IO,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<SocketAddr, NoClient> {
        if !self.contains(peer.ip()) {
            return Err(NoClient::Stranger(peer.ip()));
        }
        let header = timeout(limit, read(io)).await;
        let header = header.unwrap_or(Err(NoClient::Nothing))?;
        Ok(match header {
            Header::Proxied { client } => client,
            Header::Itself => peer,
        })
    }
}

async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> Result<Header, NoClient> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::parse(&bytes)? {
            Progress::Done(header) => return Ok(header),
            // Bounded, as a header is.
            Progress::Needs(more) => {
                let read = (&mut *io).take(more as u64).read_buf(&mut bytes).await;
                if !matches!(read, Ok(1..)) {
                    return Err(NoClient::Nothing);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_trusted_proxies_are_asked_and_only_for_the_header() {
        let trusted = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap()]);
        let header = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\n";
        let mut bytes = header.as_slice();
        let proxy = "[::ffff:10.1.2.3]:4".parse().unwrap();
        let client = trusted
            .client(&mut bytes, proxy, Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(client.to_string(), "192.0.2.1:56324");
        assert_eq!(bytes, b"GET / HTTP/1.1\r\n");
        let mut bytes = header.as_slice();
        let stranger = "192.0.2.9:4".parse().unwrap();
        let refused = trusted
            .client(&mut bytes, stranger, Duration::from_secs(10))
            .await;
        assert!(matches!(refused, Err(NoClient::Stranger(_))), "{refused:?}");
        let mut bytes = b"PROXY TCP4 192".as_slice();
        let ended = trusted
            .client(&mut bytes, proxy, Duration::from_secs(10))
            .await;
        assert!(matches!(ended, Err(NoClient::Nothing)), "{ended:?}");
        let mut bytes = b"GET / HTTP/1.1\r\n".as_slice();
        let none = trusted
            .client(&mut bytes, proxy, Duration::from_secs(10))
            .await;
        assert!(matches!(none, Err(NoClient::Malformed(_))), "{none:?}");
    }
}
