//! What the tests of this crate share: keys and trust as `meshc keygen` writes them, generations
//! without a compiler, and real repositories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mesh_bundle::ceremony::{CeremonyKeys, CeremonySettings, RoleKeys, first_trust_root};
use mesh_bundle::digest::Digest;
use mesh_bundle::generation::{Generation, ObjectId};
use mesh_bundle::key::SigningKey;
use mesh_bundle::merkle::Tree;
use mesh_bundle::order::Order;
use mesh_bundle::revocations::Revocations;
use mesh_bundle::scope::Scope;
use mesh_bundle::slice::{
    Access, Balance, Callee, Destination, EndpointSource, Exchange, InboundService, Port, Protocol,
    Retry, Route, Slice, Target,
};
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::{IdentitySource, TrustRoot};
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::Credentials;
use mesh_daemon::telemetry::Metrics;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::events::Events;
use crate::generation::Served;
use crate::keys::Keys;
use crate::publish::{PublishError, Publisher};
use crate::store::Store;
use crate::trust::Trust;

/// Wall time of the tests: 2026-01-01.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;

const DOMAIN: &str = "test.example";

/// A trust folder and everything that is made from it.
pub(crate) struct Fixture {
    /// Holds `keys/`, `trust/` and `state/`.
    pub(crate) folder: TempDir,
    /// The first trust root.
    pub(crate) root: TrustRoot,
    compile: SigningKey,
}

impl Fixture {
    /// New keys, written as `meshc keygen` does.
    pub(crate) fn new(development: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["keys", "trust"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let names = ["root", "trust", "compile", "head", "issuer"];
        let keys: Vec<_> = (1..=5_u8)
            .map(|seed| SigningKey::from_seed([seed; 32]))
            .collect();
        for (name, seed) in names.iter().zip(1..=5_u8) {
            write_key(
                &folder.path().join(format!("keys/{name}.key")),
                &STANDARD.encode([seed; 32]),
            );
        }
        let [root_key, trust_key, compile, head, issuer]: [SigningKey; 5] =
            keys.try_into().unwrap();
        let scope = Scope {
            mesh: "bookshop".to_owned(),
            environment: "default".to_owned(),
            trust_domain: TrustDomain::parse(DOMAIN).unwrap(),
        };
        let keys = CeremonyKeys {
            root: RoleKeys::one(root_key.public()),
            trust: RoleKeys::one(trust_key.public()),
            compile: RoleKeys::one(compile.public()),
            head: vec![head.public()],
            issuer: vec![issuer.public()],
            federation: BTreeMap::new(),
        };
        let settings = CeremonySettings {
            scope: scope.clone(),
            reference: "refs/heads/main".to_owned(),
            root_path: String::new(),
            development,
            distributors: vec!["main".to_owned()],
            relays: Vec::new(),
            identity_source: IdentitySource::Issuer,
            min_proxy: None,
        };
        let root = first_trust_root(&keys, &settings).unwrap();
        let ca = write_authorities(folder.path());
        let bundle = TrustBundle {
            trust_domain: scope.trust_domain.clone(),
            version: 1,
            x509_authorities: vec![ca],
        };
        let revocations = Revocations {
            version: 1,
            issued_ms: NOW_MS,
            entries: Vec::new(),
        };
        let trust = folder.path().join("trust");
        fs::write(
            trust.join("trust-root.1.envelope"),
            root.seal(&[&root_key]).encode(),
        )
        .unwrap();
        fs::write(
            trust.join("trust-bundle.envelope"),
            bundle.seal(&scope, &[&trust_key]).encode(),
        )
        .unwrap();
        fs::write(
            trust.join("revocations.envelope"),
            revocations.seal(&scope, &[&issuer]).encode(),
        )
        .unwrap();
        Self {
            folder,
            root,
            compile,
        }
    }

    /// One of the keys, by its file.
    pub(crate) fn key(&self, name: &str) -> SigningKey {
        let path = self.folder.path().join(format!("keys/{name}.key"));
        let seed = STANDARD
            .decode(fs::read(path).unwrap().trim_ascii())
            .unwrap();
        SigningKey::from_seed(seed.try_into().unwrap())
    }

    /// The keys.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::new(Keys::read(&self.folder.path().join("keys"), &self.root).unwrap())
    }

    /// The state directory, opened anew.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.folder.path().join("state")).unwrap()
    }

    /// A publisher as a start makes it.
    pub(crate) fn publisher(&self, clock: &Clock) -> Publisher {
        self.try_publisher(clock).unwrap()
    }

    /// The same, which may not start.
    pub(crate) fn try_publisher(&self, clock: &Clock) -> Result<Publisher, PublishError> {
        let trust = Trust::read(&self.folder.path().join("trust")).unwrap();
        let events = Events::new(&Metrics::new("meshd", "0.0.0"));
        let credentials = Credentials::new(clock.clone());
        Publisher::start(
            trust,
            self.keys(),
            self.store(),
            credentials,
            clock.clone(),
            events,
        )
    }

    /// A generation of these slices.
    pub(crate) fn served(&self, sequence: u64, slices: &[Slice]) -> Served {
        let slices: BTreeMap<SpiffeId, Bytes> = slices
            .iter()
            .map(|slice| (slice.identity.clone(), Bytes::from(slice.encode())))
            .collect();
        let leaves = slices
            .iter()
            .map(|(identity, bytes)| {
                (
                    identity.clone(),
                    Digest::of(bytes),
                    u32::try_from(bytes.len()).unwrap(),
                )
            })
            .collect();
        let tree = Tree::build(leaves).unwrap();
        let commit = Digest::of(&tree.root().as_bytes()[..]);
        let generation = Generation {
            order: Order {
                epoch: self.root.epoch,
                sequence,
                emit: 1,
            },
            reference: self.root.reference.clone(),
            root_path: String::new(),
            root: tree.root(),
            leaf_count: tree.leaf_count(),
            commit: ObjectId::from_bytes(commit.as_bytes()).unwrap(),
            tree: ObjectId::from_bytes(&[2; 20]).unwrap(),
            input_digest: Digest::of(b"input"),
            compiler: "0.1.0".to_owned(),
        };
        let envelope = generation.seal(&self.root.scope, &[&self.compile]);
        Served::verify(&self.root, envelope, slices).unwrap()
    }
}

/// An identity of the test's trust domain.
pub(crate) fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{DOMAIN}/service/{name}")).unwrap()
}

/// A slice that calls these services, whose endpoints are discovered.
pub(crate) fn slice(name: &str, callees: &[&str]) -> Slice {
    let callees = callees.iter().map(|callee| self::callee(callee)).collect();
    let port = Port {
        number: 9080,
        protocol: Protocol::Http,
    };
    let service = InboundService {
        service: name.to_owned(),
        ports: vec![port],
        rules: Vec::new(),
        ..InboundService::default()
    };
    Slice {
        access: Access {
            services: vec![service],
            ..Access::default()
        },
        callees,
        ..Slice::new(id(name))
    }
}

fn callee(name: &str) -> Callee {
    let exchange = Exchange {
        timeout: Some(Duration::from_secs(15)),
        connect_timeout: Duration::from_secs(1),
        retry: Retry {
            attempts: 1,
            causes: Vec::new(),
            per_try: None,
            any_method: false,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        },
        stream_idle: Some(Duration::from_mins(1)),
        max_duration: None,
        ..Exchange::default()
    };
    let target = Target {
        service: name.to_owned(),
        subset: None,
        ..Target::default()
    };
    Callee {
        service: name.to_owned(),
        hosts: vec![name.to_owned()],
        ports: vec![Port {
            number: 9080,
            protocol: Protocol::Http,
        }],
        identities: vec![id(name)],
        subsets: Vec::new(),
        endpoints: EndpointSource::Discovered,
        routes: vec![Route {
            name: "default".to_owned(),
            matches: Vec::new(),
            destinations: vec![Destination {
                target,
                weight: 1,
                otherwise: Vec::new(),
                ..Destination::default()
            }],
            exchange,
            ..Route::default()
        }],
        retry_budget: None,
        balance: Balance::LeastRequest,
        ..Callee::default()
    }
}

/// A bare repository whose commits are made without a work tree.
pub(crate) struct TestRepository {
    _folder: TempDir,
    git: git2::Repository,
}

impl TestRepository {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(folder.path()).unwrap();
        Self {
            _folder: folder,
            git,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.git.path().to_owned()
    }

    /// A commit of these files on top of another; no ref moves.
    pub(crate) fn commit(&self, files: &[(&str, &str)], parent: Option<git2::Oid>) -> git2::Oid {
        let mut tree = self.git.treebuilder(None).unwrap();
        for (name, text) in files {
            let blob = self.git.blob(text.as_bytes()).unwrap();
            tree.insert(name, blob, 0o100_644).unwrap();
        }
        let tree = self.git.find_tree(tree.write().unwrap()).unwrap();
        let who = git2::Signature::new(
            "test",
            "test@test.example",
            &git2::Time::new(1_767_225_600, 0),
        )
        .unwrap();
        let parent = parent.map(|parent| self.git.find_commit(parent).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        self.git
            .commit(None, &who, &who, "a change", &tree, &parents)
            .unwrap()
    }

    /// Points the ref at a commit, forward or not.
    pub(crate) fn push(&self, commit: git2::Oid) {
        self.git
            .reference("refs/heads/main", commit, true, "test")
            .unwrap();
    }

    /// The files that a ref holds; none if there is no such ref.
    pub(crate) fn held(&self, reference: &str) -> BTreeMap<String, Vec<u8>> {
        let mut held = BTreeMap::new();
        let Ok(tip) = self.git.find_reference(reference) else {
            return held;
        };
        tip.peel_to_tree()
            .unwrap()
            .walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
                if let Ok(blob) = self.git.find_blob(entry.id()) {
                    let path = format!("{folder}{}", entry.name().unwrap());
                    held.insert(path, blob.content().to_vec());
                }
                git2::TreeWalkResult::Ok
            })
            .unwrap();
        held
    }

    /// Deletes the ref.
    pub(crate) fn delete(&self) {
        self.git
            .find_reference("refs/heads/main")
            .unwrap()
            .delete()
            .unwrap();
    }
}

fn write_key(path: &Path, text: &str) {
    fs::write(path, format!("{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Writes a root and an intermediate; returns the root, DER.
fn write_authorities(folder: &Path) -> Vec<u8> {
    let root =
        CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
    let intermediate = CertifiedIssuer::signed_by(
        authority("intermediate"),
        KeyPair::generate().unwrap(),
        &root,
    )
    .unwrap();
    write_key(
        &folder.join("keys/intermediate.key"),
        intermediate.key().serialize_pem().trim_end(),
    );
    fs::write(folder.join("trust/intermediate.pem"), intermediate.pem()).unwrap();
    root.der().to_vec()
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.subject_alt_names = vec![SanType::URI(
        format!("spiffe://{DOMAIN}").try_into().unwrap(),
    )];
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}
