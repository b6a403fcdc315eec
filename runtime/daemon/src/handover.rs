//! How a running daemon hands its listening sockets to the process that replaces it. A socket that is handed over is
//! the same socket: what waits in its backlog waits for whoever accepts next, and no connection is refused.
//!
//! ```text
//! successor ── ask ───────────▶ running     which version of this, which release
//!           ◀── offer, sockets ──           or why not; from here on the running one writes nothing
//!           ── serving ───────▶             it accepts; the running one finishes what it has
//! ```
//!
//! Whoever is not heard of in time, or breaks off, has not taken over: the running one goes on. Both must be the same
//! user. A version that is not known is refused, whatever else is said.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{HANDOVER_FRAME_BYTES_MAX, HANDOVER_SOCKETS_MAX, HANDOVER_TIMEOUT};

/// The version of what is said here.
pub const VERSION: u32 = 1;

/// Sockets that go with one byte; the kernel takes 253.
const SOCKETS_AT_ONCE: usize = 64;

/// Why nothing was handed over.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// The connection broke, or nothing came in time.
    #[error("talk to the other process")]
    Io(#[from] io::Error),
    /// It is another user's.
    #[error("the other process is of another user")]
    Stranger,
    /// What it says is not understood.
    #[error("what the other process says is not understood: {0}")]
    Malformed(String),
    /// It speaks another version.
    #[error(
        "the other process speaks version {0} of the hand-over, and this one version {VERSION}"
    )]
    Version(u32),
    /// It will not.
    #[error("the running process refuses: {0}")]
    Refused(String),
    /// It offers more than anybody has.
    #[error("too many sockets: {0}")]
    TooMany(usize),
}

/// What a successor says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// [`VERSION`] of whoever asks.
    pub version: u32,
    /// Its release.
    pub release: String,
    /// Its process.
    pub pid: u32,
}

/// What the running process gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// [`VERSION`] of whoever offers.
    pub version: u32,
    /// Its release.
    pub release: String,
    /// Its process.
    pub pid: u32,
    /// Whether it is ready itself; a successor must not be less.
    pub ready: bool,
    /// What each socket that follows is for.
    pub sockets: Vec<String>,
}

/// What the running process answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Offer(Offer),
    Refused(String),
}

/// All that is looked at before the version is known.
#[derive(Deserialize)]
struct Spoken {
    version: u32,
}

/// That the successor accepts.
const SERVING: &[u8] = b"serving";

/// Where a process that has this admin socket is asked.
pub fn socket_beside(admin: &Path) -> PathBuf {
    let mut name = admin.as_os_str().to_owned();
    name.push(".handover");
    PathBuf::from(name)
}

/// The successor's end.
#[derive(Debug)]
pub struct Successor(UnixStream);

/// The running process' end, once a successor has asked.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Successor {
    /// Connects to the running process. None: there is none.
    pub fn connect(path: &Path) -> Result<Option<Self>, HandoverError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(Self(prepared(stream)?))),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// Asks, and waits for the sockets. From then on the running process waits for [`Successor::serving`].
    pub fn ask(&mut self, release: &str) -> Result<(Offer, Vec<OwnedFd>), HandoverError> {
        let ask = Ask {
            version: VERSION,
            release: release.to_owned(),
            pid: std::process::id(),
        };
        write_frame(&mut self.0, &encoded(&ask)?)?;
        let answer = read_frame(&mut self.0)?;
        let offer = match decoded(&answer)? {
            Answer::Offer(offer) if offer.version == VERSION => offer,
            Answer::Offer(offer) => return Err(HandoverError::Version(offer.version)),
            Answer::Refused(why) => return Err(HandoverError::Refused(why)),
        };
        if offer.sockets.len() > HANDOVER_SOCKETS_MAX {
            return Err(HandoverError::TooMany(offer.sockets.len()));
        }
        let sockets = receive(&self.0, offer.sockets.len())?;
        Ok((offer, sockets))
    }

    /// Says that this process accepts.
    pub fn serving(mut self) -> Result<(), HandoverError> {
        Ok(write_frame(&mut self.0, SERVING)?)
    }
}

impl Predecessor {
    /// Meets whoever connected, and hears what is asked.
    pub fn meet(stream: UnixStream) -> Result<(Self, Ask), HandoverError> {
        let mut predecessor = Self(prepared(stream)?);
        let frame = read_frame(&mut predecessor.0)?;
        let Spoken { version } = decoded(&frame)?;
        if version != VERSION {
            let theirs = HandoverError::Version(version);
            predecessor.refuse(format!("{theirs}, the other way round"))?;
            return Err(theirs);
        }
        let ask = decoded(&frame)?;
        Ok((predecessor, ask))
    }

    /// Says that nothing is handed over.
    pub fn refuse(mut self, why: impl Into<String>) -> Result<(), HandoverError> {
        Ok(write_frame(
            &mut self.0,
            &encoded(&Answer::Refused(why.into()))?,
        )?)
    }

    /// Hands these over; the successor has copies, and this process keeps its own.
    pub fn offer(
        &mut self,
        release: &str,
        ready: bool,
        sockets: &[(String, OwnedFd)],
    ) -> Result<(), HandoverError> {
        if sockets.len() > HANDOVER_SOCKETS_MAX {
            return Err(HandoverError::TooMany(sockets.len()));
        }
        let offer = Offer {
            version: VERSION,
            release: release.to_owned(),
            pid: std::process::id(),
            ready,
            sockets: sockets.iter().map(|(name, _)| name.clone()).collect(),
        };
        write_frame(&mut self.0, &encoded(&Answer::Offer(offer))?)?;
        for some in sockets.chunks(SOCKETS_AT_ONCE) {
            let some: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
            send(&self.0, &some)?;
        }
        Ok(())
    }

    /// Waits until the successor accepts.
    pub fn served(mut self) -> Result<(), HandoverError> {
        let said = read_frame(&mut self.0)?;
        if said == SERVING {
            return Ok(());
        }
        Err(HandoverError::Malformed(
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }
}

/// Both ends are one user's, whatever the mode of the socket says, and nobody waits for ever.
fn prepared(stream: UnixStream) -> Result<UnixStream, HandoverError> {
    let peer = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?;
    let peer = Uid::from_raw(peer.uid());
    if peer != Uid::effective() && !peer.is_root() {
        return Err(HandoverError::Stranger);
    }
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HANDOVER_TIMEOUT))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn encoded(message: &impl Serialize) -> Result<Vec<u8>, HandoverError> {
    serde_json::to_vec(message).map_err(|error| HandoverError::Malformed(error.to_string()))
}

fn decoded<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, HandoverError> {
    serde_json::from_slice(frame).map_err(|error| HandoverError::Malformed(error.to_string()))
}

fn write_frame(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(bytes)
}

fn read_frame(stream: &mut UnixStream) -> Result<Vec<u8>, HandoverError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > HANDOVER_FRAME_BYTES_MAX {
        return Err(HandoverError::Malformed(format!("{length} bytes at once")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn send(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space =
        [const { MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets at once"));
    }
    sendmsg(
        stream,
        &[IoSlice::new(b"+")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(stream: &UnixStream, count: usize) -> Result<Vec<OwnedFd>, HandoverError> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let mut byte = [0];
        let mut space =
            [const { MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        let before = sockets.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                sockets.extend(some);
            }
        }
        if received.bytes == 0 || sockets.len() == before {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    if sockets.len() == count {
        return Ok(sockets);
    }
    Err(HandoverError::TooMany(sockets.len()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn a_backlog_is_handed_over_with_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // More than go at once.
        let many: Vec<_> = (0..=SOCKETS_AT_ONCE)
            .map(|at| {
                let copy = listener.try_clone().unwrap();
                (format!("inbound/{at}"), OwnedFd::from(copy))
            })
            .collect();
        drop(listener);
        let mut waiting = TcpStream::connect(address).unwrap();
        let (ours, theirs) = pair();
        let running = std::thread::spawn(move || {
            let (mut predecessor, ask) = Predecessor::meet(theirs).unwrap();
            assert_eq!(ask.release, "2.0.0");
            predecessor.offer("1.0.0", true, &many).unwrap();
            drop(many);
            predecessor.served().unwrap();
        });
        let mut successor = Successor(prepared(ours).unwrap());
        let (offer, mut sockets) = successor.ask("2.0.0").unwrap();
        assert_eq!((offer.release.as_str(), offer.ready), ("1.0.0", true));
        assert_eq!(offer.sockets.len(), SOCKETS_AT_ONCE + 1);
        assert_eq!(sockets.len(), offer.sockets.len());
        successor.serving().unwrap();
        running.join().unwrap();
        let taken = TcpListener::from(sockets.pop().unwrap());
        let (mut accepted, _) = taken.accept().unwrap();
        accepted.write_all(b"!").unwrap();
        let mut byte = [0];
        waiting.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"!");
    }

    fn said(frame: &[u8]) -> Result<Ask, HandoverError> {
        let (mut ours, theirs) = pair();
        write_frame(&mut ours, frame).unwrap();
        drop(ours.shutdown(std::net::Shutdown::Write));
        Predecessor::meet(theirs).map(|(_, ask)| ask)
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let good = br#"{"version":1,"release":"1.0.0","pid":7}"#;
        assert_eq!(said(good).unwrap().pid, 7);
        let newer = br#"{"version":2,"release":"1.0.0","whatever":[]}"#;
        assert!(matches!(said(newer), Err(HandoverError::Version(2))));
        for bad in [
            &b""[..],
            b"{}",
            b"[1]",
            br#"{"version":1,"release":"1.0.0","pid":7,"more":1}"#,
            br#"{"version":1}"#,
        ] {
            let refused = said(bad);
            assert!(
                matches!(refused, Err(HandoverError::Malformed(_))),
                "{refused:?}"
            );
        }
        let (mut ours, theirs) = pair();
        ours.write_all(&u32::MAX.to_be_bytes()).unwrap();
        let refused = Predecessor::meet(theirs).map(|_| ());
        assert!(matches!(refused, Err(HandoverError::Malformed(_))));
    }

    #[test]
    fn a_successor_is_told_why_not() {
        let (ours, theirs) = pair();
        let running = std::thread::spawn(move || {
            let (predecessor, _) = Predecessor::meet(theirs).unwrap();
            predecessor.refuse("it is ending").unwrap();
        });
        let refused = Successor(prepared(ours).unwrap()).ask("2.0.0");
        running.join().unwrap();
        let told = refused.unwrap_err().to_string();
        assert_eq!(told, "the running process refuses: it is ending");
    }

    #[test]
    fn whoever_breaks_off_has_not_taken_over() {
        let (ours, theirs) = pair();
        let successor = std::thread::spawn(move || {
            let mut successor = Successor(prepared(ours).unwrap());
            successor.ask("2.0.0").map(drop)
        });
        let (mut predecessor, _) = Predecessor::meet(theirs).unwrap();
        predecessor.offer("1.0.0", true, &[]).unwrap();
        successor.join().unwrap().unwrap();
        assert!(matches!(predecessor.served(), Err(HandoverError::Io(_))));
    }
}
