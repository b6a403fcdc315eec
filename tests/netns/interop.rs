//! gRPC's interoperability cases through two proxies, between its own Python library and tonic, each of them as
//! client and as server. `tests/programs/interop.proto` has the shapes.

mod client;
mod messages;
mod server;

use mesh_tests::netns::{LIMIT, Mesh, ready};
use mesh_tests::{Failure, run, wait_until};

const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
    defaults { timeout "10s" }
}

service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls tonic
    calls python
}

service tonic {
    port 9090 protocol=grpc
    address "10.96.0.20"
    endpoints { static "10.7.0.2:9090" }
    allow web
}

service python {
    port 9090 protocol=grpc
    address "10.96.0.21"
    endpoints { static "10.7.0.3:9090" }
    allow web
}
"#;

/// What every pair plays.
const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
];

/// What two of Python play beside that: tonic compresses only where it is built for it, and it is not here.
const COMPRESSED: [&str; 4] = [
    "client_compressed_unary",
    "server_compressed_unary",
    "client_compressed_streaming",
    "server_compressed_streaming",
];

#[test]
fn each_library_talks_to_each() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    for (at, service) in [(0, "web"), (1, "tonic"), (2, "python")] {
        mesh.proxy(at, service, &[])?;
        mesh.redirect(at, &["--direction", "both"])?;
    }
    mesh.python_server(2, "interop_server.py", 9090)?;
    let server = server::Server::start(mesh.host(1)?, 9090)?;

    for (address, compressed) in [
        ("10.96.0.20:9090", "plain"),
        ("10.96.0.21:9090", "compressed"),
    ] {
        let mut client = mesh.python(0, "interop_client.py")?;
        let output = run(client.args([address, compressed]))?;
        let played = String::from_utf8(output.stdout)?;
        let more: &[&str] = if compressed == "plain" {
            &[]
        } else {
            &COMPRESSED
        };
        let wanted: Vec<_> = CASES.iter().chain(more).copied().collect();
        assert_eq!(
            played.lines().collect::<Vec<_>>(),
            wanted,
            "from Python to {address}"
        );

        let played = client::play(mesh.host(0)?, address)?;
        assert_eq!(played, CASES, "from tonic to {address}");
    }
    drop(server);

    // Every call was of the mesh. What ended before its time was taken back, or late.
    let records = wait_until("the records of all calls", LIMIT, || {
        let records = mesh.records("web-0")?;
        let of = |reason: &str| {
            records
                .iter()
                .filter(|each| each["reason"] == reason)
                .count()
        };
        let (back, late) = (of("client_disconnect"), of("request_timeout"));
        if back >= 4 && back + late >= 8 {
            return Ok(records);
        }
        Err(Failure::new(format!(
            "{back} taken back, {late} late: {records:#?}"
        )))
    })?;
    for record in records {
        assert_eq!(record["protocol"], "grpc", "{record}");
        let reason = record["reason"].as_str();
        let ours = matches!(reason, None | Some("client_disconnect" | "request_timeout"));
        assert!(ours, "{record}");
        // Of a call that was taken back before its answer nobody knows who would have given it.
        if reason.is_none() {
            assert_eq!(record["tls"], "TLSv1.3", "{record}");
        }
    }
    Ok(())
}
