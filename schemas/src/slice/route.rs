//! Routes: which requests, and where to.

use super::{Answer, CalleeExchange, Condition, Exchange, HeaderEdits, RouteFilters};

/// One route of a callee, effective for this caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Unique within the service.
    pub name: String,
    /// Or. Empty: every request.
    pub matches: Vec<RouteMatch>,
    /// Where its requests go; empty exactly when there is an `answer`.
    pub destinations: Vec<Destination>,
    /// Timeouts and retries.
    pub exchange: Exchange,
    /// The proxy answers itself.
    pub answer: Option<Answer>,
    /// What happens to requests and answers on their way.
    pub filters: RouteFilters,
    /// Of a gateway's route: what holds for a request that then takes a route of a callee.
    pub exchanges: Vec<CalleeExchange>,
}

/// And. Empty: every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// One branch of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Service whose endpoints take the request.
    pub target: Target,
    /// Share among the branches; a route with one branch has weight 1.
    pub weight: u32,
    /// In order, when the destination has no healthy endpoint.
    pub otherwise: Vec<Target>,
    /// Edits of the request's headers, after those of the route.
    pub request_headers: HeaderEdits,
    /// Edits of the answer's headers, after those of the route.
    pub response_headers: HeaderEdits,
}

impl Destination {
    /// All requests of a route, to this target.
    pub fn only(target: Target) -> Self {
        Self {
            target,
            weight: 1,
            ..Self::default()
        }
    }
}

/// A service or one of its subsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Service.
    pub service: String,
    /// None: all of its endpoints.
    pub subset: Option<String>,
    /// Port of the service; None: that of the request.
    pub port: Option<u16>,
}
