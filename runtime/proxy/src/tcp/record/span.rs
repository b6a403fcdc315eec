//! A connection of bytes as a hop of its trace. It knows no request: the trace begins at the caller's proxy, and the
//! preface tells the callee's of it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use mesh_daemon::telemetry::Reason;
use mesh_engine::trace;
use tokio::time::Instant;

use super::Record;
use crate::http::metrics::Reporter;
use crate::tables::Tables;
use crate::traces::span::{Attributes, Kind, Span};

const TRACEPARENT: &str = "traceparent";

impl Record {
    /// Notes where in a trace the connection is, by what its caller's proxy says; gives what the next one is told.
    pub(crate) fn follow(&mut self, tables: &Tables, parent: Option<&str>) -> Option<String> {
        let telemetry = self.telemetry(tables);
        let held = telemetry.and_then(|at| tables.snapshot().telemetry().get(at));
        let share = held.and_then(|held| Some(held.traces()?.share));
        let mut headers = HeaderMap::new();
        if let Some(parent) = parent.and_then(|parent| HeaderValue::try_from(parent).ok()) {
            headers.insert(TRACEPARENT, parent);
        }
        let followed = trace::follow(&mut headers, share, &mut rand::rng());
        self.trace = followed.context.map(|context| context.trace);
        let collector = telemetry.and_then(|at| tables.collector(at));
        if let (true, Some(context), Some(collector)) =
            (followed.recorded, followed.context, collector)
        {
            let began = SystemTime::now()
                .checked_sub(self.started.elapsed())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            let hop = (context, followed.parent);
            self.span = Some(Box::new(Span::begin(hop, b"", began, collector)));
        }
        let told = headers.get(TRACEPARENT)?.to_str().ok()?;
        Some(told.to_owned())
    }

    /// Notes a try that began at `since`.
    pub(crate) fn tried(&mut self, since: Instant, ended: Result<(), Reason>) {
        if let (Some(span), Some(upstream)) = (&mut self.span, self.upstream) {
            let after = since.saturating_duration_since(self.started);
            span.tried(after, since.elapsed(), upstream, ended.map(|()| None));
        }
    }

    /// Hands the hop over to whoever tells the collector.
    pub(super) fn end_span(&mut self, reason: Option<Reason>, duration: Duration) {
        let Some(mut span) = self.span.take() else {
            return;
        };
        let mut has = Attributes::default();
        has.text("network.transport", "tcp");
        if self.protocol != "tcp" {
            has.text("network.protocol.name", self.protocol);
        }
        has.text("server.address", &self.name);
        if let Some(upstream) = self.upstream {
            has.text("network.peer.address", &upstream.ip().to_string());
            has.number("network.peer.port", Some(i64::from(upstream.port())));
        }
        has.text("mesh.reporter", self.reporter.as_str());
        has.text("mesh.service", &self.service);
        has.text("mesh.route", &self.route);
        has.text("mesh.gateway_route", &self.gateway_route);
        has.text("mesh.subset", self.subset.as_deref().unwrap_or_default());
        for (key, identity) in [
            ("mesh.src_identity", &self.src),
            ("mesh.dst_identity", &self.dst),
        ] {
            has.text(key, identity.as_ref().map_or("", |id| id.as_str()));
        }
        has.text("mesh.generation", &self.generation);
        has.number("mesh.bytes_in", i64::try_from(self.received.bytes()).ok());
        has.number("mesh.bytes_out", i64::try_from(self.sent.bytes()).ok());
        let reason = reason.map(|reason| reason.to_string());
        let failed = reason.as_deref().unwrap_or_default();
        has.text("mesh.reason", failed);
        has.text("error.type", failed);
        let kind = match self.reporter {
            Reporter::Source => Kind::Client,
            Reporter::Destination => Kind::Server,
        };
        let name = format!("{} {}", self.protocol, self.service);
        let name = name.trim_end().to_owned();
        span.end(name, kind, has, duration, reason.is_some());
        span.hand_over();
    }
}
