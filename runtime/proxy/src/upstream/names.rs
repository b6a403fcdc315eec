//! The names of declared endpoints, kept resolved. The system says where a name is, by its files, its search
//! list and its cache, as it does for every program; for how long that holds, the name servers are asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use super::ttl;
use crate::limits;

/// When each name is to be resolved again.
#[derive(Debug, Default)]
pub(crate) struct Schedule(BTreeMap<(String, u16), Instant>);

/// What a name resolves to; none: it does not.
pub(crate) type Resolved = ((String, u16), Option<Vec<SocketAddr>>);

impl Schedule {
    /// Resolves those of `names` whose time has come, several at once, and forgets all others.
    pub(crate) async fn resolve_due(&mut self, names: Vec<(String, u16)>) -> Vec<Resolved> {
        let now = Instant::now();
        let due = self.due(names, now);
        let resolving = due.into_iter().map(|(name, port)| async move {
            let (addresses, ttl) = tokio::join!(resolve(&name, port), ttl::of(&name));
            ((name, port), addresses, ttl)
        });
        let resolved = stream::iter(resolving)
            .buffer_unordered(limits::BLOCKING_THREADS_MAX)
            .collect::<Vec<_>>()
            .await;
        let mut found = Vec::with_capacity(resolved.len());
        for (name, addresses, ttl) in resolved {
            let after = pause(ttl, addresses.is_some());
            self.0.insert(name.clone(), Instant::now() + after);
            found.push((name, addresses));
        }
        found
    }

    /// Those whose time has come.
    fn due(&mut self, mut names: Vec<(String, u16)>, now: Instant) -> Vec<(String, u16)> {
        names.sort_unstable();
        names.dedup();
        self.0.retain(|name, _| names.binary_search(name).is_ok());
        names.retain(|name| self.0.get(name).is_none_or(|at| *at <= now));
        names
    }

    /// When the next one's time comes; a while, if there is none.
    pub(crate) fn next(&self) -> Instant {
        let first = self.0.values().min().copied();
        first.unwrap_or_else(|| Instant::now() + limits::DNS_REFRESH_MAX)
    }
}

/// How long an answer is taken for true. A name that does not resolve is soon asked for again, whatever is
/// said of it.
fn pause(ttl: Option<Duration>, found: bool) -> Duration {
    let ttl = ttl.filter(|_| found).unwrap_or(limits::DNS_REFRESH);
    ttl.clamp(limits::DNS_REFRESH_MIN, limits::DNS_REFRESH_MAX)
}

/// Asks the system for the addresses of a name, in one order whatever order they come in.
async fn resolve(name: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((name, port)).await;
    match found {
        Ok(addresses) => {
            let mut addresses: Vec<_> = addresses.take(limits::DNS_ADDRESSES_MAX).collect();
            addresses.sort_unstable();
            addresses.dedup();
            Some(addresses)
        }
        Err(error) => {
            // What it resolved to before is kept.
            tracing::warn!(name, %error, "a declared endpoint's name does not resolve");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_name_has_its_time() {
        let name = |name: &str| (name.to_owned(), 80);
        let mut schedule = Schedule::default();
        let now = Instant::now();
        let both = vec![name("b"), name("a"), name("a")];
        assert_eq!(schedule.due(both.clone(), now), [name("a"), name("b")]);
        schedule.0.insert(name("a"), now + Duration::from_secs(3));
        schedule.0.insert(name("b"), now + Duration::from_mins(1));
        assert_eq!(schedule.next(), now + Duration::from_secs(3));
        assert!(schedule.due(both.clone(), now).is_empty());
        let later = now + Duration::from_secs(3);
        assert_eq!(schedule.due(both, later), [name("a")]);
        // Another generation has another name, which need not wait.
        assert_eq!(schedule.due(vec![name("c")], later), [name("c")]);
        assert!(schedule.0.is_empty());
    }

    #[test]
    fn what_is_said_is_bounded() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(Some(seconds(30)), true), seconds(30));
        assert_eq!(pause(Some(seconds(0)), true), limits::DNS_REFRESH_MIN);
        assert_eq!(pause(Some(seconds(86_400)), true), limits::DNS_REFRESH_MAX);
        assert_eq!(pause(None, true), limits::DNS_REFRESH);
        assert_eq!(pause(Some(seconds(86_400)), false), limits::DNS_REFRESH);
    }

    #[tokio::test]
    async fn the_files_of_the_system_count() {
        let mut schedule = Schedule::default();
        let resolved = schedule
            .resolve_due(vec![("localhost".to_owned(), 80)])
            .await;
        let [(_, Some(addresses))] = resolved.as_slice() else {
            panic!("{resolved:?}");
        };
        assert!(addresses.iter().any(|address| address.ip().is_loopback()));
        assert!(schedule.next() > Instant::now());
    }
}
