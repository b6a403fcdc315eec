//! Who may enter by a gateway, and how often.

use mesh_tests::Failure;

use crate::backend::Nature::Obliging;
use crate::case::{Case, Fact, Seeded, each};
use crate::side::{Ask, Seen, Side};

pub(crate) const RULES: Case = Case {
    name: "rules",
    compares: "`allow` and `deny` by path, method and header: what nothing allows is denied, what is denied nothing allows",
    policy: "",
    gateway: r#"
    allow unauthenticated { path "/open/**" "/also" }
    allow unauthenticated { path "/read/**"; method GET HEAD }
    allow unauthenticated { path "/keyed"; header x-key "a" "b" }
    allow unauthenticated { path "/part"; header x-key prefix="k-" }
    allow unauthenticated { path "/except/**"; not { path "/except/this/**" } }
    deny { path "/open/closed/**" }
    deny { path "/open/**"; method DELETE }
    deny { path "/open/**"; header x-bad }
    route all { match { path "/**" }; to rules }
"#,
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        const PATHS: [&str; 14] = [
            "/",
            "/open",
            "/open/a",
            "/opened",
            "/open/closed",
            "/open/closed/a",
            "/also",
            "/also/a",
            "/read/a",
            "/keyed",
            "/part",
            "/except/a",
            "/except/this",
            "/except/this/a",
        ];
        const METHODS: [&str; 5] = ["GET", "GET", "HEAD", "POST", "DELETE"];
        const HEADERS: [(&str, &str); 6] = [
            ("x-none", "1"),
            ("x-key", "a"),
            ("x-key", "b"),
            ("x-key", "c"),
            ("x-key", "k-1"),
            ("x-bad", "1"),
        ];
        let mut seeded = Seeded(7);
        let mut asks = Vec::new();
        while asks.len() < 250 {
            let picked = (
                seeded.pick(&PATHS),
                seeded.pick(&METHODS),
                seeded.pick(&HEADERS),
            );
            if let (Some(path), Some(method), Some((name, value))) = picked {
                asks.push(Ask::get(*path).method(method).header(name, *value));
            }
        }
        // Spelled otherwise, they are the same paths.
        asks.extend(
            [
                "/open/./closed/a",
                "/open//closed/a",
                "/x/../open/closed",
                "/%6fpen/a",
            ]
            .map(Ask::get),
        );
        asks.push(Ask::get("/keyed").header("x-key", "c").header("x-key", "a"));
        asks.push(Ask::get("/open").header("x-bad", ""));
        each(side, asks, Seen::counted)
    },
};

pub(crate) const RATE: Case = Case {
    name: "rate",
    compares: "`rate-limit`: how many of requests in a row are let in, and what the others get",
    policy: "",
    gateway: r#"
    allow unauthenticated
    rate-limit "5/h"
    route all { match { path "/**" }; to rate }
"#,
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let asks = (0..8).map(|number| Ask::get(format!("/{number}")));
        each(side, asks, Seen::counted)
    },
};

pub(crate) const RATE_OF_EACH: Case = Case {
    name: "rate-of-each",
    compares: "`rate-limit` of each value of a header",
    policy: "",
    gateway: r#"
    allow unauthenticated
    rate-limit "3/h" { per header x-user }
    route all { match { path "/**" }; to rate-of-each }
"#,
    endpoints: &[("v1", Obliging)],
    observe: of_each,
};

fn of_each(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let users = ["a", "a", "b", "a", "a", "b", "b", "b", "c"];
    let mut facts = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let ask = Ask::get(format!("/{number}")).header("x-user", *user);
        facts.push(Fact::new(ask.to_string(), side.ask(&ask)?.counted()));
    }
    Ok(facts)
}
