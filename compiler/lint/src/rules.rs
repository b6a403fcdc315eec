//! Every rule, ascending by code.

use crate::rule::Rule;

mod access {
    pub(crate) mod call_not_permitted;
    pub(crate) mod impossible_rule;
    pub(crate) mod redundant_rule;
    pub(crate) mod shared;
    pub(crate) mod unused_permission;
}
mod retries {
    pub(crate) mod amplification;
    pub(crate) mod no_budget;
    pub(crate) mod retry_cycle;
}
mod routing {
    pub(crate) mod impossible_match;
    pub(crate) mod no_default_route;
    pub(crate) mod overlapping_routes;
    pub(crate) mod shadowed_route;
    pub(crate) mod undecided_route;
}
mod timeouts {
    pub(crate) mod dead_attempts;
    pub(crate) mod timeout_inversion;
}
mod words;

/// Every rule, ascending by code.
pub static RULES: &[&Rule] = &[
    &access::call_not_permitted::CALL_NOT_PERMITTED,
    &access::unused_permission::UNUSED_PERMISSION,
    &routing::shadowed_route::SHADOWED_ROUTE,
    &routing::overlapping_routes::OVERLAPPING_ROUTES,
    &routing::no_default_route::NO_DEFAULT_ROUTE,
    &routing::impossible_match::IMPOSSIBLE_MATCH,
    &routing::undecided_route::UNDECIDED_ROUTE,
    &retries::amplification::AMPLIFICATION,
    &retries::retry_cycle::RETRY_CYCLE,
    &retries::no_budget::NO_BUDGET,
    &timeouts::dead_attempts::DEAD_ATTEMPTS,
    &timeouts::timeout_inversion::TIMEOUT_INVERSION,
    &access::impossible_rule::IMPOSSIBLE_RULE,
    &access::redundant_rule::REDUNDANT_RULE,
];

#[cfg(test)]
mod tests {
    use super::RULES;

    #[test]
    fn codes_are_ascending_and_names_are_kebab_case() {
        assert!(RULES.is_sorted_by(|a, b| a.page.code < b.page.code));
        for rule in RULES {
            let good = |letter: char| letter.is_ascii_lowercase() || "-/".contains(letter);
            assert!(rule.page.name.chars().all(good), "{}", rule.page.name);
        }
    }
}
