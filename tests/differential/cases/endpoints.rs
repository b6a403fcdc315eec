//! Which endpoint is asked, how many requests there may be, and which endpoints are left out.

use std::collections::{BTreeMap, BTreeSet};

use mesh_tests::loopback::LIMIT;
use mesh_tests::{Failure, wait_until};

use crate::backend::Nature::{Failing, Obliging, Slow};
use crate::case::{Case, Fact, share};
use crate::side::{Ask, Side};

const FOUR: &[(&str, crate::backend::Nature)] = &[
    ("v1", Obliging),
    ("v1", Obliging),
    ("v1", Obliging),
    ("v1", Obliging),
];

/// How much of 400 requests, one after the other, each of four endpoints got.
fn spread(side: &Side<'_>) -> Result<Vec<usize>, Failure> {
    let before = side.asked();
    for _ in 0..400 {
        side.ask(&Ask::get("/"))?;
    }
    let after = side.asked();
    Ok(after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect())
}

pub(crate) const ROUND_ROBIN: Case = Case {
    name: "round-robin",
    compares: "each endpoint in turn",
    policy: "    balance round-robin",
    gateway: "",
    endpoints: FOUR,
    observe: |side| {
        Ok(vec![Fact::new(
            "400 requests to four",
            format!("{:?}", spread(side)?),
        )])
    },
};

pub(crate) const RANDOM: Case = Case {
    name: "random",
    compares: "endpoints at random, in equal shares",
    policy: "    balance random",
    gateway: "",
    endpoints: FOUR,
    observe: shares,
};

pub(crate) const LEAST_REQUEST: Case = Case {
    name: "least-request",
    compares: "the less busy of two endpoints: one that is slow is asked less",
    policy: "    balance least-request",
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Slow(400)),
        ("v1", Obliging),
        ("v1", Obliging),
    ],
    observe: |side| {
        let before = side.asked();
        side.ask_at_once(&Ask::get("/"), 80)?;
        let after = side.asked();
        let mut asked = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before);
        // Each would get 20.
        let slow = asked.nth(1).unwrap_or_default();
        Ok(vec![Fact::new(
            "the slow one of four gets less than half of its share",
            slow < 10,
        )])
    },
};

fn shares(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let each = spread(side)?
        .into_iter()
        .map(|asked| share(asked, 400, 0.25));
    Ok(vec![Fact::new(
        "400 requests to four",
        each.collect::<Vec<_>>().join(", "),
    )])
}

pub(crate) const RING_HASH: Case = Case {
    name: "ring-hash",
    compares: "requests of one key go to one endpoint, and all endpoints get some",
    policy: "    balance ring-hash { per header x-user }",
    gateway: "",
    endpoints: FOUR,
    observe: affinity,
};

pub(crate) const MAGLEV: Case = Case {
    name: "maglev",
    compares: "the same, by another table",
    policy: "    balance maglev { per header x-user }",
    gateway: "",
    endpoints: FOUR,
    observe: affinity,
};

fn affinity(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..3 {
        for user in 0..60 {
            let seen = side.ask(&Ask::get("/").header("x-user", format!("user{user}")))?;
            let by = seen.answer.header("x-endpoint").unwrap_or("none");
            known
                .entry(format!("user{user}"))
                .or_default()
                .insert(by.to_owned());
        }
    }
    let faithful = known.values().filter(|by| by.len() == 1).count();
    let all: BTreeSet<_> = known.values().flatten().collect();
    Ok(vec![
        Fact::new("of 60 keys with one endpoint", faithful),
        Fact::new("endpoints that have keys", all.len()),
    ])
}

/// How requests that come at once end.
fn endings(side: &Side<'_>, times: usize) -> Result<String, Failure> {
    let seen = side.ask_at_once(&Ask::get("/").plan("late-700"), times)?;
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for one in &seen {
        *counts.entry(one.answer.status).or_default() += 1;
    }
    let tried: usize = seen.iter().map(|one| one.tries.len()).sum();
    Ok(format!("{counts:?}, {tried} arrived"))
}

pub(crate) const REQUESTS: Case = Case {
    name: "requests",
    compares: "`limits requests=`: what is above is refused at once, and later requests are taken",
    policy: "    limits requests=2",
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: limited,
};

pub(crate) const CONNECTIONS: Case = Case {
    name: "connections",
    compares: "`limits connections= pending=`: so many wait for a connection",
    policy: "    limits connections=1 pending=1",
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: limited,
};

fn limited(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    Ok(vec![
        Fact::new("6 at once", endings(side, 6)?),
        Fact::new("one later", endings(side, 1)?),
    ])
}

pub(crate) const REQUESTS_PER_CONNECTION: Case = Case {
    name: "per-connection",
    compares: "`limits requests-per-connection=`: connections for so many requests",
    policy: "    limits requests-per-connection=1",
    gateway: "",
    endpoints: &[("v1", Obliging)],
    observe: |side| {
        let before = side.accepted();
        for _ in 0..10 {
            side.ask(&Ask::get("/"))?;
        }
        let made = side.accepted() - before;
        Ok(vec![Fact::new("connections for 10 requests", made)])
    },
};

pub(crate) const BUDGET: Case = Case {
    name: "budget",
    compares: "`retry-budget of=active`: how many of the requests that fail at once are tried again",
    policy: r#"
    retry 503 attempts=2 { backoff "1ms" }
    retry-budget "50%" of=active min=2
"#,
    gateway: "",
    endpoints: &[("v1", Obliging), ("v1", Obliging)],
    observe: |side| {
        let seen = side.ask_at_once(&Ask::get("/").plan("503,late-900"), 10)?;
        let retried = seen.iter().filter(|one| one.tries.len() == 2).count();
        let well = seen.iter().filter(|one| one.answer.status == 200).count();
        Ok(vec![Fact::new(
            "10 that fail once",
            format!("{retried} are tried again, {well} succeed"),
        )])
    },
};

pub(crate) const EJECTION: Case = Case {
    name: "ejection",
    compares: "`outlier consecutive-5xx=`: how often the endpoint that fails is asked until it is left out",
    policy: r#"
    balance round-robin
    outlier consecutive-5xx=3 every="30s" eject="60s" max-ejected="50%"
"#,
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Obliging),
        ("v1", Failing(500)),
        ("v1", Obliging),
    ],
    observe: ejected,
};

pub(crate) const GATEWAY_EJECTION: Case = Case {
    name: "gateway-ejection",
    compares: "`outlier consecutive-gateway=`: 502 to 504 count, 500 does not",
    policy: r#"
    balance round-robin
    outlier consecutive-gateway=3 every="30s" eject="60s" max-ejected="50%"
"#,
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Failing(500)),
        ("v1", Failing(503)),
        ("v1", Obliging),
    ],
    observe: ejected,
};

pub(crate) const EJECTION_CAP: Case = Case {
    name: "ejection-cap",
    compares: "`outlier max-ejected=`: where one of four may be left out, the second that fails is asked on",
    policy: r#"
    balance round-robin
    outlier consecutive-5xx=3 every="30s" eject="60s" max-ejected="25%"
"#,
    gateway: "",
    endpoints: &[
        ("v1", Obliging),
        ("v1", Failing(500)),
        ("v1", Failing(500)),
        ("v1", Obliging),
    ],
    observe: |side| {
        let mut facts = ejected(side)?;
        for fact in &mut facts {
            // Either of the two is the first.
            let mut counts: Vec<_> = fact.what.split(", ").collect();
            counts.sort_unstable();
            fact.what = counts.join(", ");
        }
        Ok(facts)
    },
};

fn ejected(side: &Side<'_>) -> Result<Vec<Fact>, Failure> {
    let before = side.asked();
    for _ in 0..60 {
        side.ask(&Ask::get("/"))?;
    }
    let asked = side.asked().into_iter().zip(before);
    let asked: Vec<_> = asked.map(|(after, before)| after - before).collect();
    // Of those that stay in turn, it does not matter who had the last one.
    let asked: Vec<_> = asked
        .iter()
        .map(|asked| {
            if *asked > 10 {
                "often".to_owned()
            } else {
                asked.to_string()
            }
        })
        .collect();
    Ok(vec![Fact::new("60 requests to four", asked.join(", "))])
}

pub(crate) const HEALTH: Case = Case {
    name: "health",
    compares: "`health-check`: an endpoint whose check fails is not asked",
    policy: r#"
    balance round-robin
    health-check "/healthz" every="200ms" timeout="200ms" healthy=1 unhealthy=2
"#,
    gateway: "",
    endpoints: &[("v1", Obliging), ("v1", Failing(503)), ("v1", Obliging)],
    observe: |side| {
        wait_until("it is known who is well", LIMIT, || {
            for _ in 0..12 {
                let seen = side.ask(&Ask::get("/"))?;
                if seen.answer.status != 200 {
                    return Err(Failure::new(seen.counted()));
                }
            }
            Ok(())
        })?;
        let before = side.asked();
        for _ in 0..40 {
            side.ask(&Ask::get("/"))?;
        }
        let asked = side.asked().into_iter().zip(before);
        let asked: Vec<_> = asked.map(|(after, before)| after - before).collect();
        Ok(vec![Fact::new(
            "40 requests to three",
            format!("{asked:?}"),
        )])
    },
};
