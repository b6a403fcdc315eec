//! Joining: the steps of `trust.md`, "How a proxy starts", 4 to 7. Nothing secret is sent to a server
//! that is not verified, and nothing is believed that is not signed under the pin.

use std::sync::Arc;

use mesh_bundle::acceptance::Workload;
use mesh_bundle::reject::Rejection;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::IdentitySource;
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::svid::{SvidError, SvidKeyError, Usage};
use mesh_daemon::identity::{Credentials, Svid, TrustStoreError, WorkloadKey, WorkloadKeyError};
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::{ConnectError, PublicConnection, VerifiedConnection};
use mesh_daemon::store::{Store, StoreError};
use thiserror::Error;

use super::belief::Belief;

/// Why the proxy has no certificate yet.
#[derive(Debug, Error)]
pub(crate) enum EnrolError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The distributor or the issuer refused.
    #[error("distributor refused: {}", .0.message())]
    Status(tonic::Status),
    /// What it sent is not believed.
    #[error("distributor's trust data is refused")]
    Rejected(#[from] Rejection),
    /// A trust bundle holds something that is no certificate.
    #[error(transparent)]
    Trust(#[from] TrustStoreError),
    /// The trust root says that identities come from elsewhere.
    #[error("trust root wants identities from the SPIFFE Workload API, which this release lacks")]
    WorkloadApi,
    /// The certificate in the answer is not believed.
    #[error("issued certificate is refused")]
    Svid(#[from] SvidError),
    /// The certificate in the answer is not for our key.
    #[error("issued certificate is refused")]
    SvidKey(#[from] SvidKeyError),
    /// The certificate in the answer is for someone else.
    #[error("issued certificate is for {0}")]
    WrongIdentity(SpiffeId),
    /// No key.
    #[error(transparent)]
    Key(#[from] WorkloadKeyError),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The message is in the text; as a source it would be told twice.
impl From<tonic::Status> for EnrolError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status)
    }
}

impl EnrolError {
    /// Nobody listened.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_refused())
    }
}

/// Asks for public objects, step 4 and 5, and begins to believe.
pub(crate) async fn begin(
    address: &str,
    join: &JoinFile,
    store: Store,
    workload: Workload,
    clock: &Clock,
) -> Result<Belief, (Store, EnrolError)> {
    let fetched = async {
        let mut public = PublicConnection::connect(address, clock).await?;
        Ok::<_, EnrolError>(public.fetch_trust((&join.scope).into(), 1).await?)
    };
    let objects = match fetched.await {
        Ok(objects) => objects,
        Err(error) => return Err((store, error)),
    };
    let mut belief = Belief::begin(store, join, &objects, workload, clock.clone())
        .map_err(|(store, rejection)| (store, rejection.into()))?;
    for rejection in belief.offer_public(objects) {
        tracing::warn!(
            reason = rejection.as_str(),
            detail = rejection.detail(),
            "refused trust data"
        );
    }
    Ok(belief)
}

/// Asks again for public objects, for a proxy that believes already.
pub(crate) async fn refresh(
    address: &str,
    belief: &mut Belief,
    clock: &Clock,
) -> Result<Vec<Rejection>, EnrolError> {
    let scope = (&belief.contents().scope).into();
    let mut public = PublicConnection::connect(address, clock).await?;
    let objects = public.fetch_trust(scope, 1).await?;
    Ok(belief.offer_public(objects))
}

/// Gets a certificate for the token of a join file, steps 6 and 7.
pub(crate) async fn enrol(
    address: &str,
    join: &JoinFile,
    belief: &mut Belief,
    credentials: &Credentials,
) -> Result<Arc<Svid>, EnrolError> {
    let root = belief.acceptance().trust_root();
    if root.identity_source != IdentitySource::Issuer {
        return Err(EnrolError::WorkloadApi);
    }
    let distributors = root.distributors.clone();
    credentials.set_trust(belief.trust_store()?);
    // The same key again if an earlier answer was lost: the token works once, for one key.
    let key = match &belief.contents().keys.pending {
        Some(pending) => WorkloadKey::from_pkcs8(pending)?,
        None => WorkloadKey::generate()?,
    };
    belief.keys_mut().pending = Some(key.pkcs8().to_vec());
    belief.save()?;
    let mut connection = VerifiedConnection::connect(address, credentials, distributors).await?;
    let chain = connection
        .enrol(&join.token_id, &join.token(), key.csr()?)
        .await?;
    accept(chain, key, &join.identity, belief, credentials)
}

/// Takes a certificate that was asked for, if it is good and ours.
pub(crate) fn accept(
    chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    key: WorkloadKey,
    identity: &SpiffeId,
    belief: &mut Belief,
    credentials: &Credentials,
) -> Result<Arc<Svid>, EnrolError> {
    let svid = Svid::new(chain, key)?;
    credentials.judge(svid.chain(), Usage::Client)?;
    if svid.spiffe_id() != identity {
        return Err(EnrolError::WrongIdentity(svid.spiffe_id().clone()));
    }
    let keys = belief.keys_mut();
    keys.pending = None;
    keys.svid = Some((
        svid.key().pkcs8().to_vec(),
        svid.chain().iter().map(|der| der.to_vec()).collect(),
    ));
    belief.save()?;
    let svid = Arc::new(svid);
    credentials.set_svid(Arc::clone(&svid));
    Ok(svid)
}
