//! Whether the other end of a connection is still there while it owes us an acknowledgement. The system asks silent
//! peers by itself (keep-alive), but not while something is on its way to them: then it sends that again, for a
//! quarter of an hour. `TCP_USER_TIMEOUT` would end this sooner, and with it every connection whose reader pauses
//! for as long: to the system a peer that says "nothing more now" is as late as one that says nothing. So the
//! connection is asked itself, every few seconds while anything is on its way, and never while it is idle.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc::{self, tcp_info};
use nix::sys::socket::GetSockOpt as _;
use nix::{getsockopt_impl, sockopt_impl};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::downstream::Socket;
use crate::limits;

sockopt_impl!(
    /// What the system knows of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    tcp_info
);

/// A connection that ends with [`io::ErrorKind::TimedOut`] once its other end is gone.
#[derive(Debug)]
pub(crate) struct Watched<IO> {
    io: IO,
    pulse: Pulse,
}

/// Asks a connection for signs of life.
#[derive(Debug)]
struct Pulse {
    /// Runs from the first byte that is sent until everything has arrived.
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when it runs.
    since: Instant,
}

/// What a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Everything has arrived.
    Quiet,
    /// Something is on its way, and the last acknowledgement of anything is so old.
    Waiting(Duration),
}

impl Pulse {
    /// Notes that something was sent.
    fn wrote(&mut self) {
        if self.timer.is_none() {
            self.since = Instant::now();
            let first = self.since + limits::PULSE_EVERY;
            self.timer = Some(Box::pin(tokio::time::sleep_until(first)));
        }
    }

    /// Whether the other end is gone; registers for waking if not.
    fn poll_gone(&mut self, cx: &mut Context<'_>, tcp: &TcpStream) -> Poll<io::Error> {
        while let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            match sign(tcp) {
                Sign::Quiet => self.timer = None,
                // A connection that lay idle has an old acknowledgement and is not late yet.
                Sign::Waiting(silence)
                    if silence.min(now - self.since) >= limits::PEER_SILENCE_MAX =>
                {
                    return Poll::Ready(io::ErrorKind::TimedOut.into());
                }
                Sign::Waiting(_) => timer.as_mut().reset(now + limits::PULSE_EVERY),
            }
        }
        Poll::Pending
    }
}

/// Asks the system. Bytes that a full receiver keeps here are not on their way.
fn sign(tcp: &TcpStream) -> Sign {
    match TcpInfo.get(tcp) {
        Ok(info) if info.tcpi_unacked > 0 => {
            Sign::Waiting(Duration::from_millis(info.tcpi_last_ack_recv.into()))
        }
        // A connection that cannot be asked is left to the system.
        Ok(_) | Err(_) => Sign::Quiet,
    }
}

impl<IO> Watched<IO> {
    /// Watches a connection.
    pub(crate) fn new(io: IO) -> Self {
        Self {
            io,
            pulse: Pulse {
                timer: None,
                since: Instant::now(),
            },
        }
    }
}

impl<IO: Socket> Socket for Watched<IO> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

impl<IO: AsyncRead + Socket + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_pending() {
            return this.pulse.poll_gone(cx, this.io.tcp()).map(Err);
        }
        read
    }
}

impl<IO: AsyncWrite + Socket + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<IO: Socket> Watched<IO> {
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.pulse.poll_gone(cx, self.io.tcp()).map(Err),
            Poll::Ready(result) => {
                self.pulse.wrote();
                Poll::Ready(result)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A reader that pauses for long acknowledges what it has got, and so lives.
    #[tokio::test]
    async fn a_reader_that_pauses_is_not_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        let (mut writer, (mut reader, _)) = (Watched::new(connected.unwrap()), accepted.unwrap());
        assert_eq!(sign(writer.tcp()), Sign::Quiet);
        let sent = vec![7; 16 * 1024 * 1024];
        let mut sending = std::pin::pin!(writer.write_all(&sent));
        tokio::time::pause();
        let paused = tokio::time::timeout(Duration::from_hours(1), sending.as_mut()).await;
        assert!(paused.is_err(), "{paused:?}");
        tokio::time::resume();
        let mut got = vec![0; sent.len()];
        let (sent_all, read_all) = tokio::join!(sending, reader.read_exact(&mut got));
        sent_all.unwrap();
        read_all.unwrap();
        assert_eq!(got, sent);
    }

    /// What nobody was sent, nobody must acknowledge.
    #[tokio::test]
    async fn an_idle_connection_is_asked_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        let (mut writer, (mut reader, _)) = (Watched::new(connected.unwrap()), accepted.unwrap());
        writer.write_all(b"x").await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), b'x');
        tokio::time::pause();
        let silence = tokio::time::timeout(Duration::from_hours(1), writer.read_u8()).await;
        assert!(silence.is_err(), "{silence:?}");
        assert!(writer.pulse.timer.is_none());
    }
}
