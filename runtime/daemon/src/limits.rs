//! Every bound of this crate, by name.

use std::time::Duration;

/// Longest time from accept to the end of the TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time to connect to a distributor, TCP only.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time to wait for the answer to one unary call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Connections that a distributor holds at once; the next are closed at accept.
pub const RPC_CONNECTIONS_MAX: usize = 10_000;

/// Longest life of a distributor's connection to someone without a certificate: enough to fetch
/// trust data or to enrol, and too short to keep the places of proxies taken.
pub const RPC_UNKNOWN_PEER_LIFE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// Longest time that a handshake may take after its hello, while it holds a turn.
pub const RPC_HANDSHAKE_TURN: Duration = Duration::from_secs(3);

/// TLS handshakes that a distributor does at once; the next wait.
pub const RPC_HANDSHAKES_MAX: usize = 256;

/// Streams of one connection: one `Follow`, and room for a renewal and a repeated call.
pub const RPC_STREAMS_MAX: u32 = 8;

/// Silence after which either side of the stream sends a PING (drills.md, h2 ping).
pub const RPC_PING_EVERY: Duration = Duration::from_secs(10);

/// How long the answer to a PING may take.
pub const RPC_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest message from a proxy: a hello with its held slices.
pub const PROXY_MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Largest message from a distributor: a compressed slice with its proof.
pub const DISTRIBUTOR_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest answer to `FetchTrust`, which comes from a server that nothing is known of.
pub const TRUST_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Certificates in a chain, leaf included; more are refused before any is parsed.
pub const CHAIN_LENGTH_MAX: usize = 8;

/// Largest certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Largest certificate signing request.
pub const CSR_BYTES_MAX: usize = 16 * 1024;

/// Largest join file.
pub const JOIN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Largest request body on an admin socket or listener.
pub const ADMIN_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Largest answer that the client of an admin socket reads.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Connections of one admin socket or listener.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Longest time for a request head, and for a whole exchange, on an admin socket or listener.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long each side of a hand-over waits for the other; a successor boots meanwhile.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest message of a hand-over.
pub const HANDOVER_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Sockets that are handed over.
pub const HANDOVER_SOCKETS_MAX: usize = 1024;

/// Generations kept in the store.
pub const STORE_GENERATIONS_MAX: usize = 5;

/// Largest manifest of a store.
pub const STORE_MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Largest other file of a store: a slice.
pub const STORE_OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;
