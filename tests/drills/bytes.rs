//! D19: everything that TCP can do with a connection, through two proxies as without them: ends of each direction,
//! resets, lingering, a server that speaks first, single bytes, urgent ones. Both directions are counted.

use mesh_tests::netns::{LIMIT, Mesh, ready};
use mesh_tests::{Failure, run, wait_until};

use crate::say;

const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
}

service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls vault
}

service vault {
    port 7000 protocol=tcp
    address "10.96.0.30"
    endpoints { static "10.7.0.2:7000" }
    allow web
}
"#;

const CASES: [&str; 8] = [
    "server_first",
    "half_close_by_client",
    "half_close_by_server",
    "reset_by_server",
    "reset_by_client",
    "linger",
    "single_bytes",
    "urgent",
];

#[test]
fn connections_of_bytes_are_as_without_proxies() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    for (at, service) in [(0, "web"), (1, "vault")] {
        mesh.proxy(at, service, &[])?;
        mesh.redirect(at, &["--direction", "both"])?;
    }
    mesh.python_server(1, "bytes_server.py", 7000)?;
    let mut client = mesh.python(0, "bytes_client.py")?;
    let output = run(client.args(["10.96.0.30", "7000"]))?;
    let played = String::from_utf8(output.stdout)?;
    assert_eq!(played.lines().collect::<Vec<_>>(), CASES);

    // Received and sent, as the client has it.
    let counted = [
        (1, 6 + 3),
        (1 + 80_000, 6 + 80_000 + 7),
        (1 + 100_000, 6 + 3),
        (1, 6 + 2_000_000),
        (1 + 2_000, 6 + 2_000 + 6),
        (1 + 14, 6 + 14),
    ];
    for proxy in ["web-0", "vault-1"] {
        for (received, sent) in counted {
            mesh.record(proxy, |record| {
                record["bytes_in"] == received
                    && record["bytes_out"] == sent
                    && record["reason"].is_null()
            })?;
        }
        // Who broke off is told, at both ends.
        for reason in ["upstream_reset", "client_disconnect"] {
            wait_until("a record of a reset", LIMIT, || {
                let records = mesh.records(proxy)?;
                let told = records.iter().filter(|record| record["reason"] == reason);
                if told.count() == 1 {
                    return Ok(());
                }
                Err(Failure::new(format!("{proxy} {reason}: {records:#?}")))
            })?;
        }
    }
    say(&format!(
        "D19: {} cases as without proxies; every byte counted in both directions by both",
        CASES.len()
    ));
    Ok(())
}
