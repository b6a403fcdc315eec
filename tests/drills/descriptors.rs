//! D7: file descriptors run out. Whoever operates the proxy still reaches it, it does not spin, and when clients leave
//! it takes others.

use std::time::{Duration, Instant};

use mesh_tests::{Failure, http_get, wait_until};

use crate::mesh::{LIMIT, Mesh, With};
use crate::say;
use crate::slow_clients::{application, connections, served};

const DESCRIPTORS: usize = 256;
const CLIENTS: usize = 1_000;

#[test]
fn clients_never_take_the_last_descriptor() -> Result<(), Failure> {
    let few = With {
        before: format!("ulimit -n {DESCRIPTORS}"),
        ..With::default()
    };
    let mesh = Mesh::start_with(application()?, "", &few, &With::default())?;
    served(&mesh.web, 10)?;
    let (started, ticks) = (Instant::now(), mesh.web.ticks()?);
    let clients = connections(mesh.web.outbound, CLIENTS, b"")?;
    let mut asked = 0;
    let mut most = 0;
    // As long as a silent client may stay.
    while started.elapsed() < Duration::from_secs(8) {
        let answer = mesh.web.admin("/config")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        most = most.max(mesh.web.descriptors()?);
        asked += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let percent =
        (mesh.web.ticks()? - ticks) * 1_000 / u64::try_from(started.elapsed().as_millis())?;
    say(&format!(
        "D7: {CLIENTS} clients, {DESCRIPTORS} descriptors: at most {most} open, {percent} % of a processor, the admin socket answered {asked} times"
    ));
    assert!(most < DESCRIPTORS, "{most}");
    // Whoever waits for nothing makes room for others, and nobody is refused without being counted.
    let reached = ["limit=\"connections\""];
    let reached = mesh.web.metric("mesh_limits_reached_total", &reached)?;
    let shed = ["reason=\"overload_shed\""];
    let shed = mesh.web.metric("mesh_refused_connections_total", &shed)?;
    say(&format!(
        "D7: no place {reached} times, {shed} connections shed"
    ));
    assert!(reached >= 1.0 && shed >= 1.0, "{reached}, {shed}");
    // One that spins takes all of a processor.
    assert!(percent < 25, "{percent} %");
    drop(clients);
    wait_until("clients are served again", LIMIT, || {
        let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
        match answer.status {
            200 => Ok(()),
            _ => Err(Failure::new(format!("{answer:?}"))),
        }
    })?;
    served(&mesh.web, 10).map(drop)
}
