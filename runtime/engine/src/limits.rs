//! Every bound of the engine. What is larger is refused: by the normalisers for a request, by
//! [`crate::Snapshot::build`] for a policy.

/// Longest path of a request, query excluded; RFC 9112 §3 asks for at least 8,000 bytes.
pub const PATH_BYTES_MAX: usize = 16 * 1024;
/// Longest host name, RFC 1035 §2.3.4.
pub const HOST_BYTES_MAX: usize = 253;
/// Longest label of a host name, RFC 1035 §2.3.4.
pub const LABEL_BYTES_MAX: usize = 63;

/// Longest path, value or regular expression in a policy.
pub const PATTERN_BYTES_MAX: usize = 4 * 1024;
/// Most segments of one path pattern; it bounds the depth of the route index.
pub const PATTERN_SEGMENTS_MAX: usize = 64;
/// Memory of one regular expression. A pattern whose automaton is larger is refused.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Up to this size a regular expression becomes a table that needs no scratch memory.
pub const REGEX_TABLE_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of groups in a regular expression.
pub const REGEX_NESTING_MAX: u32 = 64;
/// Deepest nesting of `not`.
pub const NOT_NESTING_MAX: usize = 8;

/// Most combinations of host, path and caller that one `match` stands for.
pub const ALTERNATIVES_MAX: usize = 4096;
/// Most bytes of those combinations where each is written out, which only the compiler does.
pub const ALTERNATIVES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most such combinations in all routes of one callee, once per port that they name.
pub const INDEX_ENTRIES_MAX: usize = 1 << 20;

/// The fields of a preface between proxies.
pub const PREFACE_BYTES_MAX: usize = 512;
/// The first message of a TLS client, records and their headers.
pub const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024;
/// The first line of a connection of which nobody says what it speaks.
pub const DETECT_BYTES_MAX: usize = 8 * 1024;
/// A peer of HTTP/2 may send one more control frame for every so many bytes that it is sent: gRPC measures what it
/// gets with PINGs. More than the answer to a PING has, so that PINGs don't pay for each other.
pub const SENT_BYTES_PER_CONTROL_FRAME: usize = 32;
/// How long such frames are counted together.
pub const CONTROL_FRAME_WINDOW: std::time::Duration = std::time::Duration::from_secs(10);
/// The method in such a line.
pub const METHOD_BYTES_MAX: usize = 32;

/// Longest silence of a connection that a proxy has accepted, between requests.
pub const IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);
/// What of a request body a proxy keeps to send it again.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// Keys that one rate limit remembers apart from each other between two turns.
pub const RATE_LIMIT_KEYS_MAX: usize = 1 << 16;
/// Bytes of one such key; a longer one is remembered by its digest.
pub const REQUEST_KEY_BYTES_MAX: usize = 64;

/// Places on the ring of [`crate::balance::HashTable`], as long as endpoints are few.
pub const RING_PLACES_MAX: usize = 16 * 1024;
/// Fewest and most places of each endpoint on the ring.
pub const RING_PLACES_EACH: (usize, usize) = (16, 256);
/// Places of a table that is filled in turns: a prime, a hundred times the endpoints that one service
/// may well have (NSDI 2016, §5.3).
pub const MAGLEV_PLACES: usize = 65_537;

/// Longest ejection of an endpoint, unless policy says that the first one is longer.
pub const EJECTION_MAX: std::time::Duration = std::time::Duration::from_mins(5);
/// Of 10,000: where fewer endpoints are well, it is taken no notice of who is (panic).
pub const PANIC_SHARE: usize = 5_000;
/// Of 10,000: the share in which a new endpoint begins that gets its share slowly.
pub const SLOW_START_SHARE: u32 = 1_000;

/// The number of requests with which [`crate::adaptive::Adaptive`] begins, the fewest that there are ever, and the most
/// unless policy says another number.
pub const ADAPTIVE_FIRST: u32 = 100;
/// See [`ADAPTIVE_FIRST`].
pub const ADAPTIVE_MIN: u32 = 3;
/// See [`ADAPTIVE_FIRST`].
pub const ADAPTIVE_MAX: u32 = 1_000;
/// How often that number is thought over, if enough answers have come.
pub const ADAPTIVE_WINDOW: std::time::Duration = std::time::Duration::from_millis(100);
/// So many answers are enough, and so many are looked at.
pub const ADAPTIVE_SAMPLES: (usize, usize) = (10, 256);
/// After so long what answers take at their best is measured anew.
pub const ADAPTIVE_RENEW: std::time::Duration = std::time::Duration::from_mins(1);
/// The most by which the number shrinks and grows at once.
pub const ADAPTIVE_SHRINK: f64 = 0.5;
/// See [`ADAPTIVE_SHRINK`].
pub const ADAPTIVE_GROW: f64 = 2.0;

/// Members of a `tracestate` that are passed on, W3C Trace Context section 3.3.1.1.
pub const TRACESTATE_MEMBERS_MAX: usize = 32;
/// Bytes of it; section 3.3.1.5 asks for at least 512.
pub const TRACESTATE_BYTES_MAX: usize = 1024;

/// Bytes of a token; larger ones are not looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How far the clocks of an issuer and of a proxy may be apart.
pub const TOKEN_LEEWAY_SECONDS: u64 = 60;
/// Bytes of a set of keys, as the compiler has it.
pub const KEY_SET_BYTES_MAX: usize = 64 * 1024;
/// Keys in a set.
pub const KEYS_MAX: usize = 256;
/// Bytes of the name of a key that a token gives.
pub const KEY_ID_BYTES_MAX: usize = 1024;
/// Keys that one token is tried against.
pub const KEY_TRIES_MAX: usize = 4;
