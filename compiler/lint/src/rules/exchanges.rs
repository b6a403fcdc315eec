//! Every effective exchange of a mesh, for the rules about retries and timeouts.

use mesh_bundle::slice::Condition;
use mesh_compiler::linked::{Edge, Exchange, LinkedMesh, Route, Service};

use crate::facts::Facts;

/// An exchange and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'m> {
    /// Who calls; none: whoever tightens nothing.
    pub(crate) caller: Option<&'m Service>,
    /// Whose route it is.
    pub(crate) callee: &'m Service,
    /// The route.
    pub(crate) route: &'m Route,
    /// The route of a gateway by which the requests come to it.
    pub(crate) by: Option<&'m Route>,
    /// What holds.
    pub(crate) exchange: &'m Exchange,
}

impl<'m> At<'m> {
    /// Whether anything is tried again.
    pub(crate) fn retries(&self) -> bool {
        self.exchange.attempts.value > 1 && !self.exchange.causes.value.is_empty()
    }

    /// The route, and that of a gateway before it: what either says of requests holds for all of them.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'m Route> {
        std::iter::once(self.route).chain(self.by)
    }

    /// Whether every request of the route may be repeated.
    pub(crate) fn only_idempotent(&self) -> bool {
        self.routes().any(only_safe)
    }

    /// Which one, as findings say it.
    pub(crate) fn words(&self) -> String {
        let (route, callee) = (&self.route.name.value, &self.callee.name.value);
        match (self.caller, self.by) {
            (Some(caller), Some(by)) => format!(
                "route `{route}` of `{callee}`, by route `{}` of `{}`",
                by.name.value, caller.name.value
            ),
            (Some(caller), None) => {
                format!("route `{route}` of `{callee}`, for `{}`", caller.name.value)
            }
            (None, _) => format!("route `{route}` of `{callee}`"),
        }
    }
}

/// Every route as it is written, those of gateways too.
pub(crate) fn written(mesh: &LinkedMesh) -> impl Iterator<Item = At<'_>> {
    mesh.services.iter().flat_map(|callee| {
        callee.routes.iter().map(move |route| At {
            caller: None,
            callee,
            route,
            by: None,
            exchange: &route.exchange,
        })
    })
}

/// The exchanges of all routes, then those of callers that have their own, and then those of gateways' routes with the
/// routes of the services that they lead to. Alone, a gateway's route has none: it tightens what it leads to.
pub(crate) fn exchanges<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = At<'f>> {
    let mesh = facts.mesh();
    let own = written(mesh).filter(|at| at.callee.gateway().is_none());
    let is_gateway = move |edge: &Edge| mesh.service(edge.callee).gateway().is_some();
    let of_callers = facts.own_exchanges();
    let of_callers = of_callers.filter(move |(edge, _)| !is_gateway(edge));
    let of_callers = of_callers.filter_map(move |(edge, route)| {
        let callee = mesh.service(edge.callee);
        Some(At {
            caller: Some(mesh.service(edge.caller)),
            callee,
            route: callee.routes.get(route)?,
            by: None,
            exchange: edge.exchanges.get(route)?,
        })
    });
    let routed = mesh.edges.iter().filter(|edge| !edge.routed.is_empty());
    let routed = routed.filter(move |edge| !is_gateway(edge));
    let of_gateways = routed.flat_map(move |edge| {
        let (caller, callee) = (mesh.service(edge.caller), mesh.service(edge.callee));
        edge.routed.iter().flat_map(move |routed| {
            let by = mesh.route(routed.route);
            let routes = callee.routes.iter().zip(&routed.exchanges);
            routes.map(move |(route, exchange)| At {
                caller: Some(caller),
                callee,
                route,
                by: Some(by),
                exchange,
            })
        })
    });
    own.chain(of_callers).chain(of_gateways)
}

/// Those of them that try again.
pub(crate) fn retried<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = At<'f>> {
    exchanges(facts).filter(At::retries)
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
