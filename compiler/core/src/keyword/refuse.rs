//! `refuse`: limits that `check` enforces.

use super::Place::Mesh;
use super::{Entry, Keyword, Property};
use crate::model::Refuse;
use crate::value;

pub(super) static REFUSE: Keyword = Keyword {
    props: &[
        Property::new(
            "amplification",
            &value::AMPLIFICATION,
            "Most times that retries along one path may multiply a request from outside, however many calls it is without failures.",
        ),
        Property::new(
            "attempts",
            &value::ATTEMPTS,
            "Most attempts that any `retry` may ask for.",
        ),
        Property::new(
            "canary-step",
            &value::PERCENT,
            "Most of any requests that one commit may move to another version of a service.",
        ),
        Property::new(
            "blast-radius",
            &value::PERCENT,
            "Most of the workloads whose slices one commit may change; above it, a warning.",
        ),
    ],
    ..Keyword::new("refuse", &[Mesh], "Limits that `check` enforces.")
};

pub(super) fn decode(entry: Entry<'_>) -> Refuse {
    Refuse {
        amplification: entry.prop("amplification", value::amplification),
        attempts: entry.prop("attempts", value::attempts),
        canary_step: entry.prop("canary-step", value::percent),
        blast_radius: entry.prop("blast-radius", value::percent),
    }
}
