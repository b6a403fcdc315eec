//! Who a client of a gateway is, and what the services behind it are told of that. Whatever a client
//! says of itself is replaced, but for what proxies that policy trusts have added.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http::sanitise::{remove_all, spells};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers in which a client could say who it is.
const CLAIMS: [HeaderName; 6] = [
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
];

/// Replaces what the client says of itself, and returns its address. `hops` is how many proxies in
/// front of the gateway are trusted to have added to `X-Forwarded-For`; 0: the peer is the client.
pub(crate) fn establish(
    headers: &mut HeaderMap,
    peer: IpAddr,
    hops: usize,
    tls: bool,
    host: &HeaderValue,
) -> IpAddr {
    let peer = peer.to_canonical();
    let (client, trusted) = told(headers, hops).unwrap_or((peer, Vec::new()));
    // The proxy next to us may have ended TLS itself.
    let scheme = match headers.get(FORWARDED_PROTO) {
        Some(scheme) if hops > 0 && (scheme == "http" || scheme == "https") => scheme.clone(),
        _ => HeaderValue::from_static(if tls { "https" } else { "http" }),
    };
    remove_all(headers, |name| {
        CLAIMS.iter().any(|claim| spells(name, claim.as_str()))
    });
    let chain: Vec<String> = trusted
        .iter()
        .chain([&peer])
        .map(IpAddr::to_string)
        .collect();
    if let Ok(chain) = HeaderValue::try_from(chain.join(", ")) {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers.insert(FORWARDED_PROTO, scheme);
    headers.insert(FORWARDED_HOST, host.clone());
    client
}

/// The client, and the addresses that trusted proxies added, the client's first. `None`: the request
/// came past them, or with something that is no address: then only the peer is certain.
fn told(headers: &HeaderMap, hops: usize) -> Option<(IpAddr, Vec<IpAddr>)> {
    if hops == 0 {
        return None;
    }
    let mut added = Vec::with_capacity(hops);
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    for line in lines.into_iter().rev() {
        for entry in line.as_bytes().rsplit(|&byte| byte == b',') {
            if added.len() == hops {
                break;
            }
            let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
            added.push(text.parse::<IpAddr>().ok()?.to_canonical());
        }
    }
    if added.len() < hops {
        return None;
    }
    added.reverse();
    Some((*added.first()?, added))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "203.0.113.9";

    #[track_caller]
    fn check(sent: &[(&str, &str)], hops: usize, client: &str, forwarded: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let host = HeaderValue::from_static("shop.example");
        let found = establish(&mut headers, PEER.parse().unwrap(), hops, true, &host);
        assert_eq!(found.to_string(), client);
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().count(), 1);
        assert_eq!(headers[FORWARDED_FOR], forwarded);
        headers
    }

    #[test]
    fn without_trusted_proxies_nothing_is_believed() {
        let lies = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "admin"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
        ];
        let headers = check(&lies, 0, PEER, PEER);
        assert_eq!(headers[FORWARDED_PROTO], "https");
        assert_eq!(headers[FORWARDED_HOST], "shop.example");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn what_trusted_proxies_added_counts_from_the_right() {
        let lines = [
            ("x-forwarded-for", "10.6.6.6, 198.51.100.7"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        check(&lines, 1, "192.0.2.1", "192.0.2.1, 203.0.113.9");
        check(
            &lines,
            2,
            "198.51.100.7",
            "198.51.100.7, 192.0.2.1, 203.0.113.9",
        );
        // A client that came past the proxies in front cannot choose its address.
        check(&lines, 4, PEER, PEER);
        check(&[("x-forwarded-for", "somewhere")], 1, PEER, PEER);
        let headers = check(&[("x-forwarded-proto", "http")], 1, PEER, PEER);
        assert_eq!(headers[FORWARDED_PROTO], "http");
    }
}
