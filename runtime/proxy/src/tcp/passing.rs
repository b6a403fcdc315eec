//! Bytes both ways between two connections, until both directions have ended. An end of one direction is passed on
//! and leaves the other open. A connection that is silent holds no buffer: what is read is written from the
//! stack, and only what the other side does not take at once is kept.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::metrics::Meter;
use crate::limits;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both directions, each with its end.
    Whole,
    /// The side that connected broke it off.
    Downstream(io::Error),
    /// The side that was connected to did.
    Upstream(io::Error),
    /// Nothing came for too long.
    Idle,
}

/// The two connections while bytes are passed on.
#[derive(Debug)]
pub(crate) struct Passing<'c, D, U> {
    downstream: &'c mut D,
    upstream: &'c mut U,
    received: Half<'c>,
    sent: Half<'c>,
    idle: Option<Duration>,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// One direction.
#[derive(Debug)]
struct Half<'c> {
    stage: Stage,
    /// Read and not yet written, from `written` on.
    kept: Vec<u8>,
    written: usize,
    is_flushed: bool,
    meter: &'c Meter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its end has been read and must be passed on.
    Ending,
    Ended,
}

/// Which side of a direction broke.
enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

impl<'c, D, U> Passing<'c, D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Between whoever connected and whoever was connected to. `received` counts what the former sends, `sent` what
    /// it gets; after `idle`, if there is one, without a byte in either direction it is over.
    pub(crate) fn new(
        downstream: &'c mut D,
        upstream: &'c mut U,
        (received, sent): (&'c Meter, &'c Meter),
        idle: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        Self {
            downstream,
            upstream,
            received: Half::new(received),
            sent: Half::new(sent),
            idle,
            last: now,
            timer: idle.map(|idle| Box::pin(tokio::time::sleep_until(now + idle))),
        }
    }

    /// Whether nothing came for too long; registers for waking if not.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(idle), Some(timer)) = (self.idle, &mut self.timer) else {
            return Poll::Pending;
        };
        loop {
            ready!(timer.as_mut().poll(cx));
            let wanted = self.last + idle;
            if Instant::now() >= wanted {
                return Poll::Ready(());
            }
            // Moved when it fires, and not with every byte.
            timer.as_mut().reset(wanted);
        }
    }
}

impl<D, U> Future for Passing<'_, D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        let mut scratch = [const { MaybeUninit::uninit() }; limits::TCP_READ_BYTES];
        let before = this.received.meter.bytes() + this.sent.meter.bytes();
        let (downstream, upstream) = (&mut *this.downstream, &mut *this.upstream);
        let received = this.received.poll(cx, downstream, upstream, &mut scratch);
        let (downstream, upstream) = (&mut *this.downstream, &mut *this.upstream);
        let sent = this.sent.poll(cx, upstream, downstream, &mut scratch);
        let ended = match (received, sent) {
            (Poll::Ready(Err(Broken::Reader(error))), _)
            | (_, Poll::Ready(Err(Broken::Writer(error)))) => Ended::Downstream(error),
            (Poll::Ready(Err(Broken::Writer(error))), _)
            | (_, Poll::Ready(Err(Broken::Reader(error)))) => Ended::Upstream(error),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Ended::Whole,
            _ => {
                if this.received.meter.bytes() + this.sent.meter.bytes() != before {
                    this.last = Instant::now();
                }
                ready!(this.poll_idle(cx));
                Ended::Idle
            }
        };
        Poll::Ready(ended)
    }
}

impl<'c> Half<'c> {
    fn new(meter: &'c Meter) -> Self {
        Self {
            stage: Stage::Open,
            kept: Vec::new(),
            written: 0,
            is_flushed: true,
            meter,
        }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        scratch: &mut [MaybeUninit<u8>],
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Broken::Writer)?;
                    self.stage = Stage::Ended;
                }
                Stage::Open => {
                    ready!(self.poll_kept(cx, writer)).map_err(Broken::Writer)?;
                    let mut read = ReadBuf::uninit(scratch);
                    match Pin::new(&mut *reader).poll_read(cx, &mut read) {
                        Poll::Ready(result) => result.map_err(Broken::Reader)?,
                        Poll::Pending if self.is_flushed => return Poll::Pending,
                        Poll::Pending => {
                            // TLS may hold something back.
                            ready!(Pin::new(&mut *writer).poll_flush(cx))
                                .map_err(Broken::Writer)?;
                            self.is_flushed = true;
                            return Poll::Pending;
                        }
                    }
                    if read.filled().is_empty() {
                        self.stage = Stage::Ending;
                    } else {
                        let rest = self.write(cx, writer, read.filled());
                        let rest = rest.map_err(Broken::Writer)?;
                        self.kept.extend_from_slice(rest);
                    }
                }
            }
        }
    }

    /// Writes what the writer takes; what is left is returned.
    fn write<'b, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        mut bytes: &'b [u8],
    ) -> io::Result<&'b [u8]> {
        while !bytes.is_empty() {
            let Poll::Ready(taken) = Pin::new(&mut *writer).poll_write(cx, bytes) else {
                break;
            };
            bytes = self.wrote(taken?, bytes)?;
        }
        Ok(bytes)
    }

    fn poll_kept<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .kept
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            let taken = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
            let left = rest.len();
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken.min(left);
            self.meter.count(taken);
            self.is_flushed = false;
        }
        if self.written > 0 {
            self.written = 0;
            self.kept = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn wrote<'b>(&mut self, taken: usize, bytes: &'b [u8]) -> io::Result<&'b [u8]> {
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.meter.count(taken);
        self.is_flushed = false;
        Ok(bytes.get(taken..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn an_end_of_one_direction_leaves_the_other() {
        let (mut client, mut downstream) = duplex(16);
        let (mut upstream, mut server) = duplex(16);
        let (received, sent) = (Meter::default(), Meter::default());
        let passing = async {
            let meters = (&received, &sent);
            Passing::new(&mut downstream, &mut upstream, meters, None).await
        };
        let question = vec![7; 100_000];
        let asking = async {
            client.write_all(&question).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answering = async {
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.unwrap();
            server.write_all(b"all of it").await.unwrap();
            server.shutdown().await.unwrap();
            got
        };
        let (ended, answer, got) = tokio::join!(passing, asking, answering);
        assert!(matches!(ended, Ended::Whole), "{ended:?}");
        assert_eq!(answer, b"all of it");
        assert_eq!(got, question);
        assert_eq!((received.bytes(), sent.bytes()), (100_000, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_a_byte_in_either_direction_is_none() {
        let (_client, mut downstream) = duplex(16);
        let (mut upstream, mut server) = duplex(16);
        let (received, sent) = (Meter::default(), Meter::default());
        let started = Instant::now();
        let second = Duration::from_secs(1);
        let passing = Passing::new(
            &mut downstream,
            &mut upstream,
            (&received, &sent),
            Some(10 * second),
        );
        let talking = async {
            for _ in 0..3 {
                tokio::time::sleep(7 * second).await;
                server.write_all(b".").await.unwrap();
            }
        };
        let (ended, ()) = tokio::join!(passing, talking);
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        assert_eq!(started.elapsed(), 31 * second);
    }

    #[tokio::test]
    async fn whoever_breaks_is_named() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: Pin<&mut Self>,
                _cx: &mut Context<'_>,
                _buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        impl AsyncWrite for Broken {
            fn poll_write(
                self: Pin<&mut Self>,
                _cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(buf.len()))
            }
            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let (_other, mut good) = duplex(16);
        let (received, sent) = (Meter::default(), Meter::default());
        let idle = None;
        let ended = Passing::new(&mut Broken, &mut good, (&received, &sent), idle).await;
        assert!(matches!(ended, Ended::Downstream(_)), "{ended:?}");
        let ended = Passing::new(&mut good, &mut Broken, (&received, &sent), idle).await;
        assert!(matches!(ended, Ended::Upstream(_)), "{ended:?}");
    }
}
