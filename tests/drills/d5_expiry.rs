//! D5: every certificate expires while the issuer is down. New handshakes fail closed and say why, connections that
//! were made before go on, and when the issuer is back nobody has to do anything.

use std::time::Duration;

use mesh_tests::{Failure, wait_until, within};

use crate::d16_drain::clients::{Staying, late};
use crate::d16_drain::{World, application, runtime};
use crate::faketime::Clock;
use crate::mesh::{LIMIT, serve};
use crate::say;

/// From when the issuer is back until new connections are made.
const RECOVERY: Duration = Duration::from_secs(5);

#[test]
fn certificates_that_expire_with_the_issuer_down_fail_closed_and_come_back() -> Result<(), Failure>
{
    let clocks = tempfile::tempdir()?;
    let Some(clock) = Clock::new(clocks.path(), "clock")? else {
        return Ok(());
    };
    let runtime = runtime()?;
    let (requests, bytes) = runtime.block_on(application::start())?;
    let issuer = clock.with(&["--svid-life", "10m"]);
    let mut world = World::start_with(requests, bytes, ["0s", "10s"], (&issuer, &clock.with(&[])))?;
    let target = world
        .balancer
        .targets
        .first()
        .ok_or_else(|| Failure::new("a gateway"))?;
    let mut staying = runtime.block_on(Staying::open(target, 3))?;
    runtime.block_on(late(target))?;

    world.distributor.stop()?;
    clock.set("+11m")?;
    wait_until("every proxy has seen its certificate expire", LIMIT, || {
        for proxy in world.proxies() {
            let log = proxy.log()?;
            if !log.contains("the certificate has expired") {
                return Err(Failure::new(log));
            }
        }
        Ok(())
    })?;
    // A new connection of bytes is a new handshake.
    assert!(runtime.block_on(late(target)).is_err());
    let failed = world.failed_handshakes()?;
    assert!(failed > 0.5, "{failed}");
    let mut expired = 0.0;
    for proxy in world.proxies() {
        expired += proxy.metric("mesh_tls_handshakes_failed_total", &["reason=\"expired\""])?;
    }
    assert!(
        expired >= failed - 0.5,
        "{expired} of {failed} for that reason"
    );
    runtime.block_on(staying.still_pass())?;

    world.distributor = serve(world.folder.path(), world.listen, &issuer)?;
    let ((), recovered) = within("new connections are made again", LIMIT, || {
        runtime.block_on(late(target))
    })?;
    runtime.block_on(staying.still_pass())?;
    say(&format!(
        "D5: {failed} handshakes failed closed as expired, 6 connections went on; new ones {recovered:?} after the \
         issuer was back"
    ));
    assert!(recovered < RECOVERY, "{recovered:?}");
    Ok(())
}
