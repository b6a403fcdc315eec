//! A whole distributor in this process, over real sockets, TLS, files and a real repository.

mod proxy;
mod world;

use std::time::Duration;

use http::{Method, StatusCode};
use mesh_bundle::envelope::STATUS_TYPE;
use mesh_bundle::key::SigningKey;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::messages::distribution::follow_request::Kind as Request;
use mesh_bundle::messages::distribution::follow_response::Kind as Response;
use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{Svid, WorkloadKey};
use mesh_daemon::join_file::JoinFile;
use tokio::sync::mpsc;
use tonic::Code;

use crate::args::ServeArguments;
use crate::distributor::Distributor;
use crate::fixture::{Fixture, TestRepository};
use crate::status::{RefState, WhereReport};
use proxy::{Proxy, Stream, send};
use world::{MESH, World, arguments, policy};

#[tokio::test(flavor = "multi_thread")]
async fn trust_statements_are_added_to_the_followed_repository() {
    let fixture = Fixture::new(false);
    let repository = TestRepository::new();
    let arguments = arguments(&fixture, &repository.path());
    let distributor = Distributor::start(&arguments, Clock::system())
        .await
        .unwrap();
    let added = async {
        while repository.held("refs/mesh/trust").len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let added = tokio::time::timeout(Duration::from_secs(20), added).await;
    assert!(added.is_ok(), "{:?}", repository.held("refs/mesh/trust"));
    distributor.stop().await;
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
    for key in [&key, &other] {
        let status = absent.enrol_with(&absent.join.token(), key).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let nothing_used_up = "not in the current generation";
        assert!(status.message().contains(nothing_used_up), "{status}");
    }
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
async fn a_local_proxy_is_who_its_user_stands_for() {
    let World {
        fixture,
        repository,
        distributor,
        ..
    } = World::start().await;
    distributor.stop().await;
    let mut arguments = arguments(&fixture, &repository.path());
    let socket = fixture.folder.path().join("attest.sock");
    arguments.attest_socket = Some(socket.clone());
    let own = nix::unistd::geteuid().as_raw();
    let ask = |socket: std::path::PathBuf| async move {
        tokio::task::spawn_blocking(move || JoinFile::read(&socket))
            .await
            .unwrap()
    };
    for (uid, is_known) in [(own + 1, false), (own, true)] {
        arguments.attest_user = vec![(uid, crate::fixture::id("front"))];
        let distributor = Distributor::start(&arguments, Clock::system())
            .await
            .unwrap();
        let join = ask(socket.clone()).await;
        if is_known {
            let proxy = Proxy::fetch(join.unwrap()).await;
            let svid = proxy.enrol().await;
            assert_eq!(*svid.spiffe_id(), crate::fixture::id("front"));
        } else {
            let refused = join.unwrap_err().to_string();
            assert!(refused.contains("stands for nobody here"), "{refused}");
        }
        distributor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_by_a_key_that_was_replaced_is_a_clone_and_both_end() {
    let world = World::start().await;
    let proxy = Proxy::fetch(world.join("back").await).await;
    proxy.enrol().await;
    let mut first = proxy.connect().await;
    let (second_key, third_key) = (
        WorkloadKey::generate().unwrap(),
        WorkloadKey::generate().unwrap(),
    );
    let chain = first.renew(second_key.csr().unwrap()).await.unwrap();
    // An answer that was lost is given again.
    first.renew(second_key.csr().unwrap()).await.unwrap();
    let clone = first.renew(third_key.csr().unwrap()).await.unwrap_err();
    assert_eq!(clone.code(), Code::PermissionDenied);
    assert!(clone.message().contains("superseded"), "{clone}");
    let second = Svid::new(chain, second_key).unwrap();
    proxy.credentials.set_svid(std::sync::Arc::new(second));
    let both = proxy.connect().await.renew(third_key.csr().unwrap()).await;
    assert_eq!(both.unwrap_err().code(), Code::PermissionDenied);
    let ports = std::fs::read(world.fixture.folder.path().join("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap();
    let metrics = world.metrics(ports["metrics"].as_str().unwrap()).await;
    assert!(
        metrics.contains("mesh_identity_clones_total 2"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_is_cut_off_at_once_and_stays_so() {
    let mut world = World::start().await;
    let mut front = Proxy::fetch(world.join("front").await).await;
    let mut back = Proxy::fetch(world.join("back").await).await;
    let svid = front.enrol().await;
    back.enrol().await;
    let (mut stream, mut connection) = front.follow().await;
    let (mut other, _connection) = back.follow().await;
    front.generation(&mut stream).await;
    back.generation(&mut other).await;

    let own = r#"{ "kind": "spiffe_id", "value": "spiffe://test.example/mesh/distributor/main" }"#;
    let (status, why) = world.ask(Method::POST, "/revocations", own).await;
    assert_eq!(status, StatusCode::CONFLICT, "{why:?}");
    assert_eq!(world.ask(Method::GET, "/revocations", "").await.1, "[]");

    let enrolment = svid.identity().enrolment_id().unwrap();
    let asked =
        format!("{{ \"kind\": \"enrolment\", \"value\": \"{enrolment}\", \"reason\": \"lost\" }}");
    let (status, made) = world.ask(Method::POST, "/revocations", &asked).await;
    assert_eq!(status, StatusCode::CREATED, "{made:?}");
    // Also the one that it is about learns of it, before its stream ends.
    let told = |response: &Response| matches!(response, Response::Revocations(_));
    stream.until(told).await;
    assert_eq!(stream.end().await, Code::Unauthenticated);
    other.until(told).await;
    let key = WorkloadKey::generate().unwrap();
    let renewed = connection.renew(key.csr().unwrap()).await;
    assert_eq!(renewed.unwrap_err().code(), Code::Unauthenticated);
    let (_requests, receiver) = mpsc::channel(8);
    assert!(match front.try_connect().await {
        Ok(mut connection) => connection.follow(receiver).await.is_err(),
        Err(_refused) => true,
    });

    // Neither a revert nor a restart takes it back.
    world.commit(&policy("3s"));
    world.commit(&policy("2s"));
    world.trigger().await;
    let status = world
        .until(|status| status.head.as_ref().unwrap().sequence == 3)
        .await;
    assert_eq!(status.reference.state, RefState::Following);
    let before = world.ask(Method::GET, "/revocations", "").await.1;
    assert!(
        String::from_utf8_lossy(&before).contains(&enrolment),
        "{before:?}"
    );
    let World {
        fixture,
        repository,
        tip,
        distributor,
    } = world;
    let arguments = arguments(&fixture, &repository.path());
    distributor.stop().await;
    let distributor = Distributor::start(&arguments, Clock::system())
        .await
        .unwrap();
    let world = World {
        fixture,
        repository,
        tip,
        distributor,
    };
    assert_eq!(world.ask(Method::GET, "/revocations", "").await.1, before);

    // Only whoever revoked it does.
    let again = Proxy::fetch(world.join("front").await).await;
    assert_ne!(
        again.enrol().await.identity().enrolment_id(),
        Some(enrolment)
    );
    let (status, _) = world.ask(Method::DELETE, "/revocations", &asked).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.ask(Method::GET, "/revocations", "").await.1, "[]");
    let (status, _) = world.ask(Method::DELETE, "/revocations", &asked).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_folder_is_read_again_when_it_changes() {
    let world = World::start().await;
    let mut proxy = Proxy::fetch(world.join("front").await).await;
    proxy.enrol().await;
    let (mut stream, _connection) = proxy.follow().await;
    proxy.generation(&mut stream).await;
    let file = |name: &str| world.fixture.folder.path().join("trust").join(name);

    std::fs::write(file("revocations.trust.envelope"), b"half of a file").unwrap();
    let metrics = || async {
        let ports = std::fs::read(world.fixture.folder.path().join("ports.json")).unwrap();
        let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap();
        world.metrics(ports["metrics"].as_str().unwrap()).await
    };
    let refused = async {
        while !metrics()
            .await
            .contains("mesh_trust_updates_total{result=\"refused\"} 1")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused)
        .await
        .unwrap();
    let stream_of_trust = Revocations {
        version: 1,
        issued_ms: Clock::system().wall_ms(),
        entries: vec![Revocation {
            subject: RevokedSubject::SpiffeId(crate::fixture::id("front")),
            issued_before: None,
        }],
    };
    let envelope = stream_of_trust.seal(&world.fixture.root.scope, &[&world.fixture.key("trust")]);
    std::fs::write(file("new"), envelope.encode()).unwrap();
    std::fs::rename(file("new"), file("revocations.trust.envelope")).unwrap();
    stream
        .until(|response| matches!(response, Response::Revocations(_)))
        .await;
    assert_eq!(stream.end().await, Code::Unauthenticated);
    let listed = world.ask(Method::GET, "/revocations", "").await.1;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed[0]["by"], "trust");
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
