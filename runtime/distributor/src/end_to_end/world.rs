//! A running distributor on a real repository, as an operator uses it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser as _;
use http::{Method, StatusCode};
use mesh_daemon::admin::client;
use mesh_daemon::clock::Clock;
use mesh_daemon::join_file::JoinFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::args::{Arguments, Command, ServeArguments};
use crate::distributor::Distributor;
use crate::fixture::{Fixture, TestRepository, id};
use crate::status::StatusReport;

pub(crate) const MESH: (&str, &str) = (
    "mesh.kdl",
    "mesh bookshop {\n    trust-domain \"test.example\"\n}\n",
);

/// Two services; what differs between commits is a timeout.
pub(crate) fn policy(timeout: &str) -> String {
    format!(
        "service front {{\n    port 9080 protocol=http\n    endpoints {{ static \"10.0.0.1:9080\" }}\n    calls back\n}}\n\
         service back {{\n    port 9080 protocol=http\n    endpoints {{ static \"10.0.0.2:9080\" }}\n    timeout \"{timeout}\"\n    allow front\n}}\n"
    )
}

/// A running distributor and what it runs on.
pub(crate) struct World {
    pub(crate) fixture: Fixture,
    pub(crate) repository: TestRepository,
    pub(crate) tip: git2::Oid,
    pub(crate) distributor: Distributor,
}

impl World {
    pub(crate) async fn start() -> Self {
        let fixture = Fixture::new(true);
        let repository = TestRepository::new();
        let tip = repository.commit(&[MESH, ("services.kdl", &policy("2s"))], None);
        repository.push(tip);
        let arguments = arguments(&fixture, &repository.path());
        let distributor = Distributor::start(&arguments, Clock::system())
            .await
            .unwrap();
        let world = Self {
            fixture,
            repository,
            tip,
            distributor,
        };
        world.until(|status| status.head.is_some()).await;
        world
    }

    pub(crate) fn commit(&mut self, services: &str) {
        self.tip = self
            .repository
            .commit(&[MESH, ("services.kdl", services)], Some(self.tip));
        self.repository.push(self.tip);
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, Bytes) {
        let socket = self.fixture.folder.path().join("meshd.sock");
        client::request(&socket, method, path, Bytes::from(body.to_owned()))
            .await
            .unwrap()
    }

    pub(crate) async fn status(&self) -> StatusReport {
        serde_json::from_slice(&self.ask(Method::GET, "/status", "").await.1).unwrap()
    }

    /// Waits for a state of the distributor; the test's own time limit is the only clock.
    pub(crate) async fn until(&self, reached: impl Fn(&StatusReport) -> bool) -> StatusReport {
        let waiting = async {
            loop {
                let status = self.status().await;
                if reached(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let Ok(status) = tokio::time::timeout(Duration::from_secs(20), waiting).await else {
            panic!("never reached: {:#?}", self.status().await)
        };
        status
    }

    pub(crate) async fn trigger(&self) {
        assert_eq!(
            self.ask(Method::POST, "/trigger", "").await.0,
            StatusCode::ACCEPTED
        );
    }

    /// Calls the hook as a `post-receive` script does.
    pub(crate) async fn hook(&self) {
        let ports = std::fs::read(self.fixture.folder.path().join("ports.json")).unwrap();
        let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap();
        let mut stream = TcpStream::connect(ports["hook"].as_str().unwrap())
            .await
            .unwrap();
        // The announced body never comes: nobody waits for it.
        let request = "POST /hook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 202");
    }

    /// What Prometheus would read there.
    pub(crate) async fn metrics(&self, address: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub(crate) async fn join(&self, name: &str) -> JoinFile {
        let body = format!("{{ \"identity\": \"{}\", \"ttl_s\": 60 }}", id(name));
        let (status, json) = self.ask(Method::POST, "/join-tokens", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{json:?}");
        JoinFile::from_json(&json).unwrap()
    }
}

pub(crate) fn arguments(fixture: &Fixture, repository: &Path) -> ServeArguments {
    let folder = fixture.folder.path().display().to_string();
    let repository = repository.display().to_string();
    let arguments = Arguments::parse_from([
        "meshd",
        "serve",
        "--started-by-dev",
        "--repository",
        &repository,
        "--trust",
        &folder,
        "--state",
        &format!("{folder}/state"),
        "--listen",
        "127.0.0.1:0",
        "--socket",
        &format!("{folder}/meshd.sock"),
        "--hook",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--ports",
        &format!("{folder}/ports.json"),
        "--poll",
        "1h",
    ]);
    match arguments.command {
        Command::Serve(arguments) => arguments,
        other => panic!("{other:?}"),
    }
}
