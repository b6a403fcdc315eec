//! Sets of methods, ports and addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Some values, or all but some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice<T: Ord> {
    /// These.
    Only(BTreeSet<T>),
    /// All but these.
    Except(BTreeSet<T>),
}

impl<T: Ord + Clone> Choice<T> {
    pub(super) fn everything() -> Self {
        Self::Except(BTreeSet::new())
    }

    pub(super) fn only(values: impl IntoIterator<Item = T>) -> Self {
        Self::Only(values.into_iter().collect())
    }

    pub(super) fn is_everything(&self) -> bool {
        matches!(self, Self::Except(values) if values.is_empty())
    }

    /// All but a few of unboundedly many are never none.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Only(values) if values.is_empty())
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        match self {
            Self::Only(values) => values.contains(value),
            Self::Except(values) => !values.contains(value),
        }
    }

    pub(super) fn complement(&self) -> Self {
        match self {
            Self::Only(values) => Self::Except(values.clone()),
            Self::Except(values) => Self::Only(values.clone()),
        }
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(some), set) | (set, Self::Only(some)) => Self::Only(
                some.iter()
                    .filter(|value| set.contains(value))
                    .cloned()
                    .collect(),
            ),
            (Self::Except(left), Self::Except(right)) => Self::Except(left | right),
        }
    }
}

/// The usual methods first, then made-up ones.
pub(super) fn pick_method(methods: &Choice<String>) -> Option<String> {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
    let usual = USUAL.iter().map(|method| (*method).to_owned());
    let made_up = (0..u32::MAX).map(|number| format!("X-{number}"));
    match methods {
        Choice::Only(values) => usual
            .chain(values.iter().cloned())
            .find(|method| methods.contains(method)),
        Choice::Except(_) => usual.chain(made_up).find(|method| methods.contains(method)),
    }
}

/// The smallest port of the set.
pub(super) fn pick_port(ports: &Choice<u16>) -> Option<u16> {
    match ports {
        Choice::Only(values) => values.iter().copied().find(|port| *port > 0),
        Choice::Except(values) => (1..=u16::MAX).find(|port| !values.contains(port)),
    }
}

/// A set of addresses as ascending ranges that do not touch, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    ranges: Vec<(Place, Place)>,
}

/// A family, IPv4 first, and an address in it.
type Place = (bool, u128);

const FAMILIES: [(Place, Place); 2] = [
    ((false, 0), (false, u32::MAX as u128)),
    ((true, 0), (true, u128::MAX)),
];

impl Addresses {
    pub(super) fn everything() -> Self {
        Self {
            ranges: FAMILIES.to_vec(),
        }
    }

    pub(super) fn any_of(networks: &[IpNet]) -> Self {
        let mut ranges: Vec<(Place, Place)> = networks
            .iter()
            .map(|network| (place(network.network()), place(network.broadcast())))
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(Place, Place)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before)
                    if first.0 == before.1.0 && first.1 <= before.1.1.saturating_add(1) =>
                {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.ranges == FAMILIES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        for (first, last) in &self.ranges {
            for (from, to) in &other.ranges {
                let (low, high) = (*first.max(from), *last.min(to));
                if low.0 == high.0 && low <= high {
                    ranges.push((low, high));
                }
            }
        }
        ranges.sort_unstable();
        Self { ranges }
    }

    pub(super) fn complement(&self) -> Self {
        let mut ranges = Vec::new();
        for (first, last) in FAMILIES {
            let mut next = Some(first);
            for (from, to) in self.ranges.iter().filter(|range| range.0.0 == first.0) {
                if let Some(low) = next.filter(|low| low < from) {
                    ranges.push((low, (from.0, from.1 - 1)));
                }
                next = (*to < last).then(|| (to.0, to.1 + 1));
            }
            ranges.extend(next.map(|low| (low, last)));
        }
        Self { ranges }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let place = place(address);
        self.ranges
            .iter()
            .any(|(first, last)| *first <= place && place <= *last)
    }

    /// An address of the set, an ordinary one where there is a choice.
    pub(super) fn pick(&self) -> Option<IpAddr> {
        let ordinary = super::point::ORDINARY_IP;
        if self.contains(ordinary) {
            return Some(ordinary);
        }
        self.ranges.first().map(|(first, _)| address(*first))
    }
}

fn place(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

fn address((is_v6, bits): Place) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if !is_v6 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Addresses {
        let networks: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses::any_of(&networks)
    }

    #[test]
    fn neighbouring_networks_become_one_range() {
        assert_eq!(
            networks(&["10.0.1.0/24", "10.0.0.0/24"]),
            networks(&["10.0.0.0/23"])
        );
        assert_ne!(
            networks(&["10.0.0.0/24", "10.0.2.0/24"]),
            networks(&["10.0.0.0/22"])
        );
    }

    #[test]
    fn a_set_and_its_complement_are_everything_and_nothing() {
        for texts in [
            vec![],
            vec!["0.0.0.0/0"],
            vec!["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"],
            vec!["0.0.0.0/0", "::/0"],
            vec!["255.255.255.255/32", "::/128"],
        ] {
            let set = networks(&texts);
            assert!(set.and(&set.complement()).is_empty(), "{texts:?}");
            assert_eq!(set.complement().complement(), set, "{texts:?}");
            assert_eq!(
                set.is_empty(),
                set.complement().is_everything(),
                "{texts:?}"
            );
            if let Some(inside) = set.pick() {
                assert!(set.contains(inside) && !set.complement().contains(inside));
            }
        }
    }

    #[test]
    fn a_method_outside_a_set_is_made_up_when_the_usual_ones_are_taken() {
        let usual = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
        let others = Choice::only(usual.map(str::to_owned)).complement();
        assert_eq!(pick_method(&others).as_deref(), Some("X-0"));
        assert_eq!(pick_method(&Choice::only([])), None);
    }
}
