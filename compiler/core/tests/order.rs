//! The order of files, definitions and lines decides nothing, and nothing that loads fails later.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use mesh_compiler::test_util::{MESH, load, render, sources};
use mesh_syntax::{Node, SourceSet};
use proptest::prelude::*;

/// A mesh with something of everything.
const POLICIES: &str = r#"
mesh shop {
    trust-domain "shop.example"
    environment staging
    defaults {
        timeout "10s" connect="1s" stream-idle="30s" idle="5m"
        hedge "500ms" attempts=3
        retry connect-failure reset attempts=2 per-try="3s"
        retry-budget "20%" of=requests min="5/s"
        allow ops
    }
    refuse amplification=10 attempts=4
    mtls permissive
    federate "partner.example"
    rollout "1%" "100%" hold="2m" flip=together
    telemetry {
        access-log json { only { status "5xx" 429; method GET }; only { slower-than "1s" } }
        traces share="1%" otlp="http://127.0.0.1:4317"
    }
    team edge { owns "edge/**"; service web; service ops }
    team data { service store api }
}
policy patient { timeout "12s" max-duration="1h" }
policy spread { balance random; limits connections=100 body="1MiB"; outlier consecutive-5xx=5 max-ejected="50%" }
service ops { port 9000; allow any { path "/envoy.service.auth.v3.Authorization/Check" "/limit" } }
service web {
    port 8080 8081
    identity "spiffe://shop.example/ns/web" "spiffe://shop.example/ns/web-2"
    calls api per-request=2 share="50%" mode=parallel { timeout "4s"; retry reset attempts=2 per-try="1s" }
    calls api route=slow { timeout "5s" }
    calls store
    calls stripe
    calls legacy
    calls db { listen "127.0.0.1:15432" }
}
service api {
    port 8080 protocol=http
    port 8082 protocol=grpc
    use patient spread
    host "api.example" "*.api.example"
    endpoints {
        static "10.0.0.1:8080" "10.0.0.2:8080" version=v1 zone=a
        static "10.0.0.3:8082" version=v2
        dns "api.internal:8080" version=v2
    }
    subset v1 { labels version=v1 }
    subset v2 { labels version=v2; balance maglev { per header x-user; per caller; }; limits none }
    health-check "/healthz" every="5s"
    locality zone region min-healthy="50%" { else b c; }
    route slow { match { path "/slow/**" "/slower"; method POST GET }; to v2 { else v1; }; timeout "8s" }
    route moved { match { path "/old/**" }; redirect scheme=https path="/new/**" status=308 }
    route gone { match { path "/gone" }; respond 410 body="gone" { header x-why "moved"; } }
    route edited {
        match { path "/edited/{id}" }
        to v1 weight=1 { request-headers { add x-canary "1"; set x-a "2"; remove x-b x-c; } }
        to service=store weight=1
        rewrite path="/e/{id}" host="e.internal"
        mirror v2 share="10%"
        mirror service=store
        fault until="2027-03-01" { delay "1s" share="1%"; abort 503 share="1%"; }
        response-headers { remove server; }
        cors max-age="1h" { origin "https://b.example" "https://a.example"; method PUT DELETE; header x-a; expose x-b; }
        upgrade websocket
        path-accepts semicolon encoded-slash
        streaming
    }
    route canary { match { header x-canary }; match { cookie canary "1" "yes" }; to v2 }
    route all { to v1 weight=3; to v2 weight=1 }
    allow public web { path "/**"; not { header x-forbidden } }
    allow "spiffe://shop.example/ns/**" mode=audit
    allow unauthenticated { client-ip "203.0.113.0/24" "2001:db8::/32" }
    allow team=edge { claim role "buyer" "admin"; method GET }
    deny ops { method DELETE; query force prefix="y" case=ignore }
    callers-may-extend timeout
}
jwt shop {
    issuer "https://id.example"
    audience "shop" "admin"
    jwks file="keys/id.jwks.json"
    location header=x-token
    forward claim=sub header=x-user
}
invariant "only web reaches api" { reaches api { only web public ops }; denied { from ops; to store; method DELETE } }
authorizer gate {
    to ops protocol=grpc
    timeout "200ms"
    on-failure allow
    send-header x-b x-a
    return-header location
    body "8KiB"
}
gateway public {
    require jwt shop { not { path "/login" } }
    rate-limit "100/s" burst=20 { per client-ip; per header x-key; method POST; respond 503 body="later" { header retry-after "1" } }
    telemetry { access-log none }
    listen 8443 { host "shop.example" "*.shop.example"; tls certificate=shop trust=partners client=optional min="1.3"; client-ip forwarded-for hops=2 }
    listen 8443 { host "api.example"; tls certificate=api min="1.3"; client-ip forwarded-for hops=2 }
    listen 8080
    allow unauthenticated { not { client-ip "192.0.2.0/24" } }
    delegate data { path "/items/**"; method GET }
    delegate edge { host "shop.example" }
    route split { match { path "/a/**"; host "api.example" }; to api subset=v2 port=8080 weight=1 { else store }; to store weight=3; timeout "2s" }
    route home { accept jwt shop; rate-limit "5/s"; match { port 8443; path "/" }; to api port=8082; retry none }
}
route items gateway=public { match { path "/items/{id}"; method GET }; to store; timeout "1s" }
external stripe {
    host "api.stripe.com" "files.stripe.com"
    port 80 dial=443 { tls sni="stripe.com" min="1.3"; }
    port 9443 protocol=tls
    address "10.9.0.0/16" "10.8.0.1"
    timeout "5s"
    limits connections=10
    allow web { path "/v1/**"; }
}
service legacy {
    port 7000 protocol=tcp dial=7001
    unmeshed
    endpoints { static "10.0.9.1:7001"; }
    allow web
}
service db { port 5432 protocol=tcp; address "10.9.1.1"; allow web; }
service store {
    port 5000 protocol=grpc
    require authorizer gate { grpc "shop.Store/Buy" "shop.Admin/*" }
    rate-limit "1000/s" via=ops on-failure=deny
    probe "/healthz" "/ready" { peer-ip "10.0.0.0/8" }
    allow "spiffe://partner.example/**" { method GET }
    mtls strict
    retry none
    retry-budget "10%" of=active min=3
    endpoints { kubernetes namespace=shop name=store }
    allow public
    allow any { peer-ip "10.0.0.0/8"; host "store"; port 5000 }
}
"#;

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Writes nodes with their blocks in another order. What `else` says depends on its place.
fn shuffled(
    sources: &SourceSet,
    nodes: &[Node],
    keys: &mut dyn Iterator<Item = u64>,
) -> Vec<String> {
    let mut texts: Vec<(u64, String)> = nodes
        .iter()
        .map(|node| {
            let key = keys.next().unwrap_or_default();
            let last_value = node
                .args
                .iter()
                .map(|arg| arg.span)
                .chain(node.props.iter().map(|prop| prop.span));
            let head = last_value.fold(node.name.span, mesh_syntax::Span::to);
            let mut text = sources.slice(head).unwrap().to_owned();
            if node.has_block {
                let children = shuffled(sources, &node.children, keys).join("\n");
                text = format!("{text} {{ // a comment\n{children}\n}}");
            }
            (key, text)
        })
        .collect();
    texts.sort_by_key(|(key, _)| *key);
    texts.into_iter().map(|(_, text)| text).collect()
}

fn slices(sources: &SourceSet) -> Vec<Vec<u8>> {
    let analysed = load(sources);
    assert_eq!(render(sources, &analysed.diagnostics), "");
    let checked = mesh_compiler::check(analysed, &[]).unwrap();
    let emitted = mesh_compiler::emit(&checked);
    emitted
        .slices
        .values()
        .map(mesh_bundle::slice::Slice::encode)
        .collect()
}

#[test]
fn slices_hold_what_their_workload_needs() {
    let sources = sources(&[("a.kdl", POLICIES), ("keys/id.jwks.json", KEYS)]);
    let checked = mesh_compiler::check(load(&sources), &[]).unwrap();
    let emitted = mesh_compiler::emit(&checked);
    let mut text = String::new();
    for (identity, slice) in &emitted.slices {
        let callees: Vec<&str> = slice
            .callees
            .iter()
            .map(|callee| callee.service.as_str())
            .collect();
        text = format!(
            "{text}{identity}: {callees:?}, needs {:?}\n",
            slice.required_features
        );
    }
    insta::assert_snapshot!(text);
    let web = emitted
        .slices
        .values()
        .find(|slice| slice.identity.path() == "/ns/web")
        .unwrap();
    insta::assert_debug_snapshot!(web);
    let public = emitted
        .slices
        .values()
        .find(|slice| slice.identity.path() == "/gateway/public")
        .unwrap();
    insta::assert_debug_snapshot!(public.gateways);
    insta::assert_debug_snapshot!(public.access);
    insta::assert_debug_snapshot!(public.telemetry);
    let store = emitted
        .slices
        .values()
        .find(|slice| slice.identity.path() == "/service/store")
        .unwrap();
    insta::assert_debug_snapshot!(store.access);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_decides_nothing(keys in prop::collection::vec(any::<u64>(), 300), files in 1_usize..5) {
        let original = sources(&[("a.kdl", POLICIES), ("keys/id.jwks.json", KEYS)]);
        let (trees, _) = mesh_syntax::parse(&original);
        let mut keys = keys.into_iter();
        let nodes = shuffled(&original, &trees[0].nodes, &mut keys);
        let mut texts = vec![String::new(); files];
        for (index, node) in nodes.iter().enumerate() {
            let text = &mut texts[index % files];
            text.push_str(node);
            text.push('\n');
        }
        let mut reordered = SourceSet::new();
        for (index, text) in texts.into_iter().enumerate() {
            reordered.add(format!("team-{index}.kdl"), text.into_bytes());
        }
        reordered.add("keys/id.jwks.json", KEYS.as_bytes().to_vec());
        prop_assert_eq!(slices(&original), slices(&reordered));
    }

    #[test]
    fn damaged_policies_are_refused_or_accepted_but_never_crash(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, any::<prop::sample::Index>()), 1..6)
    ) {
        let words: Vec<&str> = POLICIES.split_inclusive([' ', '\n']).collect();
        let mut damaged = words.clone();
        for (at, length, from) in cuts {
            let at = at.index(damaged.len());
            let end = (at + length).min(damaged.len());
            damaged.splice(at..end, [words[from.index(words.len())]]);
        }
        let sources = sources(&[
            ("a.kdl", &damaged.concat()),
            ("keys/id.jwks.json", KEYS),
            ("z.kdl", MESH),
        ]);
        let analysed = load(&sources);
        render(&sources, &analysed.diagnostics);
        if analysed.mesh.is_some() {
            let findings = mesh_compiler::check(analysed, &[]).err().map(|refused| refused.diagnostics);
            prop_assert!(findings.is_none(), "{findings:?}");
        }
    }
}
