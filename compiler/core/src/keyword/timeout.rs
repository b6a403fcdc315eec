//! `timeout`

use super::Place::{Calls, Defaults, External, Policy, Route, Service};
use super::{Args, Argument, Entry, Keyword, Property};
use crate::model::Timeout;
use crate::value;

pub(super) static TIMEOUT: Keyword = Keyword {
    args: Args::optional(&[Argument::new("TIME", &value::TIME_OR_NONE)]),
    props: &[
        Property::new(
            "connect",
            &value::TIME_OR_NONE,
            "Until a connection, TLS included, is up; `none` is the built-in time, for some time there always is.",
        ),
        Property::new(
            "stream-idle",
            &value::TIME_OR_NONE,
            "Longest silence of a stream.",
        ),
        Property::new(
            "max-duration",
            &value::TIME_OR_NONE,
            "Longest life of a stream.",
        ),
        Property::new(
            "idle",
            &value::TIME_OR_NONE,
            "Longest life of a connection that carries nothing.",
        ),
    ],
    ..Keyword::new(
        "timeout",
        &[Defaults, Policy, Service, External, Route, Calls],
        "Longest time of the whole exchange, all tries included.",
    )
};

pub(super) fn decode(entry: Entry<'_>) -> Timeout {
    Timeout {
        whole: entry.arg(0, value::time_or_none),
        connect: entry.prop("connect", value::time_or_none),
        stream_idle: entry.prop("stream-idle", value::time_or_none),
        max_duration: entry.prop("max-duration", value::time_or_none),
        idle: entry.prop("idle", value::time_or_none),
    }
}
