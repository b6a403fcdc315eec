//! D22: whatever takes logs and traces stands still. Requests are served as before, what waits has a bound, and what is
//! lost is counted.

use std::net::TcpListener;

use mesh_tests::{Failure, wait_until};

use crate::mesh::{LIMIT, Mesh, Proxy, With};
use crate::slow_clients::{application, served};
use crate::{say, sized};

/// What waits for a writer or a collector at most, so that little is enough to fill it.
const WAITING: usize = 50;

fn blocked() -> With {
    With {
        // Nobody ever reads of it.
        before: "mkfifo access.log".to_owned(),
        arguments: [
            "--limit",
            &format!("access_log_lines={WAITING}"),
            "--limit",
            &format!("spans={WAITING}"),
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

fn count(proxy: &Proxy, name: &str) -> Result<f64, Failure> {
    proxy.metric(name, &[])
}

#[test]
fn sinks_that_stand_still_cost_lines_and_spans_and_no_request() -> Result<(), Failure> {
    let requests = sized(20_000);
    let quiet = {
        let mesh = Mesh::start(application()?)?;
        served(&mesh.web, requests)?
    };
    // It takes connections, as the kernel does for it, and never a byte.
    let collector = TcpListener::bind("127.0.0.1:0")?;
    let telemetry = format!(
        "    telemetry {{ traces otlp=\"http://{}\" }}",
        collector.local_addr()?
    );
    let mut mesh = Mesh::start_with(application()?, &telemetry, &blocked(), &blocked())?;
    let before = mesh.api.memory()?;
    let blocked = served(&mesh.web, requests)?;
    let after = mesh.api.memory()?;
    let (lines, spans) = wait_until("losses are counted", LIMIT, || {
        let lines = count(&mesh.api, "mesh_access_log_dropped_total")?;
        let spans = mesh
            .api
            .metric("mesh_spans_dropped_total", &["reason=\"queue_full\""])?;
        if lines > 0.0 && spans > 0.0 {
            return Ok((lines, spans));
        }
        Err(Failure::new(format!("{lines} lines and {spans} spans")))
    })?;
    let callers = count(&mesh.web, "mesh_access_log_dropped_total")?;
    say(&format!(
        "D22: {requests} requests served, median and slowest of a hundred {quiet:?} with sinks that write and {blocked:?} with such that stand still; {lines} lines and {spans} spans lost at the callee, {callers} lines at the caller; its memory went from {before} to {after} bytes"
    ));
    assert!(callers > 0.0, "{callers}");
    // What could pile up otherwise is many times as much.
    assert!(
        after.saturating_sub(before) < 64 << 20,
        "{before} to {after}"
    );
    // Nor does it keep anybody from ending.
    let ended = mesh.web.process.stop()?;
    assert!(ended.success(), "{ended}");
    let ended = mesh.api.process.stop()?;
    assert!(ended.success(), "{ended}");
    Ok(())
}
