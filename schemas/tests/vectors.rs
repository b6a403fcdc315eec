//! The test vectors of `schemas/vectors`, computed again and compared byte by byte. With
//! `MESH_WRITE_VECTORS=1` in the environment they are written instead.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mesh_bundle::ceremony::{CeremonyKeys, CeremonySettings, RoleKeys, first_trust_root};
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::{Envelope, PayloadType, pae};
use mesh_bundle::generation::{Generation, ObjectId};
use mesh_bundle::head::{Candidate, GenerationRef, Head};
use mesh_bundle::key::SigningKey;
use mesh_bundle::merkle::{self, AbsenceProof, InclusionProof, Tree};
use mesh_bundle::messages::bundle as messages;
use mesh_bundle::order::Order;
use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
use mesh_bundle::scope::Scope;
use mesh_bundle::slice::{
    Access, AccessRule, Balance, Callee, Condition, DeclaredEndpoint, Destination, Effect,
    EndpointAddress, EndpointSource, Enforcement, Exchange, FieldMatch, InboundService, Label,
    PathPattern, PathPatternKind, Port, Principal, Protocol, Retry, RetryBudget, RetryBudgetKind,
    RetryCause, Route, RouteMatch, Slice, StringMatch, StringMatchKind, Subset, Target,
};
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::{IdentitySource, RoleKind, TrustRoot};
use mesh_bundle::{cohort, feature};
use prost::Message;
use serde_json::{Value, json};

#[path = "vectors/language.rs"]
mod language;

const SEEDS: [(&str, u8); 7] = [
    ("root", 1),
    ("trust", 2),
    ("compile", 3),
    ("head", 4),
    ("issuer", 5),
    ("federation", 6),
    ("stranger", 7),
];

#[test]
fn keys() {
    let keys = SEEDS.map(|(role, seed)| {
        let key = key(role);
        json!({
            "role": role,
            "seed": hex::encode([seed; 32]),
            "public": hex::encode(key.public().as_bytes()),
            "key_id": key.id().to_hex(),
        })
    });
    check("keys.json", &json!({ "keys": keys }));
}

#[test]
fn cohorts() {
    let places = [
        ("bookshop.example", "reviews", "reviews-1"),
        ("bookshop.example", "reviews", "reviews-2"),
        ("bookshop.example", "ratings", ""),
    ];
    let places = places.map(|(domain, service, instance)| {
        let candidate = Digest::of(b"candidate");
        let id = domain_of(domain)
            .identity(&format!("/service/{service}"))
            .expect("a valid path");
        json!({
            "candidate": candidate.to_hex(),
            "spiffe_id": id.as_str(),
            "instance": instance,
            "place": cohort::place(&candidate, &id, instance),
        })
    });
    check("cohort.json", &json!({ "cohort": places }));
}

#[test]
fn slices() {
    let accepted = [
        ("smallest", smallest()),
        ("everything", everything()),
        ("language", language::slice()),
    ];
    let accepted = accepted.map(|(name, slice)| {
        let bytes = slice.encode();
        let decoded = Slice::decode_with(&bytes, feature::KNOWN);
        assert_eq!(decoded.as_ref(), Ok(&slice), "{name}");
        json!({
            "name": name,
            "bytes": hex::encode(&bytes),
            "digest": slice.digest().to_hex(),
            "access": hex::encode(slice.access.encode()),
        })
    });
    let refused = refused_slices();
    let refused: Vec<_> = refused
        .into_iter()
        .map(|(name, bytes)| {
            let refusal = Slice::decode_with(&bytes, feature::KNOWN).expect_err(name);
            json!({ "name": name, "bytes": hex::encode(bytes), "reason": refusal.as_str() })
        })
        .collect();
    check(
        "slices.json",
        &json!({ "accepted": accepted, "refused": refused }),
    );
}

/// No feature is a name alone: each is asked for by something that a slice can say.
#[test]
fn every_feature_has_its_content() {
    let mut needed = feature::required_by(&everything());
    needed.extend(feature::required_by(&language::slice()));
    for feature in feature::KNOWN {
        assert!(needed.iter().any(|needed| needed == feature), "{feature}");
    }
}

#[test]
fn statements() {
    let root = trust_root();
    let scope = scope();
    let generation = generation();
    let by = |role: &str| key(role);
    let accepted = [
        ("trust root 1", root.seal(&[&by("root")])),
        ("generation", generation.seal(&scope, &[&by("compile")])),
        ("head", head().seal(&scope, &[&by("head")])),
        (
            "own trust bundle",
            trust_bundle("bookshop.example").seal(&scope, &[&by("trust")]),
        ),
        (
            "foreign trust bundle",
            trust_bundle("partner.example").seal(&scope, &[&by("federation")]),
        ),
        ("revocations", revocations().seal(&scope, &[&by("issuer")])),
        (
            "generation, also signed by a stranger",
            generation.seal(&scope, &[&by("compile"), &by("stranger")]),
        ),
    ];
    let accepted = accepted.map(|(name, envelope)| {
        verify(&root, &envelope).expect(name);
        let statement =
            messages::Statement::decode(envelope.payload()).expect("a statement of our own");
        json!({
            "name": name,
            "payload_type": envelope.payload_type().as_str(),
            "body": hex::encode(statement.body),
            "payload": hex::encode(envelope.payload()),
            "payload_digest": envelope.payload_digest().to_hex(),
            "pae": hex::encode(pae(envelope.payload_type().as_str(), envelope.payload())),
            "envelope": hex::encode(envelope.encode()),
        })
    });
    let refused: Vec<_> = refused_envelopes()
        .into_iter()
        .map(|(name, bytes)| {
            let refusal = Envelope::decode(&bytes)
                .and_then(|envelope| verify(&root, &envelope))
                .expect_err(name);
            json!({ "name": name, "envelope": hex::encode(bytes), "reason": refusal.as_str() })
        })
        .collect();
    check(
        "statements.json",
        &json!({ "accepted": accepted, "refused": refused }),
    );
}

#[test]
fn merkle_trees() {
    let trees: Vec<_> = (0..=7).map(merkle_tree).collect();
    check("merkle.json", &json!({ "trees": trees }));
}

fn merkle_tree(count: u8) -> Value {
    let named = |n: u8| {
        let id = domain_of("bookshop.example").identity(&format!("/service/s{n}"));
        (id.expect("a valid path"), vec![n; usize::from(n) + 1])
    };
    let slices: BTreeMap<SpiffeId, Vec<u8>> = (0..count).map(named).collect();
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a few bytes");
    let tree = Tree::build(
        slices
            .iter()
            .map(|(id, bytes)| (id.clone(), Digest::of(bytes), size(bytes)))
            .collect(),
    )
    .expect("distinct identities");
    let leaves: Vec<_> = tree
        .identities()
        .map(|id| {
            let bytes = &slices[id];
            let (key, digest) = (merkle::key(id), Digest::of(bytes));
            let parts: [&[u8]; 4] = [
                &[0],
                key.as_bytes(),
                &size(bytes).to_be_bytes(),
                digest.as_bytes(),
            ];
            let proof = tree.prove(id).expect("it is there");
            merkle::verify_inclusion(&tree.root(), tree.leaf_count(), id, &proof)
                .expect("its own proof");
            json!({
                "spiffe_id": id.as_str(),
                "slice": hex::encode(bytes),
                "key": key.to_hex(),
                "leaf": Digest::of_parts(&parts).to_hex(),
                "proof": inclusion(&proof),
            })
        })
        .collect();
    let absent: Vec<_> = (0..4)
        .map(|n| {
            let id = domain_of("bookshop.example").identity(&format!("/service/absent{n}"));
            let id = id.expect("a valid path");
            let proof = tree.prove_absent(&id).expect("it is not there");
            merkle::verify_absence(&tree.root(), tree.leaf_count(), &id, &proof)
                .expect("its own proof");
            json!({
                "spiffe_id": id.as_str(),
                "key": merkle::key(&id).to_hex(),
                "proof": absence(&proof),
            })
        })
        .collect();
    json!({
        "leaf_count": tree.leaf_count(),
        "root": tree.root().to_hex(),
        "leaves": leaves,
        "absent": absent,
    })
}

fn inclusion(proof: &InclusionProof) -> Value {
    let siblings: Vec<_> = proof.siblings.iter().map(|it| it.to_hex()).collect();
    json!({
        "index": proof.index,
        "size": proof.size,
        "digest": proof.digest.to_hex(),
        "siblings": siblings,
    })
}

fn absence(proof: &AbsenceProof) -> Value {
    let leaf =
        |leaf: &merkle::Leaf| json!({ "key": leaf.key.to_hex(), "proof": inclusion(&leaf.proof) });
    json!({
        "before": proof.before.as_ref().map(leaf),
        "after": proof.after.as_ref().map(leaf),
    })
}

/// Compares with the committed file, or writes it.
fn check(file: &str, vectors: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    if std::env::var_os("MESH_WRITE_VECTORS").is_some() {
        std::fs::write(&path, format!("{vectors:#}\n")).expect("the folder is there");
    }
    let committed = std::fs::read(&path).expect("the file is committed");
    let committed: Value = serde_json::from_slice(&committed).expect("the file is JSON");
    assert!(
        committed == *vectors,
        "{file} differs from what this code computes; a released format must not change"
    );
}

/// As the verifier of that type and role would.
fn verify(root: &TrustRoot, envelope: &Envelope) -> Result<(), mesh_bundle::reject::Rejection> {
    match envelope.payload_type() {
        PayloadType::TrustRoot => TrustRoot::verify_pinned(envelope, &root.digest()).map(drop),
        PayloadType::Generation => root.verify_generation(envelope).map(drop),
        PayloadType::Head => root.verify_head(envelope).map(drop),
        PayloadType::TrustBundle => root.verify_trust_bundle(envelope).map(drop),
        PayloadType::Revocations => root.verify_revocations(envelope).map(drop),
    }
}

fn key(role: &str) -> SigningKey {
    let (_, seed) = SEEDS
        .into_iter()
        .find(|(name, _)| *name == role)
        .expect("a role of the table");
    SigningKey::from_seed([seed; 32])
}

fn domain_of(name: &str) -> TrustDomain {
    TrustDomain::parse(name).expect("a valid name")
}

fn identity(service: &str) -> SpiffeId {
    domain_of("bookshop.example")
        .identity(&format!("/service/{service}"))
        .expect("a valid path")
}

fn scope() -> Scope {
    Scope {
        mesh: "bookshop".to_owned(),
        environment: "default".to_owned(),
        trust_domain: domain_of("bookshop.example"),
    }
}

fn trust_root() -> TrustRoot {
    let public = |role| key(role).public();
    let keys = CeremonyKeys {
        root: RoleKeys::one(public("root")),
        trust: RoleKeys::one(public("trust")),
        compile: RoleKeys::one(public("compile")),
        head: vec![public("head")],
        issuer: vec![public("issuer")],
        federation: BTreeMap::from([(
            domain_of("partner.example"),
            RoleKeys::one(public("federation")),
        )]),
    };
    let settings = CeremonySettings {
        scope: scope(),
        reference: "refs/heads/main".to_owned(),
        root_path: "mesh".to_owned(),
        development: false,
        distributors: vec!["main".to_owned()],
        relays: vec!["edge".to_owned()],
        identity_source: IdentitySource::Issuer,
        min_proxy: Some("0.1.0".parse().expect("a release")),
    };
    first_trust_root(&keys, &settings).expect("distinct keys")
}

fn generation() -> Generation {
    let object = |byte| ObjectId::from_bytes(&[byte; 20]).expect("20 bytes");
    Generation {
        order: Order {
            epoch: 0,
            sequence: 42,
            emit: 1,
        },
        reference: "refs/heads/main".to_owned(),
        root_path: "mesh".to_owned(),
        root: Digest::of(b"root"),
        leaf_count: 3,
        commit: object(0xc0),
        tree: object(0x7e),
        input_digest: Digest::of(b"input"),
        compiler: "0.1.0".to_owned(),
    }
}

fn head() -> Head {
    let scope = scope();
    let current = GenerationRef {
        order: generation().order,
        digest: generation().digest(&scope),
    };
    Head {
        trust_root_version: 1,
        issued_ms: 1_800_000_000_000,
        expires_ms: 1_800_000_600_000,
        current,
        candidate: Some(Candidate {
            generation: GenerationRef {
                order: Order {
                    sequence: 43,
                    ..current.order
                },
                digest: Digest::of(b"candidate"),
            },
            share: 100,
            prepare_only: true,
        }),
        aborted: vec![Digest::of(b"aborted"), Digest::of(b"also aborted")],
        trust_bundles: vec![
            trust_bundle("partner.example").reference(&scope),
            trust_bundle("bookshop.example").reference(&scope),
        ],
        revocations: vec![revocations().reference(&scope, key("issuer").id())],
    }
}

fn trust_bundle(name: &str) -> TrustBundle {
    TrustBundle {
        trust_domain: domain_of(name),
        version: 3,
        x509_authorities: vec![b"two".to_vec(), b"one".to_vec()],
    }
}

fn revocations() -> Revocations {
    let entry = |subject, issued_before| Revocation {
        subject,
        issued_before,
    };
    Revocations {
        version: 7,
        issued_ms: 1_800_000_000_000,
        entries: vec![
            entry(
                RevokedSubject::SpiffeId(identity("reviews")),
                Some(1_800_000_000),
            ),
            entry(RevokedSubject::LeafSpki(Digest::of(b"leaf")), None),
            entry(RevokedSubject::IssuerSpki(Digest::of(b"issuer")), None),
            entry(RevokedSubject::EnrolmentId("e-1".to_owned()), None),
        ],
    }
}

fn refused_envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let good = generation().seal(&scope(), &[&key("compile")]);
    let statement = messages::Statement::decode(good.payload()).expect("a statement of our own");
    let sealed = |change: &dyn Fn(&mut messages::Statement)| {
        let mut statement = statement.clone();
        change(&mut statement);
        let payload = statement.encode_to_vec();
        Envelope::sign(PayloadType::Generation, payload, &[&key("compile")]).encode()
    };
    let of = |scope: &Scope| generation().seal(scope, &[&key("compile")]).encode();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 1].to_vec();
    let changed = |change: &dyn Fn(&mut Generation)| {
        let mut generation = generation();
        change(&mut generation);
        generation.seal(&scope(), &[&key("compile")]).encode()
    };
    let staging = Scope {
        environment: "staging".to_owned(),
        ..scope()
    };
    let other_mesh = Scope {
        mesh: "other".to_owned(),
        ..scope()
    };
    let other_domain = Scope {
        trust_domain: domain_of("other.example"),
        ..scope()
    };
    let mut two_of_two = trust_root();
    two_of_two.roles.entry(RoleKind::Root).and_modify(|role| {
        role.keys.insert(key("stranger").public());
    });
    vec![
        ("no signature", generation().seal(&scope(), &[]).encode()),
        (
            "signed by a stranger",
            generation().seal(&scope(), &[&key("stranger")]).encode(),
        ),
        (
            "signed by a key of another role",
            generation().seal(&scope(), &[&key("head")]).encode(),
        ),
        ("cut off", cut(&good.encode())),
        ("another mesh", of(&other_mesh)),
        ("another environment", of(&staging)),
        ("another trust domain", of(&other_domain)),
        (
            "a trust root that is not the pinned one",
            two_of_two.seal(&[&key("root")]).encode(),
        ),
        ("format 2", sealed(&|statement| statement.format = 2)),
        (
            "a required feature that does not exist",
            sealed(&|statement| statement.required_features = vec!["telepathy".to_owned()]),
        ),
        ("no scope", sealed(&|statement| statement.scope = None)),
        (
            "an unknown field in the body",
            sealed(&|statement| statement.body.extend([0x78, 0x01])),
        ),
        (
            "a body cut off",
            sealed(&|statement| statement.body.truncate(40)),
        ),
        (
            "another epoch",
            changed(&|generation| generation.order.epoch = 1),
        ),
        (
            "another ref",
            changed(&|generation| generation.reference.push_str("/other")),
        ),
        (
            "the federation key for the own domain",
            trust_bundle("bookshop.example")
                .seal(&scope(), &[&key("federation")])
                .encode(),
        ),
    ]
}

fn refused_slices() -> Vec<(&'static str, Vec<u8>)> {
    let good = everything().encode();
    let changed = |change: &dyn Fn(&mut messages::Slice)| {
        let mut message = messages::Slice::decode(good.as_slice()).expect("a slice of our own");
        change(&mut message);
        message.encode_to_vec()
    };
    let language = language::slice().encode();
    let changed_language = |change: &dyn Fn(&mut messages::Slice)| {
        let mut message = messages::Slice::decode(language.as_slice()).expect("a slice of our own");
        change(&mut message);
        message.encode_to_vec()
    };
    vec![
        ("cut off", good[..good.len() - 1].to_vec()),
        (
            "an unknown field",
            [good.as_slice(), &[0x78, 0x01]].concat(),
        ),
        (
            "a repeated field",
            [&[0x08, 0x01], good.as_slice()].concat(),
        ),
        (
            "an over-long varint",
            [&[0x08, 0x81, 0x00], &good[2..]].concat(),
        ),
        ("format 2", changed(&|slice| slice.format = 2)),
        (
            "a feature that does not exist",
            changed(&|slice| slice.required_features = vec!["telepathy".to_owned()]),
        ),
        (
            "an enum value 0",
            changed(&|slice| slice.callees[0].balance = 0),
        ),
        (
            "an unknown enum value",
            changed(&|slice| slice.callees[0].balance = 9),
        ),
        ("a missing message", changed(&|slice| slice.access = None)),
        (
            "a list that descends",
            changed(&|slice| slice.required_features.reverse()),
        ),
        (
            "a list with a value twice",
            changed(&|slice| slice.callees.push(slice.callees[0].clone())),
        ),
        (
            "an identity without a path",
            changed(&|slice| slice.identity.truncate("spiffe://bookshop.example".len())),
        ),
        (
            "an allow rule for nobody",
            changed(&|slice| {
                let access = slice.access.as_mut().expect("it has one");
                access.services[0].rules[0].who.clear();
            }),
        ),
        (
            "all weights 0",
            changed(&|slice| {
                for to in &mut slice.callees[0].routes[0].destinations {
                    to.weight = 0;
                }
            }),
        ),
        (
            "neither destinations nor an answer",
            changed(&|slice| slice.callees[0].routes[0].destinations.clear()),
        ),
        (
            "destinations beside an answer",
            changed_language(&|slice| {
                let routes = &mut slice.gateways[0].routes;
                let answer = routes[0].answer.clone();
                routes[1].answer = answer;
            }),
        ),
        (
            "an empty message where nothing is meant",
            changed(&|slice| slice.callees[0].pool = Some(messages::Pool::default())),
        ),
        (
            "client certificates without authorities",
            changed_language(&|slice| {
                let access = slice.access.as_mut().expect("it has one");
                let listener = &mut access.services[0].listeners[1];
                listener.tls.as_mut().expect("it has").trust.clear();
            }),
        ),
        (
            "a header name in upper case",
            changed_language(&|slice| {
                let filters = slice.gateways[0].routes[1].filters.as_mut();
                let edits = filters.and_then(|all| all.request_headers.as_mut());
                edits.expect("it has").add[0].name.make_ascii_uppercase();
            }),
        ),
        (
            "a redirect with a status that is none",
            changed_language(&|slice| {
                if let Some(messages::route::Answer::Redirect(redirect)) =
                    &mut slice.gateways[0].routes[2].answer
                {
                    redirect.status = 304;
                }
            }),
        ),
    ]
}

fn smallest() -> Slice {
    Slice {
        access: Access::default(),
        callees: Vec::new(),
        ..Slice::new(identity("details"))
    }
}

/// One of each thing that a slice can hold; every list ascends.
fn everything() -> Slice {
    let mut slice = Slice {
        access: Access {
            services: vec![InboundService {
                service: "reviews".to_owned(),
                ports: vec![port(9080, Protocol::Http), port(9081, Protocol::Grpc)],
                rules: vec![
                    rule(
                        "allow productpage",
                        Effect::Allow,
                        vec![Principal::SpiffeId(identity("productpage"))],
                        conditions(),
                    ),
                    rule("deny everyone", Effect::Deny, Vec::new(), Vec::new()),
                    AccessRule {
                        enforcement: Enforcement::Audit,
                        ..rule("audit", Effect::Allow, principals(), Vec::new())
                    },
                ],
                ..InboundService::default()
            }],
            ..Access::default()
        },
        callees: vec![declared(), discovered()],
        ..Slice::new(identity("reviews"))
    };
    slice.required_features = feature::required_by(&slice);
    // Rules are a set by their bytes; take them in the order that decoding gives.
    Slice::decode(&slice.encode()).expect("it is valid")
}

fn port(number: u16, protocol: Protocol) -> Port {
    Port { number, protocol }
}

fn rule(name: &str, effect: Effect, who: Vec<Principal>, conditions: Vec<Condition>) -> AccessRule {
    AccessRule {
        name: name.to_owned(),
        effect,
        enforcement: Enforcement::Enforce,
        who,
        conditions,
    }
}

fn principals() -> Vec<Principal> {
    vec![
        Principal::SpiffeId(identity("ratings")),
        Principal::SpiffePrefix("spiffe://bookshop.example/gateway/".to_owned()),
        Principal::Any,
        Principal::Unauthenticated,
    ]
}

fn conditions() -> Vec<Condition> {
    let field = |name: &str, kind, ignore_case| FieldMatch {
        name: name.to_owned(),
        values: vec![StringMatch { kind, ignore_case }],
    };
    let path = |kind, ignore_case| PathPattern { kind, ignore_case };
    let text = |text: &str| text.to_owned();
    vec![
        Condition::Method(vec![text("GET"), text("HEAD")]),
        Condition::Path(vec![
            path(PathPatternKind::Template(text("/reviews/**")), false),
            path(PathPatternKind::Regex(text("/r[0-9]+")), true),
        ]),
        Condition::Host(vec![text("**.shop"), text("reviews")]),
        Condition::Port(vec![9080, 9081]),
        Condition::Header(field("user", StringMatchKind::Exact(text("tester")), true)),
        Condition::Query(field("q", StringMatchKind::Prefix(text("a")), false)),
        Condition::Cookie(field("c", StringMatchKind::Suffix(text("z")), false)),
        Condition::Header(FieldMatch {
            name: text("present"),
            values: Vec::new(),
        }),
        Condition::Query(field("r", StringMatchKind::Contains(text("m")), false)),
        Condition::Cookie(field("d", StringMatchKind::Regex(text("[a-z]*")), false)),
        Condition::ClientIp(vec!["10.0.0.0/8".parse().expect("a network")]),
        Condition::PeerIp(vec!["fd00::/8".parse().expect("a network")]),
        Condition::From(principals()),
        Condition::Not(Box::new(Condition::Method(vec![text("POST")]))),
    ]
}

fn exchange(causes: Vec<RetryCause>) -> Exchange {
    Exchange {
        timeout: Some(Duration::from_secs(6)),
        connect_timeout: Duration::from_secs(1),
        retry: Retry {
            attempts: 3,
            causes,
            per_try: Some(Duration::from_secs(2)),
            any_method: true,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        },
        stream_idle: Some(Duration::from_mins(1)),
        max_duration: Some(Duration::from_hours(1)),
        ..Exchange::default()
    }
}

fn target(service: &str, subset: Option<&str>) -> Target {
    Target {
        service: service.to_owned(),
        subset: subset.map(ToOwned::to_owned),
        ..Target::default()
    }
}

fn labels(version: &str) -> Vec<Label> {
    vec![Label {
        key: "version".to_owned(),
        value: version.to_owned(),
    }]
}

fn declared() -> Callee {
    let endpoint = |address, version| DeclaredEndpoint {
        address,
        port: 9080,
        labels: labels(version),
    };
    Callee {
        service: "details".to_owned(),
        hosts: vec!["details".to_owned(), "details.shop".to_owned()],
        ports: vec![port(9080, Protocol::Http)],
        identities: vec![identity("details")],
        subsets: Vec::new(),
        endpoints: EndpointSource::Declared(vec![
            endpoint(
                EndpointAddress::Static("10.0.0.7:9080".parse().expect("an address")),
                "v1",
            ),
            endpoint(
                EndpointAddress::Dns {
                    name: "details.internal".to_owned(),
                    port: 9080,
                },
                "v2",
            ),
        ]),
        routes: vec![Route {
            name: "default".to_owned(),
            matches: Vec::new(),
            destinations: vec![Destination {
                target: target("details", None),
                weight: 1,
                otherwise: Vec::new(),
                ..Destination::default()
            }],
            exchange: Exchange {
                timeout: None,
                stream_idle: None,
                max_duration: None,
                ..exchange(Vec::new())
            },
            ..Route::default()
        }],
        retry_budget: Some(RetryBudget {
            share: 2_000,
            kind: RetryBudgetKind::Requests {
                min_count: 5,
                min_per: Duration::from_secs(1),
                window: Duration::from_secs(10),
            },
        }),
        balance: Balance::RoundRobin,
        ..Callee::default()
    }
}

fn discovered() -> Callee {
    let destination = |subset, weight, otherwise| Destination {
        target: target("ratings", Some(subset)),
        weight,
        otherwise,
        ..Destination::default()
    };
    Callee {
        service: "ratings".to_owned(),
        hosts: vec!["ratings".to_owned()],
        ports: vec![port(9080, Protocol::Http)],
        identities: vec![identity("ratings"), identity("ratings-canary")],
        subsets: ["v1", "v2"]
            .map(|version| Subset {
                name: version.to_owned(),
                labels: labels(version),
                ..Subset::default()
            })
            .to_vec(),
        endpoints: EndpointSource::Discovered,
        routes: vec![Route {
            name: "everyone".to_owned(),
            matches: vec![RouteMatch {
                conditions: vec![Condition::Method(vec!["GET".to_owned()])],
            }],
            destinations: vec![
                destination("v1", 90, Vec::new()),
                destination(
                    "v2",
                    10,
                    vec![target("ratings", Some("v1")), target("ratings", None)],
                ),
            ],
            exchange: exchange(vec![
                RetryCause::ConnectFailure,
                RetryCause::Refused,
                RetryCause::Reset,
                RetryCause::ResetBeforeRequest,
                RetryCause::PerTryTimeout,
                RetryCause::Status(503),
                RetryCause::ServerError,
                RetryCause::Gateway,
                RetryCause::GrpcStatus(14),
            ]),
            ..Route::default()
        }],
        retry_budget: Some(RetryBudget {
            share: 2_000,
            kind: RetryBudgetKind::Active { min_count: 3 },
        }),
        balance: Balance::LeastRequest,
        ..Callee::default()
    }
}
