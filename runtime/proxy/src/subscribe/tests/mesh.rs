//! A mesh for tests: its keys, what they sign, and a distributor on loopback that says exactly what a
//! test tells it to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::{Envelope, STATUS_TYPE};
use mesh_bundle::feature;
use mesh_bundle::generation::{Generation, ObjectId};
use mesh_bundle::head::{GenerationRef, Head};
use mesh_bundle::key::SigningKey;
use mesh_bundle::merkle::Tree;
use mesh_bundle::messages::distribution::follow_request::Kind as Request;
use mesh_bundle::messages::distribution::follow_response::Kind as Response;
use mesh_bundle::messages::distribution::generation_update::Slice as Sent;
use mesh_bundle::messages::distribution::{
    EnrolRequest, EnrolResponse, FetchTrustRequest, FetchTrustResponse, FollowRequest,
    FollowResponse, GenerationUpdate, Hello, Phase, RenewRequest, SliceFull, Status,
};
use mesh_bundle::order::Order;
use mesh_bundle::revocations::{Revocation, Revocations};
use mesh_bundle::scope::Scope;
use mesh_bundle::slice::{
    Access, Balance, Callee, Destination, EndpointSource, Exchange, InboundService, Port, Protocol,
    Retry, Route, Slice, Target,
};
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::{IdentitySource, Role, RoleKind, TrustRoot};
use mesh_daemon::clock::Clock;
use mesh_daemon::drain::{self, DrainTrigger};
use mesh_daemon::identity::Credentials;
use mesh_daemon::identity::csr::VerifiedCsr;
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::{
    Distribution, RpcListener, compression, connection_info, enrolment_is_signed,
};
use mesh_daemon::telemetry::Metrics;
use mesh_daemon::test_util::{NOW_MS, TestAuthority, quick_folder};
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::traffic::Traffic;
use super::super::view::View;
use super::super::{Context, run};
use crate::args::{Arguments, Command};
use crate::data_plane::EndpointSet;

const TOKEN: [u8; 32] = [9; 32];

/// Whatever a test waits for comes sooner than this, or not at all.
const SOON: Duration = Duration::from_secs(10);

/// Keys and statements.
pub(super) struct Mesh {
    pub(super) authority: Arc<TestAuthority>,
    pub(super) scope: Scope,
    pub(super) compile: SigningKey,
    pub(super) head: SigningKey,
    pub(super) issuer: SigningKey,
    pub(super) root_key: SigningKey,
    pub(super) trust: SigningKey,
    pub(super) root: TrustRoot,
}

/// A generation with everything of it.
#[derive(Clone)]
pub(super) struct Built {
    pub(super) envelope: Envelope,
    pub(super) generation: Generation,
    pub(super) slices: BTreeMap<SpiffeId, Vec<u8>>,
}

impl Mesh {
    pub(super) fn new() -> Self {
        let key = |seed| SigningKey::from_seed([seed; 32]);
        let [root_key, trust, compile, head, issuer] = [1, 2, 3, 4, 5].map(key);
        let role = |key: &SigningKey| Role {
            threshold: 1,
            keys: [key.public()].into(),
        };
        let authority = Arc::new(TestAuthority::new("bookshop.example"));
        let scope = Scope {
            mesh: "bookshop".to_owned(),
            environment: "default".to_owned(),
            trust_domain: TrustDomain::parse("bookshop.example").unwrap(),
        };
        let root = TrustRoot {
            scope: scope.clone(),
            version: 1,
            epoch: 0,
            development: true,
            reference: "refs/heads/main".to_owned(),
            root_path: String::new(),
            roles: [
                (RoleKind::Root, role(&root_key)),
                (RoleKind::Trust, role(&trust)),
                (RoleKind::Compile, role(&compile)),
                (RoleKind::Head, role(&head)),
                (RoleKind::Issuer, role(&issuer)),
            ]
            .into(),
            distributors: [authority.id("/mesh/distributor/main")].into(),
            relays: BTreeSet::new(),
            min_emit: 1,
            min_proxy: None,
            identity_source: IdentitySource::Issuer,
            commit_signers: Vec::new(),
        };
        Self {
            authority,
            scope,
            compile,
            head,
            issuer,
            root_key,
            trust,
            root,
        }
    }

    pub(super) fn workload(&self) -> SpiffeId {
        self.authority.id("/service/reviews")
    }

    pub(super) fn root_envelope(&self) -> Envelope {
        self.root.seal(&[&self.root_key])
    }

    /// What anybody may fetch.
    pub(super) fn objects(&self) -> FetchTrustResponse {
        let bundle = TrustBundle {
            trust_domain: self.scope.trust_domain.clone(),
            version: 1,
            x509_authorities: vec![self.authority.root().to_vec()],
        };
        let revocations = self.revocations(1, Vec::new());
        FetchTrustResponse {
            trust_roots: vec![(&self.root_envelope()).into()],
            trust_bundles: vec![(&bundle.seal(&self.scope, &[&self.trust])).into()],
            revocations: vec![(&revocations).into()],
            heads: Vec::new(),
        }
    }

    pub(super) fn revocations(&self, version: u64, entries: Vec<Revocation>) -> Envelope {
        let stream = Revocations {
            version,
            issued_ms: NOW_MS,
            entries,
        };
        stream.seal(&self.scope, &[&self.issuer])
    }

    /// A slice of a workload; the name of its one service makes it different from another.
    pub(super) fn slice(identity: &SpiffeId, service: &str) -> Vec<u8> {
        let mut slice = Slice {
            access: Access {
                services: vec![InboundService {
                    service: service.to_owned(),
                    ports: vec![Port {
                        number: 9080,
                        protocol: Protocol::Http,
                    }],
                    rules: Vec::new(),
                    ..InboundService::default()
                }],
                ..Access::default()
            },
            callees: Vec::new(),
            ..Slice::new(identity.clone())
        };
        slice.required_features = feature::required_by(&slice);
        slice.encode()
    }

    /// A generation whose slice for our workload calls `ratings`.
    pub(super) fn build_calling(&self, sequence: u64, endpoints: EndpointSource) -> Built {
        let workload = self.workload();
        let mut slice = Slice::decode(&Self::slice(&workload, "caller")).unwrap();
        slice.callees = vec![callee(
            "ratings",
            self.authority.id("/service/ratings"),
            endpoints,
        )];
        slice.required_features = feature::required_by(&slice);
        self.build_of(sequence, [(workload, slice.encode())].into())
    }

    /// A generation that has a slice for our workload and for another.
    pub(super) fn build(&self, sequence: u64, service: &str) -> Built {
        let other = self.authority.id("/service/ratings");
        let slices = [
            (self.workload(), Self::slice(&self.workload(), service)),
            (other.clone(), Self::slice(&other, "ratings")),
        ];
        self.build_of(sequence, slices.into())
    }

    pub(super) fn build_of(&self, sequence: u64, slices: BTreeMap<SpiffeId, Vec<u8>>) -> Built {
        let tree = tree(&slices);
        let generation = Generation {
            order: Order {
                epoch: 0,
                sequence,
                emit: 1,
            },
            reference: "refs/heads/main".to_owned(),
            root_path: String::new(),
            root: tree.root(),
            leaf_count: tree.leaf_count(),
            commit: ObjectId::from_bytes(&[u8::try_from(sequence).unwrap(); 20]).unwrap(),
            tree: ObjectId::from_bytes(&[7; 20]).unwrap(),
            input_digest: Digest::of(b"input"),
            compiler: "0.1.0".to_owned(),
        };
        Built {
            envelope: generation.seal(&self.scope, &[&self.compile]),
            generation,
            slices,
        }
    }

    /// A head that names a generation.
    pub(super) fn head(&self, issued_ms: u64, current: &Built) -> Head {
        Head {
            trust_root_version: self.root.version,
            issued_ms,
            expires_ms: issued_ms + 600_000,
            current: current.reference(),
            candidate: None,
            aborted: Vec::new(),
            trust_bundles: Vec::new(),
            revocations: Vec::new(),
        }
    }

    pub(super) fn seal_head(&self, head: &Head) -> Response {
        Response::Head((&head.seal(&self.scope, &[&self.head])).into())
    }
}

fn callee(service: &str, identity: SpiffeId, endpoints: EndpointSource) -> Callee {
    let target = Target {
        service: service.to_owned(),
        subset: None,
        ..Target::default()
    };
    let route = Route {
        name: "default".to_owned(),
        matches: Vec::new(),
        destinations: vec![Destination {
            target,
            weight: 1,
            otherwise: Vec::new(),
            ..Destination::default()
        }],
        exchange: Exchange {
            timeout: None,
            connect_timeout: Duration::from_secs(1),
            retry: Retry {
                attempts: 1,
                causes: Vec::new(),
                per_try: None,
                any_method: false,
                backoff_base: Duration::from_millis(25),
                backoff_max: Duration::from_millis(250),
            },
            stream_idle: None,
            max_duration: None,
            ..Exchange::default()
        },
        ..Route::default()
    };
    Callee {
        service: service.to_owned(),
        hosts: vec![service.to_owned()],
        ports: vec![Port {
            number: 9080,
            protocol: Protocol::Http,
        }],
        identities: vec![identity],
        subsets: Vec::new(),
        endpoints,
        routes: vec![route],
        retry_budget: None,
        balance: Balance::LeastRequest,
        ..Callee::default()
    }
}

fn tree(slices: &BTreeMap<SpiffeId, Vec<u8>>) -> Tree {
    let leaves = slices.iter().map(|(id, bytes)| {
        (
            id.clone(),
            Digest::of(bytes),
            u32::try_from(bytes.len()).unwrap(),
        )
    });
    Tree::build(leaves.collect()).unwrap()
}

impl Built {
    pub(super) fn reference(&self) -> GenerationRef {
        GenerationRef {
            order: self.generation.order,
            digest: self.envelope.payload_digest(),
        }
    }

    pub(super) fn tree(&self) -> Tree {
        tree(&self.slices)
    }

    /// As a distributor sends it to a workload that holds nothing.
    pub(super) fn update(&self, identity: &SpiffeId) -> GenerationUpdate {
        let proof = self.tree().prove(identity).unwrap();
        let compressed = compression::compress(&self.slices[identity]).unwrap();
        GenerationUpdate {
            generation: Some((&self.envelope).into()),
            slice: Some(Sent::Full(SliceFull { compressed })),
            proof: Some((&proof).into()),
        }
    }
}

/// A distributor that a test speaks through.
pub(super) struct Distributor {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _drain: DrainTrigger,
    task: JoinHandle<()>,
}

struct Shared {
    authority: Arc<TestAuthority>,
    objects: Mutex<FetchTrustResponse>,
    /// Everything that was said on streams, in order.
    said: Mutex<Vec<Response>>,
    changed: watch::Sender<()>,
    /// Of every stream together.
    heard: watch::Sender<Heard>,
}

/// What proxies have said.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) hellos: Vec<Hello>,
    pub(super) statuses: Vec<Status>,
    pub(super) resends: usize,
    pub(super) enrolments: usize,
    pub(super) renewals: usize,
}

impl Distributor {
    pub(super) async fn start(mesh: &Mesh) -> Self {
        let shared = Arc::new(Shared {
            authority: Arc::clone(&mesh.authority),
            objects: Mutex::new(mesh.objects()),
            said: Mutex::default(),
            changed: watch::Sender::new(()),
            heard: watch::Sender::default(),
        });
        let credentials = mesh.authority.credentials("/mesh/distributor/main");
        let listener = RpcListener::bind("127.0.0.1:0".parse().unwrap(), &credentials)
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, watcher) = drain::channel();
        let task = tokio::spawn(listener.serve(Handlers(Arc::clone(&shared)), watcher));
        Self {
            address,
            shared,
            _drain: trigger,
            task,
        }
    }

    /// Sends to every stream, present and future.
    pub(super) fn say(&self, message: Response) {
        self.shared.said.lock().unwrap().push(message);
        self.shared.changed.send_replace(());
    }

    pub(super) fn publish(&self, objects: FetchTrustResponse) {
        *self.shared.objects.lock().unwrap() = objects;
    }

    /// Waits until what was heard is as a test wants it.
    pub(super) async fn heard(&self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.shared.heard.subscribe();
        let heard = tokio::time::timeout(SOON, heard.wait_for(wanted)).await;
        let Ok(heard) = heard else {
            panic!("never heard: {what}; {:?}", self.shared.heard.borrow());
        };
        heard.unwrap().clone()
    }

    /// Waits for a status, counted from all that were ever heard.
    pub(super) async fn status(&self, phase: Phase, generation: &Built) -> Status {
        let digest = generation.reference().digest.as_bytes().to_vec();
        let is_it = move |status: &Status| {
            let of = status.generation.as_ref().map(|it| it.digest.clone());
            status.phase() == phase && of.as_ref() == Some(&digest)
        };
        let what = format!("{phase:?} of {}", generation.reference().order);
        let heard = self
            .heard(&what, |heard| heard.statuses.iter().any(&is_it))
            .await;
        heard.statuses.into_iter().rfind(is_it).unwrap()
    }

    /// Ends at once, as by SIGKILL.
    pub(super) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

struct Handlers(Arc<Shared>);

#[tonic::async_trait]
impl Distribution for Handlers {
    async fn fetch_trust(
        &self,
        _request: tonic::Request<FetchTrustRequest>,
    ) -> Result<tonic::Response<FetchTrustResponse>, tonic::Status> {
        Ok(tonic::Response::new(self.0.objects.lock().unwrap().clone()))
    }

    async fn enrol(
        &self,
        request: tonic::Request<EnrolRequest>,
    ) -> Result<tonic::Response<EnrolResponse>, tonic::Status> {
        let info = Arc::clone(connection_info(&request).unwrap());
        self.0.heard.send_modify(|heard| heard.enrolments += 1);
        let request = request.into_inner();
        let token = SigningKey::from_seed(TOKEN).public();
        if !enrolment_is_signed(&request, &info.exporter, &token) {
            return Err(tonic::Status::permission_denied("token"));
        }
        Ok(tonic::Response::new(self.sign(&request.csr)))
    }

    async fn renew(
        &self,
        request: tonic::Request<RenewRequest>,
    ) -> Result<tonic::Response<EnrolResponse>, tonic::Status> {
        assert!(connection_info(&request).unwrap().peer.is_some());
        self.0.heard.send_modify(|heard| heard.renewals += 1);
        Ok(tonic::Response::new(self.sign(&request.into_inner().csr)))
    }

    type FollowStream =
        Pin<Box<dyn futures_util::Stream<Item = Result<FollowResponse, tonic::Status>> + Send>>;

    async fn follow(
        &self,
        request: tonic::Request<tonic::Streaming<FollowRequest>>,
    ) -> Result<tonic::Response<Self::FollowStream>, tonic::Status> {
        let peer = connection_info(&request).unwrap().peer.clone().unwrap();
        let mut requests = request.into_inner();
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                shared.heard.send_modify(|heard| match message.kind {
                    Some(Request::Hello(hello)) => heard.hellos.push(hello),
                    Some(Request::Status(signed)) => {
                        assert!(peer.verify_signature(
                            STATUS_TYPE,
                            &signed.status,
                            &signed.signature
                        ));
                        let status = Status::decode(signed.status.as_slice()).unwrap();
                        heard.statuses.push(status);
                    }
                    Some(Request::ResendSlice(_)) => heard.resends += 1,
                    Some(Request::Heartbeat(_)) | None => {}
                });
            }
        });
        let shared = Arc::clone(&self.0);
        let changed = shared.changed.subscribe();
        let said = futures_util::stream::unfold((shared, changed, 0), |state| async move {
            let (shared, mut changed, place) = state;
            loop {
                let next = shared.said.lock().unwrap().get(place).cloned();
                if let Some(kind) = next {
                    let message = FollowResponse { kind: Some(kind) };
                    return Some((Ok(message), (shared, changed, place + 1)));
                }
                changed.changed().await.ok()?;
            }
        });
        Ok(tonic::Response::new(Box::pin(said)))
    }
}

impl Handlers {
    fn sign(&self, csr: &[u8]) -> EnrolResponse {
        let authority = &self.0.authority;
        let csr = VerifiedCsr::verify(csr).unwrap();
        let chain = authority.sign_csr(&authority.leaf("/service/reviews"), &csr);
        EnrolResponse {
            chain: chain.iter().map(|der| der.to_vec()).collect(),
        }
    }
}

/// A traffic side that remembers what it was given.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// Services of the slices that were made current; `!` where all was denied.
    pub(super) served: Mutex<Vec<String>>,
    pub(super) endpoints: Mutex<Vec<EndpointSet>>,
    pub(super) rechecks: Mutex<usize>,
}

impl Traffic for Recorder {
    type Prepared = String;

    fn prepare(&self, slice: &Slice, _generation: &str) -> Result<String, String> {
        let service = slice.access.services[0].service.clone();
        if service == "nonsense" {
            return Err("makes no sense".to_owned());
        }
        Ok(service)
    }

    fn swap(&self, prepared: String, endpoints: Option<Vec<EndpointSet>>) -> Duration {
        if let Some(sets) = endpoints {
            self.set_endpoints(sets);
        }
        self.served.lock().unwrap().push(prepared);
        Duration::from_nanos(1)
    }

    fn deny_all(&self) {
        self.served.lock().unwrap().push("!".to_owned());
    }

    fn recheck_peers(&self) {
        *self.rechecks.lock().unwrap() += 1;
    }

    fn set_endpoints(&self, sets: Vec<EndpointSet>) {
        *self.endpoints.lock().unwrap() = sets;
    }
}

/// A proxy without traffic.
pub(super) struct Proxy {
    pub(super) traffic: Arc<Recorder>,
    pub(super) credentials: Credentials,
    pub(super) view: View,
    pub(super) metrics: Metrics,
    task: JoinHandle<()>,
}

/// Where a proxy keeps its things, and its clock.
pub(super) struct Home {
    folder: tempfile::TempDir,
    pub(super) clock: Clock,
}

impl Home {
    pub(super) fn new() -> Self {
        Self {
            folder: quick_folder(),
            clock: Clock::manual(NOW_MS),
        }
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(super) fn join_path(&self) -> PathBuf {
        self.folder.path().join("join.json")
    }

    /// Puts a join file there.
    pub(super) fn invite(&self, mesh: &Mesh, address: SocketAddr) {
        self.invite_until(mesh, address, NOW_MS + 600_000);
    }

    pub(super) fn invite_until(&self, mesh: &Mesh, address: SocketAddr, expires_ms: u64) {
        let join = JoinFile {
            addresses: vec![address.to_string()],
            trust_root: mesh.root.digest(),
            scope: mesh.scope.clone(),
            identity: mesh.workload(),
            token_id: "t1".to_owned(),
            seed: TOKEN,
            expires_ms,
            floor: None,
        };
        join.write(&self.join_path()).unwrap();
    }

    /// Starts a proxy, as `main` does.
    pub(super) fn start(&self) -> Result<Proxy, crate::bootstrap::StartError> {
        let (store, join) = (self.store(), self.join_path());
        let words = [
            "meshp".as_ref(),
            "run".as_ref(),
            "--store".as_ref(),
            store.as_os_str(),
            "--join".as_ref(),
            join.as_os_str(),
        ];
        let Command::Run(arguments) = Arguments::parse_from(words).command else {
            panic!("it is `run`");
        };
        let booted = crate::bootstrap::boot(&arguments, &self.clock)?;
        let metrics = Metrics::new("meshp", "0.1.0");
        let view = View::new("1".to_owned(), self.clock.clone(), &metrics);
        let traffic = Arc::new(Recorder::default());
        let credentials = Credentials::new(self.clock.clone());
        let context = Context {
            traffic: Arc::clone(&traffic),
            credentials: credentials.clone(),
            clock: self.clock.clone(),
            view: view.clone(),
            workload: booted.workload,
            labels: Vec::new(),
            join_path: Some(self.join_path()),
        };
        Ok(Proxy {
            traffic,
            credentials,
            view,
            metrics,
            task: tokio::spawn(run(booted.start, context)),
        })
    }
}

impl Proxy {
    /// What was made current, in order.
    pub(super) fn served(&self) -> Vec<String> {
        self.traffic.served.lock().unwrap().clone()
    }

    /// Waits for something that nobody is told of.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !wanted(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let came = tokio::time::timeout(SOON, waiting).await;
        assert!(came.is_ok(), "never came: {what}; {:?}", self.view.get());
    }

    /// Ends at once, as by SIGKILL; the store is free afterwards.
    pub(super) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}
