//! How a mesh ends: on a signal nothing is left, and neither is when its owner is killed.

use std::path::Path;
use std::process::Command;

use mesh_tests::{Failure, run, wait_until};

use crate::support::{Bookshop, LIMIT, bookshop};

/// Whether a process still runs; one that only waits to be reaped has ended.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !state.starts_with(['Z', 'X'])
    })
}

fn wait_ended(pids: &[u32]) -> Result<(), Failure> {
    wait_until("every process has ended", LIMIT, || {
        match pids.iter().find(|pid| runs(**pid)) {
            None => Ok(()),
            Some(pid) => Err(Failure::new(format!("{pid} runs"))),
        }
    })
}

fn pids(shop: &Bookshop) -> Result<Vec<u32>, Failure> {
    let mut pids: Vec<u32> = shop.dev.proxies()?.iter().map(|proxy| proxy.pid).collect();
    pids.push(shop.dev.distributor_pid());
    assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    Ok(pids)
}

#[test]
fn a_signal_ends_every_process() -> Result<(), Failure> {
    let mut shop = bookshop(20)?;
    let pids = pids(&shop)?;
    assert!(shop.dev.process().stop()?.success());
    wait_ended(&pids)
}

#[test]
fn the_children_of_a_killed_owner_end_with_it() -> Result<(), Failure> {
    let mut shop = bookshop(20)?;
    let pids = pids(&shop)?;
    let owner = shop.dev.process().id();
    run(Command::new("kill").args(["-s", "KILL", &owner.to_string()]))?;
    wait_ended(&pids)
}

#[test]
fn a_crashed_child_is_started_again() -> Result<(), Failure> {
    let shop = bookshop(20)?;
    let before = shop.served("details")?;
    run(Command::new("kill").args(["-s", "KILL", &before.pid.to_string()]))?;
    wait_until("the proxy serves again", LIMIT, || {
        let now = shop.served("details")?;
        if now.pid != before.pid && now.commit == before.commit {
            return Ok(());
        }
        Err(Failure::new(format!("{now:?}")))
    })
}
