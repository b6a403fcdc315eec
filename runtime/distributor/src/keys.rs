//! The keys that this process holds. They come from files that only its user can read, and what
//! holding them means is said aloud at start.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_bundle::key::SigningKey;
use mesh_bundle::scope::Scope;
use mesh_bundle::trust_root::{RoleKind, TrustRoot};

use crate::folder::{FolderError, read_private};
use crate::limits;

/// Keys that serve no purpose on a machine that serves, by file and what they could do.
const OFFLINE: [(&str, &str); 3] = [
    ("root.key", "can change everything about the mesh"),
    ("trust.key", "can add any certificate authority"),
    ("ca.key", "can make any certificate authority"),
];

/// The signing keys of a distributor that compiles and issues.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Signs generations.
    pub(crate) compile: SigningKey,
    /// Signs heads.
    pub(crate) head: SigningKey,
    /// Signs revocations.
    pub(crate) issuer: SigningKey,
    /// Signs certificates; PKCS#8, PEM.
    pub(crate) intermediate_pem: String,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FolderError),
    /// Not one line of base64 of 32 bytes.
    #[error("{} is not a key: it must hold one line, 32 bytes in base64", .0.display())]
    Format(PathBuf),
    /// The trust root does not list it for that role.
    #[error("{} has no {role} role in the trust root", path.display())]
    Role {
        /// Of the key.
        path: PathBuf,
        /// That it was read for.
        role: &'static str,
    },
    /// One key is not enough.
    #[error(
        "generations need {0} signatures, so this distributor cannot sign them alone; have CI build them"
    )]
    Threshold(u32),
}

impl Keys {
    /// Reads the keys from a folder and checks that the trust root gives them their roles.
    pub(crate) fn read(folder: &Path, root: &TrustRoot) -> Result<Self, KeyError> {
        let intermediate = folder.join("intermediate.key");
        let bytes = read_private(&intermediate, limits::TRUST_FILE_BYTES_MAX)?;
        let keys = Self {
            compile: read_role(folder, "compile", root, &RoleKind::Compile)?,
            head: read_role(folder, "head", root, &RoleKind::Head)?,
            issuer: read_role(folder, "issuer", root, &RoleKind::Issuer)?,
            intermediate_pem: String::from_utf8(bytes)
                .map_err(|_binary| KeyError::Format(intermediate))?,
        };
        match root
            .roles
            .get(&RoleKind::Compile)
            .map(|role| role.threshold)
        {
            Some(threshold) if threshold > 1 => Err(KeyError::Threshold(threshold)),
            _ => Ok(keys),
        }
    }
}

/// What whoever controls this process can do, for the start-up output.
pub(crate) fn notice(folder: &Path, scope: &Scope, development: bool) -> String {
    let domain = &scope.trust_domain;
    let mut lines = vec![
        format!(
            "This process holds keys of mesh {}, environment {}:",
            scope.mesh, scope.environment
        ),
        "  compile       decides every policy of this environment".to_owned(),
        "  head          chooses, or withholds, what proxies serve".to_owned(),
        "  issuer        revokes identities, or takes its revocations back".to_owned(),
        format!("  intermediate  makes certificates for any identity of {domain}"),
        "Whoever controls it has all of that until the trust root drops the keys.".to_owned(),
    ];
    let found = |name: &str| folder.join(name).exists();
    for (name, power) in OFFLINE
        .into_iter()
        .filter(|(name, _power)| !development && found(name))
    {
        lines.push(format!(
            "WARNING: {name} lies here too; it {power}. Take it to a machine that is offline."
        ));
    }
    lines.join("\n")
}

fn read_role(
    folder: &Path,
    role: &'static str,
    root: &TrustRoot,
    kind: &RoleKind,
) -> Result<SigningKey, KeyError> {
    let path = folder.join(format!("{role}.key"));
    let bytes = read_private(&path, limits::TRUST_FILE_BYTES_MAX)?;
    let key = SigningKey::from_seed(seed(&bytes).ok_or_else(|| KeyError::Format(path.clone()))?);
    let listed = root
        .roles
        .get(kind)
        .is_some_and(|role| role.keys.contains(&key.public()));
    if listed {
        Ok(key)
    } else {
        Err(KeyError::Role { path, role })
    }
}

/// The seed of a key file; lines that begin with `#` are comments.
fn seed(bytes: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    STANDARD.decode(line).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_one_line_of_base64() {
        let line = STANDARD.encode([7; 32]);
        assert_eq!(seed(format!("{line}\n").as_bytes()), Some([7; 32]));
        assert_eq!(
            seed(format!("# role: head\n\n{line}\n").as_bytes()),
            Some([7; 32])
        );
        assert_eq!(seed(format!("{line}\n{line}\n").as_bytes()), None);
        assert_eq!(seed(STANDARD.encode([7; 31]).as_bytes()), None);
        assert_eq!(seed(b"# nothing\n"), None);
        assert_eq!(seed(&[0xff; 44]), None);
    }
}
