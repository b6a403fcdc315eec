//! All cases, by what they are about.

mod answers;
mod endpoints;
mod entering;
mod routing;
mod tries;

use crate::case::Case;

pub(crate) const CASES: &[Case] = &[
    routing::PATHS,
    routing::FIELDS,
    routing::SPELLINGS,
    routing::SPLIT,
    routing::HOSTS,
    answers::REWRITES,
    answers::REDIRECTS,
    answers::RESPONDS,
    answers::HEADERS,
    answers::CORS,
    answers::MIRROR,
    answers::FAULTS,
    tries::STATUSES,
    tries::CLASSES,
    tries::KEPT,
    tries::RESETS,
    tries::ABSENT,
    tries::PER_TRY,
    tries::ELSEWHERE,
    tries::TIMEOUT,
    endpoints::ROUND_ROBIN,
    endpoints::RANDOM,
    endpoints::LEAST_REQUEST,
    endpoints::RING_HASH,
    endpoints::MAGLEV,
    endpoints::REQUESTS,
    endpoints::CONNECTIONS,
    endpoints::REQUESTS_PER_CONNECTION,
    endpoints::BUDGET,
    endpoints::EJECTION,
    endpoints::EJECTION_CAP,
    endpoints::GATEWAY_EJECTION,
    endpoints::HEALTH,
    entering::RULES,
    entering::RATE,
    entering::RATE_OF_EACH,
];
