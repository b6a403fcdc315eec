//! D4: certificates and their authorities are replaced under load, and no request, no handshake and no connection is
//! lost: new leaves every two seconds, then the root authority, old, both, new. Each step of the latter is refused, or
//! held back, as long as somebody would lose a connection by it.

use std::process::Command;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, program, run, wait_until};

use crate::d16_drain::clients::{Load, Staying};
use crate::d16_drain::{World, application, judged, runtime};
use crate::mesh::LIMIT;
use crate::{say, sized};

/// How many leaves each proxy gets; two seconds apart.
const LEAVES: usize = 150;

/// How many clients of each kind there are, and connections that stay at each gateway.
const CLIENTS: usize = 2;
const STAYING: usize = 3;

/// Runs a step of `meshc trust`.
fn meshc(world: &World, step: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(program("meshc")?);
    command.arg("trust").args(step).arg(world.trust());
    run(&mut command).map(drop)
}

fn renew(world: &World) -> Result<(), Failure> {
    let asked = world.ask("POST", "/renewals", "{\"within_s\": 0}")?;
    match asked.status {
        202 => Ok(()),
        _ => Err(Failure::new(asked.body)),
    }
}

/// Waits until a rotation is where it should be.
fn rotation(
    world: &World,
    what: &str,
    is_there: impl Fn(&serde_json::Value) -> bool,
) -> Result<serde_json::Value, Failure> {
    wait_until(what, LIMIT, || {
        let report = world.ask("GET", "/rotation", "")?.json()?;
        if is_there(&report) {
            return Ok(report);
        }
        Err(Failure::new(report.to_string()))
    })
}

fn is_empty(value: &serde_json::Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Certificates that each proxy has taken since it started.
fn renewals(world: &World) -> Result<Vec<usize>, Failure> {
    let logs = world.proxies().map(crate::mesh::Proxy::log);
    logs.map(|log| Ok(log?.matches("certificate renewed").count()))
        .collect()
}

#[test]
fn certificates_and_authorities_are_replaced_and_nothing_is_lost() -> Result<(), Failure> {
    let runtime = runtime()?;
    let (requests, bytes) = runtime.block_on(application::start())?;
    let world = World::start(requests, bytes, ["0s", "10s"])?;
    let load = Load::start(&runtime, &world.balancer, CLIENTS);
    let mut staying = Vec::new();
    for target in &world.balancer.targets {
        staying.push(runtime.block_on(Staying::open(target, STAYING))?);
    }
    wait_until("requests of every kind have been answered", LIMIT, || {
        load.is_under_way()
    })?;

    let leaves = sized(LEAVES);
    for round in 1..=leaves {
        let began = Instant::now();
        renew(&world)?;
        wait_until("every proxy has a new leaf", LIMIT, || {
            let renewed = renewals(&world)?;
            if renewed.iter().all(|count| *count >= round) {
                return Ok(());
            }
            Err(Failure::new(format!("{renewed:?} of {round}")))
        })?;
        std::thread::sleep(Duration::from_secs(2).saturating_sub(began.elapsed()));
    }

    // The root authority. A step before its time is refused where the keys are.
    assert!(meshc(&world, &["authority", "switch"]).is_err());
    meshc(&world, &["authority", "add"])?;
    let old = rotation(&world, "everybody has both authorities", |report| {
        report["trust_bundle"] == 2 && is_empty(&report["without_bundle"])
    })?;
    assert_eq!(old["roots"].as_array().map(Vec::len), Some(2));
    assert!(meshc(&world, &["authority", "drop"]).is_err());
    meshc(&world, &["authority", "switch"])?;
    rotation(&world, "the new authority issues", |report| {
        report["root"] != old["root"]
    })?;
    // And one that keys alone cannot judge waits where it would hurt.
    meshc(&world, &["authority", "drop"])?;
    let waits = rotation(&world, "the drop waits", |report| {
        !is_empty(&report["held"])
    })?;
    assert_eq!(waits["trust_bundle"], 2, "{waits}");
    assert_eq!(
        waits["below_other"].as_array().map(Vec::len),
        Some(4),
        "{waits}"
    );
    renew(&world)?;
    let done = rotation(&world, "the old authority is dropped", |report| {
        report["trust_bundle"] == 3 && is_empty(&report["without_bundle"])
    })?;
    assert_eq!(done["roots"].as_array().map(Vec::len), Some(1));
    assert!(is_empty(&done["held"]), "{done}");

    for open in &mut staying {
        runtime.block_on(open.still_pass())?;
    }
    let (line, failures) = judged(&load.end());
    let failed = world.failed_handshakes()?;
    say(&format!(
        "D4: {leaves} leaves of each of 4 proxies, then the authority: good/failed {line}; {failed} handshakes failed; \
         {} connections lived through all of it",
        staying.len() * 2 * STAYING
    ));
    assert_eq!(failures, Vec::<String>::new());
    assert!(failed < 0.5, "{failed}");
    Ok(())
}
