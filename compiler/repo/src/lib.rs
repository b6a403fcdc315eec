//! The one way policy is read from git, by `meshc` and `meshd` alike: a commit's files, its place in the
//! order of commits and its ancestry. And the one way anything is written to it: files are added to a ref
//! of their own.
//!
//! Raw objects only: never the work tree, a filter, an attribute or a replacement. It does not compile,
//! and it does not fetch.

mod append;
mod blame;
mod files;
mod history;
mod ignored;
pub mod limits;
mod link;
mod repository;
mod root;

pub use append::{AppendError, Appended, Note};
pub use blame::Since;
pub use files::{SUBMODULE, input_digest};
pub use history::HistoryError;
pub use ignored::Ignored;
pub use link::{LinkedFolder, led_to};
pub use repository::{CommitId, OpenError, ReadError, Repository, TreeId};
pub use root::{RootError, holds_mesh, is_policy_file};
