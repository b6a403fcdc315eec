//! Endpoints as they come beside the slices. They are unsigned, so all that they may say is bounded
//! here, in one place, by what is signed: the trust root and the slice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use mesh_bundle::messages::bundle::Label as WireLabel;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::slice::{EndpointSource, Label, Slice};
use mesh_bundle::spiffe::SpiffeId;

use crate::data_plane::EndpointSet;

/// Addresses that one feed may hold; the rest is left out, and told.
const ADDRESSES_MAX: usize = 100_000;

/// What the signed slice says about the endpoints of each callee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Callees(BTreeMap<String, Callee>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Callee {
    is_discovered: bool,
    identities: BTreeSet<SpiffeId>,
}

impl From<&Slice> for Callees {
    fn from(slice: &Slice) -> Self {
        let of_one = |callee: &mesh_bundle::slice::Callee| {
            let says = Callee {
                is_discovered: callee.endpoints == EndpointSource::Discovered,
                identities: callee.identities.iter().cloned().collect(),
            };
            (callee.service.clone(), says)
        };
        Self(slice.callees.iter().map(of_one).collect())
    }
}

/// Why endpoints of a feed are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// Policy declares the endpoints of the service: it has no other source.
    Declared,
    /// The address leads back into this machine or to its link, or to many.
    LocalAddress,
    /// Neither an address and port, nor an identity.
    Malformed,
    /// The identity is none of the service's: a feed narrows them, and adds none.
    OtherIdentity,
    /// Beyond [`ADDRESSES_MAX`].
    TooMany,
}

impl Refusal {
    /// As metrics and logs name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::LocalAddress => "local_address",
            Self::Malformed => "malformed",
            Self::OtherIdentity => "other_identity",
            Self::TooMany => "too_many",
        }
    }
}

/// How many endpoints of a service were refused, by reason.
pub(super) type Refused = BTreeMap<(String, Refusal), usize>;

/// The feed as it came last, what it is held against, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    feed: wire::Endpoints,
    callees: Callees,
    used: Vec<EndpointSet>,
    refused: Refused,
}

/// What judging the feed again changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    /// The endpoints to use from now on; none: as before.
    pub(super) used: Option<Vec<EndpointSet>>,
    /// What was not refused before.
    pub(super) refused: Refused,
}

impl Discovery {
    /// Another feed came.
    pub(super) fn set_feed(&mut self, feed: wire::Endpoints) {
        self.feed = feed;
    }

    /// Another slice is about to be served.
    pub(super) fn set_callees(&mut self, callees: Callees) {
        self.callees = callees;
    }

    /// Judges the feed by the slice and by whether the trust root is marked `development`.
    pub(super) fn judge(&mut self, development: bool) -> News {
        let callees = (!development).then_some(&self.callees);
        let (used, refused) = judge(&self.feed, callees);
        let mut news = News::default();
        if self.used != used {
            self.used.clone_from(&used);
            news.used = Some(used);
        }
        if self.refused != refused {
            news.refused = refused.clone();
            news.refused
                .retain(|what, count| self.refused.get(what) != Some(count));
            self.refused = refused;
        }
        news
    }
}

/// Turns a feed into endpoints. What cannot be used is left out and counted: one bad address must not
/// take the others away.
///
/// Held against `callees` it speaks only for those whose source is discovery, within their
/// identities, and of addresses beyond this machine and its link, where things live that trust
/// whoever reaches them. Without (`meshd dev` feeds everything, from one machine) it may replace
/// what is declared.
fn judge(feed: &wire::Endpoints, callees: Option<&Callees>) -> (Vec<EndpointSet>, Refused) {
    let mut refused = Refused::new();
    let mut room = ADDRESSES_MAX;
    let mut sets = Vec::new();
    for set in &feed.sets {
        let mut refuse = |why, count| {
            *refused.entry((set.service.clone(), why)).or_default() += count;
        };
        let Ok(spiffe_id) = identity(&set.spiffe_id) else {
            refuse(Refusal::Malformed, set.addresses.len());
            continue;
        };
        if let Some(Callees(callees)) = callees {
            // Of an earlier slice or of the next: no harm, and no use yet.
            let Some(callee) = callees.get(&set.service) else {
                continue;
            };
            if !callee.is_discovered {
                refuse(Refusal::Declared, set.addresses.len());
                continue;
            }
            if let Some(id) = &spiffe_id
                && !callee.identities.contains(id)
            {
                refuse(Refusal::OtherIdentity, set.addresses.len());
                continue;
            }
        }
        let mut addresses = Vec::new();
        for found in &set.addresses {
            match address(found, callees.is_none()) {
                Ok(_) if room == 0 => refuse(Refusal::TooMany, 1),
                Ok(address) => {
                    room -= 1;
                    addresses.push(address);
                }
                Err(why) => refuse(why, 1),
            }
        }
        sets.push(EndpointSet {
            service: set.service.clone(),
            labels: labels(&set.labels, &set.zone),
            spiffe_id,
            addresses,
        });
    }
    (sets, refused)
}

fn identity(text: &str) -> Result<Option<SpiffeId>, mesh_bundle::spiffe::SpiffeIdError> {
    if text.is_empty() {
        return Ok(None);
    }
    SpiffeId::parse(text).map(Some)
}

fn address(found: &wire::ServiceAddress, local: bool) -> Result<(u16, SocketAddr), Refusal> {
    let port = u16::try_from(found.port).ok().filter(|port| *port > 0);
    let address = found.address.parse::<SocketAddr>().ok();
    let address = address.filter(|address| address.port() > 0);
    let (Some(port), Some(address)) = (port, address) else {
        return Err(Refusal::Malformed);
    };
    if !local && is_local(address.ip()) {
        return Err(Refusal::LocalAddress);
    }
    Ok((port, address))
}

/// Loopback, link-local (the metadata services of clouds are there), unspecified, and those that
/// are no single machine: multicast and broadcast.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
        }
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

    const REVIEWS: &str = "spiffe://test.example/service/reviews";

    fn callees(is_discovered: bool) -> Callees {
        let callee = Callee {
            is_discovered,
            identities: [SpiffeId::parse(REVIEWS).unwrap()].into(),
        };
        Callees([("reviews".to_owned(), callee)].into())
    }

    fn of_reviews(why: Refusal, count: usize) -> Refused {
        [(("reviews".to_owned(), why), count)].into()
    }

    #[test]
    fn local_addresses_are_for_development() {
        let local = [
            "127.0.0.1:80",
            "169.254.169.254:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::1]:80",
            "[::]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:169.254.169.254]:80",
        ];
        let (sets, refused) = judge(&feed(&local), Some(&callees(true)));
        assert_eq!(sets[0].addresses, []);
        assert_eq!(refused, of_reviews(Refusal::LocalAddress, local.len()));
        let (sets, refused) = judge(&feed(&local), None);
        assert_eq!(sets[0].addresses.len(), local.len());
        assert_eq!(refused, Refused::new());
    }

    #[test]
    fn a_bad_address_does_not_take_the_others_away() {
        let mixed = feed(&["10.0.0.7:80", "x", "10.0.0.8:0", ""]);
        for callees in [None, Some(&callees(true))] {
            let (sets, refused) = judge(&mixed, callees);
            assert_eq!(sets[0].addresses.len(), 1);
            assert_eq!(sets[0].labels[0].value, "a");
            assert_eq!(refused, of_reviews(Refusal::Malformed, 3));

            let mut bad = feed(&["10.0.0.7:80"]);
            bad.sets[0].spiffe_id = "spiffe://x".to_owned();
            let (sets, refused) = judge(&bad, callees);
            assert_eq!(sets, []);
            assert_eq!(refused, of_reviews(Refusal::Malformed, 1));
        }
    }

    #[test]
    fn declared_endpoints_are_replaced_in_development_only() {
        let good = feed(&["10.0.0.7:80", "10.0.0.8:80"]);
        let (sets, refused) = judge(&good, Some(&callees(false)));
        assert_eq!(sets, []);
        assert_eq!(refused, of_reviews(Refusal::Declared, 2));
        assert_eq!(judge(&good, Some(&callees(true))).0.len(), 1);
        assert_eq!(judge(&good, None).0.len(), 1);
    }

    #[test]
    fn a_service_that_is_not_called_is_no_refusal() {
        let good = feed(&["10.0.0.7:80"]);
        let nothing = (Vec::new(), Refused::new());
        assert_eq!(judge(&good, Some(&Callees::default())), nothing);
    }

    #[test]
    fn an_identity_narrows_and_never_adds() {
        let mut narrowed = feed(&["10.0.0.7:80"]);
        narrowed.sets[0].spiffe_id = REVIEWS.to_owned();
        let (sets, refused) = judge(&narrowed, Some(&callees(true)));
        let id = sets[0].spiffe_id.as_ref().map(SpiffeId::as_str);
        assert_eq!(id, Some(REVIEWS));
        assert_eq!(refused, Refused::new());

        narrowed.sets[0].spiffe_id = "spiffe://test.example/service/ratings".to_owned();
        let (sets, refused) = judge(&narrowed, Some(&callees(true)));
        assert_eq!(sets, []);
        assert_eq!(refused, of_reviews(Refusal::OtherIdentity, 1));
    }

    #[test]
    fn too_many_addresses_are_cut() {
        let many = vec!["10.0.0.7:80"; ADDRESSES_MAX + 2];
        let (sets, refused) = judge(&feed(&many), Some(&callees(true)));
        assert_eq!(sets[0].addresses.len(), ADDRESSES_MAX);
        assert_eq!(refused, of_reviews(Refusal::TooMany, 2));
    }

    #[test]
    fn only_changes_are_news() {
        let mut discovery = Discovery::default();
        assert_eq!(discovery.judge(false), News::default());
        discovery.set_feed(feed(&["10.0.0.7:80", "127.0.0.1:80"]));
        // No slice yet: nothing to use, and nothing to complain of.
        assert_eq!(discovery.judge(false), News::default());

        discovery.set_callees(callees(true));
        let news = discovery.judge(false);
        assert_eq!(news.used.map(|sets| sets[0].addresses.len()), Some(1));
        assert_eq!(news.refused, of_reviews(Refusal::LocalAddress, 1));
        assert_eq!(discovery.judge(false), News::default());

        // Under a root for development.
        let news = discovery.judge(true);
        assert_eq!(news.used.map(|sets| sets[0].addresses.len()), Some(2));
        assert_eq!(news.refused, Refused::new());

        discovery.set_callees(callees(false));
        let news = discovery.judge(false);
        assert_eq!(news.used, Some(Vec::new()));
        assert_eq!(news.refused, of_reviews(Refusal::Declared, 2));
    }
}
