//! Trust over time: roots, bundles, revocations and heads as they arrive, and what changes with them.

use std::time::Duration;

use mesh_bundle::acceptance::Change;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::messages::bundle as wire;
use mesh_bundle::reject::Rejection;
use mesh_daemon::identity::Usage;

use super::belief::Belief;
use super::traffic::Traffic;
use super::{SAVE_HEADS_EVERY, Subscriber, chain, directory};

impl<T: Traffic> Subscriber<T> {
    pub(super) fn trust_root(&mut self, envelope: wire::Envelope) -> Result<(), Rejection> {
        let change = self
            .belief
            .offer_trust_root(Envelope::try_from(envelope)?)?;
        if change == Change::Applied {
            let version = self.belief.acceptance().trust_root().version;
            tracing::info!(version, "new trust root");
            self.directory.send_replace(directory(&self.belief));
        }
        self.trust_data(Ok(change))
    }

    pub(super) fn trust_data(
        &mut self,
        offered: Result<Change, Rejection>,
    ) -> Result<(), Rejection> {
        if offered? == Change::Applied {
            self.trust_changed();
            self.judge_distributor();
            self.save();
            self.advance();
            // The distributor may wait to hear of it, to go on with a rotation.
            self.heartbeat();
        }
        Ok(())
    }

    pub(super) fn head(&mut self, envelope: wire::Envelope) -> Result<(), Rejection> {
        let says = |belief: &Belief| {
            let heads = belief.acceptance().heads();
            let says: Vec<_> = heads
                .map(|head| (head.current, head.candidate, head.aborted.clone()))
                .collect();
            says
        };
        let before = says(&self.belief);
        let offer = self.belief.offer_head(Envelope::try_from(envelope)?)?;
        if offer.change == Change::Applied {
            self.head_seen();
            self.advance();
            let now = self.context.clock.boot();
            if says(&self.belief) != before || now >= self.heads_saved_at + SAVE_HEADS_EVERY {
                self.heads_saved_at = now;
                self.save();
            }
        }
        Ok(())
    }

    /// Everything that changes with the trust root, the trust bundles or the revocations.
    pub(super) fn trust_changed(&mut self) {
        match self.belief.trust_store() {
            Ok(trust) => {
                self.context.credentials.set_trust(trust);
                self.context.traffic.recheck_peers();
            }
            // Signed by people, and yet no certificate: what was trusted before stays.
            Err(error) => tracing::error!(error = chain(&error), "trust bundle cannot be used"),
        }
        self.judge_endpoints();
        let acceptance = self.belief.acceptance();
        let version = acceptance.trust_root().version;
        let identity = self.context.workload.identity.to_string();
        let floor = acceptance.floor().map(|floor| floor.to_string());
        self.context.view.update(|state| {
            state.trust_root_version = Some(version);
            state.identity = Some(identity);
            state.floor = floor;
        });
    }

    /// Ends the stream of a distributor that today's trust does not vouch for: what it says of
    /// endpoints is not signed.
    fn judge_distributor(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        let listed = &self.belief.acceptance().trust_root().distributors;
        let trusted = self
            .context
            .credentials
            .judge_again(connection.server_chain(), Usage::Server)
            .is_ok_and(|server| listed.contains(&server.spiffe_id));
        if !trusted {
            tracing::warn!("the distributor is not trusted any more");
            self.give_up_stream();
        }
    }

    pub(super) fn head_seen(&mut self) {
        let issued_ms = self.belief.acceptance().head_issued_ms();
        let age_ms = self.context.clock.wall_ms().saturating_sub(issued_ms);
        let issued = self
            .context
            .clock
            .boot()
            .checked_sub(Duration::from_millis(age_ms))
            // Issued before this machine was started.
            .unwrap_or_default();
        let stale = self.belief.acceptance().is_stale(self.belief.now());
        self.context.view.update(|state| {
            state.head_issued = (issued_ms > 0).then_some(issued);
            state.stale = stale;
        });
    }
}
