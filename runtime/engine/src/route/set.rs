//! Routes of which at most one takes a request: those of a callee, and those of a gateway.

use mesh_bundle::slice::Route;

use super::explain::{self, Explanation};
use super::index::RouteIndex;
use super::{RouteError, RouteTable};
use crate::path::Accepts;
use crate::request::Request;

/// Routes and their index.
#[derive(Clone, Debug)]
pub struct RouteSet {
    routes: Box<[RouteTable]>,
    index: RouteIndex,
    accepts: Accepts,
}

impl RouteSet {
    /// Compiles routes.
    pub fn build(routes: &[Route]) -> Result<Self, RouteError> {
        let tables = routes.iter().map(RouteTable::build);
        let tables = tables.collect::<Result<Box<[_]>, _>>()?;
        let accepts = tables.iter().fold(Accepts::default(), |all, route| {
            all.or(route.filters().path_accepts)
        });
        Ok(Self {
            routes: tables,
            accepts,
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

    /// What a path may hold for some route; the one that takes it says whether it may for that one,
    /// [`crate::filter::Filters::path_accepts`].
    pub fn path_accepts(&self) -> Accepts {
        self.accepts
    }

    /// The routes, in the order of the slice.
    pub fn routes(&self) -> &[RouteTable] {
        &self.routes
    }
}
