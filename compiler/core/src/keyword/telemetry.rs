//! `telemetry`: what is logged and traced.

use mesh_bundle::slice::{AccessLogFormat, StatusRange};
use mesh_syntax::Value;

use super::Place::{AccessLog, Gateway, Mesh, Only, Service, Telemetry};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, condition};
use crate::model;
use crate::value::{self, Kind, Wrong};

pub(super) static TELEMETRY: Keyword = Keyword {
    block: Some(Telemetry),
    ..Keyword::new(
        "telemetry",
        &[Mesh, Service, Gateway],
        "What is logged and traced; a service says only what differs from the mesh.",
    )
};

pub(super) static ACCESS_LOG: Keyword = Keyword {
    args: Args::required(&[Argument::new("FORMAT", &FORMAT)]),
    merge: Some(Merge::Whole),
    block: Some(AccessLog),
    ..Keyword::new(
        "access-log",
        &[Telemetry],
        "A record for each request, as `json` or `text`; `none`: no record.",
    )
};

pub(super) static ONLY: Keyword = Keyword {
    repeats: Repeats::Many,
    block: Some(Only),
    ..Keyword::new(
        "only",
        &[AccessLog],
        "Only requests for which all of this holds; of several `only` one is enough.",
    )
};

pub(super) static STATUS: Keyword = Keyword {
    args: Args::list("STATUS", &STATUS_OR_CLASS, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "status",
        &[Only],
        "The status is one of these: 404, or \"5xx\".",
    )
};

pub(super) static SLOWER_THAN: Keyword = Keyword {
    args: Args::required(&[Argument::new("TIME", &value::TIME)]),
    ..Keyword::new("slower-than", &[Only], "The request took longer than this.")
};

pub(super) static TRACES: Keyword = Keyword {
    merge: Some(Merge::Whole),
    props: &[
        Property::new("otlp", &value::URL, "URL of the collector.").required(),
        Property::new(
            "share",
            &value::PERCENT,
            "How many requests are traced; all if unsaid.",
        ),
    ],
    ..Keyword::new(
        "traces",
        &[Telemetry],
        "Where traces go, and of how many requests.",
    )
};

const FORMATS: [(&str, AccessLogFormat); 3] = [
    ("json", AccessLogFormat::Json),
    ("text", AccessLogFormat::Text),
    ("none", AccessLogFormat::None),
];

static FORMAT: Kind = Kind {
    expected: "a format",
    words: &["json", "text", "none"],
    check: |value| format(value).map(drop),
};

fn format(value: &Value) -> Result<AccessLogFormat, Wrong> {
    value::one_of(value, &FORMATS)
}

static STATUS_OR_CLASS: Kind = Kind {
    expected: "a status from 100 to 599, or a class such as \"5xx\"",
    words: &[],
    check: |value| status(value).map(drop),
};

fn status(value: &Value) -> Result<StatusRange, Wrong> {
    if let Value::Text(text) = value {
        let class = text
            .strip_suffix("xx")
            .and_then(|digit| digit.parse::<u16>().ok())
            .filter(|digit| (1..=5).contains(digit));
        return match class {
            Some(digit) => Ok(StatusRange {
                from: digit * 100,
                to: digit * 100 + 99,
            }),
            None => value::status(value).map(|status| StatusRange {
                from: status,
                to: status,
            }),
        };
    }
    value::status(value).map(|status| StatusRange {
        from: status,
        to: status,
    })
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> model::Telemetry {
    let mut telemetry = model::Telemetry::default();
    for child in reader.block(entry) {
        match child.word() {
            "access-log" => telemetry.access_log = access_log(reader, child),
            _ => {
                telemetry.traces = child.prop("otlp", value::url).map(|otlp| model::Traces {
                    otlp,
                    share: child.prop("share", value::percent),
                    span: child.span(),
                });
            }
        }
    }
    telemetry
}

fn access_log(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::AccessLog> {
    let only = reader
        .block(entry)
        .into_iter()
        .map(|child| filter(reader, child))
        .collect();
    Some(model::AccessLog {
        format: entry.arg(0, format)?,
        only,
        span: entry.span(),
    })
}

fn filter(reader: &mut Reader<'_>, entry: Entry<'_>) -> model::AccessLogFilter {
    let mut filter = model::AccessLogFilter::default();
    for child in reader.block(entry) {
        match child.word() {
            "status" => filter
                .statuses
                .extend(child.args(0, status).into_iter().map(|status| status.value)),
            "slower-than" => filter.slower_than = child.arg(0, value::time),
            _ => filter.conditions.extend(condition::decode(reader, child)),
        }
    }
    filter
}
