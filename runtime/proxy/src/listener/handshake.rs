//! TLS as a server: the handshake, its bounds, and how whoever is refused learns why.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::data_plane::Plane;
use crate::limits;

/// Why there is no TLS session.
pub(super) enum NoHandshake<IO> {
    /// It went wrong, and the peer may still want to read why.
    Failed(io::Error, Option<IO>),
    /// The peer was silent for too long.
    TimedOut,
}

impl<IO> From<Elapsed> for NoHandshake<IO> {
    fn from(_: Elapsed) -> Self {
        Self::TimedOut
    }
}

/// `choose` says how to answer what the peer greets with.
pub(super) async fn shake_hands<IO: AsyncRead + AsyncWrite + Unpin>(
    tcp: IO,
    choose: impl FnOnce(&ClientHello<'_>) -> Arc<ServerConfig>,
    plane: &Plane,
    handshakes: &Semaphore,
) -> Result<Box<TlsStream<IO>>, NoHandshake<IO>> {
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), tcp);
    let greeted = timeout(plane.limits.hello_timeout, &mut hello)
        .await
        .inspect_err(|_elapsed| plane.metrics.limit_reached("hello_timeout"))?;
    let started = greeted.map_err(|error| NoHandshake::Failed(error, hello.take_io()))?;
    let tls = choose(&started.client_hello());
    let handshake = started.into_stream(tls).into_fallible();
    let turn = handshakes.try_acquire();
    let _turn = match turn {
        Ok(turn) => Ok(turn),
        Err(_) => {
            plane.metrics.limit_reached("handshakes");
            handshakes.acquire().await
        }
    };
    // Boxed, since a session is large and is moved from hand to hand.
    timeout(plane.limits.handshake_timeout, handshake)
        .await
        .inspect_err(|_elapsed| plane.metrics.limit_reached("handshake_timeout"))?
        .map(Box::new)
        .map_err(|(error, tcp)| NoHandshake::Failed(error, Some(tcp)))
}

/// Lets the peer read why it was refused: closed at once, with its first request unread, the
/// connection would be reset and the alert lost.
pub(crate) async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let reading = async {
        io.shutdown().await?;
        tokio::io::copy(
            &mut io.take(limits::LINGER_BYTES_MAX),
            &mut tokio::io::sink(),
        )
        .await
    };
    // Whatever comes of it, the connection ends here.
    drop(timeout(limits::LINGER_TIMEOUT, reading).await);
}
