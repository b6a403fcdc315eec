//! The files of one policy root as they are in the editor, parsed, with the names in them.

use mesh_syntax::{FileId, Parsed, SourceSet, Tree, parse_again};

use crate::name::{self, Id, Mention, Role};
use crate::walk::Places;

/// The files that questions are about.
#[derive(Debug)]
pub struct Policies {
    sources: SourceSet,
    root_path: String,
    parsed: Parsed,
    /// For each file its names.
    mentions: Vec<Vec<Mention>>,
}

impl Policies {
    /// Reads the files; those that are as they were earlier are not read again.
    pub fn new(sources: SourceSet, root_path: String, earlier: Option<Self>) -> Self {
        let (known, mut mentions, texts) = match earlier {
            Some(earlier) if earlier.root_path == root_path => {
                (Some(earlier.parsed), earlier.mentions, earlier.sources)
            }
            _ => (None, Vec::new(), SourceSet::new()),
        };
        let parsed = parse_again(&sources, known.map(|parsed| (&texts, parsed)));
        mentions.resize_with(parsed.trees.len(), Vec::new);
        for (tree, mentions) in parsed.trees.iter().zip(&mut mentions) {
            let file = tree.file;
            let path = sources.path(file);
            if !sources.is_same(&texts, file) {
                *mentions = name::mentions(tree, Places::top(path, &root_path));
            }
        }
        Self {
            sources,
            root_path,
            parsed,
            mentions,
        }
    }

    /// The files.
    pub const fn sources(&self) -> &SourceSet {
        &self.sources
    }

    /// Folder of the root in the repository.
    pub fn root_path(&self) -> &str {
        &self.root_path
    }

    /// The tree of a file.
    pub(crate) fn tree(&self, file: FileId) -> Option<&Tree> {
        self.parsed.trees.get(file.index())
    }

    /// What may stand at the top of a file.
    pub(crate) fn top(&self, file: FileId) -> Places {
        Places::top(self.sources.path(file), &self.root_path)
    }

    /// Every name of every file, in their order.
    pub(crate) fn mentions(&self) -> impl Iterator<Item = &Mention> {
        self.mentions.iter().flatten()
    }

    /// The names of one file, in its order.
    pub(crate) fn mentions_in(&self, file: FileId) -> &[Mention] {
        self.mentions.get(file.index()).map_or(&[], Vec::as_slice)
    }

    /// The name at an offset.
    pub(crate) fn mention_at(&self, file: FileId, offset: usize) -> Option<&Mention> {
        self.mentions_in(file).iter().find(|mention| {
            let range = mention.span.range();
            range.start <= offset && offset <= range.end
        })
    }

    /// Where something is defined: its definition, else what an environment says of it.
    pub(crate) fn definitions<'p>(&'p self, id: &'p Id) -> Vec<&'p Mention> {
        let of = |role: Role| {
            self.mentions()
                .filter(move |mention| mention.role == role && mention.id == *id)
        };
        let defined: Vec<&Mention> = of(Role::Definition).collect();
        if defined.is_empty() {
            of(Role::Override).collect()
        } else {
            defined
        }
    }
}
