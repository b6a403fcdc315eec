//! What people decide about findings, and what an inventory knows.

use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::{FileId, Span};

use super::{Facts, Label, Spanned};
use crate::date::Date;

/// A finding that somebody answers for.
#[derive(Clone, Debug, PartialEq)]
pub struct Suppression {
    /// The code.
    pub code: Spanned<String>,
    /// What it is about; none: wherever it is found.
    pub at: Option<Spanned<SuppressedAt>>,
    /// The route of it.
    pub route: Option<Spanned<String>>,
    /// Why it is right.
    pub reason: String,
    /// The team that answers for it.
    pub owner: Spanned<String>,
    /// The last day that it holds.
    pub until: Spanned<Date>,
    /// The whole node.
    pub span: Span,
}

/// What a suppression is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuppressedAt {
    /// A service, gateway or external: what lies in it, or is about it.
    Definition(String),
    /// A file: what lies in it.
    File {
        /// As written, relative to the mesh's folder.
        path: String,
        /// Which; known once it is linked.
        file: Option<FileId>,
    },
}

/// What an environment changes of a definition that all share.
#[derive(Clone, Debug, PartialEq)]
pub struct Overriding {
    /// The word that declares it.
    pub kind: &'static str,
    /// Its name.
    pub name: Spanned<String>,
    /// Where it is declared.
    pub declared: Span,
    /// The whole `override` or `remove`.
    pub span: Span,
}

/// What git alone can't know, on one day.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The day on which it was true.
    pub date: Spanned<Date>,
    /// What is known of each service.
    pub services: Vec<Inventoried>,
    /// Calls that were seen.
    pub observed: Vec<Observed>,
    /// Identities that exist outside of the mesh's own services.
    pub identities: Vec<Spanned<SpiffeId>>,
    /// Certificates that proxies are given.
    pub certificates: Vec<Certificate>,
    /// The whole node.
    pub span: Span,
}

/// A certificate that proxies are given by a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// The name.
    pub name: Spanned<String>,
    /// The last day that it is valid.
    pub until: Spanned<Date>,
}

/// What an inventory knows of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventoried {
    /// Which.
    pub name: Spanned<String>,
    /// Its instances, by their labels; none: it has none, or nobody counted.
    pub instances: Vec<Instances>,
    /// Measured facts.
    pub facts: Facts,
    /// The whole node.
    pub span: Span,
}

/// Instances with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Instances {
    /// How many.
    pub count: Spanned<u32>,
    /// What they carry, ascending by key.
    pub labels: Vec<Label>,
    /// The whole node.
    pub span: Span,
}

/// A call that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Who called, a service or an identity as text.
    pub from: Spanned<String>,
    /// Who was called.
    pub to: Spanned<String>,
    /// How often, in requests per second.
    pub rate: Option<Spanned<f64>>,
    /// The whole node.
    pub span: Span,
}
