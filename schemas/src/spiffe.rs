//! SPIFFE IDs and trust domains, as the SPIFFE-ID specification (§2) writes them.

use std::fmt;

use crate::limits::{SPIFFE_ID_BYTES_MAX, TRUST_DOMAIN_BYTES_MAX};

const SCHEME: &str = "spiffe://";

/// Why a text is not a SPIFFE ID or a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than the specification allows.
    #[error("longer than allowed")]
    TooLong,
    /// Does not begin with `spiffe://`.
    #[error("does not begin with \"spiffe://\"")]
    Scheme,
    /// The trust domain is empty or has a character other than `a-z0-9.-_`.
    #[error("trust domain is empty or has a character other than a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// There is no path, so it names no workload.
    #[error("has no path")]
    NoPath,
    /// A path segment is empty, `.`, `..` or has a character other than `a-zA-Z0-9.-_`.
    #[error("a path segment is empty, '.', '..' or has a character that is not allowed")]
    PathSegment,
}

/// The name of a trust domain, `bookshop.example`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Parses a bare name, without `spiffe://`.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > TRUST_DOMAIN_BYTES_MAX {
            return Err(SpiffeIdError::TooLong);
        }
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(SpiffeIdError::TrustDomain);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity with this absolute path, `/service/reviews`, in this domain.
    pub fn identity(&self, path: &str) -> Result<SpiffeId, SpiffeIdError> {
        SpiffeId::parse(&format!("{SCHEME}{}{path}", self.0))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload, `spiffe://bookshop.example/service/reviews`. Ordered by its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: String,
    /// Where the path begins, at its `/`.
    path_start: usize,
}

impl SpiffeId {
    /// Parses `spiffe://<trust domain>/<path>`; the path must not be empty.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeIdError::NoPath)?;
        TrustDomain::parse(domain)?;
        if path.is_empty() {
            return Err(SpiffeIdError::NoPath);
        }
        if !path.split('/').all(is_segment) {
            return Err(SpiffeIdError::PathSegment);
        }
        Ok(Self {
            text: text.to_owned(),
            path_start: SCHEME.len() + domain.len(),
        })
    }

    /// Name of the trust domain.
    pub fn trust_domain(&self) -> &str {
        self.text
            .get(SCHEME.len()..self.path_start)
            .unwrap_or_default()
    }

    /// The path, with its leading `/`.
    pub fn path(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }

    /// The whole identity.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it lies below `/mesh/`, which belongs to the mesh's own programs: neither compiler
    /// nor issuer takes it for a service.
    pub fn is_reserved(&self) -> bool {
        self.path() == "/mesh" || self.path().starts_with("/mesh/")
    }

    /// The name of the distributor whose identity this is, `/mesh/distributor/<name>`.
    pub fn distributor(&self) -> Option<&str> {
        single_segment(self.path().strip_prefix("/mesh/distributor/")?)
    }

    /// The name of the relay whose identity this is, `/mesh/relay/<name>`.
    pub fn relay(&self) -> Option<&str> {
        single_segment(self.path().strip_prefix("/mesh/relay/")?)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

impl std::str::FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

/// SPIFFE-ID §2.2: letters, digits, dots, dashes and underscores; no relative segments.
fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn single_segment(rest: &str) -> Option<&str> {
    (!rest.contains('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let id = SpiffeId::parse("spiffe://bookshop.example/service/reviews").unwrap();
        assert_eq!(id.trust_domain(), "bookshop.example");
        assert_eq!(id.path(), "/service/reviews");
        assert!(!id.is_reserved());
        assert_eq!(
            id,
            TrustDomain::parse("bookshop.example")
                .unwrap()
                .identity("/service/reviews")
                .unwrap()
        );
    }

    #[test]
    fn reserved() {
        let reserved = |path| SpiffeId::parse(&format!("spiffe://a{path}")).unwrap();
        assert!(reserved("/mesh").is_reserved());
        assert!(reserved("/mesh/x/y").is_reserved());
        assert!(!reserved("/meshes/x").is_reserved());
        assert_eq!(
            reserved("/mesh/distributor/main").distributor(),
            Some("main")
        );
        assert_eq!(reserved("/mesh/distributor/main/x").distributor(), None);
        assert_eq!(reserved("/mesh/relay/eu").relay(), Some("eu"));
    }

    #[test]
    fn refused() {
        let check =
            |text: &str, expected| assert_eq!(SpiffeId::parse(text), Err(expected), "{text}");
        check("", SpiffeIdError::Scheme);
        check("https://a/b", SpiffeIdError::Scheme);
        check("SPIFFE://a/b", SpiffeIdError::Scheme);
        check("spiffe://a", SpiffeIdError::NoPath);
        check("spiffe://a/", SpiffeIdError::NoPath);
        check("spiffe:///b", SpiffeIdError::TrustDomain);
        check("spiffe://A/b", SpiffeIdError::TrustDomain);
        check("spiffe://a:1/b", SpiffeIdError::TrustDomain);
        check("spiffe://u@a/b", SpiffeIdError::TrustDomain);
        check("spiffe://a/b/", SpiffeIdError::PathSegment);
        check("spiffe://a//b", SpiffeIdError::PathSegment);
        check("spiffe://a/../b", SpiffeIdError::PathSegment);
        check("spiffe://a/b?c", SpiffeIdError::PathSegment);
        check("spiffe://a/b%2f", SpiffeIdError::PathSegment);
        check("spiffe://a/b\0", SpiffeIdError::PathSegment);
        check(
            &format!("spiffe://a/{}", "b".repeat(SPIFFE_ID_BYTES_MAX)),
            SpiffeIdError::TooLong,
        );
    }
}
