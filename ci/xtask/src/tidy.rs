//! `cargo xtask tidy`: the shape of the workspace that no compiler checks.
//!
//! A crate may use what its arrows lead to, directly or through others, and nothing else of this
//! workspace. A new arrow is a decision: it is drawn here and in ARCHITECTURE.md, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_tests::{Failure, run as run_command};
use serde::Deserialize;

/// Each crate with the crates that its arrows point to. `None`: it may use all.
const ARROWS: [(&str, Option<&[&str]>); 15] = [
    ("mesh-bundle", Some(&[])),
    ("mesh-syntax", Some(&[])),
    ("mesh-engine", Some(&["mesh-bundle"])),
    ("mesh-daemon", Some(&["mesh-bundle"])),
    ("mesh-repo", Some(&["mesh-syntax"])),
    ("mesh-compiler", Some(&["mesh-syntax", "mesh-engine"])),
    ("mesh-lint", Some(&["mesh-compiler"])),
    ("mesh-editor", Some(&["mesh-lint"])),
    (
        "meshc",
        Some(&["mesh-editor", "mesh-engine", "mesh-bundle", "mesh-repo"]),
    ),
    ("meshp", Some(&["mesh-engine", "mesh-daemon"])),
    (
        "meshd",
        Some(&["mesh-lint", "mesh-daemon", "mesh-bundle", "mesh-repo"]),
    ),
    ("mesh-tests", None),
    ("mesh-fuzz", None),
    ("mesh-load", Some(&[])),
    ("xtask", None),
];

/// Crates of the workspace that touch no file, socket, clock or source of randomness, and what
/// would give those away among their dependencies.
const PURE: [&str; 6] = [
    "mesh-bundle",
    "mesh-syntax",
    "mesh-engine",
    "mesh-compiler",
    "mesh-lint",
    "mesh-editor",
];
const IMPURE: [&str; 6] = ["tokio", "hyper", "rustls", "git2", "tonic", "nix"];

/// Packages that must never be linked: a second cryptographic library.
const FORBIDDEN: [&str; 3] = ["openssl-sys", "openssl", "ring"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Fails with every violation.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let metadata = metadata(root)?;
    let mut violations = arrows(&metadata);
    violations.extend(forbidden(root)?);
    for file in rust_files(root)? {
        violations.extend(header(root, &file)?);
    }
    if violations.is_empty() {
        return Ok(());
    }
    Err(Failure::new(violations.join("\n")))
}

fn metadata(root: &Path) -> Result<Metadata, Failure> {
    let output = run_command(
        Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root),
    )?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn arrows(metadata: &Metadata) -> Vec<String> {
    let members: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .map(|package| (package.name.as_str(), package))
        .collect();
    let mut violations = Vec::new();
    for (name, package) in &members {
        let Some((_, arrows)) = ARROWS.iter().find(|(known, _)| known == name) else {
            violations.push(format!("{name} has no place in the graph of crates"));
            continue;
        };
        let used: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none())
            .map(|dependency| dependency.name.as_str())
            .collect();
        if arrows.is_some() {
            let allowed = reachable(name);
            for used in used.iter().filter(|used| members.contains_key(**used)) {
                if !allowed.contains(used) {
                    violations.push(format!("{name} may not use {used}"));
                }
            }
        }
        if PURE.contains(name) {
            for impure in used.iter().filter(|used| IMPURE.contains(used)) {
                violations.push(format!("{name} is pure and may not use {impure}"));
            }
        }
    }
    violations
}

fn reachable(name: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        let arrows = ARROWS.iter().find(|(known, _)| *known == next);
        for target in arrows.and_then(|(_, arrows)| *arrows).unwrap_or(&[]) {
            if found.insert(*target) {
                open.push(target);
            }
        }
    }
    found
}

/// `cargo metadata` lists what no feature turns on; `cargo tree` lists what is built.
fn forbidden(root: &Path) -> Result<Vec<String>, Failure> {
    let output = run_command(
        Command::new("cargo")
            .args([
                "tree",
                "--workspace",
                "--target",
                "all",
                "--edges",
                "normal,build",
            ])
            .args(["--prefix", "none", "--format", "{p}", "--locked"])
            .current_dir(root),
    )?;
    let packages = String::from_utf8(output.stdout)?;
    let names: BTreeSet<&str> = packages
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains("xtask"), "the list names our own packages");
    Ok(FORBIDDEN
        .iter()
        .filter(|name| names.contains(**name))
        .map(|name| format!("{name} must not be linked"))
        .collect())
}

/// Every file says what it is for before it does it.
fn header(root: &Path, file: &Path) -> Result<Option<String>, Failure> {
    let text = std::fs::read_to_string(file)?;
    let shown = file.strip_prefix(root).unwrap_or(file).display();
    if file.ends_with("mod.rs") {
        return Ok(Some(format!("{shown}: use the folder's name, not mod.rs")));
    }
    if text.starts_with("//!") || text.starts_with("// This file is @generated") {
        return Ok(None);
    }
    Ok(Some(format!("{shown}: does not open with `//!`")))
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let output = run_command(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
                "*.rs",
            ])
            .current_dir(root),
    )?;
    let names = String::from_utf8(output.stdout)?;
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| root.join(name))
        .filter(|path| path.is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_lead_through_others() {
        assert!(reachable("meshc").contains("mesh-syntax"));
        assert!(reachable("meshp").contains("mesh-bundle"));
        assert!(!reachable("meshp").contains("mesh-compiler"));
        assert!(!reachable("mesh-daemon").contains("mesh-engine"));
    }

    #[test]
    fn a_new_arrow_is_a_violation() {
        let package = |name: &str, used: &[&str]| Package {
            id: name.to_owned(),
            name: name.to_owned(),
            dependencies: used
                .iter()
                .map(|used| Dependency {
                    name: (*used).to_owned(),
                    kind: None,
                })
                .collect(),
        };
        let metadata = Metadata {
            packages: vec![
                package("meshp", &["mesh-compiler"]),
                package("mesh-compiler", &["mesh-engine", "tokio"]),
            ],
            workspace_members: vec!["meshp".to_owned(), "mesh-compiler".to_owned()],
        };
        assert_eq!(
            arrows(&metadata),
            [
                "mesh-compiler is pure and may not use tokio",
                "meshp may not use mesh-compiler",
            ]
        );
    }

    #[test]
    fn the_workspace_is_tidy() {
        run(&mesh_tests::workspace_root()).expect("the workspace keeps its own rules");
    }
}
