//! What routes make of requests, through the engine: answers, other paths, other services.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use mesh_compiler::test_util::{MESH, load, render, sources};
use mesh_compiler::trial::{Answered, Call, Decision, Outcome};
use mesh_compiler::{LinkedMesh, Trial};

fn mesh(policies: &str) -> LinkedMesh {
    let sources = sources(&[("a.kdl", policies), ("mesh.kdl", MESH)]);
    let analysed = load(&sources);
    assert_eq!(render(&sources, &analysed.diagnostics), "");
    analysed.mesh.unwrap()
}

#[track_caller]
fn run(policies: &str, path: &str, to: &str) -> Outcome {
    let mesh = mesh(policies);
    let call = Call {
        method: "GET".to_owned(),
        path: path.to_owned(),
        from: Some("web".to_owned()),
        to: to.to_owned(),
        ..Call::default()
    };
    Trial::new(&mesh).run(&call).unwrap()
}

#[test]
fn an_answer_is_the_routes_own() {
    let policies = r#"
        service web { port 80; calls api }
        service api {
            port 80
            route old { match { path "/old/{id}" }; redirect scheme=https path="/new/{id}" status=308 }
            route gone { match { path "/gone" }; respond 410 body="gone" }
            route rest { }
            allow web { path "/rest" }
        }
    "#;
    let outcome = run(policies, "/old/7", "api");
    assert_eq!(outcome.decision, Decision::Allowed);
    assert_eq!(
        outcome.answer,
        Some(Answered {
            status: 308,
            location: Some("https://api/new/7".to_owned()),
            body: String::new(),
        })
    );
    let gone = run(policies, "/gone", "api").answer.unwrap();
    assert_eq!((gone.status, gone.body.as_str()), (410, "gone"));
    assert_eq!(run(policies, "/other", "api").decision, Decision::Denied);
    assert_eq!(run(policies, "/rest", "api").decision, Decision::Allowed);
}

/// Rules hold at the callee, on what arrives there.
#[test]
fn what_is_sent_on_is_judged_as_it_arrives() {
    let policies = |allowed: &str| {
        format!(
            r#"
            service web {{ port 80; calls api }}
            service api {{
                port 80
                route r {{
                    match {{ path "/a/**" }}
                    rewrite path="/b/**" host="b.internal"
                    request-headers {{ set x-seen "yes" }}
                }}
                allow web {{ {allowed} }}
            }}
            "#
        )
    };
    let decision = |allowed: &str| run(&policies(allowed), "/a/7", "api").decision;
    assert_eq!(decision("path \"/b/7\""), Decision::Allowed);
    assert_eq!(decision("path \"/a/7\""), Decision::Denied);
    assert_eq!(decision("header x-seen \"yes\""), Decision::Allowed);
    assert_eq!(decision("header x-seen \"no\""), Decision::Denied);
    assert_eq!(decision("host \"b.internal\""), Decision::Allowed);
}

#[test]
fn another_service_judges_what_is_sent_on_to_it() {
    let policies = |of_next: &str| {
        format!(
            r#"
            service web {{ port 80; calls api }}
            service api {{
                port 80
                subset v1 {{ labels version=v1 }}
                route moved {{ match {{ path "/moved" }}; to service=next subset=v2 }}
                route both {{ match {{ path "/both" }}; to v1 weight=1; to service=next weight=1 }}
                route rest {{ to v1 {{ else service=next }} }}
                allow web
            }}
            service next {{ port 9090; subset v2 {{ labels version=v2 }}; {of_next} }}
            "#
        )
    };
    let open = policies("allow web");
    let closed = policies("allow next");
    let outcome = run(&open, "/moved", "api");
    assert_eq!(outcome.decision, Decision::Allowed);
    let branch = &outcome.route.unwrap().branches[0];
    assert_eq!(
        (branch.service.as_str(), branch.subset.as_deref()),
        ("next", Some("v2"))
    );
    assert_eq!(outcome.behind[0].service, "next");
    assert_eq!(run(&closed, "/moved", "api").decision, Decision::Denied);
    assert_eq!(run(&closed, "/both", "api").decision, Decision::Denied);
    assert_eq!(run(&open, "/both", "api").decision, Decision::Allowed);
    assert_eq!(run(&closed, "/rest", "api").decision, Decision::Allowed);
}

/// A caller needs the endpoints of every service that a route may send its requests to.
#[test]
fn slices_hold_whom_routes_lead_to() {
    let policies = r#"
        service web { port 80; calls api }
        service api { port 80; route r { to service=next; mirror service=shadow }; allow web }
        service next { port 9090; route own { to service=last } }
        service last { port 9090 }
        service shadow { port 9090 }
    "#;
    let mesh = mesh(policies);
    let web = mesh.service_named("web").unwrap();
    let callees: Vec<&str> = mesh
        .edges
        .iter()
        .filter(|edge| edge.caller == web)
        .map(|edge| mesh.service(edge.callee).name.value.as_str())
        .collect();
    // Not `last`: what sends on does not chain.
    assert_eq!(callees, ["api", "next", "shadow"]);
}

/// Only the route that says so takes such paths, and what it sends on is taken where it arrives.
#[test]
fn a_route_accepts_what_is_refused_elsewhere() {
    let policies = r#"
        service web { port 80; calls api }
        service api {
            port 80
            route files { match { path "/files/*" }; path-accepts encoded-slash }
            route rest { match { path "/rest/*" } }
            allow web public
        }
        gateway public {
            listen 8080 protocol=http { host "shop.example" }
            allow unauthenticated
            route files { match { path "/files/*" }; to api; path-accepts encoded-slash }
            route rest { match { path "/**" }; to api }
        }
    "#;
    let refusal = |path: &str| {
        let refusal = run(policies, path, "api").refusal;
        refusal.map_or_else(String::new, |refusal| refusal.reason)
    };
    assert_eq!(refusal("/files/a%2fb"), "");
    assert_eq!(refusal("/rest/a%2fb"), "bad_request:path_encoded_slash");
    assert_eq!(refusal("/files/..%2fb"), "bad_request:path_encoded_slash");
    assert_eq!(
        refusal("/files/a%5cb"),
        "bad_request:path_encoded_backslash"
    );
    let mesh = mesh(policies);
    let enter = |path: &str| {
        let call = Call {
            method: "GET".to_owned(),
            path: path.to_owned(),
            to: "public".to_owned(),
            host: Some("shop.example".to_owned()),
            ..Call::default()
        };
        Trial::new(&mesh).run(&call).unwrap().decision
    };
    assert_eq!(enter("/files/a%2fb"), Decision::Allowed);
    assert_eq!(enter("/rest/a%2fb"), Decision::Denied);
    assert_eq!(enter("/rest/a"), Decision::Allowed);
}

/// Nobody stands at an external's door, so its rules hold where requests leave.
#[test]
fn an_external_is_judged_where_requests_leave() {
    let policies = r#"
        service web { port 80; calls stripe }
        external stripe {
            host "api.stripe.com"
            port 80 dial=443 { tls }
            allow web { path "/v1/**" }
        }
    "#;
    assert_eq!(
        run(policies, "/v1/pay", "stripe").decision,
        Decision::Allowed
    );
    assert_eq!(
        run(policies, "/v2/pay", "stripe").decision,
        Decision::Denied
    );
}
