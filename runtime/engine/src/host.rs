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

impl<'r> Authority<'r> {
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
        if suffix.starts_with('[') {
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
    pub(crate) fn specificity(&self) -> Box<[u8]> {
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
