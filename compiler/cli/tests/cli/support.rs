//! A policy repository in a temporary folder, and runs of the program in it.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The output as a snapshot shows it.
    pub(crate) fn shown(&self) -> String {
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code.unwrap(),
            self.stdout,
            self.stderr
        )
    }

    /// The output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A work tree.
pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// Empty.
    pub(crate) fn empty() -> Self {
        Self {
            folder: tempfile::Builder::new().prefix("meshc-").tempdir().unwrap(),
        }
    }

    /// What `meshc init` writes, in the folder `policy`.
    pub(crate) fn with_policy() -> Self {
        let fixture = Self::empty();
        assert_eq!(
            fixture.meshc(&["init", "policy", "--name", "shop"]).code,
            Some(0)
        );
        fixture
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the program in the folder. What differs from run to run is replaced.
    pub(crate) fn meshc(&self, args: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .args(args)
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let here = fs::canonicalize(self.folder.path()).unwrap();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes)
                .unwrap()
                .replace(here.to_str().unwrap(), "HERE")
        };
        Run {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Makes the folder a repository on `main` and commits everything.
    pub(crate) fn commit(&self) -> String {
        let git = git2::Repository::open(self.folder.path()).unwrap_or_else(|_| {
            let mut options = git2::RepositoryInitOptions::new();
            git2::Repository::init_opts(self.folder.path(), options.initial_head("main")).unwrap()
        });
        let mut index = git.index().unwrap();
        index
            .add_all(["*"], git2::IndexAddOption::DEFAULT, None)
            .unwrap();
        index.write().unwrap();
        let tree = git.find_tree(index.write_tree().unwrap()).unwrap();
        let who = git2::Signature::new("a", "a@example.org", &git2::Time::new(0, 0)).unwrap();
        let parent = git.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        git.commit(Some("HEAD"), &who, &who, "x", &tree, &parents)
            .unwrap()
            .to_string()
    }
}

/// Every file below a folder, by path.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
