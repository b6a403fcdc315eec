//! The caller's level: it may tighten what the callee grants, and loosen only what the callee lets it.
#![expect(
    clippy::ref_option,
    reason = "a field is a type of its own that happens to be an option"
)]

use std::time::Duration;

use mesh_bundle::slice::RetryCause;
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use super::merge::optional;
use crate::code;
use crate::linked::{Effective, Exchange, Source};
use crate::model::{self, Extendable, Field, Setting, Spanned};
use crate::value::duration_text;

/// How a finding calls what is tried again.
const CAUSES: &str = "the causes of `retry`";

/// Whose limit a caller runs into.
#[derive(Clone, Copy)]
pub(super) struct Callee<'a> {
    pub(super) name: &'a str,
    pub(super) may_extend: &'a [Extendable],
}

impl Linker<'_, '_> {
    /// The exchange of a route for a caller with these settings.
    pub(super) fn tighten(
        &mut self,
        route: &Exchange,
        call: &model::Exchange,
        callee: Callee<'_>,
    ) -> Exchange {
        let mut exchange = route.clone();
        let model::Timeout {
            whole,
            connect,
            stream_idle,
            max_duration,
            idle,
        } = &call.timeout;
        self.limit(
            &mut exchange.timeout,
            whole,
            "timeout",
            Some(Extendable::Timeout),
            callee,
        );
        self.limit(
            &mut exchange.stream_idle,
            stream_idle,
            "stream-idle=",
            None,
            callee,
        );
        self.limit(
            &mut exchange.max_duration,
            max_duration,
            "max-duration=",
            None,
            callee,
        );
        self.limit(&mut exchange.idle, idle, "idle=", None, callee);
        // `none` is what holds when nobody says anything.
        let connect = connect.as_ref().map(|given| match given.value {
            Setting::Removed => Spanned::new(
                Setting::Value(Exchange::built_in().connect.value),
                given.span,
            ),
            Setting::Value(_) => given.clone(),
        });
        self.at_most(&mut exchange.connect, &connect, "connect=", callee);
        self.retry(&mut exchange, &call.retry, callee);
        self.hedge(&mut exchange, &call.hedge, callee);
        exchange
    }

    fn retry(&mut self, exchange: &mut Exchange, call: &model::Retry, callee: Callee<'_>) {
        let model::Retry {
            causes,
            attempts,
            per_try,
            any_method,
            backoff_base,
            backoff_max,
        } = call;
        if let Some(Spanned {
            value: Setting::Removed,
            span,
        }) = causes
        {
            // `retry none`: nothing is tighter, so that the other fields no longer matter.
            let source = Source::Calls(*span);
            exchange.attempts = Effective { value: 1, source };
            exchange.causes = Effective {
                value: Vec::new(),
                source,
            };
            return;
        }
        self.limit(
            &mut exchange.per_try,
            per_try,
            "per-try=",
            Some(Extendable::PerTry),
            callee,
        );
        if let Some(Spanned { value, span }) = attempts {
            let value = match value {
                Setting::Removed => 1,
                Setting::Value(attempts) => *attempts,
            };
            let base = &exchange.attempts;
            if value > base.value && !callee.may_extend.contains(&Extendable::Attempts) {
                let (asked, granted) = (value.to_string(), base.value.to_string());
                self.loosens(*span, "attempts=", &asked, &granted, base.source, callee);
            } else {
                exchange.attempts = Effective {
                    value,
                    source: Source::Calls(*span),
                };
            }
        }
        self.causes(exchange, causes, callee);
        match any_method {
            Some(Spanned {
                value: Setting::Value(true),
                span,
            }) if !exchange.any_method.value => {
                let source = exchange.any_method.source;
                self.loosens(
                    *span,
                    "methods=",
                    "any",
                    "idempotent methods",
                    source,
                    callee,
                );
            }
            Some(Spanned { value, span }) => {
                let value = matches!(value, Setting::Value(true));
                exchange.any_method = Effective {
                    value,
                    source: Source::Calls(*span),
                };
            }
            None => {}
        }
        self.at_least(&mut exchange.backoff_base, backoff_base, "backoff", callee);
        self.at_least(
            &mut exchange.backoff_max,
            backoff_max,
            "backoff max=",
            callee,
        );
    }

    /// Later, fewer or no more tries is tighter.
    fn hedge(&mut self, exchange: &mut Exchange, call: &model::Hedge, callee: Callee<'_>) {
        let model::Hedge { delay, attempts } = call;
        if let Some(Spanned { value, span }) = delay {
            let asked = match value {
                Setting::Removed => None,
                Setting::Value(time) => Some(*time),
            };
            let granted = exchange.hedge.value;
            let text = |time: Option<Duration>| time.map_or("none".to_owned(), duration_text);
            if asked.is_some_and(|asked| granted.is_none_or(|granted| asked < granted)) {
                let (asked, granted) = (text(asked), text(granted));
                let source = exchange.hedge.source;
                self.loosens(*span, "hedge", &asked, &granted, source, callee);
                return;
            }
            exchange.hedge = Effective {
                value: asked,
                source: Source::Calls(*span),
            };
        }
        if let Some(Spanned {
            value: Setting::Value(asked),
            span,
        }) = attempts
        {
            let granted = &exchange.hedge_attempts;
            if exchange.hedge.value.is_some() && *asked > granted.value {
                let (asked, source) = (asked.to_string(), granted.source);
                let granted = granted.value.to_string();
                self.loosens(*span, "hedge attempts=", &asked, &granted, source, callee);
            } else {
                exchange.hedge_attempts = Effective {
                    value: *asked,
                    source: Source::Calls(*span),
                };
            }
        }
    }

    fn causes(
        &mut self,
        exchange: &mut Exchange,
        field: &Field<Vec<RetryCause>>,
        callee: Callee<'_>,
    ) {
        let Some(Spanned { value, span }) = field else {
            return;
        };
        let asked = match value {
            Setting::Removed => Vec::new(),
            Setting::Value(causes) => causes.clone(),
        };
        let granted = &exchange.causes;
        let wider = asked
            .iter()
            .find(|cause| !granted.value.iter().any(|have| includes(*have, **cause)));
        match wider {
            Some(cause) if !callee.may_extend.contains(&Extendable::Causes) => {
                let (asked, source) = (cause_text(*cause), granted.source);
                let granted = granted
                    .value
                    .iter()
                    .map(|cause| cause_text(*cause))
                    .collect::<Vec<_>>();
                let granted = if granted.is_empty() {
                    "none".to_owned()
                } else {
                    granted.join(" ")
                };
                self.loosens(*span, CAUSES, &asked, &granted, source, callee);
            }
            _ => {
                exchange.causes = Effective {
                    value: asked,
                    source: Source::Calls(*span),
                }
            }
        }
    }

    /// A limit that may be absent, which is the loosest.
    fn limit(
        &mut self,
        base: &mut Effective<Option<Duration>>,
        field: &Field<Duration>,
        name: &str,
        extendable: Option<Extendable>,
        callee: Callee<'_>,
    ) {
        let Some(Spanned { value, span }) = field else {
            return;
        };
        let asked = match value {
            Setting::Removed => None,
            Setting::Value(time) => Some(*time),
        };
        let looser = match (asked, base.value) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(asked), Some(granted)) => asked > granted,
        };
        if looser && !extendable.is_some_and(|field| callee.may_extend.contains(&field)) {
            let text = |time: Option<Duration>| time.map_or("no limit".to_owned(), duration_text);
            self.loosens(
                *span,
                name,
                &text(asked),
                &text(base.value),
                base.source,
                callee,
            );
        } else {
            optional(base, field, Source::Calls);
        }
    }

    fn at_most(
        &mut self,
        base: &mut Effective<Duration>,
        field: &Field<Duration>,
        name: &str,
        callee: Callee<'_>,
    ) {
        if let Some(Spanned {
            value: Setting::Value(time),
            span,
        }) = field
        {
            if *time > base.value {
                let (asked, granted) = (duration_text(*time), duration_text(base.value));
                self.loosens(*span, name, &asked, &granted, base.source, callee);
            } else {
                *base = Effective {
                    value: *time,
                    source: Source::Calls(*span),
                };
            }
        }
    }

    fn at_least(
        &mut self,
        base: &mut Effective<Duration>,
        field: &Field<Duration>,
        name: &str,
        callee: Callee<'_>,
    ) {
        if let Some(Spanned {
            value: Setting::Value(time),
            span,
        }) = field
        {
            if *time < base.value {
                let (asked, granted) = (duration_text(*time), duration_text(base.value));
                self.loosens(*span, name, &asked, &granted, base.source, callee);
            } else {
                *base = Effective {
                    value: *time,
                    source: Source::Calls(*span),
                };
            }
        }
    }

    fn loosens(
        &mut self,
        span: Span,
        field: &str,
        asked: &str,
        granted: &str,
        source: Source,
        callee: Callee<'_>,
    ) {
        let name = callee.name;
        let plain = field;
        let field = if field.contains('`') {
            field.to_owned()
        } else {
            format!("`{field}`")
        };
        let extendable = match plain {
            "timeout" => Some("timeout"),
            "attempts=" => Some("attempts"),
            "per-try=" => Some("per-try"),
            CAUSES => Some("causes"),
            _ => None,
        };
        let finding = Diagnostic::error(
            code::CALLER_LOOSENS,
            span,
            format!("{field}: {asked} is looser than what `{name}` grants its callers, {granted}"),
        )
        .at("a caller may only tighten")
        .help(match extendable {
            Some(field) => {
                format!("ask for less, or let `{name}` say `callers-may-extend {field}`")
            }
            None => "ask for less, or let the callee grant more".to_owned(),
        });
        self.report(match source.span() {
            Some(set) => finding.label(set, format!("`{name}` grants {granted} here")),
            None => finding,
        });
    }
}

/// Whether a cause takes everything that the other takes.
fn includes(wide: RetryCause, narrow: RetryCause) -> bool {
    match (wide, narrow) {
        _ if wide == narrow => true,
        (RetryCause::Reset, RetryCause::ResetBeforeRequest) => true,
        (RetryCause::ServerError, RetryCause::Gateway) => true,
        (RetryCause::ServerError, RetryCause::Status(status)) => (500..=599).contains(&status),
        (RetryCause::Gateway, RetryCause::Status(status)) => (502..=504).contains(&status),
        _ => false,
    }
}

/// A cause as policy writes it.
pub(crate) fn cause_text(cause: RetryCause) -> String {
    match cause {
        // KDL would read a number.
        RetryCause::ServerError => format!("\"{cause}\""),
        _ => cause.to_string(),
    }
}
