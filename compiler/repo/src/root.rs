//! Which files are policy, and which folder is the root of a mesh.

use mesh_syntax::{KEY_SET_SUFFIX, SourceSet, parse};

use crate::repository::{CommitId, ReadError, Repository};

/// Why the policy root of a commit could not be told.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// No file has a `mesh` node.
    #[error("the commit has no policy file with a `mesh` node")]
    None,
    /// There are several; a command takes one.
    #[error("the commit has several policy roots ({}); name one", .0.join(", "))]
    Several(Vec<String>),
    /// The files could not be read.
    #[error("look for the policy root")]
    Read(#[from] ReadError),
}

impl Repository {
    /// The one folder of a commit that holds a `mesh` node; empty for the top.
    pub fn find_root(&self, commit: CommitId) -> Result<String, RootError> {
        let mut roots = self.roots(commit)?;
        match roots.len() {
            0 => Err(RootError::None),
            1 => Ok(roots.remove(0)),
            _ => Err(RootError::Several(
                roots
                    .into_iter()
                    .map(|root| {
                        if root.is_empty() {
                            ".".to_owned()
                        } else {
                            root
                        }
                    })
                    .collect(),
            )),
        }
    }

    /// Every folder of a commit that holds a `mesh` node, ascending; empty for the top.
    pub fn roots(&self, commit: CommitId) -> Result<Vec<String>, ReadError> {
        let sources = self.policy_files(commit, "")?;
        let mut roots: Vec<String> = sources
            .files()
            .filter(|file| !sources.path(*file).ends_with(KEY_SET_SUFFIX))
            .filter(|file| sources.text(*file).is_some_and(holds_mesh))
            .map(|file| folder_of(sources.path(file)).to_owned())
            .collect();
        roots.sort();
        roots.dedup();
        Ok(roots)
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a policy file has a `mesh` node, and so makes its folder a root.
pub fn holds_mesh(text: &str) -> bool {
    // Most files don't even have the word where a node can begin, and need no parsing.
    let may = text.match_indices("mesh").any(|(at, word)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        let begins =
            |char: char| char.is_whitespace() || matches!(char, '\u{feff}' | ';' | '}' | '/');
        let ends = |char: char| char.is_whitespace() || matches!(char, '{' | '/' | ';' | '\\');
        before.is_none_or(begins) && after.is_none_or(ends)
    });
    if !may {
        return false;
    }
    let mut sources = SourceSet::new();
    sources.add("", text.as_bytes().to_vec());
    let (trees, _) = parse(&sources);
    trees
        .iter()
        .flat_map(|tree| &tree.nodes)
        .any(|node| node.name.text == "mesh")
}

/// Whether a path, relative to the repository or the root, is that of a policy file, or of the public
/// keys that policy files name.
pub fn is_policy_file(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(is_policy_name) && !path.split('/').any(is_hidden)
}

pub(crate) fn is_policy_name(name: &str) -> bool {
    name.strip_suffix(".kdl").is_some() || name.ends_with(KEY_SET_SUFFIX)
}

/// Hidden folders, and hidden files, hold no policy.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_files_end_in_kdl_and_are_not_hidden() {
        assert!(is_policy_file("mesh.kdl"));
        assert!(is_policy_file("teams/a/a.test.kdl"));
        assert!(!is_policy_file("README.md"));
        assert!(!is_policy_file(".git/x.kdl"));
        assert!(!is_policy_file("teams/.draft/a.kdl"));
        assert!(!is_policy_file(".kdl"));
    }

    #[test]
    fn only_a_mesh_node_makes_a_root() {
        assert!(holds_mesh("// our mesh\nmesh shop {\n}\n"));
        assert!(holds_mesh("\u{feff}mesh shop {\n}\n"));
        assert!(holds_mesh("policy p {}; mesh/* ours */shop {\r}\r"));
        assert!(!holds_mesh("// mesh\nservice mesh {\n    mesh x\n}\n"));
        assert!(!holds_mesh("meshes a\n"));
        assert!(!holds_mesh("/-\nmesh a\n"));
    }
}
