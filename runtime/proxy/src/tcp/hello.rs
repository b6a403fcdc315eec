//! The name that a TLS client asks for, taken from its first bytes before anybody answers it.

use std::time::Duration;

use mesh_engine::client_hello::{ClientHello, HelloError, HelloReader};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Why there is no name to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHello {
    /// The peer went away without a word.
    Gone,
    /// It said too little in time.
    TimedOut,
    /// What it says is not taken.
    Refused(HelloError),
}

impl NoHello {
    /// As written in logs and metrics.
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::Gone | Self::TimedOut => "client_hello_timeout",
            Self::Refused(HelloError::NotTls) => "not_tls",
            Self::Refused(HelloError::TooLong) => "client_hello_too_large",
            Self::Refused(HelloError::Malformed) => "client_hello",
            Self::Refused(HelloError::ServerName) => "server_name",
        }
    }
}

/// Reads on after `prefix` until the name is known; empty: the client asks for none. What was read is
/// appended to `prefix`.
pub(crate) async fn server_name<IO: AsyncRead + Unpin>(
    io: &mut IO,
    prefix: &mut Vec<u8>,
    limit: Duration,
) -> Result<String, NoHello> {
    let hello = client_hello(io, prefix, limit).await?;
    Ok(hello.server_name.unwrap_or_default())
}

/// The same for all that is known of the client.
pub(crate) async fn client_hello<IO: AsyncRead + Unpin>(
    io: &mut IO,
    prefix: &mut Vec<u8>,
    limit: Duration,
) -> Result<ClientHello, NoHello> {
    let reading = async {
        let mut reader = HelloReader::default();
        let mut seen = 0;
        loop {
            let news = prefix.get(seen..).unwrap_or_default();
            match reader.read(news) {
                Ok(None) => seen = prefix.len(),
                Ok(Some(hello)) => return Ok(hello),
                Err(error) => return Err(NoHello::Refused(error)),
            }
            match io.read_buf(prefix).await {
                Ok(0) | Err(_) => return Err(NoHello::Gone),
                Ok(_) => {}
            }
        }
    };
    timeout(limit, reading)
        .await
        .unwrap_or(Err(NoHello::TimedOut))
}
