//! The documents that are open in the editor, and the policy roots that they and the workspace's folders belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lsp_types::{Diagnostic, TextDocumentContentChangeEvent};
use mesh_editor::Policies;
use mesh_lint::Checker;
use mesh_repo::holds_mesh;
use mesh_syntax::{FileId, SourceSet};

use super::position::Encoding;
use super::uri;
use crate::compile::Compiled;
use crate::load::{self, LoadError, State};

/// A document that is open: what it says counts, whatever is on the disk.
#[derive(Debug)]
pub(super) struct Document {
    /// The path that it has on the disk, or would have; none: it was never saved.
    pub(super) path: Option<PathBuf>,
    pub(super) version: i32,
    pub(super) text: String,
    /// The root that it belongs to; none: to none.
    pub(super) root: Option<PathBuf>,
    /// What is asked about a document of no root.
    alone: Option<Policies>,
}

/// A policy root.
#[derive(Debug)]
pub(super) struct Root {
    /// What paths in the sources are relative to.
    pub(super) top: PathBuf,
    /// Its folder in the repository.
    pub(super) folder: String,
    /// The files of the disk with the open documents over them.
    pub(super) sources: SourceSet,
    /// The same, parsed; none: something changed since.
    policies: Option<Policies>,
    stale: bool,
    /// What was on the disk when it was looked at last.
    on_disk: State,
    /// When it is to be checked; none: nothing changed since it was.
    pub(super) due: Option<Instant>,
    /// None: a check is under way.
    pub(super) checker: Option<Box<Checker>>,
    /// What was found last.
    pub(super) found: Option<Found>,
    /// What was found when the mesh could be linked last.
    pub(super) linked: Option<Arc<(SourceSet, Compiled)>>,
    /// What the editor shows, by URI.
    pub(super) shown: BTreeMap<String, Vec<Diagnostic>>,
    /// How long a check takes.
    pub(super) takes: std::time::Duration,
}

/// The findings of a moment.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sources: SourceSet,
    pub(super) findings: Vec<mesh_syntax::Diagnostic>,
}

/// Everything that is open.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) encoding: Encoding,
    pub(super) folders: Vec<PathBuf>,
    pub(super) documents: BTreeMap<String, Document>,
    pub(super) roots: BTreeMap<PathBuf, Root>,
}

/// The same path, whatever links lead to its folder.
fn canonical(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        if let Ok(found) = fs::canonicalize(at) {
            return missing
                .iter()
                .rev()
                .fold(found, |path, name| path.join(name));
        }
        match (at.parent(), at.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                at = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

impl Root {
    /// The path of a file of the root in its sources.
    pub(super) fn name_of(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.top).ok()?;
        relative.to_str().map(str::to_owned)
    }

    /// Where a file of the sources is.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// The files as they are now, parsed.
    pub(super) fn policies(&mut self) -> &Policies {
        let earlier = self.policies.take();
        let policies = match earlier {
            Some(policies) if !self.stale => policies,
            earlier => Policies::new(self.sources.clone(), self.folder.clone(), earlier),
        };
        self.stale = false;
        self.policies.insert(policies)
    }

    fn set(&mut self, name: &str, text: &str) {
        self.sources.set(name, text.as_bytes().to_vec());
        self.changed();
    }

    fn changed(&mut self) {
        self.stale = true;
        self.due.get_or_insert_with(Instant::now);
    }
}

impl Workspace {
    /// Opens a document; says whether it belongs to a root.
    pub(super) fn open(
        &mut self,
        uri: &str,
        version: i32,
        text: String,
    ) -> Result<bool, LoadError> {
        let path = uri::to_path(uri).map(|path| canonical(&path));
        let document = Document {
            path,
            version,
            text,
            root: None,
            alone: None,
        };
        self.documents.insert(uri.to_owned(), document);
        self.place(uri)
    }

    /// Finds the root of an open document.
    fn place(&mut self, uri: &str) -> Result<bool, LoadError> {
        let Some(document) = self.documents.get(uri) else {
            return Ok(false);
        };
        let folder = document.path.as_deref().and_then(Path::parent);
        let Some((path, folder)) = document.path.clone().zip(folder.map(Path::to_path_buf)) else {
            return Ok(false);
        };
        let found = match self
            .roots
            .keys()
            .rev()
            .find(|root| folder.starts_with(root))
        {
            Some(root) => Some(root.clone()),
            None => self.root_above(&folder)?,
        };
        let Some(folder) = found else {
            return Ok(false);
        };
        self.add_root(folder.clone())?;
        let text = self.documents.get_mut(uri).map(|document| {
            document.root = Some(folder.clone());
            document.text.clone()
        });
        if let (Some(root), Some(text)) = (self.roots.get_mut(&folder), text)
            && let Some(name) = root.name_of(&path)
        {
            root.set(&name, &text);
        }
        Ok(true)
    }

    /// The nearest folder with a `mesh` node, on the disk or in a document.
    fn root_above(&self, folder: &Path) -> Result<Option<PathBuf>, LoadError> {
        let has_open = |folder: &Path| {
            self.documents.values().any(|document| {
                document.path.as_deref().and_then(Path::parent) == Some(folder)
                    && holds_mesh(&document.text)
            })
        };
        load::root_above(folder, &has_open)
    }

    /// Takes in a root, with the documents that are open in it.
    pub(super) fn add_root(&mut self, folder: PathBuf) -> Result<(), LoadError> {
        if self.roots.contains_key(&folder) {
            return Ok(());
        }
        let (loaded, top) = load::load_root(&folder)?;
        let mut root = Root {
            on_disk: State::of_root(&folder),
            top,
            folder: loaded.root_path,
            sources: loaded.sources,
            policies: None,
            stale: true,
            due: Some(Instant::now()),
            checker: Some(Box::new(Checker::new())),
            found: None,
            linked: None,
            shown: BTreeMap::new(),
            takes: std::time::Duration::ZERO,
        };
        for document in self.documents.values_mut() {
            let name = document
                .path
                .as_deref()
                .filter(|path| path.starts_with(&folder));
            if let Some(name) = name.and_then(|path| root.name_of(path)) {
                root.set(&name, &document.text);
                document.root = Some(folder.clone());
            }
        }
        self.roots.insert(folder, root);
        Ok(())
    }

    /// Looks for roots in the workspace's folders, and for documents that have one by now.
    pub(super) fn find_roots(&mut self) -> Vec<LoadError> {
        let mut errors = Vec::new();
        for folder in self.folders.clone() {
            let found = load::roots_in(&folder);
            let added =
                found.and_then(|roots| roots.into_iter().try_for_each(|root| self.add_root(root)));
            errors.extend(added.err());
        }
        let rootless = self.documents.iter();
        let rootless = rootless.filter(|(_, document)| document.root.is_none());
        let rootless: Vec<String> = rootless.map(|(uri, _)| uri.clone()).collect();
        for uri in rootless {
            errors.extend(self.place(&uri).err());
        }
        errors
    }

    /// Changes a document as its editor did.
    pub(super) fn change(
        &mut self,
        uri: &str,
        version: i32,
        changes: Vec<TextDocumentContentChangeEvent>,
    ) -> bool {
        let encoding = self.encoding;
        let Some(document) = self.documents.get_mut(uri) else {
            return false;
        };
        for change in changes {
            match change.range {
                None => document.text = change.text,
                Some(range) => {
                    let start = encoding.offset(&document.text, range.start);
                    let end = encoding.offset(&document.text, range.end).max(start);
                    document.text.replace_range(start..end, &change.text);
                }
            }
        }
        document.version = version;
        document.alone = None;
        if let (Some(folder), Some(path)) = (&document.root, &document.path)
            && let Some(root) = self.roots.get_mut(folder)
            && let Some(name) = root.name_of(path)
        {
            root.set(&name, &document.text);
        }
        true
    }

    /// Whether a document belongs to a root.
    pub(super) fn has_root(&self, uri: &str) -> bool {
        let document = self.documents.get(uri);
        document.is_some_and(|document| document.root.is_some())
    }

    /// Forgets roots that are neither in a folder of the workspace nor have an open document. Returns the URIs that no
    /// longer show anything.
    pub(super) fn forget_unused(&mut self) -> Vec<String> {
        let folders: Vec<PathBuf> = self
            .folders
            .iter()
            .map(|folder| canonical(folder))
            .collect();
        let documents = &self.documents;
        let is_used = |root: &PathBuf| {
            let in_folder = |folder: &PathBuf| root.starts_with(folder) || folder.starts_with(root);
            folders.iter().any(in_folder)
                || documents
                    .values()
                    .any(|document| document.root.as_ref() == Some(root))
        };
        let unused: Vec<PathBuf> = self
            .roots
            .keys()
            .filter(|root| !is_used(root))
            .cloned()
            .collect();
        let gone = unused.iter().filter_map(|root| self.roots.remove(root));
        gone.flat_map(|root| root.shown.into_keys()).collect()
    }

    /// Closes a document: what is on the disk counts again.
    pub(super) fn close(&mut self, uri: &str) {
        if let Some(document) = self.documents.remove(uri)
            && let Some(folder) = document.root
        {
            self.reload(&folder);
        }
    }

    /// Reads a root again; one that is gone is forgotten. Returns the URIs that no longer show anything.
    pub(super) fn reload(&mut self, folder: &Path) -> Vec<String> {
        let state = State::of_root(folder);
        let loaded = load::load_root(folder);
        let open: BTreeMap<PathBuf, String> = self
            .documents
            .values()
            .filter(|document| document.root.as_deref() == Some(folder))
            .filter_map(|document| Some((document.path.clone()?, document.text.clone())))
            .collect();
        let Some(root) = self.roots.get_mut(folder) else {
            return Vec::new();
        };
        let Ok((loaded, _)) = loaded else {
            if open.is_empty() {
                let gone = self.roots.remove(folder);
                return gone.map_or_else(Vec::new, |root| root.shown.into_keys().collect());
            }
            return Vec::new();
        };
        root.sources = loaded.sources;
        root.on_disk = state;
        for (path, text) in open {
            if let Some(name) = root.name_of(&path) {
                root.sources.set(&name, text.into_bytes());
            }
        }
        root.changed();
        Vec::new()
    }

    /// Looks whether files changed on the disk. Returns the URIs that no longer show anything.
    pub(super) fn look(&mut self) -> Vec<String> {
        let folders: Vec<PathBuf> = self.roots.keys().cloned().collect();
        let mut cleared = Vec::new();
        for folder in folders {
            let state = State::of_root(&folder);
            let Some(root) = self.roots.get_mut(&folder) else {
                continue;
            };
            if root.on_disk == state {
                continue;
            }
            let open: BTreeSet<&Path> = self
                .documents
                .values()
                .filter_map(|document| document.path.as_deref())
                .collect();
            let only_open = root.on_disk.differs_only_in(&state, &open);
            root.on_disk = state;
            if !only_open {
                cleared.extend(self.reload(&folder));
            }
        }
        cleared
    }

    /// The policies that a document is part of, and which of their files it is.
    pub(super) fn policies_of(
        &mut self,
        uri: &str,
    ) -> Option<(&Policies, FileId, Option<PathBuf>)> {
        let Self {
            documents, roots, ..
        } = self;
        let path = match documents.get(uri) {
            Some(document) => document.path.clone(),
            None => uri::to_path(uri).map(|path| canonical(&path)),
        };
        if let Some(path) = &path {
            let folder = roots
                .keys()
                .rev()
                .find(|root| path.starts_with(root))
                .cloned();
            if let Some(folder) = folder {
                let root = roots.get_mut(&folder)?;
                if let Some(name) = root.name_of(path)
                    && let Some(file) = root.sources.find(&name)
                {
                    return Some((root.policies(), file, Some(folder)));
                }
            }
        }
        let document = documents.get_mut(uri)?;
        let name = path.as_deref().and_then(Path::file_name);
        let name = name.map_or_else(
            || "untitled.kdl".into(),
            |name| name.to_string_lossy().into_owned(),
        );
        let text = &document.text;
        let policies = document.alone.get_or_insert_with(|| {
            let mut sources = SourceSet::new();
            sources.add(name, text.as_bytes().to_vec());
            Policies::new(sources, String::new(), None)
        });
        let file = policies.sources().files().next()?;
        Some((policies, file, None))
    }

    /// The URI of a path: the one that the editor uses, if it is open.
    pub(super) fn uri_of(&self, path: &Path) -> String {
        let open = self
            .documents
            .iter()
            .find(|(_, document)| document.path.as_deref() == Some(path));
        open.map_or_else(|| uri::of_path(path), |(uri, _)| uri.clone())
    }
}
