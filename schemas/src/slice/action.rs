//! What a route does with its requests besides sending them somewhere.

use std::time::Duration;

use super::{RequestKey, Target};

/// An answer that the proxy gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go elsewhere.
    Redirect(Redirect),
    /// This is it.
    Respond(Respond),
}

/// Tells the client to go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; None: as received.
    pub scheme: Option<String>,
    /// None: as received.
    pub host: Option<String>,
    /// None: that of the scheme if one is given, else as received.
    pub port: Option<u16>,
    /// With captures, as [`Rewrite::path`]; None: as received.
    pub path: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    /// To where the client is already, with 302.
    fn default() -> Self {
        Self {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: 302,
        }
    }
}

/// An answer with a status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// In order.
    pub headers: Vec<HeaderLine>,
}

/// One line of a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderLine {
    /// Lower-case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What happens to requests and answers on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFilters {
    /// Another path or host.
    pub rewrite: Option<Rewrite>,
    /// Copies sent elsewhere, whose answers nobody sees.
    pub mirrors: Vec<Mirror>,
    /// Failures on purpose.
    pub fault: Option<Fault>,
    /// Edits of the request's headers.
    pub request_headers: HeaderEdits,
    /// Edits of the answer's headers.
    pub response_headers: HeaderEdits,
    /// Which other sites' pages may call.
    pub cors: Option<Cors>,
    /// None: as the protocol of the port has it.
    pub upgrade: Option<Upgrade>,
    /// What its paths may hold that is refused elsewhere.
    pub path_accepts: Vec<PathAccepts>,
    /// The timeout ends with the request.
    pub streaming: bool,
    /// What ties requests to one of several destinations; empty: each is drawn for itself.
    pub sticky: Vec<RequestKey>,
}

/// Another path or host for the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// `**` and `{x}` stand for what the pattern of the match captured. None: as received.
    pub path: Option<String>,
    /// None: as received.
    pub host: Option<String>,
}

/// A copy sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where to.
    pub target: Target,
    /// Of 10,000.
    pub share: u32,
}

/// Failures on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Waits first.
    pub delay: Option<FaultDelay>,
    /// Then answers itself.
    pub abort: Option<FaultAbort>,
    /// Unix seconds; nothing happens from then on.
    pub until: Option<u64>,
}

/// A wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// How long.
    pub by: Duration,
    /// Of 10,000.
    pub share: u32,
}

/// A made-up answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// 200 to 599.
    pub status: u16,
    /// Of 10,000.
    pub share: u32,
}

/// Edits of headers, done in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// These lines instead of all of that name; one line per name.
    pub set: Vec<HeaderLine>,
    /// These lines besides; in order.
    pub add: Vec<HeaderLine>,
    /// No line of these names; lower-case.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Which other sites' pages may call, as browsers ask (the Fetch standard, "CORS protocol").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `https://shop.example`, `https://*.shop.example`, `*`.
    pub origins: Vec<String>,
    /// Methods beyond the simple ones.
    pub methods: Vec<String>,
    /// Request headers beyond the simple ones; lower-case.
    pub headers: Vec<String>,
    /// Headers of the answer that pages may read; lower-case.
    pub expose: Vec<String>,
    /// Whether cookies and certificates may be sent along.
    pub credentials: bool,
    /// How long a browser may remember it.
    pub max_age: Option<Duration>,
}

/// What a connection may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing else.
    None,
    /// A WebSocket.
    Websocket,
}

/// What a path may hold that is refused elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathAccepts {
    /// `%2f`.
    EncodedSlash,
    /// `%5c`.
    EncodedBackslash,
    /// `;`.
    Semicolon,
}
