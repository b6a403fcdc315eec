//! `meshc init`: a first policy repository that checks clean, with a first test.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mesh_compiler::value::{DEFINABLE, is_definable};
use serde::Serialize;

use super::{Failure, folder};
use crate::args::{Ci, Format, Init, Place};
use crate::exit_code::Exit;
use crate::load;
use crate::output;
use crate::render::json;

const MESH: &str = include_str!("init/mesh.kdl");
const SERVICES: &str = include_str!("init/services.kdl");
const TESTS: &str = include_str!("init/first.test.kdl");
const GITHUB: &str = include_str!("init/github.yml");
const GITLAB: &str = include_str!("init/gitlab.yml");

/// Longest name: it is a part of the trust domain that is written.
const NAME_BYTES_MAX: usize = 63;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} is in the policy root {}, which a second `mesh` would break; add definitions there, or name a folder outside", folder.display(), root.display()
    )]
    Inside { folder: PathBuf, root: PathBuf },
    #[error(
        "{} exists already, and nothing is overwritten; with `--ci none` no CI file is written", .0.display()
    )]
    CiExists(PathBuf),
    #[error("the path {} can't be written in a CI file; use `--ci none`", .0.display())]
    Directory(PathBuf),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "\"{0}\" can't be the name of a mesh, which is at most {NAME_BYTES_MAX} bytes of {DEFINABLE}; give one with --name"
    )]
    Name(String),
}

#[derive(Serialize)]
struct Written {
    mesh: String,
    files: Vec<String>,
}

pub(super) fn run(args: &Init, place: &Place) -> Result<Exit, Failure> {
    let folder = folder(place, args.folder.as_deref());
    outside(&folder)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            fs::create_dir_all(&folder).map_err(failed(&folder))?;
            name_of(&folder)?
        }
    };
    if name.len() > NAME_BYTES_MAX || !is_definable(&name) {
        return Err(InitError::Name(name).into());
    }
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let mut files = vec![
        (folder.join("mesh.kdl"), MESH.replace("NAME", &name)),
        (folder.join("services.kdl"), SERVICES.to_owned()),
        (folder.join("tests/first.test.kdl"), TESTS.to_owned()),
    ];
    for (path, _) in &files {
        if path.exists() {
            return Err(InitError::Exists(path.clone()).into());
        }
    }
    if let Some((path, text)) = ci(args.ci, &folder)? {
        if path.exists() {
            return Err(InitError::CiExists(path).into());
        }
        files.push((path, text));
    }
    for (path, text) in &files {
        write(path, text)?;
    }
    let shown = |path: &Path| {
        let path = path.strip_prefix(&folder).unwrap_or(path);
        path.display().to_string()
    };
    let written: Vec<String> = files.iter().map(|(path, _)| shown(path)).collect();
    let text = match args.format {
        Format::Json => json::line(&Written {
            mesh: name,
            files: written,
        })?,
        Format::Human => summary(&folder, &written),
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

/// Refuses a folder inside of a policy root, before anything is made there.
fn outside(folder: &Path) -> Result<(), Failure> {
    let mut above = folder.ancestors().filter(|above| above.exists());
    // A relative path has no name for where it begins.
    let nearest = above.find(|above| !above.as_os_str().is_empty());
    let nearest = nearest.unwrap_or(Path::new("."));
    let whole = fs::canonicalize(nearest).map_err(failed(nearest))?;
    let root = load::root_above(&whole, &|_| false)?;
    // What is a root itself has files that are not overwritten.
    match root.filter(|root| nearest != folder || *root != whole) {
        Some(root) => Err(InitError::Inside {
            folder: folder.to_path_buf(),
            root,
        }
        .into()),
        None => Ok(()),
    }
}

fn summary(folder: &Path, files: &[String]) -> String {
    let repository = if mesh_repo::Repository::discover(folder).is_ok() {
        ""
    } else {
        "git init && "
    };
    let files = files.join("\n  ");
    format!(
        "wrote\n  {files}\n\nnext:\n  meshc check && meshc test\n  {repository}git add . && git commit -m \"First policies\"\n"
    )
}

/// The CI file for a folder, and where it goes: CI looks at the top of a repository only.
fn ci(ci: Ci, folder: &Path) -> Result<Option<(PathBuf, String)>, InitError> {
    let (path, text) = match ci {
        Ci::Github => (".github/workflows/mesh.yml", GITHUB),
        Ci::Gitlab => (".gitlab-ci.yml", GITLAB),
        Ci::None => return Ok(None),
    };
    let whole = fs::canonicalize(folder).map_err(failed(folder))?;
    let repository = mesh_repo::Repository::discover(&whole).ok();
    let top = repository
        .as_ref()
        .and_then(mesh_repo::Repository::work_tree);
    let top = top.and_then(|top| fs::canonicalize(top).ok());
    let below = top.as_ref().and_then(|top| whole.strip_prefix(top).ok());
    let Some(below) = below.filter(|below| *below != Path::new("")) else {
        return Ok(Some((folder.join(path), text.replace("DIRECTORY", "."))));
    };
    let plain = |text: &&str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        text.bytes().all(known)
    };
    let directory = below.to_str().filter(plain);
    let directory = directory.ok_or_else(|| InitError::Directory(below.to_path_buf()))?;
    // Shown as it is from the folder.
    let up: PathBuf = below.components().map(|_| "..").collect();
    Ok(Some((
        folder.join(up).join(path),
        text.replace("DIRECTORY", directory),
    )))
}

/// The name of the folder.
fn name_of(folder: &Path) -> Result<String, InitError> {
    let folder = fs::canonicalize(folder).map_err(failed(folder))?;
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    Ok(name.unwrap_or_default().replace(['_', ' '], "-"))
}

fn write(path: &Path, text: &str) -> Result<(), InitError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed(folder))?;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_path_buf();
    |source| InitError::Write { path, source }
}
