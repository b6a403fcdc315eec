//! The PROXY protocol, versions 1 and 2, as <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt> has it: what
//! a proxy in front says of the client whose connection it passes on. Whether it is believed is not
//! decided here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;

/// What the addresses and further fields of version 2 may take. It could say 65,535; what is known of is less
/// than a tenth of this.
pub const FIELDS_BYTES_MAX: usize = 4 * 1024;

/// How version 2 begins. No line of version 1 is as short.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How far a header has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has at least so many bytes more; never 0. What follows it is the client's, so no more may be read.
    Needs(usize),
    /// It is whole.
    Done(Header),
}

/// What a proxy in front says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Whose connection it passes on.
    Proxied {
        /// The client.
        client: SocketAddr,
    },
    /// It speaks for itself, to see whether we live, or does not know the client.
    Itself,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProtocolError {
    /// Neither version begins like this.
    #[error("no header of the PROXY protocol")]
    NoHeader,
    /// A line that is too long, or not as version 1 has it.
    #[error("malformed header of version 1")]
    Line,
    /// A version or command that version 2 has not, or addresses that are too short.
    #[error("malformed header of version 2")]
    Binary,
    /// A protocol that no listener has.
    #[error("addresses of another protocol than TCP")]
    NotTcp,
    /// More fields than are taken.
    #[error("more fields than {FIELDS_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads as far as there are bytes. They must all be of the header: ask for [`Progress::Needs`] and not for
/// more.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyProtocolError> {
    if bytes.len() < SIGNATURE.len() {
        let begins = |whole: &[u8]| whole.starts_with(bytes) || bytes.starts_with(whole);
        return if begins(SIGNATURE) || begins(b"PROXY ") {
            Ok(Progress::Needs(SIGNATURE.len() - bytes.len()))
        } else {
            Err(ProxyProtocolError::NoHeader)
        };
    }
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        return binary(rest);
    }
    match bytes.strip_prefix(b"PROXY ") {
        Some(line) => text(line, bytes.len()),
        None => Err(ProxyProtocolError::NoHeader),
    }
}

/// Version 1, after `PROXY `.
fn text(line: &[u8], length: usize) -> Result<Progress, ProxyProtocolError> {
    let Some(line) = line.strip_suffix(b"\r\n") else {
        // The end is told by its last byte, so one more may always be read.
        return if length >= LINE_BYTES_MAX || line.contains(&b'\n') {
            Err(ProxyProtocolError::Line)
        } else {
            Ok(Progress::Needs(1))
        };
    };
    let line = std::str::from_utf8(line).map_err(|_not_text| ProxyProtocolError::Line)?;
    let mut words = line.split(' ');
    let family = match words.next() {
        // Whatever follows says nothing.
        Some("UNKNOWN") => return Ok(Progress::Done(Header::Itself)),
        Some("TCP4") => is_v4,
        Some("TCP6") => is_v6,
        _ => return Err(ProxyProtocolError::Line),
    };
    let mut address = || words.next()?.parse::<IpAddr>().ok().filter(family);
    let addresses = (address(), address());
    let ports = (words.next().and_then(port), words.next().and_then(port));
    match (addresses, ports, words.next()) {
        ((Some(client), Some(_)), (Some(port), Some(_)), None) => {
            let client = SocketAddr::new(client, port);
            Ok(Progress::Done(Header::Proxied { client }))
        }
        _ => Err(ProxyProtocolError::Line),
    }
}

fn is_v4(address: &IpAddr) -> bool {
    address.is_ipv4()
}

fn is_v6(address: &IpAddr) -> bool {
    address.is_ipv6()
}

/// Without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Version 2, after its signature.
fn binary(bytes: &[u8]) -> Result<Progress, ProxyProtocolError> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const UNSPECIFIED: u8 = 0x00;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let Some((&[command, protocol, high, low], rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(Progress::Needs(4 - bytes.len()));
    };
    if !matches!(command, LOCAL | PROXY) {
        return Err(ProxyProtocolError::Binary);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > FIELDS_BYTES_MAX {
        return Err(ProxyProtocolError::TooLong);
    }
    match length.checked_sub(rest.len()) {
        Some(0) => {}
        Some(missing) => return Ok(Progress::Needs(missing)),
        None => return Err(ProxyProtocolError::Binary),
    }
    let header = match (command, protocol) {
        (LOCAL, _) | (_, UNSPECIFIED) => Header::Itself,
        (_, TCP4) => {
            let (client, _) = rest
                .split_first_chunk::<4>()
                .ok_or(ProxyProtocolError::Binary)?;
            proxied(Ipv4Addr::from(*client).into(), rest.get(8..12))?
        }
        (_, TCP6) => {
            let (client, _) = rest
                .split_first_chunk::<16>()
                .ok_or(ProxyProtocolError::Binary)?;
            proxied(Ipv6Addr::from(*client).into(), rest.get(32..36))?
        }
        _ => return Err(ProxyProtocolError::NotTcp),
    };
    Ok(Progress::Done(header))
}

/// `ports` are those of both ends.
fn proxied(client: IpAddr, ports: Option<&[u8]>) -> Result<Header, ProxyProtocolError> {
    match ports {
        Some(&[high, low, _, _]) => Ok(Header::Proxied {
            client: SocketAddr::new(client, u16::from_be_bytes([high, low])),
        }),
        _ => Err(ProxyProtocolError::Binary),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> Result<(Header, usize), Option<ProxyProtocolError>> {
        let whole = bytes;
        let mut taken = 0;
        loop {
            let read = whole.get(..taken).unwrap_or(whole);
            match parse(read).map_err(Some)? {
                Progress::Done(header) => return Ok((header, taken)),
                Progress::Needs(more) => {
                    assert!(more > 0);
                    bytes = bytes.get(more..).ok_or(None)?;
                    taken += more;
                }
            }
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&str, Option<ProxyProtocolError>>) {
        let mut followed = bytes.to_vec();
        followed.extend(b"\x16\x03\x01 whatever the client says");
        let expected = expected.map(|client| match client {
            "" => Header::Itself,
            client => Header::Proxied {
                client: client.parse().unwrap(),
            },
        });
        let found = read(&followed);
        if let Ok((_, taken)) = found {
            assert_eq!(taken, bytes.len(), "not a byte of the client's");
        }
        assert_eq!(found.map(|(header, _)| header), expected);
    }

    fn version2(command: u8, protocol: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, protocol]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn version_1() {
        check(
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
            Ok("192.0.2.1:56324"),
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::1 1 443\r\n",
            Ok("[2001:db8::1]:1"),
        );
        check(b"PROXY UNKNOWN\r\n", Ok(""));
        check(b"PROXY UNKNOWN ffff:f::ffff 1 65535 a\r\n", Ok(""));
        let bad = Err(Some(ProxyProtocolError::Line));
        for line in [
            "PROXY TCP4 2001:db8::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 01 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 443 more\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 1 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 443\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 443\r\n",
        ] {
            check(line.as_bytes(), bad);
        }
        check(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes(), bad);
        check(b"PROXY TCP4 \xff\r\n", bad);
    }

    #[test]
    fn version_2() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 4, 1, 187];
        check(&version2(0x21, 0x11, 12, &v4), Ok("192.0.2.1:56324"));
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[33] = 7;
        check(&version2(0x21, 0x21, 36, &v6), Ok("[2001:db8::]:7"));
        // Further fields are passed over.
        let mut more = v4.to_vec();
        more.extend([4, 0, 3, 0, 0, 0]);
        check(&version2(0x21, 0x11, 18, &more), Ok("192.0.2.1:56324"));
        check(&version2(0x20, 0x00, 0, &[]), Ok(""));
        check(&version2(0x20, 0x11, 12, &v4), Ok(""));
        check(&version2(0x21, 0x00, 3, &[1, 2, 3]), Ok(""));
        let bad = |error| Err(Some(error));
        check(
            &version2(0x21, 0x12, 12, &v4),
            bad(ProxyProtocolError::NotTcp),
        );
        check(
            &version2(0x21, 0x31, 12, &v4),
            bad(ProxyProtocolError::NotTcp),
        );
        check(
            &version2(0x31, 0x11, 12, &v4),
            bad(ProxyProtocolError::Binary),
        );
        check(
            &version2(0x22, 0x11, 12, &v4),
            bad(ProxyProtocolError::Binary),
        );
        check(
            &version2(0x21, 0x11, 11, &v4[..11]),
            bad(ProxyProtocolError::Binary),
        );
        check(
            &version2(0x21, 0x21, 12, &v4),
            bad(ProxyProtocolError::Binary),
        );
        check(
            &version2(0x21, 0x11, u16::MAX, &v4),
            bad(ProxyProtocolError::TooLong),
        );
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_byte() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"\x16\x03\x01",
            b"PROXYTCP4",
            b"\r\n\r\nGET",
        ] {
            check(bytes, Err(Some(ProxyProtocolError::NoHeader)));
        }
        assert_eq!(parse(b"G"), Err(ProxyProtocolError::NoHeader));
        assert_eq!(read(b"PROXY TCP4 192.0."), Err(None));
    }

    proptest! {
        /// Bounded, and the same however it is cut.
        #[test]
        fn whatever_comes(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), begin in 0..3) {
            let mut whole = match begin {
                0 => SIGNATURE.to_vec(),
                1 => b"PROXY ".to_vec(),
                _ => Vec::new(),
            };
            whole.append(&mut bytes);
            if let Ok((_, taken)) = read(&whole) {
                prop_assert!(taken <= SIGNATURE.len() + 4 + FIELDS_BYTES_MAX);
            }
        }
    }
}
