//! What whoever operates a proxy asks it, by the program itself; and that nobody else can, nor over TCP.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use mesh_tests::{Failure, http_get, http_request, program, wait_until};

use crate::mesh::{LIMIT, Mesh, Proxy, With};
use crate::slow_clients::application;

fn admin(proxy: &Proxy, words: &[&str]) -> Result<Output, Failure> {
    let mut command = Command::new(program("meshp")?);
    command.arg("admin").args(words).arg("--socket");
    command.arg(proxy.home.join("admin.sock"));
    Ok(command.output()?)
}

fn told(proxy: &Proxy, words: &[&str]) -> Result<String, Failure> {
    let output = admin(proxy, words)?;
    let text = String::from_utf8(output.stdout)?;
    if output.status.success() {
        return Ok(text);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{words:?}: {text}{error}")))
}

fn json(proxy: &Proxy, words: &[&str]) -> Result<serde_json::Value, Failure> {
    let words = [words, &["--format", "json"]].concat();
    Ok(serde_json::from_str(&told(proxy, &words)?)?)
}

const ROUTES: &str = "
    route slow { match { path \"/slow/**\" }; timeout \"20s\"; retry reset attempts=3 per-try=\"2s\" }
    route posts { match { path \"/slow/**\"; method POST }; timeout \"25s\" }
    retry-budget \"20%\" of=requests min=\"5/s\"
";

#[test]
fn an_operator_is_told_what_happens() -> Result<(), Failure> {
    let none = With::default();
    let mesh = Mesh::start_with(application()?, ROUTES, &none, &none)?;
    // A connection that stays, over which one request has gone.
    let mut client = std::net::TcpStream::connect(mesh.web.outbound)?;
    client.write_all(b"GET /slow/1 HTTP/1.1\r\nHost: api\r\n\r\n")?;
    let mut head = [0; 12];
    client.read_exact(&mut head)?;
    assert_eq!(&head, b"HTTP/1.1 200");

    let status = told(&mesh.web, &["status"])?;
    assert!(
        status.contains("spiffe://drills.example/service/web"),
        "{status}"
    );
    let pid = mesh.web.process.id();
    assert_eq!(json(&mesh.web, &["status"])?["pid"], pid);
    assert!(told(&mesh.web, &["ready"])?.starts_with("serving "));

    let routes = told(&mesh.web, &["routes"])?;
    let lines: Vec<_> = routes.lines().collect();
    let stands = |at: usize, words: [&str; 3]| {
        let line = lines.get(at).copied().unwrap_or_default();
        assert!(words.iter().all(|word| line.contains(word)), "{routes}");
    };
    stands(0, ["api", "(service)", ""]);
    stands(2, ["posts", "method POST", "25s"]);
    stands(3, ["slow", "path \"/slow/**\"", "2s"]);
    let routes = json(&mesh.web, &["routes", "api"])?;
    assert_eq!(
        routes["services"][0]["routes"][1]["attempts"], 3,
        "{routes}"
    );

    let slice = told(&mesh.web, &["slice", "api"])?;
    assert!(slice.contains("name: \"posts\""), "{slice}");
    let missing = admin(&mesh.web, &["slice", "nobody"])?;
    assert_eq!(missing.status.code(), Some(2));

    let of_web = json(&mesh.web, &["connections"])?;
    let own = &of_web["connections"][0];
    assert_eq!(own["peer"], client.local_addr()?.to_string(), "{of_web}");
    assert_eq!(
        (&own["direction"], &own["protocol"]),
        (&"outbound".into(), &"http/1.1".into())
    );
    assert_eq!((&own["requests"], &own["active"]), (&1.into(), &0.into()));
    let of_api = json(&mesh.api, &["connections"])?;
    let theirs = &of_api["connections"][0];
    assert_eq!(
        theirs["identity"], "spiffe://drills.example/service/web",
        "{of_api}"
    );
    assert_eq!(theirs["direction"], "inbound");
    assert!(theirs["bytes_in"].as_u64() > Some(0), "{of_api}");
    drop(client);
    wait_until("the connection is gone", LIMIT, || {
        let text = told(&mesh.web, &["connections"])?;
        match text.lines().count() {
            1 => Ok(()),
            _ => Err(Failure::new(text)),
        }
    })
}

#[test]
fn what_is_logged_is_changed_while_it_runs() -> Result<(), Failure> {
    let mesh = Mesh::start(application()?)?;
    assert_eq!(told(&mesh.web, &["log-level"])?.trim(), "info");
    let debug = "info,h2=debug";
    assert_eq!(told(&mesh.web, &["log-level", debug])?.trim(), debug);
    assert_eq!(told(&mesh.web, &["log-level"])?.trim(), debug);
    // Heartbeats go to the distributor over HTTP/2.
    wait_until("it is logged", LIMIT, || {
        let log = mesh.web.log()?;
        if log.contains("\"level\":\"DEBUG\"") {
            return Ok(());
        }
        Err(Failure::new(log))
    })?;
    let refused = admin(&mesh.web, &["log-level", "meshp=loud"])?;
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8(refused.stderr)?;
    assert!(why.contains("is no filter"), "{why}");
    assert_eq!(told(&mesh.web, &["log-level"])?.trim(), debug);
    Ok(())
}

#[test]
fn a_drain_that_is_asked_for_is_one() -> Result<(), Failure> {
    let mut mesh = Mesh::start(application()?)?;
    told(&mesh.web, &["drain"])?;
    wait_until("the proxy has ended", LIMIT, || {
        match mesh.web.process.ended()? {
            Some(status) if status.success() => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    })?;
    let gone = admin(&mesh.web, &["ready"])?;
    assert_eq!(gone.status.code(), Some(2));
    assert!(!mesh.web.home.join("admin.sock").exists());
    assert!(!mesh.web.home.join("admin.sock.handover").exists());
    Ok(())
}

/// bad-inputs 74: nothing that an application can be made to ask over TCP tells or changes anything.
#[test]
fn nothing_is_told_or_changed_over_tcp() -> Result<(), Failure> {
    let mesh = Mesh::start(application()?)?;
    let mode = std::fs::metadata(mesh.web.home.join("admin.sock"))?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ports = &mesh.web.admin("/config")?.json()?["ports"];
    let address = |key: &str| -> Result<SocketAddr, Failure> {
        Ok(ports[key].as_str().unwrap_or_default().parse()?)
    };
    let paths = [
        "/config",
        "/slice",
        "/routes",
        "/connections",
        "/endpoints",
        "/pools",
        "/log-level",
    ];
    for listener in ["metrics", "health"] {
        let to = address(listener)?;
        for path in paths {
            let answer = http_get(to, "localhost", path, &[])?;
            assert_eq!(answer.status, 404, "{listener} {path}: {answer:?}");
        }
        for path in ["/drain", "/log-level", "/shutdown", "/quitquitquit"] {
            let answer = http_request(to, "POST", "localhost", path, &[])?;
            assert_eq!(answer.status, 404, "{listener} {path}: {answer:?}");
        }
    }
    for host in ["localhost", "127.0.0.1", "meshp"] {
        let answer = http_request(mesh.web.outbound, "POST", host, "/drain", &[])?;
        assert_eq!(answer.status, 403, "{host}: {answer:?}");
    }
    // A page that is read by a browser is never one of HTML.
    for path in ["/config", "/slice", "/routes", "/connections", "/nothing"] {
        let answer = mesh.web.admin(path)?;
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(!kind.contains("html"), "{path}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}
