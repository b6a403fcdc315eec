//! Who a client of a gateway is, and what the services behind it are told of that. Whatever a client
//! says of itself is replaced, but for what proxies that policy trusts have added.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http::sanitise::{Rule, remove_all, spells};

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
/// front of the gateway are trusted to have added to `X-Forwarded-For`; 0: the peer is the client. What one of them
/// added and is no address is refused: no rule about addresses would hold.
pub(crate) fn establish(
    headers: &mut HeaderMap,
    peer: IpAddr,
    hops: usize,
    tls: bool,
    host: &HeaderValue,
) -> Result<IpAddr, Rule> {
    let peer = peer.to_canonical();
    let trusted = told(headers, hops)?;
    let client = trusted.first().copied().unwrap_or(peer);
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
    Ok(client)
}

/// The addresses that trusted proxies added, the client's first. None: the request came past them, and only the peer
/// is certain.
fn told(headers: &HeaderMap, hops: usize) -> Result<Vec<IpAddr>, Rule> {
    let mut added = Vec::with_capacity(hops);
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let entries = lines
        .into_iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    for entry in entries.take(hops) {
        added.push(address(entry).ok_or(Rule::ForwardedFor)?);
    }
    if added.len() < hops {
        return Ok(Vec::new());
    }
    added.reverse();
    Ok(added)
}

/// An address as proxies write it: bare, and some with the client's port or in quotes.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let unquoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = unquoted.unwrap_or(text);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text
        .parse()
        .ok()
        .or_else(|| {
            text.parse::<SocketAddr>()
                .ok()
                .map(|with_port| with_port.ip())
        })
        .or_else(bracketed);
    address.map(|address: IpAddr| address.to_canonical())
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
        assert_eq!(found.unwrap().to_string(), client);
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
        let headers = check(&[("x-forwarded-proto", "http")], 1, PEER, PEER);
        assert_eq!(headers[FORWARDED_PROTO], "http");
    }
    /// Some load balancers add the client's port.
    #[test]
    fn addresses_as_proxies_write_them() {
        for (entry, client) in [
            ("10.9.0.1:4711", "10.9.0.1"),
            ("\"10.9.0.1\"", "10.9.0.1"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("::ffff:10.9.0.1", "10.9.0.1"),
        ] {
            let forwarded = format!("{client}, {PEER}");
            check(&[("x-forwarded-for", entry)], 1, client, &forwarded);
        }
    }

    /// A rule that denies addresses must not be passed by with something else.
    #[test]
    fn what_is_no_address_is_refused() {
        let host = HeaderValue::from_static("shop.example");
        for entry in [
            "somewhere",
            "unknown",
            "",
            "10.9.0.1, ",
            "_hidden",
            "10.9.0",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, entry.parse().unwrap());
            let found = establish(&mut headers, PEER.parse().unwrap(), 1, true, &host);
            assert_eq!(found, Err(Rule::ForwardedFor), "{entry}");
        }
    }
}
