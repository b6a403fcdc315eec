//! What an editor asks about policies: what is here, where is it defined, who uses it, what may stand here.
//!
//! Each question is a function of the files as they are in the editor at this moment, however broken, of the keyword
//! declarations and, where values are asked for, of the last mesh that could be linked. Pure, and it knows nothing of
//! the protocol between editors and servers: places are byte offsets.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod completion;
mod cursor;
mod effective;
mod fold;
mod hover;
mod name;
mod navigate;
mod outline;
mod policies;
mod rename;
mod symbol;
#[cfg(test)]
mod tester;
mod walk;

pub use completion::{Completion, CompletionKind, complete};
pub use fold::{Fold, folds};
pub use hover::{Compiled, Hover, hover, reason};
pub use name::{Id, Kind, Mention, Role};
pub use navigate::{Definition, definitions, highlights, library_text, references};
pub use policies::Policies;
pub use rename::{Renaming, Unrenamable, prepare, rename};
pub use symbol::{Listed, Outlined, outline, search};
