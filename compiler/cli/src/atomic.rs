//! Files that are replaced as a whole: whoever reads them sees the old text or the new one, never a part.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::Builder;

/// Replaces a file, or makes it. Its permissions stay. It is written beside itself, under a hidden name, and renamed;
/// the disk is not waited for, since a text like these can be made again.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = Builder::new().prefix(".meshc-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    let permissions = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_file()?,
        Err(error) => return Err(error),
    };
    file.as_file().set_permissions(permissions)?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// What files are made with. The temporary one is its owner's alone.
fn new_file() -> io::Result<fs::Permissions> {
    let made = tempfile::NamedTempFile::new()?;
    let mut permissions = made.as_file().metadata()?.permissions();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        permissions.set_mode(0o644);
    }
    #[cfg(not(unix))]
    permissions.set_readonly(false);
    Ok(permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_file_is_replaced_with_its_permissions_and_nothing_is_left_beside_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, "1").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, "2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
