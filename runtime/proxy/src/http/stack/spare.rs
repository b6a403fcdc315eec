//! Tries that policy knows nothing of: of requests on which nobody has acted, because their connection had ended.

use http::Version;
use mesh_engine::retry;

use super::super::body::{ReplayHandle, RequestBody, Transfer};
use super::Exchanging;
use crate::limits;
use crate::upstream::pool::Failure;

/// How often a request may still be sent once more: see [`Exchanging::spare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    /// After a connection that its other end had closed, which is met once.
    stale: bool,
    /// After connections that leave it out. GOAWAY may end all connections to an endpoint at about the same time, for
    /// they carry the same number of requests.
    left_out: u8,
}

impl Spare {
    /// Whether the head is needed again.
    pub(super) fn is_left(self) -> bool {
        self.stale || self.left_out > 0
    }

    /// Whether the body is.
    pub(super) fn keeps_body(self) -> bool {
        self.left_out > 0
    }

    /// The body to be sent again after this, if the request is.
    pub(super) fn again(
        &mut self,
        failure: Failure,
        replay: Option<&ReplayHandle>,
        transfer: &Transfer,
    ) -> Option<RequestBody> {
        match failure {
            Failure::Stale if self.stale => self.stale = false,
            Failure::LeftOut if self.left_out > 0 => self.left_out -= 1,
            _ => return None,
        }
        match replay {
            _ if transfer.is_broken() => None,
            Some(handle) => handle.again().map(RequestBody::Replay),
            None => Some(RequestBody::Empty),
        }
    }
}

impl Exchanging<'_> {
    /// Whether the request may be sent once more, whatever policy says of retries. Nobody has acted on it when its
    /// connection turns out to have been closed by its other end before (RFC 9112 section 9.3.1), and if somebody has,
    /// it bears repetition; and certainly nobody has where HTTP/2 has left it out (RFC 9113 section 6.8), whatever it
    /// asks for.
    pub(super) fn spare(&self, empty: bool) -> Spare {
        let is_http2 = self.asked.version == Version::HTTP_2 && self.upgrade.is_none();
        Spare {
            stale: empty && retry::is_idempotent(self.head.method.as_str()),
            left_out: if is_http2 { limits::SPARE_TRIES } else { 0 },
        }
    }
}
