//! The join file: what an operator hands to one new proxy, by a channel that is its only anchor of
//! trust. It holds a one-time secret, so its mode is 0600.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_bundle::digest::Digest;
use mesh_bundle::key::SigningKey;
use mesh_bundle::order::Order;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{CALL_TIMEOUT, JOIN_FILE_BYTES_MAX};

/// Why a join file is refused.
#[derive(Debug, Error)]
pub enum JoinFileError {
    /// It cannot be read or written.
    #[error("read the join file")]
    Io(#[from] std::io::Error),
    /// Others may read it.
    #[error("join file has mode {0:o}; it holds a secret and must be 0600")]
    Mode(u32),
    /// Whoever was asked at a socket gives none.
    #[error("the issuer at the socket gives no join file: {0}")]
    Refused(String),
    /// Larger than any join file.
    #[error("join file is too large")]
    TooLarge,
    /// Not the JSON that it should be.
    #[error("join file is malformed")]
    Json(#[from] serde_json::Error),
    /// A value in it is not what it should be.
    #[error("join file has no valid {0}")]
    Value(&'static str),
}

/// What a proxy needs to join a mesh.
#[derive(Clone)]
pub struct JoinFile {
    /// Distributors, `host:port`.
    pub addresses: Vec<String>,
    /// SHA-256 of the statement of the newest trust root: the pin.
    pub trust_root: Digest,
    /// What it joins.
    pub scope: Scope,
    /// Whom it will be.
    pub identity: SpiffeId,
    /// Names the token at the issuer.
    pub token_id: String,
    /// The token: an Ed25519 seed, which is never sent.
    pub seed: [u8; 32],
    /// Unix milliseconds after which the issuer refuses the token.
    pub expires_ms: u64,
    /// No generation below this is accepted.
    pub floor: Option<Order>,
}

impl std::fmt::Debug for JoinFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinFile")
            .field("addresses", &self.addresses)
            .field("identity", &self.identity)
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    addresses: Vec<String>,
    trust_root: String,
    scope: WrittenScope,
    identity: String,
    token_id: String,
    seed: String,
    expires_ms: u64,
    floor: Option<WrittenOrder>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenScope {
    mesh: String,
    environment: String,
    trust_domain: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOrder {
    epoch: u64,
    sequence: u64,
    emit: u32,
}

/// What an answer begins with that is no join file.
pub const REFUSED: &str = "refused: ";

/// Whether a join file is asked for there, and not read: it is a socket, and stays.
pub fn is_asked_for(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

impl JoinFile {
    /// The key that proves the token.
    pub fn token(&self) -> SigningKey {
        SigningKey::from_seed(self.seed)
    }

    /// Reads a file that nobody else may read, or asks for one where the path is a Unix socket: there an issuer knows its
    /// clients by the users that they run as.
    pub fn read(path: &Path) -> Result<Self, JoinFileError> {
        if is_asked_for(path) {
            return Self::ask(path);
        }
        let file = File::open(path)?;
        let mode = file.metadata()?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(JoinFileError::Mode(mode));
        }
        let mut bytes = Vec::new();
        file.take(JOIN_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > JOIN_FILE_BYTES_MAX {
            return Err(JoinFileError::TooLarge);
        }
        Self::from_json(&bytes)
    }

    fn ask(path: &Path) -> Result<Self, JoinFileError> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(CALL_TIMEOUT))?;
        let mut bytes = Vec::new();
        socket
            .take(JOIN_FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > JOIN_FILE_BYTES_MAX {
            return Err(JoinFileError::TooLarge);
        }
        match bytes.strip_prefix(REFUSED.as_bytes()) {
            Some(why) => Err(JoinFileError::Refused(
                String::from_utf8_lossy(why).into_owned(),
            )),
            None => Self::from_json(&bytes),
        }
    }

    /// Writes a new file of mode 0600; one that is there already is an error.
    pub fn write(&self, path: &Path) -> Result<(), JoinFileError> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        std::io::Write::write_all(&mut file, &self.to_json())?;
        Ok(file.sync_all()?)
    }

    /// Reads JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, JoinFileError> {
        let written: Written = serde_json::from_slice(json)?;
        let value = JoinFileError::Value;
        let seed = STANDARD
            .decode(&written.seed)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(value("seed"))?;
        let addresses_fit = !written.addresses.is_empty()
            && written.addresses.iter().all(|address| is_address(address));
        if !addresses_fit {
            return Err(value("address"));
        }
        Ok(Self {
            addresses: written.addresses,
            trust_root: Digest::from_hex(&written.trust_root)
                .map_err(|_error| value("trust root"))?,
            scope: Scope {
                mesh: written.scope.mesh,
                environment: written.scope.environment,
                trust_domain: TrustDomain::parse(&written.scope.trust_domain)
                    .map_err(|_error| value("trust domain"))?,
            },
            identity: SpiffeId::parse(&written.identity).map_err(|_error| value("identity"))?,
            token_id: written.token_id,
            seed,
            expires_ms: written.expires_ms,
            floor: written.floor.map(|floor| Order {
                epoch: floor.epoch,
                sequence: floor.sequence,
                emit: floor.emit,
            }),
        })
    }

    /// Writes JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let written = Written {
            addresses: self.addresses.clone(),
            trust_root: self.trust_root.to_string(),
            scope: WrittenScope {
                mesh: self.scope.mesh.clone(),
                environment: self.scope.environment.clone(),
                trust_domain: self.scope.trust_domain.to_string(),
            },
            identity: self.identity.to_string(),
            token_id: self.token_id.clone(),
            seed: STANDARD.encode(self.seed),
            expires_ms: self.expires_ms,
            floor: self.floor.map(|floor| WrittenOrder {
                epoch: floor.epoch,
                sequence: floor.sequence,
                emit: floor.emit,
            }),
        };
        let mut json =
            serde_json::to_vec_pretty(&written).expect("strings and numbers are always JSON");
        json.push(b'\n');
        json
    }
}

/// Whether this is `host:port`, the port a number above 0, as a proxy can connect to.
pub fn is_address(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join_file() -> JoinFile {
        JoinFile {
            addresses: vec!["127.0.0.1:7443".to_owned()],
            trust_root: Digest::of(b"root"),
            scope: Scope {
                mesh: "bookshop".to_owned(),
                environment: "default".to_owned(),
                trust_domain: TrustDomain::parse("bookshop.example").unwrap(),
            },
            identity: SpiffeId::parse("spiffe://bookshop.example/service/reviews").unwrap(),
            token_id: "t1".to_owned(),
            seed: [7; 32],
            expires_ms: 5,
            floor: Some(Order {
                epoch: 0,
                sequence: 4,
                emit: 1,
            }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("join.json");
        let file = join_file();
        file.write(&path).unwrap();
        let read = JoinFile::read(&path).unwrap();
        assert_eq!(read.to_json(), file.to_json());
        assert_eq!(read.floor, file.floor);
        assert!(matches!(file.write(&path), Err(JoinFileError::Io(_))));
        assert!(!format!("{file:?}").contains("BwcH"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("join.json");
        join_file().write(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            JoinFile::read(&path),
            Err(JoinFileError::Mode(0o644))
        ));
    }

    #[test]
    fn damage_is_named() {
        let check = |from: &str, to: &str, expected: &str| {
            let json = String::from_utf8(join_file().to_json()).unwrap();
            assert!(json.contains(from), "{json}");
            let error = JoinFile::from_json(json.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "127.0.0.1:7443",
            "127.0.0.1",
            "join file has no valid address",
        );
        check("sha256:", "md5:", "join file has no valid trust root");
        check("BwcH", "", "join file has no valid seed");
        check("spiffe://", "http://", "join file has no valid identity");
        check("token_id", "token", "join file is malformed");
    }
}
