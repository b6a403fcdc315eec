//! D6: the clock of one proxy is wrong: ahead, behind, and an hour back at once. Within the leeway of five minutes
//! nothing happens; beyond it what cannot be judged is refused, nothing panics and nothing spins, and a clock that is
//! right again is all that it takes.

use std::time::Duration;

use mesh_tests::{Failure, wait_until};

use crate::d16_drain::clients::{Load, Staying, late};
use crate::d16_drain::{World, application, judged, runtime};
use crate::faketime::Clock;
use crate::mesh::LIMIT;
use crate::say;

/// The time for which a proxy with a wrong clock is watched.
const WATCHED: Duration = Duration::from_secs(3);

#[test]
fn a_wrong_clock_panics_nobody_and_spins_nothing() -> Result<(), Failure> {
    let clocks = tempfile::tempdir()?;
    let Some(clock) = Clock::new(clocks.path(), "clock")? else {
        return Ok(());
    };
    let runtime = runtime()?;
    let (requests, bytes) = runtime.block_on(application::start())?;
    let plain = crate::mesh::With::default();
    // Every proxy goes by the wrong clock, and the distributor by the true one.
    let world = World::start_with(requests, bytes, ["0s", "10s"], (&plain, &clock.with(&[])))?;
    let target = world
        .balancer
        .targets
        .first()
        .ok_or_else(|| Failure::new("a gateway"))?;
    let mut staying = runtime.block_on(Staying::open(target, 3))?;
    let load = Load::start(&runtime, &world.balancer, 1);
    wait_until("requests of every kind have been answered", LIMIT, || {
        load.is_under_way()
    })?;
    // Certificates hold from five minutes before they were issued, for a day.
    for offset in ["+4m", "-4m", "+10m", "+0s"] {
        clock.set(offset)?;
        for _ in 0..5 {
            runtime.block_on(late(target))?;
        }
    }
    let (line, failures) = judged(&load.end());
    assert_eq!(failures, Vec::<String>::new());

    let mut spent = Vec::new();
    for offset in ["-10m", "-70m", "-10m"] {
        clock.set(offset)?;
        // Not valid yet: refused, where nobody can know better.
        wait_until("new handshakes are refused", LIMIT, || {
            match runtime.block_on(late(target)) {
                Err(_refused) => Ok(()),
                Ok(()) => Err(Failure::new("it went through")),
            }
        })?;
        runtime.block_on(staying.still_pass())?;
        let before = ticks(&world)?;
        std::thread::sleep(WATCHED);
        spent.push(ticks(&world)? - before);
    }
    clock.set("+0s")?;
    wait_until("new handshakes are made again", LIMIT, || {
        runtime.block_on(late(target))
    })?;
    runtime.block_on(staying.still_pass())?;
    for proxy in world.proxies() {
        let log = proxy.log()?;
        assert!(!log.contains("panicked"), "{log}");
        let ready = proxy.admin("/config")?;
        assert_eq!(ready.status, 200, "{ready:?}");
    }
    say(&format!(
        "D6: within 5 min, and 10 min ahead: {line}; 10 and 70 min behind: new handshakes refused, old connections go \
         on, 4 proxies took {spent:?} ticks of 10 ms in {WATCHED:?} each"
    ));
    // All of them together, on a machine that is busy: a timer that spins takes a processor, 300 ticks.
    assert!(spent.iter().all(|ticks| *ticks < 150), "{spent:?}");
    Ok(())
}

fn ticks(world: &World) -> Result<u64, Failure> {
    world.proxies().map(crate::mesh::Proxy::ticks).sum()
}
