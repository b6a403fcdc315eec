//! Endpoints are asked whether they live: by GET, by a connection, or by gRPC's health protocol. What follows from
//! an answer is the engine's to say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::{BodyExt, Limited};
use mesh_bundle::slice::{HealthCheck, HealthCheckKind};
use mesh_engine::health::Health;
use rand::RngExt as _;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::HttpVersion;
use super::pool::{Answer, Endpoint, Times};
use crate::http::body::RequestBody;
use crate::limits;
use crate::tcp;

/// A check of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// The service.
    pub(crate) service: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether that port carries bytes.
    pub(crate) bytes: bool,
    /// The host that it is asked as.
    pub(crate) host: String,
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// How it is asked.
    pub(crate) policy: HealthCheck,
    /// What that has shown.
    pub(crate) health: Arc<Health>,
}

/// All checks that run.
#[derive(Debug, Default)]
pub(crate) struct Checks(HashMap<Key, (Check, JoinHandle<()>)>);

/// Checks are the same that ask the same endpoint for the same reason: both live as long as the check.
type Key = (usize, usize);

impl Checks {
    /// Has exactly these run; one that runs already goes on as it is.
    pub(crate) fn run(&mut self, wanted: Vec<Check>) {
        let mut before = std::mem::take(&mut self.0);
        for check in wanted {
            let key = check.key();
            if self.0.contains_key(&key) {
                continue;
            }
            let running = before
                .remove(&key)
                .unwrap_or_else(|| (check.clone(), tokio::spawn(check.run())));
            self.0.insert(key, running);
        }
        let gone: Vec<_> = before.into_iter().collect();
        for (_, (_, task)) in gone {
            task.abort();
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        let all: Vec<_> = self.0.drain().collect();
        for (_, (_, task)) in all {
            task.abort();
        }
    }
}

impl Check {
    fn key(&self) -> Key {
        let health = Arc::as_ptr(&self.health).addr();
        (health, Arc::as_ptr(&self.endpoint).addr())
    }

    /// Asks again and again.
    #[expect(clippy::infinite_loop, reason = "it is aborted when nobody wants it")]
    async fn run(self) {
        loop {
            let well = timeout(self.policy.timeout, self.ask()).await;
            if self.health.observe(well.unwrap_or(false)) {
                let (service, address) = (&self.service, self.endpoint.address());
                if self.health.is_healthy() {
                    tracing::info!(service, %address, "an endpoint lives again");
                } else {
                    tracing::warn!(service, %address, "an endpoint does not answer its health check");
                }
            }
            tokio::time::sleep(spread(self.policy.every)).await;
        }
    }

    /// Whether the endpoint says that it lives.
    async fn ask(&self) -> bool {
        match &self.policy.kind {
            HealthCheckKind::Http(path) => self.get(path).await,
            HealthCheckKind::Tcp if self.bytes => {
                let limit = self.policy.timeout;
                tcp::outbound::accepts(&self.endpoint, &self.service, self.port, limit).await
            }
            HealthCheckKind::Tcp => self.endpoint.open(self.policy.timeout).await.is_ok(),
            HealthCheckKind::Grpc => self.call().await,
        }
    }

    async fn get(&self, path: &str) -> bool {
        let Ok(target) = path.parse::<Uri>() else {
            return false;
        };
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = target;
        sign(request.headers_mut());
        let Ok(host) = HeaderValue::try_from(self.host.as_str()) else {
            return false;
        };
        request.headers_mut().insert(header::HOST, host);
        let times = Times::of_check(self.policy.timeout);
        let sent = self.endpoint.send(request, HttpVersion::Http1, times, None);
        let Ok(answer) = sent.await else {
            return false;
        };
        let well = answer.response.status().is_success();
        read(answer).await.is_some() && well
    }

    /// `grpc.health.v1.Health/Check` of the whole server: an empty `HealthCheckRequest`.
    async fn call(&self) -> bool {
        const EMPTY_MESSAGE: [u8; 5] = [0; 5];
        let target = format!("http://{}/grpc.health.v1.Health/Check", self.host);
        let Ok(target) = target.parse::<Uri>() else {
            return false;
        };
        let body = RequestBody::Fixed(Some(Bytes::from_static(&EMPTY_MESSAGE)));
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        sign(headers);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let times = Times::of_check(self.policy.timeout);
        let sent = self.endpoint.send(request, HttpVersion::Http2, times, None);
        match sent.await {
            Ok(answer) => read(answer).await.is_some_and(|body| is_serving(&body)),
            Err(_) => false,
        }
    }
}

fn sign(headers: &mut HeaderMap) {
    let agent = HeaderValue::from_static("meshp-health-check");
    headers.insert(header::USER_AGENT, agent);
}

/// The body of an answer, if it is not too long; its connection is given back.
async fn read(answer: Answer) -> Option<Bytes> {
    let Answer { response, slot, .. } = answer;
    let body = Limited::new(response.into_body(), limits::CHECK_BYTES_MAX);
    let whole = body.collect().await.ok()?;
    slot.give_back();
    Some(whole.to_bytes())
}

/// Whether this is a message that says `SERVING`: field 1 of `HealthCheckResponse` is 1.
fn is_serving(body: &Bytes) -> bool {
    body.get(5..).is_some_and(|message| message == [0x08, 0x01])
}

/// Proxies that were started together must not ask together for ever: a tenth more or less.
fn spread(every: Duration) -> Duration {
    every.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serving() {
        let check = |body: &'static [u8]| is_serving(&Bytes::from_static(body));
        assert!(check(b"\0\0\0\0\x02\x08\x01"));
        assert!(!check(b"\0\0\0\0\x02\x08\x02"));
        assert!(!check(b"\0\0\0\0\0"), "unknown");
        assert!(!check(b""));
    }
}
