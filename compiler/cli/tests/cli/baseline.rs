//! `meshc check --baseline`

use std::fs;

use insta::assert_snapshot;

use crate::support::Fixture;

/// Lets a caller in that calls nothing.
const OLD: &str =
    "service old { port 90 protocol=http; endpoints { dns \"old.internal:90\" }; allow web }\n";

fn accepted() -> Fixture {
    let fixture = Fixture::with_policy();
    fixture.write("policy/old.kdl", OLD);
    let run = fixture.meshc(&["check", "--write-baseline", "known.json", "--deny", "note"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    fixture
}

fn check(fixture: &Fixture) -> crate::support::Run {
    fixture.meshc(&["check", "--baseline", "known.json", "--deny", "note"])
}

#[test]
fn what_a_baseline_lists_is_accepted_wherever_it_moves() {
    let fixture = accepted();
    assert_snapshot!(fs::read_to_string(fixture.path("known.json")).unwrap());
    let moved = format!("// a comment\n\n{}", OLD.replace("90", "91"));
    fs::remove_file(fixture.path("policy/old.kdl")).unwrap();
    fixture.write("policy/teams/moved.kdl", moved);
    let run = check(&fixture);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(
        run.stdout.contains("1 finding accepted by known.json"),
        "{run:?}"
    );
}

#[test]
fn what_is_new_fails_and_what_is_gone_is_said() {
    let fixture = accepted();
    fixture.write("policy/old.kdl", OLD.replace("old", "newer"));
    let run = check(&fixture);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_snapshot!(run.shown());
    let args = ["check", "--baseline", "known.json", "--format", "json"];
    let json = fixture.meshc(&args).json();
    assert_eq!(json["findings"].as_array().unwrap().len(), 1);
    assert_eq!(
        json["baseline"]["unmatched"][0]["place"],
        "service old / allow web"
    );
}

#[test]
fn twice_the_same_is_once_too_often() {
    let fixture = accepted();
    fixture.write(
        "policy/old.kdl",
        OLD.replace("allow web", "allow web; allow web { method GET }"),
    );
    let run = check(&fixture);
    assert_eq!(run.code, Some(1), "{run:?}");
}

#[test]
fn code_scanning_is_told_what_is_new() {
    let fixture = accepted();
    let states = || {
        let args = ["check", "--baseline", "known.json", "--format", "sarif"];
        let sarif = fixture.meshc(&args).json();
        let results = sarif["runs"][0]["results"].as_array().unwrap().clone();
        let each = results.iter().map(|result| {
            let fingerprint = &result["partialFingerprints"]["meshc/v1"];
            assert_eq!(fingerprint.as_str().unwrap().len(), 24);
            result["baselineState"].as_str().unwrap().to_owned()
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(states(), ["unchanged"]);
    fixture.write("policy/old.kdl", OLD.replace("old", "newer"));
    assert_eq!(states(), ["new", "absent"]);
}

#[test]
fn a_bad_baseline_is_no_clean_check() {
    let fixture = accepted();
    for (text, message) in [
        (
            None,
            "meshc: there is no baseline known.json; `meshc check --write-baseline known.json` writes it\n",
        ),
        (
            Some("{"),
            "meshc: known.json is no baseline that `meshc check --write-baseline` wrote: EOF while parsing an object at line 1 column 1\n",
        ),
        (
            Some("{\"version\":9,\"findings\":[]}"),
            "meshc: the baseline known.json is of version 9, and this release reads 2; write it again with --write-baseline\n",
        ),
    ] {
        match text {
            Some(text) => fixture.write("known.json", text),
            None => fs::remove_file(fixture.path("known.json")).unwrap(),
        }
        let run = check(&fixture);
        assert_eq!((run.code, run.stderr.as_str()), (Some(2), message));
    }
    let run = fixture.meshc(&["check", "--write-baseline", "no/such/folder.json"]);
    assert_eq!(run.code, Some(2));
}

#[test]
fn a_storm_that_grows_is_new() {
    let service = |name: &str, port: u16, rest: &str| {
        format!(
            "service {name} {{ port 80 protocol=http; endpoints {{ static \"10.0.0.{port}:80\" }}; {rest} }}\n"
        )
    };
    let mesh = |attempts: u32| {
        let retry = format!("retry \"5xx\" attempts={attempts}");
        "mesh m { trust-domain \"m.example\" }\n".to_owned()
            + &service("web", 1, "calls a")
            + &service("a", 2, &format!("allow web; calls b; {retry}"))
            + &service("b", 3, &format!("allow a; calls c; {retry}"))
            + &service("c", 4, &format!("allow b; {retry}"))
    };
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", mesh(4));
    let run = fixture.meshc(&["check", "--write-baseline", "known.json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let storm = |attempts: u32| {
        fixture.write("policy/mesh.kdl", mesh(attempts));
        let run = fixture.meshc(&["check", "--baseline", "known.json"]);
        (run.code, run.stdout.contains("MSH0401"))
    };
    assert_eq!(storm(5), (Some(1), true));
    assert_eq!(storm(4), (Some(0), false));
    assert_eq!(storm(3), (Some(0), false));
}

#[test]
fn what_one_environment_has_is_accepted_there_alone_and_together() {
    let fixture = Fixture::with_policy();
    let mesh = fs::read_to_string(fixture.path("policy/mesh.kdl")).unwrap();
    let mesh = mesh.replace("trust-domain", "environment prod\n    trust-domain");
    fixture.write("policy/mesh.kdl", mesh);
    fixture.write("policy/old.kdl", OLD);
    let all = ["check", "--write-baseline", "known.json", "--deny", "note"];
    assert_eq!(fixture.meshc(&all).code, Some(0));
    // Of a list that was written for all, one environment is a part.
    let mut one = vec!["check", "--baseline", "known.json", "--deny", "note"];
    one.extend(["--env", "prod"]);
    let run = fixture.meshc(&one);
    assert_eq!(run.code, Some(0), "{run:?}");
}
