//! `meshc init`

use crate::support::{Fixture, files};

#[test]
fn what_it_writes_checks_clean_and_passes_its_tests() {
    let fixture = Fixture::with_policy();
    let run = fixture.meshc(&["check", "policy", "--deny", "note"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn nothing_is_overwritten() {
    let fixture = Fixture::empty();
    fixture.write("services.kdl", "mine");
    let run = fixture.meshc(&["init", "--name", "shop"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (Some(2), "meshc: ./services.kdl exists already\n")
    );
    assert_eq!(files(&fixture.path("")).len(), 1);
    assert_eq!(
        fixture.meshc(&["init", "new", "--name", "No Name"]).code,
        Some(2)
    );
}

#[test]
fn there_is_no_root_inside_of_another() {
    let fixture = Fixture::with_policy();
    let before = files(&fixture.path(""));
    for inside in ["policy/sub", "policy/sub/deep"] {
        let run = fixture.meshc(&["init", inside, "--name", "shop"]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("is in the policy root"), "{run:?}");
    }
    assert_eq!(files(&fixture.path("")), before);
    assert_eq!(
        fixture
            .meshc(&["init", "beside", "--name", "shop", "--ci", "none"])
            .code,
        Some(0)
    );
}

#[test]
fn every_change_of_it_is_checked_in_ci() {
    let fixture = Fixture::empty();
    fixture.write("README", "");
    fixture.commit();
    // CI looks at the top of a repository, wherever the policies are.
    let run = fixture.meshc(&["init", "ops/mesh", "--name", "shop"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(
        run.stdout.contains("  ../../.github/workflows/mesh.yml\n"),
        "{run:?}"
    );
    let workflow = read(&fixture, ".github/workflows/mesh.yml");
    assert!(
        workflow.contains("working-directory: ops/mesh\n"),
        "{workflow}"
    );
    fixture.commit();
    // What it runs, where it runs it.
    for command in ["fmt --check", "check --format github --base HEAD", "test"] {
        let name = command.split(" --base").next().unwrap_or(command);
        assert!(
            workflow.contains(&format!("- run: meshc {name}")),
            "{workflow}"
        );
        let mut args = vec!["-C", "ops/mesh"];
        args.extend(command.split(' '));
        let run = fixture.meshc(&args);
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    let run = fixture.meshc(&["init", "other", "--name", "shop"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("--ci none"), "{run:?}");
    let run = fixture.meshc(&["init", "other", "--name", "shop", "--ci", "gitlab"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(read(&fixture, ".gitlab-ci.yml").contains("cd \"other\"\n"));
}

#[expect(clippy::unwrap_used, reason = "a failure is the test's")]
fn read(fixture: &Fixture, path: &str) -> String {
    std::fs::read_to_string(fixture.path(path)).unwrap()
}

#[test]
fn a_name_that_no_mesh_can_have_is_refused_with_the_rule() {
    let fixture = Fixture::empty();
    for name in ["true", "inf", "null", "any", "default", "1a", "a_b", "A"] {
        let run = fixture.meshc(&["init", "new", "--name", name]);
        assert_eq!(run.code, Some(2), "{name}: {}", run.stdout);
        assert!(
            run.stderr.contains("a letter first") && run.stderr.contains("--name"),
            "{}",
            run.stderr
        );
        assert!(!fixture.path("new/mesh.kdl").exists(), "{name}");
    }
    let run = fixture.meshc(&["init", "new", "--name", "my.mesh-2"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = fixture.meshc(&["check", "new"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}
