//! `subset`: a named part of a service's endpoints.

use mesh_syntax::Diagnostic;

use super::Place::{Service, Subset};
use super::{Args, Argument, Entry, Keyword, Merge, Reader, Repeats, Symbol, defaults, endpoints};
use crate::code;
use crate::model;
use crate::value;

pub(super) static SUBSET: Keyword = Keyword {
    merge: Some(Merge::Named),
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Subset)]),
    repeats: Repeats::Many,
    block: Some(Subset),
    ..Keyword::new(
        "subset",
        &[Service],
        "A named part of the endpoints, such as one version.",
    )
};

pub(super) static LABELS: Keyword = Keyword {
    labels: Some(&value::LABEL),
    ..Keyword::new(
        "labels",
        &[Subset],
        "Labels that an endpoint must carry, all of them.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Subset> {
    let children = reader.block(entry);
    let mut labels = Vec::new();
    let mut is_labelled = false;
    let mut pool = model::Pool::default();
    for child in children {
        match child.word() {
            "labels" => {
                labels = endpoints::labels(child);
                // What is wrong with a label is told where it stands.
                is_labelled = !child.node.props.is_empty();
            }
            _ => defaults::pool(reader, child, &mut pool),
        }
    }
    if labels.is_empty() && !is_labelled {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "a subset needs `labels`",
            )
            .help("name what tells its endpoints apart: `subset v1 { labels version=v1 }`"),
        );
    }
    Some(model::Subset {
        name: entry.arg(0, value::name)?,
        labels,
        pool,
        span: entry.span(),
    })
}
