//! `meshc lsp`: the Language Server Protocol at standard input and output.
//!
//! What an editor asks is answered by `mesh-editor` and what is wrong found by `mesh-lint`; here are messages,
//! documents, files and time.

mod actions;
mod convert;
mod handlers;
mod message;
mod plain;
mod position;
mod session;
mod uri;
mod worker;
mod workspace;

pub(crate) use session::run;
