//! `meshc init`: a first policy repository that checks clean, with a first test.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Failure, folder};
use crate::args::{Format, Init, Place};
use crate::exit_code::Exit;
use crate::output;
use crate::render::json;

const MESH: &str = include_str!("init/mesh.kdl");
const SERVICES: &str = include_str!("init/services.kdl");
const TESTS: &str = include_str!("init/first.test.kdl");

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "\"{0}\" can't be the name of a mesh: lower-case letters, digits and `-`; give one with --name"
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
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&folder)?,
    };
    if !is_name(&name) {
        return Err(InitError::Name(name).into());
    }
    let files = [
        ("mesh.kdl", MESH),
        ("services.kdl", SERVICES),
        ("tests/first.test.kdl", TESTS),
    ];
    for (path, _) in files {
        let path = folder.join(path);
        if path.exists() {
            return Err(InitError::Exists(path).into());
        }
    }
    for (path, text) in files {
        write(&folder.join(path), &text.replace("NAME", &name))?;
    }
    let written = files.map(|(path, _)| path.to_owned()).to_vec();
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

fn summary(folder: &Path, files: &[String]) -> String {
    let repository = if mesh_repo::Repository::discover(folder).is_ok() {
        ""
    } else {
        "git init && "
    };
    format!(
        "wrote {}\n\nnext:\n  meshc check && meshc test\n  {repository}git add . && git commit -m \"First policies\"\n\nin CI, on every pull request:\n  meshc check --format github && meshc test\n",
        files.join(", ")
    )
}

/// The name of the folder.
fn name_of(folder: &Path) -> Result<String, InitError> {
    let folder = fs::canonicalize(folder).map_err(failed(folder))?;
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    Ok(name.unwrap_or_default().replace(['_', ' '], "-"))
}

fn is_name(name: &str) -> bool {
    const NAME_BYTES_MAX: usize = 63;
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|char: char| char.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(inner)
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
