//! Real repositories in temporary folders.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use git2::Repository as Git;
use nix::unistd::{Uid, setfsuid};
use tempfile::TempDir;

use super::*;

const REFERENCE: &str = "refs/mesh/trust";

const NOTE: Note<'static> = Note {
    author: "meshd",
    email: "meshd@test.example",
    message: "trust statements",
    at: 1_767_225_600,
};

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

    fn append(&self, given: &[(&str, &str)]) -> Result<Appended, AppendError> {
        let repository = Repository::open(self.folder.path()).unwrap();
        repository.append(REFERENCE, &files(given), &NOTE)
    }

    /// What the ref holds.
    fn held(&self) -> BTreeMap<String, Vec<u8>> {
        let commit = self.git.find_reference(REFERENCE).unwrap();
        let tree = commit.peel_to_tree().unwrap();
        let mut held = BTreeMap::new();
        tree.walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
            if entry.kind() == Some(ObjectType::Blob) {
                let path = format!("{folder}{}", entry.name().unwrap());
                let blob = self.git.find_blob(entry.id()).unwrap();
                held.insert(path, blob.content().to_vec());
            }
            git2::TreeWalkResult::Ok
        })
        .unwrap();
        held
    }

    fn commits(&self) -> usize {
        let mut walk = self.git.revwalk().unwrap();
        walk.push_ref(REFERENCE).unwrap();
        walk.count()
    }
}

fn files(given: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    let file = |(path, text): &(&str, &str)| ((*path).to_owned(), text.as_bytes().to_vec());
    given.iter().map(file).collect()
}

#[test]
fn each_commit_adds_to_the_one_before() {
    let fixture = Fixture::new();
    let first = fixture.append(&[("a/1", "one"), ("b", "x")]).unwrap();
    let second = fixture.append(&[("a/1", "one"), ("a/c/2", "two")]).unwrap();
    let all = [("a/1", "one"), ("a/c/2", "two"), ("b", "x")];
    assert_eq!(fixture.held(), files(&all));
    let tip = fixture.git.find_commit(second.commit.unwrap().0).unwrap();
    assert_eq!(tip.parent_id(0).unwrap(), first.commit.unwrap().0);
    assert_eq!(tip.time().seconds(), NOTE.at);

    // What is all there makes no commit.
    let nothing = Appended {
        commit: None,
        occupied: Vec::new(),
    };
    assert_eq!(fixture.append(&all).unwrap(), nothing);
    assert_eq!(fixture.commits(), 2);
}

#[test]
fn what_is_there_is_never_written_again() {
    let fixture = Fixture::new();
    fixture.append(&[("a/1", "one"), ("b", "x")]).unwrap();
    let again = [
        ("a", "file"),
        ("a/1", "ONE"),
        ("a/2", "two"),
        ("b/3", "three"),
    ];
    let appended = fixture.append(&again).unwrap();
    assert_eq!(appended.occupied, ["a", "a/1", "b/3"]);
    let held = [("a/1", "one"), ("a/2", "two"), ("b", "x")];
    assert_eq!(fixture.held(), files(&held));
}

#[test]
fn a_ref_that_moved_meanwhile_is_not_set_back() {
    let fixture = Fixture::new();
    let repository = Repository::open(fixture.folder.path()).unwrap();
    let ours = files(&[("ours", "1")]);
    let (commit, _) = repository.commit_on(None, &ours, &NOTE).unwrap();
    let theirs = fixture.append(&[("theirs", "1")]).unwrap().commit.unwrap();
    let moved = |from| repository.advance(REFERENCE, from, commit.unwrap(), &NOTE);
    assert!(!moved(None).unwrap(), "made by others meanwhile");
    let later = fixture.append(&[("later", "1")]).unwrap();
    assert!(!moved(Some(theirs.0)).unwrap(), "moved by others meanwhile");
    let tip = fixture.git.refname_to_id(REFERENCE).unwrap();
    assert_eq!(tip, later.commit.unwrap().0);

    fixture.append(&[("ours", "1")]).unwrap();
    let all = [("later", "1"), ("ours", "1"), ("theirs", "1")];
    assert_eq!(fixture.held(), files(&all));
}

#[test]
fn writers_at_once_lose_nothing() {
    let fixture = Fixture::new();
    let path = fixture.folder.path();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                let repository = Repository::open(path).unwrap();
                for turn in 0..10 {
                    let name = format!("{writer}/{turn}");
                    let file = files(&[(&name, "x")]);
                    // Each keeps trying, as a daemon does.
                    while let Err(error) = repository.append(REFERENCE, &file, &NOTE) {
                        assert!(matches!(error, AppendError::Contended(_)), "{error:?}");
                    }
                }
            });
        }
    });
    assert_eq!(fixture.held().len(), 40);
    assert_eq!(fixture.commits(), 40);
}

#[test]
fn a_ref_that_others_hold_is_given_up() {
    let fixture = Fixture::new();
    fixture.append(&[("a", "1")]).unwrap();
    let lock = fixture.folder.path().join(format!("{REFERENCE}.lock"));
    fs::write(&lock, "").unwrap();
    let error = fixture.append(&[("b", "1")]).unwrap_err();
    assert!(matches!(error, AppendError::Contended(_)), "{error:?}");
    fs::remove_file(lock).unwrap();
    fixture.append(&[("b", "1")]).unwrap();
    assert_eq!(fixture.commits(), 2);
}

#[test]
fn a_repository_that_may_only_be_read_stays_as_it_is() {
    let fixture = Fixture::new();
    let repository = Repository::open(fixture.folder.path()).unwrap();
    let set_mode = |mode| {
        for name in ["", "objects", "refs"] {
            let folder = fixture.folder.path().join(name);
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o555);
    // Modes mean nothing to root: this thread alone asks for files as somebody else.
    let me = setfsuid(Uid::from_raw(65534));
    let refused = repository.append(REFERENCE, &files(&[("a", "1")]), &NOTE);
    setfsuid(me);
    set_mode(0o755);
    assert!(matches!(refused, Err(AppendError::Git(_))), "{refused:?}");
    assert!(fixture.git.find_reference(REFERENCE).is_err());
    fixture.append(&[("a", "1")]).unwrap();
}

#[test]
fn a_ref_of_something_else_stays() {
    let fixture = Fixture::new();
    let blob = fixture.git.blob(b"x").unwrap();
    fixture.git.reference(REFERENCE, blob, false, "x").unwrap();
    let error = fixture.append(&[("a", "1")]).unwrap_err();
    assert!(matches!(error, AppendError::NotACommit(_)), "{error:?}");
    assert_eq!(fixture.git.refname_to_id(REFERENCE).unwrap(), blob);
}
