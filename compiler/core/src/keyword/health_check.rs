//! `health-check`: endpoints are asked whether they live.

use std::time::Duration;

use mesh_bundle::slice::{self, HealthCheckKind as Probe};
use mesh_syntax::{Diagnostic, Value};

use super::Place::{Defaults, External, Policy, Service, Subset};
use super::{Args, Argument, Entry, Keyword, Property, Reader};
use crate::code;
use crate::level::{Show, Shown, fields};
use crate::model::{Setting, Spanned};
use crate::value::{self, Kind, Wrong};

pub(super) static HEALTH_CHECK: Keyword = Keyword {
    args: Args::optional(&[Argument::new("PATH", &CHECK)]),
    props: &[
        Property::new(
            "every",
            &value::TIME_OR_NONE,
            "How often; \"10s\" if unsaid.",
        ),
        Property::new(
            "timeout",
            &value::TIME_OR_NONE,
            "How long an answer may take; \"1s\" if unsaid.",
        ),
        Property::new(
            "healthy",
            &value::COUNT_OR_NONE,
            "Successes in a row until it is healthy again; 2 if unsaid.",
        ),
        Property::new(
            "unhealthy",
            &value::COUNT_OR_NONE,
            "Failures in a row until it is not; 3 if unsaid.",
        ),
    ],
    ..Keyword::new(
        "health-check",
        &[Defaults, Policy, Service, External, Subset],
        "Each caller's proxy asks endpoints whether they live: GET of a path, `tcp` or `grpc`.",
    )
};

static CHECK: Kind = Kind {
    expected: "a path in quotes such as \"/healthz\", tcp, grpc or none",
    words: &[],
    check: |value| probe(value).map(drop),
};

impl Show for Probe {
    fn show(&self) -> Shown {
        Shown::Text(match self {
            Self::Http(path) => path.clone(),
            Self::Tcp => "tcp".to_owned(),
            Self::Grpc => "grpc".to_owned(),
        })
    }
}

fields! {
    /// `health-check` at one level.
    declared HealthCheck;
    /// How endpoints are asked whether they live; without a probe they are not.
    effective EffectiveHealthCheck;
    /// What is asked.
    probe: Probe => Option<Probe> = None, "`health-check`", "health_check";
    /// How often.
    every: Duration => Duration = Duration::from_secs(10), "`health-check every=`", "health_check_every";
    /// How long an answer may take.
    timeout: Duration => Duration = Duration::from_secs(1), "`health-check timeout=`", "health_check_timeout";
    /// Successes in a row until it is healthy again.
    healthy: u32 => u32 = 2, "`health-check healthy=`", "health_check_healthy";
    /// Failures in a row until it is not.
    unhealthy: u32 => u32 = 3, "`health-check unhealthy=`", "health_check_unhealthy";
}

impl EffectiveHealthCheck {
    pub(crate) fn lower(&self, message: &mut slice::Pool) {
        message.health_checks = self
            .probe
            .value
            .iter()
            .map(|kind| slice::HealthCheck {
                kind: kind.clone(),
                every: self.every.value,
                timeout: self.timeout.value,
                healthy: self.healthy.value,
                unhealthy: self.unhealthy.value,
            })
            .collect();
    }
}

fn probe(value: &Value) -> Result<Setting<Probe>, Wrong> {
    match value {
        Value::Word(word) if word == "none" => Ok(Setting::Removed),
        Value::Text(_) => value::request_path(value)
            .and_then(|path| {
                if path.contains(['?', '*', '{']) {
                    return Err(Wrong::because(format!("\"{path}\" is not one path"))
                        .help("a health check asks for one path, without query and stars"));
                }
                mesh_engine::path::normalise(&path)
                    .map(|path| path.as_str().to_owned())
                    .map_err(|error| Wrong::because(format!("no proxy takes this path: {error}")))
            })
            .map(|path| Setting::Value(Probe::Http(path))),
        Value::Word(word) if word.starts_with('/') => Err(value::quoted(word)),
        other => value::one_of(other, &[("tcp", 0), ("grpc", 1)])
            .map(|kind| Setting::Value(if kind == 0 { Probe::Tcp } else { Probe::Grpc })),
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> HealthCheck {
    if let Some(none) = reader.none(entry) {
        return HealthCheck::removed(none);
    }
    let check = HealthCheck {
        probe: entry.arg(0, probe),
        every: entry.prop("every", value::time_or_none),
        timeout: entry.prop("timeout", value::time_or_none),
        healthy: entry.prop("healthy", value::count_or_none),
        unhealthy: entry.prop("unhealthy", value::count_or_none),
    };
    if let (
        Some(Spanned {
            value: Setting::Value(every),
            span: first,
        }),
        Some(Spanned {
            value: Setting::Value(timeout),
            span,
        }),
    ) = (&check.every, &check.timeout)
        && timeout > every
    {
        reader.report(
            Diagnostic::error(
                code::OUT_OF_RANGE,
                *span,
                "an answer may take longer than the time between two checks",
            )
            .label(*first, "how often it is asked")
            .help("give the answer less time, or ask less often"),
        );
    }
    check
}
