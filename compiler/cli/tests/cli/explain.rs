//! `meshc explain`

use insta::assert_snapshot;

use crate::support::Fixture;

#[test]
fn a_request_is_explained_down_to_the_line_that_set_each_value() {
    let fixture = Fixture::with_policy();
    let with = |more: &[&'static str]| {
        let mut args = vec!["explain", "--from", "web", "--to", "api", "--request"];
        args.extend(more);
        fixture.meshc(&args)
    };
    assert_snapshot!("allowed", with(&["GET /api/x/../items"]).shown());
    assert_snapshot!("denied", with(&["POST /api/items"]).shown());
    assert_snapshot!("bad_path", with(&["GET /api/%2f"]).shown());
    let json = with(&["GET /api/items", "--format", "json"]).json();
    assert_snapshot!("json", serde_json::to_string_pretty(&json).unwrap());
    assert_snapshot!(
        "unknown",
        fixture
            .meshc(&[
                "explain",
                "--from",
                "web",
                "--to",
                "x",
                "--request",
                "GET /"
            ])
            .shown()
    );
}

/// What no test takes and no proxy carries is a mistake, and not a request that is refused.
#[test]
fn a_request_that_nobody_can_send_is_not_explained() {
    let fixture = Fixture::with_policy();
    let said = |request: &'static str, more: &[&'static str]| {
        let mut args = vec![
            "explain",
            "--from",
            "web",
            "--to",
            "api",
            "--request",
            request,
        ];
        args.extend(more);
        let run = fixture.meshc(&args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?}");
        run.stderr
    };
    let said = [
        said("get /api/items", &[]),
        said("GET  HEAD /api/items", &[]),
        said("GET api/items", &[]),
        said("GET /api/items#top", &[]),
        said("GET", &[]),
        said("GET /api/items", &["--port", "1"]),
        said("GET /api/items", &["--header", "a b=c"]),
    ];
    assert_snapshot!("nonsense", said.join("---\n"));
}

#[test]
fn a_code_has_a_page() {
    let fixture = Fixture::empty();
    let run = fixture.meshc(&["explain", "msh0001"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stdout.starts_with("# MSH0001: "), "{run:?}");
    assert_eq!(fixture.meshc(&["explain", "MSH9999"]).code, Some(2));
    assert_eq!(fixture.meshc(&["explain"]).code, Some(2));
}

/// A gateway that rewrites on the way in, a service that leads elsewhere, and one that leaves by a gateway.
const GATEWAYS: &str = r#"mesh m { trust-domain "m.example"; defaults { timeout "8s" } }
gateway edge {
    listen 443 { host "shop.example"; tls certificate=shop }
    allow unauthenticated
    route api { match { path "/api/**" }; rewrite path="/**"; to web; timeout "4s" }
}
service web {
    port 80
    endpoints { static "10.0.0.1:80" }
    allow edge { path "/items/**" }
    retry "5xx" attempts=3 per-try="1s"
    retry-budget "20%" of=requests min="5/s"
    route items { match { path "/items/**" }; to service=stock }
    calls pay { timeout "2s" }
}
service stock { port 80; endpoints { static "10.0.0.2:80" }; allow web edge }
gateway out { listen 8443 { host "pay.example" }; allow web; route pay { to pay; timeout "1s" } }
external pay { host "pay.example"; port 443 protocol=http dial=443 { tls }; via out; allow web out; retry "5xx" attempts=2 per-try="400ms" methods=any; endpoints { static "192.0.2.7:443" } }
"#;

#[test]
fn a_request_is_explained_on_its_way_through_gateways() {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", GATEWAYS);
    let explain = |from: &str, to: &str, request: &str, format: &str| {
        let way = ["--from", from, "--to", to, "--request", request];
        fixture.meshc(&[&["explain", "-C", "policy", "--format", format], &way[..]].concat())
    };
    let entered = explain("unauthenticated", "edge", "GET /api/items/7", "human");
    assert_snapshot!("through_a_gateway", entered.shown());
    let refused = explain("unauthenticated", "edge", "GET /api/users", "human");
    assert_snapshot!("refused_behind_a_gateway", refused.shown());
    let left = explain("web", "pay", "POST /charge", "human");
    assert_snapshot!("out_by_a_gateway", left.shown());
    let json = explain("unauthenticated", "edge", "GET /api/items/7", "json").json();
    let json = serde_json::to_string_pretty(&json).unwrap();
    assert_snapshot!("through_a_gateway_json", json);
}
