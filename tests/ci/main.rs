//! What we give to the CI of others, as far as a machine without their services can tell: the scripts run on
//! repositories with real branches and merge bases, comments go to a server that answers as theirs do, and what
//! others read (YAML, SARIF) is held against its published schemas.

mod api;
mod comment;
mod compare;
mod hook;
mod schemas;
mod support;
