//! Where a collector is and how it is spoken to, as its URL says: a path is that of OTLP over HTTP; without one it is gRPC,
//! but for port 4318, which is that of HTTP by convention.

use std::net::SocketAddr;

use http::uri::{PathAndQuery, Scheme, Uri};
use thiserror::Error;

use crate::secrets::Secrets;
use crate::upstream::connect::{HttpVersion, Security};
use crate::upstream::outside::{OutsideClient, Terms, TermsError};

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";
const HTTP_PORT: u16 = 4318;

/// Key material of this name, if the proxy was given some, is for the collector: the roots to trust instead of the
/// system's, and a certificate to show.
const SECRET: &str = "otlp";

/// Why a URL is not that of a collector.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    /// Not a URL, or not one of these schemes.
    #[error("is not a URL such as http://collector:4317 or https://collector:4318/v1/traces")]
    Malformed,
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TermsError),
}

/// A collector.
#[derive(Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    security: Security,
    /// Whether it is gRPC.
    pub(super) grpc: bool,
    pub(super) scheme: Scheme,
    pub(super) path: PathAndQuery,
}

impl Target {
    pub(super) fn parse(url: &str, secrets: &Secrets) -> Result<Self, TargetError> {
        let parts = Uri::try_from(url).map(Uri::into_parts);
        let parts = parts.map_err(|_malformed| TargetError::Malformed)?;
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(TargetError::Malformed);
        };
        let is_tls = match scheme.as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(TargetError::Malformed),
        };
        if authority.as_str().contains('@') {
            return Err(TargetError::Malformed);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let given = parts.path_and_query.filter(|path| path != "/");
        let port = authority.port_u16();
        let grpc = given.is_none() && port != Some(HTTP_PORT);
        let usual = if grpc { GRPC_PATH } else { HTTP_PATH };
        let security = if is_tls {
            let given = secrets.get(SECRET);
            let shown = given.as_ref().filter(|material| material.key.is_some());
            let terms = Terms {
                name: host.clone(),
                alternatives: Vec::new(),
                trust: given.as_ref().map(|_| SECRET.to_owned()),
                certificate: shown.map(|_| SECRET.to_owned()),
                only_tls13: false,
            };
            Security::Outside(OutsideClient::new(&terms, secrets)?)
        } else {
            Security::Plain
        };
        Ok(Self {
            host,
            port: port.unwrap_or(if grpc { 4317 } else { HTTP_PORT }),
            security,
            grpc,
            scheme,
            path: given.unwrap_or(PathAndQuery::from_static(usual)),
        })
    }

    /// As requests name it.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(super) fn version(&self) -> HttpVersion {
        if self.grpc {
            HttpVersion::Http2
        } else {
            HttpVersion::Http1
        }
    }

    pub(super) fn security(&self) -> &Security {
        &self.security
    }

    /// Where it is at the moment.
    pub(super) async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(found.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_a_collector_is_spoken_to() {
        let parse = |url: &str| Target::parse(url, &Secrets::default());
        for (url, authority, grpc, path) in [
            ("http://127.0.0.1:4317", "127.0.0.1:4317", true, GRPC_PATH),
            ("http://collector", "collector:4317", true, GRPC_PATH),
            ("http://[::1]:4317/", "[::1]:4317", true, GRPC_PATH),
            ("http://collector:4318", "collector:4318", false, HTTP_PATH),
            (
                "http://collector:80/otlp/v1/traces",
                "collector:80",
                false,
                "/otlp/v1/traces",
            ),
        ] {
            let target = parse(url).unwrap();
            let read = (target.authority(), target.grpc, target.path.to_string());
            assert_eq!(read, (authority.to_owned(), grpc, path.to_owned()), "{url}");
        }
        for bad in [
            "",
            "collector:4317",
            "ftp://collector",
            "http://",
            "http://user@collector",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
