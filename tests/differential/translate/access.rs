//! Who may enter, and how often.

use mesh_bundle::slice::{
    AccessRule, Condition, Effect, Enforcement, InboundService, Principal, RateLimit, RequestKey,
};
use mesh_tests::Failure;
use serde_json::{Map, Value, json};

use super::{filter, matching, seconds, untranslated};

/// What denies stands before what allows.
pub(super) fn filters(service: &InboundService) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    for (effect, action) in [(Effect::Deny, "DENY"), (Effect::Allow, "ALLOW")] {
        let rules: Vec<_> = service
            .rules
            .iter()
            .filter(|rule| rule.effect == effect)
            .collect();
        if effect == Effect::Allow || !rules.is_empty() {
            all.push(rbac(action, &rules)?);
        }
    }
    for limit in &service.rate_limits {
        all.push(rate(limit, all.len())?);
    }
    Ok(all)
}

fn rbac(action: &str, rules: &[&AccessRule]) -> Result<Value, Failure> {
    let mut policies = Map::new();
    for (number, rule) in rules.iter().enumerate() {
        if rule.enforcement != Enforcement::Enforce {
            return Err(untranslated("a rule that is only logged"));
        }
        let conditions: Result<Vec<_>, _> = rule.conditions.iter().map(permission).collect();
        let conditions = conditions?;
        let permission = if conditions.is_empty() {
            json!({ "any": true })
        } else {
            json!({ "and_rules": { "rules": conditions } })
        };
        let mut who = Vec::new();
        for principal in &rule.who {
            match principal {
                Principal::Unauthenticated => who.push(json!({ "any": true })),
                other => return Err(untranslated(format_args!("{other:?}"))),
            }
        }
        if who.is_empty() {
            who.push(json!({ "any": true }));
        }
        let policy = json!({ "permissions": [permission], "principals": who });
        policies.insert(format!("{} {number}", rule.name), policy);
    }
    let name = format!("envoy.filters.http.rbac.{}", action.to_lowercase());
    let rules = json!({ "rules": { "action": action, "policies": policies } });
    Ok(filter(&name, "rbac.v3.RBAC", rules))
}

fn permission(condition: &Condition) -> Result<Value, Failure> {
    let any = |rules: Vec<Value>| json!({ "or_rules": { "rules": rules } });
    Ok(match condition {
        Condition::Path(patterns) => any(patterns.iter().map(matching::of_access).collect()),
        Condition::Not(inner) => json!({ "not_rule": permission(inner)? }),
        other => {
            let headers = matching::headers(other)?.into_iter();
            any(headers.map(|header| json!({ "header": header })).collect())
        }
    })
}

fn rate(limit: &RateLimit, number: usize) -> Result<Value, Failure> {
    if limit.via.is_some() || limit.route.is_some() || !limit.conditions.is_empty() {
        return Err(untranslated(format_args!("{limit:?}")));
    }
    let bucket = json!({
        "max_tokens": limit.burst,
        "tokens_per_fill": limit.count,
        "fill_interval": seconds(limit.per),
    });
    let whole = json!({ "numerator": 100, "denominator": "HUNDRED" });
    let always = json!({ "default_value": whole });
    let mut config = json!({
        "stat_prefix": format!("limit{number}"),
        "filter_enabled": always,
        "filter_enforced": always,
        "token_bucket": bucket,
    });
    match limit.keys.as_slice() {
        [] => {}
        [RequestKey::Header(name)] => {
            let action =
                json!({ "request_headers": { "header_name": name, "descriptor_key": name } });
            config["rate_limits"] = json!([{ "actions": [action] }]);
            // An entry without a value stands for each value.
            config["descriptors"] =
                json!([{ "entries": [{ "key": name }], "token_bucket": bucket }]);
            let much = json!({ "max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": seconds(limit.per) });
            config["token_bucket"] = much;
        }
        keys => return Err(untranslated(format_args!("{keys:?}"))),
    }
    let name = format!("envoy.filters.http.local_ratelimit.{number}");
    let kind = "local_ratelimit.v3.LocalRateLimit";
    Ok(filter(&name, kind, config))
}
