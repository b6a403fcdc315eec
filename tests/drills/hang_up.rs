//! SIGHUP: configuration comes with generations, so there is nothing to read again, and nothing to end for.

use std::process::Command;

use mesh_tests::{Failure, http_get, run, wait_until};

use crate::mesh::{LIMIT, Mesh};

#[test]
fn a_hang_up_changes_nothing() -> Result<(), Failure> {
    let mut mesh = Mesh::start(crate::mesh::free()?)?;
    let served = |mesh: &Mesh| -> Result<_, Failure> {
        let config = mesh.web.admin("/config")?.json()?;
        Ok((config["generation"].clone(), config["slice"].clone()))
    };
    let before = served(&mesh)?;
    let pid = mesh.web.process.id().to_string();
    for _ in 0..3 {
        run(Command::new("kill").args(["-s", "HUP", &pid]))?;
    }
    wait_until("the proxy says so", LIMIT, || {
        let log = std::fs::read_to_string(mesh.web.home.join("log"))?;
        if log.contains("SIGHUP changes nothing") {
            return Ok(());
        }
        Err(Failure::new(log))
    })?;
    assert_eq!(mesh.web.process.ended()?, None);
    assert_eq!(served(&mesh)?, before);
    // It still takes calls; nobody listens for this one.
    let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
    assert_eq!(answer.status, 503, "{answer:?}");
    Ok(())
}
