//! `facts`: numbers that only the analyses use.

use mesh_syntax::Value;

use super::Place::{InventoryService, Service};
use super::{Entry, Keyword, Property};
use crate::model::{self, Spanned};
use crate::value;

pub(super) static FACTS: Keyword = Keyword {
    props: &[
        Property::new("replicas", &value::COUNT, "Instances."),
        Property::new(
            "capacity",
            &value::RATE,
            "What all instances together can take.",
        ),
        Property::new("load", &value::RATE, "What arrives on an ordinary day."),
        Property::new(
            "handling",
            &value::TIME,
            "Time that the service itself needs for a request.",
        ),
    ],
    ..Keyword::new(
        "facts",
        &[Service, InventoryService],
        "What its team knows about it; nothing is assumed.",
    )
};

pub(super) fn decode(entry: Entry<'_>) -> model::Facts {
    let rate = |name| -> Option<Spanned<f64>> {
        entry
            .prop(name, value::rate as fn(&Value) -> _)
            .map(|rate| rate.map(value::per_second))
    };
    model::Facts {
        replicas: entry.prop("replicas", value::count),
        capacity: rate("capacity"),
        load: rate("load"),
        handling: entry.prop("handling", value::time),
    }
}
