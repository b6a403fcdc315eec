//! Counters by labels, which are found when something begins and then counted in without a lock. Those that
//! nobody holds are kept for a while, so that what they counted is read, and then forgotten: labels that come
//! and go must not pile up. It knows neither labels nor counters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::limits;

/// Counters of one kind.
#[derive(Debug)]
pub(crate) struct Registry<K, V>(Mutex<BTreeMap<K, Kept<V>>>);

#[derive(Debug)]
struct Kept<V> {
    counters: Arc<V>,
    /// Since when nobody was seen to hold it.
    unheld: Option<Instant>,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, V> Registry<K, V> {
    /// The counters for these labels, the same ones for the same labels. None: there are too many already.
    pub(crate) fn get(&self, labels: K, make: impl FnOnce(K) -> V) -> Option<Arc<V>> {
        let mut all = self.lock();
        if let Some(kept) = all.get_mut(&labels) {
            kept.unheld = None;
            return Some(Arc::clone(&kept.counters));
        }
        if all.len() >= limits::SERIES_MAX {
            all.retain(|_, kept| Arc::strong_count(&kept.counters) > 1);
            if all.len() >= limits::SERIES_MAX {
                return None;
            }
        }
        let counters = Arc::new(make(labels.clone()));
        let kept = Kept {
            counters: Arc::clone(&counters),
            unheld: None,
        };
        all.insert(labels, kept);
        Some(counters)
    }

    /// Forgets those that nobody has held for [`limits::SERIES_KEPT`], but for what is known still: it may come again,
    /// and a counter that began anew would be taken for a restart.
    pub(crate) fn expire_but(&self, now: Instant, is_known: impl Fn(&K) -> bool) {
        self.lock().retain(|labels, kept| {
            if Arc::strong_count(&kept.counters) > 1 || is_known(labels) {
                kept.unheld = None;
                return true;
            }
            let since = *kept.unheld.get_or_insert(now);
            now.saturating_duration_since(since) < limits::SERIES_KEPT
        });
    }

    /// Forgets those that nobody has held for [`limits::SERIES_KEPT`].
    pub(crate) fn expire(&self, now: Instant) {
        self.expire_but(now, |_| false);
    }

    /// All of them, in the order of their labels.
    pub(crate) fn all(&self) -> Vec<(K, Arc<V>)> {
        let all = self.lock();
        let each = all.iter();
        each.map(|(labels, kept)| (labels.clone(), Arc::clone(&kept.counters)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Kept<V>>> {
        // A panic elsewhere leaves counters that are still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(registry: &Registry<&'static str, ()>) -> Vec<&'static str> {
        registry.all().into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_holds_is_kept_for_a_while() {
        let registry = Registry::default();
        let held = registry.get("held", |_| ()).unwrap();
        assert!(Arc::ptr_eq(&held, &registry.get("held", |_| ()).unwrap()));
        drop(registry.get("gone", |_| ()));
        registry.expire(Instant::now());
        tokio::time::advance(limits::SERIES_KEPT / 2).await;
        registry.expire(Instant::now());
        assert_eq!(names(&registry), ["gone", "held"]);
        // Whoever comes back in time finds what was counted, and it is kept anew.
        drop(registry.get("gone", |_| ()));
        registry.expire(Instant::now());
        tokio::time::advance(limits::SERIES_KEPT / 2).await;
        registry.expire(Instant::now());
        assert_eq!(names(&registry), ["gone", "held"]);
        tokio::time::advance(limits::SERIES_KEPT / 2).await;
        registry.expire(Instant::now());
        assert_eq!(names(&registry), ["held"]);
    }

    #[test]
    fn there_are_never_too_many() {
        let registry = Registry::default();
        let held: Vec<_> = (0..limits::SERIES_MAX)
            .filter_map(|at| registry.get(at, |_| ()))
            .collect();
        assert_eq!(held.len(), limits::SERIES_MAX);
        assert!(registry.get(usize::MAX, |_| ()).is_none());
        drop(held);
        // Room is made of what nobody holds, before its time if need be.
        assert!(registry.get(usize::MAX, |_| ()).is_some());
    }
}
