//! Which endpoint takes a request.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, StatusCode};
use mesh_bundle::slice::{
    Balance, HealthCheck, HealthCheckKind, Label, Locality, Pool, RequestKey, Subset, SubsetPool,
};

use super::harness::*;

/// Three applications that say their names, each behind a proxy.
struct Three {
    mesh: Mesh,
    proxies: Vec<Proxy>,
    _applications: Vec<Application>,
}

impl Three {
    async fn new() -> Self {
        let mesh = Mesh::new();
        let mut applications = Vec::new();
        for name in ["a", "b", "c"] {
            applications.push(Application::named(name).await);
        }
        let proxies = applications
            .iter()
            .map(|application| mesh.reviews(application.address))
            .collect();
        Self {
            mesh,
            proxies,
            _applications: applications,
        }
    }

    fn endpoints(&self) -> Vec<(&'static str, SocketAddr)> {
        let names = ["v1", "v2", "v3"];
        names
            .into_iter()
            .zip(self.proxies.iter().map(Proxy::inbound))
            .collect()
    }

    /// A caller whose calls are spread so.
    fn caller(&self, balance: Balance, pool: Pool) -> Proxy {
        let caller = self.mesh.productpage(vec![route()], &self.endpoints());
        let mut slice = self.mesh.calling(vec![route()]);
        slice.callees[0].balance = balance;
        slice.callees[0].pool = pool;
        caller.apply(&slice);
        caller
    }
}

/// Who answers a request with this header.
async fn who(caller: &Proxy, name: &str, value: &str) -> String {
    let request = Request::get("/").header("host", "reviews");
    let request = request.header(name, value).body(full("")).unwrap();
    let got = send(caller.outbound(), request).await;
    assert_eq!(got.status, StatusCode::OK, "{:?}", got.headers);
    got.headers["x-name"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_has_its_endpoint() {
    let three = Three::new().await;
    for balance in [Balance::RingHash, Balance::Maglev] {
        let pool = || Pool {
            hash_keys: vec![RequestKey::Header("user".to_owned())],
            ..Pool::default()
        };
        let callers = [three.caller(balance, pool()), three.caller(balance, pool())];
        let mut all = BTreeSet::new();
        for user in 0..20 {
            let user = user.to_string();
            let own = who(&callers[0], "user", &user).await;
            assert_eq!(who(&callers[0], "user", &user).await, own);
            assert_eq!(
                who(&callers[1], "user", &user).await,
                own,
                "for all callers"
            );
            all.insert(own);
        }
        assert_eq!(all.len(), 3, "{balance:?}");
        // Nothing ties a request without the header.
        let mut untied = BTreeSet::new();
        for _ in 0..60 {
            untied.insert(who(&callers[0], "other", "x").await);
        }
        assert_eq!(untied.len(), 3);
    }
}

#[tokio::test]
async fn a_cookie_ties_a_client_to_its_endpoint() {
    let three = Three::new().await;
    let key = RequestKey::Cookie {
        name: "tied".to_owned(),
        ttl: Some(Duration::from_mins(5)),
    };
    let pool = Pool {
        hash_keys: vec![key],
        ..Pool::default()
    };
    let caller = three.caller(Balance::RingHash, pool);
    for _ in 0..5 {
        let first = send(caller.outbound(), get("/")).await;
        let cookie = first.headers["set-cookie"].to_str().unwrap().to_owned();
        assert!(
            cookie.ends_with("; Max-Age=300; Path=/; HttpOnly"),
            "{cookie}"
        );
        let pair = cookie.split(';').next().unwrap();
        for _ in 0..3 {
            assert_eq!(who(&caller, "cookie", pair).await, first.headers["x-name"]);
        }
        let request = Request::get("/").header("host", "reviews");
        let request = request.header("cookie", pair).body(full("")).unwrap();
        let again = send(caller.outbound(), request).await;
        assert!(!again.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn near_endpoints_first_and_others_where_they_fail() {
    let three = Three::new().await;
    let caller = Proxy::start_as(
        three.mesh.authority.credentials("/service/productpage"),
        None,
        |settings| {
            settings.labels = vec![Label {
                key: "version".to_owned(),
                value: "v2".to_owned(),
            }];
        },
    );
    caller
        .plane
        .set_endpoints(endpoints("reviews", &three.endpoints()));
    let mut slice = three.mesh.calling(vec![route()]);
    let pool = &mut slice.callees[0].pool;
    pool.locality = Some(Locality {
        labels: vec!["version".to_owned()],
        min_healthy: 7_000,
        otherwise: Vec::new(),
        confined: false,
    });
    pool.outlier = Some(mesh_bundle::slice::Outlier {
        consecutive_5xx: Some(1),
        consecutive_gateway: None,
        consecutive_local: None,
        rates: None,
        every: Duration::from_mins(1),
        eject: Duration::from_mins(1),
        max_ejected: 5_000,
    });
    caller.apply(&slice);
    for _ in 0..6 {
        assert_eq!(who(&caller, "x", "y").await, "b");
    }
    let dead = nobody().await;
    let at = three.endpoints();
    let with_dead = [at[0], ("v2", dead), at[2]];
    caller.plane.set_endpoints(endpoints("reviews", &with_dead));
    let first = send(caller.outbound(), get("/")).await;
    assert_eq!(first.reason(), "connect_failure");
    let mut others = BTreeSet::new();
    for _ in 0..6 {
        others.insert(who(&caller, "x", "y").await);
    }
    assert_eq!(others, ["a", "c"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_subset_has_a_pool_of_its_own() {
    let three = Three::new().await;
    let mut to_v1 = route();
    to_v1.destinations = vec![destination(Some("v1"), 1)];
    let caller = three
        .mesh
        .productpage(vec![to_v1.clone()], &three.endpoints());
    let mut slice = three.mesh.calling(vec![to_v1]);
    let own = SubsetPool {
        balance: Balance::Random,
        pool: Pool {
            limits: mesh_bundle::slice::Limits {
                requests: Some(7),
                ..Default::default()
            },
            ..Pool::default()
        },
    };
    let v1 = slice.callees[0]
        .subsets
        .iter_mut()
        .find(|each| each.name == "v1");
    *v1.unwrap() = Subset {
        pool: Some(own),
        ..v1_of(&three.mesh)
    };
    caller.apply(&slice);
    assert_eq!(who(&caller, "x", "y").await, "a");
    let metrics = caller.metrics.encode();
    let own = "mesh_circuit_open{dst_service=\"reviews\",subset=\"v1\",kind=\"requests\"} 0";
    assert!(metrics.contains(own), "{metrics}");
}

fn v1_of(mesh: &Mesh) -> Subset {
    let slice = mesh.calling(vec![route()]);
    let mut subsets = slice.callees[0].subsets.iter();
    subsets.find(|each| each.name == "v1").unwrap().clone()
}

#[tokio::test]
async fn all_ways_to_balance_reach_all() {
    let three = Three::new().await;
    for (balance, pool) in [
        (Balance::RoundRobin, Pool::default()),
        (Balance::Random, Pool::default()),
        (Balance::LeastRequest, Pool::default()),
        (
            Balance::LeastRequest,
            Pool {
                choices: Some(3),
                slow_start: Some(Duration::from_mins(1)),
                ..Pool::default()
            },
        ),
        (Balance::PeakEwma, Pool::default()),
    ] {
        let caller = three.caller(balance, pool);
        let mut all = BTreeSet::new();
        for _ in 0..100 {
            all.insert(who(&caller, "x", "y").await);
            if balance == Balance::PeakEwma && all.len() == 2 {
                break;
            }
        }
        let least = if balance == Balance::PeakEwma { 2 } else { 3 };
        assert!(all.len() >= least, "{balance:?} {all:?}");
    }
}

/// An endpoint that fails its checks gets nothing, and is back when it passes them.
#[tokio::test]
async fn endpoints_are_asked_whether_they_live() {
    let three = Three::new().await;
    for kind in [
        HealthCheckKind::Http("/healthz".to_owned()),
        HealthCheckKind::Tcp,
    ] {
        let dead = nobody().await;
        let at = three.endpoints();
        let caller = three.mesh.productpage(vec![route()], &at);
        let with_dead = [at[0], at[1], ("v3", dead)];
        caller.plane.set_endpoints(endpoints("reviews", &with_dead));
        let mut slice = three.mesh.calling(vec![route()]);
        slice.callees[0].pool.health_checks = vec![HealthCheck {
            kind,
            every: Duration::from_millis(20),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 2,
        }];
        caller.apply(&slice);
        let out = "mesh_endpoints{dst_service=\"reviews\",state=\"unhealthy\"} 1";
        eventually(|| caller.metrics.encode().contains(out).then_some(())).await;
        for _ in 0..6 {
            assert_ne!(who(&caller, "x", "y").await, "c");
        }
        // Another slice, the same check: what is known stays known.
        slice.callees[0].routes[0].exchange.timeout = Some(Duration::from_secs(9));
        caller.apply(&slice);
        assert!(caller.metrics.encode().contains(out));
        caller.plane.set_endpoints(endpoints("reviews", &at));
        let all = "mesh_endpoints{dst_service=\"reviews\",state=\"available\"} 3";
        eventually(|| caller.metrics.encode().contains(all).then_some(())).await;
        let mut names = BTreeSet::new();
        for _ in 0..6 {
            names.insert(who(&caller, "x", "y").await);
        }
        assert_eq!(names.len(), 3);
    }
}

/// gRPC's health protocol: `NOT_SERVING` is an answer, and not a good one.
#[tokio::test]
async fn grpc_services_say_whether_they_serve() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering};
    let status = Arc::new(AtomicU8::new(2));
    let told = Arc::clone(&status);
    let application = Application::http2(move |request| {
        let told = Arc::clone(&told);
        async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let body = http_body_util::BodyExt::collect(request.into_body());
            assert_eq!(&*body.await.unwrap().to_bytes(), [0; 5]);
            let message = vec![0, 0, 0, 0, 2, 8, told.load(Ordering::SeqCst)];
            let mut response = http::Response::new(full(message));
            let headers = response.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            response
        }
    })
    .await;
    let mesh = Mesh::new();
    let reviews = mesh.reviews(application.address);
    let caller = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut slice = mesh.calling(vec![route()]);
    slice.callees[0].pool.health_checks = vec![HealthCheck {
        kind: HealthCheckKind::Grpc,
        every: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        healthy: 1,
        unhealthy: 1,
    }];
    caller.apply(&slice);
    for (now, state) in [(2, "unhealthy"), (1, "available"), (2, "unhealthy")] {
        status.store(now, Ordering::SeqCst);
        let expected = format!("mesh_endpoints{{dst_service=\"reviews\",state=\"{state}\"}} 1");
        eventually(|| caller.metrics.encode().contains(&expected).then_some(())).await;
    }
}
