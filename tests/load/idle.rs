//! Connections that lie idle, and what each costs. How many are idle at once in the called proxy depends on the
//! protocol: bytes have a connection with mTLS for each, requests share those that the calling proxy keeps.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use mesh_tests::netns::ready;
use mesh_tests::{Failure, allow_descriptors};

use crate::memory::Memory;
use crate::mesh::{FILES, PAGES, VAULT, memory, start};
use crate::{is_long, say};

/// What is held, where, and what one may cost. FIXME: none should cost more than 20 KiB. One of HTTP/1.1 takes 20.7, and
/// one of HTTP/2 29.7, for h2 holds buffers for as long as a connection lasts and lets nobody say otherwise.
const KINDS: [(&str, &str, usize); 3] = [
    ("http1", FILES, 21 * 1024),
    ("http2", PAGES, 31 * 1024),
    ("tcp", VAULT, 20 * 1024),
];

/// Descriptors that a proxy wants for each connection that it takes: one for it and one upstream, in both directions.
/// With fewer it takes fewer, and lets idle ones go for others.
const DESCRIPTORS_EACH: usize = 4;
/// Descriptors that it keeps for itself.
const DESCRIPTORS_OWN: usize = 64;

#[test]
fn idle_connections_cost_little() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let wanted = if is_long() { 10_000 } else { 1_000 };
    let needed = u64::try_from(DESCRIPTORS_EACH * wanted + DESCRIPTORS_OWN)?;
    let allowed = usize::try_from(allow_descriptors(needed)?)?;
    let count = wanted.min(allowed.saturating_sub(DESCRIPTORS_OWN) / DESCRIPTORS_EACH);
    if count < wanted {
        say(&format!(
            "load: {count} idle connections instead of {wanted}: there are {allowed} descriptors"
        ));
    }
    let mut costs = Vec::new();
    for (kind, address, most) in KINDS {
        // Each in a mesh of its own: what one has left free would be taken by the next.
        let mut mesh = start()?;
        mesh.python_server(1, "big.py", 8080)?;
        mesh.python_server(1, "big.py", 7000)?;
        mesh.nginx_on(1, 8082, " http2")?;
        let proxies = memory(&mesh)?;
        let hold = |count: usize| -> Result<[usize; 2], Failure> {
            let mut client = mesh.python(0, "idle.py")?;
            client.args([kind, address, &count.to_string()]);
            let mut client = client
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let input = client.stdin.take();
            let mut said = String::new();
            if let Some(output) = client.stdout.take() {
                BufReader::new(output).read_line(&mut said)?;
            }
            let held = own(proxies)?;
            drop(input);
            let status = client.wait()?;
            if said == "ok\n" && status.success() {
                return Ok(held);
            }
            Err(Failure::new(format!("{kind}: {said:?} {status}")))
        };
        // What is there once, however many there are.
        let few = hold(count / 10)?;
        let many = hold(count)?;
        let each = |at: usize| many[at].saturating_sub(few[at]) / (count - count / 10);
        say(&format!(
            "load: {count} idle {kind}: {} bytes each in the calling proxy, {} in the called one",
            each(0),
            each(1)
        ));
        costs.push((kind, each(0).max(each(1)), most));
    }
    for (kind, cost, most) in costs {
        // Few connections tell less precisely what one costs.
        let most = if count < 4_000 { most + most / 4 } else { most };
        assert!(cost <= most, "{kind}: {cost}");
    }
    Ok(())
}

fn own(proxies: [Memory; 2]) -> Result<[usize; 2], Failure> {
    Ok([proxies[0].own()?, proxies[1].own()?])
}
