//! What a route does with its requests besides sending them somewhere.

use mesh_bundle::slice::{
    Answer, Cors, FaultAbort, FaultDelay, HeaderEdits, PathAccepts, RequestKey, Rewrite, Upgrade,
};
use mesh_syntax::Span;

use super::{Spanned, Target};
use crate::date::Date;

/// The actions of a route; `T` is how mirrors name whom they copy to.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions<T = Target> {
    /// `redirect` or `respond`: the proxy answers itself.
    pub answer: Option<Spanned<Answer>>,
    /// `rewrite`.
    pub rewrite: Option<Spanned<Rewrite>>,
    /// `mirror`s.
    pub mirrors: Vec<Mirror<T>>,
    /// `fault`.
    pub fault: Option<Fault>,
    /// `request-headers`.
    pub request_headers: Option<Spanned<HeaderEdits>>,
    /// `response-headers`.
    pub response_headers: Option<Spanned<HeaderEdits>>,
    /// `cors`.
    pub cors: Option<Spanned<Cors>>,
    /// `upgrade`.
    pub upgrade: Option<Spanned<Upgrade>>,
    /// `path-accepts`, ascending.
    pub path_accepts: Vec<PathAccepts>,
    /// `streaming`.
    pub streaming: Option<Span>,
    /// `sticky`, ascending.
    pub sticky: Option<Spanned<Vec<RequestKey>>>,
}

impl<T> Default for Actions<T> {
    fn default() -> Self {
        Self {
            answer: None,
            rewrite: None,
            mirrors: Vec::new(),
            fault: None,
            request_headers: None,
            response_headers: None,
            cors: None,
            upgrade: None,
            path_accepts: Vec::new(),
            streaming: None,
            sticky: None,
        }
    }
}

/// One `mirror`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror<T = Target> {
    /// Whom the copies go to.
    pub target: T,
    /// Of 10,000.
    pub share: u32,
    /// The whole node.
    pub span: Span,
}

/// `fault`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// Waits first.
    pub delay: Option<Spanned<FaultDelay>>,
    /// Then answers itself.
    pub abort: Option<Spanned<FaultAbort>>,
    /// From this day on nothing happens.
    pub until: Option<Spanned<Date>>,
    /// The whole node.
    pub span: Span,
}
