//! A connection without TLS, from its first byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_engine::client_hello::HANDSHAKE_RECORD;
use mesh_engine::detect::{self, Detected};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Leaving;
use crate::data_plane::Plane;
use crate::http::metrics::Reporter;
use crate::http::server::{self, Connection, Side};
use crate::tcp::downstream::reset;
use crate::tcp::outbound::{self, Client, Toward};
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
        () = drain.waited() => return,
        detected = timeout(plane.limits.first_byte_timeout, detect(&mut tcp)) => detected,
    };
    let (speaks, prefix) = match detected {
        Ok(Ok(Some(detected))) => detected,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%error, "nothing came");
            return;
        }
        Err(_elapsed) => {
            let (reporter, to) = match &side {
                Side::Outbound(outbound) => (Reporter::Source, outbound.destination),
                Side::Gateway(_) => (Reporter::Source, None),
                Side::Inbound(_) => (Reporter::Destination, None),
            };
            plane.refused_silent(reporter, peer.ip(), to);
            return;
        }
    };
    let version = match (speaks, &side) {
        // A gateway's listener has said what it takes.
        (Detected::Tls, Side::Outbound(outbound)) => {
            let toward = outbound.destination.map_or(Toward::Name, Toward::Address);
            let client = Client {
                io: tcp,
                prefix,
                address: peer,
            };
            return Box::pin(outbound::carry(client, toward, plane, drain)).await;
        }
        (Detected::Http2, _) => HttpVersion::Http2,
        // Whatever else it is, the HTTP/1 codec says what is wrong with it.
        _ => HttpVersion::Http1,
    };
    let connection = Connection::new(plane, side, peer.ip());
    Box::pin(server::serve(
        tcp, reset, prefix, version, connection, recheck, drain,
    ))
    .await;
}

/// Tells what a connection speaks by its first bytes. None: the peer closed without a word.
async fn detect(tcp: &mut TcpStream) -> io::Result<Option<(Detected, Vec<u8>)>> {
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    loop {
        let room = (PREFIX_BYTES - prefix.len().min(PREFIX_BYTES)).max(1);
        let read = (&mut *tcp).take(room as u64).read_buf(&mut prefix).await?;
        match detect::detect(&prefix) {
            // Where requests are expected, a line that is not whole yet is for their codec and its clocks.
            Some(detected) => return Ok(Some((detected, prefix))),
            None if read == 0 => {
                return Ok((!prefix.is_empty()).then_some((Detected::Http1, prefix)));
            }
            None if may_be_more(&prefix) => {}
            None => return Ok(Some((Detected::Http1, prefix))),
        }
    }
}

/// As many as tell HTTP/2, and few where many connections are silent.
const PREFIX_BYTES: usize = detect::HTTP2_PREFACE.len();

/// Whether HTTP/2 or TLS may begin here.
fn may_be_more(prefix: &[u8]) -> bool {
    detect::HTTP2_PREFACE.starts_with(prefix) || prefix == [HANDSHAKE_RECORD]
}
