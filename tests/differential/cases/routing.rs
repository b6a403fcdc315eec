//! Which route takes a request, and which of its branches.

use mesh_tests::Failure;

use crate::backend::Nature::Obliging;
use crate::case::{Case, Fact, Seeded, each, share};
use crate::side::{Ask, Seen, Side};

/// The route that took it, as it told the application.
fn route(seen: &Seen) -> String {
    let route = seen.tries.first().and_then(|one| one.header("x-route"));
    format!("{} {}", seen.answer.status, route.unwrap_or("none"))
}

pub(crate) const PATHS: Case = Case {
    name: "paths",
    compares: "matches of paths (exact, below a prefix, one segment, regular expression, either case) and methods, and which of several wins",
    policy: r#"
    route exact { match { path "/exact" }; request-headers { set x-route "exact" } }
    route tree { match { path "/tree/**" }; request-headers { set x-route "tree" } }
    route deep { match { path "/tree/deep/**" }; request-headers { set x-route "deep" } }
    route leaf { match { path "/tree/deep/leaf" }; request-headers { set x-route "leaf" } }
    route star { match { path "/star/*/end" }; request-headers { set x-route "star" } }
    route named { match { path "/named/{id}" }; request-headers { set x-route "named" } }
    route both { match { path "/both/{id}/**" }; request-headers { set x-route "both" } }
    route pattern { match { path regex="/pattern/[0-9]+" }; request-headers { set x-route "pattern" } }
    route folded { match { path "/Folded/**" case=ignore }; request-headers { set x-route "folded" } }
    route posts { match { path "/tree/**"; method POST PUT }; request-headers { set x-route "posts" } }
    route several { match { path "/one" }; match { path "/two"; method PUT }; request-headers { set x-route "several" } }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: paths,
};

fn paths(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    const BEGINNINGS: [&str; 14] = [
        "/exact",
        "/tree",
        "/tree/deep",
        "/tree/deep/leaf",
        "/treetop",
        "/star/a/end",
        "/star/a/b/end",
        "/star//end",
        "/named/7",
        "/both/7",
        "/pattern/42",
        "/FOLDED",
        "/one",
        "/two",
    ];
    const ENDS: [&str; 7] = ["", "", "/", "/x", "/x/y", "?a=b", "/x?a=/tree/deep"];
    const METHODS: [&str; 5] = ["GET", "GET", "POST", "PUT", "DELETE"];
    let mut seeded = Seeded(1);
    let mut asks = Vec::new();
    while asks.len() < 300 {
        let (Some(beginning), Some(end), Some(method)) = (
            seeded.pick(&BEGINNINGS),
            seeded.pick(&ENDS),
            seeded.pick(&METHODS),
        ) else {
            continue;
        };
        asks.push(Ask::get(format!("{beginning}{end}")).method(method));
    }
    each(side, asks, route)
}

pub(crate) const FIELDS: Case = Case {
    name: "fields",
    compares: "matches of headers, query parameters and cookies (exact, prefix, suffix, contained, regular expression, present, not)",
    policy: r#"
    route h-exact { match { path "/h-exact"; header x-kind "a" "b" }; request-headers { set x-route "h-exact" } }
    route h-prefix { match { path "/h-prefix"; header x-kind prefix="ab" }; request-headers { set x-route "h-prefix" } }
    route h-suffix { match { path "/h-suffix"; header x-kind suffix="bc" }; request-headers { set x-route "h-suffix" } }
    route h-part { match { path "/h-part"; header x-kind contains="b" }; request-headers { set x-route "h-part" } }
    route h-regex { match { path "/h-regex"; header x-kind regex="a[bc]*" }; request-headers { set x-route "h-regex" } }
    route h-there { match { path "/h-there"; header x-kind }; request-headers { set x-route "h-there" } }
    route h-not { match { path "/h-not"; not { header x-kind "a" } }; request-headers { set x-route "h-not" } }
    route h-case { match { path "/h-case"; header x-kind "AbC" case=ignore }; request-headers { set x-route "h-case" } }
    route h-both { match { path "/h-both"; header x-kind "a"; header x-other "c" }; request-headers { set x-route "h-both" } }
    route h-rest { match { path "/h-both" }; request-headers { set x-route "h-rest" } }
    route q-exact { match { path "/q-exact"; query kind "a" "b" }; request-headers { set x-route "q-exact" } }
    route q-prefix { match { path "/q-prefix"; query kind prefix="ab" }; request-headers { set x-route "q-prefix" } }
    route q-regex { match { path "/q-regex"; query kind regex="a[bc]*" }; request-headers { set x-route "q-regex" } }
    route q-there { match { path "/q-there"; query kind }; request-headers { set x-route "q-there" } }
    route c-exact { match { path "/c-exact"; cookie kind "a" }; request-headers { set x-route "c-exact" } }
    route c-there { match { path "/c-there"; cookie kind }; request-headers { set x-route "c-there" } }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: fields,
};

fn fields(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    const PATHS: [&str; 15] = [
        "h-exact", "h-prefix", "h-suffix", "h-part", "h-regex", "h-there", "h-not", "h-case",
        "h-both", "q-exact", "q-prefix", "q-regex", "q-there", "c-exact", "c-there",
    ];
    const VALUES: [&str; 8] = ["", "a", "b", "ab", "abc", "bc", "ABC", "x"];
    let mut asks = Vec::new();
    for path in PATHS {
        for value in VALUES {
            let with = |ask: Ask| match path.get(..1) {
                Some("h") => ask.header("x-kind", value),
                Some("c") => ask.header("cookie", format!("first=1; kind={value}; last=2")),
                _ => ask,
            };
            let query = if path.starts_with('q') {
                format!("?first=1&kind={value}&last=2")
            } else {
                String::new()
            };
            asks.push(with(Ask::get(format!("/{path}{query}"))));
        }
        asks.push(Ask::get(format!("/{path}")));
    }
    asks.push(
        Ask::get("/h-both")
            .header("x-kind", "a")
            .header("x-other", "c"),
    );
    asks.push(
        Ask::get("/h-both")
            .header("x-kind", "a")
            .header("x-other", "d"),
    );
    asks.push(
        Ask::get("/h-exact")
            .header("x-kind", "x")
            .header("x-kind", "a"),
    );
    asks.push(
        Ask::get("/h-not")
            .header("x-kind", "x")
            .header("x-kind", "a"),
    );
    asks.push(Ask::get("/q-there?kind"));
    asks.push(Ask::get("/q-exact?kind=x&kind=a"));
    asks.push(Ask::get("/q-exact?kind=%61"));
    each(side, asks, route)
}

pub(crate) const SPELLINGS: Case = Case {
    name: "spellings",
    compares: "paths spelled in other ways, as they are matched and as they arrive",
    policy: r#"
    route secret { match { path "/secret/**" }; request-headers { set x-route "secret" } }
    route rest { match { path "/**" }; request-headers { set x-route "rest" } }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let paths = [
            "/secret/a",
            "//secret/a",
            "/secret//a",
            "/x/../secret/a",
            "/./secret/a",
            "/x/..//secret/a",
            "/%73ecret/a",
            "/secret%2fa",
            "/secret%2Fa",
            "/secret%5ca",
            "/secret\\a",
            "/x/%2e%2e/secret/a",
            "/secret;x/a",
            "/secret/a;b",
            "/..",
            "/../secret/a",
            "/secret/%41",
            "/secret/%7e",
            "/secret/a%20b",
            "/secret/%c3%a9",
            "/secret/a?b=/../c",
            "/secret/.",
            "/secret/..",
            "/SECRET/a",
            "/secret/a%zz",
            "/secret/a%00b",
        ];
        each(side, paths.map(Ask::get), |seen| {
            let target = seen.tries.first().map_or("-", |one| one.target.as_str());
            format!("{} {target}", route(seen))
        })
    },
};

pub(crate) const SPLIT: Case = Case {
    name: "split",
    compares: "weighted branches: the share of each of 2,000 requests, weight 0, and headers of one branch",
    policy: r#"
    subset v1 { labels version=v1 }
    subset v2 { labels version=v2 }
    subset v3 { labels version=v3 }
    route even {
        match { path "/even" }
        to v1 weight=1
        to v2 weight=1 { request-headers { set x-branch "second" }; response-headers { set x-branch "second" } }
    }
    route canary {
        match { path "/canary" }
        to v1 weight=90
        to v2 weight=10
        to v3 weight=0
    }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging), ("v2", Obliging), ("v3", Obliging)],
    observe: split,
};

fn split(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let mut facts = Vec::new();
    for (path, second) in [("/even", 0.5), ("/canary", 0.1)] {
        let (mut hits, mut third, mut marked) = (0, 0, 0);
        for _ in 0..1_000 {
            let seen = side.ask(&Ask::get(path))?;
            let by = seen.answer.header("x-group").unwrap_or_default();
            hits += usize::from(by == "v2");
            third += usize::from(by == "v3");
            let arrived = seen.tries.first().and_then(|one| one.header("x-branch"));
            if arrived.is_some() && seen.answer.header("x-branch").is_some() {
                marked += usize::from(by == "v2");
            }
        }
        facts.push(Fact::new(
            format!("{path}: share of v2"),
            share(hits, 1_000, second),
        ));
        facts.push(Fact::new(format!("{path}: of weight 0"), third));
        let marked = if path == "/even" {
            marked == hits
        } else {
            marked == 0
        };
        facts.push(Fact::new(
            format!("{path}: headers of the branch alone"),
            marked,
        ));
    }
    Ok(facts)
}

pub(crate) const HOSTS: Case = Case {
    name: "hosts",
    compares: "hosts of a gateway's routes: exact, one label, several",
    policy: "",
    gateway: r#"
    allow unauthenticated
    route one { match { host "shop.example" }; to hosts; request-headers { set x-route "one" } }
    route label { match { host "*.shop.example" }; to hosts; request-headers { set x-route "label" } }
    route labels { match { host "**.deep.example" }; to hosts; request-headers { set x-route "labels" } }
    route kept { match { host "kept.example" }; to hosts; request-headers { set x-route "kept" } }
"#,
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let hosts = [
            "shop.example",
            "SHOP.example",
            "shop.example:8080",
            "a.shop.example",
            "a.b.shop.example",
            "x.deep.example",
            "x.y.deep.example",
            "deep.example",
            "kept.example",
            "other.example",
            "shop.example.",
            "xshop.example",
        ];
        each(side, hosts.map(|host| Ask::get("/").host(host)), |seen| {
            let host = seen.tries.first().map_or("-", |one| one.host.as_str());
            format!("{} {host}", route(seen))
        })
    },
};
