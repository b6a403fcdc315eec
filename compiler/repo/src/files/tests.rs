//! Real repositories in temporary folders.

use std::fs;

use git2::{Oid, Repository as Git, Signature, Time};
use mesh_syntax::{Level, parse};
use tempfile::TempDir;

use super::*;
use crate::{HistoryError, OpenError, RootError};

struct Fixture {
    folder: TempDir,
    git: Git,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        Self { folder, git }
    }

    fn open(&self) -> Repository {
        Repository::open(self.folder.path()).unwrap()
    }

    /// A commit of these (path, mode, content), on no branch.
    fn commit(&self, files: &[(&str, i32, &[u8])], parents: &[Oid]) -> Oid {
        let mut index = git2::Index::new().unwrap();
        for (path, mode, content) in files {
            let id = if *mode == 0o160_000 {
                Oid::from_str(&"1".repeat(40)).unwrap()
            } else {
                self.git.blob(content).unwrap()
            };
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: u32::try_from(*mode).unwrap(),
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).unwrap();
        }
        let tree = self
            .git
            .find_tree(index.write_tree_to(&self.git).unwrap())
            .unwrap();
        let who = Signature::new("a", "a@b.c", &Time::new(0, 0)).unwrap();
        let parents: Vec<_> = parents
            .iter()
            .map(|id| self.git.find_commit(*id).unwrap())
            .collect();
        self.git
            .commit(
                None,
                &who,
                &who,
                "x",
                &tree,
                &parents.iter().collect::<Vec<_>>(),
            )
            .unwrap()
    }
}

const FILE: i32 = 0o100_644;

fn paths(sources: &SourceSet) -> Vec<&str> {
    sources.files().map(|file| sources.path(file)).collect()
}

#[test]
fn the_policy_files_of_a_commit_are_read_below_the_root() {
    let fixture = Fixture::new();
    let commit = fixture.commit(
        &[
            ("p/mesh.kdl", FILE, b"mesh a {}\n"),
            ("p/teams/b.kdl", FILE, b"service b {}\n"),
            ("p/teams/b.md", FILE, b"text"),
            ("p/.hidden/c.kdl", FILE, b"x"),
            ("q/other.kdl", FILE, b"y"),
        ],
        &[],
    );
    let repository = fixture.open();
    let sources = repository.policy_files(CommitId(commit), "p").unwrap();
    assert_eq!(paths(&sources), ["p/mesh.kdl", "p/teams/b.kdl"]);
    assert_eq!(
        sources.text(sources.find("p/mesh.kdl").unwrap()),
        Some("mesh a {}\n")
    );
    assert_eq!(
        paths(&repository.policy_files(CommitId(commit), "").unwrap()).len(),
        3
    );
    assert_eq!(repository.find_root(CommitId(commit)).unwrap(), "p");
    assert!(matches!(
        repository.policy_files(CommitId(commit), "nowhere"),
        Err(ReadError::NoFolder(_))
    ));
}

#[test]
fn several_roots_must_be_told_apart() {
    let fixture = Fixture::new();
    let files: [(&str, i32, &[u8]); 2] = [
        ("mesh.kdl", FILE, b"mesh a {}\n"),
        ("p/mesh.kdl", FILE, b"mesh a {}\n"),
    ];
    let both = fixture.commit(&files, &[]);
    let none = fixture.commit(&[("a.kdl", FILE, b"service a {}\n")], &[]);
    let repository = fixture.open();
    assert!(
        matches!(repository.find_root(CommitId(both)), Err(RootError::Several(roots)) if roots == [".", "p"])
    );
    assert!(matches!(
        repository.find_root(CommitId(none)),
        Err(RootError::None)
    ));
}

#[test]
fn links_submodules_and_large_files_become_findings() {
    let fixture = Fixture::new();
    let large = vec![b' '; source_limits::FILE_BYTES_MAX + 1];
    let commit = fixture.commit(
        &[
            ("large.kdl", FILE, &large),
            ("link.kdl", SYMLINK, b"/etc/passwd"),
            ("link.txt", SYMLINK, b"/etc/passwd"),
            ("module", 0o160_000, b""),
            ("teams/a.kdl", FILE, b"policy p"),
            ("to-a-file", SYMLINK, b"teams/a.kdl"),
            ("to-a-folder", SYMLINK, b"./teams"),
            ("to-a-link", SYMLINK, b"to-a-folder"),
            ("to-itself", SYMLINK, b"to-itself"),
            ("to-nothing", SYMLINK, b"nowhere"),
            ("up", SYMLINK, b"teams/../.."),
        ],
        &[],
    );
    let sources = fixture.open().policy_files(CommitId(commit), "").unwrap();
    let (_, diagnostics) = parse(&sources);
    let found: Vec<_> = diagnostics
        .iter()
        .map(|found| (found.code, sources.path(found.span.file)))
        .collect();
    assert_eq!(
        found,
        [
            ("MSH0010", "large.kdl"),
            ("MSH0012", "link.kdl"),
            ("MSH0012", "link.txt"),
            ("MSH0012", "module"),
            ("MSH0012", "to-a-folder"),
            ("MSH0012", "to-a-link"),
            ("MSH0012", "up"),
        ]
    );
    let errors = diagnostics
        .iter()
        .filter(|found| found.level == Level::Error);
    assert_eq!(errors.count(), 3, "a link that nobody reads is a warning");
}

#[test]
fn the_input_digest_depends_on_paths_and_contents_and_not_on_their_joint() {
    let digest = |files: &[(&str, &str)]| {
        let mut sources = SourceSet::new();
        for (path, text) in files {
            sources.add(*path, text.as_bytes().to_vec());
        }
        input_digest(&sources)
    };
    assert_eq!(
        digest(&[("a", "1"), ("b", "2")]),
        digest(&[("b", "2"), ("a", "1")])
    );
    assert_ne!(digest(&[("a", "b")]), digest(&[("ab", "")]));
    assert_ne!(digest(&[("a", "1")]), digest(&[("a", "2")]));
}

#[test]
fn the_sequence_counts_every_reachable_commit_once() {
    let fixture = Fixture::new();
    let first = fixture.commit(&[("a", FILE, b"1")], &[]);
    let left = fixture.commit(&[("a", FILE, b"2")], &[first]);
    let right = fixture.commit(&[("a", FILE, b"3")], &[first]);
    let right_2 = fixture.commit(&[("a", FILE, b"4")], &[right]);
    let merge = fixture.commit(&[("a", FILE, b"5")], &[left, right_2]);
    let repository = fixture.open();
    let sequence = |id| repository.sequence(CommitId(id)).unwrap();
    assert_eq!(
        (
            sequence(first),
            sequence(left),
            sequence(right_2),
            sequence(merge)
        ),
        (1, 2, 3, 5)
    );
    let is_ancestor = |a, b| repository.is_ancestor(CommitId(a), CommitId(b)).unwrap();
    assert!(is_ancestor(first, merge) && is_ancestor(right, merge) && is_ancestor(merge, merge));
    assert!(!is_ancestor(left, right_2) && !is_ancestor(merge, first));
}

#[test]
fn a_history_that_is_not_whole_is_refused() {
    let fixture = Fixture::new();
    let first = fixture.commit(&[("a", FILE, b"1")], &[]);
    let second = fixture.commit(&[("a", FILE, b"2")], &[first]);
    fs::write(fixture.folder.path().join("shallow"), format!("{second}\n")).unwrap();
    assert!(matches!(
        fixture.open().sequence(CommitId(second)),
        Err(HistoryError::Shallow)
    ));
    fs::remove_file(fixture.folder.path().join("shallow")).unwrap();
    assert_eq!(fixture.open().sequence(CommitId(second)).unwrap(), 2);
    fs::create_dir_all(fixture.folder.path().join("info")).unwrap();
    fs::write(
        fixture.folder.path().join("info/grafts"),
        format!("{second}\n"),
    )
    .unwrap();
    assert!(matches!(
        fixture.open().sequence(CommitId(second)),
        Err(HistoryError::Grafts)
    ));
}

#[test]
fn names_resolve_to_commits_or_to_nothing() {
    let fixture = Fixture::new();
    let commit = fixture.commit(&[("a", FILE, b"1")], &[]);
    let repository = fixture.open();
    assert_eq!(repository.resolve("refs/heads/main").unwrap(), None);
    assert_eq!(repository.resolve("HEAD").unwrap(), None);
    fixture
        .git
        .reference("refs/heads/main", commit, true, "")
        .unwrap();
    assert_eq!(
        repository.resolve("refs/heads/main").unwrap(),
        Some(CommitId(commit))
    );
    assert_eq!(
        repository.resolve(&commit.to_string()).unwrap(),
        Some(CommitId(commit))
    );
    assert_eq!(
        CommitId::from_hex(&commit.to_string()),
        Some(CommitId(commit))
    );
    assert_eq!(
        repository
            .tree_id(CommitId(commit))
            .unwrap()
            .as_bytes()
            .len(),
        20
    );
}

#[test]
fn a_folder_that_is_no_repository_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Repository::open(folder.path()),
        Err(OpenError::NotARepository(_))
    ));
}
