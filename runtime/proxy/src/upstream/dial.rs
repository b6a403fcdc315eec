//! How the endpoints of a callee are dialled: mesh peers with mTLS always, what is not of the mesh as
//! policy says, port by port.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use mesh_bundle::slice::{Callee, CalleeKind, ClientTls, TlsVersion};
use mesh_bundle::spiffe::SpiffeId;
use thiserror::Error;

use super::connect::Security;
use super::outside::{OutsideClient, Terms, TermsError};
use crate::secrets::Secrets;

/// How the endpoints of one callee are dialled.
#[derive(Clone, Debug, Default)]
pub(crate) enum Dialling {
    /// It is of the mesh.
    #[default]
    Mesh,
    /// A service without a sidecar: by port of the service.
    Unmeshed(Dials),
    /// Outside: by port of the service.
    External(Dials),
    /// Outside, and something on this machine stands in for it.
    StandIn(SocketAddr),
}

/// How one port is dialled that is not of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    /// The port really dialled, where only a host says where.
    pub(crate) port: u16,
    /// None: plaintext.
    pub(crate) tls: Option<(Terms, OutsideClient)>,
}

/// What connections must have in common to be shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Sharing {
    /// The identities that the other end may have.
    Mesh(BTreeSet<SpiffeId>),
    /// The terms of TLS.
    Outside(Terms),
    /// Nothing: plaintext.
    Plain,
}

/// Why a callee cannot be dialled as policy says.
#[derive(Debug, Error)]
#[error("port {port} of {service}: {source}")]
pub(crate) struct DialError {
    service: String,
    port: u16,
    source: TermsError,
}

impl Dialling {
    /// Makes everything ready that dialling a callee takes.
    pub(crate) fn of(
        callee: &Callee,
        secrets: &Secrets,
        stand_in: Option<SocketAddr>,
    ) -> Result<Self, DialError> {
        let dials = || {
            let dial = |port: u16| {
                let declared = callee.dials.iter().find(|dial| dial.port == port);
                let tls = declared.and_then(|dial| dial.tls.as_ref());
                let tls = tls.map(|tls| outside(callee, tls, secrets)).transpose();
                let tls = tls.map_err(|source| DialError {
                    service: callee.service.clone(),
                    port,
                    source,
                })?;
                let really = declared.and_then(|dial| dial.dial).unwrap_or(port);
                Ok((port, Dial { port: really, tls }))
            };
            let ports = callee.ports.iter().map(|port| dial(port.number));
            ports.collect::<Result<_, _>>().map(Dials)
        };
        Ok(match (&callee.kind, stand_in) {
            (CalleeKind::Meshed, _) => Self::Mesh,
            (CalleeKind::Unmeshed, _) => Self::Unmeshed(dials()?),
            // What leaves by a gateway is dialled as that gateway, which is of the mesh.
            (CalleeKind::External { via: Some(_) }, _) => Self::Mesh,
            (CalleeKind::External { via: None }, Some(address)) => Self::StandIn(address),
            (CalleeKind::External { via: None }, None) => Self::External(dials()?),
        })
    }

    /// Whether requests leave the mesh.
    pub(crate) fn leaves(&self) -> bool {
        !matches!(self, Self::Mesh)
    }

    /// The port that is really dialled for a port of the service, and whether with TLS.
    pub(crate) fn really(&self, port: u16) -> (u16, bool) {
        match self {
            Self::Unmeshed(dials) | Self::External(dials) => match dials.get(port) {
                Some(dial) => (dial.port, dial.tls.is_some()),
                None => (port, false),
            },
            Self::Mesh | Self::StandIn(_) => (port, false),
        }
    }

    /// How a port that is not of the mesh is dialled.
    pub(crate) fn security(&self, port: u16) -> Option<(Sharing, Security)> {
        match self {
            Self::Mesh => None,
            Self::StandIn(_) => Some((Sharing::Plain, Security::Plain)),
            Self::Unmeshed(dials) | Self::External(dials) => Some(match &dials.get(port)?.tls {
                None => (Sharing::Plain, Security::Plain),
                Some((terms, client)) => (
                    Sharing::Outside(terms.clone()),
                    Security::Outside(client.clone()),
                ),
            }),
        }
    }
}

/// How each port is dialled: few of few ports, and of thousands of services, so a list.
#[derive(Clone, Debug)]
pub(crate) struct Dials(Box<[(u16, Dial)]>);

impl Dials {
    fn get(&self, port: u16) -> Option<&Dial> {
        let mut found = self.0.iter().filter(|(of, _)| *of == port);
        found.next().map(|(_, dial)| dial)
    }
}

fn outside(
    callee: &Callee,
    tls: &ClientTls,
    secrets: &Secrets,
) -> Result<(Terms, OutsideClient), TermsError> {
    let host = || {
        callee
            .hosts
            .iter()
            .find(|host| !host.contains('*'))
            .cloned()
    };
    let terms = Terms {
        name: tls.sni.clone().or_else(host).unwrap_or_default(),
        alternatives: tls.sans.clone(),
        trust: tls.trust.clone(),
        certificate: tls.certificate.clone(),
        only_tls13: tls.min == TlsVersion::V1_3,
    };
    let client = OutsideClient::new(&terms, secrets)?;
    Ok((terms, client))
}
