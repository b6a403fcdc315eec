//! `defaults`, and the settings that it shares with `policy` and `service`.

use super::Place::{Defaults, Mesh};
use super::{
    Entry, Keyword, Reader, access, balance, health_check, hedge, limits, locality, outlier,
    policy, probe, rate_limit, require, retry, retry_budget, timeout,
};
use crate::model::{self, Exchange, Pool, Settings};

pub(super) static DEFAULTS: Keyword = Keyword {
    block: Some(Defaults),
    ..Keyword::new(
        "defaults",
        &[Mesh],
        "What holds for every service that says nothing else.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Settings {
    let mut settings = Settings::default();
    for child in reader.block(entry) {
        setting(reader, child, &mut settings);
    }
    settings
}

/// Takes a setting of any group; whatever else an entry is, it is left alone.
pub(super) fn setting(reader: &mut Reader<'_>, entry: Entry<'_>, settings: &mut Settings) {
    match entry.word() {
        "use" => settings.uses.extend(policy::uses(entry)),
        "retry-budget" => settings.retry_budget = retry_budget::decode(reader, entry),
        "allow" => settings
            .access
            .push(access::decode(reader, entry, model::Effect::Allow)),
        "deny" => settings
            .access
            .push(access::decode(reader, entry, model::Effect::Deny)),
        "require" | "accept" => settings.requirements.extend(require::decode(reader, entry)),
        "rate-limit" => settings
            .rate_limits
            .extend(rate_limit::decode(reader, entry)),
        "probe" => settings.probes.push(probe::decode(reader, entry)),
        _ => {
            exchange(reader, entry, &mut settings.exchange);
            pool(reader, entry, &mut settings.pool);
        }
    }
}

/// Takes a setting of a pool; whatever else an entry is, it is left alone.
pub(super) fn pool(reader: &mut Reader<'_>, entry: Entry<'_>, pool: &mut Pool) {
    match entry.word() {
        "balance" => pool.balance = balance::decode(reader, entry),
        "locality" => pool.locality = locality::decode(reader, entry),
        "limits" => pool.limits = limits::decode(reader, entry),
        "outlier" => pool.outlier = outlier::decode(reader, entry),
        "health-check" => pool.health_check = health_check::decode(reader, entry),
        _ => {}
    }
}

/// Takes a setting of an exchange; whatever else an entry is, it is left alone.
pub(super) fn exchange(reader: &mut Reader<'_>, entry: Entry<'_>, exchange: &mut Exchange) {
    match entry.word() {
        "timeout" => exchange.timeout = timeout::decode(entry),
        "retry" => exchange.retry = retry::decode(reader, entry),
        "hedge" => exchange.hedge = hedge::decode(reader, entry),
        _ => {}
    }
}
