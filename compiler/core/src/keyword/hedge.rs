//! `hedge`: another try beside one that takes long.

use mesh_syntax::Value;

use super::Place::{Calls, Defaults, External, Policy, Route, Service};
use super::{Args, Argument, Entry, Keyword, Property, Reader};
use crate::limits;
use crate::model::{Hedge, Setting, Spanned};
use crate::value::{self, Kind, Wrong};

pub(super) static HEDGE: Keyword = Keyword {
    args: Args::optional(&[Argument::new("TIME", &value::TIME_OR_NONE)]),
    props: &[Property::new(
        "attempts",
        &ATTEMPTS,
        "All tries, the first included; 2 if unsaid.",
    )],
    ..Keyword::new(
        "hedge",
        &[Defaults, Policy, Service, External, Route, Calls],
        "Sends another try when one takes so long; whichever answers first counts.",
    )
};

static ATTEMPTS: Kind = Kind {
    expected: "a whole number from 2, which counts the first call",
    words: &[],
    check: |value| attempts(value).map(drop),
};

fn attempts(value: &Value) -> Result<u32, Wrong> {
    value::integer(value, 2, limits::ATTEMPTS_MAX).map_err(|wrong| match value {
        Value::Integer(0 | 1) => {
            wrong.help("one try is no hedge: to take it away, write `hedge none`")
        }
        _ => wrong,
    })
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Hedge {
    if let Some(none) = reader.none(entry) {
        return Hedge {
            delay: Some(Spanned::new(Setting::Removed, none)),
            attempts: Some(Spanned::new(Setting::Removed, none)),
        };
    }
    Hedge {
        delay: entry.arg(0, value::time_or_none),
        attempts: entry
            .prop("attempts", attempts)
            .map(|attempts| attempts.map(Setting::Value)),
    }
}
