//! Endpoints as they come beside the slices: unsigned, so what they may say is bounded here, and the
//! traffic side holds them against the identities of the signed slice.

use std::net::{IpAddr, SocketAddr};

use mesh_bundle::messages::bundle::Label as WireLabel;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::slice::Label;
use mesh_bundle::spiffe::SpiffeId;

use crate::data_plane::EndpointSet;

/// Addresses that one feed may hold; the rest is left out, and told.
const ADDRESSES_MAX: usize = 100_000;

/// Turns a feed into endpoints. What cannot be used is left out and counted: one bad address must not
/// take the others away. Without `development` that is also every address that would lead back into
/// this machine or to its link, where things live that trust whoever reaches them.
pub(crate) fn from_wire(feed: &wire::Endpoints, development: bool) -> (Vec<EndpointSet>, usize) {
    let mut left_out = 0;
    let mut room = ADDRESSES_MAX;
    let mut sets = Vec::new();
    for set in &feed.sets {
        let Ok(spiffe_id) = identity(&set.spiffe_id) else {
            left_out += set.addresses.len();
            continue;
        };
        let found: Vec<_> = set
            .addresses
            .iter()
            .filter_map(|found| address(found, development))
            .take(room)
            .collect();
        room -= found.len();
        left_out += set.addresses.len() - found.len();
        sets.push(EndpointSet {
            service: set.service.clone(),
            labels: labels(&set.labels, &set.zone),
            spiffe_id,
            addresses: found,
        });
    }
    (sets, left_out)
}

fn identity(text: &str) -> Result<Option<SpiffeId>, mesh_bundle::spiffe::SpiffeIdError> {
    if text.is_empty() {
        return Ok(None);
    }
    SpiffeId::parse(text).map(Some)
}

fn address(found: &wire::ServiceAddress, development: bool) -> Option<(u16, SocketAddr)> {
    let port = u16::try_from(found.port).ok().filter(|port| *port > 0)?;
    let address: SocketAddr = found.address.parse().ok()?;
    let reaches = development || !is_local(address.ip());
    (address.port() > 0 && reaches).then_some((port, address))
}

/// Loopback, link-local (the metadata services of clouds are there), unspecified and broadcast.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

fn labels(labels: &[WireLabel], zone: &str) -> Vec<Label> {
    let zone = (!zone.is_empty()).then(|| Label {
        key: "zone".to_owned(),
        value: zone.to_owned(),
    });
    labels
        .iter()
        .map(|label| Label {
            key: label.key.clone(),
            value: label.value.clone(),
        })
        .chain(zone)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(addresses: &[&str]) -> wire::Endpoints {
        wire::Endpoints {
            version: 1,
            sets: vec![wire::EndpointSet {
                service: "reviews".to_owned(),
                zone: "a".to_owned(),
                addresses: addresses
                    .iter()
                    .map(|address| wire::ServiceAddress {
                        port: 9080,
                        address: (*address).to_owned(),
                    })
                    .collect(),
                ..wire::EndpointSet::default()
            }],
        }
    }

    #[test]
    fn local_addresses_are_for_development() {
        let local = [
            "127.0.0.1:80",
            "169.254.169.254:80",
            "0.0.0.0:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[::ffff:127.0.0.1]:80",
        ];
        let (sets, left_out) = from_wire(&feed(&local), false);
        assert_eq!((sets[0].addresses.len(), left_out), (0, local.len()));
        let (sets, left_out) = from_wire(&feed(&local), true);
        assert_eq!((sets[0].addresses.len(), left_out), (local.len(), 0));
    }

    #[test]
    fn a_bad_address_does_not_take_the_others_away() {
        let (sets, left_out) = from_wire(&feed(&["10.0.0.7:80", "x", "10.0.0.8:0", ""]), false);
        assert_eq!(sets[0].addresses.len(), 1);
        assert_eq!(left_out, 3);
        assert_eq!(sets[0].labels[0].value, "a");

        let mut bad = feed(&["10.0.0.7:80"]);
        bad.sets[0].spiffe_id = "spiffe://x".to_owned();
        assert_eq!(from_wire(&bad, false).0.len(), 0);
    }
}
