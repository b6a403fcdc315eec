//! A trust bundle: the certificate authorities of one trust domain. The mesh's own is signed by the
//! `trust` role, a foreign one by a `federation` key that the trust root limits to that domain.

use crate::canonical::{self, NonCanonical, Wire, ascending};
use crate::digest::Digest;
use crate::envelope::{Envelope, PayloadType};
use crate::head::{TrustBundleRef, version};
use crate::key::SigningKey;
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::Rejection;
use crate::scope::Scope;
use crate::spiffe::TrustDomain;
use crate::statement::{self, Statement};

/// The certificate authorities of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose.
    pub trust_domain: TrustDomain,
    /// Rises with each change; at least 1.
    pub version: u64,
    /// Certificates in DER. Opaque here; an empty list trusts nobody of that domain.
    pub x509_authorities: Vec<Vec<u8>>,
}

impl TrustBundle {
    /// States this bundle. The scope is the mesh's, also for a foreign domain's bundle.
    pub fn seal(&self, scope: &Scope, keys: &[&SigningKey]) -> Envelope {
        statement::seal(self, scope, keys)
    }

    /// How a head names this bundle.
    pub fn reference(&self, scope: &Scope) -> TrustBundleRef {
        TrustBundleRef {
            trust_domain: self.trust_domain.clone(),
            version: self.version,
            digest: Digest::of(&statement::payload(self, scope)),
        }
    }
}

impl Statement for TrustBundle {
    const TYPE: PayloadType = PayloadType::TrustBundle;

    fn body(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    fn from_body(_scope: &Scope, body: &[u8]) -> Result<Self, Rejection> {
        canonical::decode("trust_bundle", body)
    }
}

impl Wire for TrustBundle {
    type Message = wire::TrustBundle;

    fn to_message(&self) -> wire::TrustBundle {
        wire::TrustBundle {
            trust_domain: self.trust_domain.as_str().to_owned(),
            version: self.version,
            x509_authorities: canonical::set(&self.x509_authorities),
        }
    }

    fn from_message(message: wire::TrustBundle) -> Result<Self, NonCanonical> {
        ascending(
            "trust_bundle.x509_authorities",
            &message.x509_authorities,
            limits::AUTHORITIES_MAX,
            |a, b| a < b,
        )?;
        Ok(Self {
            trust_domain: canonical::trust_domain(
                "trust_bundle.trust_domain",
                &message.trust_domain,
            )?,
            version: version("trust_bundle.version", message.version)?,
            x509_authorities: message.x509_authorities,
        })
    }
}
