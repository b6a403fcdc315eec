//! `meshc build`

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::slice::Slice;
use mesh_bundle::trust_root::TrustRoot;

use crate::support::{Fixture, files};

const KEYGEN: [&str; 9] = [
    "keygen",
    "--mesh",
    "shop",
    "--trust-domain",
    "shop.example",
    "--root-path",
    "policy",
    "--out",
    "trust-of-shop",
];

#[test]
fn a_signed_commit_is_a_generation_that_the_trust_root_believes() {
    let fixture = Fixture::with_policy();
    let commit = fixture.commit();
    assert_eq!(fixture.meshc(&KEYGEN).code, Some(0));
    let root = "trust-of-shop/trust/trust-root.1.envelope";
    let key = "trust-of-shop/keys/compile.key";
    let json = fixture
        .meshc(&[
            "build",
            "--trust-root",
            root,
            "--sign",
            key,
            "--out",
            "out",
            "--format",
            "json",
        ])
        .json();
    let envelope =
        |path: &str| Envelope::decode(&std::fs::read(fixture.path(path)).unwrap()).unwrap();
    let root = envelope(root);
    let root = TrustRoot::verify_pinned(&root, &root.payload_digest()).unwrap();
    let generation = root
        .verify_generation(&envelope("out/generation.envelope"))
        .unwrap();
    assert_eq!(json["generation"], generation.digest().to_string());
    assert_eq!(json["root"], generation.root.to_string());
    assert_eq!(
        (json["sequence"].as_u64(), json["signatures"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(
        (json["commit"].as_str(), generation.commit.to_string()),
        (Some(commit.as_str()), commit.clone())
    );
    assert_eq!(
        (generation.reference.as_str(), generation.root_path.as_str()),
        ("refs/heads/main", "policy")
    );
    let slices = files(&fixture.path("out/slices"));
    assert_eq!(slices.len(), 2);
    for (name, bytes) in slices {
        assert_eq!(name, Digest::of(&bytes).to_hex());
        Slice::decode(&bytes).unwrap();
    }
}

#[test]
fn the_same_commit_gives_the_same_bytes_and_a_revert_the_same_slices() {
    let fixture = Fixture::with_policy();
    let first = fixture.commit();
    let text = std::fs::read_to_string(fixture.path("policy/services.kdl")).unwrap();
    fixture.write(
        "policy/services.kdl",
        text.replace("weight=90", "weight=50"),
    );
    fixture.commit();
    fixture.write("policy/services.kdl", &text);
    fixture.commit();
    assert_eq!(
        fixture
            .meshc(&["build", "--commit", &first, "--out", "first"])
            .code,
        Some(0)
    );
    assert_eq!(
        fixture
            .meshc(&["build", "--commit", "HEAD~2", "--out", "again"])
            .code,
        Some(0)
    );
    let revert = fixture
        .meshc(&["build", "policy", "--out", "revert", "--format", "json"])
        .json();
    let out = |name: &str| files(&fixture.path(name));
    assert_eq!(out("first"), out("again"));
    assert_eq!(out("first/slices"), out("revert/slices"));
    assert_eq!(revert["sequence"], 3);
    assert_eq!(revert["signatures"], 0);
}

#[test]
fn what_is_not_committed_or_not_clean_is_not_built() {
    let fixture = Fixture::with_policy();
    fixture.commit();
    fixture.write("policy/more.kdl", "service web {}\n");
    let dirty = fixture.meshc(&["build", "--out", "out"]);
    assert_eq!(dirty.code, Some(2));
    assert!(dirty.stderr.contains("policy/more.kdl"), "{dirty:?}");
    fixture.commit();
    let broken = fixture.meshc(&["build", "--out", "out"]);
    assert_eq!((broken.code, broken.stdout.as_str()), (Some(1), ""));
    assert!(broken.stderr.contains("MSH0103"), "{broken:?}");
    assert!(!fixture.path("out").exists());
    assert_eq!(
        fixture
            .meshc(&["build", "--commit", "nowhere", "--out", "out"])
            .code,
        Some(2)
    );
}

#[test]
fn a_commit_off_the_followed_ref_is_not_signed() {
    let fixture = Fixture::with_policy();
    fixture.commit();
    assert_eq!(fixture.meshc(&KEYGEN).code, Some(0));
    let key = "trust-of-shop/keys/compile.key";
    let git = git2::Repository::open(fixture.path("")).unwrap();
    git.reference(
        "refs/remotes/origin/main",
        git.head().unwrap().target().unwrap(),
        true,
        "",
    )
    .unwrap();
    fixture.write("policy/note.kdl", "// more\n");
    fixture.commit();
    let ahead = fixture.meshc(&["build", "--sign", key, "--out", "out"]);
    assert_eq!(ahead.code, Some(2));
    assert!(
        ahead
            .stderr
            .contains("is not reachable from refs/remotes/origin/main"),
        "{ahead:?}"
    );
    assert_eq!(
        fixture
            .meshc(&["build", "--commit", "HEAD~1", "--sign", key, "--out", "out"])
            .code,
        Some(0)
    );
}
