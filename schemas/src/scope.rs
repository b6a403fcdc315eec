//! What a statement is about: one mesh, one environment of it, one trust domain.

use std::fmt;

use crate::canonical::{self, NonCanonical, Wire};
use crate::limits::NAME_BYTES_MAX;
use crate::messages::bundle as wire;
use crate::reject::{RejectReason, Rejection};
use crate::spiffe::TrustDomain;

/// Mesh, environment and trust domain; part of every signed statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the environment; `default` where policy names none.
    pub environment: String,
    /// Trust domain of the mesh's identities.
    pub trust_domain: TrustDomain,
}

impl Scope {
    /// Refuses a statement whose scope is not this one.
    pub fn expect(&self, found: &Self) -> Result<(), Rejection> {
        let differs = |what: &str, ours: &str, theirs: &str| {
            format!("made for {what} \"{theirs}\", this is \"{ours}\"")
        };
        if self.mesh != found.mesh {
            return Err(Rejection::new(
                RejectReason::WrongMesh,
                differs("mesh", &self.mesh, &found.mesh),
            ));
        }
        if self.environment != found.environment {
            return Err(Rejection::new(
                RejectReason::WrongEnvironment,
                differs("environment", &self.environment, &found.environment),
            ));
        }
        if self.trust_domain != found.trust_domain {
            return Err(Rejection::new(
                RejectReason::WrongTrustDomain,
                differs(
                    "trust domain",
                    self.trust_domain.as_str(),
                    found.trust_domain.as_str(),
                ),
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} in {}",
            self.mesh, self.environment, self.trust_domain
        )
    }
}

impl Wire for Scope {
    type Message = wire::Scope;

    fn to_message(&self) -> wire::Scope {
        wire::Scope {
            mesh: self.mesh.clone(),
            environment: self.environment.clone(),
            trust_domain: self.trust_domain.as_str().to_owned(),
        }
    }

    fn from_message(message: wire::Scope) -> Result<Self, NonCanonical> {
        Ok(Self {
            mesh: canonical::text("scope.mesh", message.mesh, NAME_BYTES_MAX)?,
            environment: canonical::text("scope.environment", message.environment, NAME_BYTES_MAX)?,
            trust_domain: canonical::trust_domain("scope.trust_domain", &message.trust_domain)?,
        })
    }
}

impl From<&Scope> for wire::Scope {
    fn from(scope: &Scope) -> Self {
        scope.to_message()
    }
}

impl TryFrom<wire::Scope> for Scope {
    type Error = Rejection;

    fn try_from(message: wire::Scope) -> Result<Self, Rejection> {
        Ok(Self::from_message(message)?)
    }
}
