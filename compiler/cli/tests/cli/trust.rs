//! `meshc trust`
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use mesh_bundle::envelope::Envelope;
use mesh_bundle::revocations::Revocations;
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::TrustRoot;

use crate::support::{Fixture, Run};

struct Keys(Fixture);

impl Keys {
    fn new() -> Self {
        let fixture = Fixture::empty();
        let keygen = fixture.meshc(&[
            "keygen",
            "--mesh",
            "shop",
            "--trust-domain",
            "shop.example",
            "--out",
            "keys",
        ]);
        assert_eq!(keygen.code, Some(0), "{keygen:?}");
        Self(fixture)
    }

    fn trust(&self, words: &[&str]) -> Run {
        self.0.meshc(&[&["trust"], words].concat())
    }

    fn envelope(&self, name: &str) -> Envelope {
        let path = self.0.path(&format!("keys/trust/{name}.envelope"));
        Envelope::decode(&std::fs::read(path).unwrap()).unwrap()
    }

    fn root(&self) -> TrustRoot {
        let first = self.envelope("trust-root.1");
        TrustRoot::verify_pinned(&first, &first.payload_digest())
            .unwrap()
            .into_value()
    }

    fn revocations(&self) -> Revocations {
        let envelope = self.envelope("revocations.trust");
        self.root()
            .verify_revocations(&envelope)
            .unwrap()
            .into_value()
    }

    fn bundle(&self) -> TrustBundle {
        let envelope = self.envelope("trust-bundle");
        self.root()
            .verify_trust_bundle(&envelope)
            .unwrap()
            .into_value()
    }
}

#[test]
fn permanent_revocations_add_up_and_only_the_trust_key_makes_them() {
    let keys = Keys::new();
    let id = "spiffe://shop.example/service/web";
    let first = keys.trust(&["revoke", "keys", "--identity", id]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let second = keys.trust(&[
        "revoke",
        "keys",
        "--issuer-key",
        &keys
            .0
            .path("keys/trust/intermediate.pem")
            .display()
            .to_string(),
        "--issued-before",
        "2027-03-01",
    ]);
    assert_eq!(second.code, Some(0), "{second:?}");
    let revoked = keys.revocations();
    assert_eq!((revoked.version, revoked.entries.len()), (2, 2));
    // Valid from five minutes before they are issued.
    let limits: Vec<_> = revoked
        .entries
        .iter()
        .map(|entry| entry.issued_before)
        .collect();
    assert!(limits.contains(&Some(1_803_859_200 - 300)), "{limits:?}");
    let shown = keys.trust(&["show", "keys"]);
    assert!(
        shown
            .stdout
            .contains(&format!("spiffe_id {id}: every certificate")),
        "{shown:?}"
    );

    assert_eq!(
        keys.trust(&["revoke", "keys", "--identity", id, "--take-back"])
            .code,
        Some(0)
    );
    assert_eq!(keys.revocations().entries.len(), 1);
    let again = keys.trust(&["revoke", "keys", "--identity", id, "--take-back"]);
    assert_eq!(again.code, Some(2), "{again:?}");
    for bad in [
        ["revoke", "keys", "--identity", "web"],
        ["revoke", "keys", "--enrolment", "12"],
        ["revoke", "keys", "--leaf-key", "no-such-file"],
    ] {
        assert_eq!(keys.trust(&bad).code, Some(2), "{bad:?}");
    }
    // Another mesh's key is of no use, and changes nothing.
    let other = Keys::new();
    std::fs::copy(
        other.0.path("keys/keys/trust.key"),
        keys.0.path("keys/keys/trust.key"),
    )
    .unwrap();
    let stranger = keys.trust(&["revoke", "keys", "--identity", id]);
    assert_eq!(stranger.code, Some(2));
    assert!(
        stranger.stderr.contains("would not be believed"),
        "{stranger:?}"
    );
    assert_eq!(keys.revocations().version, 3);
}

#[test]
fn the_root_authority_is_replaced_in_three_steps_and_none_before_its_time() {
    let keys = Keys::new();
    let step = |step: &str| keys.trust(&["authority", step, "keys"]);
    let old = keys.bundle().x509_authorities;
    for early in ["switch", "drop"] {
        assert_eq!(step(early).code, Some(2), "{early}");
    }
    assert_eq!(step("add").code, Some(0));
    assert_eq!(step("add").code, Some(2), "twice");
    let both = keys.bundle();
    assert_eq!((both.version, both.x509_authorities.len()), (2, 2));
    let early = step("drop");
    assert!(
        early
            .stderr
            .contains("`meshc trust authority switch` comes first"),
        "{early:?}"
    );
    assert_eq!(step("switch").code, Some(0));
    assert_eq!(step("switch").code, Some(2), "twice");
    assert!(keys.0.path("keys/keys/intermediate.next.key").exists());
    let done = step("drop");
    assert_eq!(done.code, Some(0), "{done:?}");
    let new = keys.bundle();
    assert_eq!((new.version, new.x509_authorities.len()), (3, 1));
    assert_ne!(new.x509_authorities, old);
    // What was new is now what there is, also for the next time.
    assert_eq!(keys.trust(&["intermediate", "keys"]).code, Some(0));
    assert_eq!(step("add").code, Some(0));
}
