//! The sending half of an exchange: endpoint → try, and try again. Where a request goes and on which terms
//! was decided before.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{self, Scheme, Uri};
use http::{HeaderMap, Request, Version, header};
use hyper::body::Body as _;
use mesh_bundle::slice::{Destination, Exchange};
use mesh_daemon::telemetry::Reason;
use mesh_engine::breaker::{Counted, Held};
use mesh_engine::retry::{
    self, Bounds, BudgetState, Next, Permit, RetryPolicy, RetryState, Stop, Wish,
};
use tokio::time::Instant;

use super::super::body::held::hold;
use super::super::body::{RequestBody, Transfer};
use super::super::record::grpc_status;
use super::super::sanitise::{HOPS_HEADER, Rule, STREAMING_HEADER, Sanitised, TIMEOUT_HEADER};
use super::super::timeout::{self, Deadlines};
use super::attempt::{Attempt, Done};
use super::filters::Edit;
use super::{Exchanging, OutgoingBody, Refusal, Reply, wish};
use crate::tables::Tables;
use crate::upstream::connect::{ConnectError, HttpVersion};
use crate::upstream::endpoints::Picked;
use crate::upstream::gate::Gate;
use crate::upstream::pool::{Answer, Endpoint, Failure};

/// Where a request goes, and on which terms.
#[derive(Debug)]
pub(super) struct Way<'t> {
    /// The branch of the route.
    pub(super) destination: &'t Destination,
    /// The only endpoint; none: what the branch has.
    pub(super) pinned: Option<Arc<Endpoint>>,
    /// The port of the callee.
    pub(super) port: u16,
    /// Timeouts.
    pub(super) exchange: &'t Exchange,
    /// What is tried again.
    pub(super) retry: &'t RetryPolicy,
    /// How often at most, together with other requests to the callee.
    pub(super) budget: Option<&'t Arc<BudgetState>>,
    /// Of what tells clients apart, where that picks the endpoint.
    pub(super) hash: Option<u64>,
    /// Whether the timeout ends when the answer begins.
    pub(super) streaming: bool,
    /// What is done to the answer.
    pub(super) edits: Vec<Edit<'t>>,
}

/// How a try ended without an answer that may be passed on.
#[derive(Clone, Copy)]
pub(super) struct Failed {
    pub(super) cause: Option<retry::Failure>,
    pub(super) reason: Reason,
}

/// What all tries of an exchange have in common.
pub(super) struct Terms<'e> {
    tables: &'e Arc<Tables>,
    destination: &'e Destination,
    pinned: Option<&'e Arc<Endpoint>>,
    port: u16,
    hash: Option<u64>,
    exchange: &'e Exchange,
    pub(super) policy: &'e RetryPolicy,
    budget: Option<&'e Arc<BudgetState>>,
    deadlines: Deadlines,
    deadline: Option<std::time::Instant>,
    pub(super) transfer: &'e Arc<Transfer>,
}

impl Terms<'_> {
    /// Picks an endpoint, another one than `tried` if there is any.
    pub(super) fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<Picked> {
        let (to, port) = (self.destination, self.port);
        match self.pinned {
            Some(pinned) => Some(self.tables.pinned_of(pinned, &to.target, port)),
            None => {
                let picked = self.tables.pick(to, port, tried, self.hash);
                picked.map(|(picked, _)| picked)
            }
        }
    }

    /// What bounds further tries.
    pub(super) fn bounds<'b>(&'b self, gate: Option<&'b Arc<Gate>>) -> Bounds<'b> {
        Bounds {
            budget: self.budget,
            breaker: gate.map(|gate| gate.breaker()),
            wish: Wish::Nothing,
        }
    }
}

impl Exchanging<'_> {
    /// Sends the request on its way, and again where policy says so.
    pub(super) async fn forward(
        mut self,
        tables: &Arc<Tables>,
        sanitised: &Sanitised,
        body: OutgoingBody,
        way: Way<'_>,
    ) -> Reply {
        let Way {
            destination,
            pinned,
            port,
            exchange,
            retry: policy,
            budget,
            hash,
            streaming,
            edits,
        } = way;
        let now = self.record.started().into_std();
        let asked = sanitised
            .grpc
            .then(|| timeout::grpc_timeout(&self.head.headers))
            .flatten();
        let deadline = retry::deadline(now, exchange.timeout, asked);
        let deadlines = Deadlines {
            exchange: deadline,
            asked: asked.and_then(|asked| now.checked_add(asked)),
            streaming,
        };
        let method = self.head.method.clone();
        let mut tries = RetryState::new(policy, method.as_str(), deadline);
        let mut counted = budget.map(|budget| budget.request(now));
        let transfer = Arc::clone(&body.transfer);
        let empty = body.is_empty();
        let mut spare = self.spare(empty);
        // What may become another protocol is asked for once.
        let hedge = exchange.hedge.filter(|_| self.upgrade.is_none());
        let may_repeat = tries.may_retry() || hedge.is_some() || spare.keeps_body();
        let (mut sending, replay) = body.start(may_repeat);
        let terms = Terms {
            tables,
            destination,
            pinned: pinned.as_ref(),
            port,
            hash,
            exchange,
            policy,
            budget,
            deadlines,
            deadline,
            transfer: &transfer,
        };
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut permit = None;
        loop {
            self.record.attempts = tries.tries();
            let Some(picked) = terms.pick(&tried) else {
                return self.reply(Reason::NoHealthyUpstream);
            };
            let gate = picked.pool().and_then(|pool| pool.gate().cloned());
            let bytes_max = picked.body_bytes_max();
            transfer.may_be(bytes_max);
            if bytes_max
                .is_some_and(|max| sending.size_hint().lower() > max || transfer.is_too_large())
            {
                return self.refuse(Refusal::Rule(Rule::BodyTooLarge));
            }
            let Ok(held) = take(&picked, Counted::Requests) else {
                return self.reply(Reason::CircuitOpen);
            };
            let keep = spare.is_left() || tries.may_retry() || hedge.is_some();
            let limit = tries.try_timeout(Instant::now().into_std());
            let taken = (picked, held, permit.take());
            let attempt = self.attempt(&terms, taken, sending, keep, limit);
            let waiting = Instant::now();
            let done = match hedge {
                None => attempt.run().await,
                Some(hedge) => {
                    let replay = replay.as_ref();
                    self.race(attempt, hedge, &terms, &mut tries, &mut tried, replay)
                        .await
                }
            };
            self.record.waited(waiting);
            let spared = |failure| spare.again(failure, replay.as_ref(), &transfer);
            if let Some(body) = done.failure().and_then(spared) {
                sending = body;
                continue;
            }
            let (picked, result) = self.note(done, transfer.is_broken());
            let (answer, failed) = match result {
                Ok(answer) => match self.judge(&answer, policy) {
                    None => {
                        self.count_retry(&tries, true);
                        return self.pass_on(answer, exchange, deadlines, &edits, None);
                    }
                    // The reason is not looked at: this answer is passed on or replaced.
                    cause @ Some(_) => {
                        let failed = Failed {
                            cause,
                            reason: Reason::RetryLimit,
                        };
                        (Some(answer), failed)
                    }
                },
                Err(failed) => (None, failed),
            };
            self.count_retry(&tries, false);
            // Its first try is no longer in flight, so that a budget does not take it and its retries for two.
            drop(counted.take());
            if transfer.is_broken() {
                return self.broken_body(&transfer);
            }
            let again = match &replay {
                Some(handle) => handle.again().map(RequestBody::Replay),
                None => empty.then_some(RequestBody::Empty),
            };
            let now = Instant::now().into_std();
            let bounds = Bounds {
                wish: answer.as_ref().map_or(Wish::Nothing, |answer| {
                    wish::of(answer.response.headers(), self.asked.grpc)
                }),
                ..terms.bounds(gate.as_ref())
            };
            let next = match (failed.cause, &again) {
                (Some(cause), Some(_)) => tries.next(cause, now, bounds, &mut rand::rng()),
                _ => Next::Stop(Stop::NotRetryable),
            };
            match (next, again) {
                (
                    Next::Retry {
                        after,
                        permit: granted,
                    },
                    Some(body),
                ) => {
                    permit = Some(granted);
                    sending = body;
                    tried.push(picked.endpoint);
                    // The answer that is not wanted frees its connection or stream first.
                    drop(answer);
                    if !after.is_zero() {
                        let waiting = Instant::now();
                        tokio::time::sleep(after).await;
                        self.record.waited(waiting);
                    }
                }
                (next, _) => {
                    let stop = match next {
                        Next::Stop(stop) => stop,
                        // Not asked for without a body to send.
                        Next::Retry { .. } => Stop::NotRetryable,
                    };
                    if stop == Stop::Budget {
                        self.connection.plane.metrics.budget_exhausted.inc();
                    }
                    if let Some(pool) = picked.pool().filter(|_| stop == Stop::Circuit) {
                        pool.refused(Counted::Retries);
                    }
                    return match answer {
                        Some(answer) => {
                            let reason = given_up(stop, tries.tries());
                            self.pass_on(answer, exchange, deadlines, &edits, reason)
                        }
                        None => self.reply(failed.reason),
                    };
                }
            }
        }
    }

    /// The request as the next hop gets it; one that leaves the mesh is told nothing of it. Keeps a copy of the head if it may be needed again.
    pub(super) fn next_hop(
        &mut self,
        body: RequestBody,
        deadlines: Deadlines,
        keep: bool,
        leaves: bool,
    ) -> Request<RequestBody> {
        let headers = &mut self.head.headers;
        let headers = if keep {
            headers.clone()
        } else {
            std::mem::take(headers)
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.headers_mut() = headers;
        match self.version(leaves) {
            HttpVersion::Http1 => {
                if self.asked.version == Version::HTTP_2 {
                    downgrade(request.headers_mut());
                }
                *request.uri_mut() = self.head.uri.clone();
                request
                    .headers_mut()
                    .insert(header::HOST, self.authority.clone());
                frame(&mut request);
                if let Some(wanted) = &self.upgrade {
                    wanted.ask_http1(self.asked.version, request.headers_mut());
                }
            }
            HttpVersion::Http2 => {
                *request.version_mut() = Version::HTTP_2;
                *request.uri_mut() = with_authority(&self.head.uri, &self.authority);
                if let Some(wanted) = &self.upgrade {
                    wanted.ask_http2(&mut request);
                }
            }
        }
        let now = Instant::now().into_std();
        let headers = request.headers_mut();
        if !leaves {
            headers.insert(HOPS_HEADER, HeaderValue::from(self.hops));
        }
        if let Some(deadline) = deadlines.exchange.filter(|_| !leaves) {
            let left = deadline.saturating_duration_since(now);
            headers.insert(TIMEOUT_HEADER, timeout::milliseconds(left));
            if deadlines.streaming {
                headers.insert(STREAMING_HEADER, HeaderValue::from_static("1"));
            }
        }
        if let Some(asked) = deadlines.asked {
            let left = asked.saturating_duration_since(now);
            headers.insert(timeout::GRPC_TIMEOUT, timeout::grpc_milliseconds(left));
        }
        request
    }

    /// A try at an endpoint, with what it takes of what all share.
    pub(super) fn attempt(
        &mut self,
        terms: &Terms<'_>,
        (picked, held, permit): (Picked, Option<Held>, Option<Permit>),
        body: RequestBody,
        keep: bool,
        limit: Option<Duration>,
    ) -> Attempt {
        let endpoint = &picked.endpoint;
        let leaves = !endpoint.is_meshed();
        self.record.upstream = Some(endpoint.address());
        self.record.tls = endpoint.tls();
        let version = self.version(leaves);
        let request = self.next_hop(body, terms.deadlines, keep, leaves);
        let asks = self.waits && !leaves && version == HttpVersion::Http1;
        Attempt {
            request: if asks { hold(request) } else { request },
            version,
            times: terms.exchange.into(),
            limit,
            transfer: Some(Arc::clone(terms.transfer)),
            deadline: terms.deadline,
            picked,
            held,
            permit,
        }
    }

    /// Whether what came of a try is passed on.
    pub(super) fn is_good(&self, done: &Done, policy: &RetryPolicy) -> bool {
        let answer = done.answer();
        answer.is_some_and(|answer| self.judge(answer, policy).is_none())
    }

    /// What of this answer is a reason to try again, if policy has attempts for it.
    fn judge(&self, answer: &Answer, policy: &RetryPolicy) -> Option<retry::Failure> {
        // With a single attempt in all, a failure is just an answer.
        if policy.attempts() == 1 {
            return None;
        }
        let head = &answer.response;
        let cause = match grpc_status(head.headers()).filter(|_| self.asked.grpc) {
            Some(status) => retry::Failure::GrpcStatus(status),
            None => retry::Failure::Status(head.status().as_u16()),
        };
        let idempotent = retry::is_idempotent(self.head.method.as_str());
        policy.retries(cause, idempotent).then_some(cause)
    }

    pub(super) fn count_retry(&self, tries: &RetryState<'_>, well: bool) {
        if tries.tries() > 1 {
            self.connection.plane.metrics.retried(well);
        }
    }
}

/// There is no room for another one.
pub(super) struct Full;

/// Takes something of the limits of a destination.
pub(super) fn take(picked: &Picked, counted: Counted) -> Result<Option<Held>, Full> {
    let Some((pool, gate)) = picked.pool().and_then(|pool| Some((pool, pool.gate()?))) else {
        return Ok(None);
    };
    let held = gate.breaker().take(counted);
    if held.is_none() {
        pool.refused(counted);
        return Err(Full);
    }
    Ok(held)
}

/// What a failure is to retries and to the client.
pub(super) fn failed(failure: Failure) -> Failed {
    use retry::Failure as Cause;
    let (cause, reason) = match failure {
        Failure::Overflow => {
            return Failed {
                cause: None,
                reason: Reason::Overflow,
            };
        }
        Failure::Connect(ConnectError::Tcp | ConnectError::Http2) => {
            (Cause::Connect, Reason::ConnectFailure)
        }
        Failure::Connect(ConnectError::Timeout) => (Cause::Connect, Reason::ConnectTimeout),
        Failure::Connect(ConnectError::Tls(_)) | Failure::Tls(_) => {
            (Cause::Connect, Reason::TlsFailure)
        }
        Failure::Unsent => (Cause::ResetBeforeRequest, Reason::UpstreamReset),
        Failure::Reset | Failure::Stale => (Cause::Reset, Reason::UpstreamReset),
        Failure::Refused | Failure::LeftOut => (Cause::Refused, Reason::UpstreamReset),
        Failure::Protocol => (Cause::Reset, Reason::UpstreamProtocolError),
    };
    Failed {
        cause: Some(cause),
        reason,
    }
}

/// What is said of an answer that was a reason to try again and is passed on all the same.
fn given_up(stop: Stop, tries: u32) -> Option<Reason> {
    match stop {
        Stop::Budget => Some(Reason::BudgetExhausted),
        Stop::Circuit => Some(Reason::CircuitOpen),
        Stop::Attempts if tries > 1 => Some(Reason::RetryLimit),
        Stop::Attempts | Stop::NotRetryable | Stop::Deadline | Stop::Asked => None,
    }
}

/// What HTTP/2 has and HTTP/1.1 has not: crumbs of cookies (RFC 9113 section 8.2.3), and `TE` without
/// `Connection`.
fn downgrade(headers: &mut HeaderMap) {
    headers.remove(header::TE);
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
    if crumbs.len() > 1 {
        let crumbs: Vec<_> = crumbs.into_iter().map(HeaderValue::as_bytes).collect();
        if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
            headers.insert(header::COOKIE, whole);
        }
    }
}

/// HTTP/2 carries the host in its target.
fn with_authority(target: &Uri, authority: &HeaderValue) -> Uri {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = uri::Authority::try_from(authority.as_bytes()).ok();
    parts.path_and_query = target.path_and_query().cloned();
    Uri::from_parts(parts).expect("scheme, authority and path were parsed before")
}

/// Says that a body of unknown length follows. hyper does so by itself but for GET, HEAD and CONNECT, whose bodies it
/// would drop; RFC 9112 6.1 gives every method a body where the framing says so.
fn frame(request: &mut Request<RequestBody>) {
    let body = request.body();
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        request
            .headers_mut()
            .insert(header::TRANSFER_ENCODING, chunked);
    }
}
