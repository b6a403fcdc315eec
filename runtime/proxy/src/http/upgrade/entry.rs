//! How a tunnel was let in, to ask again when policy changes: it has no next request at which one could.

use std::net::IpAddr;
use std::sync::Arc;

use http::request;
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::path::{self, Accepts};
use mesh_engine::{HeaderView, Peer, RouteTable};

use crate::data_plane::Plane;

/// The request that asked for a tunnel, as it was authorised.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Whose rules; none: those of whoever has the port now.
    pub(crate) external: Option<String>,
    /// The port that policy speaks of.
    pub(crate) port: u16,
    /// Who asked; none: nobody with an identity.
    pub(crate) peer: Option<Arc<SpiffeId>>,
    /// The host that was asked.
    pub(crate) host: String,
    /// What was asked.
    pub(crate) head: request::Parts,
    /// What its path may hold.
    pub(crate) accepts: Accepts,
    /// Address of the peer.
    pub(crate) peer_ip: IpAddr,
    /// Address of the client.
    pub(crate) client_ip: IpAddr,
    /// When it asked, in seconds since 1970: a token that was good then need not be so for ever.
    pub(crate) since: u64,
}

impl Entry {
    /// Whether the newest policy would let it in.
    pub(super) fn is_open(&self, plane: &Plane) -> bool {
        let Some(tables) = plane.tables().filter(|_| !plane.is_denying()) else {
            return false;
        };
        let Ok(path) = path::normalise_accepting(self.head.uri.path(), self.accepts) else {
            return false;
        };
        let snapshot = tables.snapshot();
        let peer = self.peer.as_deref();
        let mut request = mesh_engine::Request {
            method: self.head.method.as_str(),
            host: &self.host,
            path: &path,
            query: self.head.uri.query().unwrap_or_default(),
            headers: &self.head.headers,
            claims: None,
            port: self.port,
            peer: peer.map_or(Peer::Unauthenticated, Peer::Identity),
            peer_ip: Some(self.peer_ip),
            client_ip: Some(self.client_ip),
        };
        match &self.external {
            Some(external) => snapshot.callee(external).is_some_and(|callee| {
                let verdict = snapshot.leave(callee, &request);
                verdict.is_some_and(|verdict| verdict.is_allowed())
                    && callee.path_accepts().allow(&path).is_ok()
            }),
            None => {
                let Some(table) = snapshot.inbound(self.port) else {
                    return false;
                };
                let providers = tables.providers();
                let tokens = providers.read(snapshot, table, &request, self.since);
                request.claims = tokens.claims().map(|claims| claims as &dyn HeaderView);
                let gateway = snapshot.gateway(table.service());
                let route = gateway.and_then(|gateway| gateway.route(&request));
                let route = route.map(RouteTable::name);
                let unmet = table.unmet_token(&request, route, |provider| tokens.of(provider));
                unmet.is_none()
                    && table.authorise(&request).is_allowed()
                    && table.path_accepts().allow(&path).is_ok()
            }
        }
    }
}
