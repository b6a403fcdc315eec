//! `inventory`: what git alone can't know, as a tool wrote it down on one day. It informs checks and
//! decides nothing: no byte of a slice comes from it.

use mesh_syntax::Value;

use super::Place::{Inventory, InventoryFile, InventoryService};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol, endpoints, facts};
use crate::model::{self, Certificate, Instances, Inventoried, Observed};
use crate::value::{self, Kind, Wrong};

pub(super) static INVENTORY: Keyword = Keyword {
    args: Args::required(&[Argument::new("DATE", &value::DATE)]),
    repeats: Repeats::Many,
    block: Some(Inventory),
    ..Keyword::new(
        "inventory",
        &[InventoryFile],
        "What was found in the fleet on a day; it informs checks and changes nothing else.",
    )
};

pub(super) static SERVICE: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).refers(Symbol::Service)]),
    repeats: Repeats::Many,
    block: Some(InventoryService),
    alone: true,
    ..Keyword::new("service", &[Inventory], "A service as it was found.")
};

pub(super) static INSTANCES: Keyword = Keyword {
    args: Args::required(&[Argument::new("COUNT", &INSTANCES_COUNT)]),
    repeats: Repeats::Many,
    labels: Some(&value::LABEL),
    ..Keyword::new(
        "instances",
        &[InventoryService],
        "How many instances carry these labels, of which `zone` is one.",
    )
};

pub(super) static OBSERVED: Keyword = Keyword {
    args: Args::required(&[Argument::new("CALLER", &CALLER).refers(Symbol::Service)]),
    repeats: Repeats::Many,
    props: &[
        Property::new("to", &value::NAME, "The called service.")
            .required()
            .refers(Symbol::Service),
        Property::new("rate", &value::RATE, "How often."),
    ],
    ..Keyword::new("observed", &[Inventory], "A call that was seen.")
};

pub(super) static IDENTITY: Keyword = Keyword {
    args: Args::list("IDENTITY", &value::SPIFFE_ID, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "identity",
        &[Inventory],
        "Identities that exist outside of the mesh's own services.",
    )
};

pub(super) static CERTIFICATE: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME)]),
    repeats: Repeats::Many,
    props: &[Property::new("until", &value::DATE, "The last day that it is valid.").required()],
    ..Keyword::new(
        "certificate",
        &[Inventory],
        "A certificate that proxies are given by this name.",
    )
};

static INSTANCES_COUNT: Kind = Kind {
    expected: "a whole number from 0",
    words: &[],
    check: |value| instances_count(value).map(drop),
};

static CALLER: Kind = Kind {
    expected: "a service, or an identity in quotes",
    words: &[],
    check: |value| caller(value).map(drop),
};

fn instances_count(value: &Value) -> Result<u32, Wrong> {
    match value {
        Value::Integer(0) => Ok(0),
        other => value::count(other),
    }
}

fn caller(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Text(_) => value::spiffe_id(value).map(|id| id.as_str().to_owned()),
        other => value::name(other),
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Inventory> {
    let mut services = Vec::new();
    let mut observed = Vec::new();
    let mut identities = Vec::new();
    let mut certificates = Vec::new();
    for child in reader.block(entry) {
        match child.word() {
            "service" => services.extend(decode_service(reader, child)),
            "observed" => observed.extend(decode_observed(child)),
            "certificate" => certificates.extend(decode_certificate(child)),
            _ => identities.extend(child.args(0, value::spiffe_id)),
        }
    }
    Some(model::Inventory {
        date: entry.arg(0, value::date)?,
        services,
        observed,
        identities,
        certificates,
        span: entry.span(),
    })
}

fn decode_certificate(entry: Entry<'_>) -> Option<Certificate> {
    Some(Certificate {
        name: entry.arg(0, value::name)?,
        until: entry.prop("until", value::date)?,
    })
}

fn decode_service(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Inventoried> {
    let mut instances = Vec::new();
    let mut measured = model::Facts::default();
    for child in reader.block(entry) {
        match child.word() {
            "instances" => instances.extend(child.arg(0, instances_count).map(|count| Instances {
                count,
                labels: endpoints::labels(child),
                span: child.span(),
            })),
            _ => measured = facts::decode(child),
        }
    }
    Some(Inventoried {
        name: entry.arg(0, value::name)?,
        instances,
        facts: measured,
        span: entry.span(),
    })
}

fn decode_observed(entry: Entry<'_>) -> Option<Observed> {
    Some(Observed {
        from: entry.arg(0, caller)?,
        to: entry.prop("to", value::name)?,
        rate: entry
            .prop("rate", value::rate)
            .map(|rate| rate.map(value::per_second)),
        span: entry.span(),
    })
}
