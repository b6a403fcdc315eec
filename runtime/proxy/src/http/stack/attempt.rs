//! One try at one endpoint. It borrows nothing of its exchange, so that several can be made beside each other; what
//! came of it is noted afterwards.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use mesh_daemon::telemetry::Reason;
use mesh_engine::breaker::Held;
use mesh_engine::outlier::Outcome;
use mesh_engine::retry::{self, Permit};
use tokio::time::Instant;

use super::super::body::{RequestBody, Transfer};
use super::super::record::grpc_status;
use super::super::timeout::{self, TooLate};
use super::Exchanging;
use super::forward::{Failed, failed};
use crate::upstream::connect::{ConnectError, HttpVersion};
use crate::upstream::endpoints::Picked;
use crate::upstream::pool::{Answer, Failure, Times};

/// A try that is ready to be made.
pub(super) struct Attempt {
    pub(super) picked: Picked,
    /// What it takes of its destination's limits.
    pub(super) held: Option<Held>,
    /// What it takes as a try after the first.
    pub(super) permit: Option<Permit>,
    pub(super) request: Request<RequestBody>,
    pub(super) version: HttpVersion,
    pub(super) times: Times,
    /// How long it may take beside what the client takes to send the rest of its request.
    pub(super) limit: Option<Duration>,
    /// Of the client's body; none: nobody waits for it.
    pub(super) transfer: Option<Arc<Transfer>>,
    /// When the whole exchange ends.
    pub(super) deadline: Option<std::time::Instant>,
}

/// A try that was made.
pub(super) struct Done {
    pub(super) picked: Picked,
    pub(super) held: Option<Held>,
    pub(super) began: Instant,
    ended: Ended,
    took: Duration,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are answers, and a box for each would cost more than the room"
)]
enum Ended {
    Answered(Answer),
    Failed(Failure),
    /// The exchange is over; whether the client was still sending.
    TooLate {
        unsent: bool,
    },
    /// The try is.
    TryTooLate,
}

impl Attempt {
    /// Makes it. Dropping the future takes it back.
    pub(super) async fn run(self) -> Done {
        let Self {
            picked,
            held,
            permit,
            request,
            version,
            times,
            limit,
            transfer,
            deadline,
        } = self;
        let began = Instant::now();
        let sent = picked.endpoint.send(request, version, times, picked.room());
        let transfer = transfer.as_deref();
        let waited = || transfer.map_or(Duration::ZERO, Transfer::waited);
        let waited_before = waited();
        let until = deadline.map(Instant::from_std);
        let sent = match limit {
            None => Ok(sent.await),
            Some(limit) => timeout::within_own(limit, until, waited, sent).await,
        };
        let ended = match sent {
            Ok(Ok(answer)) => Ended::Answered(answer),
            Ok(Err(failure)) => Ended::Failed(failure),
            Err(TooLate) if until.is_some_and(|until| until <= Instant::now()) => Ended::TooLate {
                unsent: transfer.is_some_and(Transfer::is_waited_for),
            },
            Err(TooLate) => Ended::TryTooLate,
        };
        drop(permit);
        Done {
            picked,
            held,
            began,
            ended,
            // How long the client took to send says nothing of the endpoint.
            took: began
                .elapsed()
                .saturating_sub(waited().saturating_sub(waited_before)),
        }
    }
}

impl Done {
    /// The answer, if there is one.
    pub(super) fn answer(&self) -> Option<&Answer> {
        match &self.ended {
            Ended::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The answer alone, for whoever has nobody to tell of it.
    pub(super) fn into_answer(self) -> Option<Answer> {
        let Self { ended, held, .. } = self;
        match ended {
            Ended::Answered(mut answer) => {
                answer.slot.hold(held);
                Some(answer)
            }
            _ => None,
        }
    }

    /// How it failed on the way.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.ended {
            Ended::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

impl Exchanging<'_> {
    /// Notes a try, for the record and for its destination. `broken`: the client has broken the request off, which says
    /// nothing of the endpoint.
    pub(super) fn note(&mut self, done: Done, broken: bool) -> (Picked, Result<Answer, Failed>) {
        let Done {
            picked,
            held,
            began,
            ended,
            took,
        } = done;
        let mut is_late = false;
        let (outcome, result) = match ended {
            Ended::Answered(mut answer) => {
                self.record.connect = answer.connect;
                self.record.dst.clone_from(&answer.peer);
                answer.slot.hold(held);
                let head = &answer.response;
                let outcome = match grpc_status(head.headers()).filter(|_| self.asked.grpc) {
                    Some(status) => Outcome::GrpcStatus(status),
                    None => Outcome::Status(head.status().as_u16()),
                };
                (Some(outcome), Ok(answer))
            }
            Ended::Failed(failure) => {
                if let Failure::Connect(ConnectError::Tls(reason)) | Failure::Tls(reason) = failure
                {
                    let metrics = &self.connection.plane.metrics;
                    metrics.handshake_failed("client", reason);
                }
                // To be turned away is our own doing.
                let outcome = (failure != Failure::Overflow).then_some(Outcome::NoAnswer);
                (outcome, Err(failed(failure)))
            }
            Ended::TooLate { unsent } => {
                self.record.count_timeout("request");
                let late = Failed {
                    cause: None,
                    reason: Reason::RequestTimeout,
                };
                is_late = true;
                // An endpoint that has not got all of its request owes no answer.
                ((!unsent).then_some(Outcome::NoAnswer), Err(late))
            }
            Ended::TryTooLate => {
                self.record.count_timeout("per_try");
                let late = Failed {
                    cause: Some(retry::Failure::PerTryTimeout),
                    reason: Reason::PerTryTimeout,
                };
                is_late = true;
                (Some(Outcome::NoAnswer), Err(late))
            }
        };
        if let Some(outcome) = outcome.filter(|_| !broken) {
            let took = (result.is_ok() || is_late).then_some(took);
            picked.observe(outcome, took);
        }
        let ended = match &result {
            Ok(answer) => Ok(answer.response.status()),
            Err(failed) => Err(failed.reason),
        };
        self.record.tried(began, ended);
        (picked, result)
    }
}
