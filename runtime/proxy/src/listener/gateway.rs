//! A client of a gateway, from accept to the first byte of HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::ClientHello;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Leaving;
use super::handshake::{NoHandshake, linger, shake_hands};
use super::plaintext::in_plaintext;
use crate::data_plane::Plane;
use crate::gateway;
use crate::http::server::{self, Connection, Entrance, Side};
use crate::tcp;
use crate::tcp::downstream::reset;
use crate::tcp::outbound::{self, Client, Toward};
use crate::upstream::connect::HttpVersion;

/// Meets a client of a gateway.
pub(super) async fn enter(
    accepted: TcpStream,
    peer: SocketAddr,
    port: u16,
    plane: Arc<Plane>,
    handshakes: &Semaphore,
    drain: Leaving,
) {
    // Its socket is only accepted from once there are tables, and until there are others without it.
    let Some(tables) = plane.tables() else { return };
    let Some(listeners) = tables.entries().port(port) else {
        return;
    };
    let mut accepted = accepted;
    let mut client = peer;
    if listeners.is_proxied() {
        let told = plane
            .trusted_proxies
            .client(&mut accepted, peer, plane.limits.first_byte_timeout)
            .await;
        client = match told {
            Ok(client) => client,
            Err(no_client) => {
                tracing::debug!(%peer, error = %no_client, "no client");
                plane.refused_unproxied(&no_client, peer.ip());
                return reset(&accepted);
            }
        };
    }
    let client_ip = client.ip();
    let entrance = |tls, name, met| {
        Side::Gateway(Entrance {
            port,
            tls,
            name,
            met,
            client_ip,
        })
    };
    // Its routes lead to bytes, whatever a client says.
    let carries_bytes = tables
        .snapshot()
        .inbound(port)
        .is_some_and(|table| tcp::carries_bytes(table.port(port)));
    if !listeners.is_tls() && carries_bytes {
        drop(tables);
        let client = Client {
            io: accepted,
            prefix: Vec::new(),
            address: peer,
        };
        let toward = Toward::Gateway { port, client_ip };
        return Box::pin(outbound::carry(client, toward, plane, drain)).await;
    }
    if !listeners.is_tls() {
        // Nothing is held for a connection that may last.
        drop(tables);
        return Box::pin(in_plaintext(
            accepted,
            peer,
            entrance(false, None, None),
            plane,
            drain,
        ))
        .await;
    }
    let recheck = plane.recheck();
    let mut name = None;
    let mut met = None;
    let choose = |hello: &ClientHello<'_>| {
        name = hello.server_name().map(str::to_owned);
        met = listeners.terms(name.as_deref()).cloned().map(Box::new);
        listeners.meet(name.as_deref())
    };
    let stream = match Box::pin(shake_hands(accepted, choose, &plane, handshakes)).await {
        Ok(stream) => stream,
        Err(NoHandshake::TimedOut) => return plane.refused_client(peer.ip()),
        Err(NoHandshake::Failed(error, tcp)) => {
            tracing::debug!(%peer, %error, "handshake of a client failed");
            plane.refused_client(peer.ip());
            if let Some(tcp) = tcp {
                linger(tcp).await;
            }
            return;
        }
    };
    drop(tables);
    if carries_bytes {
        let client = Client {
            io: stream,
            prefix: Vec::new(),
            address: peer,
        };
        let toward = Toward::Gateway { port, client_ip };
        return Box::pin(outbound::carry(client, toward, plane, drain)).await;
    }
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(gateway::tls::HTTP2) => HttpVersion::Http2,
        // What a client without ALPN speaks (RFC 9112 section 9.7).
        _ => HttpVersion::Http1,
    };
    let connection = Connection::new(plane, entrance(true, name, met), peer.ip());
    // TLS tells by itself that a stream was cut.
    let reset = |_: &_| ();
    // What a connection needs from here on is kept apart from what it took to get here.
    Box::pin(server::serve(
        stream,
        reset,
        Vec::new(),
        version,
        connection,
        recheck,
        drain,
    ))
    .await;
}
