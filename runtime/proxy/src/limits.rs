//! Every bound of the data plane, by name. Those in `settable.rs` an operator may set.

use std::time::Duration;

mod settable;

pub(crate) use settable::{Limits, Setting, help};

/// File descriptors that clients never get: for the listeners, the admin socket, metrics, the store
/// and the distributor.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Connections that one direction may accept where a process may have so many file descriptors.
/// Each connection may need another one to an endpoint, or clients could hold all and none be served.
pub(crate) fn connections_max(descriptors: u64, wanted: usize) -> usize {
    let each = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 4;
    usize::try_from(each).map_or(wanted, |each| each.clamp(1, wanted))
}

/// A bound as HTTP/2 writes it.
pub(crate) fn number(bound: usize) -> u32 {
    u32::try_from(bound).unwrap_or(u32::MAX)
}

/// Bytes of what an authorizer, or a service that counts requests, answers.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a service that counts requests may take; they wait for it.
pub(crate) const RATE_LIMIT_TIMEOUT: Duration = Duration::from_millis(250);

/// When a request may come again that was refused because nobody could count it.
pub(crate) const RATE_LIMIT_RETRY: Duration = Duration::from_secs(1);

/// Bytes of a set of keys that is fetched.
pub(crate) const KEY_SET_BYTES_MAX: usize = mesh_engine::limits::KEY_SET_BYTES_MAX;

/// What is read of the head of such an answer at most.
pub(crate) const KEYS_HEAD_BYTES: usize = 16 * 1024;

/// How long keys may take to come.
pub(crate) const KEYS_FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection to one address of an issuer may take.
pub(crate) const KEYS_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often keys are fetched where their issuer does not say how long they are good, and how seldom it is tried at least.
pub(crate) const KEYS_REFRESH: Duration = Duration::from_mins(5);

/// The shortest and the longest time that an issuer may say. A key that is withdrawn is used for so long.
pub(crate) const KEYS_REFRESH_MIN: Duration = Duration::from_mins(1);

/// See [`KEYS_REFRESH_MIN`].
pub(crate) const KEYS_REFRESH_MAX: Duration = Duration::from_hours(1);

/// Pause after the first failure; then twice as long each time.
pub(crate) const KEYS_RETRY: Duration = Duration::from_secs(1);

/// How soon after the last time keys are fetched because a token names one that is not there. Anybody can send one.
pub(crate) const KEYS_HURRY: Duration = Duration::from_secs(10);

/// How long keys are used whose issuer does not answer.
pub(crate) const KEYS_KEPT: Duration = Duration::from_hours(24);

/// Issuers that are asked at the same time.
pub(crate) const KEYS_FETCHED_AT_ONCE: usize = 8;

/// Connections that the kernel holds before they are accepted.
pub(crate) const ACCEPT_BACKLOG: i32 = 1_024;

/// How often a connection for which there is no place looks for one, before it is refused. Together longer than
/// [`IDLE_BEFORE_ASKED`], or a crowd that has only just come would keep everybody out.
pub(crate) const PLACE_TRIES: u32 = 10;

/// Between these tries.
pub(crate) const PLACE_PAUSE: Duration = Duration::from_millis(200);

/// How long a connection may lie idle, or its peer take nothing, before it is asked to go for another. Long enough
/// for a request that is on its way.
pub(crate) const IDLE_BEFORE_ASKED: Duration = Duration::from_secs(1);

/// What a request may come to hold on both its connections before memory is looked at again.
pub(crate) const REQUEST_BYTES: usize = 256 * 1024;

/// How often the memory of the process is looked at.
pub(crate) const MEMORY_PAUSE: Duration = Duration::from_millis(100);

/// Pause after `accept` failed for want of file descriptors or memory, so that it does not spin.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whoever ends what it sends this soon after its request only says that it was the last one, and reads on; later it
/// has given up waiting, and its request is taken back.
pub(crate) const HALF_CLOSE_WITHIN: Duration = Duration::from_millis(20);

/// How often a request is sent again that its connection left out; more than [`Limits::pool_connections`], by default,
/// for all of them may end at once.
pub(crate) const SPARE_TRIES: u8 = 5;

/// How long an HTTP/1 connection is kept after a drain began: closed at once, it would cross with a
/// request that is on its way.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long what is cut at the deadline of a drain may take to end and to write its record.
pub(crate) const CUT_TIMEOUT: Duration = Duration::from_millis(500);

/// What may be read at once beside a head.
pub(crate) const READ_BYTES: usize = 16 * 1024;

/// Frame size that we take.
pub(crate) const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// How long a client's body is kept back from a proxy that was asked whether it wants it.
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// What of a request body is kept to be sent again, as the compiler's findings have it.
pub(crate) const REPLAY_BYTES_MAX: usize = mesh_engine::limits::REPLAY_BYTES_MAX;

/// What keeping a chunk of it costs beside its bytes, so that a body in tiny chunks is no way around
/// [`REPLAY_BYTES_MAX`].
pub(crate) const REPLAY_CHUNK_OVERHEAD: usize = 64;

/// How long an unused upstream connection is kept where policy does not say.
pub(crate) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// How often unused upstream connections are looked for.
pub(crate) const POOL_SWEEP_EVERY: Duration = Duration::from_secs(15);

/// The same at most, however short policy lets them lie. They are never used again after their time.
pub(crate) const POOL_SWEEP_MIN: Duration = Duration::from_millis(50);

/// How long an endpoint is taken to need for an answer before it has given one.
pub(crate) const EXPECTED_LATENCY: Duration = Duration::from_millis(30);

/// Endpoints that were left out are looked at no more often than this.
pub(crate) const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);

/// What is read of the answer to a health check.
pub(crate) const CHECK_BYTES_MAX: usize = 64 * 1024;

/// Copies of requests that run at once; further ones are dropped and counted.
pub(crate) const MIRRORS_MAX: usize = 1_024;

/// Longest life of such a copy where its route has no timeout.
pub(crate) const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);

/// Parts of a body that wait to be passed on with a copy; one that is slower is broken off.
pub(crate) const MIRROR_CHUNKS: usize = 32;

/// What is read of the answer to a copy, so that its connection can be used again.
pub(crate) const MIRROR_BYTES_MAX: usize = 256 * 1024;

/// Longest wait that a server may ask for before it is tried again; one that asks for more is not.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// Rows of one answer of the admin socket; whoever wants more asks for the next page.
pub(crate) const SHOWN_ROWS_MAX: usize = 1_000;

/// A slice that is shown whole; a larger one is shown by parts.
pub(crate) const SHOWN_SLICE_BYTES_MAX: usize = 256 * 1024;

/// Until a connection to the local application is up.
pub(crate) const APPLICATION_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest deadline that is taken over from a peer.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_hours(24);

/// What is read of a connection of bytes at once.
pub(crate) const TCP_READ_BYTES: usize = 16 * 1024;

/// Until a callee's proxy has answered a preface: it connects to its application first.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence of a connection after which the system asks whether its other end is there.
pub(crate) const TCP_KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// Between two such questions.
pub(crate) const TCP_KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// How many of them may stay without an answer.
pub(crate) const TCP_KEEPALIVE_PROBES: u32 = 3;

/// How often a connection on which something is on its way is asked for acknowledgements.
pub(crate) const PULSE_EVERY: Duration = Duration::from_secs(5);

/// How long acknowledgements of such a connection may stay out. With [`PULSE_EVERY`] less than half a minute, as
/// are keep-alive and PING.
pub(crate) const PEER_SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long the end of the proxy waits for a sink of the access log that stands still.
pub(crate) const ACCESS_LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often lost lines are complained about.
pub(crate) const ACCESS_LOG_COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// Spans that are sent at once.
pub(crate) const SPAN_BATCH: usize = 512;

/// How long the first of them waits for others.
pub(crate) const SPAN_BATCH_WAIT: Duration = Duration::from_secs(1);

/// Until a collector has taken a batch.
pub(crate) const SPAN_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Until a connection to it is up.
pub(crate) const SPAN_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a batch is sent before it is given up, the first time included.
pub(crate) const SPAN_EXPORT_ATTEMPTS: u32 = 3;

/// Before the second time; twice as long before each further one.
pub(crate) const SPAN_EXPORT_PAUSE: Duration = Duration::from_secs(1);

/// What is read of a collector's answer.
pub(crate) const SPAN_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Tries that a span tells of; those beyond are a number.
pub(crate) const SPAN_EVENTS_MAX: usize = 32;

/// Bytes of a text in a span.
pub(crate) const SPAN_VALUE_BYTES: usize = 1_024;

/// How long the end of the proxy waits for collectors.
pub(crate) const SPAN_FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of a value that came from outside, in an access-log line.
pub(crate) const ACCESS_LOG_VALUE_BYTES: usize = 1_024;

/// Sets of labels that one route keeps for its counters; requests beyond are counted without them.
pub(crate) const SERIES_PER_ROUTE: usize = 128;

/// Connections that are made to an endpoint at once when many are wanted; the next wait their turn, which is no part of
/// what policy gives a connection. How many it is at first, and between which bounds it moves.
pub(crate) const CONNECTING_START: usize = 16;
pub(crate) const CONNECTING_MIN: usize = 4;
pub(crate) const CONNECTING_MAX: usize = 256;

/// Edges, and as many rules, that are counted apart; who comes after is counted nowhere.
pub(crate) const SERIES_MAX: usize = 50_000;

/// How long counters are shown that nobody counts in any more: several times as long as anybody lets pass
/// between two readings.
pub(crate) const SERIES_KEPT: Duration = Duration::from_mins(10);

/// How often DNS names of declared endpoints are resolved anew where nobody says how long an answer holds.
pub(crate) const DNS_REFRESH: Duration = Duration::from_secs(10);

/// The same at most, whatever a name server says.
pub(crate) const DNS_REFRESH_MIN: Duration = Duration::from_secs(1);

/// And at least.
pub(crate) const DNS_REFRESH_MAX: Duration = Duration::from_mins(5);

/// How long a name server may think.
pub(crate) const DNS_QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Name servers that are asked, as resolv.conf(5) has it.
pub(crate) const DNS_SERVERS_MAX: usize = 3;

/// Domains in which a name is looked for.
pub(crate) const DNS_SEARCH_MAX: usize = 6;

/// What is taken of an answer.
pub(crate) const DNS_ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Records that an answer may have, of all kinds; more do not fit.
pub(crate) const DNS_RECORDS_MAX: usize = 512;

/// Addresses taken from one DNS name.
pub(crate) const DNS_ADDRESSES_MAX: usize = 256;

/// Threads that wait for the system's name resolver.
pub(crate) const BLOCKING_THREADS_MAX: usize = 4;

/// How long a refused peer may take to read why.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// What such a peer may still send.
pub(crate) const LINGER_BYTES_MAX: u64 = 64 * 1024;

/// How long to wait for the verdict of a peer that ended a new connection.
pub(crate) const VERDICT_TIMEOUT: Duration = Duration::from_millis(200);

/// What is read of a file of key material.
pub(crate) const SECRET_BYTES_MAX: u64 = 1024 * 1024;

/// How often files of key material are looked at.
pub(crate) const SECRET_REFRESH: Duration = Duration::from_secs(2);

/// How often a listener is tried again that an earlier generation may still hold.
pub(crate) const REBIND_TRIES: u32 = 20;

/// Between these tries.
pub(crate) const REBIND_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_hold_all_descriptors() {
        let wanted = Limits::default().connections;
        for descriptors in [128, 256, 1024, 20_000, u64::MAX] {
            let all = 4 * connections_max(descriptors, wanted) as u64 + DESCRIPTORS_RESERVED;
            assert!(all <= descriptors, "{descriptors}");
        }
        assert_eq!(connections_max(0, wanted), 1);
        assert_eq!(connections_max(u64::MAX, wanted), wanted);
    }
}
