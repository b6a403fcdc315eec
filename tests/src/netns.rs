//! Hosts as network namespaces, a mesh over them, and the programs on them that are not ours. Needs root, and says
//! so where there is none.

mod mesh;
mod network;
mod tools;

pub use mesh::Mesh;
pub use network::{Got, Host, LIMIT, Network, PROXY_UID, SWITCH};
pub use tools::{find, ready, tool};
