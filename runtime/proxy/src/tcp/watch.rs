//! What ends a connection of bytes before its own end: its peer is no longer trusted, a newer policy does not let it
//! in, it has lasted as long as policy lets it, or the proxy's own end has come. There are no requests after which one could look again.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::telemetry::Reason;
use tokio::sync::watch;

use super::passing::Ended;
use crate::data_plane::Plane;

/// Changes that make a connection be looked at again; taken before it was looked at first, so that no change
/// falls in between.
#[derive(Debug)]
pub(crate) struct Changes {
    trust: watch::Receiver<()>,
    policy: watch::Receiver<()>,
    cut: DrainWatcher,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut(pub(crate) Reason);

impl Changes {
    /// `trust` is from before the handshake.
    pub(crate) fn new(trust: watch::Receiver<()>, plane: &Plane) -> Self {
        Self {
            trust,
            policy: plane.policy_changes(),
            cut: plane.cut(),
        }
    }

    /// Passes bytes on until they end, or until the connection may not go on.
    pub(crate) async fn watch(
        mut self,
        plane: &Plane,
        passing: impl Future<Output = Ended>,
        longest: Option<Duration>,
        is_trusted: impl Fn() -> bool,
        may_go_on: impl Fn() -> bool,
    ) -> Result<Ended, Cut> {
        let mut passing = pin!(passing);
        let lasted = async {
            match longest {
                Some(longest) => tokio::time::sleep(longest).await,
                None => std::future::pending().await,
            }
        };
        let mut lasted = pin!(lasted);
        loop {
            tokio::select! {
                ended = &mut passing => return Ok(ended),
                () = self.cut.draining() => return Err(Cut(Reason::Draining)),
                () = &mut lasted => {
                    plane.metrics.timed_out("max_duration");
                    return Err(Cut(Reason::RequestTimeout));
                }
                changed = self.trust.changed() => {
                    if changed.is_err() || !is_trusted() {
                        return Err(Cut(Reason::TlsFailure));
                    }
                }
                changed = self.policy.changed() => {
                    if changed.is_err() || !may_go_on() {
                        return Err(Cut(Reason::AuthzDenied));
                    }
                }
            }
        }
    }
}
