//! `allow`, `deny` and the conditions that they share with `match`.

use mesh_bundle::slice::{self, Effect, Enforcement};
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::Span;

use super::Spanned;

/// One `allow` or `deny`.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Admits or refuses.
    pub effect: Effect,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// Or. Empty only for `deny`: everyone.
    pub who: Vec<Spanned<Who>>,
    /// And.
    pub conditions: Vec<Condition>,
    /// The whole node.
    pub span: Span,
    /// Its word and whom it names, without properties and block.
    pub head: Span,
}

/// Who a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A service by name.
    Service(String),
    /// One identity.
    Identity(SpiffeId),
    /// Every identity below a path, as written: `spiffe://…/**`, kept without the stars.
    Prefix {
        /// The trust domain of the prefix.
        trust_domain: String,
        /// `spiffe://domain/path/`.
        text: String,
    },
    /// Any verified identity.
    Any,
    /// A peer without an identity, and no other.
    Unauthenticated,
    /// Every service of a team.
    Team(String),
}

/// One condition of `match`, `allow` or `deny`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it asks.
    pub kind: ConditionKind,
    /// The whole node.
    pub span: Span,
}

/// What a condition asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ConditionKind {
    /// Needs no other definition.
    Plain(slice::Condition),
    /// A method of gRPC, as the paths that carry it.
    Grpc(Vec<slice::PathPattern>),
    /// The caller, by names that are not resolved yet.
    From(Vec<Spanned<Who>>),
    /// The opposite.
    Not(Box<Condition>),
}
