//! Keys of token providers that are fetched, never on the way of a request: soon after policy names them, again while
//! they are used, and sooner when a token names a key that is not among them. What was fetched last is kept while the
//! issuer cannot be asked, for a time; after that there are no keys, and no token is good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::StreamExt as _;
use futures_util::stream;
use mesh_daemon::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fetch::{self, Fetched, Place, PlaceError};
use super::keys::Keys;
use crate::limits;
use crate::secrets::Secrets;

/// All keys that are fetched, by the name of their provider and their URL.
#[derive(Debug)]
pub(crate) struct KeySources {
    known: Mutex<BTreeMap<(String, String), Weak<Source>>>,
    /// Woken when something may be due.
    changed: Arc<Notify>,
    fetches: Family<[(&'static str, String); 2], Counter>,
}

/// The keys of one provider.
#[derive(Debug)]
pub(crate) struct Source {
    provider: String,
    place: Place,
    found: ArcSwapOption<Found>,
    schedule: Mutex<Schedule>,
    changed: Arc<Notify>,
}

/// What was fetched last.
#[derive(Debug)]
struct Found {
    keys: Arc<Keys>,
    since: Instant,
}

/// When keys are fetched.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    next: Instant,
    last: Option<Instant>,
    /// Since it went well.
    failures: u32,
}

impl Schedule {
    fn begun(now: Instant) -> Self {
        Self {
            next: now,
            last: None,
            failures: 0,
        }
    }

    fn went_well(&mut self, now: Instant, fresh: Option<Duration>) {
        let fresh = fresh.unwrap_or(limits::KEYS_REFRESH);
        let pause = fresh.clamp(limits::KEYS_REFRESH_MIN, limits::KEYS_REFRESH_MAX);
        *self = Self {
            next: now + pause,
            last: Some(now),
            failures: 0,
        };
    }

    /// `spread` from 0 to 1, so that not all proxies ask at once.
    fn failed(&mut self, now: Instant, spread: f64) {
        let doubled = 1 << self.failures.min(16);
        let pause = limits::KEYS_RETRY * doubled;
        let pause = pause.min(limits::KEYS_REFRESH).mul_f64(1.0 - spread / 2.0);
        self.next = now + pause;
        self.last = Some(now);
        self.failures += 1;
    }

    /// Whether they are fetched sooner, now that a key is missing. Anybody can name one, so not often.
    fn hurry(&mut self, now: Instant) -> bool {
        let may_be = self
            .last
            .is_some_and(|last| now >= last + limits::KEYS_HURRY);
        if may_be && self.failures == 0 {
            self.next = now;
            return true;
        }
        false
    }
}

impl KeySources {
    /// None yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            known: Mutex::default(),
            changed: Arc::default(),
            fetches: metrics.register(
                "mesh_key_fetches",
                "attempts to fetch the keys that verify tokens: `ok`, or `failed`, where those fetched last are kept",
                Family::default(),
            ),
        }
    }

    /// The keys at a URL; the same as long as somebody holds them.
    pub(crate) fn get(
        &self,
        provider: &str,
        url: &str,
        secrets: &Secrets,
    ) -> Result<Arc<Source>, PlaceError> {
        let mut known = lock(&self.known);
        known.retain(|_, source| source.strong_count() > 0);
        let key = (provider.to_owned(), url.to_owned());
        if let Some(source) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(source);
        }
        let source = Arc::new(Source {
            provider: provider.to_owned(),
            place: Place::parse(url, secrets)?,
            found: ArcSwapOption::empty(),
            schedule: Mutex::new(Schedule::begun(Instant::now())),
            changed: Arc::clone(&self.changed),
        });
        known.insert(key, Arc::downgrade(&source));
        self.changed.notify_one();
        Ok(source)
    }

    /// Fetches whatever is due, for ever.
    pub(crate) async fn keep(&self) {
        loop {
            let sources: Vec<_> = {
                let known = lock(&self.known);
                known.values().filter_map(Weak::upgrade).collect()
            };
            let now = Instant::now();
            let mut due = sources.clone();
            due.retain(|source| lock(&source.schedule).next <= now);
            let fetching = due.into_iter().map(|source| self.fetch(source));
            stream::iter(fetching)
                .buffer_unordered(limits::KEYS_FETCHED_AT_ONCE)
                .collect::<()>()
                .await;
            let next = sources
                .iter()
                .map(|source| lock(&source.schedule).next)
                .min();
            drop(sources);
            let next = next.unwrap_or_else(|| Instant::now() + limits::KEYS_REFRESH_MAX);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    async fn fetch(&self, source: Arc<Source>) {
        let provider = source.provider.as_str();
        let fetched = fetch::fetch(&source.place).await;
        let now = Instant::now();
        let mut schedule = lock(&source.schedule);
        let outcome = match fetched {
            Ok(Fetched { keys, fresh }) => {
                if schedule.failures > 0 || schedule.last.is_none() {
                    tracing::info!(
                        provider,
                        keys = keys.len(),
                        "the keys that verify tokens are there"
                    );
                }
                let keys = Arc::new(keys);
                source
                    .found
                    .store(Some(Arc::new(Found { keys, since: now })));
                schedule.went_well(now, fresh);
                "ok"
            }
            Err(error) => {
                if schedule.failures == 0 {
                    let error = crate::subscribe::chain(&error);
                    tracing::warn!(
                        provider,
                        error,
                        "the keys that verify tokens cannot be fetched; those fetched last are kept for a time"
                    );
                }
                schedule.failed(now, rand::random());
                "failed"
            }
        };
        drop(schedule);
        self.count(provider, outcome);
    }

    /// Counts an attempt.
    pub(crate) fn count(&self, provider: &str, outcome: &str) {
        let labels = [
            ("provider", provider.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.fetches.get_or_create(&labels).inc();
    }
}

impl Source {
    /// The keys, unless they were fetched too long ago.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        let found = self.found.load();
        let found = found.as_ref()?;
        is_kept(found.since, Instant::now()).then(|| Arc::clone(&found.keys))
    }

    /// Notes that a token names a key that is not among them: there may be new ones.
    pub(crate) fn hurry(&self) {
        if lock(&self.schedule).hurry(Instant::now()) {
            self.changed.notify_one();
        }
    }
}

fn is_kept(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < limits::KEYS_KEPT
}

/// A panic elsewhere leaves what is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_while_nobody_answers_and_not_for_ever() {
        let now = Instant::now();
        assert!(is_kept(now, now + limits::KEYS_KEPT / 2));
        assert!(!is_kept(now, now + limits::KEYS_KEPT));
    }

    #[test]
    fn whoever_does_not_answer_is_asked_less_and_less_often() {
        let now = Instant::now();
        let mut schedule = Schedule::begun(now);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            schedule.failed(now, 0.0);
            pauses.push(schedule.next - now);
        }
        assert_eq!(pauses[0], limits::KEYS_RETRY);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[39], limits::KEYS_REFRESH);
        // A stranger's key name does not undo that.
        assert!(!schedule.hurry(now + limits::KEYS_REFRESH));
        schedule.went_well(now, Some(Duration::ZERO));
        assert_eq!(schedule.next, now + limits::KEYS_REFRESH_MIN);
        assert!(!schedule.hurry(now));
        assert!(schedule.hurry(now + limits::KEYS_HURRY));
        assert_eq!(schedule.next, now + limits::KEYS_HURRY);
        schedule.went_well(now, Some(Duration::from_hours(1_000)));
        assert_eq!(schedule.next, now + limits::KEYS_REFRESH_MAX);
    }
}
