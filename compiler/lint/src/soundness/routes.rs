//! Routes: which take requests, which tie, which requests none takes.

use mesh_bundle::slice::RouteMatch;
use mesh_compiler::analysis::probe::{self, Probe};
use mesh_compiler::analysis::request_space::{Point, Space};
use mesh_compiler::analysis::routes::RouteFacts;
use mesh_engine::route::alternatives;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::{LOOKS, any_policy, linked, ordinary, shown};

/// Requests of which an unreachable route takes none.
const RANDOM_REQUESTS: usize = 100_000;

proptest! {
    #![proptest_config(super::cases(96))]

    #[test]
    fn routes_are_what_their_facts_say(policy in any_policy()) {
        let text = policy.text();
        let (mesh, id) = linked(&text)?;
        let facts = RouteFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        prop_assert!(facts.unknown.is_empty(), "{:?}\n{text}", facts.unknown);
        let world = policy.world();
        let routes = &mesh.service(id).routes;
        let mut chosen = vec![false; routes.len()];
        let mut admitted = vec![false; routes.len()];
        let mut uncovered = false;
        for point in &world {
            match probe.route(point) {
                Some(route) => chosen[route] = true,
                None => uncovered |= probe.is_allowed(point) == Some(true),
            }
            for (route, admitted) in admitted.iter_mut().enumerate() {
                *admitted |= probe.admits(route, point);
            }
        }
        for each in &facts.unreachable {
            prop_assert!(!chosen[each.route], "r{} is chosen\n{text}", each.route);
            let witness = shown(each.witness.as_ref(), &policy)?;
            prop_assert!(probe.admits(each.route, witness));
            prop_assert!(probe.route(witness).is_some_and(|winner| winner != each.route));
        }
        for each in &facts.idle {
            let plain = probe::matches(&routes[each.route]);
            let part = each.part.as_ref().unwrap_or(&plain[each.position]);
            let holds = |part: &RouteMatch, point: &Point| {
                Space::of_match(part).expect("it is small").contains(point)
            };
            // What is more specific in the same route may take the request for it.
            let others: Vec<RouteMatch> = plain
                .iter()
                .flat_map(|each| alternatives(each).expect("there are few"))
                .map(|alternative| alternative.narrowed)
                .filter(|other| match &each.part {
                    Some(part) => other != part,
                    None => !alternatives(&plain[each.position])
                        .expect("there are few")
                        .iter()
                        .any(|own| own.narrowed == *other),
                })
                .collect();
            for point in world.iter().filter(|point| holds(part, point)) {
                let other = others.iter().any(|other| holds(other, point));
                let taken = probe.route(point) == Some(each.route);
                prop_assert!(!taken || other, "{point:?} is taken\n{text}");
            }
            let witness = shown(each.witness.as_ref(), &policy)?;
            prop_assert!(probe.admits(each.route, witness));
            prop_assert!(probe.route(witness).is_some_and(|winner| winner != each.route));
        }
        for tie in &facts.ties {
            let witness = shown(tie.witness.as_ref(), &policy)?;
            prop_assert!(probe.admits(tie.first, witness) && probe.admits(tie.second, witness), "{text}");
        }
        for (route, each) in routes.iter().enumerate() {
            let unreachable = facts.unreachable.iter().any(|each| each.route == route);
            let tied = facts.ties.iter().any(|tie| tie.first == route || tie.second == route);
            let matches = each.matches.len();
            let impossible = matches > 0
                && facts.impossible.iter().filter(|each| each.route == route).count() == matches;
            prop_assert_eq!(impossible, !admitted[route], "r{} impossible?\n{}", route, text);
            prop_assert!(chosen[route] || unreachable || tied || impossible, "r{route} is never chosen\n{text}");
        }
        prop_assert_eq!(facts.uncovered.is_some(), uncovered, "{}", text);
        if let Some(point) = &facts.uncovered {
            prop_assert!(probe.route(point).is_none() && probe.is_allowed(point) == Some(true));
        }
    }
}

proptest! {
    #![proptest_config(super::cases(6))]

    #[test]
    fn unreachable_routes_take_none_of_many_random_requests(
        policy in any_policy().prop_filter("a route is never reached", |policy| {
            linked(&policy.text()).is_ok_and(|(mesh, id)| !RouteFacts::of(&mesh, id).unreachable.is_empty())
        }),
        seed in any::<[u8; 32]>(),
    ) {
        let text = policy.text();
        let (mesh, id) = linked(&text)?;
        let facts = RouteFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        let never: Vec<usize> = facts.unreachable.iter().map(|each| each.route).collect();
        let mut rng = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
        let changes: Vec<_> = LOOKS.iter().map(|look| look.cases()).collect();
        for _ in 0..RANDOM_REQUESTS {
            let point = random(&mut rng, &changes);
            let taken = probe.route(&point);
            prop_assert!(taken.is_none_or(|route| !never.contains(&route)), "{point:?}\n{text}");
        }
    }
}

/// Any case of every look, and half of the time a path that nobody thought of.
fn random(rng: &mut TestRng, changes: &[Vec<super::Change>]) -> Point {
    let mut point = ordinary();
    for cases in changes {
        let index = usize::try_from(rng.next_u32()).unwrap_or_default() % cases.len();
        cases[index](&mut point);
    }
    if rng.next_u32().is_multiple_of(2) {
        let letters = b"ab7A/";
        let length = rng.next_u32() % 6;
        let mut path = String::from("/");
        for _ in 0..length {
            let index = usize::try_from(rng.next_u32()).unwrap_or_default() % letters.len();
            let letter = char::from(letters[index]);
            // Slashes are merged in a normalised path.
            if !(letter == '/' && path.ends_with('/')) {
                path.push(letter);
            }
        }
        point.path = path;
    }
    point
}
