//! The token providers of a slice, with their keys and what is counted of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_bundle::slice::{Jwks, JwtProvider, Slice};
use mesh_daemon::telemetry::Metrics;
use mesh_engine::jwt::{Brought, Invalid, KeySetError, Tokens};
use mesh_engine::{InboundTable, Request, Snapshot};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use thiserror::Error;

use super::Access;
use super::fetch::PlaceError;
use super::jwks::Source;
use super::keys::{self, Keys};
use crate::secrets::Secrets;

/// Why a provider's tokens cannot be verified.
#[derive(Debug, Error)]
pub(crate) enum ProviderError {
    /// Its keys in policy.
    #[error("the keys of jwt {name:?}")]
    Keys {
        /// Name of the provider.
        name: String,
        /// Why.
        source: KeySetError,
    },
    /// Where its keys are.
    #[error("the keys of jwt {name:?}: {url:?}")]
    Place {
        /// Name of the provider.
        name: String,
        /// As written.
        url: String,
        /// Why.
        source: PlaceError,
    },
}

/// What is counted of tokens.
#[derive(Clone, Debug)]
pub(crate) struct TokenMetrics {
    verified: Family<[(&'static str, String); 2], Counter>,
    refused: Family<[(&'static str, String); 3], Counter>,
}

impl TokenMetrics {
    /// Nothing is counted yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            verified: metrics.register(
                "mesh_tokens_verified",
                "tokens of users that were good, by provider",
                Family::default(),
            ),
            refused: metrics.register(
                "mesh_tokens_refused",
                "requests that were refused for the token of this provider, or for want of one, and why",
                Family::default(),
            ),
        }
    }

    /// Counts a request that may not enter.
    pub(crate) fn refused(&self, service: &str, provider: &str, why: Invalid) {
        let labels = [
            ("dst_service", service.to_owned()),
            ("provider", provider.to_owned()),
            ("cause", why.as_str().to_owned()),
        ];
        self.refused.get_or_create(&labels).inc();
    }
}

/// Where keys come from.
#[derive(Debug)]
enum Origin {
    Policy(Arc<Keys>),
    Fetched(Arc<Source>),
}

/// The token providers of a slice.
#[derive(Debug)]
pub(crate) struct Providers {
    keys: HashMap<Box<str>, Origin>,
    /// By service, in the order of its table's providers.
    verified: HashMap<Box<str>, Box<[Counter]>>,
}

impl Providers {
    /// Reads their keys.
    pub(crate) fn build(
        slice: &Slice,
        snapshot: &Snapshot,
        (access, secrets): (&Access, &Secrets),
    ) -> Result<Self, ProviderError> {
        let mut keys = HashMap::new();
        for provider in &slice.access.jwts {
            let name = || provider.name.clone();
            let origin = match &provider.jwks {
                Jwks::Inline(text) => {
                    let read = keys::read(text).map_err(|source| ProviderError::Keys {
                        name: name(),
                        source,
                    })?;
                    Origin::Policy(Arc::new(read))
                }
                Jwks::Url(url) => {
                    let source = access.keys.get(&provider.name, url, secrets);
                    Origin::Fetched(source.map_err(|source| ProviderError::Place {
                        name: name(),
                        url: url.clone(),
                        source,
                    })?)
                }
            };
            keys.insert(name().into(), origin);
        }
        let verified = snapshot.services().iter().map(|table| {
            let counter = |provider: &str| {
                let labels = [
                    ("dst_service", table.service().to_owned()),
                    ("provider", provider.to_string()),
                ];
                access.tokens.verified.get_or_create(&labels).clone()
            };
            let counters = table
                .token_providers()
                .iter()
                .map(|provider| counter(provider));
            (table.service().into(), counters.collect())
        });
        Ok(Self {
            verified: verified.collect(),
            keys,
        })
    }

    /// What a request brings for the providers of a service, at `now` in seconds since 1970.
    pub(crate) fn read(
        &self,
        snapshot: &Snapshot,
        table: &InboundTable,
        request: &Request<'_>,
        now: u64,
    ) -> Tokens {
        let keys = |provider: &JwtProvider| match self.keys.get(&*provider.name)? {
            Origin::Policy(keys) => Some(Arc::clone(keys)),
            Origin::Fetched(source) => source.keys(),
        };
        let tokens = Tokens::read(snapshot.token_providers(table), request, keys, now);
        for (provider, brought) in tokens.brought() {
            if let (Brought::Invalid(Invalid::UnknownKey), Some(Origin::Fetched(source))) =
                (brought, self.keys.get(provider))
            {
                source.hurry();
            }
        }
        tokens
    }

    /// Counts those that are good.
    pub(crate) fn count(&self, service: &str, tokens: &Tokens) {
        let counters = self.verified.get(service).into_iter().flatten();
        for (counter, (_, brought)) in counters.zip(tokens.brought()) {
            if brought == Brought::Verified {
                counter.inc();
            }
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
