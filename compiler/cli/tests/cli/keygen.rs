//! `meshc keygen`

use std::os::unix::fs::PermissionsExt as _;

use mesh_bundle::envelope::Envelope;
use mesh_bundle::trust_root::TrustRoot;

use crate::support::{Fixture, files};

const KEYGEN: [&str; 7] = [
    "keygen",
    "--mesh",
    "shop",
    "--trust-domain",
    "shop.example",
    "--out",
    "keys-of-shop",
];

#[test]
fn the_statements_verify_under_the_root_that_it_prints() {
    let fixture = Fixture::empty();
    let mut args = KEYGEN.to_vec();
    args.extend([
        "--format",
        "json",
        "--ref",
        "refs/heads/live",
        "--root-path",
        "policy/",
        "--distributor",
        "one",
    ]);
    let json = fixture.meshc(&args).json();
    let envelope = |name: &str| {
        let path = fixture.path(&format!("keys-of-shop/trust/{name}.envelope"));
        Envelope::decode(&std::fs::read(path).unwrap()).unwrap()
    };
    let pin = json["trust_root"].as_str().unwrap().parse().unwrap();
    let root = TrustRoot::verify_pinned(&envelope("trust-root.1"), &pin).unwrap();
    assert_eq!(
        (root.reference.as_str(), root.root_path.as_str(), root.epoch),
        ("refs/heads/live", "policy", 0)
    );
    assert_eq!((root.version, root.development), (1, false));
    let distributors: Vec<_> = root
        .distributors
        .iter()
        .map(mesh_bundle::spiffe::SpiffeId::as_str)
        .collect();
    assert_eq!(distributors, ["spiffe://shop.example/mesh/distributor/one"]);
    let bundle = root.verify_trust_bundle(&envelope("trust-bundle")).unwrap();
    assert_eq!(bundle.x509_authorities.len(), 1);
    root.verify_revocations(&envelope("revocations")).unwrap();
}

#[test]
fn only_the_owner_reads_keys_and_nothing_is_overwritten() {
    let fixture = Fixture::empty();
    assert_eq!(fixture.meshc(&KEYGEN).code, Some(0));
    let folder = fixture.path("keys-of-shop/keys");
    let written = files(&folder);
    let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ca.key",
            "compile.key",
            "head.key",
            "intermediate.key",
            "issuer.key",
            "root.key",
            "trust.key"
        ]
    );
    for name in names {
        let mode = folder.join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let again = fixture.meshc(&KEYGEN);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert_eq!(files(&folder), written);
}
