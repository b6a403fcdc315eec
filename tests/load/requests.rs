//! Requests for a minute, from programs that count what is not as HTTP has it.

use std::collections::BTreeMap;

use mesh_tests::Failure;
use mesh_tests::netns::{LIMIT, Mesh, ready};

use crate::mesh::start;
use crate::{is_long, say};

#[test]
fn nothing_is_lost_and_nothing_is_wrong() -> Result<(), Failure> {
    if !ready(&["h2load", "wrk"])? {
        return Ok(());
    }
    let seconds = if is_long() { "60" } else { "2" };
    let mut mesh = start()?;
    mesh.nginx_on(1, 8081, "")?;
    mesh.nginx_on(1, 8082, " http2")?;
    for (version, address, words) in [
        ("HTTP/1.1", "10.96.0.41:8081", ["--h1", "-m1"]),
        ("HTTP/2", "10.96.0.42:8082", ["--no-tls-proto=h2c", "-m10"]),
    ] {
        let url = format!("http://{address}/");
        let mut all = vec!["h2load", "-D", seconds, "-c", "100", "-t", "2"];
        all.extend(words);
        all.push(&url);
        let said = mesh.host(0)?.run(&all)?;
        let line = |start: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(start))
                .unwrap_or_default()
        };
        let (requests, statuses) = (line("requests: "), line("status codes: "));
        say(&format!(
            "load: h2load {version}, {seconds} s: {requests}; {statuses}"
        ));
        let is_well = statuses.ends_with(" 0 3xx, 0 4xx, 0 5xx")
            && requests.ends_with(" 0 failed, 0 errored, 0 timeout");
        assert!(is_well, "{said} {:?}", reasons(&mesh)?);
        assert!(!requests.starts_with("0 total"), "{said}");
    }
    let duration = format!("{seconds}s");
    let limit = format!("{}s", LIMIT.as_secs());
    let said = mesh.host(0)?.run(&[
        "wrk",
        "-t2",
        "-c100",
        "-d",
        &duration,
        "--timeout",
        &limit,
        "http://10.96.0.41:8081/",
    ])?;
    let summary = said
        .lines()
        .find(|line| line.contains(" requests in "))
        .unwrap_or_default();
    say(&format!("load: wrk HTTP/1.1: {}", summary.trim()));
    assert!(summary.contains(" read"), "{said}");
    // It only speaks of these where there are some.
    for bad in ["Socket errors", "Non-2xx"] {
        assert!(!said.contains(bad), "{said}");
    }
    Ok(())
}

/// How many requests ended for which reason, at which proxy.
fn reasons(mesh: &Mesh) -> Result<BTreeMap<(&str, String), usize>, Failure> {
    let mut counted = BTreeMap::new();
    for proxy in ["web-0", "storage-1"] {
        for record in mesh.records(proxy)? {
            let reason = record["reason"].to_string();
            *counted.entry((proxy, reason)).or_default() += 1;
        }
    }
    Ok(counted)
}
