//! D9: hosts vanish without a word, in the middle of everything. Whoever waits for them is told within half a minute,
//! and a host that has lost its callers holds nothing for them any longer.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mesh_tests::netns::{LIMIT, Mesh, ready};
use mesh_tests::{Failure, Running, wait_until};

use crate::say;

const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
    defaults { timeout "5m" stream-idle="5m" }
}

service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls files
    calls greeter
    calls vault
}

service files {
    port 8080
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.40"
    endpoints { static "10.7.0.2:8080" }
    allow web
}

service greeter {
    port 9090 protocol=grpc
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.20"
    endpoints { static "10.7.0.2:9090" }
    allow web
}

service vault {
    port 7000 protocol=tcp
    address "10.96.0.30"
    endpoints { static "10.7.0.3:7000" }
    allow web
}
"#;

/// What each exchange ends with at its client. None of it is the end of anything whole.
const ENDINGS: [(&str, &str); 6] = [
    ("pending", "answer HTTP/1.1 503 Service Unavailable"),
    ("download", "broken off"),
    ("upload", "broken off"),
    ("call", "UNAVAILABLE"),
    ("silent", "ConnectionResetError"),
    ("talking", "ConnectionResetError"),
];

const FOUND_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn hosts_that_vanish_are_found_out() -> Result<(), Failure> {
    if !ready(&["ci-python", "iptables"])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    for (at, service) in [(0, "web"), (1, "storage"), (2, "vault")] {
        mesh.proxy(at, service, &[])?;
        mesh.redirect(at, &["--direction", "both"])?;
    }
    mesh.python_server(1, "streams.py", 8080)?;
    mesh.python_server(1, "greeter.py", 9090)?;
    mesh.python_server(2, "bytes.py", 7000)?;

    let said = mesh.path("said");
    let mut client = mesh.python(0, "half_open.py")?;
    client.args(["10.96.0.40:8080", "10.96.0.20:9090", "10.96.0.30:7000"]);
    let _client = Running::start(client.stdin(Stdio::null()).stdout(fs::File::create(&said)?))?;
    let lines = || -> Result<Vec<(String, String)>, Failure> {
        let text = fs::read_to_string(&said)?;
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .map(|(case, what)| (case.into(), what.into()))
            .collect())
    };
    wait_until("everything has begun", LIMIT, || {
        let lines = lines()?;
        let begun = lines.iter().filter(|(_, what)| what == "begun").count();
        if begun == ENDINGS.len() {
            return Ok(());
        }
        Err(Failure::new(format!("{lines:?}")))
    })?;

    for host in [1, 2] {
        for (chain, direction) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            let rule = ["iptables", "-I", chain, direction, "eth0", "-j", "DROP"];
            mesh.host(host)?.run(&rule)?;
        }
    }
    let vanished = Instant::now();
    let mut ended = BTreeMap::new();
    wait_until("everything has ended", 2 * FOUND_WITHIN, || {
        for (case, how) in lines()? {
            if how != "begun" {
                ended
                    .entry(case)
                    .or_insert_with(|| (how, vanished.elapsed()));
            }
        }
        if ended.len() == ENDINGS.len() {
            return Ok(());
        }
        Err(Failure::new(format!("{ended:?}")))
    })?;
    for (case, (how, after)) in &ended {
        say(&format!(
            "D9: {case}: {how} after {:.1} s",
            after.as_secs_f64()
        ));
        let wanted = ENDINGS.iter().find(|(each, _)| each == case);
        assert_eq!(wanted.map(|(_, how)| *how), Some(how.as_str()), "{case}");
        assert!(*after <= FOUND_WITHIN, "{case} {after:?}");
    }
    // Each of them has a reason, and so they have where the callers vanished.
    for (proxy, count, reason) in [
        ("web-0", ENDINGS.len(), "upstream_reset"),
        ("storage-1", 4, "client_disconnect"),
        ("vault-2", 2, "client_disconnect"),
    ] {
        wait_until("the records of a proxy", FOUND_WITHIN, || {
            let records = mesh.records(proxy)?;
            let told = records.iter().filter(|record| record["reason"] == reason);
            if told.count() == count {
                return Ok(());
            }
            Err(Failure::new(format!("{proxy}: {records:#?}")))
        })?;
    }
    say(&format!(
        "D9: all {} ends of connections gone after {:.1} s",
        2 * ENDINGS.len(),
        vanished.elapsed().as_secs_f64()
    ));
    Ok(())
}
