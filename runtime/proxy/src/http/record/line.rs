//! The line of an exchange in the access log.

use std::sync::Arc;
use std::time::SystemTime;

use http::Version;
use mesh_bundle::slice::AccessLogFormat;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::telemetry::Reason;
use mesh_engine::telemetry::Ended;

use super::super::metrics;
use super::{Record, Texts, Told, tls_version};
use crate::access_log::{Line, Seen, TextLine};

impl Record {
    /// Logs it, if it is to be logged.
    pub(super) fn log(&self, told: &Told<'_>) {
        if !self.plane.access_log.is_on() {
            return;
        }
        match self.log_format(told) {
            None | Some(AccessLogFormat::None) => {}
            Some(AccessLogFormat::Json) => self.plane.access_log.write(self.json(told)),
            Some(AccessLogFormat::Text) => self.plane.access_log.write(self.text(told)),
        }
    }

    fn log_format(&self, told: &Told<'_>) -> Option<AccessLogFormat> {
        let ended = Ended {
            status: (self.code != 0).then_some(self.code),
            grpc_status: self.grpc_status,
            duration: told.duration,
        };
        let tables = self.tables.as_ref();
        let telemetry = tables.zip(self.telemetry);
        let telemetry = telemetry.and_then(|(tables, at)| tables.snapshot().telemetry().get(at));
        if let Some(log) = telemetry.and_then(|telemetry| telemetry.log()) {
            return log.takes(&self.candidates, ended).then(|| log.format());
        }
        let route = self.edge.as_ref().map(|edge| edge.labels().route.as_str());
        self.plane.access_log.by_default(Seen {
            ended,
            well: told.reason.is_none(),
            route: route.unwrap_or_default(),
        })
    }

    fn text(&self, told: &Told<'_>) -> Vec<u8> {
        let Texts {
            authority,
            path,
            user_agent,
            forwarded_for,
            request,
            ..
        } = told.texts;
        let line = TextLine {
            duration: told.duration,
            method: self.method.as_str().as_bytes(),
            path: path.as_bytes(),
            protocol: match self.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            code: self.code,
            flag: told.reason.map_or("", Reason::envoy_flag),
            bytes_in: told.bytes_in,
            bytes_out: self.bytes_out,
            upstream_time: (self.attempts > 0).then_some(self.waited),
            forwarded_for,
            user_agent,
            request_id: request,
            authority: authority.as_bytes(),
            upstream: self.upstream,
        };
        line.write(SystemTime::now())
    }

    fn json(&self, told: &Told<'_>) -> Vec<u8> {
        let Told {
            texts,
            reason,
            duration,
            bytes_in,
        } = *told;
        let some = |text: &[u8]| (!text.is_empty()).then(|| text.to_vec());
        let id = |id: &Option<Arc<SpiffeId>>| id.as_ref().map(|id| id.as_str().as_bytes().to_vec());
        let labels = self.edge.as_ref().map(|edge| edge.labels());
        let protocols = metrics::PROTOCOLS;
        let upstream = self.upstream.map(|address| address.to_string());
        let reason = reason.map(|reason| reason.to_string());
        let mut line = Line::new(SystemTime::now());
        line.millis("duration_ms", Some(duration));
        line.millis("ttfb_ms", self.first_byte);
        line.text("reporter", Some(self.reporter.as_str().as_bytes()));
        line.text("method", Some(self.method.as_str().as_bytes()));
        line.text("authority", Some(texts.authority.as_bytes()));
        line.text("path", Some(texts.path.as_bytes()));
        let protocol = protocols.get(self.protocol()).copied().unwrap_or_default();
        line.text("protocol", Some(protocol.as_bytes()));
        line.number("code", (self.code != 0).then_some(u64::from(self.code)));
        line.number("grpc_status", self.grpc_status.map(u64::from));
        line.text("reason", reason.as_deref().map(str::as_bytes));
        line.number("bytes_in", Some(bytes_in));
        line.number("bytes_out", Some(self.bytes_out));
        line.text("upstream", upstream.as_deref().map(str::as_bytes));
        line.number("attempts", Some(u64::from(self.attempts)));
        line.millis("connect_ms", self.connect);
        line.text(
            "service",
            labels
                .and_then(|labels| some(labels.dst_service.as_bytes()))
                .as_deref(),
        );
        line.text(
            "route",
            labels
                .and_then(|labels| some(labels.route.as_bytes()))
                .as_deref(),
        );
        let gateway_route = some(texts.gateway_route.as_bytes());
        line.text("gateway_route", gateway_route.as_deref());
        let subset = labels.and_then(|labels| labels.subsets.get(self.subset?));
        line.text("subset", subset.map(String::as_bytes));
        line.text("src_identity", id(&self.src).as_deref());
        line.text("dst_identity", id(&self.dst).as_deref());
        line.text("tls", Some(tls_version(self.tls()).as_bytes()));
        let trace = self.trace.map(|trace| trace.hex());
        line.text("trace_id", trace.as_deref().map(str::as_bytes));
        line.text("request_id", some(&texts.request).as_deref());
        line.text("user_agent", some(&texts.user_agent).as_deref());
        let generation = self
            .tables
            .as_ref()
            .map(|tables| tables.generation().as_bytes());
        line.text("generation", generation);
        line.finish()
    }
}
