//! Options that take one of a few words.

use clap::ValueEnum;

/// How output is written by most commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For code scanning.
    Sarif,
    /// As annotations of a GitHub workflow.
    Github,
}

/// How a comparison is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For a comment on a pull request; nothing at all where nothing changes.
    Markdown,
}

/// How an audit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For a document.
    Markdown,
}

/// How a call graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Tables for people.
    Human,
    /// For programs.
    Json,
    /// A picture for Graphviz.
    Dot,
    /// A picture for Mermaid, as in Markdown.
    Mermaid,
    /// A picture of its own.
    Svg,
    /// A page with the picture, to search and point at.
    Html,
}

/// The lowest level of findings that make `check` fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deny {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
    /// Every finding.
    Note,
}

/// How results of tests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For continuous integration: JUnit's XML.
    Junit,
}
