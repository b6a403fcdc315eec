//! `rollout`: in which steps a generation reaches the proxies.

use mesh_syntax::{Diagnostic, Value};

use super::Place::Mesh;
use super::{Args, Entry, Keyword, Merge, Property, Reader};
use crate::code;
use crate::model::{self, Flip};
use crate::value::{self, Kind, Wrong};

pub(super) static ROLLOUT: Keyword = Keyword {
    args: Args::list("SHARE", &value::PERCENT, 1),
    merge: Some(Merge::Whole),
    props: &[
        Property::new(
            "hold",
            &value::TIME,
            "How long each step is watched before the next.",
        ),
        Property::new(
            "flip",
            &FLIP,
            "Whether proxies of a step switch each when it is ready, or all together.",
        ),
    ],
    ..Keyword::new(
        "rollout",
        &[Mesh],
        "Shares of the proxies that a generation reaches, step by step, ending with all.",
    )
};

const FLIPS: [(&str, Flip); 2] = [("each", Flip::Each), ("together", Flip::Together)];

static FLIP: Kind = Kind {
    expected: "each or together",
    words: &["each", "together"],
    check: |value| flip(value).map(drop),
};

fn flip(value: &Value) -> Result<Flip, Wrong> {
    value::one_of(value, &FLIPS)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> model::Rollout {
    let steps = entry.args(0, value::percent);
    for pair in steps.windows(2) {
        if let [first, second] = pair
            && first.value >= second.value
        {
            reader.report(
                Diagnostic::error(
                    code::OUT_OF_RANGE,
                    second.span,
                    "a step of a rollout is larger than the one before",
                )
                .label(first.span, "the one before"),
            );
        }
    }
    if let Some(last) = steps.last().filter(|last| last.value < 10_000)
        && steps.len() == entry.node.args.len()
    {
        reader.report(
            Diagnostic::error(code::MISSING, last.span, "a rollout ends with \"100%\"")
                .help("what is left would never get the generation; add \"100%\""),
        );
    }
    model::Rollout {
        steps,
        hold: entry.prop("hold", value::time),
        flip: entry.prop("flip", flip),
        span: entry.span(),
    }
}
