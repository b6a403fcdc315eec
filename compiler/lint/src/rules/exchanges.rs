//! Every effective exchange of a mesh, for the rules about retries and timeouts.

use mesh_bundle::slice::Condition;
use mesh_compiler::linked::{Exchange, LinkedMesh, Route, Service};

/// An exchange and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'m> {
    /// Who calls; none: whoever tightens nothing.
    pub(crate) caller: Option<&'m Service>,
    /// Whose route it is.
    pub(crate) callee: &'m Service,
    /// The route.
    pub(crate) route: &'m Route,
    /// What holds.
    pub(crate) exchange: &'m Exchange,
}

impl At<'_> {
    /// Whether anything is tried again.
    pub(crate) fn retries(&self) -> bool {
        self.exchange.attempts.value > 1 && !self.exchange.causes.value.is_empty()
    }

    /// Whether every request of the route may be repeated.
    pub(crate) fn only_idempotent(&self) -> bool {
        only_safe(self.route)
    }

    /// Which one, as findings say it.
    pub(crate) fn words(&self) -> String {
        let (route, callee) = (&self.route.name.value, &self.callee.name.value);
        match self.caller {
            Some(caller) => format!("route `{route}` of `{callee}`, for `{}`", caller.name.value),
            None => format!("route `{route}` of `{callee}`"),
        }
    }
}

/// The exchanges of all routes, and then those of callers that have their own.
pub(crate) fn exchanges(mesh: &LinkedMesh) -> impl Iterator<Item = At<'_>> {
    let own = mesh.services.iter().flat_map(|callee| {
        callee.routes.iter().map(move |route| At {
            caller: None,
            callee,
            route,
            exchange: &route.exchange,
        })
    });
    let of_callers = mesh.edges.iter().flat_map(move |edge| {
        let (caller, callee) = (mesh.service(edge.caller), mesh.service(edge.callee));
        let routes = callee.routes.iter().zip(&edge.exchanges);
        routes
            .filter(|(route, exchange)| route.exchange != **exchange)
            .map(move |(route, exchange)| At {
                caller: Some(caller),
                callee,
                route,
                exchange,
            })
    });
    own.chain(of_callers)
}

/// Those of them that try again.
pub(crate) fn retried(mesh: &LinkedMesh) -> impl Iterator<Item = At<'_>> {
    exchanges(mesh).filter(At::retries)
}

/// Methods that may be repeated (RFC 9110, 9.2.2).
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// Whether every request of the route may be repeated.
fn only_safe(route: &Route) -> bool {
    let safe = |condition: &Condition| match condition {
        Condition::Method(methods) => methods
            .iter()
            .all(|method| IDEMPOTENT.contains(&method.as_str())),
        _ => false,
    };
    !route.matches.is_empty()
        && (route.matches.iter()).all(|each| {
            each.conditions
                .iter()
                .any(|condition| safe(&condition.value))
        })
}
