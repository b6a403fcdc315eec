//! Hosts: the authority of a request in one form, and patterns over hosts.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use crate::limits;

mod index;

pub(crate) use index::HostIndex;

/// Host and port of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'r> {
    host: Cow<'r, str>,
    port: Option<u16>,
}

/// Why an authority is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No host.
    #[error("the host is empty")]
    Empty,
    /// Longer than a name can be.
    #[error("the host is longer than a name can be")]
    TooLong,
    /// A byte that no host has: `@`, `,`, `/`, spaces …
    #[error("the host holds a byte that no host has")]
    BadByte,
    /// An empty label, `a..b`.
    #[error("the host holds an empty label")]
    EmptyLabel,
    /// Not an address in brackets.
    #[error("the host is not an IPv6 address")]
    BadAddress,
    /// Not 1 to 65,535 in its shortest form.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
}

impl HostError {
    /// The name of the broken rule, for metrics and logs.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Empty => "host_empty",
            Self::TooLong => "host_too_long",
            Self::BadByte => "host_bad_byte",
            Self::EmptyLabel => "host_empty_label",
            Self::BadAddress => "host_bad_address",
            Self::BadPort => "host_bad_port",
        }
    }
}

impl Authority<'_> {
    /// The host: lower-case, without a trailing dot; IPv6 addresses in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same authority, borrowing nothing.
    pub fn into_owned(self) -> Authority<'static> {
        Authority {
            host: Cow::Owned(self.host.into_owned()),
            port: self.port,
        }
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Brings `Host` or `:authority` into one form, or refuses it.
pub fn normalise(raw: &str) -> Result<Authority<'_>, HostError> {
    if let Some(bracketed) = raw.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(HostError::BadAddress)?;
        let address: Ipv6Addr = address.parse().map_err(|_not_v6| HostError::BadAddress)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if rest.is_empty() => None,
            None => return Err(HostError::BadByte),
        };
        return Ok(Authority {
            host: Cow::Owned(format!("[{address}]")),
            port,
        });
    }
    let (name, port) = match raw.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port)?)),
        None => (raw, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    check_name(name)?;
    let host = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Ok(Authority { host, port })
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > limits::HOST_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if label.len() > limits::LABEL_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if label.bytes().all(good) {
        Ok(())
    } else {
        Err(HostError::BadByte)
    }
}

fn parse_port(text: &str) -> Result<u16, HostError> {
    // `parse` alone takes `+80` and `080`.
    if !text.starts_with(|first: char| matches!(first, '1'..='9')) {
        return Err(HostError::BadPort);
    }
    text.parse().map_err(|_not_a_port| HostError::BadPort)
}

/// A pattern over hosts: `a.b`, `*.b` (one label), `**.b` (one or more), `**`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    wildcard: Wildcard,
    /// What follows the wildcard, without a leading dot.
    suffix: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wildcard {
    None,
    One,
    Many,
}

/// Why a host pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// `*` elsewhere than as the whole first label.
    #[error("a wildcard is the whole first label of a host pattern")]
    Wildcard,
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] HostError),
}

impl HostPattern {
    /// Reads a pattern; letters of either case, a trailing dot allowed, no port.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        let (first, rest) = text.split_once('.').unwrap_or((text, ""));
        let wildcard = match first {
            "*" => Wildcard::One,
            "**" => Wildcard::Many,
            _ => Wildcard::None,
        };
        let suffix = if wildcard == Wildcard::None {
            text
        } else {
            rest
        };
        if suffix.contains('*') {
            return Err(HostPatternError::Wildcard);
        }
        if wildcard == Wildcard::None && suffix.starts_with('[') {
            let authority = normalise(suffix)?;
            if authority.port().is_some() {
                return Err(HostError::BadPort.into());
            }
            return Ok(Self {
                wildcard,
                suffix: authority.host().into(),
            });
        }
        if wildcard == Wildcard::None || text.len() > first.len() {
            check_name(suffix)?;
        }
        Ok(Self {
            wildcard,
            suffix: suffix.into(),
        })
    }

    /// The one host that it takes; none: it has a wildcard.
    pub fn literal(&self) -> Option<&str> {
        (self.wildcard == Wildcard::None).then_some(&*self.suffix)
    }

    /// Whether the pattern takes this normalised host.
    pub fn matches(&self, host: &str) -> bool {
        let taken = match (self.wildcard, &*self.suffix) {
            (Wildcard::None, suffix) => return host == suffix,
            (_, "") => Some(host),
            (_, suffix) => host
                .strip_suffix(suffix)
                .and_then(|rest| rest.strip_suffix('.')),
        };
        match taken {
            None | Some("") => false,
            Some(labels) => self.wildcard == Wildcard::Many || !labels.contains('.'),
        }
    }

    /// Greater is more specific; compares as bytes. Label by label from the right: a literal over `*`
    /// over `**`.
    pub fn specificity(&self) -> Box<[u8]> {
        let mut ranks = Vec::new();
        if !self.suffix.is_empty() {
            ranks.extend(self.suffix.split('.').map(|_label| rank::LITERAL));
        }
        match self.wildcard {
            Wildcard::None => ranks.push(rank::END),
            Wildcard::One => ranks.push(rank::ONE),
            Wildcard::Many => ranks.push(rank::MANY),
        }
        ranks.into()
    }
}

/// Ranks of the labels of a host and of the segments of a path, for lexicographic comparison.
pub(crate) mod rank {
    /// A regular expression takes over.
    pub(crate) const REGEX: u8 = 1;
    /// `**`.
    pub(crate) const MANY: u8 = 2;
    /// `*`, `{x}`.
    pub(crate) const ONE: u8 = 3;
    /// Given text.
    pub(crate) const LITERAL: u8 = 4;
    /// The pattern ends.
    pub(crate) const END: u8 = 5;
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcard = match self.wildcard {
            Wildcard::None => return f.write_str(&self.suffix),
            Wildcard::One => "*",
            Wildcard::Many => "**",
        };
        f.write_str(wildcard)?;
        if self.suffix.is_empty() {
            Ok(())
        } else {
            write!(f, ".{}", self.suffix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, host: &str, port: Option<u16>) {
        let authority = normalise(raw).unwrap();
        assert_eq!((authority.host(), authority.port()), (host, port), "{raw}");
        assert_eq!(
            normalise(&authority.to_string()).unwrap(),
            authority,
            "{raw}"
        );
    }

    /// bad-inputs row 28.
    #[test]
    fn one_form() {
        check("reviews", "reviews", None);
        check("HTTPBIN.Foo.", "httpbin.foo", None);
        check("a.b:8080", "a.b", Some(8080));
        check("a.b.:80", "a.b", Some(80));
        check("10.0.0.1:1", "10.0.0.1", Some(1));
        check("[::0001]:80", "[::1]", Some(80));
        check("[FE80::1]", "[fe80::1]", None);
    }

    #[track_caller]
    fn check_refused(raw: &str, expected: HostError) {
        assert_eq!(normalise(raw), Err(expected), "{raw}");
    }

    /// bad-inputs rows 25 and 53.
    #[test]
    fn refuses() {
        check_refused("", HostError::Empty);
        check_refused(".", HostError::Empty);
        check_refused(":80", HostError::Empty);
        check_refused("a, b", HostError::BadByte);
        check_refused("a@b", HostError::BadByte);
        check_refused("a/x", HostError::BadByte);
        check_refused("a%2eb", HostError::BadByte);
        check_refused("é", HostError::BadByte);
        check_refused("*.a", HostError::BadByte);
        check_refused("a..b", HostError::EmptyLabel);
        check_refused("a..", HostError::EmptyLabel);
        check_refused("a:99999", HostError::BadPort);
        check_refused("a:0", HostError::BadPort);
        check_refused("a:", HostError::BadPort);
        check_refused("a:+80", HostError::BadPort);
        check_refused("a:080", HostError::BadPort);
        check_refused("a:80:80", HostError::BadPort);
        check_refused("::1", HostError::BadPort);
        check_refused("[::1", HostError::BadAddress);
        check_refused("[fe80::1%eth0]", HostError::BadAddress);
        check_refused("[::1]x", HostError::BadByte);
        check_refused(&"a".repeat(64), HostError::TooLong);
        check_refused(&["a"; 130].join("."), HostError::TooLong);
    }

    #[track_caller]
    fn check_pattern(pattern: &str, taken: &[&str], refused: &[&str]) {
        let compiled = HostPattern::parse(pattern).unwrap();
        let mut index = HostIndex::default();
        *index.entry(&compiled) = pattern.to_owned();
        for (hosts, expected) in [(taken, true), (refused, false)] {
            for host in hosts {
                assert_eq!(compiled.matches(host), expected, "{pattern} on {host}");
                let found = index.find(host, |_| Some(())).is_some();
                assert_eq!(found, expected, "{pattern} on {host} by the index");
            }
        }
    }

    /// design.md: "`*` is one label, `**.x` one or more".
    #[test]
    fn patterns() {
        check_pattern("A.b.", &["a.b"], &["b", "x.a.b", "a.bc"]);
        check_pattern("*.b", &["a.b"], &["b", "x.a.b", "a.c", "ab"]);
        check_pattern("**.b", &["a.b", "x.a.b"], &["b", "a.bb"]);
        check_pattern("**", &["b", "a.b", "[::1]"], &[]);
        check_pattern("*", &["b"], &["a.b"]);
        check_pattern("[::1]", &["[::1]"], &["[::2]"]);
        let bad = [
            "", "a.*.b", "a*", "a.*", "***.b", "a:80", "[::1]:80", "**.[::1]", "a b",
        ];
        for text in bad {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn most_specific_first() {
        let mut index: HostIndex<String> = HostIndex::default();
        let patterns = ["**", "*.b.c", "a.b.c", "**.c", "**.b.c", "**.a.b.c", "*"];
        for pattern in patterns {
            *index.entry(&HostPattern::parse(pattern).unwrap()) = pattern.to_owned();
        }
        for (host, expected) in [
            ("a.b.c", &["a.b.c", "*.b.c", "**.b.c", "**.c", "**"][..]),
            ("x.a.b.c", &["**.a.b.c", "**.b.c", "**.c", "**"]),
            ("c", &["*", "**"]),
        ] {
            let mut seen = Vec::new();
            let none: Option<()> = index.find(host, |pattern| {
                seen.push(pattern.as_str());
                None
            });
            assert_eq!((none, seen.as_slice()), (None, expected), "{host}");
            let ranks: Vec<_> = seen
                .iter()
                .map(|pattern| HostPattern::parse(pattern).unwrap().specificity())
                .collect();
            assert!(ranks.is_sorted_by(|a, b| a > b), "{host}: {ranks:?}");
        }
    }
}
