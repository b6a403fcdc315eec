//! Where nobody is taken: bad-inputs row 73, drill D21.

use mesh_tests::Failure;
use mesh_tests::netns::{Host, Mesh, ready};

/// Nothing comes back but the end of the connection.
fn is_refused(from: &Host, url: &str) -> Result<(), Failure> {
    let got = from.curl(&["--globoff", url])?;
    assert_eq!(got.status, 0, "{url}: {got:?}");
    let ended = [
        "Connection refused",
        "reset by peer",
        "Failed to connect",
        "Couldn't connect",
        "Empty reply",
    ];
    assert!(
        ended.iter().any(|how| got.said.contains(how)),
        "{url}: {got:?}"
    );
    Ok(())
}

#[test]
fn what_policy_does_not_name_is_not_reached() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mut mesh = Mesh::start()?;
    mesh.nginx_at_the_switch(8001, None)?;
    let web = mesh.host(0)?;
    // It is there, and the way is barred.
    let got = web.curl(&["http://10.7.0.254:8001/"])?;
    assert_eq!(got.status, 403, "{got:?}");
    let record = mesh.record("web-0", |record| record["reason"] == "authz_denied")?;
    assert_eq!(record["reporter"], "source");
    // No name at a strange address leads into the mesh.
    let got = web.curl(&["--header", "Host: api", "http://10.7.0.254:8001/"])?;
    assert_eq!(got.status, 403, "{got:?}");
    // `greeter` may be called by `web` alone, and `api` does not even know it.
    let got = mesh.host(1)?.curl(&["http://10.96.0.20:9090/"])?;
    assert_eq!(got.status, 403, "{got:?}");
    // What is skipped goes past the proxy.
    mesh.redirect(0, &["--skip-outbound-cidr", "10.7.0.254/32"])?;
    let got = mesh.host(0)?.curl(&["http://10.7.0.254:8001/"])?;
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, "switch 8001\n"),
        "{got:?}"
    );
    Ok(())
}

/// "from another pod: connect straight to inbound, outbound, admin, metrics".
#[test]
fn strangers_reach_no_port_of_a_proxy() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    let stranger = &mesh.network.switch;
    let api = mesh.host(1)?;
    for host in [api.v4(), format!("[{}]", api.v6())] {
        for port in [15001, 15006, 15021, 15090, 1] {
            is_refused(stranger, &format!("http://{host}:{port}/"))?;
        }
    }
    let loops = mesh.records("api-1")?;
    let count = |reason: &str| {
        loops
            .iter()
            .filter(|record| record["reason"] == reason)
            .count()
    };
    assert!(count("loop") >= 4, "{loops:?}");
    assert!(count("no_route") >= 2, "{loops:?}");
    // By the address that only its neighbours know.
    let link_local = api.link_local()?;
    is_refused(stranger, &format!("http://[{link_local}%25eth0]:8080/"))?;
    let begin = format!("[{link_local}");
    mesh.record("api-1", |record| {
        record["reason"] == "authz_denied"
            && record["destination"]
                .as_str()
                .is_some_and(|to| to.starts_with(&begin))
    })?;
    // It goes on as before.
    let got = mesh.host(0)?.curl(&["http://10.7.0.2:8080/"])?;
    assert_eq!(got.status, 200, "{got:?}");
    Ok(())
}

/// "original destination = our own port, loopback, 169.254.169.254, link-local, scoped IPv6".
#[test]
fn an_application_is_led_neither_home_nor_to_the_metadata() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    let web = mesh.host(0)?;
    is_refused(web, "http://169.254.169.254/latest/meta-data/")?;
    // The kernel may drop these before anybody can refuse them.
    for port in [8080, 15001] {
        let url = format!("http://[fe80::1%25eth0]:{port}/");
        let got = web.curl(&["--globoff", "--max-time", "2", &url])?;
        assert_eq!(got.status, 0, "{got:?}");
    }
    let record = mesh.record("web-0", |record| {
        record["destination"] == "169.254.169.254:80"
    })?;
    assert_eq!(
        (&record["reason"], &record["reporter"]),
        (&"authz_denied".into(), &"source".into())
    );
    // Its own host is its own business, and no way around either.
    is_refused(web, "http://10.7.0.1:8080/")?;
    let got = web.curl(&["--header", "Host: web", "http://127.0.0.1:15001/"])?;
    assert_eq!(got.status, 403, "{got:?}");
    let got = web.curl(&["http://10.96.0.10:8080/"])?;
    assert_eq!(got.status, 200, "{got:?}");
    Ok(())
}
