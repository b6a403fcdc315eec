//! Bounds on what a repository may make us read. Those on files are `mesh_syntax::limits`.

/// Largest commit object: a message of some pages and hundreds of parents.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Largest tree object: about 100,000 entries in one folder.
pub const TREE_BYTES_MAX: usize = 4 << 20;
/// Deepest folder below the policy root.
pub const FOLDER_DEPTH_MAX: usize = 64;
/// Most entries visited below the policy root, policy or not.
pub const ENTRIES_MAX: usize = 500_000;
/// Most commits counted.
pub const COMMITS_MAX: u64 = 20_000_000;
/// How often adding to a ref is tried while others move it.
pub const APPEND_TRIES: u32 = 5;
/// Links that are followed one after the other.
pub const LINKS_MAX: usize = 8;
/// Longest text of a link, as systems have it.
pub const LINK_BYTES_MAX: usize = 4096;
