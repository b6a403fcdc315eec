//! What ties a client to an endpoint, or to one of the destinations of a route: a hash of what tells clients apart, and the cookie by which one is told again.

use std::time::Duration;

use http::HeaderMap;
use http::header::{self, HeaderValue};
use mesh_bundle::slice::{Destination, RequestKey, Target};
use mesh_engine::limit::affinity;
use mesh_engine::{HeaderView, Request, RouteTable};

use super::super::sanitise::Rule;
use super::Exchanging;
use super::filters::{Edit, Seen};
use crate::tables::Tables;

impl Exchanging<'_> {
    /// The hash of this request where its destination is picked by one. A client without the cookie that ties it gets
    /// one with the answer.
    pub(super) fn affinity(
        &mut self,
        tables: &Tables,
        target: &Target,
        seen: Seen<'_>,
        edits: &mut Vec<Edit<'_>>,
    ) -> Result<Option<u64>, Rule> {
        let Some(group) = tables.group(target, seen.port) else {
            return Ok(None);
        };
        self.tied(&group.pool().policy().hash_keys, seen, edits)
    }

    /// Picks the destination of a request, the same one for all that share what ties them.
    pub(super) fn pick_destination<'t>(
        &mut self,
        route: &'t RouteTable,
        seen: Seen<'_>,
        edits: &mut Vec<Edit<'_>>,
    ) -> Result<Option<&'t Destination>, Rule> {
        let hash = self.tied(&route.filters().sticky, seen, edits)?;
        Ok(route.pick_tied(hash, &mut rand::rng()))
    }

    fn tied(
        &mut self,
        keys: &[RequestKey],
        seen: Seen<'_>,
        edits: &mut Vec<Edit<'_>>,
    ) -> Result<Option<u64>, Rule> {
        if keys.is_empty() {
            return Ok(None);
        }
        let fresh = keys.iter().find_map(|key| match key {
            RequestKey::Cookie { name, ttl } => Some((name, (*ttl)?)),
            _ => None,
        });
        let is_set = |name: &str| {
            let set = self.cookies.iter().filter_map(|pair| pair.split_once('='));
            has_cookie(&self.head.headers, name) || set.clone().any(|(set, _)| set == name)
        };
        if let Some((name, ttl)) = fresh.filter(|(name, _)| !is_set(name)) {
            let value = format!("{:032x}", rand::random::<u128>());
            let pair = format!("{name}={value}");
            edits.extend(set_cookie(&pair, ttl).map(Edit::Cookie));
            // Whatever else it ties is tied by the same one.
            self.cookies.push(pair);
        }
        let headers = WithCookies {
            headers: &self.head.headers,
            pairs: &self.cookies,
        };
        self.ask(seen.host, seen.port, seen.peer, |request| {
            let request = Request {
                headers: &headers,
                ..*request
            };
            affinity(keys, &request)
        })
    }
}

/// Headers as they will be when the client comes again.
#[derive(Debug)]
struct WithCookies<'a> {
    headers: &'a HeaderMap,
    pairs: &'a [String],
}

impl HeaderView for WithCookies<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.headers.visit(name, each);
        if name == header::COOKIE.as_str() {
            for pair in self.pairs {
                each(pair.as_bytes());
            }
        }
    }
}

fn has_cookie(headers: &HeaderMap, name: &str) -> bool {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.any(|pair| {
        let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    })
}

/// RFC 6265 section 4.1.1.
fn set_cookie(pair: &str, ttl: Duration) -> Option<HeaderValue> {
    let seconds = ttl.as_secs().max(1);
    HeaderValue::try_from(format!("{pair}; Max-Age={seconds}; Path=/; HttpOnly")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; tied=x"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=tied=2"));
        assert!(has_cookie(&headers, "tied"));
        assert!(has_cookie(&headers, "c"));
        assert!(!has_cookie(&headers, "tie"));
        assert!(!has_cookie(&headers, "x"));
        let set = set_cookie("tied=7", Duration::from_mins(1)).unwrap();
        assert_eq!(set, "tied=7; Max-Age=60; Path=/; HttpOnly");
    }
}
