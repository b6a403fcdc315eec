//! What is changed on the way, and what the proxy answers itself.

use std::time::Duration;

use mesh_tests::{Failure, wait_until};

use crate::backend::Nature::Obliging;
use crate::case::{Case, Fact, each, share};
use crate::side::{Ask, Seen, Side};

pub(crate) const REWRITES: Case = Case {
    name: "rewrites",
    compares: "rewritten paths (whole, below a prefix, with parts of the old one) and hosts",
    policy: r#"
    route whole { match { path "/whole" }; rewrite path="/new" }
    route below { match { path "/below/**" }; rewrite path="/under/**" }
    route up { match { path "/up/**" }; rewrite path="/**" }
    route parts { match { path "/parts/{a}/{b}" }; rewrite path="/p/{b}/{a}" }
    route both { match { path "/both/{a}/**" }; rewrite path="/b/**" host="other.example" }
    route host { match { path "/host" }; rewrite host="other.example" }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let paths = [
            "/whole",
            "/whole?a=b",
            "/below",
            "/below/",
            "/below/x",
            "/below/x/y?a=b",
            "/up",
            "/up/",
            "/up/x",
            "/parts/1/2",
            "/parts/1/2?a=b",
            "/both/1",
            "/both/1/x/y",
            "/host?a=b",
            "/below/%20x",
        ];
        each(side, paths.map(Ask::get), Seen::arrived)
    },
};

pub(crate) const REDIRECTS: Case = Case {
    name: "redirects",
    compares: "redirects: scheme, host, port, path, status",
    policy: r#"
    route scheme { match { path "/scheme" }; redirect scheme=https status=308 }
    route host { match { path "/host/**" }; redirect host="new.example" status=301 }
    route port { match { path "/port" }; redirect port=9443 status=307 }
    route path { match { path "/path/**" }; redirect path="/elsewhere/**" }
    route part { match { path "/part/{id}" }; redirect host="new.example" path="/by-id/{id}" status=303 }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let paths = [
            "/scheme",
            "/scheme?a=b",
            "/host",
            "/host/x?a=b",
            "/port",
            "/path/x",
            "/path?a=b",
            "/part/7",
        ];
        each(side, paths.map(Ask::get), |seen| {
            seen.answered(&["location"])
        })
    },
};

pub(crate) const RESPONDS: Case = Case {
    name: "responds",
    compares: "answers of the proxy: status, body, headers",
    policy: r#"
    route gone { match { path "/gone" }; respond 410 body="It is gone." { header x-why "moved" } }
    route empty { match { path "/empty" }; respond 204 }
    route rest { match { path "/**" } }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let asks = [
            Ask::get("/gone"),
            Ask::get("/gone").method("POST"),
            Ask::get("/empty"),
            Ask::get("/else"),
        ];
        each(side, asks, |seen| {
            let body = seen.answer.body.trim_end();
            format!("{} {body} {}", seen.answered(&["x-why"]), seen.tries.len())
        })
    },
};

pub(crate) const HEADERS: Case = Case {
    name: "headers",
    compares: "headers of requests and answers: set, added, removed",
    policy: r#"
    route edited {
        match { path "/**" }
        request-headers { set x-set "new"; add x-add "more 100%"; remove x-gone }
        response-headers { set x-group "changed"; add x-more "yes"; remove x-stack }
    }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let asks = [
            Ask::get("/none"),
            Ask::get("/bare").host("headers"),
            Ask::get("/set").header("x-set", "old"),
            Ask::get("/twice")
                .header("x-set", "old")
                .header("x-set", "older"),
            Ask::get("/add").header("x-add", "one"),
            Ask::get("/gone")
                .header("x-gone", "1")
                .header("X-Gone", "2"),
            Ask::get("/kept")
                .header("x-kept", "as it is")
                .header("X-Case", "Kept"),
            Ask::get("/hop")
                .header("connection", "x-hop")
                .header("x-hop", "1"),
        ];
        each(side, asks, |seen| {
            let answer = seen.answered(&["x-group", "x-more", "x-stack", "x-endpoint"]);
            format!("{}; {answer}", seen.arrived())
        })
    },
};

pub(crate) const CORS: Case = Case {
    name: "cors",
    compares: "CORS: preflights and requests of sites that may call and of others",
    policy: r#"
    route shared {
        match { path "/shared" }
        cors credentials=allow max-age="10m" {
            origin "https://shop.example" "https://*.shop.example"
            method PUT DELETE
            header x-token
            expose x-group
        }
    }
    route rest { match { path "/**" } }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: cors,
};

fn cors(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    const ANSWER: [&str; 5] = [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-expose-headers",
        "access-control-max-age",
        "x-group",
    ];
    let mut asks = Vec::new();
    let origins = [
        "https://shop.example",
        "https://a.shop.example",
        "https://a.b.shop.example",
        "http://shop.example",
        "https://evil.example",
        "null",
    ];
    for path in ["/shared", "/other"] {
        for origin in origins {
            asks.push(Ask::get(path).header("origin", origin));
            let preflight = Ask::get(path).method("OPTIONS").header("origin", origin);
            asks.push(
                preflight
                    .clone()
                    .header("access-control-request-method", "PUT"),
            );
            asks.push(preflight);
        }
        asks.push(Ask::get(path));
    }
    each(side, asks, |seen| {
        format!("{} of {}", seen.answered(&ANSWER), seen.tries.len())
    })
}

pub(crate) const MIRROR: Case = Case {
    name: "mirror",
    compares: "copies: who gets them, of how many requests, and that nobody waits for them",
    policy: r#"
    subset v1 { labels version=v1 }
    subset shadow { labels version=shadow }
    route all { match { path "/all" }; to v1; mirror shadow }
    route some { match { path "/some" }; to v1; mirror shadow share="25%" }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging), ("shadow", Obliging)],
    observe: mirror,
};

fn mirror(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let of_shadow = || side.asked().get(1).copied().unwrap_or_default();
    let mut facts = Vec::new();
    for (path, count, written) in [("/all", 50, 1.0), ("/some", 800, 0.25)] {
        let before = of_shadow();
        for _ in 0..count {
            let seen = side.ask(&Ask::get(path))?;
            if seen.answer.header("x-group") != Some("v1") {
                facts.push(Fact::new(
                    path,
                    format!("answered by another: {:?}", seen.answer),
                ));
            }
        }
        // Copies arrive later than answers; when as many as can be have come or none comes any more, it is over.
        let mut last = (of_shadow(), std::time::Instant::now());
        wait_until("the copies have come", Duration::from_secs(20), || {
            let now = of_shadow();
            if now != last.0 {
                last = (now, std::time::Instant::now());
            }
            if last.1.elapsed() > Duration::from_millis(300) {
                return Ok(());
            }
            Err(Failure::new(format!("{now}")))
        })?;
        let copies = of_shadow() - before;
        let what = if count == 50 {
            format!("{copies} of {count}")
        } else {
            share(copies, count, written)
        };
        facts.push(Fact::new(format!("{path}: copies"), what));
    }
    Ok(facts)
}

pub(crate) const FAULTS: Case = Case {
    name: "faults",
    compares: "faults: delays, aborts, and shares of requests",
    policy: r#"
    route late { match { path "/late" }; fault { delay "200ms" } }
    route broken { match { path "/broken" }; fault { abort 418 } }
    route both { match { path "/both" }; fault { delay "100ms"; abort 503 } }
    route some { match { path "/some" }; fault { abort 503 share="30%" } }
    route past { match { path "/past" }; fault until="2026-01-01" { abort 503 } }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: faults,
};

fn faults(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let mut facts = Vec::new();
    for (path, least) in [("/late", 190), ("/broken", 0), ("/both", 90), ("/past", 0)] {
        let seen = side.ask(&Ask::get(path))?;
        // Clocks are coarse.
        let waited = seen.took >= Duration::from_millis(least);
        facts.push(Fact::new(
            path,
            format!("{} waited={waited}", seen.counted()),
        ));
    }
    let mut broken = 0;
    for _ in 0..800 {
        broken += usize::from(side.ask(&Ask::get("/some"))?.answer.status == 503);
    }
    facts.push(Fact::new("/some: share", share(broken, 800, 0.3)));
    Ok(facts)
}
