//! Decides what is served and says so: the one place that signs heads and revocations. Whatever
//! must never go back is on the disk before it is published.

pub(crate) mod revocations;
mod trust;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_bundle::head::{GenerationRef, Head as HeadStatement};
use mesh_bundle::reject::{RejectReason, Rejection};
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::Credentials;
use tokio::sync::watch;

use crate::endpoints::EndpointFeed;
use crate::events::Events;
use crate::generation::Served;
use crate::keys::Keys;
use crate::limits;
use crate::published::{Endpoints, Head, Object, Published};
use crate::revoke::Entries;
use crate::store::{Counters, Store, StoreError};
use crate::trust::{Bundle, Trust, TrustError, object};

/// Publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    inner: Mutex<Inner>,
    sender: watch::Sender<Arc<Published>>,
    keys: Arc<Keys>,
    credentials: Credentials,
    clock: Clock,
    events: Events,
}

#[derive(Debug)]
struct Inner {
    trust: Trust,
    /// What this issuer has revoked.
    own: Entries,
    store: Store,
    counters: Counters,
    generations: Vec<Arc<Served>>,
    endpoints: Option<Endpoints>,
}

/// Why something was not published; what was served before still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The generation may not follow the current one.
    #[error("the generation may not be served after the current one")]
    Order(#[source] Rejection),
    /// What we signed is not believed under our own trust root.
    #[error("what was signed here is not believed")]
    Own(#[source] Rejection),
    /// The trust data makes no store.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Publisher {
    /// Publishes what the state directory holds, with new revocations and a new head.
    pub(crate) fn start(
        trust: Trust,
        keys: Arc<Keys>,
        store: Store,
        credentials: Credentials,
        clock: Clock,
        events: Events,
    ) -> Result<Self, PublishError> {
        let generations = store.load(&trust.root)?;
        let endpoints = store.endpoints()?.map(|feed| Endpoints {
            version: clock.wall_ms(),
            feed: Arc::new(feed),
        });
        let counters = store.counters()?;
        let inner = Inner {
            trust,
            own: Entries::default(),
            store,
            counters,
            generations,
            endpoints,
        };
        let (sender, _receiver) = watch::channel(Arc::new(Published::default()));
        let publisher = Self {
            inner: Mutex::new(inner),
            sender,
            keys,
            credentials,
            clock,
            events,
        };
        let own = publisher.own_entries(&publisher.lock())?;
        publisher.lock().own = own;
        trust::keep_bundle(&publisher.lock())?;
        publisher.renew_revocations()?;
        Ok(publisher)
    }

    /// What is served now, and a wake-up for every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.sender.subscribe()
    }

    /// What is served now.
    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.sender.borrow())
    }

    /// Serves a verified generation from now on.
    pub(crate) fn accept(&self, served: Served) -> Result<(), PublishError> {
        let mut inner = self.lock();
        check_order(&inner.generations, &served).map_err(PublishError::Order)?;
        if inner
            .generations
            .last()
            .is_some_and(|last| last.digest() == served.digest())
        {
            let is_published = self
                .published()
                .current()
                .is_some_and(|current| current.digest() == served.digest());
            // It was kept, and then the disk was full before there was a head for it.
            return if is_published {
                Ok(())
            } else {
                self.publish(&mut inner)
            };
        }
        let mut generations = inner.generations.clone();
        generations.push(Arc::new(served));
        let beyond = generations.len().saturating_sub(limits::GENERATIONS_KEPT);
        generations.drain(..beyond);
        inner.store.save(&generations)?;
        inner.generations = generations;
        self.publish(&mut inner)
    }

    /// Signs the head anew.
    pub(crate) fn renew_head(&self) -> Result<(), PublishError> {
        self.publish(&mut self.lock())
    }

    /// Replaces the discovered endpoints.
    pub(crate) fn set_endpoints(&self, feed: EndpointFeed) -> Result<u64, PublishError> {
        let mut inner = self.lock();
        inner.store.save_endpoints(&feed)?;
        let last = inner
            .endpoints
            .as_ref()
            .map_or(0, |endpoints| endpoints.version);
        // The clock makes it rise across restarts too.
        let version = HeadStatement::next_issued(last, self.clock.wall_ms());
        inner.endpoints = Some(Endpoints {
            version,
            feed: Arc::new(feed),
        });
        let endpoints = inner.endpoints.clone();
        self.sender
            .send_modify(|published| Arc::make_mut(published).endpoints = endpoints);
        Ok(version)
    }

    /// Asks every proxy that is connected to renew its certificate within this time.
    pub(crate) fn ask_renewals(&self, within_s: u32) {
        self.sender.send_modify(|published| {
            let renewals = &mut Arc::make_mut(published).renewals;
            renewals.count += 1;
            renewals.within_s = within_s;
        });
    }

    /// The trust bundle of a domain as it is served.
    pub(crate) fn bundle(&self, domain: &str) -> Option<Bundle> {
        self.lock().trust.bundles.get(domain).cloned()
    }

    fn publish(&self, inner: &mut Inner) -> Result<(), PublishError> {
        let head = self.sign_head(inner)?;
        let trust = &inner.trust;
        let published = Published {
            trust_roots: trust.chain.clone(),
            trust_bundles: trust
                .bundles
                .values()
                .map(|bundle| bundle.object.clone())
                .collect(),
            revocations: trust
                .revocations
                .values()
                .map(|stream| stream.object.clone())
                .collect(),
            head,
            generations: inner.generations.clone(),
            endpoints: inner.endpoints.clone(),
            renewals: self.sender.borrow().renewals,
        };
        self.sender.send_replace(Arc::new(published));
        Ok(())
    }

    /// There is no head before the first generation: it would have nothing to name.
    fn sign_head(&self, inner: &mut Inner) -> Result<Option<Head>, PublishError> {
        let Some(current) = inner.generations.last() else {
            return Ok(None);
        };
        let key = self.keys.head.id().to_hex();
        let last = inner.counters.issued_ms.get(&key).copied().unwrap_or(0);
        let issued_ms = HeadStatement::next_issued(last, self.clock.wall_ms());
        let ahead_ms = issued_ms.saturating_sub(self.clock.wall_ms());
        if ahead_ms > limits::HEAD_AHEAD_MS_MAX {
            tracing::error!(
                ahead_ms,
                "this clock was set back behind the last head: proxies refuse heads until it has \
                 caught up, or the trust root names a new head key"
            );
        }
        let order = current.statement().order;
        let statement = HeadStatement {
            trust_root_version: inner.trust.root.version,
            issued_ms,
            expires_ms: issued_ms
                .saturating_add(u64::try_from(limits::HEAD_LIFE.as_millis()).unwrap_or(u64::MAX)),
            current: GenerationRef {
                order,
                digest: current.digest(),
            },
            candidate: None,
            aborted: Vec::new(),
            trust_bundles: inner
                .trust
                .bundles
                .values()
                .map(|bundle| bundle.reference.clone())
                .collect(),
            revocations: inner
                .trust
                .revocations
                .values()
                .map(|stream| stream.reference)
                .collect(),
        };
        inner.counters.issued_ms.insert(key, issued_ms);
        inner.store.save_counters(&inner.counters)?;
        let envelope = statement.seal(&inner.trust.root.scope, &[&self.keys.head]);
        inner
            .trust
            .root
            .verify_head(&envelope)
            .map_err(PublishError::Own)?;
        self.events.head_signed(issued_ms, order);
        let object: Object = object(String::new(), issued_ms, &envelope);
        Ok(Some(Head {
            object,
            expires_ms: statement.expires_ms,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Within an epoch the order rises; the same order with other content is equivocation.
fn check_order(generations: &[Arc<Served>], next: &Served) -> Result<(), Rejection> {
    let next = next.statement();
    let same_order = generations
        .iter()
        .map(|served| served.statement())
        .find(|known| known.order == next.order);
    if let Some(known) = same_order
        && (known.root != next.root || known.commit != next.commit)
    {
        let text = format!(
            "{} was served as commit {}, now it is {}",
            next.order, known.commit, next.commit
        );
        return Err(Rejection::new(RejectReason::Equivocation, text));
    }
    match generations.last().map(|last| last.statement().order) {
        Some(last) if next.order < last => Err(Rejection::new(
            RejectReason::OrderTooLow,
            format!("{} comes before {last}", next.order),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture::{Fixture, NOW_MS, slice};

    fn issued(publisher: &Publisher) -> u64 {
        publisher.published().head.as_ref().unwrap().object.version
    }

    #[test]
    fn a_head_always_rises_also_when_the_clock_steps_back_and_after_a_restart() {
        let fixture = Fixture::new(false);
        let clock = Clock::manual(NOW_MS);
        let publisher = fixture.publisher(&clock);
        assert!(publisher.published().head.is_none());
        publisher
            .accept(fixture.served(1, &[slice("a", &[])]))
            .unwrap();
        assert_eq!(issued(&publisher), NOW_MS);
        publisher.renew_head().unwrap();
        assert_eq!(issued(&publisher), NOW_MS + 1);
        clock.set_wall_ms(NOW_MS - 3_600_000);
        publisher.renew_head().unwrap();
        assert_eq!(issued(&publisher), NOW_MS + 2);
        drop(publisher);
        assert_eq!(issued(&fixture.publisher(&clock)), NOW_MS + 3);
    }

    #[test]
    fn a_head_lives_ten_minutes_and_names_what_is_served() {
        let fixture = Fixture::new(false);
        let clock = Clock::manual(NOW_MS);
        let publisher = fixture.publisher(&clock);
        let served = fixture.served(1, &[slice("a", &[])]);
        let digest = served.digest();
        publisher.accept(served).unwrap();
        let published = publisher.published();
        let head = published.head.as_ref().unwrap();
        let envelope = head.object.envelope.clone().try_into().unwrap();
        let statement = fixture.root.verify_head(&envelope).unwrap().into_value();
        assert_eq!(statement.current.digest, digest);
        assert_eq!(statement.life(), Duration::from_mins(10));
        assert_eq!(
            statement.trust_bundles[0].digest,
            published.trust_bundles[0].digest
        );
        assert_eq!(
            statement.revocations[0].digest,
            published.revocations[0].digest
        );
    }

    #[test]
    fn generations_only_move_forward() {
        let fixture = Fixture::new(false);
        let publisher = fixture.publisher(&Clock::manual(NOW_MS));
        publisher
            .accept(fixture.served(2, &[slice("a", &[])]))
            .unwrap();
        let refusal = |served| match publisher.accept(served) {
            Err(PublishError::Order(rejection)) => rejection.reason(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refusal(fixture.served(1, &[slice("a", &[])])),
            RejectReason::OrderTooLow
        );
        assert_eq!(
            refusal(fixture.served(2, &[slice("b", &[])])),
            RejectReason::Equivocation
        );
        publisher
            .accept(fixture.served(2, &[slice("a", &[])]))
            .unwrap();
        publisher
            .accept(fixture.served(3, &[slice("a", &[])]))
            .unwrap();
        assert_eq!(publisher.published().generations.len(), 2);
        for sequence in 4..20 {
            publisher
                .accept(fixture.served(sequence, &[slice("a", &[])]))
                .unwrap();
        }
        assert_eq!(
            publisher.published().generations.len(),
            limits::GENERATIONS_KEPT
        );
    }

    #[test]
    fn what_was_kept_and_got_no_head_is_published_by_the_next_try() {
        let fixture = Fixture::new(false);
        let publisher = fixture.publisher(&Clock::manual(NOW_MS));
        // A folder in the place of the file fails the write, as a full disk would.
        let counters = fixture.folder.path().join("state/counters.json");
        std::fs::remove_file(&counters).unwrap();
        std::fs::create_dir(&counters).unwrap();
        std::fs::write(counters.join("x"), "").unwrap();
        let served = || fixture.served(1, &[slice("a", &[])]);
        publisher.accept(served()).unwrap_err();
        assert!(publisher.published().current().is_none());
        std::fs::remove_dir_all(&counters).unwrap();
        publisher.accept(served()).unwrap();
        assert!(publisher.published().current().is_some());
        assert!(publisher.published().head.is_some());
    }

    #[test]
    fn revocations_are_signed_anew_with_a_rising_version() {
        let fixture = Fixture::new(false);
        let clock = Clock::manual(NOW_MS);
        let publisher = fixture.publisher(&clock);
        let version = |publisher: &Publisher| publisher.published().revocations[0].version;
        assert_eq!(version(&publisher), 2, "keygen's was the first");
        publisher.renew_revocations().unwrap();
        assert_eq!(version(&publisher), 3);
        drop(publisher);
        assert_eq!(version(&fixture.publisher(&clock)), 4);
    }

    #[test]
    fn revocations_that_are_lost_are_not_taken_back() {
        let fixture = Fixture::new(false);
        let clock = Clock::manual(NOW_MS);
        drop(fixture.publisher(&clock));
        let kept = fixture.folder.path().join("state/revocations.json");
        let aside = fixture.folder.path().join("revocations.json");
        std::fs::rename(&kept, &aside).unwrap();
        let refused = fixture.try_publisher(&clock).unwrap_err();
        assert!(
            refused.to_string().contains("revocations.json"),
            "{refused}"
        );
        std::fs::rename(&aside, &kept).unwrap();
        assert_eq!(
            std::fs::read(&kept).unwrap(),
            br#"{"entries":[]}"#,
            "what the error says to write"
        );
        fixture.publisher(&clock);
    }

    #[test]
    fn endpoints_outlive_a_restart() {
        let fixture = Fixture::new(true);
        let clock = Clock::manual(NOW_MS);
        let publisher = fixture.publisher(&clock);
        assert!(publisher.published().endpoints.is_none());
        let first = publisher.set_endpoints(EndpointFeed::default()).unwrap();
        publisher
            .accept(fixture.served(1, &[slice("a", &[])]))
            .unwrap();
        let version =
            |publisher: &Publisher| publisher.published().endpoints.as_ref().unwrap().version;
        assert_eq!(version(&publisher), first);
        drop(publisher);
        clock.advance(Duration::from_secs(1));
        assert!(version(&fixture.publisher(&clock)) > first);
    }
}
