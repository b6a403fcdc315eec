//! What must hold for the whole mesh, with names resolved.

use mesh_bundle::slice::{self, Principal};
use mesh_syntax::Span;

use super::ServiceId;
use crate::model::Spanned;

/// One invariant.
#[derive(Clone, Debug, PartialEq)]
pub struct Invariant {
    /// What it says, in the words of whoever wrote it.
    pub text: Spanned<String>,
    /// All of them must hold, in the order of their places.
    pub claims: Vec<Claim>,
    /// The whole node.
    pub span: Span,
}

/// One line of an invariant.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// What it claims.
    pub kind: ClaimKind,
    /// Its word and names.
    pub span: Span,
}

/// What a line of an invariant claims.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimKind {
    /// The last hop of every path to the target is one of these.
    Reaches {
        /// The service.
        target: ServiceId,
        /// Ascending.
        only: Vec<ServiceId>,
    },
    /// There is no path, however long.
    Isolated {
        /// Ascending.
        from: Vec<ServiceId>,
        /// Ascending.
        to: Vec<ServiceId>,
    },
    /// What becomes of every such request.
    Decided {
        /// Whether it is let in.
        allowed: bool,
        /// Or; empty: everyone.
        from: Vec<Principal>,
        /// The service.
        to: ServiceId,
        /// And.
        conditions: Vec<slice::Condition>,
    },
}
