//! A signing key in a file: comment lines that begin with `#`, then one line, the 32-byte seed in base64.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_bundle::key::SigningKey;

use crate::limits;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// Something failed.
    #[error("could not read the key {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could have read it.
    #[error("the key {} is open to other users; chmod 600 it", .0.display())]
    Mode(PathBuf),
    /// Not one line of base64 of 32 bytes.
    #[error("{} is no key: it must hold one line, 32 bytes in base64", .0.display())]
    Format(PathBuf),
}

/// The text of a key file.
pub(super) fn text(comment: &str, seed: &[u8; 32]) -> String {
    format!("# {comment}\n{}\n", STANDARD.encode(seed))
}

/// Reads a key that only its owner can read.
pub(crate) fn read(path: &Path) -> Result<SigningKey, KeyFileError> {
    let failed = |source| KeyFileError::Io {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(KeyFileError::Mode(path.to_path_buf()));
    }
    let mut text = String::new();
    file.take(limits::KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    seed(&text)
        .map(SigningKey::from_seed)
        .ok_or_else(|| KeyFileError::Format(path.to_path_buf()))
}

fn seed(text: &str) -> Option<[u8; 32]> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().filter(|_| lines.next().is_none())?;
    STANDARD.decode(line).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(seed(&text("bookshop root", &[7; 32])), Some([7; 32]));
        assert_eq!(seed("# only a comment\n"), None);
        assert_eq!(seed("AAAA\n"), None);
        let twice = format!("{}{}", text("a", &[1; 32]), text("b", &[2; 32]));
        assert_eq!(seed(&twice), None);
    }
}
