//! `mesh`: the root definition.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Mesh, Root};
use super::{Args, Argument, Entry, Keyword, Reader, Repeats, defaults, refuse, team};
use crate::code;
use crate::model;
use crate::value::{self, Kind, Wrong};

pub(super) static MESH: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME)]),
    repeats: Repeats::Many,
    block: Some(Mesh),
    ..Keyword::new(
        "mesh",
        &[Root],
        "The mesh: what holds for all of its services.",
    )
};

pub(super) static TRUST_DOMAIN: Keyword = Keyword {
    args: Args::required(&[Argument::new("DOMAIN", &value::TRUST_DOMAIN)]),
    ..Keyword::new(
        "trust-domain",
        &[Mesh],
        "SPIFFE trust domain of the mesh's identities.",
    )
};

pub(super) static MTLS: Keyword = Keyword {
    args: Args::required(&[Argument::new("MODE", &MODE)]),
    ..Keyword::new(
        "mtls",
        &[Mesh],
        "Whether peers must use mutual TLS; this release knows only strict.",
    )
};

pub(super) static ENVIRONMENT: Keyword = Keyword {
    args: Args::list("NAME", &ENVIRONMENT_NAME, 1),
    ..Keyword::new(
        "environment",
        &[Mesh],
        "Environments that this mesh is compiled for.",
    )
};

static MODE: Kind = Kind {
    expected: "strict",
    words: &["strict"],
    check: |value| match value {
        Value::Word(word) if word == "permissive" || word == "off" => Err(Wrong::later(format!(
            "`mtls {word}` is not supported by this release"
        ))),
        other => value::one_of(other, &[("strict", ())]),
    },
};

static ENVIRONMENT_NAME: Kind = Kind {
    expected: value::NAME.expected,
    words: &[],
    check: |value| environment_name(value).map(drop),
};

fn environment_name(value: &Value) -> Result<String, Wrong> {
    if matches!(value, Value::Word(word) if word == "trust") {
        return Err(Wrong::because("the environment name `trust` is reserved"));
    }
    value::name(value)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Root> {
    let mut trust_domain = None;
    let mut environments = Vec::new();
    let mut settings = model::Settings::default();
    let mut limits = model::Refuse::default();
    let mut teams = Vec::new();
    if entry.node.children_named("trust-domain").next().is_none() {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "a mesh needs its `trust-domain`",
            )
            .help("it is the first part of every identity: `trust-domain \"example.org\"`"),
        );
    }
    for child in reader.block(entry) {
        match child.word() {
            "trust-domain" => trust_domain = child.arg(0, value::trust_domain),
            "environment" => environments = child.args(0, environment_name),
            "defaults" => settings = defaults::decode(reader, child),
            "team" => teams.extend(team::decode(reader, child)),
            "refuse" => limits = refuse::decode(child),
            _ => {}
        }
    }
    Some(model::Root {
        name: entry.arg(0, value::name)?,
        trust_domain,
        environments,
        defaults: settings,
        refuse: limits,
        teams,
        span: entry.span(),
        name_span: entry.node.name.span,
    })
}
