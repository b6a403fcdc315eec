//! A connection without TLS, from its first byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Leaving;
use crate::data_plane::Plane;
use crate::http::server::{self, Connection, Side};
use crate::http::wire::WireState;
use crate::http::wire::frames::PREFACE;
use crate::limits;
use crate::upstream::connect::HttpVersion;

/// Serves HTTP without TLS.
pub(super) async fn in_plaintext(
    mut tcp: TcpStream,
    peer: SocketAddr,
    side: Side,
    plane: Arc<Plane>,
    mut drain: Leaving,
) {
    let recheck = plane.recheck();
    let detected = tokio::select! {
        // Nothing was asked yet, so nothing is lost.
        () = drain.draining() => return,
        detected = timeout(limits::DETECT_TIMEOUT, detect(&mut tcp)) => detected,
    };
    let (version, prefix) = match detected {
        Ok(Ok(Some(detected))) => detected,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%error, "nothing came");
            return;
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "nothing came in time");
            return;
        }
    };
    let connection = Connection {
        plane,
        wire: Arc::new(WireState::default()),
        side,
        peer_ip: peer.ip(),
    };
    server::serve(tcp, reset, prefix, version, connection, recheck, drain).await;
}

/// Makes the end of a connection a reset.
pub(super) fn reset(tcp: &TcpStream) {
    if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "no reset");
    }
}

/// Tells HTTP/2 with prior knowledge by its preface; everything else is for the HTTP/1 codec to
/// judge. None: the peer closed without a word.
async fn detect(tcp: &mut TcpStream) -> io::Result<Option<(HttpVersion, Vec<u8>)>> {
    let mut prefix = Vec::with_capacity(PREFACE.len());
    loop {
        let missing = PREFACE.len() - prefix.len();
        let read = (&mut *tcp)
            .take(missing as u64)
            .read_buf(&mut prefix)
            .await?;
        if prefix == PREFACE {
            return Ok(Some((HttpVersion::Http2, prefix)));
        }
        if !PREFACE.starts_with(&prefix) {
            return Ok(Some((HttpVersion::Http1, prefix)));
        }
        if read == 0 {
            return Ok((!prefix.is_empty()).then_some((HttpVersion::Http1, prefix)));
        }
    }
}
