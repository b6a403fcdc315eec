//! Every bound of the formats, in one place. A value beyond one is refused as `too_large` when it
//! is a size in bytes and as `non_canonical` when it is a count or a number inside a message.

/// Payload of every envelope: statements are small, slices travel beside them.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Encoded envelope: a payload, sixteen signatures and their framing.
pub const ENVELOPE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 4 * 1024;
/// Signatures of one envelope.
pub const SIGNATURES_MAX: usize = 16;
/// One slice, uncompressed; judged on the signed length, before anything is decompressed.
pub const SLICE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Slices of one generation.
pub const LEAVES_MAX: u32 = 1 << 20;
/// Siblings of one inclusion proof; a tree of [`LEAVES_MAX`] leaves needs 20.
pub const PROOF_SIBLINGS_MAX: usize = 20;

/// A SPIFFE ID (SPIFFE-ID §2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// A trust domain name (SPIFFE-ID §2.1).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// Names of meshes, environments, services, subsets, routes, rules, labels and header fields.
pub const NAME_BYTES_MAX: usize = 255;
/// Values and patterns that people write: paths, regular expressions, header values.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Keys of a trust root, over all roles.
pub const KEYS_MAX: usize = 256;
/// Roles of a trust root; federation has one per foreign domain.
pub const ROLES_MAX: usize = 128;
/// Threshold of a role; the next trust root must fit those of two versions into one envelope.
pub const THRESHOLD_MAX: u32 = 8;
/// Distributors, and likewise relays, of a trust root.
pub const INFRASTRUCTURE_IDENTITIES_MAX: usize = 256;
/// Commit signers of a trust root.
pub const COMMIT_SIGNERS_MAX: usize = 256;
/// Aborted generations that one head names.
pub const ABORTED_MAX: usize = 64;
/// Trust bundles, and likewise revocation streams, that one head names.
pub const TRUST_DATA_REFS_MAX: usize = 256;
/// Certificate authorities of one trust bundle.
pub const AUTHORITIES_MAX: usize = 32;
/// Entries of one revocation stream.
pub const REVOCATIONS_MAX: usize = 1024;

/// Features that a slice or a statement requires.
pub const FEATURES_MAX: usize = 256;
/// Services behind one identity.
pub const INBOUND_SERVICES_MAX: usize = 256;
/// Callees of one slice.
pub const CALLEES_MAX: usize = 10_000;
/// Ports of one service.
pub const PORTS_MAX: usize = 256;
/// Access rules of one service.
pub const RULES_MAX: usize = 10_000;
/// Values of one condition, conditions of one match, principals of one rule, and like lists.
pub const VALUES_MAX: usize = 10_000;
/// Identities, and likewise hosts, of one callee.
pub const IDENTITIES_MAX: usize = 1024;
/// Subsets of one callee.
pub const SUBSETS_MAX: usize = 256;
/// Labels of one subset or endpoint.
pub const LABELS_MAX: usize = 64;
/// Declared endpoints of one callee.
pub const ENDPOINTS_MAX: usize = 10_000;
/// Routes of one callee.
pub const ROUTES_MAX: usize = 100_000;
/// Destinations of one route, and fallbacks of one destination.
pub const DESTINATIONS_MAX: usize = 256;
/// Depth of `not` inside `not`.
pub const CONDITION_DEPTH_MAX: usize = 8;
/// Weight of one destination.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// All calls of one exchange, the first included.
pub const ATTEMPTS_MAX: u32 = 100;
/// Listeners of one gateway.
pub const LISTENERS_MAX: usize = 1024;
/// Trusted hops before a listener that reads `X-Forwarded-For`.
pub const FORWARDED_HOPS_MAX: u32 = 16;
/// Providers of tokens, and likewise authorizers, of one slice.
pub const GATES_MAX: usize = 256;
/// One JSON Web Key Set.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Headers that one list names.
pub const HEADERS_MAX: usize = 256;
/// Parts of one compound key.
pub const REQUEST_KEYS_MAX: usize = 8;
/// Requests of one rate limit.
pub const RATE_MAX: u64 = 1_000_000_000;
/// Body of one `respond`.
pub const RESPOND_BYTES_MAX: usize = 64 * 1024;
/// Highest limit on bodies: 1 TiB.
pub const BODY_LIMIT_MAX: u64 = 1 << 40;
/// Highest limit on connections, requests and counts of answers in a row.
pub const LIMIT_MAX: u32 = 1_000_000_000;
/// Endpoints that one pick compares.
pub const CHOICES_MAX: u32 = 100;
/// Health checks of one pool.
pub const HEALTH_CHECKS_MAX: usize = 16;
/// Longest duration that a slice can carry: one year.
pub const DURATION_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;

/// A head is valid this long before it was issued and after it expires, for clocks that disagree.
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;
/// Life of a head, at most; ten minutes are usual, a day is for heads that CI signs.
pub const HEAD_LIFE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// A proxy that was never ready needs each revocation stream to be at most this old.
pub const REVOCATIONS_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Generations that [`crate::acceptance::Acceptance`] remembers, to know equivocation again.
pub const HELD_GENERATIONS_MAX: usize = 64;
/// Names of releases, refs and folders.
pub const REF_BYTES_MAX: usize = 1024;
