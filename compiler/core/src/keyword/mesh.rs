//! `mesh`: the root definition.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Mesh, Root};
use super::{
    Args, Argument, Entry, Keyword, Merge, Reader, Repeats, Symbol, defaults, mtls, refuse,
    rollout, team, telemetry,
};
use crate::code;
use crate::model;
use crate::value::{self, Kind, Wrong};

pub(super) static MESH: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Mesh)]),
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

pub(super) static FEDERATE: Keyword = Keyword {
    args: Args::list("DOMAIN", &value::TRUST_DOMAIN, 1),
    merge: Some(Merge::List),
    ..Keyword::new(
        "federate",
        &[Mesh],
        "Trust domains of others, whose identities rules may name.",
    )
};

pub(super) static ENVIRONMENT: Keyword = Keyword {
    args: Args::list("NAME", &ENVIRONMENT_NAME, 1).defines(Symbol::Environment),
    ..Keyword::new(
        "environment",
        &[Mesh],
        "Environments that this mesh is compiled for.",
    )
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
    let mut mtls_mode = None;
    let mut federates = Vec::new();
    let mut steps = None;
    let mut told = model::Telemetry::default();
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
            "mtls" => mtls_mode = mtls::decode(child),
            "federate" => federates = child.args(0, value::trust_domain),
            "rollout" => steps = Some(rollout::decode(reader, child)),
            "telemetry" => told = telemetry::decode(reader, child),
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
        mtls: mtls_mode,
        federates,
        rollout: steps,
        telemetry: told,
        span: entry.span(),
        name_span: entry.node.name.span,
    })
}
