//! What a request must bring to enter, beyond what rules say of it: the keys that verify its tokens, and whoever else
//! is asked. The verdicts are the engine's; here is what they need from outside.

pub(crate) mod ask;
pub(crate) mod authorizers;
pub(crate) mod counted;
pub(crate) mod fetch;
pub(crate) mod jwks;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod tokens;

use mesh_daemon::telemetry::Metrics;

use authorizers::AuthorizerMetrics;
use counted::CountedMetrics;
use jwks::KeySources;
use tokens::TokenMetrics;

/// What outlives generations of it, and what is counted.
#[derive(Debug)]
pub(crate) struct Access {
    /// Keys that are fetched.
    pub(crate) keys: KeySources,
    /// What is counted of tokens.
    pub(crate) tokens: TokenMetrics,
    /// Of authorizers.
    pub(crate) authorizers: AuthorizerMetrics,
    /// Of services that count requests.
    pub(crate) counted: CountedMetrics,
}

impl Access {
    /// Nothing is known or counted yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            keys: KeySources::register(metrics),
            tokens: TokenMetrics::register(metrics),
            authorizers: AuthorizerMetrics::register(metrics),
            counted: CountedMetrics::register(metrics),
        }
    }
}
