//! Real handshakes over an in-memory pipe: who is let in, and the reason for everyone else.

use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::identity::WorkloadKey;
use crate::test_util::{NOW_MS, TestAuthority, leaf, set_validity};

const ALPN: &[&[u8]] = &[b"mesh-h2", b"mesh-h1"];

/// What each side made of the other.
#[derive(Debug)]
struct Outcome {
    client: Result<PeerIdentity, TlsReason>,
    server: Result<PeerIdentity, TlsReason>,
    alpn: Option<Vec<u8>>,
}

/// A handshake and one byte each way, since a TLS 1.3 client learns of a refusal only when it reads.
async fn handshake(client: &Credentials, server: &Credentials, expected: &[SpiffeId]) -> Outcome {
    let expected = expected.iter().cloned().collect();
    let client_config = client.client_config(expected, &[b"mesh-h1"]).unwrap();
    let server_config = server.server_config(ClientAuth::Required, ALPN).unwrap();
    let (near, far) = duplex(64 * 1024);
    let client = async move {
        let connector = TlsConnector::from(client_config);
        let mut stream = connector.connect(server_name(), near).await?;
        let peer = PeerIdentity::from_handshake(stream.get_ref().1.peer_certificates());
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        stream.write_all(b"?").await?;
        stream.read_u8().await?;
        Ok::<_, io::Error>((peer, alpn))
    };
    let server = async move {
        let mut stream = TlsAcceptor::from(server_config).accept(far).await?;
        let peer = PeerIdentity::from_handshake(stream.get_ref().1.peer_certificates());
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        Ok::<_, io::Error>(peer)
    };
    let (client, server) = tokio::join!(client, server);
    let alpn = client.as_ref().ok().and_then(|(_, alpn)| alpn.clone());
    Outcome {
        client: client
            .map(|(peer, _)| peer.unwrap())
            .map_err(|error| tls_reason(&error)),
        server: server
            .map(|peer| peer.unwrap())
            .map_err(|error| tls_reason(&error)),
        alpn,
    }
}

/// A server that trusts one authority, and what it makes of a client.
async fn refused(authority: &TestAuthority, client: &Credentials) -> (TlsReason, TlsReason) {
    let server = authority.credentials("/service/reviews");
    let outcome = handshake(client, &server, &[authority.id("/service/reviews")]).await;
    (outcome.server.unwrap_err(), outcome.client.unwrap_err())
}

fn with_leaf(authority: &TestAuthority, params: &CertificateParams) -> Credentials {
    let credentials = authority.credentials("/service/productpage");
    let key = WorkloadKey::generate().unwrap();
    credentials.set_svid(forced(authority.sign(params, &key), &key));
    credentials
}

/// An SVID that a careful proxy would refuse to load; a careless or hostile peer does not.
fn forced(chain: Vec<CertificateDer<'static>>, key: &WorkloadKey) -> Arc<Svid> {
    Arc::new(Svid::unchecked(chain, key))
}

#[tokio::test]
async fn peers_learn_who_the_other_is() {
    let authority = TestAuthority::new("bookshop.example");
    let client = authority.credentials("/service/productpage");
    let server = authority.credentials("/service/reviews");
    let expected = [
        authority.id("/service/ratings"),
        authority.id("/service/reviews"),
    ];
    let outcome = handshake(&client, &server, &expected).await;
    assert_eq!(
        outcome.server.unwrap().spiffe_id,
        authority.id("/service/productpage")
    );
    assert_eq!(
        outcome.client.unwrap().spiffe_id,
        authority.id("/service/reviews")
    );
    assert_eq!(outcome.alpn.as_deref(), Some(&b"mesh-h1"[..]));
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let authority = TestAuthority::new("bookshop.example");
    let client = Credentials::new(Clock::manual(NOW_MS));
    client.set_trust(authority.trust());
    assert_eq!(
        refused(&authority, &client).await,
        (TlsReason::NoCertificate, TlsReason::NoCertificate)
    );
}

#[tokio::test]
async fn a_client_of_another_trust_domain() {
    let authority = TestAuthority::new("bookshop.example");
    let other = TestAuthority::new("other.example");
    let client = other.credentials("/service/productpage");
    client.set_trust(authority.trust());
    assert_eq!(
        refused(&authority, &client).await,
        (TlsReason::WrongTrustDomain, TlsReason::WrongTrustDomain)
    );
}

#[tokio::test]
async fn a_client_that_claims_the_trust_domain() {
    // The name is right; the authority is a stranger with the same name.
    let authority = TestAuthority::new("bookshop.example");
    let stranger = TestAuthority::new("bookshop.example");
    let client = stranger.credentials("/service/productpage");
    client.set_trust(authority.trust());
    assert_eq!(
        refused(&authority, &client).await.0,
        TlsReason::WrongTrustDomain
    );
}

#[tokio::test]
async fn a_federated_authority_vouches_for_its_own_domain_only() {
    let authority = TestAuthority::new("bookshop.example");
    let federated = TestAuthority::new("partner.example");
    let server = authority.credentials("/service/reviews");
    server.set_trust(
        authority
            .trust()
            .with_roots("partner.example", [federated.root()])
            .unwrap(),
    );
    let expected = [authority.id("/service/reviews")];

    let partner = federated.credentials("/service/orders");
    partner.set_trust(authority.trust());
    let outcome = handshake(&partner, &server, &expected).await;
    assert_eq!(
        outcome.server.unwrap().spiffe_id,
        federated.id("/service/orders")
    );

    let impostor = with_leaf(&federated, &leaf("spiffe://bookshop.example/service/admin"));
    impostor.set_trust(authority.trust());
    let outcome = handshake(&impostor, &server, &expected).await;
    assert_eq!(outcome.server.unwrap_err(), TlsReason::WrongTrustDomain);
}

#[tokio::test]
async fn validity_is_judged_by_the_clock_of_the_moment() {
    let authority = TestAuthority::new("bookshop.example");
    let client = authority.credentials("/service/productpage");
    let server = authority.credentials("/service/reviews");
    let expected = [authority.id("/service/reviews")];
    assert!(handshake(&client, &server, &expected).await.server.is_ok());
    server.clock().advance(Duration::from_hours(48));
    let outcome = handshake(&client, &server, &expected).await;
    assert_eq!(outcome.server.unwrap_err(), TlsReason::Expired);
    assert_eq!(outcome.client.unwrap_err(), TlsReason::Expired);
    // A connection that was made before goes on.
    let chain = client.svid().unwrap().chain().to_vec();
    assert_eq!(server.judge(&chain, Usage::Client), Err(SvidError::Expired));
    assert!(server.judge_again(&chain, Usage::Client).is_ok());

    let mut early = authority.leaf("/service/productpage");
    set_validity(&mut early, NOW_MS / 1000 + 60, NOW_MS / 1000 + 3600);
    assert_eq!(
        refused(&authority, &with_leaf(&authority, &early)).await,
        (TlsReason::Expired, TlsReason::Expired)
    );
}

#[tokio::test]
async fn the_uri_must_be_one_spiffe_id() {
    let authority = TestAuthority::new("bookshop.example");
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let good = "spiffe://bookshop.example/service/productpage";
    let cases = [
        ("none", vec![]),
        (
            "only a DNS name",
            vec![SanType::DnsName("*.bookshop.example".try_into().unwrap())],
        ),
        ("two", vec![uri(good), uri("spiffe://bookshop.example/b")]),
        ("the same twice", vec![uri(good), uri(good)]),
        ("another URI beside it", vec![uri(good), uri("https://a.b")]),
        ("https", vec![uri("https://bookshop.example/service/a")]),
        ("dots", vec![uri("spiffe://bookshop.example/../x")]),
        ("upper case", vec![uri("spiffe://Bookshop.example/x")]),
        ("no path", vec![uri("spiffe://bookshop.example")]),
        ("NUL", vec![uri("spiffe://bookshop.example/a\0b")]),
        ("line break", vec![uri("spiffe://bookshop.example/a\r\nb")]),
        ("comma", vec![uri("spiffe://bookshop.example/a,b")]),
    ];
    for (name, names) in cases {
        let mut params = authority.leaf("/service/productpage");
        params.subject_alt_names = names;
        assert_eq!(
            refused(&authority, &with_leaf(&authority, &params)).await,
            (TlsReason::BadSpiffeId, TlsReason::BadSpiffeId),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_dns_name_beside_the_uri_is_no_matter() {
    let authority = TestAuthority::new("bookshop.example");
    let mut params = authority.leaf("/service/productpage");
    params
        .subject_alt_names
        .push(SanType::DnsName("productpage".try_into().unwrap()));
    let client = with_leaf(&authority, &params);
    let server = authority.credentials("/service/reviews");
    let outcome = handshake(&client, &server, &[authority.id("/service/reviews")]).await;
    assert!(outcome.server.is_ok(), "{outcome:?}");
}

#[tokio::test]
async fn a_leaf_must_be_for_signatures_and_nothing_else() {
    let authority = TestAuthority::new("bookshop.example");
    let change = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = authority.leaf("/service/productpage");
        change(&mut params);
        params
    };
    let cases = [
        (
            "an authority",
            change(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        ("no key usage", change(&|params| params.key_usages.clear())),
        (
            "no signatures",
            change(&|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        ),
        (
            "signs certificates",
            change(&|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ),
        (
            "signs lists",
            change(&|params| params.key_usages.push(KeyUsagePurpose::CrlSign)),
        ),
        (
            "servers only",
            change(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "e-mail",
            change(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
            }),
        ),
    ];
    for (name, params) in cases {
        assert_eq!(
            refused(&authority, &with_leaf(&authority, &params)).await.0,
            TlsReason::BadSpiffeId,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_leaf_cannot_sign_another() {
    let authority = TestAuthority::new("bookshop.example");
    let middle = KeyPair::generate().unwrap();
    let middle_params = authority.leaf("/service/productpage");
    let middle_key = WorkloadKey::from_pkcs8(middle.serialized_der()).unwrap();
    let middle_chain = authority.sign(&middle_params, &middle_key);
    let issuer = rcgen::Issuer::new(middle_params, middle);
    let key = WorkloadKey::generate().unwrap();
    let csr = crate::identity::csr::VerifiedCsr::verify(&key.csr().unwrap()).unwrap();
    let forged = authority
        .leaf("/service/admin")
        .signed_by(csr.public_key(), &issuer)
        .unwrap();
    let mut chain = vec![forged.der().clone()];
    chain.extend(middle_chain);
    let client = authority.credentials("/service/productpage");
    client.set_svid(forced(chain, &key));
    assert_eq!(
        refused(&authority, &client).await.0,
        TlsReason::WrongTrustDomain
    );
}

#[tokio::test]
async fn chains_that_are_too_long_are_not_looked_at() {
    let authority = TestAuthority::new("bookshop.example");
    let key = WorkloadKey::generate().unwrap();
    let mut chain = authority.sign(&authority.leaf("/service/productpage"), &key);
    chain.resize(9, authority.intermediate());
    let client = authority.credentials("/service/productpage");
    client.set_svid(forced(chain, &key));
    assert_eq!(refused(&authority, &client).await.0, TlsReason::BadSpiffeId);
}

#[tokio::test]
async fn a_server_must_be_the_one_that_is_meant() {
    let authority = TestAuthority::new("bookshop.example");
    let client = authority.credentials("/service/productpage");
    let server = authority.credentials("/service/ratings");
    let outcome = handshake(&client, &server, &[authority.id("/service/reviews")]).await;
    assert_eq!(outcome.client.unwrap_err(), TlsReason::BadSpiffeId);
    let outcome = handshake(&client, &server, &[]).await;
    assert_eq!(outcome.client.unwrap_err(), TlsReason::BadSpiffeId);
}

#[tokio::test]
async fn every_kind_of_revocation_works_at_once_and_on_both_sides() {
    let authority = TestAuthority::new("bookshop.example");
    let client = authority.credentials("/service/productpage");
    let server = authority.credentials("/service/reviews");
    let expected = [authority.id("/service/reviews")];
    let svid = client.svid().unwrap();
    let spki = |der: &CertificateDer<'_>| {
        let certificate = crate::identity::svid::parse(der).unwrap();
        Digest::of(certificate.public_key().raw)
    };
    let root = CertificateDer::from(authority.root().to_vec());
    let subjects = [
        RevokedSubject::SpiffeId(svid.spiffe_id().clone()),
        RevokedSubject::LeafSpki(svid.identity().leaf_spki),
        RevokedSubject::IssuerSpki(spki(&authority.intermediate())),
        RevokedSubject::IssuerSpki(spki(&root)),
        RevokedSubject::EnrolmentId("0707070707070707".to_owned()),
    ];
    for subject in subjects {
        server.set_trust(authority.trust().with_revocations(stream(&subject, None)));
        let outcome = handshake(&client, &server, &expected).await;
        assert_eq!(
            outcome.server.unwrap_err(),
            TlsReason::Revoked,
            "{subject:?}"
        );
        assert_eq!(
            outcome.client.unwrap_err(),
            TlsReason::Revoked,
            "{subject:?}"
        );
        assert_eq!(
            server.judge_again(svid.chain(), Usage::Client),
            Err(SvidError::Revoked)
        );

        // A certificate from before the moment is refused, one from after it is not.
        for (from_start, admitted) in [(1, false), (0, true)] {
            let issued_before = svid.identity().not_before + from_start;
            let stream = stream(&subject, Some(issued_before));
            server.set_trust(authority.trust().with_revocations(stream));
            let outcome = handshake(&client, &server, &expected).await;
            assert_eq!(outcome.server.is_ok(), admitted, "{subject:?}");
        }
    }

    let revoked_server = RevokedSubject::SpiffeId(authority.id("/service/reviews"));
    server.set_trust(authority.trust());
    client.set_trust(
        authority
            .trust()
            .with_revocations(stream(&revoked_server, None)),
    );
    let outcome = handshake(&client, &server, &expected).await;
    assert_eq!(outcome.client.unwrap_err(), TlsReason::Revoked);
}

fn stream(subject: &RevokedSubject, issued_before: Option<u64>) -> Revocations {
    Revocations {
        version: 1,
        issued_ms: NOW_MS,
        entries: vec![Revocation {
            subject: subject.clone(),
            issued_before,
        }],
    }
}

#[tokio::test]
async fn rotation_needs_no_new_configuration() {
    let authority = TestAuthority::new("bookshop.example");
    let client = authority.credentials("/service/productpage");
    let server = authority.credentials("/service/reviews");
    let client_config = client
        .client_config([authority.id("/service/reviews")].into(), &[b"mesh-h1"])
        .unwrap();
    let server_config = server.server_config(ClientAuth::Required, ALPN).unwrap();
    let mut keys = BTreeSet::new();
    for _ in 0..3 {
        client.set_svid(authority.svid("/service/productpage"));
        let (near, far) = duplex(64 * 1024);
        let (near, far) = tokio::join!(
            TlsConnector::from(Arc::clone(&client_config)).connect(server_name(), near),
            TlsAcceptor::from(Arc::clone(&server_config)).accept(far),
        );
        // Also: nothing is resumed, so every handshake is judged.
        assert_eq!(
            near.unwrap().get_ref().1.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
        let far = far.unwrap();
        let peer = PeerIdentity::from_handshake(far.get_ref().1.peer_certificates()).unwrap();
        keys.insert(peer.leaf_spki);
    }
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn bytes_that_are_not_tls_have_a_reason_too() {
    let authority = TestAuthority::new("bookshop.example");
    let server = authority.credentials("/service/reviews");
    let config = server.server_config(ClientAuth::Required, ALPN).unwrap();
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = TlsAcceptor::from(config).accept(far).await.unwrap_err();
    assert_eq!(tls_reason(&error), TlsReason::TlsFailure);
}

#[test]
fn signatures_of_the_svid_key() {
    let authority = TestAuthority::new("bookshop.example");
    let svid = authority.svid("/service/reviews");
    let signature = svid.key().sign("application/x", b"body").unwrap();
    let verify = |payload_type, body, signature: &[u8]| {
        svid.identity()
            .verify_signature(payload_type, body, signature)
    };
    assert!(verify("application/x", b"body", &signature));
    assert!(!verify("application/y", b"body", &signature));
    assert!(!verify("application/x", b"bodi", &signature));
    assert!(!verify("application/x", b"body", b""));
}

#[test]
fn renewal_is_spread_around_half_of_the_life() {
    let authority = TestAuthority::new("bookshop.example");
    let svid = authority.svid("/service/reviews");
    let start = svid.identity().not_before;
    let life = svid.identity().not_after - start;
    assert_eq!(svid.renew_at(0.0).as_secs(), start + life * 4 / 10);
    assert_eq!(svid.renew_at(1.0).as_secs(), start + life / 2);
}

#[tokio::test]
async fn connections_outlive_a_rotation_and_no_revocation() {
    let old = TestAuthority::new("bookshop.example");
    let new = TestAuthority::new("bookshop.example");
    let server = old.credentials("/service/reviews");
    let chain = old.svid("/service/productpage").chain().to_vec();
    let own = |authorities: &[&TestAuthority]| {
        let roots: Vec<_> = authorities.iter().map(|it| it.root().to_vec()).collect();
        let roots = roots.iter().map(Vec::as_slice);
        TrustStore::empty()
            .with_roots("bookshop.example", roots)
            .unwrap()
    };
    server.set_trust(own(&[&old, &new]));
    server.set_trust(own(&[&new]));
    assert!(matches!(
        server.judge(&chain, Usage::Client),
        Err(SvidError::Untrusted(_))
    ));
    assert!(server.judge_again(&chain, Usage::Client).is_ok());
    // The other way round, as after the next one.
    server.set_trust(own(&[&new]));
    assert!(server.judge_again(&chain, Usage::Client).is_ok());
    // A stranger was never trusted.
    let stranger = TestAuthority::new("bookshop.example");
    let other = stranger.svid("/service/productpage").chain().to_vec();
    assert!(server.judge_again(&other, Usage::Client).is_err());

    let (_rest, root) = x509_parser::parse_x509_certificate(old.root()).unwrap();
    let revocations = Revocations {
        version: 1,
        issued_ms: 1,
        entries: vec![Revocation {
            subject: RevokedSubject::IssuerSpki(Digest::of(root.public_key().raw)),
            issued_before: None,
        }],
    };
    server.set_trust(own(&[&new]).with_revocations(revocations));
    assert_eq!(
        server.judge_again(&chain, Usage::Client),
        Err(SvidError::Revoked)
    );
    // A trust domain that is trusted no more.
    server.set_trust(TrustStore::empty());
    assert!(server.judge_again(&chain, Usage::Client).is_err());
}
