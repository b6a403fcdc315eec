//! What a gateway has beyond a sidecar: listeners that policy opens, clients that are no mesh peers,
//! and certificates for them.

pub(crate) mod client;
pub(crate) mod entries;
pub(crate) mod proxy_protocol;
pub(crate) mod sockets;
pub(crate) mod tls;
