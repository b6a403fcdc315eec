//! Where a request carries the token of a provider.

use mesh_bundle::slice::{JwtProvider, TokenLocation};

use super::Invalid;
use crate::condition::{cookie_values, query_values};
use crate::limits;
use crate::request::Request;

const AUTHORIZATION: &str = "authorization";
const SCHEME: &[u8] = b"bearer";

/// The token that a request brings for a provider. Of two it is not said which one whoever comes next would take, so
/// they are refused, although they may be the same.
pub(super) fn find(
    provider: &JwtProvider,
    request: &Request<'_>,
) -> Result<Option<Vec<u8>>, Invalid> {
    let usual = [TokenLocation::Header(AUTHORIZATION.to_owned())];
    let locations = match provider.locations.as_slice() {
        [] => usual.as_slice(),
        locations => locations,
    };
    let mut found = Found::default();
    for location in locations {
        match location {
            TokenLocation::Header(name) => {
                request
                    .headers
                    .visit(name, &mut |line| found.header(name, line));
            }
            TokenLocation::Query(name) => {
                query_values(request, name, &mut |value| found.take(value));
            }
            TokenLocation::Cookie(name) => {
                cookie_values(request, name, &mut |value| found.take(value));
            }
        }
    }
    match found {
        Found { count: 0, .. } => Ok(None),
        Found {
            count: 1,
            token: Some(token),
            ..
        } if !found.other_credentials => Ok(Some(token)),
        Found {
            count: 1,
            token: None,
            ..
        } => Err(Invalid::TooLarge),
        _ => Err(Invalid::Several),
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    count: usize,
    /// None: it is too large.
    token: Option<Vec<u8>>,
    /// `Authorization` that is no token; beside one there must not be any (RFC 9110 section 11.6.2).
    other_credentials: bool,
}

impl Found {
    fn header(&mut self, name: &str, line: &[u8]) {
        match (bearer(line), name) {
            (Some(token), _) => self.take(token),
            (None, AUTHORIZATION) => self.other_credentials = true,
            (None, _) => self.take(line),
        }
    }

    fn take(&mut self, token: &[u8]) {
        self.count += 1;
        self.token = (token.len() <= limits::TOKEN_BYTES_MAX).then(|| token.to_vec());
    }
}

/// What follows `Bearer`, in any case (RFC 9110 section 11.1).
fn bearer(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let (scheme, rest) = line.split_at_checked(SCHEME.len())?;
    let follows = rest.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(SCHEME) && follows).then(|| rest.trim_ascii())
}
