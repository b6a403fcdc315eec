//! D15: ten thousand routes and as many endpoints of a thousand hosts, all of which one proxy knows. Each request goes
//! where policy says, memory stays bounded, and a new generation is taken while requests pass. How long a lookup takes
//! is measured by `cargo bench -p mesh-engine`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, http_get, wait_until};

use crate::backend::{Backend, load};
use crate::mesh::{LIMIT, Proxy, Wide, free};
use crate::{say, sized};

/// Of each host.
const ROUTES: usize = 10;
const ENDPOINTS: usize = 10;
const MEMORY_MAX: usize = 60 << 20;

/// Those of a host.
fn addresses(host: usize, port: u16) -> impl Iterator<Item = String> {
    let numbers = (0..ENDPOINTS).map(move |endpoint| host * ENDPOINTS + endpoint);
    numbers.map(move |number| format!("127.1.{}.{}:{port}", number / 250, number % 250 + 1))
}

/// Every endpoint is an address of this host, and all of them are one application.
fn policy(hosts: usize, port: u16) -> Result<String, Failure> {
    let mut text = String::from(
        "mesh drills { trust-domain \"drills.example\" }
service web {
    port 8080
    endpoints { static \"127.0.0.1:1\" }
",
    );
    for host in 0..hosts {
        writeln!(text, "    calls s{host}")?;
    }
    text.push_str("}\n");
    for host in 0..hosts {
        write!(
            text,
            "service s{host} {{\n    port 8080\n    unmeshed\n    endpoints {{ static"
        )?;
        for address in addresses(host, port) {
            write!(text, " \"{address}\"")?;
        }
        text.push_str(" }\n");
        for route in 0..ROUTES {
            writeln!(
                text,
                "    route r{route} {{ match {{ path \"/r{route}/**\" }}; timeout \"{}s\" }}",
                route + 1
            )?;
        }
        text.push_str("}\n");
    }
    Ok(text)
}

#[test]
fn ten_thousand_routes_and_endpoints_of_a_thousand_hosts() -> Result<(), Failure> {
    let hosts = sized(1_000);
    let application = Backend::at(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let port = application.address.port();
    let text = policy(hosts, port)?;
    let wide = Wide::start(&text)?;
    let web = wide.proxy("web", free()?, free()?)?;

    let memory = web.memory()?;
    let outbound = web.outbound;
    let asking =
        std::thread::spawn(move || load(outbound, "s0", "/r0/x", 200, Duration::from_secs(5)));
    let old = "route r0 { match { path \"/r0/**\" }; timeout \"1s\" }";
    let new = "route r0 { match { path \"/r0/**\" }; timeout \"1500ms\" }";
    let began = Instant::now();
    wide.rewrite(old, new, &web)?;
    let took = began.elapsed();
    let statuses = asking
        .join()
        .map_err(|_panic| Failure::new("the load ended"))??;
    let after = web.memory()?;
    let swap = web.admin("/config")?.json()?["swap_ns"].clone();
    let mib = |bytes: usize| bytes >> 20;
    say(&format!(
        "D15: {hosts} hosts, {} routes, {} endpoints: {} MiB, {} MiB after another generation, which served {took:?} after its commit; its swap took {swap} ns",
        hosts * ROUTES,
        hosts * ENDPOINTS,
        mib(memory),
        mib(after),
    ));
    let failed = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(failed, 0, "of {}", statuses.len());
    assert!(memory < MEMORY_MAX, "{memory}");
    // FIXME: while two generations are at hand the heap grows, and little of it goes back to the system (75 MiB).
    assert!(after < MEMORY_MAX * 3 / 2, "{after}");
    each_goes_where_it_should(&web, &application, hosts, statuses.len())
}

/// Asks each host once, each time by another route. So many lines of the log are of others.
fn each_goes_where_it_should(
    web: &Proxy,
    application: &Backend,
    hosts: usize,
    others: usize,
) -> Result<(), Failure> {
    let before = application.asked();
    let port = application.address.port();
    let mut asked = Vec::new();
    for host in 0..hosts {
        let route = host % ROUTES;
        let name = format!("s{host}");
        let answer = http_get(web.outbound, &name, &format!("/r{route}/x"), &[])?;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        asked.push((host, name, format!("r{route}")));
    }
    assert_eq!(application.asked() - before, hosts);
    let answer = http_get(web.outbound, "s0", "/other", &[])?;
    assert_eq!(answer.status, 404, "{answer:?}");
    let logged = wait_until("all are in the log", LIMIT, || {
        let log = std::fs::read_to_string(web.home.join("access.log"))?;
        let lines: Vec<serde_json::Value> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if lines.len() > others + hosts {
            return Ok(lines);
        }
        Err(Failure::new(format!("{} lines", lines.len())))
    })?;
    for ((host, name, route), line) in asked.iter().zip(logged.iter().skip(others)) {
        assert_eq!(line["route"], route.as_str(), "{name}: {line}");
        assert_eq!(line["service"], name.as_str(), "{line}");
        let upstream = line["upstream"].as_str().unwrap_or_default();
        let is_of_it = addresses(*host, port).any(|address| address == upstream);
        assert!(is_of_it, "{name}: {line}");
    }
    let connected = web.memory()? >> 20;
    say(&format!(
        "D15: {connected} MiB once it has a connection to each host"
    ));
    Ok(())
}
