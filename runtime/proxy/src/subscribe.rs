//! The control side of the proxy: joins a mesh, follows a distributor, believes what is signed, and
//! hands the traffic side what to carry. It runs on a thread of its own and does nothing per request.
//!
//! Whatever fails here leaves the last good state serving: a refusal is reported, a lost stream is
//! opened again, and without any distributor the store is enough.

mod apply;
pub(crate) mod belief;
pub(crate) mod endpoints;
mod enrol;
mod link;
mod renew;
mod report;
#[cfg(test)]
mod tests;
mod traffic;
mod trust;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::acceptance::Workload;
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::head::GenerationRef;
use mesh_bundle::messages::distribution::follow_request::Kind as Request;
use mesh_bundle::messages::distribution::follow_response::Kind as Response;
use mesh_bundle::messages::distribution::{Endpoints, FollowResponse, Status};
use mesh_bundle::reject::Rejection;
use mesh_bundle::slice::Label;
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::Credentials;
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::MutualConnection;
use mesh_daemon::store::Store;
use prost::Message;
use tokio::sync::{Notify, mpsc, watch};

use belief::{Belief, Offer};
use link::{Backoff, Directory, Event, Opening};
use report::Outbox;
pub(crate) use traffic::Traffic;
use view::View;

use crate::data_plane::EndpointSet;
use apply::{Probation, Ready};
use endpoints::Discovery;
use renew::Renewal;

/// How often the control side looks at its clocks. Tests move the clocks by hand and want it seen.
const TICK: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// How often a distributor is told what is being served.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// How often heads are written, unless they say something new: they come every 30 seconds, and their
/// counter only has to rise.
const SAVE_HEADS_EVERY: Duration = Duration::from_mins(5);

/// Messages of a distributor that wait for the control side.
const EVENTS: usize = 16;

/// With what the proxy starts.
#[derive(Debug)]
pub(crate) enum Start {
    /// A store without anything in it.
    Join {
        /// The anchor.
        join: Box<JoinFile>,
        /// To be filled.
        store: Store,
    },
    /// What was believed before.
    Stored {
        /// All of it.
        belief: Box<Belief>,
        /// What may be served, the last served first.
        offers: Vec<Offer>,
    },
}

/// What the control side works with.
#[derive(Debug)]
pub(crate) struct Context<T> {
    /// Whom it serves.
    pub(crate) traffic: Arc<T>,
    /// Shared with the traffic side.
    pub(crate) credentials: Credentials,
    /// Both clocks.
    pub(crate) clock: Clock,
    /// What it shows.
    pub(crate) view: View,
    /// Who believes.
    pub(crate) workload: Workload,
    /// Of this instance.
    pub(crate) labels: Vec<Label>,
    /// Where a join file may be; it is removed when it has been used.
    pub(crate) join_path: Option<PathBuf>,
}

/// Runs the control side; it ends when it is dropped.
pub(crate) async fn run<T: Traffic>(start: Start, context: Context<T>) {
    let mut subscriber = match start {
        Start::Stored { belief, offers } => {
            let mut subscriber = Subscriber::new(*belief, context);
            subscriber.boot(offers);
            subscriber.remove_used_join_file();
            subscriber
        }
        Start::Join { join, store } => {
            let belief = begin(&join, store, &context).await;
            Subscriber::new(belief, context)
        }
    };
    subscriber.follow().await;
}

/// Asks the distributors of a join file in turn until one has what the file pins.
async fn begin<T>(join: &JoinFile, mut store: Store, context: &Context<T>) -> Belief {
    let mut backoff = Backoff::default();
    for address in join.addresses.iter().cycle() {
        let workload = context.workload.clone();
        match enrol::begin(address, join, store, workload, &context.clock).await {
            Ok(belief) => return belief,
            Err((back, error)) => {
                store = back;
                if let enrol::EnrolError::Rejected(rejection) = &error {
                    context.view.rejected(rejection, context.clock.wall_ms());
                }
                warn(&error, "could not begin with", address);
                tokio::time::sleep(backoff.next(error.is_refused())).await;
            }
        }
    }
    unreachable!("a join file has an address, so the turns never end")
}

struct Subscriber<T: Traffic> {
    context: Context<T>,
    belief: Belief,
    directory: watch::Sender<Directory>,
    outbox: Option<Outbox>,
    connection: Option<MutualConnection>,
    cut: Arc<Notify>,
    renewal: Renewal,
    /// Prepared aside, and not authorised by a head yet.
    ready: Option<Ready<T::Prepared>>,
    serving: Option<Serving>,
    probation: Option<Probation>,
    discovery: Discovery,
    endpoints_version: u64,
    heartbeat_at: Duration,
    heads_saved_at: Duration,
    /// Why each distributor could not be followed, so that it is said once.
    unanswered: BTreeMap<String, String>,
}

/// What the traffic side carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Serving {
    reference: GenerationRef,
    /// None: denied, since there is no slice.
    slice: Option<Digest>,
}

impl<T: Traffic> Subscriber<T> {
    fn new(belief: Belief, context: Context<T>) -> Self {
        let (directory, _) = watch::channel(directory(&belief));
        let now = context.clock.boot();
        let mut subscriber = Self {
            context,
            belief,
            directory,
            outbox: None,
            connection: None,
            cut: Arc::new(Notify::new()),
            renewal: Renewal::default(),
            ready: None,
            serving: None,
            probation: None,
            discovery: Discovery::default(),
            endpoints_version: 0,
            heartbeat_at: now,
            heads_saved_at: now,
            unanswered: BTreeMap::new(),
        };
        subscriber.trust_changed();
        subscriber.load_certificate();
        subscriber.head_seen();
        subscriber
    }

    /// Serves what the store holds, without asking anyone.
    fn boot(&mut self, offers: Vec<Offer>) {
        if let Some(endpoints) = self.belief.contents().endpoints.clone() {
            match Endpoints::decode(endpoints.as_slice()) {
                Ok(endpoints) => self.use_endpoints(endpoints),
                Err(error) => tracing::warn!(%error, "stored endpoints do not decode"),
            }
        }
        for offer in offers {
            match self.prepare(offer) {
                Ok(ready) => {
                    self.serve(ready);
                    return;
                }
                Err((_, rejection)) => self.refused(&rejection),
            }
        }
        let floor = self.belief.acceptance().floor();
        let floor = floor.map_or_else(|| "none".to_owned(), |floor| floor.to_string());
        tracing::error!(
            floor,
            "nothing that is stored may be served: not ready before a distributor answers"
        );
    }

    /// Gets a certificate if there is none, then follows distributors for ever.
    async fn follow(&mut self) {
        self.ensure_certificate().await;
        let (sender, mut events) = mpsc::channel(EVENTS);
        let credentials = self.context.credentials.clone();
        let (directory, cut) = (self.directory.subscribe(), Arc::clone(&self.cut));
        let link = tokio::spawn(link::run(credentials, directory, cut, sender));
        let _ends_with_us = AbortOnDrop(link.abort_handle());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Opening(opening)) => self.opened(*opening),
                    Some(Event::Message(message)) => self.message(*message),
                    Some(Event::Lost { address, error }) => {
                        self.lost(&address, &error);
                        if !self.has_certificate() {
                            self.ensure_certificate().await;
                        }
                    }
                    None => return,
                },
                renewed = self.renewal.finished() => self.renewed(renewed),
                _ = tick.tick() => self.ticked(),
            }
        }
    }

    fn opened(&mut self, opening: Opening) {
        let Opening {
            address,
            svid,
            outbox,
            connection,
        } = opening;
        tracing::info!(distributor = address, "following");
        self.outbox = Some(Outbox::new(outbox, svid));
        self.connection = Some(connection);
        // A feed's versions are those of one distributor process.
        self.endpoints_version = 0;
        self.context
            .view
            .update(|state| state.distributor = Some(address));
        let instance = &self.context.workload.instance;
        let hello = report::hello(&self.belief, instance, &self.context.labels);
        self.send(hello);
        self.heartbeat();
    }

    fn lost(&mut self, address: &str, error: &link::LinkError) {
        if self.outbox.take().is_some() {
            warn(error, "lost the stream of", address);
            self.unanswered.clear();
        } else if self
            .unanswered
            .insert(address.to_owned(), chain(error))
            .is_none_or(|last| last != chain(error))
        {
            tracing::info!(
                error = chain(error),
                distributor = address,
                "could not follow, and goes on trying"
            );
        }
        self.connection = None;
        self.context.view.update(|state| state.distributor = None);
    }

    fn message(&mut self, message: FollowResponse) {
        if self.outbox.is_none() {
            // Of a stream that was given up: it may have been for want of trust.
            return;
        }
        let judged = match message.kind {
            Some(Response::TrustRoot(envelope)) => self.trust_root(envelope),
            Some(Response::TrustBundle(envelope)) => {
                let offered = Envelope::try_from(envelope)
                    .and_then(|envelope| self.belief.offer_trust_bundle(envelope));
                self.trust_data(offered)
            }
            Some(Response::Revocations(envelope)) => {
                let offered = Envelope::try_from(envelope)
                    .and_then(|envelope| self.belief.offer_revocations(envelope));
                self.trust_data(offered)
            }
            Some(Response::Head(envelope)) => self.head(envelope),
            Some(Response::Generation(update)) => {
                self.generation(update);
                Ok(())
            }
            Some(Response::Endpoints(endpoints)) => {
                self.endpoints(endpoints);
                Ok(())
            }
            Some(Response::Renew(renew)) => {
                self.renew_within(Duration::from_secs(renew.within_s.into()));
                Ok(())
            }
            // A newer distributor may say more than we know.
            None => Ok(()),
        };
        if let Err(rejection) = judged {
            self.refused(&rejection);
        }
    }

    fn endpoints(&mut self, endpoints: Endpoints) {
        self.endpoints_version = endpoints.version;
        self.belief.set_endpoints(&endpoints);
        self.use_endpoints(endpoints);
        self.save();
    }

    fn use_endpoints(&mut self, endpoints: Endpoints) {
        self.discovery.set_feed(endpoints);
        self.judge_endpoints();
    }

    /// Uses what may be used of the feed under the root in force and the slice that is served.
    fn judge_endpoints(&mut self) {
        if let Some(sets) = self.endpoints_to_use() {
            self.context.traffic.set_endpoints(sets);
        }
    }

    /// The endpoints that the traffic side should have, if it has others. What is refused is told
    /// once.
    fn endpoints_to_use(&mut self) -> Option<Vec<EndpointSet>> {
        let development = self.belief.acceptance().trust_root().development;
        let news = self.discovery.judge(development);
        for ((service, why), count) in &news.refused {
            let reason = why.as_str();
            tracing::warn!(service, reason, count, "refused discovered endpoints");
            self.context.view.refused_endpoints(*why, *count);
        }
        if let Some(sets) = &news.used {
            self.context.view.set_endpoints(sets);
        }
        news.used
    }

    fn ticked(&mut self) {
        let stale = self.belief.acceptance().is_stale(self.belief.now());
        if stale && !self.context.view.get().stale {
            tracing::warn!("no fresh head: serving on, not advancing");
        }
        let expired = self.context.credentials.svid().is_some_and(|svid| {
            svid.identity().not_after < self.context.clock.unix_time().as_secs()
        });
        if expired && !self.context.view.get().certificate_expired {
            tracing::error!("the certificate has expired: no peer takes it, and nobody renewed it");
        }
        self.context.view.update(|state| {
            state.stale = stale;
            state.certificate_expired = expired;
        });
        if self.context.clock.boot() >= self.heartbeat_at {
            self.heartbeat();
        }
        self.judge_probation();
        self.renew_if_due();
    }

    fn heartbeat(&mut self) {
        self.heartbeat_at = self.context.clock.boot() + HEARTBEAT_EVERY;
        let generation = self.serving.map(|serving| serving.reference);
        let slice = self.serving.and_then(|serving| serving.slice);
        let acceptance = self.belief.acceptance();
        let own = acceptance.trust_bundle(&self.belief.contents().scope.trust_domain);
        self.send(report::heartbeat(
            generation,
            slice,
            self.endpoints_version,
            own.map_or(0, |bundle| bundle.version),
        ));
    }

    fn send(&mut self, request: Request) {
        let sent = self.outbox.as_ref().map(|outbox| outbox.send(request));
        self.was_sent(sent);
    }

    fn send_status(&mut self, status: &Status) {
        let sent = self
            .outbox
            .as_ref()
            .map(|outbox| outbox.send_status(status));
        self.was_sent(sent);
    }

    fn was_sent(&mut self, sent: Option<bool>) {
        if sent == Some(false) {
            tracing::warn!("the distributor takes no messages");
            self.give_up_stream();
        }
    }

    /// The link then opens another.
    fn give_up_stream(&mut self) {
        self.outbox = None;
        self.connection = None;
        self.cut.notify_one();
    }

    /// A refusal that no generation can be named for, or that has been reported.
    fn refused(&self, rejection: &Rejection) {
        tracing::warn!(
            reason = rejection.as_str(),
            detail = rejection.detail(),
            "refused"
        );
        self.context
            .view
            .rejected(rejection, self.context.clock.wall_ms());
    }

    /// Nothing stops because a disk is full: what is served goes on, and a restart begins earlier.
    /// Says whether it was written.
    fn save(&mut self) -> bool {
        let saved = self.belief.save();
        if let Err(error) = &saved {
            tracing::error!(error = chain(error), "could not write the store");
        }
        saved.is_ok()
    }
}

fn directory(belief: &Belief) -> Directory {
    Directory {
        addresses: belief.contents().addresses.clone(),
        distributors: belief.acceptance().trust_root().distributors.clone(),
    }
}

/// Ends a task with its owner.
#[derive(Debug)]
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn warn(error: &dyn std::error::Error, what: &str, address: &str) {
    tracing::warn!(
        error = chain(error),
        distributor = address,
        "{what} the distributor"
    );
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
