//! Python's grpcio, client and server.

use mesh_tests::netns::{Mesh, ready};
use mesh_tests::{Failure, run};

/// All four kinds of calls, with metadata both ways, trailers, a status of the server's, and a deadline.
#[test]
fn all_kinds_of_calls_go_through() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let mut mesh = Mesh::start()?;
    mesh.second_proxy(2, "greeter", 9090)?;
    mesh.python_server(2, "greeter.py", 9090)?;
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
