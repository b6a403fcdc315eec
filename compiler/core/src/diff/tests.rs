//! Changes from one small policy to another.

use super::access::{AccessChange, changes, orphaned};
use super::skew::Cause;
use super::slices::SliceChange;
use super::staging::{self, Staging};
use super::{Change, split};
use crate::linked::LinkedMesh;
use crate::test_util::{MESH, load, sources};

fn mesh(policy: &str) -> LinkedMesh {
    let sources = sources(&[("a.kdl", policy), ("mesh.kdl", MESH)]);
    let analysed = load(&sources);
    let found = analysed.diagnostics;
    analysed
        .mesh
        .unwrap_or_else(|| panic!("{found:?}\n{policy}"))
}

fn web_and(lines: &str) -> LinkedMesh {
    mesh(&format!(
        "service web {{ port 80; calls a }}\nservice other {{ port 80 }}\nservice a {{ {lines} }}"
    ))
}

fn access(before: &str, after: &str) -> Vec<AccessChange> {
    let (base, head) = (web_and(before), web_and(after));
    changes(Change::new(&base, &head))
}

fn staged(before: &str, after: &str) -> Staging {
    let (base, head) = (mesh(before), mesh(after));
    staging::of(Change::new(&base, &head))
}

#[test]
fn what_only_reads_otherwise_changes_no_access() {
    let before = "port 80; allow web { path \"/a\" \"/b\" }; deny { method PUT }";
    let after =
        "port 80; deny { method PUT }; allow web { path \"/b\" }; allow web { path \"/a\" }";
    assert!(access(before, after).is_empty());
}

#[test]
fn a_wider_path_is_gained_and_shown() {
    let found = access(
        "port 80; allow web { path \"/a/*\" }",
        "port 80; allow web { path \"/a/**\" }",
    );
    let [change] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(change.lost.is_empty());
    let [gain] = change.gained.as_slice() else {
        panic!("{change:?}")
    };
    let witness = gain.witness.as_ref().unwrap();
    assert!(!gain.is_old && witness.path == "/a", "{witness:?}");
}

#[test]
fn a_deny_that_goes_lets_an_old_rule_in() {
    let found = access(
        "port 80; allow web; deny { path \"/x\" }",
        "port 80; allow web",
    );
    assert!(found[0].gained[0].is_old);
    assert_eq!(found[0].gained[0].witness.as_ref().unwrap().path, "/x");
}

#[test]
fn what_a_declared_caller_loses_is_shown() {
    let found = access("port 80; allow web", "port 80; allow web { method GET }");
    let [loss] = found[0].lost.as_slice() else {
        panic!("{found:?}")
    };
    assert!(!loss.entirely && loss.witness.as_ref().unwrap().method == "POST");
    let found = access("port 80; allow web", "port 80; allow other");
    assert!(found[0].lost[0].entirely);
}

#[test]
fn an_identity_that_moves_breaks_both_ways_until_both_are_known() {
    let with = |identity: &str| {
        format!(
            "service web {{ port 80; calls a; identity \"spiffe://m.example/{identity}\" }}\nservice a {{ port 80; allow web }}"
        )
    };
    let found = staged(&with("one"), &with("two"));
    let [skew] = found.skews.as_slice() else {
        panic!("{found:?}")
    };
    for side in [&skew.old_caller, &skew.new_caller] {
        let side = side.as_ref().unwrap();
        assert_eq!(side.cause, Cause::CallerIdentity);
        assert!(side.witness.is_some());
    }
    assert_eq!(found.orderless, [0]);
    let beside = found.kept_beside.unwrap();
    assert_eq!(beside.len(), 2, "{beside:?}");
    assert_eq!(beside[0].rules, ["allow web"]);
    assert_eq!(beside[1].identities, ["spiffe://m.example/one"]);
}

#[test]
fn a_port_that_moves_needs_both_for_a_while() {
    let with = |port: u16| {
        format!("service web {{ port 80; calls a }}\nservice a {{ port {port}; allow web }}")
    };
    let found = staged(&with(81), &with(82));
    assert_eq!(
        found.skews[0].old_caller.as_ref().unwrap().cause,
        Cause::Port
    );
    assert_eq!(found.orderless, [0]);
    assert_eq!(found.kept_beside.unwrap()[0].ports, [81]);
}

#[test]
fn a_callee_that_shows_another_identity_is_not_dialled() {
    let with = |identity: &str| {
        format!(
            "service web {{ port 80; calls a }}\nservice a {{ port 80; allow web; identity {identity} }}"
        )
    };
    let (one, two) = ("\"spiffe://m.example/1\"", "\"spiffe://m.example/2\"");
    let found = staged(&with(one), &with(two));
    assert_eq!(
        found.skews[0].new_caller.as_ref().unwrap().cause,
        Cause::CalleeIdentity
    );
    assert!(
        staged(&with(one), &with(&format!("{one} {two}")))
            .skews
            .is_empty()
    );
    assert!(
        staged(&with(&format!("{one} {two}")), &with(two))
            .skews
            .is_empty()
    );
}

#[test]
fn a_proxy_that_comes_together_with_strictness_needs_both_for_a_while() {
    let with = |web: &str, mode: &str| {
        format!(
            "service web {{ port 80; calls a; {web} }}\nservice a {{ port 80; {mode}; allow web; allow unauthenticated }}"
        )
    };
    let found = staged(&with("unmeshed", "mtls off"), &with("", "mtls strict"));
    let [skew] = found.skews.as_slice() else {
        panic!("{found:?}")
    };
    for side in [&skew.old_caller, &skew.new_caller] {
        let side = side.as_ref().unwrap();
        assert_eq!(side.cause, Cause::Transport);
        assert!(side.witness.is_some(), "{side:?}");
    }
    // Both ends change at once, so it takes a commit more.
    assert!(found.kept_beside.is_none());
    let (before, after) = (with("unmeshed", "mtls permissive"), with("", "mtls strict"));
    let found = staged(&before, &after);
    assert!(found.skews[0].old_caller.is_some() && found.skews[0].new_caller.is_none());
    let beside = found.kept_beside.unwrap();
    assert!(beside.iter().any(|each| each.permissive), "{beside:?}");
    let found = staged(&before, &with("", "mtls permissive"));
    assert!(found.skews.is_empty());
}

#[test]
fn what_is_added_or_taken_away_for_good_is_no_skew() {
    let with = |rules: &str| {
        format!("service web {{ port 80; calls a }}\nservice a {{ port 80; {rules} }}")
    };
    for (before, after) in [
        ("allow web", "allow any"),
        ("allow web", "allow web { method GET }"),
        ("allow web { method GET }", "allow web { method POST }"),
        ("", "allow web"),
    ] {
        let found = staged(&with(before), &with(after));
        assert!(found.skews.is_empty(), "{before} → {after}: {found:?}");
    }
}

#[test]
fn only_slices_that_see_a_difference_change() {
    let base = web_and("port 80; allow web");
    let same = mesh(
        "// a comment\nservice a { allow web; port 80 }\nservice other { port 80 }\nservice web { calls a; port 80 }",
    );
    assert!(
        SliceChange::of(Change::new(&base, &same))
            .unwrap()
            .is_nothing()
    );
    let head = web_and("port 80; allow web; timeout \"2s\"");
    let found = SliceChange::of(Change::new(&base, &head)).unwrap();
    let names: Vec<String> = found.changed.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["spiffe://m.example/service/web"]);
    assert!(found.access_changed.is_empty() && found.after == 3);
}

#[test]
fn the_largest_gain_of_a_version_is_a_step() {
    const TWO: &str = "subset v1 { labels version=v1 }; subset v2 { labels version=v2 }";
    let with =
        |subsets: &str, routes: &str| web_and(&format!("port 80; {subsets}; allow web\n{routes}"));
    let split =
        |one: u32, two: u32| format!("route all {{ to v1 weight={one}; to v2 weight={two} }}");
    let base = with(TWO, &split(90, 10));
    let moved = |head: LinkedMesh| {
        let steps = split::steps(Change::new(&base, &head));
        assert!(steps.unknown.is_empty());
        let step = |step: split::Step| {
            let by = (step.after - step.before) * 100.0;
            (
                step.version.labels[0].value.clone(),
                by.round(),
                step.is_apart,
            )
        };
        steps.all.into_iter().map(step).collect::<Vec<_>>()
    };
    let v2 = |by: f64, is_apart| ("v2".to_owned(), by, is_apart);
    assert_eq!(moved(with(TWO, &split(90, 10))), []);
    assert_eq!(moved(with(TWO, &split(40, 60))), [v2(50.0, false)]);
    // Names mean nothing.
    let renamed = "subset old { labels version=v1 }; subset new { labels version=v2 }";
    let same = "route every { to old weight=9; to new weight=1 }";
    assert_eq!(moved(with(renamed, same)), []);
    // A route that takes the requests of another.
    let and = |route: &str| format!("{}\n{route}", split(90, 10));
    let taken = and("route get { match { method GET }; to v2 }");
    assert_eq!(moved(with(TWO, &taken)), [v2(90.0, false)]);
    let chosen = and("route testers { match { header user \"tester\" }; to v2 }");
    assert_eq!(moved(with(TWO, &chosen)), [v2(90.0, true)]);
    let most = and("route most { match { not { header user \"tester\" } }; to v2 }");
    assert_eq!(moved(with(TWO, &most)), [v2(90.0, false)]);
    // A subset that is another version than before.
    let relabelled = "subset v1 { labels version=v2 }; subset v2 { labels version=v2 }";
    assert_eq!(moved(with(relabelled, &split(90, 10))), [v2(90.0, false)]);
}

#[test]
fn endpoints_that_are_counted_have_shares() {
    const SPLIT: &str = "route all { to v1 weight=75; to v2 weight=25 }";
    let with = |labels: [&str; 4], route: &str| {
        let endpoint = |(number, label): (usize, &&str)| {
            format!("static \"10.0.0.{number}:80\" version={label}\n")
        };
        let endpoints: String = labels.iter().enumerate().map(endpoint).collect();
        web_and(&format!(
            "port 80; endpoints {{ {endpoints} }}; allow web; subset v1 {{ labels version=v1 }}
            subset v2 {{ labels version=v2 }}\n{route}"
        ))
    };
    let moved = |base: LinkedMesh, head: LinkedMesh| {
        let steps = split::steps(Change::new(&base, &head)).all;
        let by = |step: split::Step| (step.after - step.before) * 100.0;
        steps
            .into_iter()
            .map(by)
            .map(f64::round)
            .collect::<Vec<_>>()
    };
    let three = ["v1", "v1", "v1", "v2"];
    // Whoever takes all endpoints alike has split them already.
    assert_eq!(moved(with(three, ""), with(three, SPLIT)), [0.0; 0]);
    assert_eq!(
        moved(with(three, ""), with(three, "route all { to v2 }")),
        [75.0]
    );
    // One endpoint that has another name gets the requests of the others.
    let four = ["v2", "v2", "v2", "v1"];
    assert_eq!(moved(with(three, SPLIT), with(four, SPLIT)), [50.0]);
}

#[test]
fn a_service_that_goes_together_with_its_calls_is_still_called_for_a_while() {
    let base = web_and("port 80; allow web");
    let head = mesh("service web { port 80 }\nservice other { port 80 }");
    let found = orphaned(Change::new(&base, &head));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].callers.len(), 1);
}
