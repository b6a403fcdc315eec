//! What decides about entering and no request can show: certificates and addresses of clients, keys of tokens,
//! and what the paths of requests may hold. Whether somebody gains by such a change nobody can say.

use mesh_bundle::slice::{ClientCertificate, PathAccepts};
use mesh_syntax::Span;

use super::{Change, Kept};
use crate::emit;
use crate::linked::{LinkedMesh, Listener};

/// Something that may let in what was refused.
#[derive(Clone, Debug)]
pub struct Loosened {
    /// Where it is written in the head.
    pub span: Span,
    /// Whose it is: a service, a gateway or a provider of tokens.
    pub name: String,
    /// What changed.
    pub what: What,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Clients of a listener no longer need a certificate.
    ClientCertificate,
    /// The address of a client is taken from elsewhere.
    ClientAddress,
    /// Tokens are verified with other keys, or taken from elsewhere.
    Keys,
    /// Paths may hold what was refused in them.
    Paths,
}

/// All that may let in more, in the order of services, then of providers of tokens.
pub fn of(change: Change<'_>) -> Vec<Loosened> {
    let mut found = Vec::new();
    for kept in change.kept() {
        listeners(change, kept, &mut found);
        paths(change, kept, &mut found);
    }
    tokens(change.base, change.head, &mut found);
    found
}

fn listeners(change: Change<'_>, kept: Kept, found: &mut Vec<Loosened>) {
    let service = change.head.service(kept.head);
    let old = change.base.service(kept.base).gateway();
    let (Some(old), Some(new)) = (old, service.gateway()) else {
        return;
    };
    let client = |listener: &Listener| {
        let client = listener.tls.as_ref().and_then(|tls| tls.client.as_ref());
        client.map_or(ClientCertificate::None, |client| client.value)
    };
    for listener in &new.listeners {
        // Those that take what an earlier one took: the same port, and some of its hosts or any.
        let meets = |was: &&Listener| {
            was.port.value == listener.port.value
                && (was.hosts == listener.hosts
                    || was.hosts.is_empty()
                    || listener.hosts.is_empty()
                    || was.hosts.iter().any(|host| listener.hosts.contains(host)))
        };
        let before = || old.listeners.iter().filter(meets);
        let is_asked = |was: &Listener| client(was) == ClientCertificate::Required;
        let mut tell = |what| {
            found.push(Loosened {
                span: listener.span,
                name: service.name.value.clone(),
                what,
            });
        };
        if !is_asked(listener) && before().any(is_asked) {
            tell(What::ClientCertificate);
        }
        if before().any(|was| was.client_address != listener.client_address) {
            tell(What::ClientAddress);
        }
    }
}

fn paths(change: Change<'_>, kept: Kept, found: &mut Vec<Loosened>) {
    let (before, after) = (
        change.base.service(kept.base),
        change.head.service(kept.head),
    );
    let accepted = emit::path_accepts(before);
    let added = |what: &PathAccepts| !accepted.contains(what);
    let accepts = emit::path_accepts(after);
    if !accepts.iter().any(added) {
        return;
    }
    let mut routes = after.routes.iter();
    let route = routes.find(|route| route.actions.path_accepts.iter().any(added));
    found.push(Loosened {
        span: route.map_or(after.name.span, |route| route.name.span),
        name: after.name.value.clone(),
        what: What::Paths,
    });
}

fn tokens(base: &LinkedMesh, head: &LinkedMesh, found: &mut Vec<Loosened>) {
    for jwt in &head.jwts {
        let mut before = base.jwts.iter();
        let was = before.find(|was| was.name.value == jwt.name.value);
        let is_other = was.is_some_and(|was| {
            was.provider.jwks != jwt.provider.jwks
                || was.provider.locations != jwt.provider.locations
        });
        if is_other {
            found.push(Loosened {
                span: jwt.name.span,
                name: jwt.name.value.clone(),
                what: What::Keys,
            });
        }
    }
}
