//! One recorded hop of a trace, from request to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use mesh_daemon::telemetry::Reason;
use mesh_engine::trace::{Context, SpanId};

use super::message::{AnyValue, Event, KeyValue, SpanMessage, Status, Value};
use super::{Collector, Resource};
use crate::limits;

/// Whose view of the exchange it is, in OTLP's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Server = 2,
    Client = 3,
}

/// One hop.
#[derive(Debug)]
pub(crate) struct Span {
    message: SpanMessage,
    began: SystemTime,
    collector: Collector,
}

/// What is said of something, by name. What is empty is not said.
#[derive(Debug, Default)]
pub(crate) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// A text, shortened.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            let mut end = value.len().min(limits::SPAN_VALUE_BYTES);
            while !value.is_char_boundary(end) {
                end -= 1;
            }
            let value = value.get(..end).unwrap_or_default();
            self.push(key, Value::Text(value.to_owned()));
        }
    }

    /// A number, if there is one.
    pub(crate) fn number(&mut self, key: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.push(key, Value::Number(value));
        }
    }

    /// As they are sent.
    pub(super) fn into_inner(self) -> Vec<KeyValue> {
        self.0
    }

    fn push(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        });
    }
}

impl Span {
    /// Begins; `state` is the `tracestate` that goes on with it.
    pub(crate) fn begin(
        (context, parent): (Context, Option<SpanId>),
        state: &[u8],
        began: SystemTime,
        collector: &Collector,
    ) -> Self {
        /// Says that the next bit is known, and that a parent was on another machine.
        const HAS_REMOTE: u32 = 0x100;
        const IS_REMOTE: u32 = 0x200;
        let remote = if parent.is_some() { IS_REMOTE } else { 0 };
        let message = SpanMessage {
            trace_id: context.trace.bytes().to_vec(),
            span_id: context.span.bytes().to_vec(),
            trace_state: String::from_utf8_lossy(state).into_owned(),
            parent_span_id: parent
                .map(|parent| parent.bytes().to_vec())
                .unwrap_or_default(),
            start_time_unix_nano: nanos(began),
            flags: u32::from(context.flags()) | HAS_REMOTE | remote,
            ..SpanMessage::default()
        };
        Self {
            message,
            began,
            collector: collector.clone(),
        }
    }

    /// Notes a try as an event; with the status that answered it, where there are any.
    pub(crate) fn tried(
        &mut self,
        after: Duration,
        took: Duration,
        upstream: SocketAddr,
        ended: Result<Option<StatusCode>, Reason>,
    ) {
        if self.message.events.len() >= limits::SPAN_EVENTS_MAX {
            self.message.dropped_events_count += 1;
            return;
        }
        let mut has = Attributes::default();
        let number = self.message.events.len() + 1;
        has.number("mesh.attempt", i64::try_from(number).ok());
        has.text("network.peer.address", &upstream.ip().to_string());
        has.number("network.peer.port", Some(i64::from(upstream.port())));
        has.number("mesh.duration_us", i64::try_from(took.as_micros()).ok());
        match ended {
            Ok(code) => {
                let code = code.map(|code| i64::from(code.as_u16()));
                has.number("http.response.status_code", code);
            }
            Err(reason) => has.text("error.type", reason.name()),
        }
        self.message.events.push(Event {
            time_unix_nano: nanos(self.began + after),
            name: "attempt".to_owned(),
            attributes: has.0,
        });
    }

    /// Ends.
    pub(crate) fn end(
        &mut self,
        name: String,
        kind: Kind,
        has: Attributes,
        duration: Duration,
        failed: bool,
    ) {
        const ERROR: i32 = 2;
        self.message.name = name;
        self.message.kind = kind as i32;
        self.message.attributes = has.0;
        self.message.end_time_unix_nano = nanos(self.began + duration);
        self.message.status = failed.then(|| Status {
            message: String::new(),
            code: ERROR,
        });
    }

    /// Hands it over to be sent.
    pub(crate) fn hand_over(self: Box<Self>) {
        let exporter = Arc::clone(&self.collector.exporter);
        exporter.take(self);
    }

    /// Whose it is, and what is sent.
    pub(super) fn into_parts(self) -> (Arc<Resource>, SpanMessage) {
        (self.collector.resource, self.message)
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
