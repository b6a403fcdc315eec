//! A chain of three hops whose last service fails: it is called as often as `meshc graph` says that it would be.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mesh_tests::{Failure, http_get, program, run, wait_until};

use crate::backend::Backend;
use crate::mesh::{LIMIT, Wide, free};
use crate::say;

/// Longer than any try takes.
const QUIET: Duration = Duration::from_secs(5);

/// Passes each request on by its proxy, and its answer back.
fn relay(next: &'static str) -> Result<(Backend, Arc<OnceLock<SocketAddr>>), Failure> {
    let outbound: Arc<OnceLock<SocketAddr>> = Arc::default();
    let proxy = Arc::clone(&outbound);
    let backend = Backend::answering(move || {
        let answer = proxy.get().map(|proxy| http_get(*proxy, next, "/", &[]));
        answer
            .and_then(Result::ok)
            .map_or(500, |answer| usize::from(answer.status))
    })?;
    Ok((backend, outbound))
}

/// How the last service fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    /// It says so at once.
    Fast,
    /// It does not answer in time.
    Slow,
}

/// Calls of `c` for so many requests of `s`, and as many as the graph says for one at worst, with and without budgets.
fn chain(
    defaults: &str,
    requests: usize,
    fails: Fails,
) -> Result<(usize, serde_json::Value), Failure> {
    let (to_a, to_b, to_c) = (free()?, free()?, free()?);
    let wide = Wide::start(&format!(
        "mesh drills {{
    trust-domain \"drills.example\"
    refuse amplification=1000 attempts=10
    defaults {{ {defaults} }}
}}
service s {{ port 8080; endpoints {{ static \"127.0.0.1:1\" }}; calls a }}
service a {{ port 8080; endpoints {{ static \"{to_a}\" }}; allow s; calls b }}
service b {{ port 8080; endpoints {{ static \"{to_b}\" }}; allow a; calls c }}
service c {{ port 8080; endpoints {{ static \"{to_c}\" }}; allow b }}
"
    ))?;
    let leaf = Backend::start()?;
    match fails {
        Fails::Fast => leaf.tell(503),
        Fails::Slow => leaf.tarry(LIMIT),
    }
    let ((a, from_a), (b, from_b)) = (relay("b")?, relay("c")?);
    let s = wide.proxy("s", free()?, free()?)?;
    let of_a = wide.proxy("a", to_a, a.address)?;
    let of_b = wide.proxy("b", to_b, b.address)?;
    let _of_c = wide.proxy("c", to_c, leaf.address)?;
    from_a.get_or_init(|| of_a.outbound);
    from_b.get_or_init(|| of_b.outbound);
    for _ in 0..requests {
        let answer = http_get(s.outbound, "a", "/", &[])?;
        let expected = if fails == Fails::Fast { 503 } else { 504 };
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    // Work that the caller has given up goes on where nobody is told.
    let mut last = (0, Instant::now());
    wait_until("no more calls come", LIMIT, || {
        let asked = leaf.asked();
        if asked != last.0 {
            last = (asked, Instant::now());
        }
        let quiet = last.1.elapsed();
        if fails == Fails::Fast || quiet > QUIET {
            return Ok(());
        }
        Err(Failure::new(format!("{asked} calls")))
    })?;
    let mut graph = Command::new(program("meshc")?);
    graph.arg("graph").arg(wide.policies());
    let output = run(graph.args(["--format", "json"]))?;
    let graph: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let services = graph["services"].as_array().cloned().unwrap_or_default();
    let c = services.into_iter().find(|service| service["name"] == "c");
    Ok((leaf.asked(), c.unwrap_or_default()))
}

#[test]
fn a_chain_makes_as_many_calls_as_predicted() -> Result<(), Failure> {
    let (calls, predicted) = chain("timeout \"30s\"; retry \"5xx\" attempts=3", 1, Fails::Fast)?;
    say(&format!(
        "three hops of three attempts: {calls} calls, predicted {}",
        predicted["worst_calls"]["fast"]
    ));
    assert_eq!(predicted["worst_calls"]["fast"], calls, "{predicted}");
    assert_eq!(calls, 27);
    Ok(())
}

/// Nobody tells those behind that the time is over (TC-S2 without propagation): each try of one hop is a whole exchange of
/// the next.
#[test]
fn a_chain_that_hangs_makes_as_many_calls_as_predicted() -> Result<(), Failure> {
    let policy = "timeout \"3500ms\"; retry per-try-timeout attempts=3 per-try=\"1s\"";
    let (calls, predicted) = chain(policy, 1, Fails::Slow)?;
    say(&format!(
        "three hops of three attempts that hang: {calls} calls, predicted {}",
        predicted["worst_calls"]["slow"]
    ));
    assert_eq!(predicted["worst_calls"]["fast"], 1, "{predicted}");
    assert_eq!(predicted["worst_calls"]["slow"], calls, "{predicted}");
    assert_eq!(calls, 27);
    Ok(())
}

/// The same within budgets, which bound each hop whatever way the last one fails.
#[test]
fn budgets_hold_a_chain_that_hangs() -> Result<(), Failure> {
    let policy = "timeout \"3500ms\"; retry per-try-timeout attempts=3 per-try=\"1s\"; retry-budget \"20%\" of=requests min=\"1/h\"";
    let (calls, predicted) = chain(policy, 1, Fails::Slow)?;
    say(&format!(
        "three hops within budgets that hang: {calls} calls, predicted without {}",
        predicted["worst_calls"]["slow"]
    ));
    // The first hop may send one retry, each other one as well: its share of so few requests is none.
    assert!((2..=8).contains(&calls), "{calls}");
    Ok(())
}

#[test]
fn budgets_hold_a_chain_to_their_product() -> Result<(), Failure> {
    const REQUESTS: usize = 100;
    let policy =
        "timeout \"30s\"; retry \"5xx\" attempts=3; retry-budget \"20%\" of=requests min=\"1/h\"";
    let (calls, predicted) = chain(policy, REQUESTS, Fails::Fast)?;
    say(&format!(
        "three hops within budgets of 20 %: {calls} calls for {REQUESTS} requests, predicted {} for each",
        predicted["budgeted"]
    ));
    // 1.2 to the third (TC-B1) of each request; each budget may always allow a few more.
    let each = predicted["budgeted"].as_f64().unwrap_or_default();
    let most = each * f64::from(u32::try_from(REQUESTS)?) + 9.0;
    assert!(f64::from(u32::try_from(calls)?) <= most, "{calls}");
    assert!(calls >= 150, "the budgets are used: {calls}");
    Ok(())
}
