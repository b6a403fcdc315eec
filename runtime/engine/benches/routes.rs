//! Route lookup must not depend on the number of routes: `cargo bench -p mesh-engine`.

use std::time::Duration;

use divan::{Bencher, black_box};
use mesh_bundle::slice::{
    Balance, Callee, Condition, Destination, EndpointSource, Exchange, FieldMatch, PathPattern,
    PathPatternKind, Retry, Route, RouteMatch, Target,
};
use mesh_engine::{CalleeTable, Request, path};

fn main() {
    divan::main();
}

fn route(number: usize) -> Route {
    let template = format!("/api/v1/area{}/thing{number}/{{id}}", number % 100);
    let kind = PathPatternKind::Template(template);
    let path = Condition::Path(vec![PathPattern {
        kind,
        ignore_case: false,
    }]);
    let header = Condition::Header(FieldMatch {
        name: "user".into(),
        values: Vec::new(),
    });
    let target = Target {
        service: "shop".into(),
        subset: None,
        ..Target::default()
    };
    Route {
        name: format!("route{number}"),
        matches: vec![RouteMatch {
            conditions: vec![path, header],
        }],
        destinations: vec![Destination {
            target,
            weight: 1,
            otherwise: Vec::new(),
            ..Destination::default()
        }],
        exchange: Exchange {
            timeout: Some(Duration::from_secs(15)),
            connect_timeout: Duration::from_secs(1),
            retry: Retry {
                attempts: 1,
                causes: Vec::new(),
                per_try: None,
                any_method: false,
                backoff_base: Duration::from_millis(25),
                backoff_max: Duration::from_millis(250),
            },
            stream_idle: None,
            max_duration: None,
            ..Exchange::default()
        },
        ..Route::default()
    }
}

fn callee(routes: usize) -> Callee {
    Callee {
        service: "shop".into(),
        hosts: vec!["shop".into()],
        ports: Vec::new(),
        identities: Vec::new(),
        subsets: Vec::new(),
        endpoints: EndpointSource::Discovered,
        routes: (0..routes).map(route).collect(),
        retry_budget: None,
        balance: Balance::RoundRobin,
        ..Callee::default()
    }
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn lookup(bencher: Bencher<'_, '_>, routes: usize) {
    let table = CalleeTable::build(&callee(routes)).expect("the routes are good");
    let last = routes - 1;
    let raw = format!("/api/v1/area{}/thing{last}/7", last % 100);
    let path = path::normalise(&raw).expect("the path is good");
    let headers = vec![("accept", "*/*"), ("user", "tester")];
    let request = Request {
        headers: &headers,
        ..Request::new("GET", "shop", &path)
    };
    assert!(table.route(&request).is_some());
    bencher.bench_local(|| table.route(black_box(&request)).is_some());
}

/// Must grow no faster than the routes.
#[divan::bench(args = [1_000, 10_000, 100_000])]
fn build(bencher: Bencher<'_, '_>, routes: usize) {
    let callee = callee(routes);
    bencher.bench_local(|| CalleeTable::build(black_box(&callee)).is_ok());
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn miss(bencher: Bencher<'_, '_>, routes: usize) {
    let table = CalleeTable::build(&callee(routes)).expect("the routes are good");
    let path = path::normalise("/api/v1/area1/other/7").expect("the path is good");
    let request = Request::new("GET", "shop", &path);
    assert!(table.route(&request).is_none());
    bencher.bench_local(|| table.route(black_box(&request)).is_some());
}

#[divan::bench(args = ["/api/v1/area1/thing1/7", "/api//v1/../v1/%7ething"])]
fn normalise(raw: &str) -> bool {
    path::normalise(black_box(raw)).is_ok()
}
