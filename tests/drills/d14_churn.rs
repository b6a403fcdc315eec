//! D14: a fifth of the endpoints is replaced again and again under load. No request fails, whether an endpoint went
//! before policy said so or after (a connection that nobody had taken yet is then reset, which for these requests is as
//! good as refused); those that stay keep their connections, and none to those that left remains.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, wait_until};

use crate::backend::{Backend, load};
use crate::mesh::{LIMIT, Wide, free};
use crate::{is_long, say};

const ENDPOINTS: usize = 10;

fn endpoints(of: &VecDeque<Backend>) -> Result<String, Failure> {
    let mut text = String::new();
    for backend in of {
        write!(text, "static \"{}\"; ", backend.address)?;
    }
    Ok(text)
}

#[test]
fn endpoints_come_and_go_and_no_request_fails() -> Result<(), Failure> {
    let (per_second, lasts, every) = if is_long() {
        (500, Duration::from_mins(5), Duration::from_secs(5))
    } else {
        (200, Duration::from_secs(6), Duration::from_millis(500))
    };
    let mut present: VecDeque<_> = (0..ENDPOINTS)
        .map(|_| Backend::start())
        .collect::<Result<_, _>>()?;
    let mut written = endpoints(&present)?;
    let wide = Wide::start(&format!(
        "mesh drills {{ trust-domain \"drills.example\" }}
service web {{ port 8080; calls pool; endpoints {{ static \"127.0.0.1:1\" }} }}
service pool {{
    port 8080
    unmeshed
    endpoints {{ {written}}}
    retry connect-failure reset attempts=3
}}
"
    ))?;
    let web = wide.proxy("web", free()?, free()?)?;
    load(web.outbound, "pool", "/", 200, Duration::from_secs(1))?;
    let before = web.descriptors()?;

    let outbound = web.outbound;
    let asking = std::thread::spawn(move || load(outbound, "pool", "/", per_second, lasts));
    let (mut replaced, mut dialled, mut left) = (0, 0, Vec::new());
    while !asking.is_finished() {
        let next = Instant::now() + every;
        let going: Vec<_> = present.drain(..ENDPOINTS / 5).collect();
        // Some vanish before anybody knows, others when nobody may ask them any more.
        for backend in going.iter().skip(1) {
            backend.stop();
        }
        for _ in &going {
            present.push_back(Backend::start()?);
        }
        let new = endpoints(&present)?;
        wide.rewrite(&written, &new, &web)?;
        written = new;
        replaced += going.len();
        for backend in going {
            dialled = dialled.max(backend.accepted());
            left.push(backend);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let statuses = asking
        .join()
        .map_err(|_panic| Failure::new("the load ended"))??;
    let failed = statuses.iter().filter(|status| **status != 200).count();
    wait_until("those that left have no connections", LIMIT, || {
        let open: usize = left.iter().map(Backend::open).sum();
        match open {
            0 => Ok(()),
            _ => Err(Failure::new(format!("{open} are open"))),
        }
    })?;
    let after = web.descriptors()?;
    say(&format!(
        "D14: {} requests while {replaced} endpoints were replaced, {failed} failed; at most {dialled} connections to one; {before} descriptors before, {after} after",
        statuses.len()
    ));
    if failed > 0 {
        let log = std::fs::read_to_string(web.home.join("access.log"))?;
        let mut lines = log.lines().filter(|line| !line.contains("\"code\":200"));
        let first: Vec<_> = lines.by_ref().take(3).collect();
        return Err(Failure::new(first.join("\n")));
    }
    assert!(replaced >= ENDPOINTS, "{replaced}");
    // Each stays for five rounds: one that is dialled anew in each of them would have more.
    assert!(dialled <= CONNECTIONS_MAX, "{dialled}");
    // As many endpoints as before, with as many connections at most.
    assert!(after <= before + ENDPOINTS * 2, "{before}, then {after}");
    Ok(())
}

/// As many as ask at once, from each of two workers.
const CONNECTIONS_MAX: usize = 16;
