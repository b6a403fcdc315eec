//! Bounds on what is read from the work tree; those on policy files are `mesh_syntax::limits`.

/// Highest folder above the given one in which the policy root is looked for.
pub(crate) const FOLDERS_UP_MAX: usize = 64;
/// Most entries visited below a folder.
pub(crate) const ENTRIES_MAX: usize = 500_000;
/// Most entries of folders that git ignores that are visited, to name the policy files in them.
pub(crate) const IGNORED_ENTRIES_MAX: usize = 2_000;
/// Deepest folder below the given one.
pub(crate) const FOLDER_DEPTH_MAX: usize = 64;
/// Largest key or trust file.
pub(crate) const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Largest file of a trust folder.
pub(crate) const TRUST_FILE_BYTES_MAX: u64 = 1 << 20;
/// Most findings that are shown to people who do not ask for all of them.
pub(crate) const FINDINGS_SHOWN_MAX: usize = 50;
/// Most of a label that is marked in output for people.
pub(crate) const MARKED_BYTES_MAX: usize = 400;
/// Most that is shown around a label in output for people, where lines are longer.
pub(crate) const SHOWN_BYTES_MAX: usize = 2000;
/// Most lines that are shown of what formatting would change in one file.
pub(crate) const DIFFERENCE_LINES_MAX: usize = 40;
/// Largest list of accepted findings.
pub(crate) const BASELINE_BYTES_MAX: u64 = 16 << 20;
