//! Tests: a request and what should become of it.

use std::time::Duration;

use mesh_syntax::Span;

use super::{Setting, Spanned};

/// One `test`.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// What it shows, in the words of whoever wrote it.
    pub name: Spanned<String>,
    /// The environments that it is for; none: all of them.
    pub environments: Vec<Spanned<String>>,
    /// The request; a test without one is reported and left out.
    pub request: TestRequest,
    /// All of them must hold.
    pub expect: Vec<Expect>,
    /// The whole node.
    pub span: Span,
}

/// The request of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestRequest {
    /// Whether it is a connection of bytes only; then method and path say nothing.
    pub is_connection: bool,
    /// Upper-case token.
    pub method: Spanned<String>,
    /// Path as sent, without the query.
    pub path: Spanned<String>,
    /// The calling service, or an identity in full; none: a peer without one.
    pub from: Option<Spanned<String>>,
    /// The called service.
    pub to: Spanned<String>,
    /// Host as sent; the name of the called service when absent.
    pub host: Option<Spanned<String>>,
    /// Port of the called service; its first when absent.
    pub port: Option<Spanned<u16>>,
    /// Headers, in the order written.
    pub headers: Vec<(String, String)>,
    /// Query parameters, in the order written.
    pub query: Vec<(String, String)>,
    /// Cookies, in the order written.
    pub cookies: Vec<(String, String)>,
    /// Claims of a verified token, in the order written.
    pub claims: Vec<(String, String)>,
    /// Address of the client.
    pub client_ip: Option<Spanned<std::net::IpAddr>>,
    /// Address of the connection's peer.
    pub peer_ip: Option<Spanned<std::net::IpAddr>>,
    /// The whole node.
    pub span: Span,
}

/// What should become of the request; absent fields are not compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// The ending.
    pub verdict: Spanned<Verdict>,
    /// Name of the route.
    pub route: Option<Spanned<String>>,
    /// The one subset that takes it.
    pub to: Option<Spanned<String>>,
    /// The one service that takes it.
    pub service: Option<Spanned<String>>,
    /// The rule that decides, as people wrote it: `allow productpage`.
    pub rule: Option<Spanned<String>>,
    /// Attempts allowed, the first included.
    pub attempts: Option<Spanned<u32>>,
    /// Longest time of the whole exchange.
    pub timeout: Option<Spanned<Setting<Duration>>>,
    /// Longest time of one try.
    pub per_try: Option<Spanned<Setting<Duration>>>,
    /// Path as it arrives.
    pub path: Option<Spanned<String>>,
    /// Host as it arrives.
    pub host: Option<Spanned<String>>,
    /// Status of the answer that the proxy gives.
    pub status: Option<Spanned<u16>>,
    /// Reason of the answer to a refused request.
    pub reason: Option<Spanned<&'static str>>,
    /// Where a redirect leads.
    pub location: Option<Spanned<String>>,
    /// What the answer says that a route gives.
    pub body: Option<Spanned<String>>,
    /// The authorizer that is asked.
    pub authorizer: Option<Spanned<String>>,
    /// How long a fault makes some wait, and the share of 10,000.
    pub delay: Option<Spanned<(Duration, u32)>>,
    /// The status with which a fault answers some, and the share of 10,000.
    pub abort: Option<Spanned<(u16, u32)>>,
    /// Headers of the request as they arrive.
    pub request_headers: Vec<Spanned<ExpectedHeader>>,
    /// Headers of the answer as policy edits them.
    pub response_headers: Vec<Spanned<ExpectedHeader>>,
    /// Shares, for `split`.
    pub shares: Vec<Share>,
    /// The whole node.
    pub span: Span,
}

/// How a request of a test should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reaches the application.
    Allowed,
    /// It is refused by the callee's rules, or the callee is not the caller's to call.
    Denied,
    /// It is allowed in but no route takes it.
    NoRoute,
    /// It reaches the application, and these are the shares.
    Split,
    /// It may enter as long as no rate limit is reached, and at least one counts it.
    Limited,
}

/// What should be so of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedHeader {
    /// Its lower-case name.
    pub name: String,
    /// What it should be.
    pub value: HeaderValue,
}

/// What a header should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// There, whatever it says.
    Present,
    /// Not there.
    Absent,
    /// This.
    Is(String),
}

/// One branch of an expected split.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Service, where a split is over several; none: whichever.
    pub service: Option<Spanned<String>>,
    /// Subset; none: all endpoints.
    pub subset: Option<Spanned<String>>,
    /// Of 10,000.
    pub share: Spanned<u32>,
}
