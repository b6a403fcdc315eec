//! Tokens that are good, and every way in which they are not. Signatures here are sums: what they are worth is for
//! whoever checks real ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_bundle::slice::{ClaimHeader, Jwks, TokenLocation};

use super::*;
use crate::{limits, path};

const NOW: u64 = 1_800_000_000;

/// A signature that anybody could make: the message's length, and the key's name.
#[derive(Debug)]
struct Sum(String);

impl VerifyingKey for Sum {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        signature == signed(message, &self.0)
    }
}

fn signed(message: &[u8], key: &str) -> Vec<u8> {
    format!("{} {key}", message.len()).into_bytes()
}

fn provider() -> JwtProvider {
    JwtProvider {
        name: "shop".to_owned(),
        issuer: "https://id.example".to_owned(),
        audiences: vec!["shop".to_owned()],
        jwks: Jwks::Inline(Vec::new()),
        locations: Vec::new(),
        forwards: Vec::new(),
    }
}

fn keys() -> KeySet<Sum> {
    let coordinate = "A".repeat(43);
    let ec = |kid| {
        format!(
            r#"{{"kty":"EC","crv":"P-256","x":"{coordinate}","y":"{coordinate}","kid":"{kid}"}}"#
        )
    };
    let n = "A".repeat(342);
    let rsa = format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","kid":"r"}}"#);
    let set = format!(r#"{{"keys":[{},{},{rsa}]}}"#, ec("a"), ec("b"));
    KeySet::parse(set.as_bytes(), |key| Some(Sum(key.id.clone()?))).unwrap()
}

fn token_by(header: &str, payload: &str, key: &str) -> String {
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{payload}");
    let signature = URL_SAFE_NO_PAD.encode(signed(message.as_bytes(), key));
    format!("{message}.{signature}")
}

const HEADER: &str = r#"{"alg":"ES256","kid":"a"}"#;

fn payload(more: &str) -> String {
    format!(
        r#"{{"iss":"https://id.example","aud":"shop","exp":{}{more}}}"#,
        NOW + 60
    )
}

fn judge(token: &str) -> Result<Claims, Invalid> {
    verify(&provider(), token.as_bytes(), Some(&keys()), NOW)
}

#[test]
fn a_token_of_the_provider_is_good() {
    let claims = judge(&token_by(HEADER, &payload(r#","groups":["staff"]"#), "a")).unwrap();
    let mut groups = Vec::new();
    claims.each("groups", &mut |value| groups.push(value.to_vec()));
    assert_eq!(groups, [b"staff"]);
    for header in [
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES256","typ":"JWT"}"#,
        r#"{"alg":"ES256","typ":"application/at+jwt","kid":"a"}"#,
        // Not read: keys come from policy alone.
        r#"{"alg":"ES256","kid":"a","jku":"https://evil.example/keys","x5u":"file:///etc/passwd"}"#,
    ] {
        assert!(
            judge(&token_by(header, &payload(""), "a")).is_ok(),
            "{header}"
        );
    }
}

#[test]
fn a_header_that_asks_for_something_else_is_refused() {
    use Invalid::{Algorithm, Critical, Malformed, Signature, Type, UnknownKey};
    for (header, expected) in [
        (r#"{"alg":"none","kid":"a"}"#, Algorithm),
        (r#"{"alg":"None","kid":"a"}"#, Algorithm),
        (r#"{"alg":"","kid":"a"}"#, Algorithm),
        // A public key taken for a secret.
        (r#"{"alg":"HS256","kid":"r"}"#, Algorithm),
        // An algorithm of some key, but not of this one.
        (r#"{"alg":"RS256","kid":"a"}"#, UnknownKey),
        (r#"{"alg":"ES256","kid":"r"}"#, UnknownKey),
        // One of the same kind that no key is for.
        (r#"{"alg":"RS512","kid":"r"}"#, Algorithm),
        (r#"{"alg":"ES384","kid":"a"}"#, Algorithm),
        (r#"{"alg":"ES256","kid":"../../etc/passwd"}"#, UnknownKey),
        (
            r#"{"alg":"ES256","kid":"https://evil.example/"}"#,
            UnknownKey,
        ),
        (r#"{"alg":"ES256","kid":"a' OR '1'='1"}"#, UnknownKey),
        (r#"{"alg":"ES256","kid":"b"}"#, Signature),
        (r#"{"alg":"ES256","kid":7}"#, Malformed),
        (r#"{"alg":["ES256"],"kid":"a"}"#, Malformed),
        (r#"{"kid":"a"}"#, Malformed),
        (r#"{"alg":"none","alg":"ES256","kid":"a"}"#, Malformed),
        (
            r#"{"alg":"ES256","kid":"a","crit":["b64"],"b64":false}"#,
            Critical,
        ),
        (r#"{"alg":"ES256","kid":"a","crit":[]}"#, Critical),
        (r#"{"alg":"ES256","kid":"a","typ":"logout+jwt"}"#, Type),
        (r#"{"alg":"ES256","kid":"a","typ":1}"#, Malformed),
        ("[]", Malformed),
        ("", Malformed),
    ] {
        let token = token_by(header, &payload(""), "a");
        assert_eq!(judge(&token), Err(expected), "{header}");
    }
    let long = format!(
        r#"{{"alg":"ES256","kid":"{}"}}"#,
        "a".repeat(limits::KEY_ID_BYTES_MAX + 1)
    );
    assert_eq!(judge(&token_by(&long, &payload(""), "a")), Err(UnknownKey));
}

#[test]
fn a_form_that_has_another_reading_is_refused() {
    let good = token_by(HEADER, &payload(""), "a");
    let mut parts = good.split('.');
    let (header, body, mark) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    for bad in [
        String::new(),
        "a".to_owned(),
        "a.b".to_owned(),
        "...".to_owned(),
        format!("{good}."),
        format!("{header}.{body}.{mark}="),
        format!("{header}.{body}."),
        format!(" {good}"),
        format!("{good}, {good}"),
        format!("{header}.{body}\0.{mark}"),
        // Five parts: encrypted.
        format!("{header}.{body}.{mark}.{mark}.{mark}"),
    ] {
        let why = judge(&bad).unwrap_err();
        assert!(
            matches!(why, Invalid::Malformed | Invalid::Signature),
            "{bad} {why}"
        );
    }
    let large = "a".repeat(limits::TOKEN_BYTES_MAX + 1);
    assert_eq!(judge(&large), Err(Invalid::TooLarge));
}

#[test]
fn claims_of_another_kind_are_wrong_and_not_absent() {
    use Invalid::{Audience, Claims, Expired, IssuedLater, Issuer, NotYetValid};
    let with = |name: &str, value: &str| {
        let mut claims = vec![
            ("iss", "\"https://id.example\"".to_owned()),
            ("aud", "\"shop\"".to_owned()),
            ("exp", (NOW + 60).to_string()),
        ];
        claims.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            claims.push((name, value.to_owned()));
        }
        let claims = claims
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"));
        let payload = format!("{{{}}}", claims.collect::<Vec<_>>().join(","));
        judge(&token_by(HEADER, &payload, "a")).map(drop)
    };
    let leeway = limits::TOKEN_LEEWAY_SECONDS;
    for (name, value, expected) in [
        ("exp", "", Err(Expired)),
        ("exp", "\"1900000000\"", Err(Claims)),
        ("exp", "-1", Err(Claims)),
        ("exp", "1900000000.0", Err(Claims)),
        ("exp", "1e30", Err(Claims)),
        ("exp", "null", Err(Claims)),
        ("exp", "18446744073709551615", Ok(())),
        ("exp", &(NOW - leeway).to_string(), Err(Expired)),
        ("exp", &(NOW - leeway + 1).to_string(), Ok(())),
        ("nbf", &(NOW + leeway).to_string(), Ok(())),
        ("nbf", &(NOW + leeway + 1).to_string(), Err(NotYetValid)),
        ("nbf", "\"0\"", Err(Claims)),
        ("iat", &(NOW + leeway).to_string(), Ok(())),
        ("iat", &(NOW + leeway + 1).to_string(), Err(IssuedLater)),
        ("iat", "true", Err(Claims)),
        ("iss", "", Err(Issuer)),
        ("iss", "\"https://id.example/\"", Err(Issuer)),
        ("iss", "[\"https://id.example\"]", Err(Claims)),
        ("aud", "", Err(Audience)),
        ("aud", "\"Shop\"", Err(Audience)),
        ("aud", "[]", Err(Audience)),
        ("aud", "[\"other\",\"shop\"]", Ok(())),
        ("aud", "[\"shop\",1]", Err(Claims)),
        ("aud", "{\"shop\":1}", Err(Claims)),
        ("sub", "7", Err(Claims)),
        ("jti", "7", Err(Claims)),
    ] {
        assert_eq!(with(name, value), expected, "{name} {value}");
    }
    let twice = payload(r#","iss":"https://id.example""#);
    assert_eq!(judge(&token_by(HEADER, &twice, "a")), Err(Claims));
    let deep = payload(&format!(",\"a\":{}1{}", "[".repeat(500), "]".repeat(500)));
    assert_eq!(judge(&token_by(HEADER, &deep, "a")), Err(Claims));
    assert_eq!(judge(&token_by(HEADER, "\"text\"", "a")), Err(Claims));
}

#[test]
fn without_keys_nothing_is_good() {
    let token = token_by(HEADER, &payload(""), "a");
    let verdict = verify::<Sum>(&provider(), token.as_bytes(), None, NOW);
    assert_eq!(verdict, Err(Invalid::NoKeys));
}

#[test]
fn a_token_without_a_name_is_not_tried_against_many_keys() {
    let coordinate = "A".repeat(43);
    let key = format!(r#"{{"kty":"EC","crv":"P-256","x":"{coordinate}","y":"{coordinate}"}}"#);
    let set = |count: usize| {
        let set = format!(r#"{{"keys":[{}]}}"#, vec![key.as_str(); count].join(","));
        KeySet::parse(set.as_bytes(), |_| Some(Sum("a".to_owned()))).unwrap()
    };
    let token = token_by(HEADER, &payload(""), "a");
    let judge = |count| verify(&provider(), token.as_bytes(), Some(&set(count)), NOW).map(drop);
    assert_eq!(judge(limits::KEY_TRIES_MAX), Ok(()));
    assert_eq!(judge(limits::KEY_TRIES_MAX + 1), Err(Invalid::UnknownKey));
}

/// What a request brings, with these headers and this query.
fn read(providers: &[JwtProvider], headers: &[(&str, String)], query: &str) -> Tokens {
    let path = path::normalise("/").unwrap();
    let headers = headers.to_vec();
    let request = Request {
        headers: &headers,
        query,
        ..Request::new("GET", "shop", &path)
    };
    let keys = keys();
    Tokens::read(providers.iter(), &request, |_| Some(&keys), NOW)
}

#[test]
fn two_tokens_are_none() {
    use Brought::{Invalid as Bad, Nothing, Verified};
    let token = token_by(HEADER, &payload(""), "a");
    let bearer = || ("authorization", format!("Bearer {token}"));
    let brought = |headers: &[(&str, String)], query: &str, locations: Vec<TokenLocation>| {
        let provider = JwtProvider {
            locations,
            ..provider()
        };
        read(&[provider], headers, query).of("shop")
    };
    let of = |headers: &[(&str, String)]| brought(headers, "", Vec::new());
    assert_eq!(of(&[bearer()]), Verified);
    assert_eq!(
        of(&[("authorization", format!("bEARER   {token} "))]),
        Verified
    );
    assert_eq!(of(&[]), Nothing);
    assert_eq!(of(&[("authorization", "Basic YTpi".to_owned())]), Nothing);
    assert_eq!(of(&[("authorization", "Bearerer x".to_owned())]), Nothing);
    assert_eq!(
        of(&[("authorization", "Bearer".to_owned())]),
        Bad(Invalid::Malformed)
    );
    assert_eq!(of(&[bearer(), bearer()]), Bad(Invalid::Several));
    let basic = ("authorization", "Basic YTpi".to_owned());
    assert_eq!(of(&[bearer(), basic]), Bad(Invalid::Several));
    let large = format!("Bearer {}", "a".repeat(limits::TOKEN_BYTES_MAX + 1));
    assert_eq!(of(&[("authorization", large)]), Bad(Invalid::TooLarge));

    let everywhere = || {
        vec![
            TokenLocation::Header("authorization".to_owned()),
            TokenLocation::Header("x-token".to_owned()),
            TokenLocation::Query("token".to_owned()),
            TokenLocation::Cookie("session".to_owned()),
        ]
    };
    let in_query = format!("a=b&token={token}");
    let in_cookie = ("cookie", format!("a=b; session={token}"));
    assert_eq!(brought(&[], &in_query, everywhere()), Verified);
    assert_eq!(
        brought(std::slice::from_ref(&in_cookie), "", everywhere()),
        Verified
    );
    assert_eq!(
        brought(&[("x-token", token.clone())], "", everywhere()),
        Verified
    );
    assert_eq!(
        brought(&[bearer()], &in_query, everywhere()),
        Bad(Invalid::Several)
    );
    assert_eq!(
        brought(&[in_cookie], &in_query, everywhere()),
        Bad(Invalid::Several)
    );
    let twice = format!("{in_query}&token=x");
    assert_eq!(brought(&[], &twice, everywhere()), Bad(Invalid::Several));
    assert_eq!(
        brought(&[], "token=", everywhere()),
        Bad(Invalid::Malformed)
    );
    // Where policy says nothing of the query, what is there is no token.
    assert_eq!(brought(&[bearer()], &in_query, Vec::new()), Verified);
}

#[test]
fn a_token_of_one_provider_is_no_wrong_one_of_another() {
    let partner = JwtProvider {
        name: "partner".to_owned(),
        issuer: "https://partner.example".to_owned(),
        ..provider()
    };
    let token = token_by(HEADER, &payload(""), "a");
    let headers = [("authorization", format!("Bearer {token}"))];
    let tokens = read(&[partner.clone(), provider()], &headers, "");
    assert_eq!(tokens.of("shop"), Brought::Verified);
    let other = tokens.of("partner");
    assert_eq!(other, Brought::OfAnother(Invalid::Issuer));
    assert_eq!(other.unless_acceptable(), None);
    assert_eq!(other.unless_verified(), Some(Invalid::Issuer));
    let tokens = read(&[partner], &headers, "");
    let wrong = tokens.of("partner");
    assert_eq!(wrong.unless_acceptable(), Some(Invalid::Issuer));
    assert_eq!(tokens.claims(), None);
}

#[test]
fn claims_become_headers_as_policy_says() {
    let forward = |claim: &str, header: &str| ClaimHeader {
        claim: claim.to_owned(),
        header: header.to_owned(),
    };
    let provider = JwtProvider {
        forwards: vec![forward("groups", "x-groups"), forward("none", "x-none")],
        ..provider()
    };
    let token = token_by(HEADER, &payload(r#","groups":["a","b"]"#), "a");
    let tokens = read(
        &[provider],
        &[("authorization", format!("Bearer {token}"))],
        "",
    );
    let forwards: Vec<_> = tokens.forwards().collect();
    assert_eq!(forwards, [("x-groups", &b"a"[..]), ("x-groups", b"b")]);
}
