//! Discovered endpoints: where the instances of each service are. Unsigned, so they reach no
//! further than what the signed slices name; with a development root `meshd dev` feeds them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use mesh_bundle::messages::bundle as signed;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::limits;

/// Body of `PUT /endpoints`: all sets, in place of all before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointFeed {
    /// The sets.
    pub(crate) sets: Vec<EndpointSet>,
}

/// Instances of one service that share labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointSet {
    /// Name of the service.
    pub(crate) service: String,
    /// Labels of the instances.
    #[serde(default)]
    pub(crate) labels: Vec<Label>,
    /// Their zone.
    #[serde(default)]
    pub(crate) zone: String,
    /// Narrows the identities that the slice names.
    #[serde(default)]
    pub(crate) spiffe_id: Option<String>,
    /// Addresses that peers dial.
    pub(crate) addresses: Vec<ServiceAddress>,
}

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    /// `version`, …
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: String,
}

/// An address, and the port of the service that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceAddress {
    /// Port of the service.
    pub(crate) port: u16,
    /// Where to dial.
    pub(crate) address: SocketAddr,
}

/// Why a feed was refused; the one before stays.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FeedError {
    /// Too many sets or addresses.
    #[error("the feed names too many endpoints")]
    TooMany,
    /// Not an identity.
    #[error("{0:?} is not a SPIFFE ID")]
    Identity(String),
    /// Port 0 is none.
    #[error("service {0:?} has an endpoint at port 0")]
    Port(String),
}

impl EndpointFeed {
    /// Refuses what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), FeedError> {
        if self.sets.len() > limits::ENDPOINT_SETS_MAX {
            return Err(FeedError::TooMany);
        }
        for set in &self.sets {
            if set.addresses.len() > limits::ENDPOINT_ADDRESSES_MAX
                || set.labels.len() > limits::HELLO_LIST_MAX
            {
                return Err(FeedError::TooMany);
            }
            if set
                .addresses
                .iter()
                .any(|address| address.port == 0 || address.address.port() == 0)
            {
                return Err(FeedError::Port(set.service.clone()));
            }
            if let Some(identity) = &set.spiffe_id
                && SpiffeId::parse(identity).is_err()
            {
                return Err(FeedError::Identity(identity.clone()));
            }
        }
        Ok(())
    }

    /// The sets of these services, as they are streamed.
    pub(crate) fn of(&self, services: &BTreeSet<String>, version: u64) -> wire::Endpoints {
        let sets = self
            .sets
            .iter()
            .filter(|set| services.contains(&set.service))
            .map(EndpointSet::to_wire)
            .collect();
        wire::Endpoints { version, sets }
    }
}

impl EndpointSet {
    fn to_wire(&self) -> wire::EndpointSet {
        wire::EndpointSet {
            service: self.service.clone(),
            labels: self
                .labels
                .iter()
                .map(|label| signed::Label {
                    key: label.key.clone(),
                    value: label.value.clone(),
                })
                .collect(),
            zone: self.zone.clone(),
            spiffe_id: self.spiffe_id.clone().unwrap_or_default(),
            addresses: self
                .addresses
                .iter()
                .map(|address| wire::ServiceAddress {
                    port: u32::from(address.port),
                    address: address.address.to_string(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: &str = r#"{ "sets": [
        { "service": "reviews", "labels": [{ "key": "version", "value": "v1" }],
          "addresses": [{ "port": 9080, "address": "127.0.0.1:4001" }] },
        { "service": "ratings", "spiffe_id": "spiffe://a.example/service/ratings",
          "addresses": [{ "port": 9080, "address": "127.0.0.1:4002" }] } ] }"#;

    fn feed() -> EndpointFeed {
        serde_json::from_str(FEED).unwrap()
    }

    #[test]
    fn a_proxy_gets_the_sets_of_its_callees() {
        let feed = feed();
        assert_eq!(feed.check(), Ok(()));
        let endpoints = feed.of(&BTreeSet::from(["reviews".to_owned()]), 7);
        assert_eq!(endpoints.version, 7);
        assert_eq!(endpoints.sets.len(), 1);
        assert_eq!(endpoints.sets[0].service, "reviews");
        assert_eq!(endpoints.sets[0].addresses[0].address, "127.0.0.1:4001");
        assert_eq!(endpoints.sets[0].labels[0].value, "v1");
    }

    #[test]
    fn nonsense_is_refused() {
        let mut wrong = feed();
        wrong.sets[1].spiffe_id = Some("http://x".to_owned());
        assert_eq!(
            wrong.check(),
            Err(FeedError::Identity("http://x".to_owned()))
        );
        let mut wrong = feed();
        wrong.sets[0].addresses[0].port = 0;
        assert_eq!(wrong.check(), Err(FeedError::Port("reviews".to_owned())));
        assert!(serde_json::from_str::<EndpointFeed>(r#"{ "sets": [], "extra": 1 }"#).is_err());
    }
}
