//! Source text, findings and the syntax tree of policy files.
//!
//! Pure: it is given bytes and returns trees and [`Diagnostic`]s. It knows KDL but none of the words of
//! the policy language, and the `kdl` crate never shows through its types.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod diagnostic;
mod format;
pub mod limits;
mod parse;
mod source;
mod tree;

pub use diagnostic::{Code, Confidence, Diagnostic, Edit, Fix, Label, Level, Witness, code};
pub use format::{FormatError, format, format_all, format_text, not_formatted};
#[cfg(any(test, feature = "test-util"))]
pub use parse::agreement::disagreement;
pub use parse::{Parsed, parse, parse_again, parse_file};
pub use source::{FileId, KEY_SET_SUFFIX, SourceSet, Span};
pub use tree::{Arg, Name, Node, Prop, Tree, Value};
