//! `meshc fmt`: policy files in the one layout.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mesh_syntax::{Diagnostic, FileId, FormatError, SourceSet, limits as source_limits};

use super::{Failure, folder};
use crate::args::{Fmt, Format, Place};
use crate::exit_code::Exit;
use crate::load::{self, LoadError};
use crate::render::{fmt as render, human};
use crate::{atomic, output};

/// Why a file could not be formatted.
#[derive(Debug, thiserror::Error)]
enum FmtError {
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is a symbolic link; name the file that it leads to", .0.display())]
    Link(PathBuf),
    #[error("{} is no file and no folder", .0.display())]
    NoFile(PathBuf),
    #[error("{} may not be written to", .0.display())]
    ReadOnly(PathBuf),
    #[error("{} was changed while it was being formatted, and is left alone; run the command again", .0.display())]
    Changed(PathBuf),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{0}: what formatting makes of it would not mean the same, so it is left alone; please report this with the file"
    )]
    Fault(String),
    #[error("stdin is read alone, without other files")]
    StdinAmongFiles,
    #[error(
        "stdin has more than {} bytes; a policy file may have no more",
        source_limits::FILE_BYTES_MAX
    )]
    StdinTooLarge,
    #[error("could not read stdin")]
    Stdin(#[source] io::Error),
}

/// What became of one file.
#[derive(Debug)]
pub(crate) struct Formatted {
    /// The file.
    pub(crate) file: FileId,
    /// What it is, or would be, where that is something else.
    pub(crate) text: Option<String>,
}

/// What became of everything.
#[derive(Debug)]
pub(crate) struct Run {
    /// Whether files were only looked at.
    pub(crate) check: bool,
    /// The files.
    pub(crate) sources: SourceSet,
    /// Those that could be read, in their order.
    pub(crate) formatted: Vec<Formatted>,
    /// The mistakes of the others.
    pub(crate) findings: Vec<Diagnostic>,
}

pub(super) fn run(args: &Fmt, place: &Place) -> Result<Exit, Failure> {
    let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
    if args.stdin_filename.is_some() || args.paths.iter().any(is_stdin) {
        if args.paths.len() > 1 {
            return Err(FmtError::StdinAmongFiles.into());
        }
        return stdin(args);
    }
    let mut failures = Vec::new();
    let (sources, paths) = read(args, place, &mut failures)?;
    let mut run = formatted(args, sources, &mut failures);
    if !args.check {
        run.formatted.retain(|each| {
            let path = paths.get(each.file.index());
            let written = match (&each.text, path) {
                (Some(text), Some(path)) => write(path, run.sources.text(each.file), text),
                _ => Ok(()),
            };
            written
                .map_err(|failure| failures.push(failure.into()))
                .is_ok()
        });
    }
    let text = match args.format {
        Format::Human => render::human(&run),
        Format::Json => render::json(&run)?,
    };
    if run.sources.files().len() > 0 || failures.is_empty() {
        output::data(&text)?;
    }
    for failure in &failures {
        output::error(failure.as_ref());
    }
    let changed = run.formatted.iter().any(|each| each.text.is_some());
    Ok(if failures.is_empty() {
        let clean = run.findings.is_empty() && !(args.check && changed);
        Exit::from_findings(clean, &run.findings)
    } else {
        Exit::CouldNotRun
    })
}

/// Every file that is meant, once, and where each is.
fn read(
    args: &Fmt,
    place: &Place,
    failures: &mut Vec<Failure>,
) -> Result<(SourceSet, Vec<PathBuf>), Failure> {
    let mut texts = Vec::new();
    if args.paths.is_empty() {
        texts = load::texts_in(&folder(place, None))?;
    }
    for path in &args.paths {
        let base = place.folder.as_ref();
        match texts_of(&base.map_or_else(|| path.clone(), |base| base.join(path))) {
            Ok(found) => texts.extend(found),
            Err(failure) => failures.push(failure),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    texts.retain(|(_, path)| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    let mut sources = SourceSet::new();
    let mut paths = Vec::new();
    for (name, path) in texts {
        match load::add(&mut sources, name, &path) {
            Ok(()) => paths.push(path),
            Err(failure) => failures.push(failure.into()),
        }
    }
    Ok((sources, paths))
}

/// A file by its own name, or the policies of a folder.
fn texts_of(path: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FmtError::Missing(path.to_path_buf()).into());
        }
        metadata => metadata.map_err(|source| LoadError::Io {
            path: path.to_path_buf(),
            source,
        })?,
    };
    if path.is_dir() {
        return Ok(load::texts_in(path)?);
    }
    if metadata.is_symlink() {
        return Err(FmtError::Link(path.to_path_buf()).into());
    }
    if !metadata.is_file() {
        return Err(FmtError::NoFile(path.to_path_buf()).into());
    }
    let name = path.strip_prefix(".").unwrap_or(path);
    Ok(vec![(
        name.to_string_lossy().into_owned(),
        path.to_path_buf(),
    )])
}

fn formatted(args: &Fmt, sources: SourceSet, failures: &mut Vec<Failure>) -> Run {
    let mut formatted = Vec::new();
    let mut findings = Vec::new();
    for (file, result) in sources.files().zip(mesh_syntax::format_all(&sources)) {
        match result {
            Ok(text) => formatted.push(Formatted { file, text }),
            Err(FormatError::Mistakes(found)) => findings.extend(found),
            Err(FormatError::Fault) => {
                failures.push(FmtError::Fault(sources.path(file).to_owned()).into());
            }
        }
    }
    Run {
        check: args.check,
        sources,
        formatted,
        findings,
    }
}

/// Writes a file that is still what it was.
fn write(path: &Path, before: Option<&str>, text: &str) -> Result<(), FmtError> {
    let now = load::read_bytes(path).ok();
    if now.as_deref() != before.map(str::as_bytes) {
        return Err(FmtError::Changed(path.to_path_buf()));
    }
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().readonly()) {
        return Err(FmtError::ReadOnly(path.to_path_buf()));
    }
    atomic::replace(path, text).map_err(|source| FmtError::Write {
        path: path.to_path_buf(),
        source,
    })
}

/// From stdin to stdout, for editors: where there are mistakes, nothing is written.
fn stdin(args: &Fmt) -> Result<Exit, Failure> {
    let mut bytes = Vec::new();
    let most = source_limits::FILE_BYTES_MAX as u64;
    io::stdin()
        .lock()
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(FmtError::Stdin)?;
    if bytes.len() as u64 > most {
        return Err(FmtError::StdinTooLarge.into());
    }
    let mut sources = SourceSet::new();
    let name = args.stdin_filename.clone();
    sources.add(name.unwrap_or_else(|| "stdin".to_owned()), bytes);
    let mut failures = Vec::new();
    let mut run = formatted(args, sources, &mut failures);
    if let Some(failure) = failures.pop() {
        return Err(failure);
    }
    if !run.findings.is_empty() {
        output::note(human::findings(&run.sources, &run.findings).trim_end());
        return Ok(Exit::Findings);
    }
    let Some(formatted) = run.formatted.pop() else {
        return Ok(Exit::Clean);
    };
    if args.check {
        let clean = formatted.text.is_none();
        run.formatted.push(formatted);
        let text = match args.format {
            Format::Human => render::human(&run),
            Format::Json => render::json(&run)?,
        };
        output::data(&text)?;
        return Ok(Exit::from_clean(clean));
    }
    let text = formatted.text.as_deref();
    output::data(
        text.or_else(|| run.sources.text(formatted.file))
            .unwrap_or_default(),
    )?;
    Ok(Exit::Clean)
}
