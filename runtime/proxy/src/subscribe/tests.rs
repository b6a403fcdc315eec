//! The control side against a distributor on loopback: the way from a join file to a confirmed
//! generation, a restart without anyone, and everything that must be refused.

mod mesh;

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::{Envelope, PayloadType};
use mesh_bundle::key::SigningKey;
use mesh_bundle::messages::bundle::Label;
use mesh_bundle::messages::distribution::follow_response::Kind as Response;
use mesh_bundle::messages::distribution::generation_update::Slice as Sent;
use mesh_bundle::messages::distribution::{
    EndpointSet, Endpoints, GenerationUpdate, Phase, ServiceAddress, SliceDelta, SliceFull,
    SliceSame, Status,
};
use mesh_bundle::reject::{RejectReason, Rejection};
use mesh_bundle::revocations::{Revocation, RevokedSubject};
use mesh_bundle::slice::{DeclaredEndpoint, EndpointAddress, EndpointSource};
use mesh_daemon::identity::svid::{SvidError, Usage};
use mesh_daemon::rpc::compression;
use mesh_daemon::store::Store;
use mesh_daemon::test_util::NOW_MS;

use mesh::{Built, Distributor, Home, Mesh, Proxy};

use super::belief::Belief;
use crate::bootstrap::StartError;

const PROBATION: Duration = Duration::from_secs(6);

/// A proxy that serves generation 1.
struct Story {
    mesh: Mesh,
    distributor: Distributor,
    home: Home,
    proxy: Proxy,
    first: Built,
}

impl Story {
    async fn begin() -> Self {
        let mesh = Mesh::new();
        let first = mesh.build(1, "one");
        Self::begin_with(mesh, first).await
    }

    async fn begin_with(mesh: Mesh, first: Built) -> Self {
        let distributor = Distributor::start(&mesh).await;
        let home = Home::new();
        home.invite(&mesh, distributor.address);
        let proxy = home.start().unwrap();
        distributor.say(mesh.seal_head(&mesh.head(NOW_MS, &first)));
        distributor.say(Response::Generation(first.update(&mesh.workload())));
        distributor.status(Phase::Serving, &first).await;
        Self {
            mesh,
            distributor,
            home,
            proxy,
            first,
        }
    }

    /// Names and sends another generation.
    fn send(&self, built: &Built) {
        let sequence = built.generation.order.sequence;
        let head = self.mesh.head(NOW_MS + sequence, built);
        self.distributor.say(self.mesh.seal_head(&head));
        let update = built.update(&self.mesh.workload());
        self.distributor.say(Response::Generation(update));
    }

    async fn confirm(&self, built: &Built) {
        self.home.clock.advance(PROBATION);
        self.distributor.status(Phase::Confirmed, built).await;
    }
}

#[tokio::test]
async fn from_a_join_file_to_a_confirmed_generation() {
    let story = Story::begin().await;
    let Story {
        distributor, first, ..
    } = &story;
    assert!(!story.home.join_path().exists());
    assert_eq!(story.proxy.served(), ["one"]);
    story.confirm(first).await;
    let heard = distributor
        .heard("a hello", |heard| !heard.hellos.is_empty())
        .await;
    assert_eq!(heard.enrolments, 1);
    let phases: Vec<_> = heard.statuses.iter().map(Status::phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Received,
            Phase::Verified,
            Phase::Prepared,
            Phase::Serving,
            Phase::Confirmed
        ]
    );
    let state = story.proxy.view.get();
    assert_eq!(state.sequence, Some(1));
    assert_eq!(state.confirmed.as_deref(), Some("0.1.1"));
    assert_eq!(state.commit, Some("01".repeat(20)));
    assert_eq!(story.proxy.view.ready(), Ok("serving 0.1.1".to_owned()));
    let metrics = story.proxy.metrics.encode();
    assert!(metrics.contains("mesh_config_generation 1.0"), "{metrics}");
    assert!(
        metrics.contains("mesh_cert_expiry_timestamp_seconds 1767312"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_restart_without_a_distributor_serves_what_was_served() {
    let story = Story::begin().await;
    let second = story.mesh.build(2, "two");
    story.send(&second);
    story.distributor.status(Phase::Serving, &second).await;
    let endpoints = Endpoints {
        version: 1,
        sets: vec![EndpointSet {
            service: "ratings".to_owned(),
            labels: vec![Label {
                key: "version".to_owned(),
                value: "v1".to_owned(),
            }],
            addresses: vec![ServiceAddress {
                port: 9080,
                address: "127.0.0.1:1".to_owned(),
            }],
            ..EndpointSet::default()
        }],
    };
    story.distributor.say(Response::Endpoints(endpoints));
    let has_endpoints = |proxy: &Proxy| !proxy.traffic.endpoints.lock().unwrap().is_empty();
    story.proxy.until("endpoints", has_endpoints).await;
    story.confirm(&second).await;
    story.distributor.kill().await;
    story.proxy.kill().await;

    let proxy = story.home.start().unwrap();
    proxy
        .until("serving", |proxy| proxy.served() == ["two"])
        .await;
    assert!(has_endpoints(&proxy));
    assert!(proxy.credentials.svid().is_some());
    let state = proxy.view.get();
    assert_eq!(state.floor.as_deref(), Some("0.2.1"));
    assert_eq!(state.confirmed.as_deref(), Some("0.2.1"));
    assert_eq!(proxy.view.ready(), Ok("serving 0.2.1".to_owned()));

    // Long after the head has expired: stale, and still serving.
    story.home.clock.advance(Duration::from_hours(1));
    proxy.until("stale", |proxy| proxy.view.get().stale).await;
    assert_eq!(proxy.view.ready(), Ok("serving 0.2.1, stale".to_owned()));
    assert!(
        proxy
            .metrics
            .encode()
            .contains("mesh_config_age_seconds 3605.9")
    );
}

/// Addresses that the traffic side has, of whatever service.
fn used(proxy: &Proxy) -> Vec<String> {
    let sets = proxy.traffic.endpoints.lock().unwrap();
    let addresses = sets.iter().flat_map(|set| &set.addresses);
    addresses.map(|(_, address)| address.to_string()).collect()
}

fn ratings_at(version: u64, addresses: &[&str]) -> Endpoints {
    let address = |address: &&str| ServiceAddress {
        port: 9080,
        address: (*address).to_owned(),
    };
    Endpoints {
        version,
        sets: vec![EndpointSet {
            service: "ratings".to_owned(),
            addresses: addresses.iter().map(address).collect(),
            ..EndpointSet::default()
        }],
    }
}

#[tokio::test]
async fn a_feed_is_held_against_the_slice_and_the_root() {
    let mut mesh = Mesh::new();
    mesh.root.development = false;
    let declared = EndpointSource::Declared(vec![DeclaredEndpoint {
        address: EndpointAddress::Static("10.0.0.1:9080".parse().unwrap()),
        port: 9080,
        labels: Vec::new(),
    }]);
    let first = mesh.build_calling(1, declared.clone());
    let second = mesh.build_calling(2, EndpointSource::Discovered);
    let third = mesh.build_calling(3, declared);
    let story = Story::begin_with(mesh, first).await;
    let proxy = &story.proxy;
    let refused = |proxy: &Proxy, reason: &str, count: usize| {
        let line = format!("mesh_endpoints_refused_total{{reason=\"{reason}\"}} {count}\n");
        proxy.metrics.encode().contains(&line)
    };

    let feed = ratings_at(1, &["10.0.0.7:9080", "127.0.0.1:9080"]);
    story.distributor.say(Response::Endpoints(feed));
    let declared = |proxy: &Proxy| refused(proxy, "declared", 2);
    proxy.until("a refusal", declared).await;
    assert_eq!(used(proxy), [""; 0]);

    // The next slice wants them: they come with it, without being sent again.
    story.send(&second);
    story.distributor.status(Phase::Serving, &second).await;
    assert_eq!(used(proxy), ["10.0.0.7:9080"]);
    assert!(refused(proxy, "local_address", 1));

    // Sent again, it is no news.
    let feed = ratings_at(2, &["10.0.0.7:9080", "127.0.0.1:9080", "10.0.0.8:9080"]);
    story.distributor.say(Response::Endpoints(feed));
    proxy.until("another", |proxy| used(proxy).len() == 2).await;
    assert!(refused(proxy, "local_address", 1));

    story.send(&third);
    story.distributor.status(Phase::Serving, &third).await;
    assert_eq!(used(proxy), [""; 0]);

    // A root for development: everything may be replaced.
    let mut next = story.mesh.root.clone();
    next.version = 2;
    next.development = true;
    let signed = next.seal(&[&story.mesh.root_key]);
    story.distributor.say(Response::TrustRoot((&signed).into()));
    proxy.until("all", |proxy| used(proxy).len() == 3).await;
}

#[tokio::test]
async fn a_stored_feed_is_judged_like_one_that_comes() {
    let mut mesh = Mesh::new();
    mesh.root.development = false;
    let first = mesh.build_calling(1, EndpointSource::Discovered);
    let story = Story::begin_with(mesh, first).await;
    let feed = ratings_at(1, &["10.0.0.7:9080", "169.254.169.254:9080"]);
    story.distributor.say(Response::Endpoints(feed));
    let has_one = |proxy: &Proxy| used(proxy) == ["10.0.0.7:9080"];
    story.proxy.until("endpoints", has_one).await;
    story.confirm(&story.first).await;
    story.distributor.kill().await;
    story.proxy.kill().await;

    let proxy = story.home.start().unwrap();
    proxy
        .until("serving", |proxy| proxy.served() == ["caller"])
        .await;
    assert!(has_one(&proxy));
}

#[tokio::test]
async fn a_restart_goes_on_where_the_distributor_is() {
    let story = Story::begin().await;
    story.confirm(&story.first).await;
    story.proxy.kill().await;
    let proxy = story.home.start().unwrap();
    let again = |heard: &mesh::Heard| heard.hellos.len() == 2;
    let heard = story.distributor.heard("a second hello", again).await;
    let hello = heard.hellos.last().unwrap();
    assert_eq!(hello.confirmed.map(|order| order.sequence), Some(1));
    assert_eq!(hello.head_issued_ms, NOW_MS);
    assert_eq!(
        hello.held_slices,
        [Digest::of(&story.first.slices[&story.mesh.workload()])
            .as_bytes()
            .to_vec()]
    );
    assert_eq!(heard.enrolments, 1);
    let second = story.mesh.build(2, "two");
    let head = story.mesh.head(NOW_MS + 1, &second);
    story.distributor.say(story.mesh.seal_head(&head));
    let update = second.update(&story.mesh.workload());
    story.distributor.say(Response::Generation(update));
    story.distributor.status(Phase::Serving, &second).await;
    assert_eq!(proxy.served(), ["one", "two"]);
}

/// What a distributor, or someone who has taken its place, may send instead of a good generation.
fn bad_updates(mesh: &Mesh) -> Vec<(RejectReason, &'static str, GenerationUpdate)> {
    let workload = mesh.workload();
    let good = mesh.build(9, "bad");
    let update = good.update(&workload);
    let with = |change: &dyn Fn(&mut GenerationUpdate)| {
        let mut update = update.clone();
        change(&mut update);
        update
    };
    let of_envelope =
        |envelope: &Envelope| with(&|update| update.generation = Some(envelope.into()));
    let sealed = |change: &dyn Fn(&mut Mesh)| {
        let mut other = Mesh::new();
        change(&mut other);
        let envelope = good.generation.seal(&other.scope, &[&other.compile]);
        of_envelope(&envelope)
    };
    let truncated = {
        let payload = good.envelope.payload();
        let half = payload[..payload.len() / 2].to_vec();
        Envelope::sign(PayloadType::Generation, half, &[&mesh.compile])
    };
    let rest_of = |change: &dyn Fn(&mut mesh_bundle::generation::Generation)| {
        let mut generation = good.generation.clone();
        change(&mut generation);
        of_envelope(&generation.seal(&mesh.scope, &[&mesh.compile]))
    };
    let future = {
        let mut slices = good.slices.clone();
        let mut slice = mesh_bundle::slice::Slice::decode(&slices[&workload]).unwrap();
        slice.required_features.push("teleport".to_owned());
        slices.insert(workload.clone(), slice.encode());
        mesh.build_of(9, slices)
    };
    let theirs = good.update(&mesh.authority.id("/service/ratings"));
    vec![
        (
            RejectReason::Unsigned,
            "unsigned",
            with(&|update| update.generation.as_mut().unwrap().signatures.clear()),
        ),
        (
            RejectReason::UnknownSigner,
            "stranger",
            sealed(&|mesh| mesh.compile = SigningKey::from_seed([77; 32])),
        ),
        (
            RejectReason::UnknownSigner,
            "head key",
            sealed(&|mesh| mesh.compile = SigningKey::from_seed([4; 32])),
        ),
        (
            RejectReason::WrongMesh,
            "mesh",
            sealed(&|mesh| mesh.scope.mesh = "other".to_owned()),
        ),
        (
            RejectReason::WrongEnvironment,
            "environment",
            sealed(&|mesh| mesh.scope.environment = "prod".to_owned()),
        ),
        (
            RejectReason::Truncated,
            "truncated",
            of_envelope(&truncated),
        ),
        (
            RejectReason::OrderTooLow,
            "lower sequence",
            rest_of(&|generation| generation.order.sequence = 1),
        ),
        (
            RejectReason::Equivocation,
            "another root at the same order",
            rest_of(&|generation| generation.order.sequence = 2),
        ),
        (
            RejectReason::RefRewritten,
            "another ref",
            rest_of(&|generation| generation.reference = "refs/heads/x".to_owned()),
        ),
        (
            RejectReason::BadProof,
            "another root",
            rest_of(&|generation| generation.root = Digest::of(b"")),
        ),
        (
            RejectReason::BadProof,
            "no proof",
            with(&|update| update.proof = None),
        ),
        (
            RejectReason::BadProof,
            "sibling",
            with(&|update| update.proof.as_mut().unwrap().siblings[0][0] ^= 1),
        ),
        (
            RejectReason::TooLarge,
            "4 GiB",
            with(&|update| update.proof.as_mut().unwrap().size = u32::MAX),
        ),
        (
            RejectReason::TooLarge,
            "more than was signed",
            with(&|update| {
                let compressed = compression::compress(&vec![0; 1 << 24]).unwrap();
                update.slice = Some(Sent::Full(SliceFull { compressed }));
            }),
        ),
        (
            RejectReason::Truncated,
            "less than was signed",
            with(&|update| {
                let compressed = compression::compress(b"little").unwrap();
                update.slice = Some(Sent::Full(SliceFull { compressed }));
            }),
        ),
        (
            RejectReason::NonCanonical,
            "no zstd",
            with(&|update| {
                let compressed = b"no zstd".to_vec();
                update.slice = Some(Sent::Full(SliceFull { compressed }));
            }),
        ),
        (
            RejectReason::BadProof,
            "other bytes of the same length",
            with(&|update| {
                let mut other = good.slices[&workload].clone();
                *other.last_mut().unwrap() ^= 1;
                let compressed = compression::compress(&other).unwrap();
                update.slice = Some(Sent::Full(SliceFull { compressed }));
            }),
        ),
        (RejectReason::BadProof, "another workload's", theirs),
        (
            RejectReason::UnknownFeature,
            "feature",
            future.update(&workload),
        ),
        (
            RejectReason::PolicyInvalid,
            "nonsense",
            mesh.build(8, "nonsense").update(&workload),
        ),
        (
            RejectReason::Truncated,
            "no slice",
            with(&|update| update.slice = None),
        ),
    ]
}

#[tokio::test]
async fn whatever_is_refused_leaves_the_last_good_serving() {
    let story = Story::begin().await;
    let second = story.mesh.build(2, "two");
    story.send(&second);
    story.distributor.status(Phase::Serving, &second).await;
    story.confirm(&second).await;
    let mut counts = BTreeMap::new();
    for (reason, name, update) in bad_updates(&story.mesh) {
        let heard = |heard: &mesh::Heard| heard.statuses.len();
        let before = heard(&story.distributor.heard(name, |_| true).await);
        story.distributor.say(Response::Generation(update));
        let rejected = story
            .distributor
            .heard(name, |heard| {
                let news = heard.statuses.get(before..).unwrap_or_default();
                news.iter().any(|status| status.phase() == Phase::Rejected)
            })
            .await;
        let status = rejected.statuses.last().unwrap();
        // A missing feature is named behind the reason.
        let kind = status.reason.split(':').next();
        assert_eq!(kind, Some(reason.as_str()), "{name}: {}", status.detail);
        *counts.entry(reason.as_str()).or_insert(0) += 1;
        assert_eq!(story.proxy.served(), ["one", "two"], "{name}");
        assert_eq!(story.proxy.view.ready(), Ok("serving 0.2.1".to_owned()));
    }
    let metrics = story.proxy.metrics.encode();
    for (reason, count) in counts {
        let line = format!("mesh_config_rejected_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    // And the next good one is served.
    let third = story.mesh.build(3, "three");
    story.send(&third);
    story.distributor.status(Phase::Serving, &third).await;
    assert_eq!(story.proxy.served(), ["one", "two", "three"]);
}

#[tokio::test]
async fn nothing_advances_without_a_head_that_says_so() {
    let story = Story::begin().await;
    let second = story.mesh.build(2, "two");
    let update = second.update(&story.mesh.workload());
    story.distributor.say(Response::Generation(update));
    story.distributor.status(Phase::Prepared, &second).await;
    // By a stranger, for another mesh, from the future: each is refused.
    let head = story.mesh.head(NOW_MS + 1, &second);
    let mut other_scope = story.mesh.scope.clone();
    other_scope.mesh = "other".to_owned();
    let late = story.mesh.head(NOW_MS + 600_000, &second);
    let bad = [
        head.seal(&story.mesh.scope, &[&SigningKey::from_seed([77; 32])]),
        head.seal(&story.mesh.scope, &[&story.mesh.compile]),
        head.seal(&other_scope, &[&story.mesh.head]),
        late.seal(&story.mesh.scope, &[&story.mesh.head]),
    ];
    for envelope in bad {
        story.distributor.say(Response::Head((&envelope).into()));
    }
    let refused = |proxy: &Proxy| {
        let last = proxy.view.get().last_rejection;
        last.is_some_and(|last| last.reason == "clock_skew")
    };
    story.proxy.until("the last refusal", refused).await;
    assert_eq!(story.proxy.served(), ["one"]);

    story.distributor.say(story.mesh.seal_head(&head));
    story.distributor.status(Phase::Serving, &second).await;
    // A head that is older than that one changes nothing.
    story
        .distributor
        .say(story.mesh.seal_head(&story.mesh.head(NOW_MS, &story.first)));
    let refused = |proxy: &Proxy| {
        let last = proxy.view.get().last_rejection;
        last.is_some_and(|last| last.reason == "order_too_low")
    };
    story.proxy.until("a refused head", refused).await;
    assert_eq!(story.proxy.served(), ["one", "two"]);
}

#[tokio::test]
async fn a_revert_and_a_difference_travel_light() {
    let story = Story::begin().await;
    let workload = story.mesh.workload();
    let second = story.mesh.build(2, "two");
    let base = story.first.slices[&workload].clone();
    let mut update = second.update(&workload);
    update.slice = Some(Sent::Delta(SliceDelta {
        base: Digest::of(&base).as_bytes().to_vec(),
        compressed: compression::compress_delta(&base, &second.slices[&workload]).unwrap(),
    }));
    let head = story.mesh.head(NOW_MS + 2, &second);
    story.distributor.say(story.mesh.seal_head(&head));
    story.distributor.say(Response::Generation(update.clone()));
    story.distributor.status(Phase::Serving, &second).await;

    // What `git revert` makes: a higher number, the same slice.
    let third = story.mesh.build(3, "one");
    let head = story.mesh.head(NOW_MS + 3, &third);
    story.distributor.say(story.mesh.seal_head(&head));
    let mut same = third.update(&workload);
    let digest = Digest::of(&base).as_bytes().to_vec();
    same.slice = Some(Sent::Same(SliceSame { digest }));
    story.distributor.say(Response::Generation(same));
    story.distributor.status(Phase::Serving, &third).await;
    assert_eq!(story.proxy.served(), ["one", "two", "one"]);

    // The same slice under a higher number: nothing is swapped.
    let fourth = story.mesh.build(4, "one");
    story.send(&fourth);
    let status = story.distributor.status(Phase::Serving, &fourth).await;
    assert_eq!(status.swap_ns, 0);
    assert_eq!(story.proxy.served(), ["one", "two", "one"]);
    assert_eq!(story.proxy.view.get().sequence, Some(4));

    // A difference to something that is not held is asked for as a whole.
    let fifth = story.mesh.build(5, "five");
    let mut update = fifth.update(&workload);
    update.slice = Some(Sent::Delta(SliceDelta {
        base: vec![0; 32],
        compressed: Vec::new(),
    }));
    story.distributor.say(Response::Generation(update));
    story
        .distributor
        .heard("a wish for the whole", |heard| heard.resends == 1)
        .await;
}

#[tokio::test]
async fn proven_absence_under_a_fresh_head_denies_everything() {
    let story = Story::begin().await;
    let other = story.mesh.authority.id("/service/ratings");
    let slices = BTreeMap::from([(other.clone(), Mesh::slice(&other, "ratings"))]);
    let second = story.mesh.build_of(2, slices);
    let absence = second.tree().prove_absent(&story.mesh.workload()).unwrap();
    let update = GenerationUpdate {
        generation: Some((&second.envelope).into()),
        slice: Some(Sent::Absent((&absence).into())),
        proof: None,
    };
    // Not named by a head: an absence that somebody merely shows.
    story.distributor.say(Response::Generation(update.clone()));
    let status = story.distributor.status(Phase::Rejected, &second).await;
    assert_eq!(status.reason, "bad_proof");
    assert_eq!(story.proxy.served(), ["one"]);

    let head = story.mesh.head(NOW_MS + 2, &second);
    story.distributor.say(story.mesh.seal_head(&head));
    story.distributor.say(Response::Generation(update));
    story.distributor.status(Phase::Serving, &second).await;
    assert_eq!(story.proxy.served(), ["one", "!"]);
    assert!(story.proxy.view.ready().is_err());

    // And back.
    let third = story.mesh.build(3, "one");
    story.send(&third);
    story.distributor.status(Phase::Serving, &third).await;
    assert_eq!(story.proxy.served(), ["one", "!", "one"]);
    assert!(story.proxy.view.ready().is_ok());
}

#[tokio::test]
async fn an_abort_steps_down_to_what_was_confirmed() {
    let story = Story::begin().await;
    story.confirm(&story.first).await;
    let second = story.mesh.build(2, "two");
    story.send(&second);
    story.distributor.status(Phase::Serving, &second).await;
    let mut head = story.mesh.head(NOW_MS + 3, &story.first);
    head.aborted = vec![second.reference().digest];
    story.distributor.say(story.mesh.seal_head(&head));
    story.distributor.status(Phase::Reverted, &second).await;
    story
        .proxy
        .until("the first again", |proxy| {
            proxy.served() == ["one", "two", "one"]
        })
        .await;
    assert_eq!(story.proxy.view.get().sequence, Some(1));
}

#[tokio::test]
async fn trust_data_takes_effect_at_once() {
    let story = Story::begin().await;
    let peer = story.mesh.authority.svid("/service/productpage");
    let judge = |proxy: &Proxy| proxy.credentials.judge_again(peer.chain(), Usage::Client);
    assert!(judge(&story.proxy).is_ok());
    let before = *story.proxy.traffic.rechecks.lock().unwrap();
    let entry = Revocation {
        subject: RevokedSubject::SpiffeId(peer.spiffe_id().clone()),
        issued_before: None,
    };
    let revocations = story.mesh.revocations(2, vec![entry]);
    story
        .distributor
        .say(Response::Revocations((&revocations).into()));
    let rechecked = |proxy: &Proxy| *proxy.traffic.rechecks.lock().unwrap() > before;
    story.proxy.until("a recheck", rechecked).await;
    assert_eq!(judge(&story.proxy), Err(SvidError::Revoked));

    // An older state of the stream does not un-revoke, neither now nor after a restart.
    let older = story.mesh.revocations(1, Vec::new());
    story
        .distributor
        .say(Response::Revocations((&older).into()));
    let refused = |proxy: &Proxy| proxy.view.get().last_rejection.is_some();
    story.proxy.until("a refusal", refused).await;
    assert_eq!(judge(&story.proxy), Err(SvidError::Revoked));
    story.distributor.kill().await;
    story.proxy.kill().await;
    let proxy = story.home.start().unwrap();
    proxy
        .until("serving", |proxy| !proxy.served().is_empty())
        .await;
    assert_eq!(judge(&proxy), Err(SvidError::Revoked));
}

#[tokio::test]
async fn a_new_trust_root_drops_keys_without_stopping_anything() {
    let story = Story::begin().await;
    let mesh = &story.mesh;
    let mut next = mesh.root.clone();
    next.version = 2;
    let compile = SigningKey::from_seed([33; 32]);
    let role = mesh_bundle::trust_root::Role {
        threshold: 1,
        keys: [compile.public()].into(),
    };
    next.roles
        .insert(mesh_bundle::trust_root::RoleKind::Compile, role);
    // Not signed by the root that is believed.
    let forged = next.seal(&[&SigningKey::from_seed([77; 32])]);
    story.distributor.say(Response::TrustRoot((&forged).into()));
    let refused = |proxy: &Proxy| proxy.view.get().last_rejection.is_some();
    story.proxy.until("a refusal", refused).await;
    assert_eq!(story.proxy.view.get().trust_root_version, Some(1));

    let signed = next.seal(&[&mesh.root_key]);
    story.distributor.say(Response::TrustRoot((&signed).into()));
    let has_next = |proxy: &Proxy| proxy.view.get().trust_root_version == Some(2);
    story.proxy.until("the next root", has_next).await;
    // What was signed by the old key is served on, and never confirmed.
    story.home.clock.advance(PROBATION);
    let status = story
        .distributor
        .status(Phase::Rejected, &story.first)
        .await;
    assert_eq!(status.reason, "unknown_signer");
    assert_eq!(story.proxy.view.get().confirmed, None);
    assert!(story.proxy.view.ready().is_ok());
    // Also after a restart, from the pin.
    story.proxy.kill().await;
    let proxy = story.home.start().unwrap();
    proxy
        .until("serving", |proxy| proxy.served() == ["one"])
        .await;
    assert!(has_next(&proxy));
}

#[tokio::test]
async fn the_certificate_is_renewed_in_time_and_the_stream_goes_on() {
    let story = Story::begin().await;
    let before = story.proxy.credentials.svid().unwrap();
    story.home.clock.advance(Duration::from_hours(9));
    // The clocks are looked at together: once it is stale, renewal has been judged too.
    story
        .proxy
        .until("stale", |proxy| proxy.view.get().stale)
        .await;
    assert_eq!(story.distributor.heard("", |_| true).await.renewals, 0);
    story.home.clock.advance(Duration::from_hours(4));
    let renewed = |proxy: &Proxy| {
        let now = proxy.credentials.svid().unwrap();
        now.identity().leaf_spki != before.identity().leaf_spki
    };
    story.proxy.until("a new certificate", renewed).await;
    // The distributor knows this stream by the old key, and statuses are signed with it.
    let second = story.mesh.build(2, "two");
    let head = story.mesh.head(NOW_MS + 13 * 3_600_000, &second);
    story.distributor.say(story.mesh.seal_head(&head));
    let update = second.update(&story.mesh.workload());
    story.distributor.say(Response::Generation(update));
    story.distributor.status(Phase::Serving, &second).await;
    assert_eq!(story.distributor.heard("", |_| true).await.hellos.len(), 1);
}

#[tokio::test]
async fn a_join_file_beside_its_certificate_is_removed() {
    let story = Story::begin().await;
    story.confirm(&story.first).await;
    story.proxy.kill().await;
    let address = story.distributor.address;
    // As if it had ended between enrolling and removing it.
    story.home.invite(&story.mesh, address);
    let proxy = story.home.start().unwrap();
    let again = |heard: &mesh::Heard| heard.hellos.len() == 2;
    story.distributor.heard("a second hello", again).await;
    assert!(!story.home.join_path().exists());
    proxy.kill().await;

    // One that is newer than the certificate is for later.
    let expires_ms = NOW_MS + 3_600_000;
    story.home.invite_until(&story.mesh, address, expires_ms);
    let proxy = story.home.start().unwrap();
    let again = |heard: &mesh::Heard| heard.hellos.len() == 3;
    story.distributor.heard("a third hello", again).await;
    assert!(story.home.join_path().exists());
    proxy.kill().await;
}

#[tokio::test]
async fn without_a_pinned_root_nothing_starts() {
    assert!(matches!(
        Home::new().start().map(drop),
        Err(StartError::Join(_))
    ));
}

#[tokio::test]
async fn a_distributor_without_the_pinned_root_learns_nothing() {
    let mesh = Mesh::new();
    let mut impostor = Mesh::new();
    impostor.root_key = SigningKey::from_seed([66; 32]);
    let role = mesh_bundle::trust_root::Role {
        threshold: 1,
        keys: [impostor.root_key.public()].into(),
    };
    let kind = mesh_bundle::trust_root::RoleKind::Root;
    impostor.root.roles.insert(kind, role);
    let distributor = Distributor::start(&impostor).await;
    let home = Home::new();
    home.invite(&mesh, distributor.address);
    let proxy = home.start().unwrap();
    let refused = |proxy: &Proxy| proxy.view.get().last_rejection.is_some();
    proxy.until("a refusal", refused).await;
    let heard = distributor.heard("", |_| true).await;
    assert_eq!((heard.enrolments, heard.hellos.len()), (0, 0));
    assert!(home.join_path().exists());
    assert!(proxy.view.ready().is_err());

    // The pinned root, and a server that it does not vouch for: still nothing.
    distributor.publish(mesh.objects());
    proxy
        .until("a store", |_| home.store().join("manifest").exists())
        .await;
    assert_eq!(distributor.heard("", |_| true).await.enrolments, 0);
}

#[tokio::test]
async fn a_store_is_believed_no_more_than_a_distributor() {
    let story = Story::begin().await;
    let second = story.mesh.build(2, "two");
    story.send(&second);
    story.distributor.status(Phase::Serving, &second).await;
    story.distributor.kill().await;
    story.proxy.kill().await;
    let change = |change: &dyn Fn(&mut mesh_daemon::store::Contents)| {
        let mut store = Store::open(&story.home.store()).unwrap();
        let mut contents = store.load().unwrap().unwrap().contents;
        change(&mut contents);
        store.save(&contents).unwrap();
    };
    let good = {
        let mut store = Store::open(&story.home.store()).unwrap();
        store.load().unwrap().unwrap().contents
    };

    // A generation that nobody signed, put in front: the one behind it is served.
    let forged = {
        let generation = story.mesh.build(3, "three");
        let key = SigningKey::from_seed([77; 32]);
        generation.generation.seal(&story.mesh.scope, &[&key])
    };
    change(&|contents| contents.generations[0].envelope = forged.clone());
    let proxy = story.home.start().unwrap();
    proxy
        .until("the first", |proxy| proxy.served() == ["one"])
        .await;
    proxy.kill().await;

    // Another slice under the signed root.
    change(&|contents| {
        *contents = good.clone();
        contents.generations.truncate(1);
        contents.generations[0].slice = Some(Mesh::slice(&story.mesh.workload(), "evil"));
    });
    let proxy = story.home.start().unwrap();
    let connects = |proxy: &Proxy| proxy.view.get().trust_root_version.is_some();
    proxy.until("started", connects).await;
    assert_eq!(proxy.served(), [""; 0]);
    assert!(proxy.view.ready().is_err());
    proxy.kill().await;

    // Revocations that nobody signed: it serves on without them, and says so.
    change(&|contents| {
        *contents = good.clone();
        let stream = contents.revocations.remove(0);
        let verified = story.mesh.root.verify_revocations(&stream).unwrap();
        let key = SigningKey::from_seed([77; 32]);
        contents.revocations = vec![verified.value().seal(&story.mesh.scope, &[&key])];
    });
    let mut store = Store::open(&story.home.store()).unwrap();
    let contents = store.load().unwrap().unwrap().contents;
    let workload = mesh_bundle::acceptance::Workload {
        identity: story.mesh.workload(),
        instance: "1".to_owned(),
        features: mesh_bundle::feature::SUPPORTED.to_vec(),
        release: "0.1.0".parse().unwrap(),
    };
    let clock = story.home.clock.clone();
    let (_, offers, refused) = Belief::restore(store, contents, workload, clock).unwrap();
    assert_eq!(offers.len(), 2);
    let reasons: Vec<_> = refused.iter().map(Rejection::reason).collect();
    assert_eq!(reasons, [RejectReason::UnknownSigner]);

    // A floor above everything.
    change(&|contents| {
        *contents = good.clone();
        contents.floor = contents
            .floor
            .or(Some(second.generation.order))
            .map(|mut floor| {
                floor.sequence = 9;
                floor
            });
    });
    let proxy = story.home.start().unwrap();
    proxy.until("started", connects).await;
    assert_eq!(proxy.served(), [""; 0]);
    proxy.kill().await;

    // A trust root that is not the pinned one.
    change(&|contents| {
        *contents = good.clone();
        let mut root = story.mesh.root.clone();
        root.epoch = 1;
        contents.trust_roots = vec![root.seal(&[&story.mesh.root_key])];
    });
    let error = story.home.start().map(drop).unwrap_err();
    assert!(matches!(error, StartError::Rejected(_)), "{error}");
}

#[tokio::test]
async fn a_distributor_that_is_revoked_is_left_at_once() {
    let story = Story::begin().await;
    let entry = Revocation {
        subject: RevokedSubject::SpiffeId(story.mesh.authority.id("/mesh/distributor/main")),
        issued_before: None,
    };
    let revocations = story.mesh.revocations(2, vec![entry]);
    story
        .distributor
        .say(Response::Revocations((&revocations).into()));
    // Unsigned, and from someone who is not trusted any more.
    let endpoints = Endpoints {
        version: 1,
        sets: vec![EndpointSet {
            service: "ratings".to_owned(),
            ..EndpointSet::default()
        }],
    };
    story.distributor.say(Response::Endpoints(endpoints));
    let left = |proxy: &Proxy| proxy.view.get().distributor.is_none();
    story.proxy.until("the stream is left", left).await;
    assert!(story.proxy.traffic.endpoints.lock().unwrap().is_empty());
    assert!(story.proxy.view.ready().is_ok());
}

#[tokio::test]
async fn a_certificate_that_nobody_renews_is_told() {
    let story = Story::begin().await;
    story.distributor.kill().await;
    story.home.clock.advance(Duration::from_hours(25));
    let expired = |proxy: &Proxy| proxy.view.get().certificate_expired;
    story
        .proxy
        .until("the end of the certificate", expired)
        .await;
    let unready = Err("certificate has expired".to_owned());
    assert_eq!(story.proxy.view.ready(), unready);
    story.proxy.kill().await;

    // Also after a restart: what was served is served on, to nobody until an operator helps.
    let proxy = story.home.start().unwrap();
    proxy
        .until("serving", |proxy| proxy.served() == ["one"])
        .await;
    assert_eq!(proxy.view.ready(), unready);
}
