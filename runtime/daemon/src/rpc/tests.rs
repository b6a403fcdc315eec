//! The three connections against a real listener on loopback.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::key::SigningKey;
use mesh_bundle::messages::bundle::Scope;
use mesh_bundle::messages::distribution::{
    EnrolResponse, FetchTrustRequest, FetchTrustResponse, FollowRequest, FollowResponse,
    RenewRequest,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::*;
use crate::clock::Clock;
use crate::drain::{self, DrainTrigger};
use crate::identity::csr::VerifiedCsr;
use crate::identity::svid::SvidError;
use crate::identity::{Credentials, Svid, WorkloadKey};
use crate::limits::{HANDSHAKE_TIMEOUT, RPC_HANDSHAKES_MAX, RPC_UNKNOWN_PEER_LIFE};
use crate::telemetry::TlsReason;
use crate::test_util::{NOW_MS, TestAuthority};

const TOKEN: [u8; 32] = [3; 32];

struct Handlers(Arc<TestAuthority>);

#[tonic::async_trait]
impl Distribution for Handlers {
    async fn fetch_trust(
        &self,
        request: Request<FetchTrustRequest>,
    ) -> Result<Response<FetchTrustResponse>, Status> {
        assert!(connection_info(&request).unwrap().peer.is_none());
        Ok(Response::new(FetchTrustResponse::default()))
    }

    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let info = Arc::clone(connection_info(&request).unwrap());
        let request = request.into_inner();
        let token = SigningKey::from_seed(TOKEN).public();
        if !enrolment_is_signed(&request, &info.exporter, &token) {
            return Err(Status::permission_denied("not signed by the token"));
        }
        let csr = VerifiedCsr::verify(&request.csr).unwrap();
        let chain = self.0.sign_csr(&self.0.leaf("/service/reviews"), &csr);
        Ok(Response::new(EnrolResponse {
            chain: chain.iter().map(|der| der.to_vec()).collect(),
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        match &connection_info(&request).unwrap().peer {
            Some(_) => Ok(Response::new(EnrolResponse::default())),
            None => Err(Status::unauthenticated("no certificate")),
        }
    }

    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = connection_info(&request).unwrap().peer.clone();
        peer.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let answers = request
            .into_inner()
            .map(|message| message.map(|_| FollowResponse { kind: None }));
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Server {
    authority: Arc<TestAuthority>,
    address: String,
    trigger: DrainTrigger,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let authority = Arc::new(TestAuthority::new("bookshop.example"));
        let credentials = authority.credentials("/mesh/distributor/main");
        let listener = RpcListener::bind("127.0.0.1:0".parse().unwrap(), &credentials)
            .await
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (trigger, watcher) = drain::channel();
        let handlers = Handlers(Arc::clone(&authority));
        let task = tokio::spawn(listener.serve(handlers, watcher));
        Self {
            authority,
            address,
            trigger,
            task,
        }
    }

    fn distributors(&self) -> BTreeSet<mesh_bundle::spiffe::SpiffeId> {
        [self.authority.id("/mesh/distributor/main")].into()
    }

    /// A proxy that has the trust bundle and no certificate.
    fn newcomer(&self) -> Credentials {
        let credentials = Credentials::new(Clock::manual(NOW_MS));
        credentials.set_trust(self.authority.trust());
        credentials
    }
}

#[tokio::test]
async fn a_proxy_joins_in_three_steps() {
    let server = Server::start().await;
    let clock = Clock::manual(NOW_MS);
    let mut public = PublicConnection::connect(&server.address, &clock)
        .await
        .unwrap();
    public.fetch_trust(Scope::default(), 1).await.unwrap();

    let credentials = server.newcomer();
    let mut verified =
        VerifiedConnection::connect(&server.address, &credentials, server.distributors())
            .await
            .unwrap();
    assert_eq!(
        verified.server().spiffe_id,
        server.authority.id("/mesh/distributor/main")
    );
    let key = WorkloadKey::generate().unwrap();
    let token = SigningKey::from_seed(TOKEN);
    let chain = verified
        .enrol("t1", &token, key.csr().unwrap())
        .await
        .unwrap();
    credentials.set_svid(Arc::new(Svid::new(chain, key.clone()).unwrap()));

    let mut mutual =
        MutualConnection::connect(&server.address, &credentials, server.distributors())
            .await
            .unwrap();
    mutual.renew(key.csr().unwrap()).await.unwrap();
    let (requests, receiver) = mpsc::channel(4);
    let mut answers = mutual.follow(receiver).await.unwrap();
    requests.send(FollowRequest::default()).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn an_enrolment_is_good_on_its_own_connection_only() {
    let server = Server::start().await;
    let credentials = server.newcomer();
    let connect =
        || VerifiedConnection::connect(&server.address, &credentials, server.distributors());
    let mut connection = connect().await.unwrap();
    let key = WorkloadKey::generate().unwrap();
    let stranger = SigningKey::from_seed([4; 32]);
    let refused = connection.enrol("t1", &stranger, key.csr().unwrap()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    // What someone in the middle would pass on: signed for another connection.
    let elsewhere = connect().await.unwrap();
    let csr = key.csr().unwrap();
    let signature = SigningKey::from_seed(TOKEN).sign(&enrolment_message(&csr, &[0; 32]));
    let request = EnrolRequest {
        token_id: "t1".to_owned(),
        csr,
        signature: signature.to_vec(),
        chain: Vec::new(),
    };
    let token = SigningKey::from_seed(TOKEN).public();
    assert!(enrolment_is_signed(&request, &[0; 32], &token));
    assert!(!enrolment_is_signed(&request, &[1; 32], &token));
    drop(elsewhere);
}

#[tokio::test]
async fn a_server_that_the_root_does_not_list_is_refused() {
    let server = Server::start().await;
    let other = [server.authority.id("/mesh/distributor/other")].into();
    let error = VerifiedConnection::connect(&server.address, &server.newcomer(), other)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Tls {
                reason: TlsReason::BadSpiffeId,
                ..
            }
        ),
        "{error}"
    );
    let strangers = TestAuthority::new("bookshop.example").credentials("/service/reviews");
    let error = VerifiedConnection::connect(&server.address, &strangers, server.distributors())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Tls {
                reason: TlsReason::WrongTrustDomain,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn following_needs_a_certificate() {
    let server = Server::start().await;
    let error =
        MutualConnection::connect(&server.address, &server.newcomer(), server.distributors())
            .await
            .unwrap_err();
    assert!(matches!(
        error,
        ConnectError::Svid(SvidError::NoCertificate)
    ));
}

#[tokio::test]
async fn silent_peers_keep_nobody_from_shaking_hands() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..2 * RPC_HANDSHAKES_MAX {
        silent.push(TcpStream::connect(&server.address).await.unwrap());
    }
    let clock = Clock::manual(NOW_MS);
    let connecting = PublicConnection::connect(&server.address, &clock);
    let connected = tokio::time::timeout(HANDSHAKE_TIMEOUT / 2, connecting).await;
    let mut public = connected.unwrap().unwrap();
    public.fetch_trust(Scope::default(), 1).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn whoever_has_no_certificate_may_not_stay() {
    let server = Server::start().await;
    let clock = Clock::manual(NOW_MS);
    let mut public = PublicConnection::connect(&server.address, &clock)
        .await
        .unwrap();
    let stays = async {
        while public.fetch_trust(Scope::default(), 1).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(RPC_UNKNOWN_PEER_LIFE * 10, stays)
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let error = PublicConnection::connect("127.0.0.1:1", &Clock::manual(NOW_MS))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Tcp { .. }), "{error}");
}

#[tokio::test]
async fn a_drain_ends_idle_connections_and_the_listener() {
    let server = Server::start().await;
    let clock = Clock::manual(NOW_MS);
    let mut public = PublicConnection::connect(&server.address, &clock)
        .await
        .unwrap();
    public.fetch_trust(Scope::default(), 1).await.unwrap();
    assert_eq!(server.trigger.finish(Duration::from_secs(20)).await, 0);
    server.task.await.unwrap();
    assert!(public.fetch_trust(Scope::default(), 1).await.is_err());
    assert!(
        PublicConnection::connect(&server.address, &clock)
            .await
            .is_err()
    );
}
