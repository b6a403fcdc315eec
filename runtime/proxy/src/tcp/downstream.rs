//! The bytes of whoever connects, in plaintext or TLS, with what has been read of them already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::limits;
use crate::upstream::connect::UpstreamIo;

/// What has a socket beneath.
pub(crate) trait Socket {
    /// The socket.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl<IO: Socket> Socket for TlsStream<IO> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.tcp()
    }
}

impl<IO: Socket> Socket for Box<IO> {
    fn tcp(&self) -> &TcpStream {
        self.as_ref().tcp()
    }
}

impl Socket for UpstreamIo {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(watched) => watched.tcp(),
            Self::Tls(tls, _) => tls.get_ref().0.tcp(),
        }
    }
}

/// Makes the end of a connection a reset.
pub(crate) fn reset(connection: &impl Socket) {
    if let Err(error) = SockRef::from(connection.tcp()).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "no reset");
    }
}

/// Has urgent bytes come where they are among the others (RFC 6093 section 3.4). Otherwise the system would take them out,
/// and nobody would get them.
pub(crate) fn take_urgent_bytes(connection: &impl Socket) {
    if let Err(error) = SockRef::from(connection.tcp()).set_out_of_band_inline(true) {
        tracing::debug!(%error, "urgent bytes are lost");
    }
}

/// Has the system find out whether the other end of a silent connection is still there.
pub(crate) fn keep_alive(connection: &impl Socket) {
    let probes = TcpKeepalive::new()
        .with_time(limits::TCP_KEEPALIVE_AFTER)
        .with_interval(limits::TCP_KEEPALIVE_EVERY)
        .with_retries(limits::TCP_KEEPALIVE_PROBES);
    if let Err(error) = SockRef::from(connection.tcp()).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "no keep-alive");
    }
}

/// A connection of which some bytes were read to look at them.
#[derive(Debug)]
pub(crate) struct Prefixed<IO> {
    io: IO,
    /// Read first.
    prefix: Vec<u8>,
}

impl<IO> Prefixed<IO> {
    /// With the bytes that were read.
    pub(crate) fn new(io: IO, prefix: Vec<u8>) -> Self {
        Self { io, prefix }
    }

    /// Takes the bytes that were read out.
    pub(crate) fn take_prefix(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.prefix)
    }
}

impl<IO: Socket> Socket for Prefixed<IO> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let taken = this.prefix.len().min(buf.remaining());
        buf.put_slice(this.prefix.get(..taken).unwrap_or_default());
        if taken == this.prefix.len() {
            // Its memory too: a connection may last.
            this.prefix = Vec::new();
        } else {
            this.prefix.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
