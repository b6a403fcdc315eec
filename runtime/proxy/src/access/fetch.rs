//! Fetches a set of keys: one request, one answer, no redirects, and nothing of it is believed that could not be
//! verified on its way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_engine::jwt::KeySetError;
use thiserror::Error;

use super::keys::{self, Keys};
use crate::limits;
use crate::secrets::Secrets;
use crate::upstream::connect::{self, Carries, ConnectError, HttpVersion, Security};
use crate::upstream::outside::{OutsideClient, Terms, TermsError, may_be_dialled};

/// Roots of this name, if the proxy was given some, are trusted instead of the system's.
const SECRET: &str = "jwks";

/// Why keys cannot be fetched from a URL at all.
#[derive(Debug, Error)]
pub(crate) enum PlaceError {
    /// Not a URL.
    #[error("is not a URL such as https://id.example/keys")]
    Malformed,
    /// Anybody on the way could put other keys in their place.
    #[error("is not https://, so that anybody on the way could replace the keys")]
    Plaintext,
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TermsError),
}

/// Why they could not be this time.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("resolve the issuer's name")]
    Resolve(#[source] io::Error),
    #[error("reach the issuer: its name leads to {0}, where no name may lead")]
    Forbidden(IpAddr),
    #[error("connect to the issuer")]
    Connect(#[source] ConnectError),
    #[error("talk to the issuer")]
    Http(#[source] hyper::Error),
    #[error(
        "read the issuer's answer: it is broken, or larger than {} bytes",
        limits::KEY_SET_BYTES_MAX
    )]
    Body,
    #[error("have an answer: it is {0}")]
    Status(StatusCode),
    #[error("hear from the issuer in time")]
    Timeout,
    #[error("read the issuer's keys")]
    Keys(#[source] KeySetError),
}

/// Where keys are.
#[derive(Debug)]
pub(crate) struct Place {
    host: String,
    port: u16,
    security: Security,
    authority: HeaderValue,
    path: PathAndQuery,
}

/// What was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) keys: Keys,
    /// How long the issuer says that they will be the same.
    pub(crate) fresh: Option<Duration>,
}

impl Place {
    pub(crate) fn parse(url: &str, secrets: &Secrets) -> Result<Self, PlaceError> {
        let parts = Uri::try_from(url).map(Uri::into_parts);
        let parts = parts.map_err(|_malformed| PlaceError::Malformed)?;
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(PlaceError::Malformed);
        };
        if authority.as_str().contains('@') {
            return Err(PlaceError::Malformed);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let (security, usual) = match scheme.as_str() {
            "https" => (Security::Outside(client(&host, secrets)?), 443),
            // Nobody is on the way.
            "http" if is_itself(&host) => (Security::Plain, 80),
            "http" => return Err(PlaceError::Plaintext),
            _ => return Err(PlaceError::Malformed),
        };
        let value = HeaderValue::try_from(authority.as_str());
        Ok(Self {
            port: authority.port_u16().unwrap_or(usual),
            host,
            security,
            authority: value.map_err(|_malformed| PlaceError::Malformed)?,
            path: parts
                .path_and_query
                .unwrap_or(PathAndQuery::from_static("/")),
        })
    }

    /// Where it is at the moment. An address that stands in policy is its author's word; whoever holds a name must not
    /// be able to lead a proxy to its own machine.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, FetchError> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(FetchError::Resolve)?;
        let found: Vec<_> = found.take(limits::DNS_ADDRESSES_MAX).collect();
        match found.iter().find(|address| !may_be_dialled(address.ip())) {
            Some(forbidden) => Err(FetchError::Forbidden(forbidden.ip())),
            None => Ok(found),
        }
    }
}

fn client(host: &str, secrets: &Secrets) -> Result<OutsideClient, TermsError> {
    let trust = secrets.get(SECRET).map(|_| SECRET.to_owned());
    let terms = Terms {
        name: host.to_owned(),
        alternatives: Vec::new(),
        trust,
        certificate: None,
        only_tls13: false,
    };
    OutsideClient::new(&terms, secrets)
}

fn is_itself(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Fetches the keys.
pub(crate) async fn fetch(place: &Place) -> Result<Fetched, FetchError> {
    let fetching = tokio::time::timeout(limits::KEYS_FETCH_TIMEOUT, ask(place));
    fetching.await.unwrap_or(Err(FetchError::Timeout))
}

async fn ask(place: &Place) -> Result<Fetched, FetchError> {
    let mut failed = FetchError::Connect(ConnectError::Tcp);
    for address in place.addresses().await? {
        let carries = Carries::Http(HttpVersion::Http1);
        let limit = limits::KEYS_CONNECT_TIMEOUT;
        match connect::connect(address, &place.security, carries, limit).await {
            Ok(connected) => return ask_over(place, TokioIo::new(connected.io)).await,
            Err(error) => failed = FetchError::Connect(error),
        }
    }
    Err(failed)
}

async fn ask_over<IO>(place: &Place, io: IO) -> Result<Fetched, FetchError>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from(place.path.clone());
    let headers = request.headers_mut();
    headers.insert(header::HOST, place.authority.clone());
    let accepted = "application/jwk-set+json, application/json";
    headers.insert(header::ACCEPT, HeaderValue::from_static(accepted));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let agent = concat!("meshp/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(limits::KEYS_HEAD_BYTES)
        .handshake(io)
        .await
        .map_err(FetchError::Http)?;
    let asking = async {
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(FetchError::Http)?.into_parts();
        // Another place than policy says is nobody's to name.
        if head.status != StatusCode::OK {
            return Err(FetchError::Status(head.status));
        }
        let body = Limited::new(body, limits::KEY_SET_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|_broken| FetchError::Body)?.to_bytes();
        Ok(Fetched {
            keys: keys::read(&body).map_err(FetchError::Keys)?,
            fresh: max_age(&head.headers),
        })
    };
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        fetched = &mut asking => fetched,
        // Its last words may be on their way still.
        _ended = connection => asking.await,
    }
}

/// RFC 9111 section 5.2.2.1.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| value.trim_matches('"').parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_only_from_where_nobody_can_replace_them() {
        let parse = |url: &str| Place::parse(url, &Secrets::default());
        for good in ["http://127.0.0.1:8080/keys", "http://[::1]/keys?a=b"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example/keys",
            "http://10.0.0.1/",
            "http://127.0.0.1.example/",
        ] {
            assert!(matches!(parse(bad), Err(PlaceError::Plaintext)), "{bad}");
        }
        for bad in [
            "",
            "id.example/keys",
            "ftp://id.example",
            "http://a@127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(matches!(parse(bad), Err(PlaceError::Malformed)), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_does_not_lead_to_the_machine_itself() {
        let place = Place {
            host: "localhost".to_owned(),
            port: 1,
            security: Security::Plain,
            authority: HeaderValue::from_static("localhost:1"),
            path: PathAndQuery::from_static("/"),
        };
        assert!(matches!(fetch(&place).await, Err(FetchError::Forbidden(_))));
    }

    #[test]
    fn an_issuer_says_how_long_its_keys_are_good() {
        let read = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(line));
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(read("public, max-age=600, must-revalidate"), Some(600));
        assert_eq!(read("MAX-AGE=\"60\""), Some(60));
        assert_eq!(read("no-store"), None);
        assert_eq!(read("max-age=-1"), None);
    }
}
