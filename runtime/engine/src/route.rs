//! The routes of one callee: which of them takes a request, and where it then goes.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use mesh_bundle::slice::{Destination, Exchange, Route, RouteFilters, Target};

use crate::condition::{ConditionError, ConditionMatcher, Reading};
use crate::filter::rewrite::Rewritten;
use crate::filter::{Action, Captures, FilterError, Filters, HeaderEditError, HeaderEditor};
use crate::host::HostPatternError;
use crate::path::PathError;
use crate::request::{HeaderView, Request};
use crate::retry::RetryPolicy;

mod callee;
mod explain;
mod index;
mod precedence;
mod ranking;
mod set;
mod split;
#[cfg(test)]
mod tests;

pub use callee::CalleeTable;
pub use explain::{Because, Explanation, Loser};
pub(crate) use precedence::path_ranks;
pub use precedence::{Alternative, Precedence, Specificity, alternatives, compare};
pub use ranking::{Ranked, ranking};
pub use set::RouteSet;
pub use split::{Share, Split, SplitError};

/// Timeouts and retries by the name of a callee's route.
type Exchanges = HashMap<Box<str>, (Exchange, RetryPolicy)>;

/// One route, compiled.
#[derive(Clone, Debug)]
pub struct RouteTable {
    name: Box<str>,
    /// Or; each of them and. Empty: every request.
    matches: Box<[Box<[ConditionMatcher]>]>,
    split: Split,
    exchange: Exchange,
    retry: RetryPolicy,
    action: Action,
    /// Most routes have none.
    filters: Option<Box<Filters>>,
    /// Of a gateway's route: what holds on a route of a callee, by their names.
    exchanges: HashMap<Box<str>, Exchanges>,
    /// Of the destinations that have any.
    edits: Box<[DestinationEdits]>,
}

/// The header edits of one destination, compiled.
#[derive(Clone, Debug)]
struct DestinationEdits {
    target: Target,
    request: HeaderEditor,
    response: HeaderEditor,
}

/// Why the routes of a callee are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// One of its conditions.
    #[error("route {route:?}")]
    Condition {
        /// Name of the route.
        route: String,
        /// Why.
        source: ConditionError,
    },
    /// Its destinations.
    #[error("route {route:?}")]
    Split {
        /// Name of the route.
        route: String,
        /// Why.
        source: SplitError,
    },
    /// What it does with its requests.
    #[error("route {route:?}")]
    Filter {
        /// Name of the route.
        route: String,
        /// Why.
        source: FilterError,
    },
    /// A host that names the callee.
    #[error("bad host pattern {pattern:?}")]
    Host {
        /// As written.
        pattern: String,
        /// Why.
        source: HostPatternError,
    },
    /// More than [`crate::limits::INDEX_ENTRIES_MAX`].
    #[error(
        "the routes stand for more than {} combinations",
        crate::limits::INDEX_ENTRIES_MAX
    )]
    TooMany,
}

/// The route that takes the request, or none of them does: `no_route`.
pub fn choose<'t>(callee: &'t CalleeTable, request: &Request<'_>) -> Option<&'t RouteTable> {
    callee.route(request)
}

/// The route that takes the request, and why each of the others does not.
pub fn explain<'t>(callee: &'t CalleeTable, request: &Request<'_>) -> Explanation<'t> {
    callee.explain(request)
}

impl RouteTable {
    fn build(route: &Route) -> Result<Self, RouteError> {
        let compile = |conditions: &Vec<_>| {
            conditions
                .iter()
                .map(ConditionMatcher::compile)
                .collect::<Result<Box<[_]>, _>>()
        };
        let matches = route.matches.iter().map(|each| compile(&each.conditions));
        let matches =
            matches
                .collect::<Result<Box<[_]>, _>>()
                .map_err(|source| RouteError::Condition {
                    route: route.name.clone(),
                    source,
                })?;
        let failed = |source| RouteError::Filter {
            route: route.name.clone(),
            source,
        };
        let action = Action::build(route.answer.as_ref(), &matches).map_err(failed)?;
        let split = if action.is_forward() {
            Split::build(&route.destinations).map_err(|source| RouteError::Split {
                route: route.name.clone(),
                source,
            })?
        } else {
            Split::nowhere()
        };
        let filters = if route.filters == RouteFilters::default() {
            None
        } else {
            Some(Box::new(Filters::build(route, &matches).map_err(failed)?))
        };
        let mut exchanges: HashMap<Box<str>, Exchanges> = HashMap::new();
        for each in &route.exchanges {
            let retry = RetryPolicy::new(&each.exchange.retry);
            let of_callee = exchanges.entry(each.service.as_str().into()).or_default();
            of_callee.insert(each.route.as_str().into(), (each.exchange.clone(), retry));
        }
        let edits = |to: &Destination| {
            Ok(DestinationEdits {
                target: to.target.clone(),
                request: HeaderEditor::build(&to.request_headers)?,
                response: HeaderEditor::build(&to.response_headers)?,
            })
        };
        let edited = route
            .destinations
            .iter()
            .filter(|to| !to.request_headers.is_empty() || !to.response_headers.is_empty());
        let edits = edited.map(edits).collect::<Result<_, HeaderEditError>>();
        Ok(Self {
            edits: edits.map_err(|source| failed(source.into()))?,
            name: route.name.as_str().into(),
            matches,
            split,
            exchange: route.exchange.clone(),
            retry: RetryPolicy::new(&route.exchange.retry),
            action,
            filters,
            exchanges,
        })
    }

    /// Unique within the callee.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its matches, each the list of its conditions, in the order of the slice. Empty: every request.
    pub fn matches(&self) -> &[Box<[ConditionMatcher]>] {
        &self.matches
    }

    /// Whether the route could take the request if no other did.
    pub fn admits(&self, request: &Request<'_>) -> bool {
        let meets = |all: &[ConditionMatcher]| {
            all.iter()
                .all(|condition| condition.matches(request, Reading::Match))
        };
        self.matches.is_empty() || self.matches.iter().any(|all| meets(all))
    }

    /// What it does with its requests.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// What happens to its requests and answers on their way.
    pub fn filters(&self) -> &Filters {
        static NONE: LazyLock<Filters> = LazyLock::new(Filters::default);
        match &self.filters {
            Some(filters) => filters,
            None => &NONE,
        }
    }

    /// What its path pattern captured of a request that it takes.
    pub fn captures<'t, 'r>(&'t self, request: &Request<'r>) -> Captures<'t, 'r> {
        Captures::of(&self.matches, request)
    }

    /// The path and host of a request that it takes as they go on. An error is a path too long to be
    /// sent.
    pub fn rewrite(&self, request: &Request<'_>) -> Result<Rewritten<'_>, PathError> {
        match &self.filters().rewrite {
            Some(rewrite) => rewrite.apply(&self.captures(request)),
            None => Ok(Rewritten::default()),
        }
    }

    /// Whether a request goes on otherwise than it was received.
    pub fn changes_requests(&self) -> bool {
        let filters = self.filters();
        filters.rewrite.is_some() || !filters.request_headers.is_empty() || !self.edits.is_empty()
    }

    /// Asks about a request that the route takes as it goes on: rewritten, its headers edited, for this
    /// destination too if one is given. An error is a path too long to be sent.
    pub fn forwarded<R>(
        &self,
        request: &Request<'_>,
        to: Option<&Destination>,
        ask: impl FnOnce(&Request<'_>) -> R,
    ) -> Result<R, PathError> {
        let rewritten = self.rewrite(request)?;
        let of_route = self.filters().request_headers.view(request.headers);
        let of_destination = to
            .and_then(|to| self.request_headers_to(to))
            .map(|edits| edits.view(&of_route));
        let headers: &dyn HeaderView = match &of_destination {
            Some(edited) => edited,
            None => &of_route,
        };
        Ok(ask(&Request {
            path: rewritten.path.as_ref().unwrap_or(request.path),
            host: rewritten.host.unwrap_or(request.host),
            headers,
            ..*request
        }))
    }

    /// Timeouts and retries of a request of this gateway's route that then takes that route of a callee.
    pub fn exchange_through(&self, service: &str, route: &str) -> (&Exchange, &RetryPolicy) {
        match self.exchanges.get(service).and_then(|of| of.get(route)) {
            Some((exchange, retry)) => (exchange, retry),
            None => (&self.exchange, &self.retry),
        }
    }

    /// Edits of the request's headers for this destination, after those of the route.
    pub fn request_headers_to(&self, to: &Destination) -> Option<&HeaderEditor> {
        self.edits_of(to).map(|edits| &edits.request)
    }

    /// Edits of the answer's headers from this destination, after those of the route.
    pub fn response_headers_from(&self, to: &Destination) -> Option<&HeaderEditor> {
        self.edits_of(to).map(|edits| &edits.response)
    }

    fn edits_of(&self, to: &Destination) -> Option<&DestinationEdits> {
        self.edits.iter().find(|edits| edits.target == to.target)
    }

    /// Where its requests go; nowhere if the proxy answers them itself.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Picks a destination of requests that share this hash, always the same one as long as weights stay; none: any, by
    /// weight.
    pub fn pick_tied(
        &self,
        hash: Option<u64>,
        rng: &mut (impl rand::Rng + ?Sized),
    ) -> Option<&Destination> {
        let Some(hash) = hash else {
            return self.pick_destination(rng);
        };
        self.action.is_forward().then(|| self.split.of(hash))
    }

    /// Picks a destination by weight; `None` if the proxy answers itself.
    pub fn pick_destination(&self, rng: &mut (impl rand::Rng + ?Sized)) -> Option<&Destination> {
        self.action.is_forward().then(|| self.split.pick(rng))
    }

    /// Each destination with its share, as `test` and `explain` show it.
    pub fn split_shares(&self) -> impl ExactSizeIterator<Item = Share<'_>> {
        self.split.shares()
    }

    /// Timeouts and retries, effective for this caller.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Retries, compiled.
    pub fn retry(&self) -> &RetryPolicy {
        &self.retry
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
