//! Every rule, ascending by code.

use crate::rule::Rule;

mod access {
    pub(crate) mod bypassable_deny;
    pub(crate) mod call_not_permitted;
    pub(crate) mod identity_without_mtls;
    pub(crate) mod ignored_token;
    pub(crate) mod impossible_rule;
    pub(crate) mod invariant_violated;
    pub(crate) mod negated_range;
    pub(crate) mod negative_only;
    pub(crate) mod nobody_admitted;
    pub(crate) mod open_access;
    pub(crate) mod open_on_failure;
    pub(crate) mod overruled_allow;
    pub(crate) mod plaintext_callee;
    pub(crate) mod plaintext_caller;
    pub(crate) mod redundant_rule;
    pub(crate) mod refused_probe;
    pub(crate) mod shared;
    pub(crate) mod shared_identity;
    pub(crate) mod undecided_access;
    pub(crate) mod unenforced_rule;
    pub(crate) mod unused_permission;
    pub(crate) mod unverified_claim;
    pub(crate) mod weaker_than_mesh;
    pub(crate) mod wildcard;
}
mod change {
    pub(crate) mod access_narrowed;
    pub(crate) mod access_widened;
    pub(crate) mod amplification_grew;
    pub(crate) mod answered_instead;
    pub(crate) mod blast_radius;
    pub(crate) mod called_service_removed;
    pub(crate) mod canary_step;
    pub(crate) mod coverage_fell;
    pub(crate) mod dialled_address;
    pub(crate) mod endpoints_replaced;
    pub(crate) mod name_dropped;
    pub(crate) mod no_effect;
    pub(crate) mod other_scope;
    pub(crate) mod skewed_pair;
    pub(crate) mod slice_size;
    pub(crate) mod staged_plan;
    pub(crate) mod transition;
    pub(crate) mod unsafe_transition;
    pub(crate) mod weakened_guard;
    pub(crate) mod weaker_transport;
}
mod linking {
    pub(crate) mod reference_cycle;
    pub(crate) mod unused_definition;
}
mod gateways {
    pub(crate) mod double_tls;
    pub(crate) mod host_not_served;
    pub(crate) mod open_to_outside;
    pub(crate) mod plaintext_on_tls_port;
    pub(crate) mod proxy_port;
    pub(crate) mod route_not_delegated;
    pub(crate) mod shared_certificate;
    pub(crate) mod unaddressed_bytes;
    pub(crate) mod unused_listener;
    pub(crate) mod wide_egress;
}
pub(crate) mod governance {
    pub(crate) mod expired_suppression;
    pub(crate) mod foreign_file;
    pub(crate) mod unused_suppression;
}
mod inventory {
    pub(crate) mod certificate_expiry;
    pub(crate) mod selects_nobody;
    pub(crate) mod undeclared_call;
    pub(crate) mod undeclared_egress;
}
mod resilience {
    pub(crate) mod blind_failover;
    pub(crate) mod cannot_eject;
    pub(crate) mod ejects_all;
    pub(crate) mod failing_health_check;
    pub(crate) mod idle_fault;
    pub(crate) mod lasting_fault;
    pub(crate) mod limit_below_load;
    pub(crate) mod limit_off_load;
    pub(crate) mod limit_per_instance;
    pub(crate) mod single_point;
}
mod retries {
    pub(crate) mod amplification;
    pub(crate) mod few_endpoints;
    pub(crate) mod hangs_uncapped;
    pub(crate) mod hedged_writes;
    pub(crate) mod hidden_capacity;
    pub(crate) mod impossible_cause;
    pub(crate) mod minimum_dominates;
    pub(crate) mod no_budget;
    pub(crate) mod non_idempotent;
    pub(crate) mod overload_signal;
    pub(crate) mod retry_cycle;
    pub(crate) mod side_calls;
    pub(crate) mod stacked_layers;
    pub(crate) mod unrepeatable_body;
}
mod exchanges;
mod pools;
mod routing {
    pub(crate) mod duplicate_match;
    pub(crate) mod empty_subset;
    pub(crate) mod idle_match;
    pub(crate) mod impossible_match;
    pub(crate) mod mirror_cycle;
    pub(crate) mod mirrored_writes;
    pub(crate) mod no_default_route;
    pub(crate) mod other_protocol;
    pub(crate) mod overlapping_hosts;
    pub(crate) mod overlapping_routes;
    pub(crate) mod redirect_loop;
    pub(crate) mod refused_target;
    pub(crate) mod segment_pitfall;
    pub(crate) mod shadowed_route;
    pub(crate) mod split_breaks_sticky;
    pub(crate) mod undecided_route;
    pub(crate) mod untested_route;
}
mod telemetry {
    pub(crate) mod costly_sampling;
}
mod timeouts {
    pub(crate) mod connect_over_try;
    pub(crate) mod dead_attempts;
    pub(crate) mod deadline_below_path;
    pub(crate) mod deadline_not_passed;
    pub(crate) mod fix_amplifies;
    pub(crate) mod hang_not_covered;
    pub(crate) mod idle_inversion;
    pub(crate) mod late_hedge;
    pub(crate) mod per_try_over_timeout;
    pub(crate) mod streaming_timeout;
    pub(crate) mod timeout_inversion;
    pub(crate) mod unbounded_call;
}
pub(crate) mod undecided;
pub(crate) mod words;

/// Every rule, ascending by code.
pub static RULES: &[&Rule] = &[
    &governance::expired_suppression::EXPIRED_SUPPRESSION,
    &governance::unused_suppression::UNUSED_SUPPRESSION,
    &linking::unused_definition::UNUSED_DEFINITION,
    &linking::reference_cycle::REFERENCE_CYCLE,
    &gateways::route_not_delegated::ROUTE_NOT_DELEGATED,
    &governance::foreign_file::FOREIGN_FILE,
    &inventory::selects_nobody::SELECTS_NOBODY,
    &access::call_not_permitted::CALL_NOT_PERMITTED,
    &access::unused_permission::UNUSED_PERMISSION,
    &inventory::undeclared_call::UNDECLARED_CALL,
    &routing::shadowed_route::SHADOWED_ROUTE,
    &routing::idle_match::IDLE_MATCH,
    &routing::duplicate_match::DUPLICATE_MATCH,
    &routing::overlapping_routes::OVERLAPPING_ROUTES,
    &routing::no_default_route::NO_DEFAULT_ROUTE,
    &gateways::host_not_served::HOST_NOT_SERVED,
    &routing::redirect_loop::REDIRECT_LOOP,
    &routing::segment_pitfall::SEGMENT_PITFALL,
    &routing::overlapping_hosts::OVERLAPPING_HOSTS,
    &routing::impossible_match::IMPOSSIBLE_MATCH,
    &routing::untested_route::UNTESTED_ROUTE,
    &routing::other_protocol::OTHER_PROTOCOL,
    &routing::undecided_route::UNDECIDED_ROUTE,
    &routing::empty_subset::EMPTY_SUBSET,
    &routing::split_breaks_sticky::SPLIT_BREAKS_STICKY,
    &routing::mirrored_writes::MIRRORED_WRITES,
    &routing::mirror_cycle::MIRROR_CYCLE,
    &routing::refused_target::REFUSED_TARGET,
    &retries::amplification::AMPLIFICATION,
    &retries::retry_cycle::RETRY_CYCLE,
    &retries::non_idempotent::NON_IDEMPOTENT,
    &retries::stacked_layers::STACKED_LAYERS,
    &retries::no_budget::NO_BUDGET,
    &retries::minimum_dominates::MINIMUM_DOMINATES,
    &retries::hangs_uncapped::HANGS_UNCAPPED,
    &retries::overload_signal::OVERLOAD_SIGNAL,
    &retries::impossible_cause::IMPOSSIBLE_CAUSE,
    &retries::hidden_capacity::HIDDEN_CAPACITY,
    &retries::side_calls::SIDE_CALLS,
    &retries::hedged_writes::HEDGED_WRITES,
    &retries::few_endpoints::FEW_ENDPOINTS,
    &retries::unrepeatable_body::UNREPEATABLE_BODY,
    &timeouts::per_try_over_timeout::PER_TRY_OVER_TIMEOUT,
    &timeouts::dead_attempts::DEAD_ATTEMPTS,
    &timeouts::timeout_inversion::TIMEOUT_INVERSION,
    &timeouts::unbounded_call::UNBOUNDED_CALL,
    &timeouts::deadline_below_path::DEADLINE_BELOW_PATH,
    &timeouts::connect_over_try::CONNECT_OVER_TRY,
    &timeouts::idle_inversion::IDLE_INVERSION,
    &timeouts::streaming_timeout::STREAMING_TIMEOUT,
    &timeouts::deadline_not_passed::DEADLINE_NOT_PASSED,
    &timeouts::fix_amplifies::FIX_AMPLIFIES,
    &timeouts::hang_not_covered::HANG_NOT_COVERED,
    &timeouts::late_hedge::LATE_HEDGE,
    &resilience::ejects_all::EJECTS_ALL,
    &resilience::cannot_eject::CANNOT_EJECT,
    &resilience::blind_failover::BLIND_FAILOVER,
    &resilience::limit_below_load::LIMIT_BELOW_LOAD,
    &resilience::limit_off_load::LIMIT_OFF_LOAD,
    &resilience::limit_per_instance::LIMIT_PER_INSTANCE,
    &resilience::lasting_fault::LASTING_FAULT,
    &resilience::idle_fault::IDLE_FAULT,
    &resilience::failing_health_check::FAILING_HEALTH_CHECK,
    &resilience::single_point::SINGLE_POINT,
    &access::plaintext_callee::PLAINTEXT_CALLEE,
    &access::weaker_than_mesh::WEAKER_THAN_MESH,
    &access::plaintext_caller::PLAINTEXT_CALLER,
    &inventory::certificate_expiry::CERTIFICATE_EXPIRY,
    &gateways::shared_certificate::SHARED_CERTIFICATE,
    &access::unverified_claim::UNVERIFIED_CLAIM,
    &access::ignored_token::IGNORED_TOKEN,
    &gateways::double_tls::DOUBLE_TLS,
    &access::shared_identity::SHARED_IDENTITY,
    &access::open_access::OPEN_ACCESS,
    &access::nobody_admitted::NOBODY_ADMITTED,
    &access::impossible_rule::IMPOSSIBLE_RULE,
    &access::redundant_rule::REDUNDANT_RULE,
    &access::overruled_allow::OVERRULED_ALLOW,
    &access::identity_without_mtls::IDENTITY_WITHOUT_MTLS,
    &access::unenforced_rule::UNENFORCED_RULE,
    &access::wildcard::WILDCARD,
    &access::refused_probe::REFUSED_PROBE,
    &access::bypassable_deny::BYPASSABLE_DENY,
    &access::negative_only::NEGATIVE_ONLY,
    &access::open_on_failure::OPEN_ON_FAILURE,
    &access::negated_range::NEGATED_RANGE,
    &access::invariant_violated::INVARIANT_VIOLATED,
    &gateways::open_to_outside::OPEN_TO_OUTSIDE,
    &access::undecided_access::UNDECIDED_ACCESS,
    &gateways::plaintext_on_tls_port::PLAINTEXT_ON_TLS_PORT,
    &gateways::wide_egress::WIDE_EGRESS,
    &inventory::undeclared_egress::UNDECLARED_EGRESS,
    &gateways::unaddressed_bytes::UNADDRESSED_BYTES,
    &gateways::unused_listener::UNUSED_LISTENER,
    &gateways::proxy_port::PROXY_PORT,
    &telemetry::costly_sampling::COSTLY_SAMPLING,
];

/// Every rule about the difference between two commits, ascending by code.
pub static COMPARISONS: &[&Rule] = &[
    &change::called_service_removed::CALLED_SERVICE_REMOVED,
    &change::answered_instead::ANSWERED_INSTEAD,
    &change::name_dropped::NAME_DROPPED,
    &change::canary_step::CANARY_STEP,
    &change::amplification_grew::AMPLIFICATION_GREW,
    &change::unsafe_transition::UNSAFE_TRANSITION,
    &change::weaker_transport::WEAKER_TRANSPORT,
    &change::access_widened::ACCESS_WIDENED,
    &change::access_narrowed::ACCESS_NARROWED,
    &change::skewed_pair::SKEWED_PAIR,
    &change::other_scope::OTHER_SCOPE,
    &change::slice_size::SLICE_SIZE,
    &change::blast_radius::BLAST_RADIUS,
    &change::staged_plan::STAGED_PLAN,
    &change::no_effect::NO_EFFECT,
    &change::coverage_fell::COVERAGE_FELL,
    &change::weakened_guard::WEAKENED_GUARD,
    &change::endpoints_replaced::ENDPOINTS_REPLACED,
    &change::dialled_address::DIALLED_ADDRESS,
];

#[cfg(test)]
mod tests {
    use super::{COMPARISONS, RULES};

    #[test]
    fn codes_are_ascending_and_names_are_kebab_case() {
        assert!(RULES.is_sorted_by(|a, b| a.page.code < b.page.code));
        assert!(COMPARISONS.is_sorted_by(|a, b| a.page.code < b.page.code));
        for rule in RULES.iter().chain(COMPARISONS) {
            let good = |letter: char| letter.is_ascii_lowercase() || "-/".contains(letter);
            assert!(rule.page.name.chars().all(good), "{}", rule.page.name);
        }
    }
}
