//! Requests that stay with one of several destinations.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Request;
use mesh_bundle::slice::{RequestKey, Route, Slice};

use super::harness::*;

fn split(weights: (u32, u32), sticky: Vec<RequestKey>) -> Route {
    let mut route = route();
    route.destinations = vec![
        destination(Some("v1"), weights.0),
        destination(Some("v2"), weights.1),
    ];
    route.filters.sticky = sticky;
    route
}

struct Two {
    mesh: Mesh,
    caller: Proxy,
    /// Kept, for they answer.
    _behind: [Proxy; 2],
}

async fn two(route: Route) -> Two {
    let mesh = Mesh::new();
    let (one, two) = (
        Application::named("v1").await,
        Application::named("v2").await,
    );
    let (one, two) = (mesh.reviews(one.address), mesh.reviews(two.address));
    let at = [("v1", one.inbound()), ("v2", two.inbound())];
    let caller = mesh.productpage(vec![route], &at);
    Two {
        mesh,
        caller,
        _behind: [one, two],
    }
}

fn by(name: &'static str, value: &str) -> Request<TestBody> {
    let mut request = get("/");
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn who_shares_a_key_shares_a_destination_also_when_weights_move() {
    let keys = vec![RequestKey::Header("user".to_owned())];
    let world = two(split((50, 50), keys.clone())).await;
    let ask = async |user: &str| {
        let got = send(world.caller.outbound(), by("user", user)).await;
        got.header("x-name").to_owned()
    };
    let mut of_users = Vec::new();
    for user in 0..12 {
        let user = format!("user-{user}");
        let first = ask(&user).await;
        for _ in 0..3 {
            assert_eq!(ask(&user).await, first, "{user}");
        }
        of_users.push((user, first));
    }
    let seen: BTreeSet<_> = of_users.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(seen.len(), 2, "{of_users:?}");
    // Who has the new version keeps it when more get it.
    let more: Slice = world.mesh.calling(vec![split((20, 80), keys)]);
    world.caller.apply(&more);
    for (user, before) in of_users.iter().filter(|(_, name)| name == "v2") {
        assert_eq!(&ask(user).await, before, "{user}");
    }
}

#[tokio::test]
async fn a_cookie_ties_whoever_comes_again() {
    let cookie = RequestKey::Cookie {
        name: "shop".to_owned(),
        ttl: Some(Duration::from_hours(1)),
    };
    let world = two(split((50, 50), vec![cookie])).await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let got = send(world.caller.outbound(), get("/")).await;
        let name = got.header("x-name").to_owned();
        let set = got.header("set-cookie").to_owned();
        assert!(
            set.starts_with("shop=") && set.contains("Max-Age=3600"),
            "{set}"
        );
        let pair = set.split(';').next().unwrap();
        for _ in 0..3 {
            let again = send(world.caller.outbound(), by("cookie", pair)).await;
            assert_eq!(again.header("x-name"), name);
            assert!(!again.headers.contains_key("set-cookie"));
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
