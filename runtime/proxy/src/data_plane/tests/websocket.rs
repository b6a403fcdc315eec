//! WebSockets as a library of others speaks them, client and server: PyPI's `websockets`. `.ci/run` installs it; where
//! it is not, the cases say that they were skipped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::{Method, Request, StatusCode, Version};
use hyper::ext::Protocol as ExtendedConnect;
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{Port, Principal, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::*;

/// Ends with its test.
struct Server {
    program: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, there is nothing to end.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

/// Python with the library, if it is there.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let python = root.join("target/ci-tools/bin/ci-python");
    let mut import = Command::new(&python);
    let found = import.args(["-c", "import websockets.asyncio"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let required = std::env::var_os("MESH_CI_TOOLS").is_some_and(|wanted| wanted == "required");
    assert!(!required, "websockets is not there; `.ci/run` installs it");
    let case = std::thread::current();
    let case = case.name().unwrap_or("a case").to_owned();
    // Past the harness, which keeps what passing tests say.
    writeln!(std::io::stderr(), "SKIPPED {case}: websockets is not there").unwrap();
    None
}

fn program(name: &str) -> PathBuf {
    let folder = "src/data_plane/tests/programs";
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(name)
}

impl Server {
    fn start(python: &Path) -> Self {
        let mut program = Command::new(python)
            .arg(program("websocket_echo.py"))
            .arg("deflate")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], said.trim().parse().unwrap()));
        Self { program, address }
    }
}

async fn talk(python: &Path, proxy: SocketAddr, peer: &str) -> String {
    let mut client = Command::new(python);
    let client = client
        .arg(program("websocket_talk.py"))
        .args([&proxy.to_string(), "/chat", peer])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(|| client.wait_with_output());
    let output = ended.await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn messages_of_every_kind_pass() {
    let Some(python) = python() else { return };
    let server = Server::start(&python);
    let mesh = Mesh::new();
    let reviews = mesh.reviews(server.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let peer = "spiffe://shop.example/service/productpage";
    assert_eq!(talk(&python, productpage.outbound(), peer).await, "ok\n");
    let record = productpage.record(|record| record["code"] == 101).await;
    assert!(record["reason"].is_null(), "{record}");
    reviews.apply(&mesh.admitting("reviews", &["details"]));
    let refused = talk(&python, productpage.outbound(), peer).await;
    assert_eq!(refused, "403 authz_denied\n");
}

/// RFC 8441 from a browser to a gateway, and behind it HTTP/1.1 with a key that the gateway makes up.
#[tokio::test]
async fn a_gateway_speaks_http1_to_the_services_behind() {
    let Some(python) = python() else { return };
    let server = Server::start(&python);
    let mesh = Mesh::new();
    let reviews = mesh.proxy("reviews", Some(server.address));
    let mut admitting = mesh.admitting("reviews", &[]);
    let gateway = Principal::SpiffeId(mesh.authority.id("/gateway/public"));
    admitting.access.services[0].rules = vec![allow(gateway)];
    reviews.apply(&admitting);
    let gateway = mesh.gateway(&reviews);
    let port = Port {
        number: 8080,
        protocol: Protocol::Http,
    };
    let calling = mesh.calling(vec![route()]);
    let rules = vec![allow(Principal::Unauthenticated)];
    gateway.apply(&mesh.entered_by(calling, port, "shop.example", rules));
    let mut client = http2_client(gateway.listener(8080)).await;
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("http://shop.example/chat")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(empty())
        .unwrap();
    let websocket = ExtendedConnect::from_static("websocket");
    request.extensions_mut().insert(websocket);
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    assert!(!answer.headers().contains_key("upgrade"));
    let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    // RFC 6455 section 5.2: a text in one frame, then a ping.
    let greeting = b"peer spiffe://shop.example/gateway/public";
    let mut got = vec![0; 2 + greeting.len() + 2];
    tunnel.read_exact(&mut got).await.unwrap();
    assert_eq!(got.get(..2), Some(&[0x81, 41][..]));
    assert_eq!(got.get(2..43), Some(&greeting[..]));
    assert_eq!(got.get(43), Some(&0x89));
    // A close, masked as clients do, with the code 4001.
    let close = [0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa1];
    tunnel.write_all(&close).await.unwrap();
    let mut rest = Vec::new();
    tunnel.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(&[0x88, 0x02, 0x0f, 0xa1]), "{rest:?}");
}
