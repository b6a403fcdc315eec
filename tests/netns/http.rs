//! curl and nginx, neither of which knows of the mesh.

use std::collections::BTreeSet;

use mesh_tests::Failure;
use mesh_tests::netns::{Mesh, ready};

const CALLER: &str = "spiffe://netns.example/service/web";

/// design.md, "Finding the service": the destination's address first, `Host` inside it.
#[test]
fn a_service_is_called_by_its_virtual_address() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    let web = mesh.host(0)?;
    let mut answered = BTreeSet::new();
    for _ in 0..10 {
        let got = web.curl(&["--resolve", "shop:8080:10.96.0.10", "http://shop:8080/a"])?;
        assert_eq!(got.status, 200, "{got:?}");
        let (number, rest) = got.body.trim().split_once(' ').unwrap_or_default();
        assert_eq!(rest, format!("{CALLER} shop:8080 HTTP/1.1"));
        answered.insert(number.to_owned());
    }
    assert_eq!(
        Vec::from_iter(answered),
        ["2", "3"],
        "both instances answer"
    );
    let record = mesh.record("web-0", |record| record["service"] == "api")?;
    assert_eq!(record["tls"], "TLSv1.3", "{record}");
    let got = web.curl(&["http://[fd00:96::10]:8080/"])?;
    assert_eq!(got.status, 200, "{got:?}");
    assert!(got.body.contains(CALLER), "{got:?}");
    Ok(())
}

/// "a pod IP pins that endpoint (policy applies, no split)".
#[test]
fn an_instance_is_called_by_its_own_address() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    let web = mesh.host(0)?;
    for (number, address) in [
        ("3", "10.7.0.3"),
        ("2", "10.7.0.2"),
        ("3", "[fd00:7::3]"),
        ("2", "[fd00:7::2]"),
    ] {
        for _ in 0..4 {
            let got = web.curl(&[&format!("http://{address}:8080/")])?;
            assert_eq!(got.status, 200, "{address} {got:?}");
            assert!(
                got.body.starts_with(&format!("{number} {CALLER}")),
                "{address} {got:?}"
            );
        }
    }
    Ok(())
}

/// The proxy calls its own service: past the kernel's loopback, through its own rules.
#[test]
fn a_service_that_calls_itself_is_asked_who_it_is() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    let itself = mesh.host(1)?;
    let mut answered = BTreeSet::new();
    for _ in 0..10 {
        let got = itself.curl(&["http://10.96.0.10:8080/"])?;
        assert_eq!(got.status, 200, "{got:?}");
        let (number, rest) = got.body.split_once(' ').unwrap_or_default();
        assert!(
            rest.starts_with("spiffe://netns.example/service/api "),
            "{got:?}"
        );
        answered.insert(number.to_owned());
    }
    assert_eq!(answered.len(), 2, "{answered:?}");
    Ok(())
}

/// "explicit mode stays".
#[test]
fn whoever_knows_the_proxy_names_the_service() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    let web = mesh.host(0)?;
    for proxy in ["127.0.0.1", "[::1]"] {
        let got = web.curl(&["--header", "Host: api", &format!("http://{proxy}:15001/")])?;
        assert_eq!(got.status, 200, "{got:?}");
        assert!(got.body.contains(CALLER), "{got:?}");
        let got = web.curl(&[
            "--header",
            "Host: nobody",
            &format!("http://{proxy}:15001/"),
        ])?;
        assert_eq!(got.status, 403, "{got:?}");
    }
    Ok(())
}

/// "`unmeshed` marks a service without a sidecar", and a probe is "exactly GET of that path in plaintext".
#[test]
fn what_has_no_proxy_calls_and_is_called() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mut mesh = Mesh::start()?;
    mesh.nginx_at_the_switch(8000, None)?;
    let got = mesh.host(0)?.curl(&["http://10.7.0.254:8000/"])?;
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, "switch 8000\n"),
        "{got:?}"
    );
    let record = mesh.record("web-0", |record| record["service"] == "legacy")?;
    assert_eq!(
        (&record["code"], &record["tls"]),
        (&200.into(), &"none".into()),
        "{record}"
    );

    let switch = &mesh.network.switch;
    let got = switch.curl(&["http://10.7.0.2:8080/healthz"])?;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(
        got.body.trim(),
        "2  10.7.0.2:8080 HTTP/1.1",
        "it says nothing of who asks"
    );
    let got = switch.curl(&["http://10.7.0.2:8080/"])?;
    assert_eq!(got.status, 403, "{got:?}");
    let got = switch.curl(&[
        "--header",
        &format!("x-mesh-peer: {CALLER}"),
        "http://10.7.0.2:8080/",
    ])?;
    assert_eq!(got.status, 403, "{got:?}");
    let got = switch.curl(&["--request", "POST", "http://10.7.0.2:8080/healthz"])?;
    assert_eq!(got.status, 403, "{got:?}");
    Ok(())
}
