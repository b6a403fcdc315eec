//! A distributor that lies: it has taken the place of the real one, with that one's keys, and offers
//! whatever a case makes of a good generation.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::head::{GenerationRef, Head};
use mesh_bundle::key::SigningKey;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::TrustRoot;
use mesh_daemon::clock::Clock;
use mesh_daemon::drain::{self, DrainTrigger};
use mesh_daemon::identity::{Credentials, Svid, TrustStore, WorkloadKey};
use mesh_daemon::rpc::Distribution;
use mesh_daemon::rpc::server::{RpcListener, connection_info};
use mesh_tests::Failure;
use prost::Message as _;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::{Mutex, mpsc};
use tonic::{Request, Response, Status, Streaming};

use crate::support::LIMIT;

/// A message on the way to the victim.
type Outgoing = Result<wire::FollowResponse, Status>;

/// The keys of the distributor that was replaced.
pub(crate) struct Keys {
    pub(crate) root: TrustRoot,
    pub(crate) compile: SigningKey,
    head: Arc<SigningKey>,
    folder: std::path::PathBuf,
}

impl Keys {
    /// Reads what `meshc keygen` wrote.
    pub(crate) fn read(trust: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(trust.join("trust/trust-root.1.envelope"))?;
        let envelope = Envelope::decode(&bytes)?;
        let root = TrustRoot::verify_pinned(&envelope, &envelope.payload_digest())?.into_value();
        Ok(Self {
            root,
            compile: seed(&trust.join("keys/compile.key"))?,
            head: Arc::new(seed(&trust.join("keys/head.key"))?),
            folder: trust.to_owned(),
        })
    }

    /// A certificate of the distributor's identity, as the real one makes for itself.
    fn credentials(&self) -> Result<Credentials, Failure> {
        let key = KeyPair::from_pem(&std::fs::read_to_string(
            self.folder.join("keys/intermediate.key"),
        )?)?;
        let pem = std::fs::read_to_string(self.folder.join("trust/intermediate.pem"))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        let identity = self
            .root
            .distributors
            .first()
            .ok_or_else(|| Failure::new("the trust root names no distributor"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf_key = KeyPair::generate()?;
        let leaf = params.signed_by(&leaf_key, &issuer)?;
        let chain = vec![
            leaf.der().clone(),
            CertificateDer::from_pem_slice(pem.as_bytes())?,
        ];
        let key = WorkloadKey::from_pkcs8(&leaf_key.serialize_der())?;
        let ca = CertificateDer::from_pem_file(self.folder.join("trust/ca.pem"))?;
        let domain = self.root.scope.trust_domain.as_str();
        let credentials = Credentials::new(Clock::system());
        credentials.set_svid(Arc::new(Svid::new(chain, key)?));
        credentials.set_trust(TrustStore::empty().with_roots(domain, [ca.as_ref()])?);
        Ok(credentials)
    }
}

/// A key file: comments, then one line of base64.
fn seed(file: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(file)?;
    let line = text
        .lines()
        .find(|line| !line.starts_with('#'))
        .unwrap_or_default();
    let bytes: [u8; 32] = STANDARD
        .decode(line.trim())?
        .try_into()
        .map_err(|_wrong| Failure::new(format!("{} holds no seed", file.display())))?;
    Ok(SigningKey::from_seed(bytes))
}

/// The lying distributor.
pub(crate) struct Rogue {
    shared: Arc<Shared>,
    statuses: Mutex<mpsc::UnboundedReceiver<wire::Status>>,
    head: Arc<SigningKey>,
    scope: Scope,
    issued: AtomicU64,
    // Dropped, it ends the server.
    _drain: DrainTrigger,
}

struct Shared {
    victim: SpiffeId,
    to_victim: Mutex<Option<mpsc::Sender<Outgoing>>>,
    statuses: mpsc::UnboundedSender<wire::Status>,
}

impl Rogue {
    /// Takes over an address and waits until the victim has come to it.
    pub(crate) async fn start(
        address: std::net::SocketAddr,
        keys: &Keys,
        victim: SpiffeId,
    ) -> Result<Self, Failure> {
        let credentials = keys.credentials()?;
        let listener = loop {
            match RpcListener::bind(address, &credentials).await {
                Ok(listener) => break listener,
                Err(mesh_daemon::rpc::server::BindError::Listen(error))
                    if error.kind() == std::io::ErrorKind::AddrInUse =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let (sender, statuses) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            victim,
            to_victim: Mutex::new(None),
            statuses: sender,
        });
        let (drain, watcher) = drain::channel();
        let handlers = Handlers(Arc::clone(&shared));
        tokio::spawn(listener.serve(handlers, watcher));
        Ok(Self {
            shared,
            statuses: Mutex::new(statuses),
            head: Arc::clone(&keys.head),
            scope: keys.root.scope.clone(),
            issued: AtomicU64::new(0),
            _drain: drain,
        })
    }

    /// Names this generation in a head and offers it.
    pub(crate) async fn offer(
        &self,
        named: GenerationRef,
        update: wire::GenerationUpdate,
    ) -> Result<(), Failure> {
        let now = Clock::system().wall_ms();
        let last = self.issued.load(Ordering::Relaxed);
        let issued_ms = Head::next_issued(last, now);
        self.issued.store(issued_ms, Ordering::Relaxed);
        let head = Head {
            trust_root_version: 1,
            issued_ms,
            expires_ms: issued_ms + 600_000,
            current: named,
            candidate: None,
            aborted: Vec::new(),
            trust_bundles: Vec::new(),
            revocations: Vec::new(),
        };
        let head = head.seal(&self.scope, &[&self.head]);
        self.send(wire::follow_response::Kind::Head((&head).into()))
            .await?;
        self.send(wire::follow_response::Kind::Generation(update))
            .await
    }

    async fn send(&self, kind: wire::follow_response::Kind) -> Result<(), Failure> {
        let message = wire::FollowResponse { kind: Some(kind) };
        let sent = async {
            loop {
                let sender = self.shared.to_victim.lock().await.clone();
                if let Some(sender) = sender
                    && sender.send(Ok(message.clone())).await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, sent)
            .await
            .map_err(|_elapsed| Failure::new("the victim never came"))
    }

    /// The next status of the victim in one of these phases.
    pub(crate) async fn status(&self, phases: &[wire::Phase]) -> Result<wire::Status, Failure> {
        let mut statuses = self.statuses.lock().await;
        let next = async {
            loop {
                let status = statuses
                    .recv()
                    .await
                    .ok_or_else(|| Failure::new("the server ended"))?;
                if phases.iter().any(|phase| *phase as i32 == status.phase) {
                    return Ok(status);
                }
            }
        };
        tokio::time::timeout(LIMIT, next)
            .await
            .map_err(|_elapsed| Failure::new(format!("no status in phase {phases:?}")))?
    }
}

/// What proxies ask of the rogue; only the victim gets anything.
struct Handlers(Arc<Shared>);

#[tonic::async_trait]
impl Distribution for Handlers {
    type FollowStream = Pin<Box<dyn Stream<Item = Outgoing> + Send>>;

    async fn fetch_trust(
        &self,
        _request: Request<wire::FetchTrustRequest>,
    ) -> Result<Response<wire::FetchTrustResponse>, Status> {
        Err(Status::unavailable("a rogue"))
    }

    async fn enrol(
        &self,
        _request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::EnrolResponse>, Status> {
        Err(Status::unavailable("a rogue"))
    }

    async fn renew(
        &self,
        _request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::EnrolResponse>, Status> {
        Err(Status::unavailable("a rogue"))
    }

    async fn follow(
        &self,
        request: Request<Streaming<wire::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = connection_info(&request).and_then(|info| info.peer.as_ref());
        let is_victim = peer.is_some_and(|peer| peer.spiffe_id == self.0.victim);
        let (sender, receiver) = mpsc::channel(16);
        if is_victim {
            *self.0.to_victim.lock().await = Some(sender.clone());
        }
        let statuses = self.0.statuses.clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                let Some(wire::follow_request::Kind::Status(signed)) = message.kind else {
                    continue;
                };
                if let (true, Ok(status)) = (is_victim, wire::Status::decode(&signed.status[..])) {
                    // Nobody waits for it at the end of a case.
                    drop(statuses.send(status));
                }
            }
            drop(sender);
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
