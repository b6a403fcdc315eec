//! HTTP/2 frame by frame, for what no library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Frame types of RFC 9113 section 6.
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const HEADERS: u8 = 1;
pub(super) const DATA: u8 = 0;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

/// One end of an HTTP/2 connection that sees frames.
pub(super) struct Frames(pub(super) TcpStream);

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frames {
    pub(super) async fn connect(to: SocketAddr) -> Self {
        let mut client = Self(TcpStream::connect(to).await.unwrap());
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.0.write_all(preface).await.unwrap();
        client.write(SETTINGS, 0, 0, &[]).await;
        client
    }

    /// The server's end.
    pub(super) async fn accept(mut tcp: TcpStream, settings: &[u8]) -> Self {
        let mut preface = [0; 24];
        tcp.read_exact(&mut preface).await.unwrap();
        let mut server = Self(tcp);
        server.write(SETTINGS, 0, 0, settings).await;
        server
    }

    /// Answers 200 without a body.
    pub(super) async fn ok(&mut self, stream: u32) {
        const STATUS_200: &[u8] = &[0x88];
        self.write(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200)
            .await;
    }

    /// Takes no stream after this one.
    pub(super) async fn end_after(&mut self, stream: u32) {
        let payload = [stream.to_be_bytes(), [0; 4]].concat();
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    pub(super) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = Self::framed(kind, flags, stream, payload);
        self.0.write_all(&frame).await.unwrap();
    }

    pub(super) fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// GET / of `reviews`.
    pub(super) async fn get(&mut self, stream: u32) {
        self.0.write_all(&Self::getting(stream)).await.unwrap();
    }

    /// The same, in HPACK's static table and one literal (RFC 7541 appendix A).
    pub(super) fn getting(stream: u32) -> Vec<u8> {
        let fields = [&[0x82, 0x86, 0x84, 0x41, 7][..], b"reviews"].concat();
        Self::framed(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
    }

    /// The next frame that is one of these.
    pub(super) async fn next(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let found = tokio::time::timeout(Duration::from_secs(10), self.next_if_any(wanted));
        found
            .await
            .expect("it never came")
            .expect("the connection has ended")
    }

    /// The same; none: the connection has ended.
    pub(super) async fn next_if_any(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let frame = Frame {
                kind,
                flags,
                stream: u32::from_be_bytes(stream),
                payload,
            };
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Which stream a GOAWAY names as the last, and why.
    pub(super) async fn goaway(&mut self) -> (u32, u32) {
        let frame = self.next(|frame| frame.kind == GOAWAY).await;
        let number = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
        (number(0), number(4))
    }
}
