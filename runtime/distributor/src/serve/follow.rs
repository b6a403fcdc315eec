//! One proxy's stream: sends what the session says is next, takes what the proxy reports.

use std::sync::Arc;

use mesh_bundle::envelope::STATUS_TYPE;
use mesh_bundle::messages::distribution::follow_request::Kind as Request;
use mesh_bundle::messages::distribution::follow_response::Kind as Response;
use mesh_bundle::messages::distribution::{
    FollowRequest, FollowResponse, SignedStatus, Status as ProxyStatus,
};
use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::identity::PeerIdentity;
use mesh_daemon::rpc::ConnectionInfo;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use crate::limits;
use crate::mesh::Mesh;
use crate::published::Published;
use crate::serve::session::Session;
use crate::status::fleet::{ProxyKey, StreamId};

/// What a stream is made of.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) peer: PeerIdentity,
    pub(crate) connection: Arc<ConnectionInfo>,
    pub(crate) key: ProxyKey,
    pub(crate) id: StreamId,
    pub(crate) session: Session,
    pub(crate) requests: Streaming<FollowRequest>,
    pub(crate) responses: mpsc::Sender<Result<FollowResponse, Status>>,
    pub(crate) published: watch::Receiver<Arc<Published>>,
}

/// Why a stream ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the proxy closed it")]
    Closed,
    #[error("the distributor is ending")]
    Draining,
    #[error("the proxy takes nothing")]
    Stuck,
    #[error("the certificate is no longer good: {0}")]
    Certificate(String),
    #[error("the proxy sent nonsense: {0}")]
    Nonsense(&'static str),
    #[error("an update could not be made")]
    Update(#[source] crate::serve::update::UpdateError),
    #[error("the connection broke: {}", .0.message())]
    Broken(Status),
}

impl Stream {
    /// Runs until either side ends it.
    pub(crate) async fn run(mut self, mut drain: DrainWatcher) {
        let end = loop {
            if let Err(end) = self.send_all().await {
                break end;
            }
            let step = tokio::select! {
                () = drain.draining() => Err(End::Draining),
                changed = self.published.changed() => match changed {
                    Ok(()) => self.judge_again().await,
                    Err(_gone) => Err(End::Draining),
                },
                message = self.requests.message() => match message {
                    Ok(Some(message)) => self.receive(message),
                    Ok(None) => Err(End::Closed),
                    Err(status) => Err(End::Broken(status)),
                },
            };
            if let Err(end) = step {
                break end;
            }
        };
        self.finish(&end).await;
    }

    /// Sends until the proxy has everything. Each message is made from the newest state, so a
    /// proxy that takes its time is never sent what was overtaken meanwhile.
    async fn send_all(&mut self) -> Result<(), End> {
        loop {
            let published = Arc::clone(&self.published.borrow_and_update());
            let Some(message) = self.session.next(&published).map_err(End::Update)? else {
                return Ok(());
            };
            self.send(message).await?;
        }
    }

    async fn send(&self, message: Response) -> Result<(), End> {
        let response = Ok(FollowResponse {
            kind: Some(message),
        });
        match tokio::time::timeout(limits::FOLLOW_SEND_TIMEOUT, self.responses.send(response)).await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(End::Closed),
            Err(_elapsed) => Err(End::Stuck),
        }
    }

    /// A connection that was good may be so no longer: revoked, expired, or its root is gone. The proxy is still told
    /// of new trust, which is public: it then knows that only an operator can help.
    async fn judge_again(&mut self) -> Result<(), End> {
        let Err(error) = self.mesh.judge_again(&self.connection) else {
            return Ok(());
        };
        let published = Arc::clone(&self.published.borrow_and_update());
        while let Some(message) = self.session.trust(&published) {
            self.send(message).await?;
        }
        Err(End::Certificate(error))
    }

    fn receive(&mut self, message: FollowRequest) -> Result<(), End> {
        match message.kind {
            Some(Request::Status(status)) => self.status(&status),
            Some(Request::Heartbeat(heartbeat)) => {
                let refused = self
                    .session
                    .sent()
                    .is_some_and(|sent| self.mesh.refused(&self.key, &sent));
                self.mesh.heartbeat(&self.key, &self.peer, &heartbeat);
                if self.session.heartbeat(&heartbeat, refused) {
                    self.mesh.events().repaired(&self.key);
                }
                Ok(())
            }
            Some(Request::ResendSlice(_resend)) => {
                self.session.resend();
                Ok(())
            }
            Some(Request::Hello(_again)) => Err(End::Nonsense("a second hello")),
            // A newer proxy may say more than we know.
            None => Ok(()),
        }
    }

    fn status(&self, signed: &SignedStatus) -> Result<(), End> {
        if !self
            .peer
            .verify_signature(STATUS_TYPE, &signed.status, &signed.signature)
        {
            return Err(End::Nonsense(
                "a status that its certificate's key did not sign",
            ));
        }
        let status = ProxyStatus::decode(signed.status.as_slice())
            .map_err(|_malformed| End::Nonsense("a status that does not decode"))?;
        self.mesh
            .report(&self.key, &status)
            .map_err(|_nonsense| End::Nonsense("a status without a generation"))
    }

    async fn finish(self, end: &End) {
        self.mesh.disconnected(&self.key, self.id, &end.to_string());
        let status = match end {
            End::Closed | End::Broken(_) | End::Stuck => return,
            End::Draining => Status::unavailable("the distributor is ending"),
            End::Certificate(_) => Status::unauthenticated(end.to_string()),
            End::Nonsense(_) => Status::invalid_argument(end.to_string()),
            End::Update(_) => Status::internal(end.to_string()),
        };
        drop(
            tokio::time::timeout(
                limits::FOLLOW_SEND_TIMEOUT,
                self.responses.send(Err(status)),
            )
            .await,
        );
    }
}
