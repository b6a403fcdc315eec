//! A body that is not asked for before the next hop wants it, or refuses it: reading it would tell the client to go on
//! (RFC 9110 section 10.1.1).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::{Body as _, Frame};
use tokio::sync::Notify;

use super::{BodyError, RequestBody};
use crate::limits;

/// A body that waits for `100 Continue`.
pub(crate) struct Held {
    pub(super) body: RequestBody,
    /// None: it does not wait any more.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Held {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(cx));
            self.until = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

/// Asks the next hop whether it wants the body, which goes out only then. A hop that does not say so gets it all the
/// same after a while, as from any client.
pub(crate) fn hold(request: Request<RequestBody>) -> Request<RequestBody> {
    if request.body().is_end_stream() {
        return request;
    }
    let wanted = Arc::new(Notify::new());
    let told = Arc::clone(&wanted);
    let until = async move {
        // Either way it goes out.
        drop(tokio::time::timeout(limits::CONTINUE_TIMEOUT, wanted.notified()).await);
    };
    let mut request = request.map(|body| {
        RequestBody::Held(Box::new(Held {
            body,
            until: Some(Box::pin(until)),
        }))
    });
    let expectation = HeaderValue::from_static("100-continue");
    request.headers_mut().insert(header::EXPECT, expectation);
    hyper::ext::on_informational(&mut request, move |answer| {
        if answer.status() == StatusCode::CONTINUE {
            told.notify_one();
        }
    });
    request
}
