//! Every bound of the distributor, with its reason. Nothing here is a setting.

use std::time::Duration;

/// How long a head is valid; long enough that two missed renewals go unnoticed.
pub(crate) const HEAD_LIFE: Duration = Duration::from_mins(10);

/// Proxies refuse a head that was issued this far ahead of their clock.
pub(crate) const HEAD_AHEAD_MS_MAX: u64 = 5 * 60 * 1000;

/// How often a head is signed anew although nothing changed.
pub(crate) const HEAD_RENEWAL: Duration = Duration::from_secs(30);

/// How often the issuer signs its revocations anew: a fresh proxy wants them no older than a day.
pub(crate) const REVOCATIONS_RENEWAL: Duration = Duration::from_hours(1);

/// Longest reason of a revocation.
pub(crate) const REASON_BYTES_MAX: usize = 256;

/// How long a repository that took no trust statements is left alone.
pub(crate) const ARCHIVE_RETRY: Duration = Duration::from_mins(1);

/// Share of the poll interval that is random, so that many distributors don't ask at once.
pub(crate) const POLL_JITTER: f64 = 0.2;

/// Shortest and longest interval of the poll that backs the hook up.
pub(crate) const POLL_MIN: Duration = Duration::from_millis(100);
/// See [`POLL_MIN`].
pub(crate) const POLL_MAX: Duration = Duration::from_hours(1);

/// Findings of a refused commit that are kept for the status; the rest is only counted.
pub(crate) const FINDINGS_MAX: usize = 100;

/// Generations that the state directory keeps, the current one included; also how far back deltas
/// reach and how many commits `where` knows.
pub(crate) const GENERATIONS_KEPT: usize = 5;

/// Largest file of the state directory that is read.
pub(crate) const STATE_FILE_BYTES_MAX: u64 = 64 << 20;

/// How often the trust directory is looked at.
pub(crate) const TRUST_REFRESH: Duration = Duration::from_secs(1);

/// Largest file of the trust directory that is read.
pub(crate) const TRUST_FILE_BYTES_MAX: u64 = 1 << 20;

/// Trust roots in the chain from the first to the newest.
pub(crate) const TRUST_ROOTS_MAX: usize = 256;

/// Life of a join token unless the request says less; it is also the most.
pub(crate) const JOIN_TOKEN_LIFE_MAX: Duration = Duration::from_mins(10);

/// Join tokens that are unexpired at once.
pub(crate) const JOIN_TOKENS_MAX: usize = 10_000;

/// Shortest and longest life of an SVID.
pub(crate) const SVID_LIFE_MIN: Duration = Duration::from_mins(10);
/// See [`SVID_LIFE_MIN`].
pub(crate) const SVID_LIFE_MAX: Duration = Duration::from_hours(7 * 24);

/// How often the distributor issues itself a new certificate, at most a third of its life: a failure
/// leaves time to try again.
pub(crate) const OWN_SVID_RENEWAL: Duration = Duration::from_hours(1);

/// SVIDs are valid from this long ago, for peers whose clocks are behind.
pub(crate) const SVID_BACKDATED: Duration = Duration::from_mins(5);

/// Life of a join token that a proxy of this machine asks for.
pub(crate) const LOCAL_TOKEN_LIFE: Duration = Duration::from_mins(1);

/// Join tokens that one local user gets at once; beyond, one a second.
pub(crate) const LOCAL_TOKENS_AT_ONCE: u32 = 5;

/// Time for the answer to a local proxy.
pub(crate) const ATTEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest token id that is looked up.
pub(crate) const TOKEN_ID_BYTES_MAX: usize = 64;

/// Messages that wait for one proxy. What they are made from is not queued: a slow proxy skips what
/// was overtaken and gets the newest.
pub(crate) const FOLLOW_QUEUE: usize = 8;

/// A proxy that takes nothing for this long is dropped; it reconnects and resumes.
pub(crate) const FOLLOW_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the first message of a stream.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Digests of held slices that a hello may list.
pub(crate) const HELD_SLICES_MAX: usize = 64;

/// Labels and features that a hello may list.
pub(crate) const HELLO_LIST_MAX: usize = 256;

/// Longest text that a proxy may have recorded about itself.
pub(crate) const PROXY_TEXT_BYTES_MAX: usize = 256;

/// Heartbeats in a row that name something else than was sent, before it is sent again.
pub(crate) const MISMATCHES_BEFORE_REPAIR: u32 = 2;

/// Proxies that the status remembers; beyond, those longest disconnected are forgotten.
pub(crate) const PROXIES_MAX: usize = 20_000;

/// Endpoint sets, and addresses in one of them, that a feed may name.
pub(crate) const ENDPOINT_SETS_MAX: usize = 10_000;
/// See [`ENDPOINT_SETS_MAX`].
pub(crate) const ENDPOINT_ADDRESSES_MAX: usize = 10_000;

/// How long shutting down waits for streams to end.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to the hook at once.
pub(crate) const HOOK_CONNECTIONS_MAX: usize = 32;

/// Time for one call of the hook.
pub(crate) const HOOK_TIMEOUT: Duration = Duration::from_secs(5);
