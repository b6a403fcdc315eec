//! Tries beside one that takes long: whichever is answered first counts, and the others are taken back.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mesh_bundle::slice::Hedge;
use mesh_engine::breaker::Counted;
use mesh_engine::retry::RetryState;
use tokio::time::Instant;

use super::super::body::{ReplayHandle, RequestBody};
use super::Exchanging;
use super::attempt::{Attempt, Done};
use super::forward::{Terms, take};
use crate::upstream::pool::Endpoint;

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

impl Exchanging<'_> {
    /// Makes a try, and others beside it as long as none is answered well. What of them failed before is noted; gives the
    /// one that counts.
    pub(super) async fn race(
        &mut self,
        first: Attempt,
        hedge: Hedge,
        terms: &Terms<'_>,
        tries: &mut RetryState<'_>,
        tried: &mut Vec<Arc<Endpoint>>,
        replay: Option<&ReplayHandle>,
    ) -> Done {
        let mut asked = vec![Arc::clone(&first.picked.endpoint)];
        let mut running = Running::new();
        running.push(Box::pin(first.run()));
        let mut next = Some(Instant::now() + hedge.delay);
        loop {
            let done = tokio::select! {
                biased;
                Some(done) = running.next() => done,
                () = until(next) => {
                    next = match self.beside(hedge, terms, tries, &asked, replay) {
                        None if replay.is_some_and(ReplayHandle::is_coming) => {
                            Some(Instant::now() + hedge.delay)
                        }
                        None => None,
                        Some(attempt) => {
                            asked.push(Arc::clone(&attempt.picked.endpoint));
                            running.push(Box::pin(attempt.run()));
                            Some(Instant::now() + hedge.delay)
                        }
                    };
                    continue;
                }
            };
            if running.is_empty() || self.is_good(&done, terms.policy) {
                // Dropped, the others are taken back.
                return done;
            }
            self.count_retry(tries, false);
            let broken = terms.transfer.is_broken();
            let (picked, _) = self.note(done, broken);
            tried.push(picked.endpoint);
        }
    }

    /// Another try beside those at `asked`, if there may be one and the request can be sent again while it is sent.
    fn beside(
        &mut self,
        hedge: Hedge,
        terms: &Terms<'_>,
        tries: &mut RetryState<'_>,
        asked: &[Arc<Endpoint>],
        replay: Option<&ReplayHandle>,
    ) -> Option<Attempt> {
        let body = match replay {
            None => RequestBody::Empty,
            Some(handle) => RequestBody::Replay(handle.beside()?),
        };
        let picked = terms.pick(asked)?;
        let held = take(&picked, Counted::Requests).ok()?;
        let now = Instant::now().into_std();
        let gate = picked.pool().and_then(|pool| pool.gate().cloned());
        let bounds = terms.bounds(gate.as_ref());
        let permit = tries.hedge(hedge.attempts, now, bounds)?;
        self.record.attempts = tries.tries();
        let limit = tries.try_timeout(now);
        Some(self.attempt(terms, (picked, held, Some(permit)), body, true, limit))
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
