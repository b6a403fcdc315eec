//! What depends on the terminal and the shell: colours, completions, manual pages.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::Fixture;

#[test]
fn colours_are_for_who_asks_for_them() {
    let fixture = Fixture::with_policy();
    fixture.write("policy/a.kdl", "service a {");
    let coloured = |args: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .args(args)
            .arg("check")
            .current_dir(fixture.path("policy"))
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(!coloured(&[], &[]));
    assert!(coloured(&["--color", "always"], &[]));
    assert!(coloured(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(
        &[],
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]
    ));
    assert!(!coloured(&["--color=never"], &[("CLICOLOR_FORCE", "1")]));
}

#[test]
fn files_are_links_where_links_are_known() {
    let fixture = Fixture::with_policy();
    fixture.write("policy/a b.kdl", "service a {");
    let output = Command::new(env!("CARGO_BIN_EXE_meshc"))
        .args(["check", "--color", "always"])
        .current_dir(fixture.path("policy"))
        .env("FORCE_HYPERLINK", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\u{1b}]8;;file:///"), "{text:?}");
    assert!(
        text.contains("/a%20b.kdl\u{1b}\\a b.kdl\u{1b}]8;;\u{1b}\\"),
        "{text:?}"
    );
}

#[test]
fn every_shell_gets_completions_and_bash_reads_them() {
    let fixture = Fixture::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = fixture.meshc(&["completions", shell]);
        assert_eq!(run.code, Some(0), "{run:?}");
        for word in ["check", "fmt", "stdin-filename"] {
            assert!(run.stdout.contains(word), "{shell} lacks {word}");
        }
        if shell == "bash" {
            let mut bash = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            bash.stdin
                .take()
                .unwrap()
                .write_all(run.stdout.as_bytes())
                .unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let fixture = Fixture::empty();
    let run = fixture.meshc(&["man"]);
    assert!(run.stdout.contains(".TH meshc 1"), "{run:?}");
    let run = fixture.meshc(&["man", "--out", "pages"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for (name, word) in [
        ("meshc", "meshc"),
        ("meshc-check", "baseline"),
        ("meshc-fmt", "stdin"),
    ] {
        let page = fs::read_to_string(fixture.path(&format!("pages/{name}.1"))).unwrap();
        assert!(page.contains(word), "{page}");
    }
    fixture.write("file", "");
    assert_eq!(fixture.meshc(&["man", "--out", "file"]).code, Some(2));
}
