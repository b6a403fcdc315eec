//! Where the mesh ends: a gateway before it, and a service outside.

use std::fs;
use std::path::PathBuf;

use mesh_tests::netns::{LIMIT, Mesh, ready};
use mesh_tests::{Failure, wait_until};

const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
    defaults { timeout "10s" }
}
service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls api
    calls pay
    calls secure
}
service api {
    port 8080
    address "10.96.0.10" "fd00:96::10"
    endpoints {
        static "10.7.0.2:8080" "10.7.0.3:8080" "[fd00:7::2]:8080" "[fd00:7::3]:8080"
    }
    allow web api public { path "/**" }
    calls api
}
external pay {
    host "pay.example"
    port 80 dial=9443 {
        tls trust=pay
    }
    endpoints { static "10.7.0.254:9443" }
    allow web
}
external secure {
    host "secure.example"
    port 443 dial=9444 protocol=tls
    endpoints { static "10.7.0.254:9444" }
    allow web
}
gateway public {
    listen 80 { host "shop.example" "other.example" }
    listen 443 { host "shop.example"; tls certificate=shop }
    listen 443 { host "other.example"; tls certificate=other }
    listen 8443 { host "shop.example"; tls certificate=shop; client-ip proxy-protocol }
    allow unauthenticated
    route to-https { match { port 80 }; redirect scheme=https status=308 }
    route page { match { port 443 8443 }; to api }
}
"#;

/// The switch, as a host of a mesh.
const SWITCH: usize = 3;

/// A certificate with its key, in a file that a proxy may read.
fn certificate(mesh: &Mesh, name: &str, host: &str) -> Result<PathBuf, Failure> {
    let params = rcgen::CertificateParams::new([host.to_owned()])?;
    let key = rcgen::KeyPair::generate()?;
    let text = format!("{}{}", params.self_signed(&key)?.pem(), key.serialize_pem());
    let file = mesh.path(&format!("{name}.pem"));
    fs::write(&file, text)?;
    Ok(file)
}

fn given(name: &str, file: &std::path::Path) -> String {
    format!("{name}={}", file.display())
}

#[test]
fn a_gateway_is_entered_by_curl() -> Result<(), Failure> {
    if !ready(&["sh"])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    let shop = certificate(&mesh, "shop", "shop.example")?;
    let other = certificate(&mesh, "other", "other.example")?;
    for at in [1, 2] {
        mesh.proxy(at, "api", &[])?;
        mesh.nginx(at)?;
        mesh.redirect(at, &[])?;
    }
    // Its ports are low, and it is nobody special.
    let low = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
    mesh.network.switch.run(&["sh", "-c", low])?;
    let (shop_given, other_given) = (given("shop", &shop), given("other", &other));
    let trusted = ["--trusted-proxy", "10.7.0.1/32"];
    let secrets = [
        "--secret",
        shop_given.as_str(),
        "--secret",
        other_given.as_str(),
    ];
    mesh.proxy(SWITCH, "public", &[trusted.as_slice(), &secrets].concat())?;
    let client = mesh.host(0)?;
    let (shop, other) = (shop.display().to_string(), other.display().to_string());
    let ask = |trusts: &str, words: &[&str]| {
        let resolve = [80, 443, 8443].map(|port| format!("*:{port}:10.7.0.254"));
        let mut all = vec!["--cacert", trusts, "--noproxy", "*"];
        all.extend(resolve.iter().flat_map(|one| ["--resolve", one.as_str()]));
        all.extend(words);
        client.curl(&all)
    };
    // By its name, with its own certificate, and no other's.
    for (name, trusts, status) in [
        ("shop.example", &shop, 200),
        ("other.example", &other, 200),
        ("other.example", &shop, 0),
        ("third.example", &shop, 0),
    ] {
        let got = ask(trusts, &[&format!("https://{name}/a")])?;
        assert_eq!(got.status, status, "{name} {got:?}");
        let caller = "spiffe://netns.example/gateway/public";
        assert!(status == 0 || got.body.contains(caller), "{got:?}");
    }
    let got = ask(
        &shop,
        &["--header", "Host: other.example", "https://shop.example/"],
    )?;
    assert_eq!(got.status, 421, "bad-inputs 69: {got:?}");
    // Plaintext is sent on to TLS, and curl follows.
    let got = ask(&shop, &["--location", "http://shop.example/for"])?;
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, "10.7.0.1\n"),
        "{got:?}"
    );
    // The PROXY protocol, as curl speaks it, from whom it is taken.
    let got = ask(
        &shop,
        &["--haproxy-protocol", "https://shop.example:8443/for"],
    )?;
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, "10.7.0.1\n"),
        "{got:?}"
    );
    let got = ask(&shop, &["https://shop.example:8443/for"])?;
    assert_eq!(got.status, 0, "without a header: {got:?}");
    let stranger = [
        "--haproxy-protocol",
        "--insecure",
        "https://10.7.0.254:8443/for",
    ];
    assert_eq!(mesh.host(1)?.curl(&stranger)?.status, 0);
    mesh.record("public-3", |record| {
        record["reason"] == "bad_request:proxy_protocol"
    })?;
    // A new certificate is shown as soon as it is there.
    certificate(&mesh, "shop", "shop.example")?;
    wait_until("the new certificate", LIMIT, || {
        let got = ask(&shop, &["https://shop.example/a"])?;
        match got.status {
            200 => Ok(()),
            _ => Err(Failure::new(got.said)),
        }
    })
}

/// The application speaks plaintext to a name; what leaves is TLS, to where policy says that the service is.
#[test]
fn a_service_outside_is_called_by_its_name() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    let pay = certificate(&mesh, "pay", "pay.example")?;
    mesh.proxy(0, "web", &["--secret", &given("pay", &pay)])?;
    mesh.redirect(0, &[])?;
    mesh.nginx_at_the_switch(9443, Some(&pay))?;
    let web = mesh.host(0)?;
    // Wherever the name leads the application.
    let resolve = ["--resolve", "*:80:198.51.100.9"];
    let got = web.curl(&[&resolve[..], &["http://pay.example/"]].concat())?;
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, "switch 9443\n"),
        "{got:?}"
    );
    let record = mesh.record("web-0", |record| record["service"] == "pay")?;
    assert_eq!(record["upstream"], "10.7.0.254:9443", "{record}");
    let got = web.curl(&[&resolve[..], &["http://elsewhere.example/"]].concat())?;
    assert_eq!(got.status, 403, "{got:?}");
    Ok(())
}

/// TLS of the application's own is passed on by the name that it asks for, and by no other.
#[test]
fn tls_to_a_service_outside_is_passed_on_by_its_name() -> Result<(), Failure> {
    if !ready(&[])? {
        return Ok(());
    }
    let mut mesh = Mesh::distribute(POLICIES)?;
    let pay = certificate(&mesh, "pay", "pay.example")?;
    let secure = certificate(&mesh, "secure", "secure.example")?;
    mesh.proxy(0, "web", &["--secret", &given("pay", &pay)])?;
    mesh.redirect(0, &[])?;
    mesh.nginx_at_the_switch(9444, Some(&secure))?;
    let web = mesh.host(0)?;
    let trusts = secure.display().to_string();
    for leads_to in ["198.51.100.9", "[2001:db8::9]"] {
        let resolve = format!("*:443:{leads_to}");
        let ask = |url: &str| web.curl(&["--cacert", &trusts, "--resolve", &resolve, url]);
        let got = ask("https://secure.example/")?;
        assert_eq!(
            (got.status, got.body.as_str()),
            (200, "switch 9444\n"),
            "{got:?}"
        );
        let got = ask("https://elsewhere.example/")?;
        assert_eq!(got.status, 0, "{got:?}");
    }
    let record = mesh.record("web-0", |record| record["service"] == "secure")?;
    assert_eq!(record["authority"], "secure.example", "{record}");
    mesh.record("web-0", |record| record["authority"] == "elsewhere.example")?;
    Ok(())
}
