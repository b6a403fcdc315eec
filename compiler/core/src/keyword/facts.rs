//! `facts`: numbers that only the analyses use.

use std::time::Duration;

use mesh_syntax::Value;

use super::Place::Service;
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
        &[Service],
        "What its team knows about it; nothing is assumed.",
    )
};

fn per_second((count, per): (u64, Duration)) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is at most twelve digits"
    )]
    let count = count as f64;
    count / per.as_secs_f64()
}

pub(super) fn decode(entry: Entry<'_>) -> model::Facts {
    let rate = |name| -> Option<Spanned<f64>> {
        entry
            .prop(name, value::rate as fn(&Value) -> _)
            .map(|rate| rate.map(per_second))
    };
    model::Facts {
        replicas: entry.prop("replicas", value::count),
        capacity: rate("capacity"),
        load: rate("load"),
        handling: entry.prop("handling", value::time),
    }
}
