//! What must hold for the whole mesh, as written.

use mesh_syntax::Span;

use super::{Condition, Spanned, Who};

/// One `invariant`.
#[derive(Clone, Debug, PartialEq)]
pub struct Invariant {
    /// What it says, in the words of whoever wrote it.
    pub text: Spanned<String>,
    /// All of them must hold.
    pub claims: Vec<Claim>,
    /// The whole node.
    pub span: Span,
}

/// One line of an invariant.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// What it claims.
    pub kind: ClaimKind,
    /// The whole node.
    pub span: Span,
    /// Its word and names, without the block.
    pub head: Span,
}

/// What a line of an invariant claims.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimKind {
    /// `reaches`: the last hop of every path to the target is one of these.
    Reaches {
        /// The service.
        target: Spanned<String>,
        /// Who may be the last hop.
        only: Vec<Spanned<String>>,
    },
    /// `isolated`: there is no path, however long.
    Isolated {
        /// Where it would begin.
        from: Vec<Spanned<String>>,
        /// Where it would end.
        to: Vec<Spanned<String>>,
    },
    /// `allowed` and `denied`: what becomes of every such request.
    Decided {
        /// Which of them.
        allowed: bool,
        /// Or; empty: everyone.
        from: Vec<Spanned<Who>>,
        /// The service.
        to: Spanned<String>,
        /// And.
        conditions: Vec<Condition>,
    },
}
