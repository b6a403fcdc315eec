//! Every bound on what policy may say, with its reason.

use std::time::Duration;

/// Most services of one mesh: edges grow with its square.
pub const SERVICES_MAX: usize = 10_000;
/// Most pairs of caller and callee; `allow any` makes one for every service.
pub const EDGES_MAX: usize = 200_000;
/// Most effective exchanges (edge times route) of one mesh.
pub const EXCHANGES_MAX: usize = 1_000_000;
/// Most attempts that `attempts=` can say at all; `refuse attempts=` sets the mesh's own limit.
pub const ATTEMPTS_MAX: u32 = 100;
/// Most attempts where `refuse` says nothing.
pub const ATTEMPTS_REFUSED_ABOVE: u32 = 5;
/// Highest amplification where `refuse` says nothing.
pub const AMPLIFICATION_REFUSED_ABOVE: u32 = 10;
/// Highest amplification that `refuse` can permit.
pub const AMPLIFICATION_MAX: u32 = 1_000_000;
/// Largest file of public keys: it is in every slice that verifies tokens with it.
pub const KEY_SET_BYTES_MAX: usize = 64 * 1024;
/// Most trusted proxies in front of a gateway.
pub const HOPS_MAX: u32 = 16;
/// Highest weight: shares finer than one in a million are noise.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// Longest time that policy can say.
pub const TIME_MAX: Duration = Duration::from_hours(365 * 24);
/// Longest answer that `respond` gives, as slices have it.
pub const RESPOND_BYTES_MAX: usize = mesh_bundle::limits::RESPOND_BYTES_MAX;
/// Largest size that policy can say, in bytes.
pub const SIZE_MAX: u64 = 1024 * 1024 * 1024;
/// Longest name, as DNS has it.
pub const NAME_BYTES_MAX: usize = 253;
/// Longest label of a name, as DNS has it.
pub const NAME_LABEL_BYTES_MAX: usize = 63;
/// Longest other text: header values, paths, names of tests.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Most arguments of one node: values of a condition, hosts, addresses.
pub const ARGUMENTS_MAX: usize = 1024;
/// Most patterns of files that teams own: each file is held against each of them.
pub const GLOBS_MAX: usize = 4096;
/// Longest pattern of files.
pub const GLOB_BYTES_MAX: usize = 256;
/// Deepest `not` inside `not`.
pub const NOT_DEPTH_MAX: usize = 4;
/// Most findings of one run; whoever has more fixes these first.
pub const FINDINGS_MAX: usize = 1000;
/// Requests that [`crate::sample_request`] tries before it gives up.
pub const SAMPLE_TRIES_MAX: usize = 512;
