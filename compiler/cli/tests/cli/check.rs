//! `meshc check`
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use insta::assert_snapshot;

use crate::support::Fixture;

/// Two files that disagree, and two mistakes of syntax in one.
fn broken() -> Fixture {
    let fixture = Fixture::with_policy();
    fixture.write("policy/teams/a.kdl", "service web { port 9; endpoints { dns \"x:1\" } }\nservice shop2 {\n    port 9080\n    endpoints { dns \"shop2.internal:9080\" }\n    allow web { method GET,POST }\n    timeout 10s\n}\n");
    fixture
}

#[test]
fn findings_are_framed_for_people() {
    assert_snapshot!(broken().meshc(&["check", "policy"]).shown());
}

#[test]
fn findings_are_complete_for_programs() {
    let run = broken().meshc(&["check", "--format", "json"]);
    assert_eq!(run.code, Some(1));
    let json = serde_json::to_string_pretty(&run.json()).unwrap();
    assert_snapshot!(json);
}

#[test]
fn of_many_findings_people_see_the_gravest() {
    let fixture = Fixture::with_policy();
    let policies = (0..60).map(|number| format!("policy p{number} {{ timeout \"{number}x\" }}\n"));
    let policy: String = policies.collect();
    fixture.write("policy/teams/many.kdl", &policy);
    let run = fixture.meshc(&["check", "policy"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.stdout.matches("\n  × ").count() + usize::from(run.stdout.starts_with("  × ")),
        50
    );
    assert!(
        run.stdout
            .contains("These are the gravest 50; 10 findings more: `meshc check --all`"),
        "{}",
        run.stdout
    );
    let run = fixture.meshc(&["check", "policy", "--all"]);
    assert!(
        !run.stdout.contains("more:") && run.stdout.contains("\"59x\" is not a time"),
        "{}",
        run.stdout
    );
    let found = fixture
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    assert_eq!(found["findings"].as_array().unwrap().len(), 60);
}

#[test]
fn the_schema_of_findings_names_every_field() {
    let schema = include_str!("../../../../schemas/json/diagnostics.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let json = broken()
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    let names = |value: &serde_json::Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&schema["properties"]), names(&json));
    assert_eq!(
        names(&schema["properties"]["summary"]["properties"]),
        names(&json["summary"])
    );
    assert_eq!(
        names(&schema["$defs"]["finding"]["properties"]),
        names(&json["findings"][0])
    );
}

#[test]
fn annotations_and_sarif_hold_every_finding() {
    let fixture = broken();
    assert_snapshot!(
        fixture
            .meshc(&["check", "policy", "--format", "github"])
            .shown()
    );
    let sarif = fixture
        .meshc(&["check", "policy", "--format", "sarif"])
        .json();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 3);
}

#[test]
fn the_root_is_found_from_inside_above_and_by_name() {
    let fixture = Fixture::with_policy();
    for args in [
        &["check", "policy/tests"][..],
        &["check"],
        &["check", "policy"],
        &["-C", "policy", "check"],
    ] {
        let run = fixture.meshc(args);
        let found = "No findings in 3 files (2 services, 1 edge).\n";
        assert!(
            run.code == Some(0) && run.stdout.starts_with(found),
            "{args:?}: {}",
            run.shown()
        );
    }
}

#[test]
fn what_can_not_run_says_why_and_exits_2() {
    let fixture = Fixture::empty();
    assert_snapshot!("no_root", fixture.meshc(&["check"]).shown());
    assert_eq!(fixture.meshc(&["check", "nowhere"]).code, Some(2));
    assert_eq!(fixture.meshc(&["check", "--format", "xml"]).code, Some(2));
    assert_eq!(fixture.meshc(&[]).code, Some(2));
    fixture.write("a/mesh.kdl", "mesh a { trust-domain \"a.example\" }\n");
    fixture.write("b/mesh.kdl", "mesh b { trust-domain \"b.example\" }\n");
    assert_snapshot!("several_roots", fixture.meshc(&["check"]).shown());
}

/// A mesh of two minds is not judged, whatever was found in its other files.
#[test]
fn an_unfinished_merge_ends_every_command_with_2() {
    let fixture = Fixture::with_policy();
    fixture.write(
        "policy/merged.kdl",
        "<<<<<<< HEAD\nteam a\n=======\nteam b\n>>>>>>> theirs\n",
    );
    for command in ["check", "test", "graph", "fmt"] {
        let run = fixture.meshc(&[command, "policy"]);
        assert_eq!(run.code, Some(2), "{command}: {run:?}");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("MSH0020"), "{command}: {said}");
        assert!(said.contains("remove the lines"), "{command}: {said}");
    }
    let asked = ["explain", "--request", "GET /", "--from", "a", "--to", "b"];
    assert_eq!(fixture.meshc(&asked).code, Some(2));
}

#[test]
fn hostile_files_are_findings() {
    let fixture = Fixture::with_policy();
    let file = std::fs::File::create(fixture.path("policy/large.kdl")).unwrap();
    file.set_len(100 << 20).unwrap();
    fixture.write("policy/nest.kdl", "a /-{".repeat(27));
    fixture.write("policy/braces.kdl", "{".repeat(100_000));
    fixture.write("policy/bytes.kdl", b"service \xff\xfe\n");
    std::os::unix::fs::symlink("/etc/hostname", fixture.path("policy/link.kdl")).unwrap();
    let json = fixture
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    let found = json["findings"].as_array().unwrap();
    for (file, code) in [
        ("braces.kdl", "MSH0001"),
        ("bytes.kdl", "MSH0001"),
        ("large.kdl", "MSH0010"),
        ("link.kdl", "MSH0012"),
        ("nest.kdl", "MSH0001"),
    ] {
        assert!(
            found
                .iter()
                .any(|each| each["file"] == file && each["code"] == code),
            "{file}: {json:#}"
        );
    }
}

/// Whoever checks out a commit with links finds what the commit has: nothing by them, and a word about each.
#[test]
fn linked_folders_are_not_passed_over_in_silence() {
    use std::os::unix::fs::symlink;

    let fixture = Fixture::with_policy();
    fixture.write("policy/common/more.kdl", "// nothing yet\n");
    symlink("common", fixture.path("policy/shared")).unwrap();
    symlink("../..", fixture.path("policy/up")).unwrap();
    symlink("mesh.kdl", fixture.path("policy/other-name")).unwrap();
    let found = |args: &[&str]| -> Vec<String> {
        let json = fixture.meshc(args).json();
        let found = json["findings"].as_array().unwrap().iter();
        let links = found.filter(|each| each["code"] == "MSH0012");
        links
            .map(|each| format!("{} {}: {}", each["file"], each["level"], each["message"]))
            .collect()
    };
    let tree = found(&["check", "policy", "--format", "json"]);
    assert_eq!(tree.len(), 2, "{tree:#?}");
    assert!(tree[0].starts_with("\"shared\" \"warning\"") && tree[0].contains("to a folder"));
    assert!(tree[1].starts_with("\"up\" \"warning\"") && tree[1].contains("out of the repository"));
    let run = fixture.meshc(&["fmt", "--check", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.shown());
}

#[test]
fn of_a_very_long_line_only_what_is_near_is_shown() {
    let fixture = Fixture::with_policy();
    let path = "/a".repeat(100_000);
    fixture.write(
        "policy/long.kdl",
        format!("service far {{ port 80; deny {{ path \"{path}\" }}; timout \"1s\" }}\n"),
    );
    let run = fixture.meshc(&["check", "policy"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stdout.contains("this text is longer than"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("unknown word `timout`"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.len() < 20_000, "{} bytes", run.stdout.len());
}

/// A program that goes on until it is dropped, and the lines that it writes.
struct Watching {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Watching {
    fn next(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_watched_folder_is_checked_again_when_a_file_changes() {
    use std::io::BufRead as _;

    let fixture = Fixture::with_policy();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_meshc"))
        .args(["check", "--watch", "--format", "json"])
        .arg(fixture.path("policy"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut watching = Watching {
        child,
        lines: stdout.lines(),
    };
    let cold = || {
        fixture
            .meshc(&["check", "policy", "--format", "json"])
            .json()
    };
    assert_eq!(watching.next(), cold());
    let good = std::fs::read_to_string(fixture.path("policy/mesh.kdl")).unwrap();
    let edits: [(&str, Option<&str>); 6] = [
        // A new file with a mistake, the mistake mended, and one that only linking finds.
        ("policy/b.kdl", Some("service b { port 80; timeout 10s }\n")),
        (
            "policy/b.kdl",
            Some("service b { port 80; endpoints { static \"10.9.0.1:80\" }; calls nobody }\n"),
        ),
        (
            "policy/b.kdl",
            Some("service b { port 80; endpoints { static \"10.9.0.1:80\" }; allow any }\n"),
        ),
        // What every service stands on, and the end of a file.
        ("policy/mesh.kdl", Some("mesh shop {}\n")),
        ("policy/mesh.kdl", Some(&good)),
        ("policy/b.kdl", None),
    ];
    for (path, text) in edits {
        match text {
            Some(text) => fixture.write(path, text),
            None => std::fs::remove_file(fixture.path(path)).unwrap(),
        }
        // A change may be seen in two steps; the last of them is what a run from nothing finds.
        let expected = cold();
        while watching.next() != expected {}
    }
    // A link to a folder is told of: when it comes, when what it leads to goes, and when it leads elsewhere.
    let link = fixture.path("policy/shared");
    let retarget = |target: &str| {
        drop(std::fs::remove_file(&link));
        std::os::unix::fs::symlink(target, &link).unwrap();
    };
    let steps: [&dyn Fn(); 4] = [
        &|| {
            std::fs::create_dir(fixture.path("policy/common")).unwrap();
            retarget("common");
        },
        &|| std::fs::remove_dir(fixture.path("policy/common")).unwrap(),
        &|| retarget("../.."),
        &|| std::fs::remove_file(&link).unwrap(),
    ];
    for step in steps {
        step();
        let expected = cold();
        while watching.next() != expected {}
    }
}

/// A commit has no more of a submodule than its name, whatever lies in its folder at a desk.
#[test]
fn a_submodule_is_refused_in_the_work_tree_as_in_a_commit() {
    let fixture = Fixture::with_policy();
    fixture.commit();
    fixture.write("policy/vendored/a.kdl", "service unread {}\n");
    git2::Repository::init(fixture.path("policy/vendored")).unwrap();
    let json = fixture
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    let found = json["findings"].as_array().unwrap();
    let is_submodule = |each: &&serde_json::Value| {
        let message = each["message"].to_string();
        each["file"] == "policy/vendored" && message.contains("this is a submodule")
    };
    assert_eq!(found.iter().filter(is_submodule).count(), 1, "{json:#}");
    assert!(!json.to_string().contains("unread"), "{json:#}");
}

#[test]
fn a_terminal_is_told_nothing_that_it_would_obey() {
    let fixture = Fixture::with_policy();
    let hostile = "service \"a\\u{1b}[31m\\u{202e}b\" { port 80 } // \u{1b}[2J\u{202e}\u{9b}\r\ntimeout \u{7}x\n";
    fixture.write("policy/a.kdl", hostile);
    let shown = fixture.meshc(&["check", "policy"]);
    assert_eq!(shown.code, Some(1));
    let obeyed = |char: &char| char.is_control() && *char != '\n' || *char == '\u{202e}';
    assert_eq!(
        shown.stdout.chars().find(obeyed),
        None,
        "{:?}",
        shown.stdout
    );
    assert!(shown.stdout.contains("\\u{202e}b"), "{}", shown.stdout);
}
