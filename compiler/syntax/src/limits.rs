//! Every bound on what is read, with its reason.

/// Largest policy file. The parser needs about 48 times the source in memory.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Largest sum of all files of one policy root.
pub const TOTAL_BYTES_MAX: usize = 64 << 20;
/// Most files of one policy root.
pub const FILES_MAX: usize = 20_000;
/// Deepest nesting of blocks. The parser recurses per level; policies need five.
pub const NESTING_MAX: usize = 32;
/// Most nodes, arguments and properties of one file.
pub const ITEMS_MAX: usize = 400_000;
/// Most nodes, arguments and properties of one policy root.
pub const ITEMS_TOTAL_MAX: usize = 4_000_000;
/// Most findings reported for one file; whoever has more fixes these first.
pub const FINDINGS_MAX: usize = 50;
/// How often one file is scanned again behind a block that is never closed, which bounds the whole
/// scan to this many passes.
pub const RESUMPTIONS_MAX: usize = 8;
/// Stack of the threads that parse: far more than [`NESTING_MAX`] levels need in an unoptimised build.
pub const STACK_BYTES: usize = 8 << 20;
/// Columns that [`format`](crate::format()) fills.
pub const FORMAT_COLUMNS: usize = 100;
