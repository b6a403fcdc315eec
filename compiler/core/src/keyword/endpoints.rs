//! `endpoints`: where a service's instances are.

use mesh_bundle::slice;
use mesh_syntax::Value;

use super::Place::{Endpoints, External, Service};
use super::{Args, Entry, Keyword, Merge, Property, Reader, Repeats};
use crate::model::{self, EndpointSource, Label, Spanned};
use crate::value::{self, Wrong};

pub(super) static ENDPOINTS: Keyword = Keyword {
    block: Some(Endpoints),
    merge: Some(Merge::Whole),
    ..Keyword::new(
        "endpoints",
        &[Service, External],
        "Where its instances are; without it they are discovered.",
    )
};

pub(super) static STATIC: Keyword = Keyword {
    args: Args::list("ADDRESS", &value::SOCKET, 1),
    repeats: Repeats::Many,
    labels: Some(&value::LABEL),
    ..Keyword::new(
        "static",
        &[Endpoints],
        "Addresses with ports, and the labels of all on the line.",
    )
};

pub(super) static DNS: Keyword = Keyword {
    args: Args::list("NAME", &value::DNS, 1),
    repeats: Repeats::Many,
    labels: Some(&value::LABEL),
    ..Keyword::new(
        "dns",
        &[Endpoints],
        "Names to resolve with ports, and the labels of all on the line.",
    )
};

pub(super) static KUBERNETES: Keyword = Keyword {
    props: &[
        Property::new(
            "namespace",
            &value::NAME,
            "Namespace of the Kubernetes service.",
        )
        .required(),
        Property::new(
            "name",
            &value::NAME,
            "Its name, when it differs from the service's.",
        ),
    ],
    ..Keyword::new(
        "kubernetes",
        &[Endpoints],
        "The endpoints of a Kubernetes service.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Vec<model::Endpoints> {
    reader.block(entry).into_iter().map(decode_source).collect()
}

fn decode_source(entry: Entry<'_>) -> model::Endpoints {
    let source = match entry.word() {
        "static" => EndpointSource::Declared(entry.args(0, value::socket)),
        "dns" => EndpointSource::Declared(entry.args(0, value::dns)),
        _ => EndpointSource::Kubernetes {
            namespace: entry.prop("namespace", value::name),
            name: entry.prop("name", value::name),
        },
    };
    let labels = if entry.keyword.labels.is_some() {
        labels(entry)
    } else {
        Vec::new()
    };
    model::Endpoints {
        source,
        labels,
        span: entry.span(),
    }
}

/// The labels of a node, ascending by key; of one given twice, which was reported, the first.
pub(super) fn labels(entry: Entry<'_>) -> Vec<Label> {
    let read: fn(&Value) -> Result<String, Wrong> = value::label_value;
    let mut labels: Vec<Label> = entry
        .labels()
        .filter_map(|prop| {
            let value = read(&prop.value).ok()?;
            Some(Spanned::new(
                slice::Label {
                    key: prop.name.text.clone(),
                    value,
                },
                prop.span,
            ))
        })
        .collect();
    labels.sort_by(|a, b| a.value.key.cmp(&b.value.key));
    labels.dedup_by(|later, first| later.value.key == first.value.key);
    labels
}
