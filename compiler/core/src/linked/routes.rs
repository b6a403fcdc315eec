//! The routes of a service, which are most of a mesh: shared by states of it in which they are the same.

use std::ops::Deref;
use std::sync::Arc;

use super::Route;

/// The routes of a service, ascending by name.
#[derive(Clone, Debug)]
pub struct Routes(Arc<[Route]>);

impl Routes {
    /// The routes, to change them: they are copied first where another state shares them.
    pub fn to_mut(&mut self) -> &mut [Route] {
        Arc::make_mut(&mut self.0)
    }
}

impl From<Vec<Route>> for Routes {
    fn from(routes: Vec<Route>) -> Self {
        Self(routes.into())
    }
}

impl Deref for Routes {
    type Target = [Route];

    fn deref(&self) -> &[Route] {
        &self.0
    }
}

impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl<'a> IntoIterator for &'a Routes {
    type Item = &'a Route;
    type IntoIter = std::slice::Iter<'a, Route>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
