//! `retry-budget`

use std::time::Duration;

use mesh_syntax::Diagnostic;

use super::Place::{Defaults, External, Policy, Service};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader};
use crate::code;
use crate::model::{BudgetMinimum, Field, RetryBudget, Setting, Spanned};
use crate::value::{self, Kind, RateOrCount};

pub(super) static RETRY_BUDGET: Keyword = Keyword {
    merge: Some(Merge::Whole),
    args: Args::required(&[Argument::new("SHARE", &value::PERCENT_OR_NONE)]),
    props: &[
        Property::new(
            "of",
            &OF,
            "Share of the requests of the last `window`, or of those in flight.",
        ),
        Property::new(
            "min",
            &value::RATE_OR_COUNT,
            "Always allowed: a rate with `of=requests`, a number at once with `of=active`.",
        ),
        Property::new(
            "window",
            &value::TIME,
            "How far back requests count; only with `of=requests`.",
        ),
    ],
    ..Keyword::new(
        "retry-budget",
        &[Defaults, Policy, Service, External],
        "How many retries one calling proxy may send one service.",
    )
};

static OF: Kind = Kind {
    expected: "requests or active",
    words: &["requests", "active"],
    check: |value| of(value).map(drop),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Requests,
    Active,
}

fn of(value: &mesh_syntax::Value) -> Result<Of, value::Wrong> {
    value::one_of(value, &[("requests", Of::Requests), ("active", Of::Active)])
}

/// Window of a budget that says none.
const WINDOW: Duration = Duration::from_secs(10);

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Field<RetryBudget> {
    let share = entry.arg(0, value::percent_or_none)?;
    let share = match share.value {
        Setting::Removed => {
            if let Some(prop) = entry.node.props.first() {
                reader.report(Diagnostic::error(
                    code::EXCLUSIVE,
                    prop.span,
                    "`retry-budget none` is not combined with anything else",
                ));
            }
            return Some(Spanned::new(Setting::Removed, share.span));
        }
        Setting::Value(share) => share,
    };
    let minimum = minimum(reader, entry);
    Some(Spanned::new(
        Setting::Value(RetryBudget { share, minimum }),
        entry.span(),
    ))
}

fn minimum(reader: &mut Reader<'_>, entry: Entry<'_>) -> BudgetMinimum {
    let kind = entry.prop("of", of).map_or(Of::Requests, |of| of.value);
    let min = entry.prop("min", value::rate_or_count);
    let window = entry.prop("window", value::time);
    match (kind, min.map(|min| min.value)) {
        (Of::Requests, Some(RateOrCount::Count(count))) => wrong_minimum(
            reader,
            min,
            "a share of requests needs its minimum as a rate",
            &format!("write \"{count}/s\", or `of=active`"),
        ),
        (Of::Active, Some(RateOrCount::Rate(..))) => wrong_minimum(
            reader,
            min,
            "a share of requests in flight needs its minimum as a number",
            "write how many retries may run at once, or `of=requests`",
        ),
        _ => {}
    }
    match (kind, min.map(|min| min.value)) {
        (Of::Active, min) => {
            if let Some(window) = window {
                reader.report(
                    Diagnostic::error(
                        code::EXCLUSIVE,
                        window.span,
                        "`window=` goes only with `of=requests`",
                    )
                    .help("remove it: requests in flight are counted now"),
                );
            }
            let count = if let Some(RateOrCount::Count(count)) = min {
                count
            } else {
                0
            };
            BudgetMinimum::Active { count }
        }
        (Of::Requests, min) => {
            let (count, per) = match min {
                Some(RateOrCount::Rate(count, per)) => (count, per),
                _ => (0, Duration::from_secs(1)),
            };
            BudgetMinimum::Requests {
                count,
                per,
                window: window.map_or(WINDOW, |w| w.value),
            }
        }
    }
}

fn wrong_minimum(
    reader: &mut Reader<'_>,
    min: Option<Spanned<RateOrCount>>,
    message: &str,
    help: &str,
) {
    if let Some(min) = min {
        reader.report(Diagnostic::error(code::WRONG_TYPE, min.span, message).help(help));
    }
}
