//! A fake proxy. It believes only what `mesh_bundle::acceptance` believes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
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
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{Credentials, Svid, TrustStore, WorkloadKey};
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::{
    ConnectError, MutualConnection, PublicConnection, VerifiedConnection, compression,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

/// A proxy: what it believes and the stream that it follows.
pub(crate) struct Proxy {
    pub(crate) join: JoinFile,
    pub(crate) belief: Acceptance,
    pub(crate) credentials: Credentials,
    pub(crate) distributors: BTreeSet<mesh_bundle::spiffe::SpiffeId>,
    pub(crate) held: Option<Bytes>,
}

impl Proxy {
    /// Steps 4 and 5 of starting: fetch, and believe what the pin vouches for.
    pub(crate) async fn fetch(join: JoinFile) -> Self {
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

    pub(crate) async fn enrol_with(
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
    pub(crate) async fn enrol(&self) -> Svid {
        let svid = self
            .enrol_with(&self.join.token(), &WorkloadKey::generate().unwrap())
            .await
            .unwrap();
        assert_eq!(*svid.spiffe_id(), self.join.identity);
        self.credentials.set_svid(Arc::new(svid.clone()));
        svid
    }

    pub(crate) async fn connect(&self) -> MutualConnection {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> Result<MutualConnection, ConnectError> {
        MutualConnection::connect(
            &self.join.addresses[0],
            &self.credentials,
            self.distributors.clone(),
        )
        .await
    }

    /// Step 8.
    pub(crate) async fn follow(&self) -> (Stream, MutualConnection) {
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
    pub(crate) async fn generation(&mut self, stream: &mut Stream) -> (Accepted, &'static str) {
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
                Response::Endpoints(_) | Response::Renew(_) => {}
                Response::TrustRoot(_) => panic!("this root is held"),
            }
        }
    }

    pub(crate) fn accept(&mut self, update: &wire::GenerationUpdate) -> (Accepted, &'static str) {
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

    pub(crate) fn status(
        &self,
        phase: wire::Phase,
        accepted: &Accepted,
        reason: &str,
    ) -> wire::SignedStatus {
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

pub(crate) struct Stream {
    pub(crate) requests: mpsc::Sender<wire::FollowRequest>,
    pub(crate) responses: Streaming<wire::FollowResponse>,
}

impl Stream {
    pub(crate) async fn next(&mut self) -> Response {
        let message = tokio::time::timeout(Duration::from_secs(20), self.responses.message()).await;
        message
            .expect("nothing came")
            .unwrap()
            .expect("the stream ended")
            .kind
            .unwrap()
    }

    /// Takes what comes until it is this.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Response) -> bool) -> Response {
        loop {
            let next = self.next().await;
            if wanted(&next) {
                return next;
            }
        }
    }

    /// The status that the stream ends with, whatever comes before it.
    pub(crate) async fn end(&mut self) -> Code {
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

    pub(crate) async fn send(&self, kind: Request) {
        send(&self.requests, kind).await;
    }
}

pub(crate) async fn send(requests: &mpsc::Sender<wire::FollowRequest>, kind: Request) {
    requests
        .send(wire::FollowRequest { kind: Some(kind) })
        .await
        .unwrap();
}

pub(crate) fn envelope(message: &signed::Envelope) -> Envelope {
    message.clone().try_into().unwrap()
}

pub(crate) fn now(credentials: &Credentials) -> Now {
    let clock = credentials.clock();
    Now {
        unix_ms: clock.wall_ms(),
        boot_ms: u64::try_from(clock.boot().as_millis()).unwrap(),
    }
}
