//! A whole distributor in this process, over real sockets, TLS, files and a real repository; the
//! proxy is a fake that believes only what `mesh_bundle::acceptance` believes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser as _;
use http::{Method, StatusCode};
use mesh_bundle::acceptance::{Acceptance, Accepted, Now, Part, Pin, Workload};
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::{Envelope, STATUS_TYPE};
use mesh_bundle::feature;
use mesh_bundle::key::SigningKey;
use mesh_bundle::merkle::{AbsenceProof, InclusionProof};
use mesh_bundle::messages::bundle as signed;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::messages::distribution::follow_request::Kind as Request;
use mesh_bundle::messages::distribution::follow_response::Kind as Response;
use mesh_bundle::messages::distribution::generation_update::Slice as Form;
use mesh_daemon::admin::client;
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{Credentials, Svid, TrustStore, WorkloadKey};
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::{MutualConnection, PublicConnection, VerifiedConnection, compression};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use crate::args::{Arguments, Command, ServeArguments};
use crate::distributor::Distributor;
use crate::fixture::{Fixture, TestRepository, id};
use crate::status::{RefState, StatusReport, WhereReport};

const MESH: (&str, &str) = (
    "mesh.kdl",
    "mesh bookshop {\n    trust-domain \"test.example\"\n}\n",
);

/// Two services; what differs between commits is a timeout.
fn policy(timeout: &str) -> String {
    format!(
        "service front {{\n    port 9080 protocol=http\n    endpoints {{ static \"10.0.0.1:9080\" }}\n    calls back\n}}\n\
         service back {{\n    port 9080 protocol=http\n    endpoints {{ static \"10.0.0.2:9080\" }}\n    timeout \"{timeout}\"\n    allow front\n}}\n"
    )
}

/// A running distributor and what it runs on.
struct World {
    fixture: Fixture,
    repository: TestRepository,
    tip: git2::Oid,
    distributor: Distributor,
}

impl World {
    async fn start() -> Self {
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

    fn commit(&mut self, services: &str) {
        self.tip = self
            .repository
            .commit(&[MESH, ("services.kdl", services)], Some(self.tip));
        self.repository.push(self.tip);
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, Bytes) {
        let socket = self.fixture.folder.path().join("meshd.sock");
        client::request(&socket, method, path, Bytes::from(body.to_owned()))
            .await
            .unwrap()
    }

    async fn status(&self) -> StatusReport {
        serde_json::from_slice(&self.ask(Method::GET, "/status", "").await.1).unwrap()
    }

    /// Waits for a state of the distributor; the test's own time limit is the only clock.
    async fn until(&self, reached: impl Fn(&StatusReport) -> bool) -> StatusReport {
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

    async fn trigger(&self) {
        assert_eq!(
            self.ask(Method::POST, "/trigger", "").await.0,
            StatusCode::ACCEPTED
        );
    }

    /// Calls the hook as a `post-receive` script does.
    async fn hook(&self) {
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

    async fn join(&self, name: &str) -> JoinFile {
        let body = format!("{{ \"identity\": \"{}\", \"ttl_s\": 60 }}", id(name));
        let (status, json) = self.ask(Method::POST, "/join-tokens", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{json:?}");
        JoinFile::from_json(&json).unwrap()
    }
}

fn arguments(fixture: &Fixture, repository: &Path) -> ServeArguments {
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

/// A proxy: what it believes and the stream that it follows.
struct Proxy {
    join: JoinFile,
    belief: Acceptance,
    credentials: Credentials,
    distributors: BTreeSet<mesh_bundle::spiffe::SpiffeId>,
    held: Option<Bytes>,
}

impl Proxy {
    /// Steps 4 and 5 of starting: fetch, and believe what the pin vouches for.
    async fn fetch(join: JoinFile) -> Self {
        let clock = Clock::system();
        let mut connection = PublicConnection::connect(&join.addresses[0], &clock)
            .await
            .unwrap();
        let scope = signed::Scope {
            mesh: join.scope.mesh.clone(),
            environment: join.scope.environment.clone(),
            trust_domain: join.scope.trust_domain.to_string(),
        };
        let fetched = connection.fetch_trust(scope, 0).await.unwrap();
        let root = envelope(&fetched.trust_roots[0]);
        let pin = Pin {
            scope: join.scope.clone(),
            trust_root: join.trust_root,
        };
        let workload = Workload {
            identity: join.identity.clone(),
            instance: "one".to_owned(),
            features: feature::SUPPORTED.to_vec(),
            release: "0.1.0".parse().unwrap(),
        };
        let mut belief = Acceptance::pinned(&pin, workload, join.floor, &root).unwrap();
        let credentials = Credentials::new(clock);
        let mut store = TrustStore::empty();
        for bundle in &fetched.trust_bundles {
            belief.offer_trust_bundle(&envelope(bundle)).unwrap();
        }
        for bundle in belief.trust_bundles() {
            store = store.with_bundle(bundle.value()).unwrap();
        }
        for stream in &fetched.revocations {
            belief.offer_revocations(&envelope(stream)).unwrap();
        }
        for head in &fetched.heads {
            assert!(
                belief
                    .offer_head(&envelope(head), now(&credentials))
                    .unwrap()
                    .fresh
            );
        }
        credentials.set_trust(store);
        let distributors = belief.trust_root().value().distributors.clone();
        Self {
            join,
            belief,
            credentials,
            distributors,
            held: None,
        }
    }

    async fn enrol_with(
        &self,
        token: &SigningKey,
        key: &WorkloadKey,
    ) -> Result<Svid, tonic::Status> {
        let mut connection = VerifiedConnection::connect(
            &self.join.addresses[0],
            &self.credentials,
            self.distributors.clone(),
        )
        .await
        .unwrap();
        let chain = connection
            .enrol(&self.join.token_id, token, key.csr().unwrap())
            .await?;
        Ok(Svid::new(chain, key.clone()).unwrap())
    }

    /// Steps 6 and 7.
    async fn enrol(&self) -> Svid {
        let svid = self
            .enrol_with(&self.join.token(), &WorkloadKey::generate().unwrap())
            .await
            .unwrap();
        assert_eq!(*svid.spiffe_id(), self.join.identity);
        self.credentials.set_svid(Arc::new(svid.clone()));
        svid
    }

    async fn connect(&self) -> MutualConnection {
        MutualConnection::connect(
            &self.join.addresses[0],
            &self.credentials,
            self.distributors.clone(),
        )
        .await
        .unwrap()
    }

    /// Step 8.
    async fn follow(&self) -> (Stream, MutualConnection) {
        let mut connection = self.connect().await;
        let (requests, receiver) = mpsc::channel(8);
        let hello = wire::Hello {
            scope: Some(signed::Scope {
                mesh: self.join.scope.mesh.clone(),
                environment: self.join.scope.environment.clone(),
                trust_domain: self.join.scope.trust_domain.to_string(),
            }),
            instance: "one".to_owned(),
            version: "0.1.0".to_owned(),
            trust_root_version: 1,
            held_slices: self
                .held
                .iter()
                .map(|held| Digest::of(held).as_bytes().to_vec())
                .collect(),
            ..wire::Hello::default()
        };
        send(&requests, Request::Hello(hello)).await;
        let responses = connection.follow(receiver).await.unwrap();
        (
            Stream {
                requests,
                responses,
            },
            connection,
        )
    }

    /// Step 9: takes what comes until a generation is believed; says in which form it came.
    async fn generation(&mut self, stream: &mut Stream) -> (Accepted, &'static str) {
        loop {
            match stream.next().await {
                Response::TrustBundle(bundle) => {
                    self.belief.offer_trust_bundle(&envelope(&bundle)).unwrap();
                }
                Response::Revocations(stream) => {
                    self.belief.offer_revocations(&envelope(&stream)).unwrap();
                }
                Response::Head(head) => {
                    self.belief
                        .offer_head(&envelope(&head), now(&self.credentials))
                        .unwrap();
                }
                Response::Generation(update) => return self.accept(&update),
                Response::Endpoints(_) => {}
                Response::TrustRoot(_) => panic!("this root is held"),
            }
        }
    }

    fn accept(&mut self, update: &wire::GenerationUpdate) -> (Accepted, &'static str) {
        let generation = envelope(update.generation.as_ref().unwrap());
        let now = now(&self.credentials);
        if let Some(Form::Absent(proof)) = &update.slice {
            let proof = AbsenceProof::try_from(proof).unwrap();
            return (
                self.belief
                    .offer_generation(&generation, Part::Absent(&proof), now)
                    .unwrap(),
                "absent",
            );
        }
        let proof = InclusionProof::try_from(update.proof.as_ref().unwrap()).unwrap();
        let size = usize::try_from(proof.size).unwrap();
        let (bytes, form) = match update.slice.as_ref().unwrap() {
            Form::Full(full) => (
                compression::decompress(&full.compressed, size).unwrap(),
                "full",
            ),
            Form::Delta(delta) => {
                let base = self.held.as_ref().unwrap();
                assert_eq!(delta.base, Digest::of(base).as_bytes());
                (
                    compression::decompress_delta(base, &delta.compressed, size).unwrap(),
                    "delta",
                )
            }
            Form::Same(_) => (self.held.clone().unwrap().to_vec(), "same"),
            Form::Absent(_) => unreachable!("handled above"),
        };
        let accepted = self
            .belief
            .offer_generation(
                &generation,
                Part::Slice {
                    bytes: &bytes,
                    proof: &proof,
                },
                now,
            )
            .unwrap();
        self.held = Some(Bytes::from(bytes));
        (accepted, form)
    }

    fn status(&self, phase: wire::Phase, accepted: &Accepted, reason: &str) -> wire::SignedStatus {
        let status = wire::Status {
            phase: phase.into(),
            generation: Some(accepted.reference.into()),
            slice: Digest::of(self.held.as_ref().unwrap()).as_bytes().to_vec(),
            reason: reason.to_owned(),
            ..wire::Status::default()
        }
        .encode_to_vec();
        let svid = self.credentials.svid().unwrap();
        let signature = svid.key().sign(STATUS_TYPE, &status).unwrap();
        wire::SignedStatus { status, signature }
    }
}

struct Stream {
    requests: mpsc::Sender<wire::FollowRequest>,
    responses: Streaming<wire::FollowResponse>,
}

impl Stream {
    async fn next(&mut self) -> Response {
        let message = tokio::time::timeout(Duration::from_secs(20), self.responses.message()).await;
        message
            .expect("nothing came")
            .unwrap()
            .expect("the stream ended")
            .kind
            .unwrap()
    }

    /// The status that the stream ends with, whatever comes before it.
    async fn end(&mut self) -> Code {
        loop {
            match tokio::time::timeout(Duration::from_secs(20), self.responses.message())
                .await
                .unwrap()
            {
                Ok(Some(_message)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }

    async fn send(&self, kind: Request) {
        send(&self.requests, kind).await;
    }
}

async fn send(requests: &mpsc::Sender<wire::FollowRequest>, kind: Request) {
    requests
        .send(wire::FollowRequest { kind: Some(kind) })
        .await
        .unwrap();
}

fn envelope(message: &signed::Envelope) -> Envelope {
    message.clone().try_into().unwrap()
}

fn now(credentials: &Credentials) -> Now {
    let clock = credentials.clock();
    Now {
        unix_ms: clock.wall_ms(),
        boot_ms: u64::try_from(clock.boot().as_millis()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_joins_follows_and_reports() {
    let mut world = World::start().await;
    let mut proxy = Proxy::fetch(world.join("front").await).await;
    proxy.enrol().await;
    let (mut stream, _connection) = proxy.follow().await;
    let (first, form) = proxy.generation(&mut stream).await;
    assert_eq!((first.reference.order.sequence, form), (1, "full"));
    stream
        .send(Request::Status(proxy.status(
            wire::Phase::Serving,
            &first,
            "",
        )))
        .await;
    let status = world
        .until(|status| status.proxies.iter().any(|proxy| proxy.phase.is_some()))
        .await;
    assert_eq!(status.proxies[0].workload, "front");
    assert_eq!(status.proxies[0].phase.as_deref(), Some("serving"));
    let original = proxy.held.clone();

    world.commit(&policy("3s"));
    world.trigger().await;
    let (second, form) = proxy.generation(&mut stream).await;
    assert_eq!((second.reference.order.sequence, form), (2, "delta"));
    stream
        .send(Request::Status(proxy.status(
            wire::Phase::Rejected,
            &second,
            "bad_proof",
        )))
        .await;
    world
        .until(|status| status.proxies[0].reason.as_deref() == Some("bad_proof"))
        .await;

    // A revert is the same bytes under a higher number; this proxy forgot all but the newest.
    world.commit(&policy("2s"));
    world.trigger().await;
    let held = std::mem::replace(&mut proxy.held, original.clone());
    let (third, form) = proxy.generation(&mut stream).await;
    assert_eq!((third.reference.order.sequence, form), (3, "same"));
    assert_eq!(proxy.held, original);
    assert_ne!(proxy.held, held);

    let commit = world.tip.to_string();
    let short: String = commit.chars().take(8).collect();
    let answer: WhereReport = serde_json::from_slice(
        &world
            .ask(Method::GET, &format!("/where/{short}"), "")
            .await
            .1,
    )
    .unwrap();
    assert_eq!(answer.commit, commit);
    assert_eq!(answer.proxies[0].serves, Some(false));
    assert_eq!(
        answer.proxies[0].reason.as_deref(),
        Some("serves_sequence_1")
    );
    world.distributor.stop().await;
    assert_eq!(stream.end().await, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_commit_changes_nothing_and_the_next_good_one_recovers() {
    let mut world = World::start().await;
    world.commit(&policy("2s").replacen("timeout", "tiemout", 1));
    world.trigger().await;
    let status = world
        .until(|status| status.reference.state == RefState::PolicyInvalid)
        .await;
    assert_eq!(status.head.unwrap().sequence, 1);
    let finding = &status.findings[0];
    assert_eq!(
        (finding.file.as_deref(), finding.line),
        (Some("services.kdl"), Some(9)),
        "{finding:?}"
    );

    let other = MESH.1.replace("bookshop", "other");
    let elsewhere = [
        ("mesh.kdl", other.as_str()),
        ("services.kdl", &policy("2s")),
    ];
    world.tip = world.repository.commit(&elsewhere, Some(world.tip));
    world.repository.push(world.tip);
    world.trigger().await;
    let status = world
        .until(|status| {
            status
                .findings
                .iter()
                .any(|finding| finding.code == "wrong_mesh")
        })
        .await;
    assert_eq!(status.head.unwrap().sequence, 1);

    world.commit(&policy("4s"));
    world.trigger().await;
    let status = world
        .until(|status| status.reference.state == RefState::Following)
        .await;
    assert_eq!(status.head.unwrap().sequence, 4);
    assert_eq!(status.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_makes_it_look_and_a_rewrite_is_refused() {
    let mut world = World::start().await;
    let first = world.tip;
    world.commit(&policy("3s"));
    world.hook().await;
    let status = world
        .until(|status| status.head.as_ref().unwrap().sequence == 2)
        .await;
    let served = status.head.unwrap().commit;

    world.tip = first;
    world.commit(&policy("4s"));
    world.commit(&policy("5s"));
    world.hook().await;
    let status = world
        .until(|status| status.reference.state == RefState::RefRewritten)
        .await;
    assert_eq!(status.head.unwrap().commit, served);
    assert_eq!(status.findings[0].code, "ref_rewritten");
    assert_eq!(status.reference.tip, Some(world.tip.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_admits_one_key() {
    let world = World::start().await;
    let proxy = Proxy::fetch(world.join("front").await).await;
    let key = WorkloadKey::generate().unwrap();
    let stranger = SigningKey::from_seed([99; 32]);
    let refused = |result: Result<Svid, tonic::Status>| result.unwrap_err().code();
    assert_eq!(
        refused(proxy.enrol_with(&stranger, &key).await),
        Code::PermissionDenied
    );
    assert!(proxy.enrol_with(&proxy.join.token(), &key).await.is_ok());
    assert!(
        proxy.enrol_with(&proxy.join.token(), &key).await.is_ok(),
        "an answer that was lost"
    );
    let other = WorkloadKey::generate().unwrap();
    assert_eq!(
        refused(proxy.enrol_with(&proxy.join.token(), &other).await),
        Code::PermissionDenied
    );

    let absent = Proxy::fetch(world.join("nobody").await).await;
    assert_eq!(
        refused(absent.enrol_with(&absent.join.token(), &key).await),
        Code::PermissionDenied
    );
    let reserved = "{ \"identity\": \"spiffe://test.example/mesh/distributor/main\" }";
    assert_eq!(
        world.ask(Method::POST, "/join-tokens", reserved).await.0,
        StatusCode::CONFLICT
    );
    let foreign = "{ \"identity\": \"spiffe://other.example/service/front\" }";
    assert_eq!(
        world.ask(Method::POST, "/join-tokens", foreign).await.0,
        StatusCode::CONFLICT
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_and_keeps_its_enrolment() {
    let world = World::start().await;
    let proxy = Proxy::fetch(world.join("back").await).await;
    let first = proxy.enrol().await;
    let key = WorkloadKey::generate().unwrap();
    let chain = proxy
        .connect()
        .await
        .renew(key.csr().unwrap())
        .await
        .unwrap();
    let second = Svid::new(chain, key).unwrap();
    assert_eq!(second.spiffe_id(), first.spiffe_id());
    assert_eq!(
        second.identity().enrolment_id(),
        first.identity().enrolment_id()
    );
    assert!(second.identity().enrolment_id().is_some());
    assert_ne!(second.identity().serial, first.identity().serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_a_stream_ends_it() {
    let world = World::start().await;
    let mut proxy = Proxy::fetch(world.join("front").await).await;
    proxy.enrol().await;

    let (mut stream, _connection) = proxy.follow().await;
    let (accepted, _form) = proxy.generation(&mut stream).await;
    let mut forged = proxy.status(wire::Phase::Serving, &accepted, "");
    forged.signature = WorkloadKey::generate()
        .unwrap()
        .sign(STATUS_TYPE, &forged.status)
        .unwrap();
    stream.send(Request::Status(forged)).await;
    assert_eq!(stream.end().await, Code::InvalidArgument);
    assert_eq!(world.status().await.proxies[0].phase, None);

    let mut connection = proxy.connect().await;
    let (requests, receiver) = mpsc::channel(8);
    let wrong = wire::Hello {
        instance: "one".to_owned(),
        ..wire::Hello::default()
    };
    send(&requests, Request::Hello(wrong)).await;
    let responses = connection.follow(receiver).await.unwrap();
    assert_eq!(
        Stream {
            requests,
            responses
        }
        .end()
        .await,
        Code::FailedPrecondition
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_reach_the_callers_of_a_service() {
    let world = World::start().await;
    let mut proxy = Proxy::fetch(world.join("front").await).await;
    proxy.enrol().await;
    let (mut stream, _connection) = proxy.follow().await;
    proxy.generation(&mut stream).await;
    let feed = r#"{ "sets": [
        { "service": "back", "addresses": [{ "port": 9080, "address": "127.0.0.1:4001" }] },
        { "service": "front", "addresses": [{ "port": 9080, "address": "127.0.0.1:4002" }] } ] }"#;
    assert_eq!(
        world.ask(Method::PUT, "/endpoints", feed).await.0,
        StatusCode::OK
    );
    let Response::Endpoints(endpoints) = stream.next().await else {
        panic!("no endpoints")
    };
    assert_eq!(endpoints.sets.len(), 1);
    assert_eq!(endpoints.sets[0].service, "back");
    assert_eq!(
        world.ask(Method::PUT, "/endpoints", "{}").await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_repository_serves_at_once() {
    let World {
        fixture,
        repository,
        distributor,
        ..
    } = World::start().await;
    let arguments = arguments(&fixture, &repository.path());
    distributor.stop().await;
    drop(repository);
    let distributor = Distributor::start(&arguments, Clock::system())
        .await
        .unwrap();
    let repository = TestRepository::new();
    let world = World {
        fixture,
        tip: git2::Oid::from_bytes(&[1; 20]).unwrap(),
        repository,
        distributor,
    };
    let status = world
        .until(|status| status.reference.state == RefState::RepositoryUnreadable)
        .await;
    assert_eq!(status.head.unwrap().sequence, 1);
    assert_eq!(world.ask(Method::GET, "/ready", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_must_not_start_does_not() {
    let fixture = Fixture::new(true);
    let mut wrong = arguments(&fixture, fixture.folder.path());
    wrong.started_by_dev = false;
    let refusal = |arguments: ServeArguments| async move {
        Distributor::start(&arguments, Clock::system())
            .await
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(wrong.clone()).await.contains("development"));
    wrong.started_by_dev = true;
    wrong.reference = Some("refs/heads/other".to_owned());
    assert!(refusal(wrong.clone()).await.contains("refs/heads/other"));
    wrong.reference = None;
    wrong.name = "second".to_owned();
    assert!(refusal(wrong).await.contains("/mesh/distributor/second"));
}
