//! The policies of the work tree: where their root is, and what is in it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_repo::{LinkedFolder, Repository, SUBMODULE, holds_mesh, is_policy_file, led_to};
use mesh_syntax::{KEY_SET_SUFFIX, SourceSet, limits as source_limits};

use crate::{limits, terminal};

/// Why the policies could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Something failed.
    #[error("could not read {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither here, above nor below.
    #[error("{} is not part of a policy root: no folder above or below it has a file with a `mesh` node; `meshc init` writes one", .0.display())]
    NoRoot(PathBuf),
    /// A command takes one.
    #[error("there are several policy roots: {}; name one", .0.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "))]
    SeveralRoots(Vec<PathBuf>),
    /// Not a folder of policies, but perhaps a whole disk.
    #[error("{} has more than {max} entries, or folders nested too deep", .0.display(), max = limits::ENTRIES_MAX)]
    TooMany(PathBuf),
    /// It was listed, and then not there.
    #[error("{} was there and is gone: the folder changed while it was read; run the command again", .0.display())]
    Gone(PathBuf),
    /// A path that can't be written in outputs.
    #[error("the name of {} is not UTF-8, so that no finding could say where it is; rename it", .0.display())]
    NotUtf8(PathBuf),
}

/// The policies of one root, as they are in the work tree.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The files; paths are relative to the repository, or to the root outside of one.
    pub(crate) sources: SourceSet,
    /// The root relative to the repository; empty for its top.
    pub(crate) root_path: String,
    /// Policy files that were not read, for git ignores them.
    pub(crate) ignored: Vec<String>,
}

/// Files that are named one by one.
const NAMES_MAX: usize = 3;

impl Loaded {
    /// What whoever reads the answer should know of the files.
    pub(crate) fn notes(&self) -> Option<String> {
        let (first, rest) = self.ignored.split_at(self.ignored.len().min(NAMES_MAX));
        let names = first.join(", ");
        let are = if self.ignored.len() == 1 { "is" } else { "are" };
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!first.is_empty()).then(|| {
            format!("{names}{more} {are} not read: git ignores what can be in no commit (`git add -f` tracks it)")
        })
    }
}

/// Reads the policy root that a folder is in, or that is in the folder.
pub(crate) fn load(folder: &Path) -> Result<Loaded, LoadError> {
    load_root(&find_root(folder)?).map(|(loaded, _)| loaded)
}

/// Reads a policy root; also says what paths are relative to.
pub(crate) fn load_root(root: &Path) -> Result<(Loaded, PathBuf), LoadError> {
    let top = top(root);
    terminal::paths_are_in(&top);
    let root_path = relative(root, &top)?;
    // In an editor a root may be open before its folder is there.
    let files = if root.exists() {
        all_files(root, Submodules::Refused)?
    } else {
        Files::default()
    };
    let mut submodules = files.submodules;
    submodules.sort();
    let all = files.found.into_iter().chain(files.links);
    let all = all.chain(submodules.iter().cloned());
    let named = all.map(|path| Ok((relative(&path, &top)?, path)));
    let mut paths = named.collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    let ignored = files.ignored.iter().map(|path| relative(path, &top));
    let mut ignored = ignored.collect::<Result<Vec<_>, _>>()?;
    ignored.sort();
    let mut sources = SourceSet::new();
    for (name, path) in paths {
        if submodules.binary_search(&path).is_ok() {
            sources.add_refused(name, SUBMODULE);
        } else if is_policy(&path) {
            add(&mut sources, name, &path)?;
        } else if let Some(folder) = linked_folder(&name, &path, &top) {
            sources.add_passed(name, folder.why());
        }
    }
    let loaded = Loaded {
        sources,
        root_path,
        ignored,
    };
    Ok((loaded, top))
}

/// What the policy files below a folder are, and what is told instead of read, without reading them: enough to see that
/// one of them changed. An error is a state too, and another one when it is mended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State(Result<Vec<(PathBuf, FileState)>, String>);

/// What a file, link or submodule is; none if it is gone.
type FileState = Option<Seen>;

/// What is seen of it from outside.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    changed: Option<SystemTime>,
    kind: fs::FileType,
    /// Where a link leads, and to what: both may change without the link.
    leads: Option<(PathBuf, Option<fs::FileType>)>,
}

impl Seen {
    fn of(path: &Path) -> FileState {
        let found = fs::symlink_metadata(path).ok()?;
        let leads = found.is_symlink().then(|| {
            let to = fs::canonicalize(path).or_else(|_broken| fs::read_link(path));
            let kind = fs::metadata(path).ok().map(|target| target.file_type());
            (to.unwrap_or_default(), kind)
        });
        Some(Self {
            // What lies in a submodule is not read.
            bytes: if found.is_dir() { 0 } else { found.len() },
            changed: found.modified().ok().filter(|_| !found.is_dir()),
            kind: found.file_type(),
            leads,
        })
    }
}

impl State {
    /// Looks at the folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self::of_files(find_root(folder).and_then(|root| all_files(&root, Submodules::Refused)))
    }

    /// Looks at a folder that is known to be a root.
    pub(crate) fn of_root(root: &Path) -> Self {
        Self::of_files(all_files(root, Submodules::Refused))
    }

    /// Whether another state has the same files, and those that changed are all among some paths.
    pub(crate) fn differs_only_in(&self, other: &Self, paths: &BTreeSet<&Path>) -> bool {
        let (Ok(own), Ok(other)) = (&self.0, &other.0) else {
            return false;
        };
        let same = |((path, state), (other_path, other_state)): (
            &(PathBuf, FileState),
            &(PathBuf, FileState),
        )| {
            path == other_path && (state == other_state || paths.contains(path.as_path()))
        };
        own.len() == other.len() && own.iter().zip(other).all(same)
    }

    fn of_files(files: Result<Files, LoadError>) -> Self {
        Self(files.map_err(|error| error.to_string()).map(|files| {
            let told = files.links.into_iter().chain(files.submodules);
            let mut paths: Vec<PathBuf> = files.found.into_iter().chain(told).collect();
            paths.sort_unstable();
            let seen = |path: PathBuf| {
                let seen = Seen::of(&path);
                (path, seen)
            };
            paths.into_iter().map(seen).collect()
        }))
    }
}

/// The policy root of a folder, relative to the repository.
pub(crate) fn root_path(folder: &Path) -> Result<String, LoadError> {
    let root = find_root(folder)?;
    relative(&root, &top(&root))
}

/// What paths are relative to: the work tree that a root is in, or the root itself.
fn top(root: &Path) -> PathBuf {
    let repository = Repository::discover(root).ok();
    let top = repository
        .as_ref()
        .and_then(Repository::work_tree)
        .and_then(|top| fs::canonicalize(top).ok());
    top.filter(|top| root.starts_with(top))
        .unwrap_or_else(|| root.to_path_buf())
}

/// The policy root of a folder: itself or the nearest above, else the only one below.
fn find_root(folder: &Path) -> Result<PathBuf, LoadError> {
    let mut roots = roots_in(folder)?;
    match roots.len() {
        0 => Err(LoadError::NoRoot(
            fs::canonicalize(folder).map_err(failed(folder))?,
        )),
        1 => Ok(roots.remove(0)),
        _ => Err(LoadError::SeveralRoots(roots)),
    }
}

/// The policy root that a folder is or is in; `is_root_too` says of other folders that they are one.
pub(crate) fn root_above(
    folder: &Path,
    is_root_too: &dyn Fn(&Path) -> bool,
) -> Result<Option<PathBuf>, LoadError> {
    for above in folder.ancestors().take(limits::FOLDERS_UP_MAX) {
        // An editor may be in a folder that is not there yet.
        if is_root_too(above) || above.is_dir() && is_root(above)? {
            return Ok(Some(above.to_path_buf()));
        }
        // What lies above the repository is another matter.
        if above.join(".git").exists() {
            break;
        }
    }
    Ok(None)
}

/// The policy root that a folder is or is in, else those in it.
pub(crate) fn roots_in(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let folder = fs::canonicalize(folder).map_err(failed(folder))?;
    if let Some(root) = root_above(&folder, &|_| false)? {
        return Ok(vec![root]);
    }
    let mut roots: Vec<PathBuf> = Vec::new();
    // A submodule is a repository of its own, which may be the one that is meant.
    for file in all_files(&folder, Submodules::Entered)?.found {
        let parent = file.parent().unwrap_or(&folder);
        if roots.last().is_none_or(|root| root != parent)
            && read(&file).is_ok_and(|text| holds_mesh(&text))
        {
            roots.push(parent.to_path_buf());
        }
    }
    roots.sort();
    roots.dedup();
    Ok(roots)
}

/// The text files of policies in a folder, which is in a policy root or holds some, with the names that outputs give
/// them.
pub(crate) fn texts_in(folder: &Path) -> Result<Vec<(String, PathBuf)>, LoadError> {
    let folder = fs::canonicalize(folder).map_err(failed(folder))?;
    let above = root_above(&folder, &|_| false)?;
    let folders = match &above {
        Some(_) => vec![folder.clone()],
        None => roots_in(&folder)?,
    };
    if folders.is_empty() {
        return Err(LoadError::NoRoot(folder));
    }
    let top = top(above.as_ref().unwrap_or(&folder));
    terminal::paths_are_in(&top);
    let mut texts = Vec::new();
    for folder in folders {
        for path in all_files(&folder, Submodules::Refused)?.found {
            let name = relative(&path, &top)?;
            if !name.ends_with(KEY_SET_SUFFIX) {
                texts.push((name, path));
            }
        }
    }
    // One root may hold another.
    texts.sort();
    texts.dedup();
    Ok(texts)
}

/// Whether a folder is a policy root; one that is not there is none.
pub(crate) fn is_root(folder: &Path) -> Result<bool, LoadError> {
    if !folder.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if is_policy(&path) && read(&path).is_ok_and(|text| holds_mesh(&text)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Policy files below a folder.
#[derive(Debug, Default)]
struct Files {
    /// Those that can be in a commit.
    found: Vec<PathBuf>,
    /// Links with other names.
    links: Vec<PathBuf>,
    /// Folders of which a commit has the submodule alone.
    submodules: Vec<PathBuf>,
    /// Those that git ignores, as far as they are looked for.
    ignored: Vec<PathBuf>,
}

/// Whether a link leads to a folder, or out of the repository, as it is told of a commit; none: to a file, or nowhere.
fn linked_folder(name: &str, path: &Path, top: &Path) -> Option<LinkedFolder> {
    let target = fs::read_link(path).ok()?;
    if led_to(name, target.to_str()?).is_none() {
        return Some(LinkedFolder::Outside);
    }
    let target = fs::canonicalize(path).ok()?;
    if !target.starts_with(top) {
        return Some(LinkedFolder::Outside);
    }
    target.is_dir().then_some(LinkedFolder::Within)
}

/// What becomes of folders that are submodules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Submodules {
    /// No commit of this repository holds what is in them.
    Refused,
    /// They are looked through.
    Entered,
}

/// Every policy file below a folder, links included, in no particular order but folder by folder, and those that git
/// ignores: what is not committed is no policy, whatever lies there. Of a folder that is itself ignored, or in no
/// repository, everything is read: whoever names it means it.
fn all_files(root: &Path, submodules: Submodules) -> Result<Files, LoadError> {
    let repository = Repository::discover(root).ok();
    let top = top(root);
    let ignored = repository.as_ref().and_then(|repository| {
        let ignored = repository.ignored(&top).ok()?;
        (!ignored.leaves_out(root)).then_some(ignored)
    });
    let leaves_out = |path: &Path| {
        let ignored = ignored.as_ref();
        ignored.is_some_and(|ignored| ignored.leaves_out(path))
    };
    let is_submodule = |path: &Path| {
        let ignored = ignored
            .as_ref()
            .filter(|_| submodules == Submodules::Refused);
        ignored.is_some_and(|ignored| ignored.is_submodule(path))
    };
    let mut files = Files::default();
    let (mut visited, mut aside) = (0, 0);
    let mut folders = vec![(root.to_path_buf(), 0, false)];
    while let Some((folder, depth, is_ignored)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed(&path))?;
            if is_ignored {
                aside += 1;
            } else {
                visited += 1;
            }
            if visited > limits::ENTRIES_MAX || depth > limits::FOLDER_DEPTH_MAX {
                return Err(LoadError::TooMany(root.to_path_buf()));
            }
            // What is ignored is looked for to be named, as long as that is little.
            let is_bounded = aside <= limits::IGNORED_ENTRIES_MAX;
            if kind.is_dir() && !is_ignored && !is_hidden(&entry.file_name()) && is_submodule(&path)
            {
                files.submodules.push(path);
            } else if kind.is_dir() && !is_hidden(&entry.file_name()) && is_bounded {
                let is_ignored = is_ignored || leaves_out(&path);
                folders.push((path, depth + 1, is_ignored));
            } else if kind.is_symlink() && !is_policy(&path) && !is_hidden(&entry.file_name()) {
                if !is_ignored && !leaves_out(&path) {
                    files.links.push(path);
                }
            } else if !kind.is_dir() && is_policy(&path) {
                if is_ignored || leaves_out(&path) {
                    files.ignored.push(path);
                } else {
                    files.found.push(path);
                }
            }
        }
    }
    Ok(files)
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_policy(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| is_policy_file(&name.to_string_lossy()))
}

/// Reads a file that was listed.
pub(crate) fn add(sources: &mut SourceSet, name: String, path: &Path) -> Result<(), LoadError> {
    let metadata = fs::symlink_metadata(path).map_err(gone(path))?;
    if metadata.is_symlink() {
        sources.add_refused(
            name,
            "this is a symbolic link; a policy file is a file of its own",
        );
    } else if !metadata.is_file() {
        sources.add_refused(name, "this is no ordinary file");
    } else if metadata.len() > source_limits::FILE_BYTES_MAX as u64 {
        sources.add_too_large(name, metadata.len());
    } else {
        sources.add(name, read_bytes(path).map_err(gone(path))?);
    }
    Ok(())
}

/// At most one byte more than a policy file may have, whatever the file has become since it was looked at.
pub(crate) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(source_limits::FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file that may be where the `mesh` node is.
fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(String::from_utf8_lossy(&read_bytes(path)?).into_owned())
}

fn relative(path: &Path, top: &Path) -> Result<String, LoadError> {
    let relative = path.strip_prefix(top).unwrap_or(path);
    relative
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| LoadError::NotUtf8(path.to_path_buf()))
}

/// What became of a file that was there a moment ago.
fn gone(path: &Path) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.to_path_buf();
    |source| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Gone(path),
        _ => LoadError::Io { path, source },
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.to_path_buf();
    |source| LoadError::Io { path, source }
}
