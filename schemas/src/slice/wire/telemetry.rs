//! Logs and traces.

use super::condition::conditions_from;
use super::exchange::{millis, optional_duration};
use super::{Result, name, narrow, pattern, share, unspecified};
use crate::canonical::{Wire, ascending, ascending_by_bytes, each, enumeration, set_by_bytes};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{AccessLog, AccessLogFilter, AccessLogFormat, StatusRange, Telemetry, Traces};

impl Wire for Telemetry {
    type Message = wire::Telemetry;

    fn to_message(&self) -> wire::Telemetry {
        wire::Telemetry {
            service: self.service.clone(),
            access_log: self.access_log.as_ref().map(Wire::to_message),
            traces: self.traces.as_ref().map(Wire::to_message),
        }
    }

    fn from_message(message: wire::Telemetry) -> Result<Self> {
        Ok(Self {
            service: name("telemetry.service", message.service)?,
            access_log: message
                .access_log
                .map(AccessLog::from_message)
                .transpose()?,
            traces: message.traces.map(Traces::from_message).transpose()?,
        })
    }
}

impl Wire for AccessLog {
    type Message = wire::AccessLog;

    fn to_message(&self) -> wire::AccessLog {
        wire::AccessLog {
            format: match self.format {
                AccessLogFormat::None => wire::AccessLogFormat::None,
                AccessLogFormat::Json => wire::AccessLogFormat::Json,
                AccessLogFormat::Text => wire::AccessLogFormat::Text,
            } as i32,
            only: set_by_bytes(&self.only),
        }
    }

    fn from_message(message: wire::AccessLog) -> Result<Self> {
        ascending_by_bytes("access_log.only", &message.only, limits::VALUES_MAX)?;
        Ok(Self {
            format: match enumeration("access_log.format", message.format)? {
                wire::AccessLogFormat::Unspecified => return unspecified("access_log.format"),
                wire::AccessLogFormat::None => AccessLogFormat::None,
                wire::AccessLogFormat::Json => AccessLogFormat::Json,
                wire::AccessLogFormat::Text => AccessLogFormat::Text,
            },
            only: each(message.only)?,
        })
    }
}

impl Wire for AccessLogFilter {
    type Message = wire::AccessLogFilter;

    fn to_message(&self) -> wire::AccessLogFilter {
        let mut statuses: Vec<_> = self.statuses.iter().map(Wire::to_message).collect();
        statuses.sort_by_key(|range: &wire::StatusRange| (range.from, range.to));
        statuses.dedup();
        wire::AccessLogFilter {
            statuses,
            slower_than_ms: self.slower_than.map(millis),
            conditions: set_by_bytes(&self.conditions),
        }
    }

    fn from_message(message: wire::AccessLogFilter) -> Result<Self> {
        ascending(
            "access_log_filter.statuses",
            &message.statuses,
            limits::VALUES_MAX,
            |a, b| (a.from, a.to) < (b.from, b.to),
        )?;
        Ok(Self {
            statuses: each(message.statuses)?,
            slower_than: optional_duration(
                "access_log_filter.slower_than_ms",
                message.slower_than_ms,
            )?,
            conditions: conditions_from("access_log_filter.conditions", message.conditions)?,
        })
    }
}

impl Wire for StatusRange {
    type Message = wire::StatusRange;

    fn to_message(&self) -> wire::StatusRange {
        wire::StatusRange {
            from: self.from.into(),
            to: self.to.into(),
        }
    }

    fn from_message(message: wire::StatusRange) -> Result<Self> {
        Ok(Self {
            from: narrow("status_range.from", message.from, 100, 599)?,
            to: narrow("status_range.to", message.to, message.from, 599)?,
        })
    }
}

impl Wire for Traces {
    type Message = wire::Traces;

    fn to_message(&self) -> wire::Traces {
        wire::Traces {
            share: self.share,
            otlp: self.otlp.clone(),
        }
    }

    fn from_message(message: wire::Traces) -> Result<Self> {
        Ok(Self {
            share: share("traces.share", message.share)?,
            otlp: pattern("traces.otlp", message.otlp)?,
        })
    }
}
