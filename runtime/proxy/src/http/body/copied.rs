//! The copy of a body that somebody else passes on. It gets what the other one reads, when it does; one that can't keep up
//! is broken off rather than waited for.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::BodyError;
use crate::limits;

/// A part of a body.
#[derive(Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Where a copy comes from.
#[derive(Debug)]
pub(crate) struct CopySender(mpsc::Sender<Part>);

/// The copy of a body.
#[derive(Debug)]
pub(crate) struct Copied {
    parts: mpsc::Receiver<Part>,
    hint: SizeHint,
    /// Bytes that may still come.
    left: u64,
    ended: bool,
}

impl CopySender {
    /// Passes a part on; says whether there is still somebody who keeps up.
    pub(super) fn pass(&self, frame: &Frame<Bytes>) -> bool {
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Part::Data(data.clone()),
            (_, Some(trailers)) => Part::Trailers(trailers.clone()),
            _ => return true,
        };
        self.0.try_send(part).is_ok()
    }

    /// Says that this was all.
    pub(super) fn end(self) {
        // Whoever can't take that is broken off.
        drop(self.0.try_send(Part::End));
    }
}

impl Copied {
    /// A copy of a body of that size; one of more than so many bytes is broken off.
    pub(crate) fn new(hint: SizeHint, bytes_max: Option<u64>) -> (CopySender, Self) {
        let (sender, parts) = mpsc::channel(limits::MIRROR_CHUNKS);
        let copy = Self {
            parts,
            hint,
            left: bytes_max.unwrap_or(u64::MAX),
            ended: false,
        };
        (CopySender(sender), copy)
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.parts.poll_recv(cx)) {
            Some(Part::Data(data)) => match self.left.checked_sub(data.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Some(Ok(Frame::data(data)))
                }
                None => Some(Err(BodyError::TooLarge)),
            },
            Some(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Part::End) => {
                self.ended = true;
                None
            }
            None => Some(Err(BodyError::Superseded)),
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.ended
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
