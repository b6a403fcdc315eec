//! What strangers write into a pull request: `meshc check` answers with findings, never with a crash.

use std::path::Path;
use std::process::{Command, Output};

use mesh_tests::{Failure, program};

/// A repository with one good file beside what is tested.
fn check(file: &str, content: &[u8]) -> Result<Output, Failure> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("mesh.kdl"),
        "mesh shop { trust-domain \"shop.example\" }\n",
    )?;
    std::fs::write(folder.path().join(file), content)?;
    check_folder(folder.path())
}

fn check_folder(folder: &Path) -> Result<Output, Failure> {
    // `timeout` turns a hang into a failure of its own; it is no measurement.
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(program("meshc")?)
        .args(["check", "--format", "json"])
        .arg(folder);
    Ok(command.output()?)
}

/// Expects a finding with this code in this file, and exit status 1.
fn expect(output: &Output, code: &str, file: &str) -> Result<serde_json::Value, Failure> {
    let said = || {
        format!(
            "{}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
                .chars()
                .take(2000)
                .collect::<String>(),
            String::from_utf8_lossy(&output.stderr)
                .chars()
                .take(2000)
                .collect::<String>()
        )
    };
    if output.status.code() != Some(1) {
        return Err(Failure::new(said()));
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::from(error).while_doing(said()))?;
    let found = report["findings"].as_array().and_then(|findings| {
        findings
            .iter()
            .find(|finding| finding["code"] == code && finding["file"] == file)
    });
    found.cloned().ok_or_else(|| Failure::new(said()))
}

#[test]
fn malformed_kdl_is_one_finding_at_its_place() -> Result<(), Failure> {
    let output = check("a.kdl", b"service reviews {\n    port 9080 protocol=\n}\n")?;
    let finding = expect(&output, "MSH0001", "a.kdl")?;
    assert_eq!(finding["line"], 2);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[test]
fn an_exponential_nest_is_a_finding() -> Result<(), Failure> {
    let nest = "a /-{".repeat(26) + "}}";
    assert_eq!(nest.len(), 132);
    expect(&check("nest.kdl", nest.as_bytes())?, "MSH0001", "nest.kdl").map(drop)
}

#[test]
fn a_balanced_exponential_nest_is_read_like_any_other() -> Result<(), Failure> {
    let nest = "a /-{".repeat(26) + &"}".repeat(26);
    expect(&check("nest.kdl", nest.as_bytes())?, "MSH0002", "nest.kdl").map(drop)
}

#[test]
fn a_hundred_thousand_braces_are_a_finding() -> Result<(), Failure> {
    let open = "a {".repeat(100_000);
    let closed = open.clone() + &"}".repeat(100_000);
    expect(&check("open.kdl", open.as_bytes())?, "MSH0010", "open.kdl")?;
    expect(
        &check("closed.kdl", closed.as_bytes())?,
        "MSH0010",
        "closed.kdl",
    )?;
    let stray = "}".repeat(100_000);
    expect(
        &check("stray.kdl", stray.as_bytes())?,
        "MSH0001",
        "stray.kdl",
    )
    .map(drop)
}

#[test]
fn invalid_utf8_is_a_finding() -> Result<(), Failure> {
    expect(
        &check("a.kdl", b"service \xff\xfe {\n}\n")?,
        "MSH0001",
        "a.kdl",
    )
    .map(drop)
}

#[test]
fn a_hundred_megabytes_are_a_finding() -> Result<(), Failure> {
    let large = b"// large\n".repeat((100 << 20) / 9);
    expect(&check("large.kdl", &large)?, "MSH0010", "large.kdl").map(drop)
}

#[test]
fn a_folder_without_a_mesh_cannot_be_checked() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let output = check_folder(folder.path())?;
    assert_eq!(output.status.code(), Some(2));
    assert!(!output.stderr.is_empty());
    Ok(())
}
