//! The part of a request that tells clients apart, as bytes.

use mesh_bundle::digest::Digest;
use mesh_bundle::slice::RequestKey;

use crate::balance::stable_hash;
use crate::condition::{cookie_values, query_values};
use crate::limits;
use crate::request::{Peer, Request};

/// A compound key. Two requests have the same one exactly when every part of it is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKeyBytes {
    bytes: Box<[u8]>,
}

impl RequestKeyBytes {
    /// The bytes, for hashing and for asking a service that counts.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&[u8]> for RequestKeyBytes {
    /// What is long is remembered by its digest, so that long headers take no more memory.
    fn from(bytes: &[u8]) -> Self {
        let bytes = if bytes.len() > limits::REQUEST_KEY_BYTES_MAX {
            Digest::of(bytes).as_bytes().as_slice().into()
        } else {
            bytes.into()
        };
        Self { bytes }
    }
}

/// The compound key of a request. A part that the request lacks is a value of its own, so that leaving a
/// header out is one client among others and no way around a limit; of a header sent several times all
/// lines count.
pub fn request_key(parts: &[RequestKey], request: &Request<'_>) -> RequestKeyBytes {
    read(parts, request).0
}

/// The hash of the compound key, for balancing. `None`: the request has none of the parts, and nothing ties it to
/// an endpoint.
pub fn affinity(parts: &[RequestKey], request: &Request<'_>) -> Option<u64> {
    let (key, has_any) = read(parts, request);
    has_any.then(|| stable_hash(&[key.as_bytes()]))
}

/// The key, and whether the request has any part of it.
fn read(parts: &[RequestKey], request: &Request<'_>) -> (RequestKeyBytes, bool) {
    let mut bytes = Vec::new();
    let mut has_any = false;
    for part in parts {
        // The number of values comes before them, and is known after them.
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        let mut values = Values {
            bytes: &mut bytes,
            count: 0,
        };
        key_values(part, request, &mut |value| values.push(value));
        let count = values.count;
        has_any |= count > 0;
        if let Some(place) = bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&count.to_le_bytes());
        }
    }
    (RequestKeyBytes::from(bytes.as_slice()), has_any)
}

/// Calls `each` with what the request has of one part of a key.
pub fn key_values(part: &RequestKey, request: &Request<'_>, each: &mut dyn FnMut(&[u8])) {
    match part {
        RequestKey::ClientIp => {
            if let Some(address) = request.client_ip {
                each(address.to_canonical().to_string().as_bytes());
            }
        }
        RequestKey::Caller => {
            if let Peer::Identity(id) = request.peer {
                each(id.as_str().as_bytes());
            }
        }
        RequestKey::Path => each(request.path.as_str().as_bytes()),
        RequestKey::Header(name) => request.headers.visit(name, each),
        RequestKey::Query(name) => query_values(request, name, each),
        RequestKey::Cookie { name, .. } => cookie_values(request, name, each),
        RequestKey::Claim(name) => {
            if let Some(claims) = request.claims {
                claims.visit(name, each);
            }
        }
    }
}

/// The values of one part, each after its length, so that no two lists of values look alike.
struct Values<'b> {
    bytes: &'b mut Vec<u8>,
    count: u32,
}

impl Values<'_> {
    fn push(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;
    use crate::testing::id;

    fn keyed(parts: &[RequestKey], query: &str, headers: &[(&str, &str)]) -> RequestKeyBytes {
        let path = path::normalise("/a").unwrap();
        let headers = headers.to_vec();
        let caller = id("web");
        let request = Request {
            query,
            headers: &headers,
            peer: Peer::Identity(&caller),
            client_ip: Some("10.0.0.1".parse().unwrap()),
            ..Request::new("GET", "h", &path)
        };
        request_key(parts, &request)
    }

    #[test]
    fn every_part_counts() {
        let header = |name: &str| RequestKey::Header(name.into());
        let parts = [header("a"), header("b")];
        let key = |headers: &[(&str, &str)]| keyed(&parts, "", headers);
        assert_eq!(
            key(&[("a", "1"), ("b", "2")]),
            key(&[("b", "2"), ("a", "1")])
        );
        let apart = [
            key(&[]),
            key(&[("a", "")]),
            key(&[("b", "")]),
            key(&[("a", "1")]),
            key(&[("b", "1")]),
            key(&[("a", "1"), ("a", "1")]),
            key(&[("a", "1"), ("b", "1")]),
            key(&[("a", "11")]),
        ];
        let distinct: std::collections::BTreeSet<_> = apart.iter().collect();
        assert_eq!(distinct.len(), apart.len());
    }

    #[test]
    fn nothing_ties_whoever_has_no_part() {
        let path = path::normalise("/a").unwrap();
        let parts = [
            RequestKey::Header("a".into()),
            RequestKey::Query("q".into()),
        ];
        let hash = |query: &str, headers: &[(&str, &str)]| {
            let headers = headers.to_vec();
            let request = Request {
                query,
                headers: &headers,
                ..Request::new("GET", "h", &path)
            };
            affinity(&parts, &request)
        };
        assert_eq!(hash("", &[("b", "1")]), None);
        let one = hash("", &[("a", "1")]);
        assert!(one.is_some());
        assert_eq!(hash("", &[("a", "1"), ("b", "2")]), one);
        assert_ne!(hash("q=1", &[("a", "1")]), one);
        assert_ne!(hash("q=1", &[]), None);
    }

    #[test]
    fn long_values_stay_apart_and_short() {
        let parts = [RequestKey::Header("a".into())];
        let key = |last: &str| keyed(&parts, "", &[("a", &("x".repeat(9_000) + last))]);
        assert_ne!(key("1"), key("2"));
        assert_eq!(key("1").as_bytes().len(), 32);
    }

    #[test]
    fn each_kind() {
        let cookie = RequestKey::Cookie {
            name: "s".into(),
            ttl: None,
        };
        let query = RequestKey::Query("q".into());
        let text = |part: RequestKey, query: &str, headers: &[(&str, &str)]| {
            let key = keyed(&[part], query, headers);
            String::from_utf8_lossy(key.as_bytes()).replace(['\0', '\u{1}'], "")
        };
        assert!(text(RequestKey::ClientIp, "", &[]).contains("10.0.0.1"));
        assert!(text(RequestKey::Caller, "", &[]).contains("/service/web"));
        assert!(text(RequestKey::Path, "", &[]).contains("/a"));
        assert!(text(cookie, "", &[("cookie", "r=1; s=77")]).contains("77"));
        assert!(text(query, "p=1&q=%37%37", &[]).contains("77"));
        assert!(!text(RequestKey::Claim("sub".into()), "", &[]).contains("77"));
    }
}
