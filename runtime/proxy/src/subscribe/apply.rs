//! From a generation that arrives to one that is served and confirmed: verified, prepared aside, and
//! swapped in when a head authorises it.

use std::time::Duration;

use mesh_bundle::acceptance::AcceptedPart;
use mesh_bundle::digest::Digest;
use mesh_bundle::head::GenerationRef;
use mesh_bundle::messages::bundle as wire;
use mesh_bundle::messages::distribution::{GenerationUpdate, Phase};
use mesh_bundle::reject::{RejectReason, Rejection};

use super::belief::{Offer, Received};
use super::endpoints::Callees;
use super::traffic::Traffic;
use super::{Serving, Subscriber, report};

/// How long a generation serves before it is confirmed.
const PROBATION: Duration = Duration::from_secs(5);

/// A generation whose tables are built.
#[derive(Debug)]
pub(super) struct Ready<P> {
    pub(super) offer: Offer,
    /// None where the slice is the one being served, or there is none.
    tables: Option<P>,
}

impl<P> Ready<P> {
    fn reference(&self) -> GenerationRef {
        self.offer.accepted.reference
    }

    fn slice(&self) -> Option<Digest> {
        slice_digest(&self.offer)
    }
}

/// A generation that serves and is not confirmed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probation {
    reference: GenerationRef,
    /// When it is over, on the clock since boot.
    ends_at: Duration,
}

impl Probation {
    fn begin(reference: GenerationRef, now: Duration) -> Self {
        Self {
            reference,
            ends_at: now + PROBATION,
        }
    }

    /// The seam for what a probation will count: `no_route`, `no_healthy_upstream`, `tls_failure` and
    /// crashes against the proxy's own baseline. Until then, having served for a while is enough.
    fn is_passed(&self, now: Duration) -> bool {
        now >= self.ends_at
    }
}

impl<T: Traffic> Subscriber<T> {
    pub(super) fn generation(&mut self, update: GenerationUpdate) {
        match self.belief.offer_generation(update) {
            Ok(Received::Accepted(offer)) => {
                self.report(Phase::Received, &offer);
                self.report(Phase::Verified, &offer);
                self.accepted(*offer);
            }
            Ok(Received::NeedsWholeSlice(generation)) => self.send(report::resend(generation)),
            Err(refused) => self.reject(refused.generation, &refused.rejection),
        }
    }

    fn accepted(&mut self, offer: Offer) {
        let is_served = self
            .serving
            .is_some_and(|serving| serving.reference == offer.accepted.reference);
        if is_served {
            // Sent again, under another trust root or by another distributor.
            self.report_phase(Phase::Serving);
            return;
        }
        match self.prepare(offer) {
            Ok(ready) => {
                self.report(Phase::Prepared, &ready.offer);
                self.ready = Some(ready);
                self.advance();
            }
            Err((reference, rejection)) => self.reject(reference.into(), &rejection),
        }
    }

    /// Builds what serving a generation takes, aside.
    pub(super) fn prepare(
        &self,
        offer: Offer,
    ) -> Result<Ready<T::Prepared>, (GenerationRef, Rejection)> {
        let reference = offer.accepted.reference;
        let served = self.serving.and_then(|serving| serving.slice);
        let tables = match &offer.accepted.part {
            AcceptedPart::Slice { digest, .. } if served == Some(*digest) => None,
            AcceptedPart::Slice { slice, .. } => {
                let name = reference.order.to_string();
                let tables = self
                    .context
                    .traffic
                    .prepare(slice, &name)
                    .map_err(|detail| {
                        let rejection = Rejection::new(RejectReason::PolicyInvalid, detail);
                        (reference, rejection)
                    })?;
                Some(tables)
            }
            AcceptedPart::Absent => None,
        };
        Ok(Ready { offer, tables })
    }

    /// Serves what the heads name, if that is not what is being served and it is at hand.
    pub(super) fn advance(&mut self) {
        let now = self.belief.now();
        let Some(target) = self.belief.acceptance().target(now) else {
            return;
        };
        let serving = self.serving.map(|serving| serving.reference);
        if serving == Some(target) {
            return;
        }
        if serving.is_none() {
            let missing = self.belief.acceptance().missing(now);
            if !missing.is_empty() {
                tracing::info!(?missing, "not ready before this is there");
                return;
            }
        }
        let next = match self.ready.take() {
            Some(ready) if ready.reference() == target => Some(ready),
            other => {
                self.ready = other;
                self.prepare_stored(target)
            }
        };
        let Some(next) = next else { return };
        if let Some(previous) = serving.filter(|previous| target.order < previous.order) {
            self.report_reverted(previous);
        }
        self.serve(next);
    }

    fn prepare_stored(&mut self, wanted: GenerationRef) -> Option<Ready<T::Prepared>> {
        let offer = self.belief.stored_offer(&wanted)?;
        match self.prepare(offer) {
            Ok(ready) => Some(ready),
            Err((reference, rejection)) => {
                self.reject(reference.into(), &rejection);
                None
            }
        }
    }

    /// Makes a prepared generation the one that is served.
    pub(super) fn serve(&mut self, ready: Ready<T::Prepared>) {
        let slice = ready.slice();
        let (reference, generation) = (ready.reference(), &ready.offer.accepted.generation);
        self.discovery
            .set_callees(match &ready.offer.accepted.part {
                AcceptedPart::Slice { slice, .. } => Callees::from(&**slice),
                AcceptedPart::Absent => Callees::default(),
            });
        let swap = match ready.tables {
            Some(tables) => {
                let endpoints = self.endpoints_to_use();
                self.context.traffic.swap(tables, endpoints)
            }
            None => {
                if slice.is_none() {
                    self.context.traffic.deny_all();
                    self.judge_endpoints();
                }
                Duration::ZERO
            }
        };
        let swap_ns = u64::try_from(swap.as_nanos()).unwrap_or(u64::MAX);
        tracing::info!(generation = %reference.order, commit = %generation.commit, swap_ns, "serving");
        let commit = generation.commit.to_string();
        self.context.view.update(|state| {
            state.sequence = Some(reference.order.sequence);
            state.order = Some(reference.order.to_string());
            state.commit = Some(commit);
            state.generation = Some(reference.digest.to_string());
            state.slice = slice.map(|digest| digest.to_string());
            state.swap_ns = Some(swap_ns);
            state.denied = slice.is_none();
        });
        self.serving = Some(Serving { reference, slice });
        self.belief.set_serving(&ready.offer);
        let mut status = self.status(Phase::Serving, &ready.offer);
        status.swap_ns = swap_ns;
        self.send_status(&status);
        self.save();
        let confirmed = self.belief.acceptance().confirmed() == Some(reference);
        self.probation =
            (!confirmed).then(|| Probation::begin(reference, self.context.clock.boot()));
        self.show_floor();
    }

    /// Confirms what has served for long enough.
    pub(super) fn judge_probation(&mut self) {
        let now = self.context.clock.boot();
        let Some(probation) = self.probation.filter(|probation| probation.is_passed(now)) else {
            return;
        };
        self.probation = None;
        match self.belief.confirm(probation.reference) {
            Ok(()) => {
                self.show_floor();
                // The floor must last before anyone hears of it.
                if self.save() {
                    self.report_phase(Phase::Confirmed);
                } else {
                    self.probation = Some(Probation::begin(probation.reference, now));
                }
            }
            // Its key was dropped: it is served on, reported, and never confirmed.
            Err(rejection) => self.reject(probation.reference.into(), &rejection),
        }
    }

    /// Counts, logs and reports a refusal.
    fn reject(&mut self, generation: wire::GenerationRef, rejection: &Rejection) {
        self.refused(rejection);
        if generation.digest.is_empty() {
            return;
        }
        let status = report::rejected(generation, rejection, self.context.clock.wall_ms());
        self.send_status(&status);
    }

    fn report_reverted(&mut self, previous: GenerationRef) {
        tracing::warn!(generation = %previous.order, "stepping down: the head aborted it");
        let at_ms = self.context.clock.wall_ms();
        let mut status = report::status(Phase::Reverted, previous.into(), None, at_ms);
        "aborted by the head".clone_into(&mut status.detail);
        self.send_status(&status);
    }

    fn report(&mut self, phase: Phase, offer: &Offer) {
        let status = self.status(phase, offer);
        self.send_status(&status);
    }

    fn report_phase(&mut self, phase: Phase) {
        let Some(Serving { reference, slice }) = self.serving else {
            return;
        };
        let at_ms = self.context.clock.wall_ms();
        let status = report::status(phase, reference.into(), slice, at_ms);
        self.send_status(&status);
    }

    fn status(&self, phase: Phase, offer: &Offer) -> mesh_bundle::messages::distribution::Status {
        let reference = offer.accepted.reference.into();
        let at_ms = self.context.clock.wall_ms();
        report::status(phase, reference, slice_digest(offer), at_ms)
    }

    fn show_floor(&self) {
        let acceptance = self.belief.acceptance();
        let floor = acceptance.floor().map(|floor| floor.to_string());
        let confirmed = acceptance.confirmed().map(|it| it.order.to_string());
        self.context.view.update(|state| {
            state.floor = floor;
            state.confirmed = confirmed;
        });
    }
}

fn slice_digest(offer: &Offer) -> Option<Digest> {
    match &offer.accepted.part {
        AcceptedPart::Slice { digest, .. } => Some(*digest),
        AcceptedPart::Absent => None,
    }
}
