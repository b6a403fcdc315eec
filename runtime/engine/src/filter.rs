//! What a route does to its requests and answers on their way: each filter is data and a function that
//! applies it. The proxy, the compiler's trials and `explain` call the same ones. A request is matched as
//! received, then rewritten, then its headers are edited.

use mesh_bundle::slice::{Answer, Redirect, RequestKey, Respond, Route, Upgrade};

pub mod capture;
pub mod cors;
pub mod fault;
pub mod header;
pub mod mirror;
pub mod redirect;
pub mod respond;
pub mod rewrite;

pub use capture::{Captures, PathRewrite, PathRewriteError};
pub use cors::{CorsDecision, CorsError, CorsPolicy};
pub use fault::{FaultPolicy, Injected};
pub use header::{EditedHeaders, HeaderEditError, HeaderEditor};
pub use mirror::MirrorPolicy;
pub use redirect::{Received, RedirectPolicy};
pub use respond::RespondPolicy;
pub use rewrite::RewritePolicy;

use crate::condition::ConditionMatcher;
use crate::path::Accepts;

/// What a route does with its requests.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends them to one of its destinations.
    Forward,
    /// Tells the client to go elsewhere.
    Redirect(RedirectPolicy),
    /// Answers.
    Respond(RespondPolicy),
}

/// The filters of one route, compiled.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Another path or host.
    pub rewrite: Option<RewritePolicy>,
    /// Copies sent elsewhere.
    pub mirror: MirrorPolicy,
    /// Failures on purpose.
    pub fault: Option<FaultPolicy>,
    /// Edits of the request's headers.
    pub request_headers: HeaderEditor,
    /// Edits of the answer's headers.
    pub response_headers: HeaderEditor,
    /// Which other sites' pages may call.
    pub cors: Option<CorsPolicy>,
    /// What a connection may become; `None`: as the protocol of the port has it.
    pub upgrade: Option<Upgrade>,
    /// What its paths may hold that is refused elsewhere.
    pub path_accepts: Accepts,
    /// The timeout ends with the request.
    pub streaming: bool,
    /// What ties requests to one of several destinations; empty: each is drawn for itself.
    pub sticky: Box<[RequestKey]>,
}

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The path of a rewrite or redirect.
    #[error("bad path {path:?}")]
    Path {
        /// As written.
        path: String,
        /// Why.
        source: PathRewriteError,
    },
    /// The host of a rewrite or redirect.
    #[error("bad host {host:?}")]
    Host {
        /// As written.
        host: String,
        /// Why.
        source: crate::host::HostError,
    },
    /// A header that is set, added or removed.
    #[error(transparent)]
    Header(#[from] HeaderEditError),
    /// CORS.
    #[error(transparent)]
    Cors(#[from] CorsError),
    /// A status that no answer has.
    #[error("{0} is not the status of an answer")]
    Status(u16),
}

impl Action {
    /// Compiles the action of a route whose matches are these.
    pub(crate) fn build(
        answer: Option<&Answer>,
        matches: &[Box<[ConditionMatcher]>],
    ) -> Result<Self, FilterError> {
        Ok(match answer {
            None => Self::Forward,
            Some(Answer::Redirect(redirect)) => Self::redirect(redirect, matches)?,
            Some(Answer::Respond(respond)) => Self::respond(respond)?,
        })
    }

    fn redirect(
        redirect: &Redirect,
        matches: &[Box<[ConditionMatcher]>],
    ) -> Result<Self, FilterError> {
        RedirectPolicy::build(redirect, matches).map(Self::Redirect)
    }

    fn respond(respond: &Respond) -> Result<Self, FilterError> {
        RespondPolicy::build(respond).map(Self::Respond)
    }

    /// Whether the request goes on to a destination.
    pub fn is_forward(&self) -> bool {
        matches!(self, Self::Forward)
    }
}

impl Filters {
    /// Compiles the filters of a route whose matches are these.
    pub(crate) fn build(
        route: &Route,
        matches: &[Box<[ConditionMatcher]>],
    ) -> Result<Self, FilterError> {
        let filters = &route.filters;
        let rewrite = filters.rewrite.as_ref();
        Ok(Self {
            rewrite: rewrite
                .map(|rewrite| RewritePolicy::build(rewrite, matches))
                .transpose()?,
            mirror: MirrorPolicy::build(&filters.mirrors),
            fault: filters.fault.map(FaultPolicy::build),
            request_headers: HeaderEditor::build(&filters.request_headers)?,
            response_headers: HeaderEditor::build(&filters.response_headers)?,
            cors: filters.cors.as_ref().map(CorsPolicy::build).transpose()?,
            upgrade: filters.upgrade,
            path_accepts: Accepts::new(&filters.path_accepts),
            streaming: filters.streaming,
            sticky: filters.sticky.clone().into(),
        })
    }
}

/// A share of 10,000, drawn.
pub(crate) fn falls_to(share: u32, rng: &mut (impl rand::Rng + ?Sized)) -> bool {
    use rand::RngExt as _;
    rng.random_range(0..10_000) < share
}
