//! Levels: built-in, defaults, policy, service, route. They merge field by field, and two sources
//! of one field at one level are an error. The caller's level is in `tighten`.
#![expect(
    clippy::ref_option,
    reason = "a field is a type of its own that happens to be an option"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use crate::code;
use crate::level::Level;
use crate::linked::{Effective, Exchange, Pool, Source};
use crate::model::{self, Field, Policy, Setting, Settings, Spanned};

/// The levels below a service's own, weakest first.
pub(super) struct Layers<'m> {
    layers: Vec<(Level, &'m Settings)>,
}

impl<'m> Layers<'m> {
    /// The exchange before routes and callers.
    pub(super) fn exchange(&self) -> Exchange {
        let mut exchange = Exchange::built_in();
        for (level, settings) in &self.layers {
            apply(&mut exchange, &settings.exchange, *level);
        }
        exchange
    }

    /// The pool before subsets.
    pub(super) fn pool(&self) -> Pool {
        let mut pool = Pool::built_in();
        for (level, settings) in &self.layers {
            pool.apply(&settings.pool, *level);
        }
        pool
    }

    /// Every level, weakest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Level, &'m Settings)> + '_ {
        self.layers.iter().copied()
    }
}

impl<'m> Linker<'m, '_> {
    /// The levels of a service, weakest first.
    pub(super) fn layers(&mut self, service: &'m model::Service) -> Layers<'m> {
        let defaults = &self.root.defaults;
        let mut layers: Vec<(Level, &'m Settings)> = Vec::new();
        for policy in self.policies(&defaults.uses) {
            layers.push((Source::Policy, &policy.settings));
        }
        layers.push((Source::Defaults, defaults));
        for policy in self.policies(&service.settings.uses) {
            layers.push((Source::Policy, &policy.settings));
        }
        layers.push((Source::Service, &service.settings));
        Layers { layers }
    }

    /// A gateway has access rules and nothing of what else a policy may set.
    pub(super) fn check_gateway_uses(&mut self, uses: &[Spanned<String>]) {
        for name in uses {
            let Some(policy) = self.scope.policy(name) else {
                continue;
            };
            if let Some((field, span)) = fields(&policy.settings).into_iter().next() {
                self.report(
                    Diagnostic::error(
                        code::EXCLUSIVE,
                        name.span,
                        format!("`{}` sets {field}, which a gateway has not", name.value),
                    )
                    .label(span, "set here")
                    .help("a gateway takes access rules; times and retries stand in its routes"),
                );
            }
        }
    }

    /// The policies of one `use`, ascending by name, so that the order of names decides nothing.
    fn policies(&mut self, uses: &[Spanned<String>]) -> Vec<&'m Policy> {
        let mut used: BTreeMap<&str, (&'m Policy, Span)> = BTreeMap::new();
        for name in uses {
            let Some(policy) = self.find_policy(name) else {
                continue;
            };
            if let Some((_, first)) = used.insert(&policy.name.value, (policy, name.span)) {
                self.report(
                    Diagnostic::error(
                        mesh_syntax::code::DUPLICATE_SETTING,
                        name.span,
                        format!("the policy `{}` is used twice", name.value),
                    )
                    .label(first, "the first time"),
                );
            }
        }
        self.check_sources(&used);
        used.into_values().map(|(policy, _)| policy).collect()
    }

    fn check_sources(&mut self, used: &BTreeMap<&str, (&'m Policy, Span)>) {
        let mut set: BTreeMap<&'static str, (&str, Span)> = BTreeMap::new();
        for (name, (policy, used_at)) in used {
            for (field, span) in fields(&policy.settings) {
                let Some((other, other_span)) = set.insert(field, (name, span)) else {
                    continue;
                };
                if other == *name {
                    continue;
                }
                self.report(
                    Diagnostic::error(
                        code::TWO_SOURCES,
                        *used_at,
                        format!("`{name}` and `{other}` both set {field}"),
                    )
                    .label(span, format!("`{name}` sets it here"))
                    .label(other_span, format!("`{other}` sets it here"))
                    .help("neither wins: take the field out of one of them, or use only one"),
                );
            }
        }
    }
}

/// The fields that a level sets, by the names that people know them by.
fn fields(settings: &Settings) -> Vec<(&'static str, Span)> {
    let model::Timeout {
        whole,
        connect,
        stream_idle,
        max_duration,
        idle,
    } = &settings.exchange.timeout;
    let model::Retry {
        causes,
        attempts,
        per_try,
        any_method,
        backoff_base,
        backoff_max,
    } = &settings.exchange.retry;
    let model::Hedge {
        delay,
        attempts: hedge_attempts,
    } = &settings.exchange.hedge;
    let exchange = [
        ("`timeout`", span(whole)),
        ("`timeout connect=`", span(connect)),
        ("`timeout stream-idle=`", span(stream_idle)),
        ("`timeout max-duration=`", span(max_duration)),
        ("`timeout idle=`", span(idle)),
        ("the causes of `retry`", span(causes)),
        ("`retry attempts=`", span(attempts)),
        ("`retry per-try=`", span(per_try)),
        ("`retry methods=`", span(any_method)),
        ("`backoff`", span(backoff_base)),
        ("`backoff max=`", span(backoff_max)),
        ("`hedge`", span(delay)),
        ("`hedge attempts=`", span(hedge_attempts)),
        ("`retry-budget`", span(&settings.retry_budget)),
    ];
    let mut fields: Vec<_> = exchange
        .into_iter()
        .filter_map(|(name, span)| Some((name, span?)))
        .collect();
    settings.pool.sources(&mut fields);
    fields
}

fn span<T>(field: &Field<T>) -> Option<Span> {
    field.as_ref().map(|field| field.span)
}

/// Lays one level over those below it.
pub(super) fn apply(onto: &mut Exchange, layer: &model::Exchange, level: Level) {
    let model::Exchange {
        timeout,
        retry,
        hedge,
    } = layer;
    let built_in = Exchange::built_in();
    optional(&mut onto.timeout, &timeout.whole, level);
    plain(
        &mut onto.connect,
        &timeout.connect,
        level,
        &built_in.connect.value,
    );
    optional(&mut onto.stream_idle, &timeout.stream_idle, level);
    optional(&mut onto.max_duration, &timeout.max_duration, level);
    optional(&mut onto.idle, &timeout.idle, level);
    optional(&mut onto.hedge, &hedge.delay, level);
    plain(
        &mut onto.hedge_attempts,
        &hedge.attempts,
        level,
        &built_in.hedge_attempts.value,
    );
    plain(
        &mut onto.causes,
        &retry.causes,
        level,
        &built_in.causes.value,
    );
    plain(
        &mut onto.attempts,
        &retry.attempts,
        level,
        &built_in.attempts.value,
    );
    optional(&mut onto.per_try, &retry.per_try, level);
    plain(
        &mut onto.any_method,
        &retry.any_method,
        level,
        &built_in.any_method.value,
    );
    plain(
        &mut onto.backoff_base,
        &retry.backoff_base,
        level,
        &built_in.backoff_base.value,
    );
    plain(
        &mut onto.backoff_max,
        &retry.backoff_max,
        level,
        &built_in.backoff_max.value,
    );
}

/// `none` means that there is no such limit.
pub(super) fn optional<T: Clone>(onto: &mut Effective<Option<T>>, field: &Field<T>, level: Level) {
    if let Some(Spanned { value, span }) = field {
        let value = match value {
            Setting::Removed => None,
            Setting::Value(value) => Some(value.clone()),
        };
        *onto = Effective {
            value,
            source: level(*span),
        };
    }
}

/// `none` means what holds when nobody says anything.
fn plain<T: Clone>(onto: &mut Effective<T>, field: &Field<T>, level: Level, built_in: &T) {
    if let Some(Spanned { value, span }) = field {
        let value = match value {
            Setting::Removed => built_in.clone(),
            Setting::Value(value) => value.clone(),
        };
        *onto = Effective {
            value,
            source: level(*span),
        };
    }
}

impl Linker<'_, '_> {
    /// Reports what a pool lacks only once all levels are known. What a lower level leaves open for
    /// services to complete is not their mistake.
    pub(super) fn check_pool(&mut self, pool: &Pool) {
        // `none` takes every field away, and asks for nothing.
        let own = |source: Source, none: Source| {
            matches!(source, Source::Service(_) | Source::Subset(_)) && source != none
        };
        let outlier = &pool.outlier;
        let of_outlier = [
            outlier.min_hosts.source,
            outlier.min_requests.source,
            outlier.every.source,
            outlier.eject.source,
            outlier.max_ejected.source,
        ];
        let check = &pool.health_check;
        let of_check = [
            check.every.source,
            check.timeout.source,
            check.healthy.source,
            check.unhealthy.source,
        ];
        let mut missing = Vec::new();
        if !outlier.counts() {
            let help = "say what is counted: `consecutive-5xx=5`, or `failure-percentage=\"50%\"`";
            let found = of_outlier
                .into_iter()
                .find(|source| own(*source, outlier.consecutive_5xx.source));
            missing.extend(found.map(|found| (found, "`outlier` counts nothing", help)));
        }
        if check.probe.value.is_none() {
            let help = "say what is asked: a path such as \"/healthz\", `tcp` or `grpc`";
            let found = of_check
                .into_iter()
                .find(|source| own(*source, check.probe.source));
            missing.extend(found.map(|found| (found, "`health-check` asks nothing", help)));
        }
        let nearness = &pool.locality;
        if nearness.nearness.value.is_none()
            && own(nearness.min_healthy.source, nearness.nearness.source)
        {
            let help = "name the labels: `locality zone`";
            missing.push((
                nearness.min_healthy.source,
                "`locality` names no label",
                help,
            ));
        }
        for (source, message, help) in missing {
            if let Some(span) = source.span() {
                self.report(Diagnostic::error(code::MISSING, span, message).help(help));
            }
        }
    }

    /// Reports what is wrong with an exchange only once all levels are known.
    pub(super) fn check_exchange(&mut self, exchange: &Exchange) {
        self.check_attempts(exchange);
    }

    fn check_attempts(&mut self, exchange: &Exchange) {
        let attempts = &exchange.attempts;
        if let Some(span) = attempts.source.span()
            && attempts.value > self.refuse.attempts.value
        {
            let limit = &self.refuse.attempts;
            let finding = Diagnostic::error(
                code::OUT_OF_RANGE,
                span,
                format!(
                    "{} attempts are more than the {} that the mesh permits",
                    attempts.value, limit.value
                ),
            );
            let finding = match limit.source.span() {
                Some(set) => finding.label(set, "permitted here"),
                None => finding.help("`refuse attempts=` in `mesh` would permit more"),
            };
            self.report(finding);
        }
        match (attempts.source.span(), exchange.causes.source.span()) {
            (Some(span), _) if attempts.value > 1 && exchange.causes.value.is_empty() => {
                self.report(
                    Diagnostic::error(code::MISSING, span, "these attempts have no cause")
                        .help("name what is tried again: `retry connect-failure reset attempts=2`"),
                );
            }
            (None, Some(span)) if !exchange.causes.value.is_empty() => {
                self.report(
                    Diagnostic::error(
                        code::MISSING,
                        span,
                        "without `attempts=` nothing is tried again",
                    )
                    .help("`attempts` counts the first call too: `attempts=2` means one retry"),
                );
            }
            _ => {}
        }
    }
}

/// What a level makes of the exchange below it, which is kept once where the level says nothing.
pub(super) fn shared(exchange: Exchange, below: &Arc<Exchange>) -> Arc<Exchange> {
    if exchange == **below {
        Arc::clone(below)
    } else {
        Arc::new(exchange)
    }
}
