//! `meshc fmt`

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::support::Fixture;

const UNTIDY: &str = "service a {port 80 protocol = http;   endpoints {dns \"a:1\"} // where\n}\n";
const TIDY: &str =
    "service a {\n    port 80 protocol=http\n    endpoints { dns \"a:1\" } // where\n}\n";

fn untidy() -> Fixture {
    let fixture = Fixture::with_policy();
    fixture.write("policy/teams/a.kdl", UNTIDY);
    fixture
}

#[test]
fn files_are_formatted_once() {
    let fixture = untidy();
    assert_snapshot!(fixture.meshc(&["fmt", "--check"]).shown());
    let read = || fs::read_to_string(fixture.path("policy/teams/a.kdl")).unwrap();
    assert_eq!(read(), UNTIDY);
    let run = fixture.meshc(&["fmt"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(
        run.stdout,
        "formatted policy/teams/a.kdl\n1 of 4 files changed.\n"
    );
    assert_eq!(read(), TIDY);
    for args in [&["fmt", "--check"][..], &["fmt", "policy"]] {
        let run = fixture.meshc(args);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (Some(0), "4 files are formatted.\n")
        );
    }
}

#[test]
fn programs_are_told_of_every_file() {
    let fixture = untidy();
    let run = fixture.meshc(&["fmt", "--check", "policy/teams", "--format", "json"]);
    assert_eq!(run.code, Some(1));
    let expected = serde_json::json!({
        "files": [{ "file": "teams/a.kdl", "changed": true }],
        "findings": [],
        "summary": { "files": 1, "changed": 1, "written": false },
    });
    assert_eq!(run.json(), expected);
}

#[test]
fn a_file_with_mistakes_is_left_alone_and_the_others_are_not() {
    let fixture = untidy();
    let broken = "service b {port 80\n";
    fixture.write("policy/teams/b.kdl", broken);
    fixture.write(
        "policy/teams/c.kdl",
        "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> x\n",
    );
    let run = fixture.meshc(&["fmt"]);
    assert_eq!(run.code, Some(2));
    assert_snapshot!(run.shown());
    assert_eq!(
        fs::read_to_string(fixture.path("policy/teams/b.kdl")).unwrap(),
        broken
    );
    assert_eq!(
        fs::read_to_string(fixture.path("policy/teams/a.kdl")).unwrap(),
        TIDY
    );
}

#[test]
fn what_can_not_be_formatted_is_said_and_the_rest_is_done() {
    let fixture = untidy();
    fixture.write("policy/latin.kdl", b"// \xE9\n");
    let run = fixture.meshc(&["fmt", "policy/latin.kdl"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("this byte is not UTF-8"), "{run:?}");
    let run = fixture.meshc(&["fmt", "policy/nowhere.kdl", "policy/teams/a.kdl"]);
    assert_eq!(run.code, Some(2));
    assert_eq!(run.stderr, "meshc: there is no policy/nowhere.kdl\n");
    assert_eq!(
        fs::read_to_string(fixture.path("policy/teams/a.kdl")).unwrap(),
        TIDY
    );
    let run = Fixture::empty().meshc(&["fmt"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("is not part of a policy root"),
        "{run:?}"
    );
}

#[cfg(unix)]
#[test]
fn links_are_not_followed_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let fixture = untidy();
    let file = fixture.path("policy/teams/a.kdl");
    symlink(&file, fixture.path("link.kdl")).unwrap();
    let run = fixture.meshc(&["fmt", "link.kdl"]);
    assert_eq!(run.code, Some(2));
    assert_eq!(
        run.stderr,
        "meshc: link.kdl is a symbolic link; name the file that it leads to\n"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fixture.meshc(&["fmt"]).code, Some(0));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fixture.write("policy/teams/a.kdl", UNTIDY);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let run = fixture.meshc(&["fmt"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.ends_with("may not be written to\n"), "{run:?}");
}

#[test]
fn stdin_is_for_editors() {
    let fixture = Fixture::empty();
    let run = |args: &[&str], text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .args(args)
            .current_dir(fixture.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for args in [&["fmt", "-"][..], &["fmt", "--stdin-filename", "x.kdl"]] {
        assert_eq!(run(args, UNTIDY), (Some(0), TIDY.to_owned(), String::new()));
        assert_eq!(run(args, TIDY), (Some(0), TIDY.to_owned(), String::new()));
    }
    assert_eq!(run(&["fmt", "-", "--check"], UNTIDY).0, Some(1));
    let (code, stdout, stderr) = run(&["fmt", "--stdin-filename", "x.kdl"], "a {");
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("x.kdl:1:"), "{stderr}");
}

/// Everything that this repository offers to others to copy.
#[test]
fn our_own_policies_are_formatted() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = vec![top.join("policies/examples/bookshop")];
    for folder in ["policies/std", "compiler/cli/src/commands/init"] {
        let files = fs::read_dir(top.join(folder)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        paths.extend(files.filter(|file| file.extension().is_some_and(|kind| kind == "kdl")));
    }
    let run = Command::new(env!("CARGO_BIN_EXE_meshc"))
        .args(["fmt", "--check"])
        .args(&paths)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(0), "{text}");
}
