//! The route index against a model that walks all routes, and what people are told about it.

use mesh_bundle::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, Principal, Route, RouteMatch,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::path;
use crate::request::Peer;
use crate::testing::{
    TestRng, all, callee, destination, exact, from, host, id, method, not, path, present, regex,
    route,
};

fn build(routes: Vec<Route>) -> CalleeTable {
    CalleeTable::build(&callee("shop", routes)).unwrap()
}

fn segment() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "A", "B", "a", "b"])
}

fn joined(segments: &[&str]) -> String {
    segments.iter().flat_map(|segment| ["/", segment]).collect()
}

fn pattern() -> impl Strategy<Value = PathPattern> {
    let piece = prop_oneof![3 => segment(), 1 => Just("*")];
    let template = (
        prop::collection::vec(piece, 0..3),
        select(vec!["", "", "/", "/**", "/**"]),
    )
        .prop_map(|(segments, end)| {
            let text = joined(&segments);
            PathPatternKind::Template(if text.is_empty() && end.is_empty() {
                "/".to_owned()
            } else {
                text + end
            })
        });
    let expression = select(vec![
        "/a/[ab]",
        "/a/.*",
        ".*",
        "/[a-b]/b?",
        "/a/b",
        "/a/b/.*",
        "/a|/b",
    ])
    .prop_map(|text| PathPatternKind::Regex(text.into()));
    (
        prop_oneof![5 => template, 1 => expression],
        prop::bool::weighted(0.1),
    )
        .prop_map(|(kind, ignore_case)| PathPattern { kind, ignore_case })
}

fn field() -> impl Strategy<Value = FieldMatch> {
    (
        select(vec!["x", "y"]),
        select(vec![None, Some("1"), Some("2")]),
    )
        .prop_map(|(name, value)| value.map_or_else(|| present(name), |value| exact(name, value)))
}

fn condition() -> impl Strategy<Value = Condition> {
    let principal = prop_oneof![
        select(vec!["web", "cart"]).prop_map(|name| Principal::SpiffeId(id(name))),
        Just(Principal::SpiffePrefix(
            "spiffe://t.example/service/".into()
        )),
        Just(Principal::Any),
        Just(Principal::Unauthenticated),
    ];
    let positive = prop_oneof![
        6 => prop::collection::vec(pattern(), 1..3).prop_map(Condition::Path),
        2 => prop::collection::vec(select(vec!["a.b", "*.b", "**.b", "**", "c"]), 1..3)
            .prop_map(|hosts| Condition::Host(hosts.into_iter().map(Into::into).collect())),
        1 => prop::collection::vec(select(vec![80_u16, 81]), 1..3).prop_map(Condition::Port),
        1 => select(vec!["GET", "PUT"]).prop_map(method),
        1 => prop::collection::vec(principal, 1..3).prop_map(Condition::From),
        2 => field().prop_map(Condition::Header),
        1 => field().prop_map(Condition::Query),
    ];
    (positive, prop::bool::weighted(0.1))
        .prop_map(|(condition, negate)| if negate { not(condition) } else { condition })
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let one =
        prop::collection::vec(condition(), 0..4).prop_map(|conditions| RouteMatch { conditions });
    prop::collection::vec(prop::collection::vec(one, 0..3), 0..12).prop_map(|routes| {
        let named = routes.into_iter().enumerate();
        named
            .map(|(number, matches)| route(&format!("r{number}"), matches))
            .collect()
    })
}

/// The model: of all alternatives that take the request, the most specific; by a walk over all.
fn model(routes: &[Route], request: &Request<'_>) -> Option<Specificity> {
    let every_request = vec![RouteMatch::default()];
    let holds = |narrowed: &RouteMatch| {
        narrowed.conditions.iter().all(|condition| {
            ConditionMatcher::compile(condition)
                .unwrap()
                .matches(request, Reading::Match)
        })
    };
    routes
        .iter()
        .flat_map(|route| {
            if route.matches.is_empty() {
                &every_request
            } else {
                &route.matches
            }
        })
        .flat_map(|each| alternatives(each).unwrap())
        .filter(|alternative| holds(&alternative.narrowed))
        .map(|alternative| alternative.specificity)
        .max()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_index_finds_what_a_walk_finds(
        routes in routes(),
        path_segments in prop::collection::vec(segment(), 0..4),
        slash in any::<bool>(),
        host in select(vec!["a.b", "x.a.b", "c", "b"]),
        port in select(vec![80_u16, 81, 82]),
        method in select(vec!["GET", "PUT"]),
        caller in select(vec![Some("web"), Some("cart"), None]),
        header in select(vec!["1", "2", "3"]),
        query in select(vec!["", "x=1", "y=1&x=2"]),
    ) {
        let mut raw = joined(&path_segments);
        if slash || raw.is_empty() {
            raw.push('/');
        }
        let path = path::normalise(&raw).unwrap();
        let headers = vec![("x", header)];
        let caller = caller.map(id);
        let peer = caller.as_ref().map_or(Peer::Unauthenticated, Peer::Identity);
        let request = Request { port, peer, query, headers: &headers, ..Request::new(method, host, &path) };

        let table = build(routes.clone());
        let expected = model(&routes, &request);
        let found = table.route(&request);
        prop_assert_eq!(found.is_some(), table.routes().iter().any(|route| route.admits(&request)));
        // Routes may tie here, as the compiler would not let them; the winner is one of the best.
        let of_winner = found.and_then(|winner| {
            let number = table.routes().iter().position(|route| std::ptr::eq(route, winner))?;
            model(routes.get(number..=number)?, &request)
        });
        prop_assert_eq!(of_winner, expected, "{:?} for {}", found.map(RouteTable::name), raw);

        let explanation = table.explain(&request);
        prop_assert_eq!(explanation.winner.map(RouteTable::name), found.map(RouteTable::name));
        let told = explanation.losers.len() + usize::from(found.is_some());
        prop_assert_eq!(told, routes.len());
        for loser in &explanation.losers {
            let less_specific = matches!(loser.because, Because::LessSpecific { .. });
            prop_assert_eq!(less_specific, loser.route.admits(&request));
        }
    }
}

#[track_caller]
fn check(table: &CalleeTable, host: &str, raw: &str, expected: Option<&str>) {
    let path = path::normalise(raw).unwrap();
    let request = Request::new("GET", host, &path);
    assert_eq!(
        table.route(&request).map(RouteTable::name),
        expected,
        "{host}{raw}"
    );
}

/// design.md: "Routes never hide each other: where the most specific host's routes don't match, the
/// next are tried."
#[test]
fn routes_never_hide_each_other() {
    let table = build(vec![
        route("exact", vec![all([host("a.b"), path("/only")])]),
        route("wildcard", vec![all([host("*.b"), path("/x/**")])]),
        route("any-host", vec![all([path("/x/y")])]),
        route("deep", vec![all([path("/d/e/f")])]),
        route("star", vec![all([path("/d/*/g")])]),
        route("below", vec![all([path("/d/**")])]),
    ]);
    check(&table, "a.b", "/only", Some("exact"));
    check(&table, "a.b", "/x/y", Some("wildcard"));
    check(&table, "c", "/x/y", Some("any-host"));
    check(&table, "c", "/only", None);
    check(&table, "c", "/d/e/f", Some("deep"));
    check(&table, "c", "/d/e/g", Some("star"));
    check(&table, "c", "/d/e/h", Some("below"));
    check(&table, "c", "/d", Some("below"));
}

#[test]
fn no_match_is_every_request() {
    check(
        &build(vec![route("default", Vec::new())]),
        "a",
        "/",
        Some("default"),
    );
    check(&build(Vec::new()), "a", "/", None);
}

/// The demo's routes, as `meshc explain` tells about them.
#[test]
fn explains() {
    let table = build(vec![
        route(
            "testers",
            vec![all([Condition::Header(exact("user", "tester"))])],
        ),
        route(
            "mine",
            vec![all([method("PUT")]), all([path("/r/**"), from("web")])],
        ),
        route("numbers", vec![all([regex("/r/[0-9]+")])]),
        route("everyone", Vec::new()),
    ]);
    let path = path::normalise("/r/7").unwrap();
    let explanation = table.explain(&Request::new("GET", "shop", &path));
    let told: Vec<_> = explanation
        .losers
        .iter()
        .map(|loser| format!("{}: {}", loser.route, loser.because))
        .collect();
    assert_eq!(explanation.winner.map(RouteTable::name), Some("numbers"));
    assert_eq!(
        told,
        [
            "testers: does not match `header user \"tester\"`",
            "mine: does not match `from \"spiffe://t.example/service/web\"`",
            "everyone: less specific than numbers",
        ]
    );
}

#[test]
fn weights() {
    let mut split = route("split", Vec::new());
    split.destinations = vec![
        destination("v1", 90),
        destination("v2", 10),
        destination("off", 0),
    ];
    let table = build(vec![split]);
    let route = table.routes().first().unwrap();
    let shares: Vec<_> = route.split_shares().map(|share| share.fraction()).collect();
    assert_eq!(shares, [0.9, 0.1, 0.0]);
    let mut rng = TestRng(7);
    let mut picks = [0_u32; 3];
    for _ in 0..10_000 {
        let subset = route
            .pick_destination(&mut rng)
            .unwrap()
            .target
            .subset
            .clone();
        let position = ["v1", "v2", "off"]
            .iter()
            .position(|name| subset.as_deref() == Some(name));
        *position
            .and_then(|position| picks.get_mut(position))
            .unwrap() += 1;
    }
    // The same seed each time; a fair draw is within 100 of 1,000 but once in a thousand seeds.
    assert!(matches!(picks, [_, 900..=1100, 0]), "{picks:?}");
}

#[test]
fn refuses_a_route_without_somewhere_to_go() {
    for (destinations, expected) in [
        (Vec::new(), SplitError::Empty),
        (
            vec![destination("v1", 0), destination("v2", 0)],
            SplitError::AllZero,
        ),
    ] {
        let mut nowhere = route("nowhere", Vec::new());
        nowhere.destinations = destinations;
        let error = CalleeTable::build(&callee("shop", vec![nowhere])).unwrap_err();
        assert_eq!(
            error,
            RouteError::Split {
                route: "nowhere".into(),
                source: expected
            }
        );
    }
}

#[test]
fn port_is_needed_if_there_are_several() {
    let mut shop = callee("shop", Vec::new());
    let number = |table: &CalleeTable, named| table.port(named).map(|port| port.number);
    let table = CalleeTable::build(&shop).unwrap();
    assert_eq!(
        (number(&table, None), number(&table, Some(80))),
        (Some(80), Some(80))
    );
    assert_eq!(number(&table, Some(81)), None);
    shop.ports.push(crate::testing::port(81));
    let table = CalleeTable::build(&shop).unwrap();
    assert_eq!(
        (number(&table, None), number(&table, Some(81))),
        (None, Some(81))
    );
}
