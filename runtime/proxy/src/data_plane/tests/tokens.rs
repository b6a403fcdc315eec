//! Tokens of users at services and gateways: every way in which one is wrong, against running proxies.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use mesh_bundle::slice::{
    ClaimHeader, Condition, Effect, FieldMatch, InboundService, Jwks, JwtProvider, Port, Principal,
    Protocol, Requirement, RequirementKind, Slice, StringMatch, StringMatchKind, TokenLocation,
};

use super::harness::*;
use crate::access::keys::tests::{Issuer, encode, sign};
use crate::secrets::tests::certificate;
use crate::secrets::{SecretPath, Secrets};

const ISSUER: &str = "https://id.example";

fn provider(issuer: &Issuer) -> JwtProvider {
    JwtProvider {
        name: "shop".to_owned(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["shop".to_owned()],
        jwks: Jwks::Inline(issuer.jwks()),
        locations: Vec::new(),
        forwards: vec![ClaimHeader {
            claim: "sub".to_owned(),
            header: "x-user".to_owned(),
        }],
    }
}

fn requires(conditions: Vec<Condition>) -> Requirement {
    Requirement {
        kind: RequirementKind::RequireJwt("shop".to_owned()),
        route: None,
        conditions,
    }
}

fn accepts() -> Requirement {
    Requirement {
        kind: RequirementKind::AcceptJwt("shop".to_owned()),
        ..requires(Vec::new())
    }
}

fn in_an_hour() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() + 3_600
}

/// Good claims, with these changed or added.
fn claims(more: &str) -> String {
    let expires = in_an_hour();
    format!(r#"{{"iss":"{ISSUER}","aud":"shop","sub":"ann","exp":{expires}{more}}}"#)
}

fn claim(name: &str, value: &str) -> Condition {
    Condition::Claim(FieldMatch {
        name: name.to_owned(),
        values: vec![StringMatch {
            kind: StringMatchKind::Exact(value.to_owned()),
            ignore_case: false,
        }],
    })
}

/// A service behind its proxy, and who calls it.
struct Shop {
    mesh: Mesh,
    issuer: Issuer,
    application: Application,
    reviews: Proxy,
    productpage: Proxy,
}

impl Shop {
    async fn open(requirements: Vec<Requirement>) -> Self {
        let mesh = Mesh::new();
        let issuer = Issuer::new("1");
        let application = Application::named("v1").await;
        let reviews = mesh.proxy("reviews", Some(application.address));
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        let shop = Self {
            mesh,
            issuer,
            application,
            reviews,
            productpage,
        };
        shop.reviews.apply(&shop.slice(requirements));
        shop
    }

    fn slice(&self, requirements: Vec<Requirement>) -> Slice {
        let mut slice = self.mesh.admitting("reviews", &["productpage"]);
        slice.access.jwts = vec![provider(&self.issuer)];
        slice.access.services[0].requirements = requirements;
        slice
    }

    async fn ask(&self, token: &str) -> Got {
        self.ask_with("/", &[("authorization", &format!("Bearer {token}"))])
            .await
    }

    async fn ask_with(&self, path: &str, headers: &[(&'static str, &str)]) -> Got {
        let mut request = get(path);
        for (name, value) in headers {
            let value = HeaderValue::try_from(*value).unwrap();
            request.headers_mut().append(*name, value);
        }
        send(self.productpage.outbound(), request).await
    }

    #[track_caller]
    fn refused(got: &Got, why: &str, what: &str) {
        let reason = format!("jwt_invalid:{why}");
        let told = (got.status, got.reason());
        assert_eq!(told, (StatusCode::UNAUTHORIZED, &*reason), "{what}");
        let challenge = got.header("www-authenticate");
        if why == "missing" {
            assert_eq!(challenge, "Bearer");
        } else {
            assert!(
                challenge.starts_with("Bearer error=\"invalid_"),
                "{challenge}"
            );
        }
    }
}

#[tokio::test]
async fn a_good_token_lets_in_and_no_other() {
    let shop = Shop::open(vec![requires(Vec::new())]).await;
    let good = shop.ask(&shop.issuer.sign(&claims(""))).await;
    assert_eq!(
        (good.status, good.header("got-x-user")),
        (StatusCode::OK, "ann")
    );
    let none = shop.ask_with("/", &[]).await;
    Shop::refused(&none, "missing", "no token");

    let key = shop.issuer.id;
    let header = |alg: &str| format!(r#"{{"alg":"{alg}","kid":"{key}"}}"#);
    let stranger = Issuer::new("1");
    let jwk = shop.issuer.jwk();
    let forged = stranger.jwk();
    // A secret of everybody's: the public key, as any program would have it.
    let by_public_key = |message: &[u8]| {
        use aws_lc_rs::hmac;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, jwk.as_bytes());
        hmac::sign(&secret, message).as_ref().to_vec()
    };
    let good = shop.issuer.sign(&claims(""));
    let mut longer = good.clone();
    longer.push('A');
    let unsigned = format!("{}.{}.", encode(header("none")), encode(claims("")));
    let deep = format!(",\"a\":{}{}", "[".repeat(2_000), "]".repeat(2_000));
    for (what, token, why) in [
        ("alg none", sign(&header("none"), &claims(""), |_| Vec::new()), "algorithm"),
        ("alg none, no signature", unsigned, "algorithm"),
        ("alg nOnE", sign(&header("nOnE"), &claims(""), |_| Vec::new()), "algorithm"),
        ("HS256 with the public key", sign(&header("HS256"), &claims(""), by_public_key), "algorithm"),
        ("an algorithm of no key", sign(&header("RS256"), &claims(""), |_| vec![0; 256]), "algorithm"),
        ("another's key of the same name", stranger.sign(&claims("")), "signature"),
        (
            "kid that is a path",
            shop.issuer.sign_with(r#"{"alg":"ES256","kid":"../../../../dev/null"}"#, &claims("")),
            "unknown_key",
        ),
        (
            "kid that is a URL",
            shop.issuer.sign_with(r#"{"alg":"ES256","kid":"http://127.0.0.1/keys"}"#, &claims("")),
            "unknown_key",
        ),
        (
            "jku and x5u",
            stranger.sign_with(
                r#"{"alg":"ES256","kid":"1","jku":"http://127.0.0.1/k","x5u":"http://127.0.0.1/c"}"#,
                &claims(""),
            ),
            "signature",
        ),
        (
            "its own key in the header",
            stranger.sign_with(&format!(r#"{{"alg":"ES256","jwk":{forged}}}"#), &claims("")),
            "signature",
        ),
        (
            "crit",
            shop.issuer.sign_with(r#"{"alg":"ES256","kid":"1","crit":["exp"]}"#, &claims("")),
            "critical",
        ),
        (
            "alg twice",
            shop.issuer.sign_with(r#"{"alg":"none","alg":"ES256","kid":"1"}"#, &claims("")),
            "malformed",
        ),
        ("a claim twice", shop.issuer.sign(&claims(r#","sub":"root""#)), "claims"),
        ("deep JSON", shop.issuer.sign(&claims(&deep)), "claims"),
        ("exp as text", shop.issuer.sign(r#"{"iss":"https://id.example","aud":"shop","exp":"9999999999"}"#), "claims"),
        ("exp as a fraction", shop.issuer.sign(r#"{"iss":"https://id.example","aud":"shop","exp":9999999999.5}"#), "claims"),
        ("exp below zero", shop.issuer.sign(r#"{"iss":"https://id.example","aud":"shop","exp":-1}"#), "claims"),
        ("no exp", shop.issuer.sign(r#"{"iss":"https://id.example","aud":"shop"}"#), "expired"),
        ("expired", shop.issuer.sign(r#"{"iss":"https://id.example","aud":"shop","exp":1}"#), "expired"),
        ("nbf to come", shop.issuer.sign(&claims(",\"nbf\":99999999999")), "not_yet_valid"),
        ("iat to come", shop.issuer.sign(&claims(",\"iat\":99999999999")), "issued_later"),
        ("another issuer", shop.issuer.sign(r#"{"iss":"https://evil.example","aud":"shop","exp":9999999999}"#), "issuer"),
        ("another audience", shop.issuer.sign(r#"{"iss":"https://id.example","aud":["a","b"],"exp":9999999999}"#), "audience"),
        ("a signature that goes on", longer, "signature"),
        ("two parts", "a.b".to_owned(), "malformed"),
        ("two in one line", format!("{good}, {good}"), "malformed"),
        ("nothing", String::new(), "malformed"),
        ("large", format!("{}.b.c", "a".repeat(20_000)), "too_large"),
    ] {
        let got = shop.ask(&token).await;
        Shop::refused(&got, why, what);
    }
    let bearer = format!("Bearer {good}");
    let twice = [("authorization", &*bearer), ("authorization", &*bearer)];
    Shop::refused(&shop.ask_with("/", &twice).await, "several_tokens", "two");
    let beside = [("authorization", "Basic YTpi"), ("authorization", &*bearer)];
    Shop::refused(
        &shop.ask_with("/", &beside).await,
        "several_tokens",
        "beside another",
    );
    // Larger than any head may be: the caller's own proxy does not even read it.
    let huge = shop.ask(&"a".repeat(1_000_000)).await;
    assert_eq!(huge.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

    // Many audiences, one of which is ours.
    let expires = in_an_hour();
    let audiences = format!(r#"{{"iss":"{ISSUER}","aud":["a","shop"],"exp":{expires}}}"#);
    assert_eq!(shop.ask(&shop.issuer.sign(&audiences)).await.status, 200);
    assert_eq!(shop.application.requests(), 2);
    let metrics = shop.reviews.metrics.encode();
    for counted in [
        "mesh_tokens_verified_total{dst_service=\"reviews\",provider=\"shop\"} 2",
        "mesh_tokens_refused_total{dst_service=\"reviews\",provider=\"shop\",cause=\"signature\"} 4",
        "reason=\"jwt_invalid\"",
    ] {
        assert!(metrics.contains(counted), "{counted}\n{metrics}");
    }
    let record = |record: &serde_json::Value| record["reason"] == "jwt_invalid:expired";
    assert_eq!(shop.reviews.record(record).await["code"], 401);
}

#[tokio::test]
async fn a_token_may_be_where_policy_says_and_nowhere_else() {
    let shop = Shop::open(Vec::new()).await;
    let mut slice = shop.slice(vec![requires(Vec::new())]);
    slice.access.jwts[0].locations = vec![
        TokenLocation::Header("x-token".to_owned()),
        TokenLocation::Query("token".to_owned()),
        TokenLocation::Cookie("session".to_owned()),
    ];
    shop.reviews.apply(&slice);
    let token = shop.issuer.sign(&claims(""));
    let in_query = format!("/?a=b&token={token}");
    let in_cookie = format!("a=b; session={token}");
    assert_eq!(shop.ask_with("/", &[("x-token", &token)]).await.status, 200);
    assert_eq!(shop.ask_with(&in_query, &[]).await.status, 200);
    assert_eq!(
        shop.ask_with("/", &[("cookie", &in_cookie)]).await.status,
        200
    );
    Shop::refused(
        &shop.ask(&token).await,
        "missing",
        "not where it is looked for",
    );
    let both = shop.ask_with(&in_query, &[("x-token", &token)]).await;
    Shop::refused(&both, "several_tokens", "in query and header");
    let both = shop.ask_with(&in_query, &[("cookie", &in_cookie)]).await;
    Shop::refused(&both, "several_tokens", "in query and cookie");
}

#[tokio::test]
async fn claims_are_what_rules_ask_about() {
    let shop = Shop::open(Vec::new()).await;
    let mut slice = shop.slice(vec![accepts()]);
    let rules = &mut slice.access.services[0].rules;
    rules[0].conditions = vec![claim("groups", "staff")];
    let mut banned = allow(Principal::Any);
    banned.effect = Effect::Deny;
    banned.who = Vec::new();
    banned.conditions = vec![claim("banned", "true")];
    rules.push(banned);
    shop.reviews.apply(&slice);
    let ask = async |more: &str| shop.ask(&shop.issuer.sign(&claims(more))).await;
    assert_eq!(ask(r#","groups":["a","staff"]"#).await.status, 200);
    let other = ask(r#","groups":["a"]"#).await;
    assert_eq!(
        (other.status, other.reason()),
        (StatusCode::FORBIDDEN, "authz_denied")
    );
    let banned = ask(r#","groups":["staff"],"banned":true"#).await;
    assert_eq!(banned.status, StatusCode::FORBIDDEN);
    // Without a token there are no claims; a wrong one is refused although none is required.
    let none = shop.ask_with("/", &[]).await;
    assert_eq!(
        (none.status, none.reason()),
        (StatusCode::FORBIDDEN, "authz_denied")
    );
    let forged = Issuer::new("1").sign(&claims(r#","groups":["staff"]"#));
    Shop::refused(&shop.ask(&forged).await, "signature", "forged");
}

#[tokio::test]
async fn what_a_claim_says_nobody_else_can_say() {
    let shop = Shop::open(vec![accepts()]).await;
    let spoofed = [("x-user", "root"), ("x_user", "root")];
    let got = shop.ask_with("/", &spoofed).await;
    assert_eq!(got.status, 200);
    assert!(!got.headers.contains_key("got-x-user"), "{:?}", got.headers);
    assert!(!got.headers.contains_key("got-x_user"), "{:?}", got.headers);
    let bearer = format!("Bearer {}", shop.issuer.sign(&claims("")));
    let got = shop
        .ask_with("/", &[("x-user", "root"), ("authorization", &bearer)])
        .await;
    let users: Vec<_> = got.headers.get_all("got-x-user").iter().collect();
    assert_eq!(users, ["ann"]);
    // A value that would be two lines is none.
    let strange = claims("").replace("ann", r"ann\r\nx-admin: 1");
    let got = shop.ask(&shop.issuer.sign(&strange)).await;
    assert_eq!(got.status, 200);
    assert!(!got.headers.contains_key("got-x-user"));
    assert!(!got.headers.contains_key("got-x-admin"));
}

#[tokio::test]
async fn only_some_requests_need_a_token() {
    let not_login = Condition::Not(Box::new(Condition::Path(vec![
        mesh_bundle::slice::PathPattern {
            kind: mesh_bundle::slice::PathPatternKind::Template("/login".to_owned()),
            ignore_case: false,
        },
    ])));
    let shop = Shop::open(vec![requires(vec![not_login])]).await;
    assert_eq!(shop.ask_with("/login", &[]).await.status, 200);
    assert_eq!(shop.ask_with("/x/../login", &[]).await.status, 200);
    Shop::refused(&shop.ask_with("/login/x", &[]).await, "missing", "below");
    Shop::refused(&shop.ask_with("/", &[]).await, "missing", "elsewhere");
    // Whoever logs in may have a token that is over.
    let old = shop
        .issuer
        .sign(r#"{"iss":"https://id.example","aud":"shop","exp":1}"#);
    let bearer = format!("Bearer {old}");
    let login = shop.ask_with("/login", &[("authorization", &bearer)]).await;
    assert_eq!(login.status, 200);
}

#[tokio::test]
async fn other_keys_take_over_with_a_swap_and_wrong_ones_are_refused_whole() {
    let shop = Shop::open(vec![requires(Vec::new())]).await;
    let next = Issuer::new("2");
    let by_next = next.sign(&claims(""));
    Shop::refused(&shop.ask(&by_next).await, "unknown_key", "too early");
    let mut slice = shop.slice(vec![requires(Vec::new())]);
    let both = format!(r#"{{"keys":[{},{}]}}"#, shop.issuer.jwk(), next.jwk());
    slice.access.jwts[0].jwks = Jwks::Inline(both.into_bytes());
    shop.reviews.apply(&slice);
    assert_eq!(shop.ask(&by_next).await.status, 200);
    assert_eq!(shop.ask(&shop.issuer.sign(&claims(""))).await.status, 200);
    for bad in [
        r#"{"keys":[]}"#.to_owned(),
        r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#.to_owned(),
        next.jwk().replace("\"kty\"", "\"d\":\"AA\",\"kty\""),
    ] {
        slice.access.jwts[0].jwks = Jwks::Inline(bad.clone().into_bytes());
        assert!(
            shop.reviews.plane.prepare(&slice, "0.1.2").is_err(),
            "{bad}"
        );
    }
    assert_eq!(shop.ask(&by_next).await.status, 200);
}

#[tokio::test]
async fn a_gateway_asks_for_tokens_by_route() {
    let shop = Shop::open(Vec::new()).await;
    let mut admitting = shop.slice(Vec::new());
    let gateway = shop.mesh.authority.id("/gateway/public");
    admitting.access.services[0].rules = vec![allow(Principal::SpiffeId(gateway))];
    shop.reviews.apply(&admitting);
    let proxy = shop.mesh.gateway(&shop.reviews);
    let port = Port {
        number: 8080,
        protocol: Protocol::Http,
    };
    let calling = shop.mesh.calling(vec![route()]);
    let rules = vec![allow(Principal::Unauthenticated)];
    let mut slice = shop.mesh.entered_by(calling, port, "shop.example", rules);
    slice.access.jwts = vec![provider(&shop.issuer)];
    let InboundService { requirements, .. } = &mut slice.access.services[0];
    requirements.push(Requirement {
        route: Some("shop".to_owned()),
        ..requires(Vec::new())
    });
    proxy.apply(&slice);
    let ask = async |token: Option<String>| {
        let mut request = Request::get("/").header("host", "shop.example");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("x-user", "root").body(empty()).unwrap();
        send(proxy.listener(8080), request).await
    };
    Shop::refused(&ask(None).await, "missing", "none");
    let stranger = Issuer::new("1").sign(&claims(""));
    Shop::refused(&ask(Some(stranger)).await, "signature", "forged");
    let good = ask(Some(shop.issuer.sign(&claims("")))).await;
    assert_eq!(
        (good.status, good.header("got-x-user")),
        (StatusCode::OK, "ann")
    );
    // The route that another requirement is about is not this one.
    slice.access.services[0].requirements[0].route = Some("other".to_owned());
    proxy.apply(&slice);
    let open = ask(None).await;
    assert_eq!(open.status, 200);
    assert!(!open.headers.contains_key("got-x-user"));
}

/// An issuer whose keys are fetched.
struct Site {
    site: Application,
    answers: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Site {
    async fn open(keys: Vec<u8>) -> Self {
        let answers = Arc::new(Mutex::new((200, keys)));
        let said = Arc::clone(&answers);
        let site = Application::http1(move |request: Request<Incoming>| {
            let (status, body) = said.lock().unwrap().clone();
            let is_ours =
                request.uri().path() == "/keys" && request.headers().get("host").is_some();
            async move {
                let mut response = http::Response::new(full(body));
                let status = if is_ours { status } else { 404 };
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                let elsewhere = HeaderValue::from_static("http://127.0.0.1:1/keys");
                response.headers_mut().insert("location", elsewhere);
                response
            }
        })
        .await;
        Self { site, answers }
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.site.address)
    }

    fn say(&self, status: u16, body: Vec<u8>) {
        *self.answers.lock().unwrap() = (status, body);
    }
}

#[tokio::test]
async fn keys_that_are_fetched_are_kept_when_their_issuer_fails() {
    let shop = Shop::open(Vec::new()).await;
    let site = Site::open(b"not keys".to_vec()).await;
    let mut slice = shop.slice(vec![requires(Vec::new())]);
    slice.access.jwts[0].jwks = Jwks::Url(site.url());
    shop.reviews.apply(&slice);
    let token = shop.issuer.sign(&claims(""));
    // What is no set of keys changes nothing: there are none yet, and so no token is good.
    eventually(|| (site.site.requests() > 0).then_some(())).await;
    Shop::refused(&shop.ask(&token).await, "no_keys", "not there yet");
    site.say(302, shop.issuer.jwks());
    eventually(|| (site.site.requests() > 1).then_some(())).await;
    Shop::refused(&shop.ask(&token).await, "no_keys", "redirected");
    site.say(200, shop.issuer.jwks());
    let fetched = "mesh_key_fetches_total{provider=\"shop\",outcome=\"ok\"} 1";
    eventually(|| {
        shop.reviews
            .metrics
            .encode()
            .contains(fetched)
            .then_some(())
    })
    .await;
    assert_eq!(shop.ask(&token).await.status, 200);
    // Another generation that says the same has the same keys at once.
    site.say(500, Vec::new());
    shop.reviews.apply(&slice);
    assert_eq!(shop.ask(&token).await.status, 200);
    let asked = site.site.requests();
    // A key that nobody has is no reason to ask again so soon.
    let stranger = Issuer::new("other").sign(&claims(""));
    Shop::refused(&shop.ask(&stranger).await, "unknown_key", "stranger");
    assert_eq!(site.site.requests(), asked);
}

#[tokio::test]
async fn keys_are_not_fetched_where_anybody_could_replace_them() {
    let shop = Shop::open(Vec::new()).await;
    let mut slice = shop.slice(vec![requires(Vec::new())]);
    slice.access.jwts[0].jwks = Jwks::Url("http://id.example/keys".to_owned());
    let refused = shop.reviews.plane.prepare(&slice, "0.1.2").unwrap_err();
    let told = crate::subscribe::chain(&refused);
    assert!(
        told.contains("jwt \"shop\"") && told.contains("not https"),
        "{told}"
    );
}

#[tokio::test]
async fn an_issuer_must_show_a_certificate_that_is_trusted() {
    let shop = Shop::open(Vec::new()).await;
    let (pem, _) = certificate("id.example");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.pem");
    std::fs::write(&path, pem).unwrap();
    let secrets = Secrets::read(&[SecretPath {
        name: "jwks".to_owned(),
        path,
    }]);
    let credentials = shop.mesh.authority.credentials("/service/reviews");
    let application = Some(shop.application.address);
    let proxy = Proxy::start_with(credentials, application, secrets.unwrap());
    let site = Site::open(shop.issuer.jwks()).await;
    let mut slice = shop.slice(vec![requires(Vec::new())]);
    // It speaks no TLS, as whoever stands in its place without its key.
    slice.access.jwts[0].jwks = Jwks::Url(site.url().replace("http:", "https:"));
    proxy.apply(&slice);
    let failed = "mesh_key_fetches_total{provider=\"shop\",outcome=\"failed\"}";
    eventually(|| proxy.metrics.encode().contains(failed).then_some(())).await;
    let productpage = shop
        .mesh
        .productpage(vec![route()], &[("v1", proxy.inbound())]);
    let mut request = get("/");
    let token = format!("Bearer {}", shop.issuer.sign(&claims("")));
    let value = HeaderValue::try_from(token).unwrap();
    request.headers_mut().insert("authorization", value);
    let got = send(productpage.outbound(), request).await;
    Shop::refused(&got, "no_keys", "not verified");
}
