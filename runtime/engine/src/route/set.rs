//! Routes of which at most one takes a request: those of a callee, and those of a gateway.

use mesh_bundle::slice::Route;

use super::explain::{self, Explanation};
use super::index::RouteIndex;
use super::{RouteError, RouteTable};
use crate::request::Request;

/// Routes and their index.
#[derive(Clone, Debug)]
pub struct RouteSet {
    routes: Box<[RouteTable]>,
    index: RouteIndex,
}

impl RouteSet {
    /// Compiles routes.
    pub fn build(routes: &[Route]) -> Result<Self, RouteError> {
        Ok(Self {
            routes: routes
                .iter()
                .map(RouteTable::build)
                .collect::<Result<_, _>>()?,
            index: RouteIndex::build(routes)?,
        })
    }

    /// The route that takes the request; `None` is `no_route`.
    pub fn find(&self, request: &Request<'_>) -> Option<&RouteTable> {
        self.routes.get(self.index.find(request)?)
    }

    /// The route that takes the request, and why each of the others does not.
    pub fn explain(&self, request: &Request<'_>) -> Explanation<'_> {
        explain::explain(self, request)
    }

    /// The routes, in the order of the slice.
    pub fn routes(&self) -> &[RouteTable] {
        &self.routes
    }
}
