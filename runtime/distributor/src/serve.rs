//! The four calls of a proxy. Anyone may fetch what is public; enrolling takes a join token,
//! renewing and following a certificate of the mesh.

pub(crate) mod follow;
pub(crate) mod session;
pub(crate) mod update;

use std::sync::Arc;

use mesh_bundle::messages::bundle as wire;
use mesh_bundle::messages::distribution::follow_request::Kind;
use mesh_bundle::messages::distribution::{
    EnrolRequest, EnrolResponse, FetchTrustRequest, FetchTrustResponse, FollowRequest,
    FollowResponse, Hello, RenewRequest,
};
use mesh_bundle::scope::Scope;
use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::identity::PeerIdentity;
use mesh_daemon::rpc::{ConnectionInfo, Distribution, connection_info};
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::issue::IssueError;
use crate::issue::certificate::RequestError;
use crate::limits;
use crate::mesh::Mesh;
use crate::serve::follow::Stream;
use crate::serve::session::Session;
use crate::status::fleet::{ProxyKey, bounded};

/// Answers proxies.
#[derive(Debug)]
pub(crate) struct Service {
    mesh: Arc<Mesh>,
    drain: DrainWatcher,
}

impl Service {
    /// Streams end when `drain` says so.
    pub(crate) fn new(mesh: Arc<Mesh>, drain: DrainWatcher) -> Self {
        Self { mesh, drain }
    }
}

#[tonic::async_trait]
impl Distribution for Service {
    type FollowStream = ReceiverStream<Result<FollowResponse, Status>>;

    async fn fetch_trust(
        &self,
        request: Request<FetchTrustRequest>,
    ) -> Result<Response<FetchTrustResponse>, Status> {
        let request = request.into_inner();
        check_scope(self.mesh.scope(), request.scope.as_ref())?;
        let published = self.mesh.published();
        let envelopes = |objects: &[crate::published::Object], from: u64| {
            objects
                .iter()
                .filter(|object| object.version >= from)
                .map(|object| object.envelope.clone())
                .collect()
        };
        Ok(Response::new(FetchTrustResponse {
            trust_roots: envelopes(&published.trust_roots, request.trust_root_version),
            trust_bundles: envelopes(&published.trust_bundles, 0),
            revocations: envelopes(&published.revocations, 0),
            heads: published
                .head
                .iter()
                .map(|head| head.object.envelope.clone())
                .collect(),
        }))
    }

    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let connection = connection(&request)?;
        let request = request.into_inner();
        let mesh = Arc::clone(&self.mesh);
        let remote = connection.remote.to_string();
        let exporter = connection.exporter;
        let chain = blocking(move || mesh.enrol(&request, &exporter, &remote)).await?;
        Ok(Response::new(certificates(
            &chain.map_err(|error| refusal(&error))?,
        )))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let connection = connection(&request)?;
        let peer = peer(&connection)?.clone();
        self.mesh
            .judge(&connection)
            .map_err(Status::unauthenticated)?;
        let csr = request.into_inner().csr;
        let mesh = Arc::clone(&self.mesh);
        let chain = blocking(move || mesh.renew(&peer, &csr)).await?;
        Ok(Response::new(certificates(
            &chain.map_err(|error| refusal(&error))?,
        )))
    }

    async fn follow(
        &self,
        request: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let connection = connection(&request)?;
        let peer = peer(&connection)?.clone();
        self.mesh
            .judge(&connection)
            .map_err(Status::unauthenticated)?;
        // The answer does not wait for the hello: a client may send it only once it has the stream.
        let (responses, stream) = mpsc::channel(limits::FOLLOW_QUEUE);
        let beginning = Beginning {
            mesh: Arc::clone(&self.mesh),
            peer,
            connection,
            requests: request.into_inner(),
            responses,
        };
        // Whoever ends the process waits for the watcher that the task holds.
        tokio::spawn(beginning.run(self.drain.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A stream before its hello.
struct Beginning {
    mesh: Arc<Mesh>,
    peer: PeerIdentity,
    connection: Arc<ConnectionInfo>,
    requests: Streaming<FollowRequest>,
    responses: mpsc::Sender<Result<FollowResponse, Status>>,
}

impl Beginning {
    async fn run(mut self, mut drain: DrainWatcher) {
        let hello = tokio::select! {
            () = drain.draining() => return,
            hello = self.hello() => hello,
        };
        match hello {
            Ok(hello) => self.follow(&hello).run(drain).await,
            // A client that is gone does not need to know.
            Err(status) => drop(self.responses.try_send(Err(status))),
        }
    }

    async fn hello(&mut self) -> Result<Hello, Status> {
        let message = tokio::time::timeout(limits::HELLO_TIMEOUT, self.requests.message())
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("no hello"))??;
        let Some(FollowRequest {
            kind: Some(Kind::Hello(hello)),
        }) = message
        else {
            return Err(Status::invalid_argument("the first message is not a hello"));
        };
        check_scope(self.mesh.scope(), hello.scope.as_ref())?;
        if hello.instance.is_empty() {
            return Err(Status::invalid_argument("the hello names no instance"));
        }
        Ok(hello)
    }

    fn follow(self, hello: &Hello) -> Stream {
        let key = ProxyKey {
            identity: self.peer.spiffe_id.clone(),
            instance: bounded(&hello.instance),
        };
        let id = self.mesh.connected(&key, hello);
        Stream {
            session: Session::new(key.identity.clone(), hello),
            published: self.mesh.subscribe(),
            mesh: self.mesh,
            peer: self.peer,
            connection: self.connection,
            key,
            id,
            requests: self.requests,
            responses: self.responses,
        }
    }
}

/// A proxy of another mesh is told at once; nothing it would get could be used.
fn check_scope(ours: &Scope, theirs: Option<&wire::Scope>) -> Result<(), Status> {
    let same = theirs.is_some_and(|theirs| {
        theirs.mesh == ours.mesh
            && theirs.environment == ours.environment
            && theirs.trust_domain == ours.trust_domain.as_str()
    });
    if same {
        return Ok(());
    }
    let ours = format!(
        "mesh {}, environment {}, trust domain {}",
        ours.mesh, ours.environment, ours.trust_domain
    );
    Err(Status::failed_precondition(format!(
        "this distributor serves {ours}"
    )))
}

fn connection<T>(request: &Request<T>) -> Result<Arc<ConnectionInfo>, Status> {
    connection_info(request)
        .map(Arc::clone)
        .ok_or_else(|| Status::internal("nothing is known of the connection"))
}

fn peer(connection: &ConnectionInfo) -> Result<&PeerIdentity, Status> {
    connection
        .peer
        .as_ref()
        .ok_or_else(|| Status::unauthenticated("this call needs a certificate of the mesh"))
}

/// Signing and syncing files must not hold up the streams.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_ended| Status::unavailable("the distributor is ending"))
}

fn certificates(chain: &[CertificateDer<'_>]) -> EnrolResponse {
    EnrolResponse {
        chain: chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    }
}

fn refusal(error: &IssueError) -> Status {
    match error {
        IssueError::Enrol(_)
        | IssueError::Reserved(_)
        | IssueError::NotInGeneration(_)
        | IssueError::NotEnrolled
        | IssueError::Cloned(..)
        | IssueError::Signature => Status::permission_denied(error.to_string()),
        IssueError::Evidence(_) => Status::permission_denied(crate::output::chain(error)),
        IssueError::Request(RequestError::Csr(_)) => Status::invalid_argument(error.to_string()),
        // What failed here is ours and stays here.
        IssueError::Create(_)
        | IssueError::Request(_)
        | IssueError::Store(_)
        | IssueError::Svid(_) => Status::internal("the issuer failed"),
    }
}
