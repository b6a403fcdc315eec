//! Who a workload is and whom it believes: X.509-SVIDs, the roots that vouch for them, and TLS 1.3
//! made of both. Nothing here asks the network or the disk.

pub mod csr;
pub mod svid;
pub mod tls;
pub mod trust_store;

pub use csr::{WorkloadKey, WorkloadKeyError};
pub use svid::{PeerIdentity, Svid, SvidError, Usage};
pub use tls::{ClientAuth, Credentials, TlsConfigError, tls_reason};
pub use trust_store::{TrustStore, TrustStoreError};
