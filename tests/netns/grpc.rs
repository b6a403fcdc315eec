//! Python's grpcio, client and server.

use std::process::Stdio;

use mesh_tests::{Failure, Running, run, wait_until};

use crate::mesh::Mesh;
use crate::network::LIMIT;
use crate::tools::ready;

/// All four kinds of calls, with metadata both ways, trailers, a status of the server's, and a deadline.
#[test]
fn all_kinds_of_calls_go_through() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let mut mesh = Mesh::start()?;
    mesh.proxy(
        2,
        "greeter",
        &[
            "--outbound",
            "127.0.0.1:25001",
            "--inbound-port",
            "25006",
            "--metrics",
            "127.0.0.1:25090",
            "--health",
            "127.0.0.1:25021",
        ],
    )?;
    mesh.redirect(2, &["--inbound-port", "25006", "--inbound", "9090"])?;
    let folder = tempfile::tempdir()?;
    let ready_file = folder.path().join("ready");
    let mut server = mesh.python(2, "greeter.py")?;
    server.arg("[::]:9090").arg(&ready_file);
    let mut server = Running::start(server.stdin(Stdio::null()))?;
    wait_until("the server listens", LIMIT, || match server.ended()? {
        Some(status) => Ok(Err(Failure::new(format!("it ended with {status}")))),
        None if ready_file.exists() => Ok(Ok(())),
        None => Err(Failure::new("it does not say so")),
    })??;
    mesh.keep(server);
    let mut client = mesh.python(0, "greet.py")?;
    let output = run(client.args(["10.96.0.20:9090", "spiffe://netns.example/service/web"]))?;
    assert_eq!(String::from_utf8(output.stdout)?, "ok\n");
    let record = mesh.record("web-0", |record| record["protocol"] == "grpc")?;
    assert_eq!(
        (&record["service"], &record["tls"]),
        (&"greeter".into(), &"TLSv1.3".into())
    );
    Ok(())
}
