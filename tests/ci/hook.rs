//! The hook of git that looks at what is about to be committed.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use mesh_tests::{Failure, program, workspace_root};

use crate::support::{BREAK, Pull, REVIEWS, SHIFT, Said, edit, git, said};

struct Hooked(Pull);

impl Hooked {
    fn new() -> Result<Self, Failure> {
        let pull = Pull::new(&SHIFT)?;
        let hook = pull.clone.join(".git/hooks/pre-commit");
        symlink(workspace_root().join("ci/pre-commit/mesh-check.sh"), hook)?;
        Ok(Self(pull))
    }

    fn commit(&self, words: &[&str]) -> Result<Said, Failure> {
        self.commit_with(program("meshc")?, words)
    }

    fn commit_with(&self, meshc: PathBuf, words: &[&str]) -> Result<Said, Failure> {
        said(
            Command::new("git")
                .current_dir(&self.0.clone)
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("MESHC", meshc)
                .args(["commit", "--message", "Edit policy"])
                .args(words),
        )
    }
}

#[test]
fn what_is_staged_is_looked_at_and_not_what_lies_around() -> Result<(), Failure> {
    let hooked = Hooked::new()?;
    let clone = &hooked.0.clone;
    edit(clone, REVIEWS, &BREAK)?;
    git(clone, &["add", REVIEWS])?;
    // Mended, but not staged.
    edit(clone, REVIEWS, &BREAK.map(|(old, new)| (new, old)))?;
    let refused = hooked.commit(&[])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(format!("{refused:?}").contains("MSH0305"), "{refused:?}");

    edit(clone, REVIEWS, &[("/opinions/**", "/judgements/**")])?;
    git(clone, &["add", REVIEWS])?;
    edit(clone, REVIEWS, &BREAK)?;
    let taken = hooked.commit(&[])?;
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(
        format!("{taken:?}").contains("/judgements"),
        "it says what it means: {taken:?}"
    );
    Ok(())
}

#[test]
fn a_commit_without_policy_is_no_concern_of_it() -> Result<(), Failure> {
    let hooked = Hooked::new()?;
    let clone = &hooked.0.clone;
    std::fs::write(clone.join("README.md"), "Policies of the shop.\n")?;
    git(clone, &["add", "README.md"])?;
    let taken = hooked.commit_with("no-such-meshc".into(), &[])?;
    assert_eq!(taken.code, Some(0), "{taken:?}");

    edit(clone, REVIEWS, &BREAK)?;
    let refused = hooked.commit_with("no-such-meshc".into(), &["--all"])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("there is no `no-such-meshc` here"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn what_could_not_run_is_said_of_the_repository() -> Result<(), Failure> {
    let hooked = Hooked::new()?;
    let clone = &hooked.0.clone;
    git(clone, &["rm", "--quiet", "mesh.kdl"])?;
    let refused = hooked.commit(&[])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("policy root") && !refused.err.contains("/index"),
        "{refused:?}"
    );
    Ok(())
}
