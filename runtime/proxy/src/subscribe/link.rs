//! The connection to a distributor: opens the stream, passes messages on, and opens it anew when it
//! is lost. It judges nothing and remembers nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::messages::distribution::{FollowRequest, FollowResponse};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::{Credentials, Svid};
use mesh_daemon::rpc::{ConnectError, MutualConnection};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tonic::Streaming;

/// Requests that wait for the stream; when more do, the stream is stuck and given up.
const OUTBOX: usize = 64;

/// First pause before connecting again, doubled each time up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Longest pause before connecting again: a proxy whose certificate has expired is back within 5 s of its issuer.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Longest pause while nobody listens there. Asking costs nobody anything, and the one who comes back
/// is a distributor that was restarted: its fleet should not keep it waiting.
const PAUSE_MAX_REFUSED: Duration = Duration::from_millis(500);

/// Tries after which a distributor that nobody listens for is no restart any more: about a minute.
const RESTART_TRIES: u32 = 200;

/// A stream that lived this long worked.
const SETTLED: Duration = Duration::from_secs(5);

/// Where to connect and whom to find there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// `host:port`, tried in turn.
    pub(crate) addresses: Vec<String>,
    /// Identities of distributors by the trust root.
    pub(crate) distributors: BTreeSet<SpiffeId>,
}

/// What the connection tells the control side.
#[derive(Debug)]
pub(crate) enum Event {
    /// The stream is being opened; the first thing that it waits for is a hello.
    Opening(Box<Opening>),
    /// A message.
    Message(Box<FollowResponse>),
    /// There is no stream, and it will be tried again.
    Lost {
        /// Where.
        address: String,
        /// Why.
        error: LinkError,
    },
}

/// A stream that is being opened.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Where.
    pub(crate) address: String,
    /// As whom; what is sent on the stream is signed with its key.
    pub(crate) svid: Arc<Svid>,
    /// What is sent on the stream; dropping it ends the stream.
    pub(crate) outbox: mpsc::Sender<FollowRequest>,
    /// For renewals beside the stream.
    pub(crate) connection: MutualConnection,
}

/// Why there is no stream.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The distributor ended the stream with a status.
    #[error("distributor ended the stream: {}", .0.message())]
    Status(tonic::Status),
    /// The stream ended.
    #[error("distributor ended the stream")]
    Ended,
    /// The trust root names no distributor, or the join file no address.
    #[error("no distributor is known")]
    Nobody,
    /// The distributor is not trusted any more.
    #[error("distributor is not trusted any more")]
    Cut,
    /// There is no certificate to show.
    #[error("no certificate")]
    NoCertificate,
}

/// The message is in the text; as a source it would be told twice.
impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status)
    }
}

impl LinkError {
    /// Nobody listened.
    fn is_refused(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_refused())
    }
}

/// Pauses that grow, spread so that a fleet does not come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: at random up to a bound that doubles. It stays short for a while if nobody
    /// listened.
    pub(crate) fn next(&mut self, refused: bool) -> Duration {
        let longest = if refused && self.failures < RESTART_TRIES {
            PAUSE_MAX_REFUSED
        } else {
            PAUSE_MAX
        };
        let bound = PAUSE_FIRST
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        PAUSE_FIRST / 2 + bound.mul_f64(fastrand::f64())
    }

    /// A stream ended. One that was there for a while begins anew; one that ends each time as soon
    /// as it is open must not be opened ten times a second.
    fn ended_after(&mut self, life: Duration) {
        if life >= SETTLED {
            self.failures = 0;
        }
    }
}

/// Keeps a stream open for as long as anybody listens to `events`. Waking `cut` ends the stream that
/// is open, and begins the next.
pub(crate) async fn run(
    credentials: Credentials,
    directory: watch::Receiver<Directory>,
    cut: Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = Backoff::default();
    let mut turn = 0;
    while !events.is_closed() {
        let directory = directory.borrow().clone();
        let address = directory
            .addresses
            .get(turn % directory.addresses.len().max(1))
            .cloned()
            .unwrap_or_default();
        turn = turn.wrapping_add(1);
        let link = Link {
            credentials: &credentials,
            events: &events,
            cut: &cut,
            address: &address,
        };
        let Err(error) = link.follow(directory.distributors, &mut backoff).await else {
            return;
        };
        let refused = error.is_refused();
        if events.send(Event::Lost { address, error }).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.next(refused)).await;
    }
}

struct Link<'a> {
    credentials: &'a Credentials,
    events: &'a mpsc::Sender<Event>,
    /// Woken when the stream must end, whatever the distributor thinks of it.
    cut: &'a Notify,
    address: &'a str,
}

impl Link<'_> {
    /// Passes messages on until the stream is lost, or nobody listens.
    async fn follow(
        &self,
        distributors: BTreeSet<SpiffeId>,
        backoff: &mut Backoff,
    ) -> Result<(), LinkError> {
        if self.address.is_empty() || distributors.is_empty() {
            return Err(LinkError::Nobody);
        }
        let svid = self.credentials.svid().ok_or(LinkError::NoCertificate)?;
        let mut connection =
            MutualConnection::connect(self.address, self.credentials, distributors).await?;
        let (outbox, requests) = mpsc::channel(OUTBOX);
        let opening = Opening {
            address: self.address.to_owned(),
            svid,
            outbox,
            connection: connection.clone(),
        };
        if self
            .events
            .send(Event::Opening(Box::new(opening)))
            .await
            .is_err()
        {
            return Ok(());
        }
        let messages = connection.follow(requests).await?;
        let opened = Instant::now();
        let ended = self.pass_on(messages).await;
        backoff.ended_after(opened.elapsed());
        ended
    }

    async fn pass_on(&self, mut messages: Streaming<FollowResponse>) -> Result<(), LinkError> {
        loop {
            let message = tokio::select! {
                message = messages.message() => message?.ok_or(LinkError::Ended)?,
                () = self.cut.notified() => return Err(LinkError::Cut),
            };
            let event = Event::Message(Box::new(message));
            if self.events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(false) <= PAUSE_FIRST * 3 / 2);
        let longest = (0..200).map(|_| backoff.next(false)).max().unwrap();
        assert!(longest > PAUSE_MAX / 2 && longest <= PAUSE_MAX + PAUSE_FIRST / 2);
        backoff.ended_after(SETTLED / 2);
        let longest = (0..200).map(|_| backoff.next(false)).max().unwrap();
        assert!(longest > PAUSE_MAX / 2, "it ends as soon as it is open");
        backoff.ended_after(SETTLED);
        assert!(backoff.next(false) <= PAUSE_FIRST * 3 / 2);
    }

    #[test]
    fn what_a_distributor_says_is_told_once() {
        let error = LinkError::from(tonic::Status::unavailable("it is ending"));
        assert_eq!(
            crate::subscribe::chain(&error),
            "distributor ended the stream: it is ending"
        );
    }

    #[test]
    fn while_nobody_listens_pauses_stay_short_for_about_a_minute() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..RESTART_TRIES).map(|_| backoff.next(true)).collect();
        let longest = pauses.iter().max().unwrap();
        assert!(*longest <= PAUSE_MAX_REFUSED + PAUSE_FIRST / 2);
        let together: Duration = pauses.iter().sum();
        assert!((30..120).contains(&together.as_secs()), "{together:?}");
        let longest = (0..200).map(|_| backoff.next(true)).max().unwrap();
        assert!(longest > PAUSE_MAX / 2);
    }
}
