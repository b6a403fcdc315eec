//! Timeouts, retries, hedging and retry budgets. Durations are whole milliseconds, at least one unless they
//! are a step of the back-off.

use std::time::Duration;

use super::{Result, narrow, unspecified};
use crate::canonical::{
    Wire, ascending_by_bytes, each, enumeration, required, set_by_bytes, within,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{Exchange, Hedge, Retry, RetryBudget, RetryBudgetKind, RetryCause};

impl Wire for Exchange {
    type Message = wire::Exchange;

    fn to_message(&self) -> wire::Exchange {
        wire::Exchange {
            timeout_ms: self.timeout.map(millis),
            connect_timeout_ms: millis(self.connect_timeout),
            retry: Some(self.retry.to_message()),
            stream_idle_ms: self.stream_idle.map(millis),
            max_duration_ms: self.max_duration.map(millis),
            idle_ms: self.idle.map(millis),
            hedge: self.hedge.as_ref().map(Wire::to_message),
        }
    }

    fn from_message(message: wire::Exchange) -> Result<Self> {
        Ok(Self {
            timeout: optional_duration("exchange.timeout_ms", message.timeout_ms)?,
            connect_timeout: duration("exchange.connect_timeout_ms", message.connect_timeout_ms)?,
            retry: Retry::from_message(required("exchange.retry", message.retry)?)?,
            stream_idle: optional_duration("exchange.stream_idle_ms", message.stream_idle_ms)?,
            max_duration: optional_duration("exchange.max_duration_ms", message.max_duration_ms)?,
            idle: optional_duration("exchange.idle_ms", message.idle_ms)?,
            hedge: message.hedge.map(Hedge::from_message).transpose()?,
        })
    }
}

impl Wire for Hedge {
    type Message = wire::Hedge;

    fn to_message(&self) -> wire::Hedge {
        wire::Hedge {
            delay_ms: millis(self.delay),
            attempts: self.attempts,
        }
    }

    fn from_message(message: wire::Hedge) -> Result<Self> {
        Ok(Self {
            delay: duration("hedge.delay_ms", message.delay_ms)?,
            attempts: within("hedge.attempts", message.attempts, 2, limits::ATTEMPTS_MAX)?,
        })
    }
}

impl Wire for Retry {
    type Message = wire::Retry;

    fn to_message(&self) -> wire::Retry {
        wire::Retry {
            attempts: self.attempts,
            causes: set_by_bytes(&self.causes),
            per_try_ms: self.per_try.map(millis),
            any_method: self.any_method,
            backoff_base_ms: millis(self.backoff_base),
            backoff_max_ms: millis(self.backoff_max),
        }
    }

    fn from_message(message: wire::Retry) -> Result<Self> {
        ascending_by_bytes("retry.causes", &message.causes, limits::VALUES_MAX)?;
        within(
            "retry.backoff_max_ms",
            message.backoff_max_ms,
            message.backoff_base_ms,
            limits::DURATION_MS_MAX,
        )?;
        Ok(Self {
            attempts: within("retry.attempts", message.attempts, 1, limits::ATTEMPTS_MAX)?,
            causes: each(message.causes)?,
            per_try: optional_duration("retry.per_try_ms", message.per_try_ms)?,
            any_method: message.any_method,
            backoff_base: Duration::from_millis(message.backoff_base_ms),
            backoff_max: Duration::from_millis(message.backoff_max_ms),
        })
    }
}

impl Wire for RetryCause {
    type Message = wire::RetryCause;

    fn to_message(&self) -> wire::RetryCause {
        use wire::retry_cause::Kind;
        let failure = |failure: wire::RetryFailure| Kind::Failure(failure as i32);
        let class = |class: wire::RetryStatusClass| Kind::StatusClass(class as i32);
        wire::RetryCause {
            kind: Some(match *self {
                Self::ConnectFailure => failure(wire::RetryFailure::ConnectFailure),
                Self::Refused => failure(wire::RetryFailure::Refused),
                Self::Reset => failure(wire::RetryFailure::Reset),
                Self::ResetBeforeRequest => failure(wire::RetryFailure::ResetBeforeRequest),
                Self::PerTryTimeout => failure(wire::RetryFailure::PerTryTimeout),
                Self::Status(status) => Kind::Status(status.into()),
                Self::ServerError => class(wire::RetryStatusClass::RetryStatusClass5xx),
                Self::Gateway => class(wire::RetryStatusClass::Gateway),
                Self::GrpcStatus(status) => Kind::GrpcStatus(status.into()),
            }),
        }
    }

    fn from_message(message: wire::RetryCause) -> Result<Self> {
        use wire::retry_cause::Kind;
        Ok(match required("retry_cause.kind", message.kind)? {
            Kind::Failure(failure) => match enumeration("retry_cause.failure", failure)? {
                wire::RetryFailure::Unspecified => return unspecified("retry_cause.failure"),
                wire::RetryFailure::ConnectFailure => Self::ConnectFailure,
                wire::RetryFailure::Refused => Self::Refused,
                wire::RetryFailure::Reset => Self::Reset,
                wire::RetryFailure::ResetBeforeRequest => Self::ResetBeforeRequest,
                wire::RetryFailure::PerTryTimeout => Self::PerTryTimeout,
            },
            Kind::Status(status) => Self::Status(narrow("retry_cause.status", status, 100, 599)?),
            Kind::StatusClass(class) => match enumeration("retry_cause.status_class", class)? {
                wire::RetryStatusClass::Unspecified => {
                    return unspecified("retry_cause.status_class");
                }
                wire::RetryStatusClass::RetryStatusClass5xx => Self::ServerError,
                wire::RetryStatusClass::Gateway => Self::Gateway,
            },
            Kind::GrpcStatus(status) => {
                Self::GrpcStatus(narrow("retry_cause.grpc_status", status, 1, 16)?)
            }
        })
    }
}

impl Wire for RetryBudget {
    type Message = wire::RetryBudget;

    fn to_message(&self) -> wire::RetryBudget {
        let (kind, min_count, min_per_ms, window_ms) = match self.kind {
            RetryBudgetKind::Requests {
                min_count,
                min_per,
                window,
            } => (
                wire::RetryBudgetKind::Requests,
                min_count,
                millis(min_per),
                millis(window),
            ),
            RetryBudgetKind::Active { min_count } => {
                (wire::RetryBudgetKind::Active, min_count, 0, 0)
            }
        };
        wire::RetryBudget {
            share: self.share,
            kind: kind as i32,
            min_count,
            min_per_ms,
            window_ms,
        }
    }

    fn from_message(message: wire::RetryBudget) -> Result<Self> {
        let min_count = within(
            "retry_budget.min_count",
            message.min_count,
            0,
            u32::MAX.into(),
        )?;
        let kind = match enumeration("retry_budget.kind", message.kind)? {
            wire::RetryBudgetKind::Unspecified => return unspecified("retry_budget.kind"),
            wire::RetryBudgetKind::Requests => RetryBudgetKind::Requests {
                min_count,
                min_per: duration("retry_budget.min_per_ms", message.min_per_ms)?,
                window: duration("retry_budget.window_ms", message.window_ms)?,
            },
            wire::RetryBudgetKind::Active => {
                within("retry_budget.min_per_ms", message.min_per_ms, 0, 0)?;
                within("retry_budget.window_ms", message.window_ms, 0, 0)?;
                RetryBudgetKind::Active { min_count }
            }
        };
        Ok(Self {
            share: within("retry_budget.share", message.share, 0, 10_000)?,
            kind,
        })
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if duration.subsec_nanos().is_multiple_of(1_000_000) {
        whole
    } else {
        whole.saturating_add(1)
    }
}

pub(super) fn duration(field: &'static str, millis: u64) -> Result<Duration> {
    within(field, millis, 1, limits::DURATION_MS_MAX).map(Duration::from_millis)
}

pub(super) fn optional_duration(
    field: &'static str,
    millis: Option<u64>,
) -> Result<Option<Duration>> {
    millis.map(|millis| duration(field, millis)).transpose()
}
