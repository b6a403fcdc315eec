//! WebSockets over HTTP/2 (RFC 8441) from one PyPI library to another, through two proxies. Those over HTTP/1.1 are
//! tried beside the data plane.

use mesh_tests::netns::{Mesh, ready};
use mesh_tests::{Failure, run};

const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
}

service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls echo
}

service echo {
    port 8083
    address "10.96.0.50"
    endpoints { static "10.7.0.2:8083" }
    allow web
}
"#;

#[test]
fn messages_of_every_kind_pass_over_http2() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    for (at, service) in [(0, "web"), (1, "echo")] {
        mesh.proxy(at, service, &[])?;
        mesh.redirect(at, &["--direction", "both"])?;
    }
    mesh.python_server(1, "websocket_h2_server.py", 8083)?;
    let mut client = mesh.python(0, "websocket_h2_client.py")?;
    let caller = "spiffe://netns.example/service/web";
    let output = run(client.args(["10.96.0.50:8083", caller]))?;
    assert_eq!(
        String::from_utf8(output.stdout)?,
        "open\nshort\nfragmented\nping\nlarge\nclose\n"
    );
    for proxy in ["web-0", "echo-1"] {
        let record = mesh.record(proxy, |record| record["path"] == "/echo")?;
        // How it ended is hypercorn's affair, which stumbles over the end of a stream.
        assert!(record["bytes_in"].as_u64() > Some(16 << 20), "{record}");
    }
    Ok(())
}
