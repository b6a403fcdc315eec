//! Properties of comparisons: what is told is so in the engine, and nothing that proxies would see is left out.
#![expect(clippy::panic, reason = "helpers of tests fail by panicking too")]

use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::entrance::{Door, peers};
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::diff::grants::{Grants, Who};
use mesh_compiler::diff::routes::Moves;
use mesh_compiler::diff::{Change, slices};
use mesh_compiler::test_util::{MESH, load, render, sources};
use mesh_compiler::trial::{Call, Decision, Trial};
use proptest::prelude::*;

/// What a service can say, of which some is left out and the rest put in any order.
const LINES: &[&str] = &[
    "allow web",
    "allow web { path \"/a/**\" }",
    "allow web { method GET }",
    "allow any { path \"/open\" }",
    "allow unauthenticated { path \"/open\" \"/x\" }",
    "allow \"spiffe://m.example/service/**\" { path \"/shared\" }",
    "allow other { header user \"tester\" }",
    "deny { path \"/a/secret\" }",
    "deny other { method POST }",
    "route default-ish { to v1 }",
    "route split { match { path \"/a/**\" }; to v1 weight=1; to v2 weight=3 }",
    "route tester { match { header user \"tester\" }; to v2 }",
    "route moved { match { path \"/old\" }; redirect path=\"/new\" }",
    "route there { match { path \"/x/*\"; method GET }; to service=back; rewrite path=\"/\" }",
    "timeout \"3s\"",
    "retry reset attempts=3",
    "limits connections=7",
    "mtls permissive",
    "probe \"/healthz\"",
    "unmeshed",
];

const FIXED: &str = "port 80; subset v1 { labels version=v1 }; subset v2 { labels version=v2 }";

fn mesh(chosen: &[usize], with_other: bool) -> LinkedMesh {
    // Rules that name a service need it.
    let known = |line: &&str| with_other || !line.contains(" other");
    let lines: Vec<&str> = chosen
        .iter()
        .map(|line| LINES[*line])
        .filter(known)
        .collect();
    let other = if with_other {
        "service other { port 80; calls a }"
    } else {
        ""
    };
    let policy = format!(
        "service web {{ port 80; calls a }}\n{other}\nservice back {{ port 80; allow any }}\nservice a {{\n{FIXED}\n{}\n}}\n",
        lines.join("\n")
    );
    let sources = sources(&[("a.kdl", &policy), ("mesh.kdl", MESH)]);
    let analysed = load(&sources);
    analysed
        .mesh
        .unwrap_or_else(|| panic!("{}", render(&sources, &analysed.diagnostics)))
}

fn lines() -> impl Strategy<Value = Vec<usize>> {
    let all: Vec<usize> = (0..LINES.len()).collect();
    proptest::sample::subsequence(all.clone(), 0..=all.len()).prop_shuffle()
}

/// Everything that is said about access, in words that hold for either direction.
fn access(change: Change<'_>, gained: bool) -> Vec<(String, Who, bool)> {
    let grants = Grants::of(change);
    assert!(grants.unknown.is_empty());
    let all = grants
        .all
        .into_iter()
        .filter(|grant| grant.is_gained == gained);
    all.map(|grant| {
        (
            change.name_of(grant.callee).to_owned(),
            grant.who,
            grant.is_entire,
        )
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_gained_one_way_is_lost_the_other_way(before in lines(), after in lines(), other in any::<bool>()) {
        let (base, head) = (mesh(&before, true), mesh(&after, other));
        let change = Change::new(&base, &head);
        prop_assert_eq!(access(change, true), access(change.reverted(), false));
        prop_assert_eq!(access(change, false), access(change.reverted(), true));
    }

    #[test]
    fn every_change_of_access_is_real(before in lines(), after in lines()) {
        let (base, head) = (mesh(&before, true), mesh(&after, true));
        let change = Change::new(&base, &head);
        for grant in Grants::of(change).all {
            // The bounds are far away in a mesh this small.
            let point = grant.witness.unwrap();
            let decided = [&base, &head].map(|mesh| {
                let callee = mesh.service_named(change.name_of(grant.callee)).unwrap();
                // A service shows itself as the generation has it, and to one without a proxy not at all.
                let from = match &grant.who {
                    Who::Service(name) => {
                        let caller = mesh.service(mesh.service_named(name).unwrap());
                        peers(caller, mesh.service(callee)).remove(0)
                    }
                    _ => point.from.clone(),
                };
                Door::of(mesh, callee).unwrap().lets_in(&Point { from, ..point.clone() })
            });
            prop_assert_eq!(decided, [!grant.is_gained, grant.is_gained], "{:?} {:?}", grant.who, point);
        }
    }

    #[test]
    fn every_move_is_real_on_both_sides(before in lines(), after in lines()) {
        let (base, head) = (mesh(&before, false), mesh(&after, false));
        let change = Change::new(&base, &head);
        let moves = Moves::of(change);
        prop_assert!(moves.unknown.is_empty());
        let mut trials = (Trial::new(&base), Trial::new(&head));
        for each in moves.all {
            let name = change.head.service(each.service.head).name.value.clone();
            let named = each.witness.from.as_ref().map(|_| "web".to_owned());
            let call = Call::from(&each.witness.to_witness(named, name, false));
            let (was, is) = (trials.0.run(&call).unwrap(), trials.1.run(&call).unwrap());
            let taken = |mesh: &LinkedMesh, id, index: Option<usize>| {
                index.map(|index| mesh.service(id).routes[index].name.value.clone())
            };
            let (old, new) = (taken(&base, each.service.base, each.before), taken(&head, each.service.head, each.after));
            // A caller that has no business with the service is told of none of its routes.
            if is.route.is_some() || is.decision == Decision::NoRoute {
                prop_assert_eq!(is.route.map(|route| route.name), new);
            }
            if was.route.is_some() || was.decision == Decision::NoRoute {
                prop_assert_eq!(was.route.map(|route| route.name), old);
            }
        }
    }

    #[test]
    fn the_same_slices_are_no_change_and_order_is_none(lines in lines(), other in any::<bool>()) {
        let mut sorted = lines.clone();
        sorted.sort_unstable();
        let (base, head) = (mesh(&lines, other), mesh(&sorted, other));
        let change = Change::new(&base, &head);
        prop_assert_eq!(slices::records(change).unwrap(), []);
        prop_assert!(Grants::of(change).all.is_empty());
        prop_assert!(Moves::of(change).all.is_empty());
    }

    #[test]
    fn whoever_gains_or_goes_elsewhere_has_other_slices(before in lines(), after in lines()) {
        let (base, head) = (mesh(&before, true), mesh(&after, true));
        let change = Change::new(&base, &head);
        if slices::records(change).unwrap().is_empty() {
            prop_assert!(Grants::of(change).all.is_empty() && Moves::of(change).all.is_empty());
        }
    }
}
