//! `fault`: failures on purpose.

use std::time::Duration;

use mesh_bundle::slice::{FaultAbort, FaultDelay};
use mesh_syntax::Diagnostic;

use super::Place::{self, Expect, Route};
use super::respond::{FINAL_STATUS, final_status};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader};
use crate::code;
use crate::model::{Fault, Spanned};
use crate::value;

pub(super) static FAULT: Keyword = Keyword {
    props: &[Property::new(
        "until",
        &value::DATE,
        "The day from which on nothing happens any more.",
    )],
    merge: Some(Merge::Whole),
    block: Some(Place::Fault),
    ..Keyword::new(
        "fault",
        &[Route],
        "Delays requests or answers them with a status, to see what happens then.",
    )
};

pub(super) static DELAY: Keyword = Keyword {
    args: Args::required(&[Argument::new("TIME", &value::TIME)]),
    props: &[SHARE],
    ..Keyword::new(
        "delay",
        &[Place::Fault, Expect],
        "Waits before anything else.",
    )
};

pub(super) static ABORT: Keyword = Keyword {
    args: Args::required(&[Argument::new("STATUS", &FINAL_STATUS)]),
    props: &[SHARE],
    ..Keyword::new("abort", &[Place::Fault, Expect], "Answers with a status.")
};

const SHARE: Property = Property::new(
    "share",
    &value::PERCENT,
    "How many requests; all if unsaid.",
);

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Fault> {
    let (mut delay, mut abort) = (None, None);
    for child in reader.block(entry) {
        match child.word() {
            "delay" => {
                delay = self::delay(child)
                    .map(|delay| delay.map(|(by, share)| FaultDelay { by, share }));
            }
            _ => {
                abort = self::abort(child)
                    .map(|abort| abort.map(|(status, share)| FaultAbort { status, share }));
            }
        }
    }
    if entry.node.children.is_empty() {
        if !entry.node.props.is_empty() || entry.node.has_block {
            reader.report(
                Diagnostic::error(
                    code::MISSING,
                    entry.node.name.span,
                    "`fault` neither delays nor aborts",
                )
                .help("say what goes wrong: `fault { delay \"7s\" share=\"10%\" }`"),
            );
        }
        return None;
    }
    (delay.is_some() || abort.is_some()).then(|| Fault {
        delay,
        abort,
        until: entry.prop("until", value::date),
        span: entry.span(),
    })
}

/// A time and the share of requests that wait for it.
pub(super) fn delay(entry: Entry<'_>) -> Option<Spanned<(Duration, u32)>> {
    let by = entry.arg(0, value::time)?.value;
    Some(Spanned::new((by, share(entry)), entry.span()))
}

/// A status and the share of requests that are answered with it.
pub(super) fn abort(entry: Entry<'_>) -> Option<Spanned<(u16, u32)>> {
    let status = entry.arg(0, final_status)?.value;
    Some(Spanned::new((status, share(entry)), entry.span()))
}

fn share(entry: Entry<'_>) -> u32 {
    entry
        .prop("share", value::percent)
        .map_or(10_000, |share| share.value)
}
