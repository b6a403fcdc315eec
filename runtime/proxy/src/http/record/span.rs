//! An exchange as a hop of its trace, under the names of OpenTelemetry's semantic conventions.

use http::Version;

use super::super::metrics::{METHODS, Reporter, method_index};
use super::{Record, Told};
use crate::traces::span::{Attributes, Kind, Span};

impl Record {
    /// Hands the hop over to whoever tells the collector.
    pub(super) fn end_span(&self, mut span: Box<Span>, told: &Told<'_>) {
        let texts = told.texts;
        let mut has = Attributes::default();
        let method = METHODS.get(method_index(self.method.as_str()));
        let method = method.copied().unwrap_or("_OTHER");
        has.text("http.request.method", method);
        if method == "_OTHER" {
            has.text("http.request.method_original", self.method.as_str());
        }
        has.text("url.path", &texts.path);
        has.text("url.scheme", "http");
        let (host, port) = match texts.authority.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() => (host, port.parse().ok()),
            _ => (texts.authority.as_str(), None),
        };
        has.text("server.address", host);
        has.number("server.port", port.map(|port: u16| i64::from(port)));
        has.text("network.protocol.name", "http");
        has.text(
            "network.protocol.version",
            match self.version {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
        );
        let code = (self.code != 0).then_some(i64::from(self.code));
        has.number("http.response.status_code", code);
        has.number("http.request.body.size", i64::try_from(told.bytes_in).ok());
        has.number(
            "http.response.body.size",
            i64::try_from(self.bytes_out).ok(),
        );
        has.text(
            "user_agent.original",
            &String::from_utf8_lossy(&texts.user_agent),
        );
        if let Some(upstream) = self.upstream {
            has.text("network.peer.address", &upstream.ip().to_string());
            has.number("network.peer.port", Some(i64::from(upstream.port())));
        }
        let again = i64::from(self.attempts.saturating_sub(1));
        has.number("http.request.resend_count", (again > 0).then_some(again));
        let labels = self.edge.as_ref().map(|edge| edge.labels());
        let service = labels.map_or("", |labels| labels.dst_service.as_str());
        let mut name = format!("{method} {service}");
        if self.grpc {
            has.text("rpc.system", "grpc");
            if let Some((service, method)) = called(&texts.path) {
                has.text("rpc.service", service);
                has.text("rpc.method", method);
                name = format!("{service}/{method}");
            }
            has.number("rpc.grpc.status_code", self.grpc_status.map(i64::from));
        }
        has.text("mesh.reporter", self.reporter.as_str());
        has.text("mesh.service", service);
        has.text(
            "mesh.route",
            labels.map_or("", |labels| labels.route.as_str()),
        );
        has.text("mesh.gateway_route", &texts.gateway_route);
        let subset = labels.and_then(|labels| labels.subsets.get(self.subset?));
        has.text("mesh.subset", subset.map_or("", String::as_str));
        let identity = |id: Option<&std::sync::Arc<_>>| {
            id.map(|id: &std::sync::Arc<mesh_bundle::spiffe::SpiffeId>| id.to_string())
        };
        has.text(
            "mesh.src_identity",
            &identity(self.src.as_ref()).unwrap_or_default(),
        );
        has.text(
            "mesh.dst_identity",
            &identity(self.dst.as_ref()).unwrap_or_default(),
        );
        let generation = self.tables.as_ref().map(|tables| tables.generation());
        has.text("mesh.generation", generation.unwrap_or_default());
        let reason = told.reason.map(|reason| reason.to_string());
        has.text("mesh.reason", reason.as_deref().unwrap_or_default());
        let is_client = self.reporter == Reporter::Source;
        // A client's mistake is the client's failure, and none of the server's.
        let failing = if is_client { 400 } else { 500 };
        let failed = reason.or_else(|| match self.grpc_status {
            Some(status @ 1..) => Some(status.to_string()),
            _ => (self.code >= failing).then(|| self.code.to_string()),
        });
        has.text("error.type", failed.as_deref().unwrap_or_default());
        span.end(
            name.trim_end().to_owned(),
            if is_client {
                Kind::Client
            } else {
                Kind::Server
            },
            has,
            told.duration,
            failed.is_some(),
        );
        span.hand_over();
    }
}

/// Service and method of a call of gRPC.
fn called(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/'))
        .then_some((service, method))
}
