//! D12 and D13: endpoints that fail. They are left out, what retries add stays within the budget, and they come back; where
//! most are out, all are asked.

use std::fmt::Write as _;
use std::time::Duration;

use mesh_tests::{Failure, http_get, wait_until};

use crate::backend::{Backend, load};
use crate::mesh::{LIMIT, Proxy, Wide, free};
use crate::{is_long, say};

/// `web` calls `pool`, which has these endpoints and this policy.
fn pool(backends: &[Backend], policy: &str) -> Result<(Wide, Proxy), Failure> {
    let mut endpoints = String::new();
    for backend in backends {
        writeln!(endpoints, "        static \"{}\"", backend.address)?;
    }
    let wide = Wide::start(&format!(
        "mesh drills {{ trust-domain \"drills.example\" }}
service web {{
    port 8080
    calls pool
    endpoints {{ static \"127.0.0.1:1\" }}
}}
service pool {{
    port 8080
    unmeshed
    endpoints {{
{endpoints}    }}
{policy}
}}
"
    ))?;
    let web = wide.proxy("web", free()?, free()?)?;
    Ok((wide, web))
}

fn backends(count: usize) -> Result<Vec<Backend>, Failure> {
    (0..count).map(|_| Backend::start()).collect()
}

fn asked(backends: &[Backend]) -> usize {
    backends.iter().map(Backend::asked).sum()
}

#[test]
fn half_of_the_endpoints_fail_and_callers_hardly_notice() -> Result<(), Failure> {
    let all = backends(4)?;
    let (_wide, web) = pool(
        &all,
        "    retry \"5xx\" connect-failure reset attempts=2
    retry-budget \"20%\" of=requests min=\"5/s\"
    outlier consecutive-5xx=5 every=\"1s\" eject=\"30s\" max-ejected=\"50%\"",
    )?;
    for backend in all.iter().take(2) {
        backend.tell(503);
    }
    let (per_second, seconds) = if is_long() { (2_000, 60) } else { (200, 6) };
    let statuses = load(
        web.outbound,
        "pool",
        "/",
        per_second,
        Duration::from_secs(seconds),
    )?;
    let well = statuses.iter().filter(|status| **status == 200).count();
    let extra = asked(&all) - statuses.len();
    say(&format!(
        "D12: {} requests, {well} of them well, {extra} tries more",
        statuses.len()
    ));
    assert!(well * 100 >= statuses.len() * 99, "{well}");
    // The share, and what is allowed always.
    let floor = 5 * usize::try_from(seconds)?;
    assert!(extra <= statuses.len() / 5 + floor, "{extra}");
    assert!(web.metric("mesh_ejections_total", &["pool"])? >= 2.0);
    Ok(())
}

#[test]
fn one_that_fails_is_left_out_and_comes_back() -> Result<(), Failure> {
    let all = backends(5)?;
    let (_wide, web) = pool(
        &all,
        "    outlier consecutive-5xx=5 every=\"200ms\" eject=\"2s\" max-ejected=\"80%\"",
    )?;
    let [bad, good @ ..] = all.as_slice() else {
        return Err(Failure::new("there are five"));
    };
    bad.tell(500);
    let ask = || -> Result<u16, Failure> { Ok(http_get(web.outbound, "pool", "/", &[])?.status) };
    let mut failed = 0;
    let ejected = || web.metric("mesh_endpoints", &["state=\"ejected\"", "pool"]);
    while ejected()? < 1.0 {
        failed += usize::from(ask()? == 500);
        assert!(failed <= 5, "{failed} failures, and it is still asked");
    }
    assert_eq!(failed, 5);
    // Soon enough that it is not asked again.
    let (per_second, seconds) = if is_long() { (1_000, 10) } else { (200, 1) };
    let after = load(
        web.outbound,
        "pool",
        "/",
        per_second,
        Duration::from_secs(seconds),
    )?;
    let wrong = after.iter().filter(|status| **status != 200).count();
    say(&format!(
        "D13: left out after {failed} failures; then {wrong} of {} failed",
        after.len()
    ));
    assert!(wrong * 200 < after.len(), "{wrong}");
    bad.tell(200);
    let before = bad.asked();
    wait_until("it is asked again", LIMIT, || {
        ask()?;
        match bad.asked() {
            asked if asked > before => Ok(()),
            _ => Err(Failure::new("it is not")),
        }
    })?;
    // Four of five fail: those that are out are asked all the same, or one would have to carry all.
    for backend in good {
        backend.tell(500);
    }
    wait_until("most are out", LIMIT, || {
        ask()?;
        let out = ejected()?;
        if out >= 3.0 {
            return Ok(());
        }
        Err(Failure::new(format!("{out} are")))
    })?;
    let before: Vec<_> = all.iter().map(Backend::asked).collect();
    for _ in 0..25 {
        ask()?;
    }
    let out = ejected()?;
    assert!(out <= 4.0, "never more than 80 %: {out}");
    let reached = all
        .iter()
        .zip(before)
        .filter(|(backend, before)| backend.asked() > *before);
    assert_eq!(reached.count(), 5, "all are asked");
    Ok(())
}

#[test]
fn one_that_is_slow_is_left_out_and_no_caller_fails() -> Result<(), Failure> {
    let all = backends(5)?;
    let (_wide, web) = pool(
        &all,
        "    retry per-try-timeout attempts=2 per-try=\"250ms\"
    outlier consecutive-5xx=5 every=\"200ms\" eject=\"30s\" max-ejected=\"50%\"",
    )?;
    let [slow, ..] = all.as_slice() else {
        return Err(Failure::new("there are five"));
    };
    slow.tarry(Duration::from_secs(1));
    let ejected = || web.metric("mesh_endpoints", &["state=\"ejected\"", "pool"]);
    let mut requests = 0;
    while ejected()? < 1.0 {
        let answer = http_get(web.outbound, "pool", "/", &[])?;
        assert_eq!(answer.status, 200, "another is asked: {answer:?}");
        requests += 1;
        assert!(
            slow.asked() <= 5,
            "{} tries, and it is still asked",
            slow.asked()
        );
    }
    assert_eq!(slow.asked(), 5);
    let (per_second, seconds) = if is_long() { (1_000, 20) } else { (200, 1) };
    let after = load(
        web.outbound,
        "pool",
        "/",
        per_second,
        Duration::from_secs(seconds),
    )?;
    let wrong = after.iter().filter(|status| **status != 200).count();
    say(&format!(
        "D13: left out after 5 tries that were too slow, of {requests} requests; then {wrong} of {} failed",
        after.len()
    ));
    assert!(wrong * 200 < after.len(), "{wrong}");
    assert_eq!(slow.asked(), 5, "it is not asked again");
    Ok(())
}
