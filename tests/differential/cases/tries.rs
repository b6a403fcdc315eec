//! What is tried again, where, how often, and for how long.

use std::time::Duration;

use mesh_tests::Failure;

use crate::backend::Nature::{Absent, Obliging};
use crate::case::{Case, Fact, each};
use crate::side::{Ask, Seen, Side};

pub(crate) const STATUSES: Case = Case {
    name: "statuses",
    compares: "retries by status: single ones, `5xx`, `gateway`; how many tries arrive, which answer is passed on, idempotent methods and others",
    policy: r#"
    route single { match { path "/single" }; retry 503 attempts=3 { backoff "1ms" } }
    route server { match { path "/server" }; retry "5xx" attempts=3 { backoff "1ms" } }
    route gateway { match { path "/gateway" }; retry gateway attempts=2 { backoff "1ms" } }
    route never { match { path "/never" } }
    route every { match { path "/every" }; retry 503 attempts=2 methods=any { backoff "1ms" } }
"#,
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Obliging),
    ],
    observe: |side| {
        const PLANS: [&str; 7] = [
            "200",
            "503,200",
            "503,503,200",
            "503,503,503,200",
            "500,502,504",
            "404,200",
            "503,500,200",
        ];
        const PATHS: [&str; 5] = ["/single", "/server", "/gateway", "/never", "/every"];
        let mut asks = Vec::new();
        for path in PATHS {
            asks.extend(PLANS.map(|plan| Ask::get(path).plan(plan)));
            for method in ["POST", "PUT", "DELETE", "HEAD", "PATCH"] {
                asks.push(Ask::get(path).method(method).plan("503,200"));
            }
        }
        each(side, asks, Seen::counted)
    },
};

pub(crate) const CLASSES: Case = Case {
    name: "classes",
    compares: "retries after a reset of the connection, by the cause that is retried",
    policy: r#"
    limits requests-per-connection=1
    route reset { match { path "/reset" }; retry reset attempts=3 { backoff "1ms" } }
    route statuses { match { path "/statuses" }; retry "5xx" attempts=3 { backoff "1ms" } }
    route connect { match { path "/connect" }; retry connect-failure attempts=3 { backoff "1ms" } }
    route before { match { path "/before" }; retry reset-before-request attempts=3 { backoff "1ms" } }
    route refused { match { path "/refused" }; retry refused attempts=3 { backoff "1ms" } }
    route mixed { match { path "/mixed" }; retry reset 503 attempts=4 { backoff "1ms" } }
"#,
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Obliging),
    ],
    observe: |side| {
        let mut asks = Vec::new();
        for path in [
            "/reset",
            "/statuses",
            "/connect",
            "/before",
            "/refused",
            "/mixed",
        ] {
            for plan in ["reset,200", "reset,reset,reset,reset", "reset,503,200"] {
                asks.push(Ask::get(path).plan(plan));
            }
        }
        each(side, asks, Seen::counted)
    },
};

pub(crate) const KEPT: Case = Case {
    name: "kept",
    compares: "a kept connection that breaks when a request comes, without a retry in policy",
    policy: "",
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let mut facts = Vec::new();
        for method in ["GET", "POST"] {
            // More connections are kept than there are workers.
            side.ask_at_once(&Ask::get("/").plan("late-300"), 12)?;
            let ask = Ask::get("/").method(method).plan("reset,200");
            facts.push(Fact::new(ask.to_string(), side.ask(&ask)?.counted()));
        }
        Ok(facts)
    },
};

pub(crate) const RESETS: Case = Case {
    name: "resets",
    compares: "resets without retries: what the caller gets",
    policy: "    limits requests-per-connection=1",
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let asks = ["reset", "503", "500", "404"].map(|plan| Ask::get("/").plan(plan));
        each(side, asks, Seen::counted)
    },
};

pub(crate) const ABSENT: Case = Case {
    name: "absent",
    compares: "endpoints where nobody listens: retried on another one for `connect-failure`, of any method",
    policy: r#"
    balance round-robin
    subset half { labels version=half }
    subset gone { labels version=gone }
    route half { match { path "/half" }; to half; retry connect-failure attempts=2 { backoff "1ms" } }
    route gone { match { path "/gone" }; to gone; retry connect-failure attempts=3 { backoff "1ms" } }
    route once { match { path "/once" }; to gone }
    route other { match { path "/other" }; to gone; retry 503 attempts=3 { backoff "1ms" } }
"#,
    gateway: "",
    endpoints: &[("half", Obliging), ("half", Absent), ("gone", Absent)],
    observe: |side| {
        let mut asks = vec![Ask::get("/half"); 6];
        asks.extend(vec![Ask::get("/half").method("POST"); 6]);
        asks.extend(["/gone", "/once", "/other"].map(Ask::get));
        each(side, asks, Seen::counted)
    },
};

pub(crate) const PER_TRY: Case = Case {
    name: "per-try",
    compares: "time of one try: when it is over another one is made, within the time of all",
    policy: r#"
    balance round-robin
    route try { match { path "/try" }; timeout "2s"; retry per-try-timeout attempts=3 per-try="150ms" { backoff "1ms" } }
    route only { match { path "/only" }; timeout "2s"; retry 503 attempts=3 per-try="150ms" { backoff "1ms" } }
    route whole { match { path "/whole" }; timeout "250ms"; retry per-try-timeout attempts=5 per-try="150ms" { backoff "1ms" } }
"#,
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Obliging),
    ],
    observe: |side| {
        let mut asks = Vec::new();
        for path in ["/try", "/only", "/whole"] {
            for plan in ["late-20", "hang,200", "hang,hang,hang,200"] {
                asks.push(Ask::get(path).plan(plan));
            }
        }
        each(side, asks, Seen::counted)
    },
};

pub(crate) const ELSEWHERE: Case = Case {
    name: "elsewhere",
    compares: "retries go to an endpoint that was not tried yet",
    policy: r#"
    balance random
    retry 503 attempts=2 { backoff "1ms" }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging), ("v1", Obliging), ("v1", Obliging)],
    observe: elsewhere,
};

fn elsewhere(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let (mut two, mut same) = (0, 0);
    for _ in 0..50 {
        let seen = side.ask(&Ask::get("/").plan("503,200"))?;
        let endpoints: Vec<_> = seen.tries.iter().map(|one| one.endpoint).collect();
        if let [first, second] = endpoints.as_slice() {
            two += 1;
            same += usize::from(first == second);
        }
    }
    Ok(vec![Fact::new(
        "50 requests that fail once",
        format!("{two} are tried twice, {same} on the same"),
    )])
}

pub(crate) const TIMEOUT: Case = Case {
    name: "timeout",
    compares: "time of the whole exchange",
    policy: r#"
    route short { match { path "/short" }; timeout "200ms" }
    route long { match { path "/long" }; timeout "3s" }
"#,
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let asks = [
            Ask::get("/short").plan("late-20"),
            Ask::get("/short").plan("hang"),
            Ask::get("/long").plan("late-400"),
        ];
        each(side, asks, |seen| {
            // Clocks are coarse.
            let waited = seen.took >= Duration::from_millis(190);
            format!("{} waited={waited}", seen.counted())
        })
    },
};
