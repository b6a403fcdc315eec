//! How near an endpoint is, by the labels that it shares with the caller.

use std::collections::BTreeMap;

use mesh_bundle::slice::{Label, Locality};

/// What is near to one caller.
#[derive(Clone, Debug)]
pub struct Nearness<'l> {
    locality: &'l Locality,
    /// The caller's values of the labels, in their order.
    own: Vec<Option<&'l str>>,
    /// Other values of the first label, in the order in which they are tried.
    next: Vec<&'l str>,
}

/// Where an endpoint stands; what is less is nearer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It has the caller's value of the first label; `false`: and of this one too.
    Here(Vec<bool>),
    /// It has the value of the first label that is tried so.
    Next(usize),
    /// Anywhere.
    Beyond(Vec<bool>),
}

impl<'l> Nearness<'l> {
    /// What is near to a caller with these labels.
    pub fn new(locality: &'l Locality, caller: &'l [Label]) -> Self {
        let own: Vec<_> = locality
            .labels
            .iter()
            .map(|key| value(caller, key))
            .collect();
        let first = own.first().copied().flatten();
        let for_caller = |from: Option<&str>| from.is_none() || from == first;
        let mut next: Vec<&str> = Vec::new();
        for fallback in &locality.otherwise {
            if !for_caller(fallback.from.as_deref()) {
                continue;
            }
            for value in fallback.values.iter().map(String::as_str) {
                if Some(value) != first && !next.contains(&value) {
                    next.push(value);
                }
            }
        }
        Self {
            locality,
            own,
            next,
        }
    }

    /// The tier of each of these endpoints, by their labels, 0 the nearest of those that there are; `None`:
    /// too far. Endpoints that share the more important labels are nearer, then come the values that policy
    /// names, then all others, unless policy confines callers.
    pub fn tiers<'e>(&self, endpoints: impl Iterator<Item = &'e [Label]>) -> Vec<Option<usize>> {
        let ranks: Vec<_> = endpoints.map(|labels| self.rank(labels)).collect();
        let mut tiers: BTreeMap<&Rank, usize> = BTreeMap::new();
        for rank in ranks.iter().flatten() {
            tiers.insert(rank, 0);
        }
        for (tier, place) in tiers.values_mut().enumerate() {
            *place = tier;
        }
        let tier = |rank: &Option<Rank>| tiers.get(rank.as_ref()?).copied();
        ranks.iter().map(tier).collect()
    }

    fn rank(&self, labels: &[Label]) -> Option<Rank> {
        let differs =
            |(key, own): (&String, Option<&str>)| own.is_none() || value(labels, key) != own;
        let mut rest = self
            .locality
            .labels
            .iter()
            .zip(self.own.iter().copied())
            .map(differs);
        let elsewhere = rest.next().unwrap_or(false);
        let rest = rest.collect();
        if !elsewhere {
            return Some(Rank::Here(rest));
        }
        let first = self
            .locality
            .labels
            .first()
            .and_then(|key| value(labels, key));
        let named = self.next.iter().position(|value| Some(*value) == first);
        match named {
            Some(place) => Some(Rank::Next(place)),
            None if self.locality.confined => None,
            None => Some(Rank::Beyond(rest)),
        }
    }
}

fn value<'l>(labels: &'l [Label], key: &str) -> Option<&'l str> {
    let found = labels.iter().find(|label| label.key == key);
    found.map(|label| label.value.as_str())
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::LocalityFallback;

    use super::*;

    /// `zone=a rack=1` as labels.
    fn labels(text: &str) -> Vec<Label> {
        let pairs = text
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| Label {
                key: key.into(),
                value: value.into(),
            })
            .collect()
    }

    fn locality(keys: &[&str], otherwise: &[(&[&str], Option<&str>)], confined: bool) -> Locality {
        Locality {
            labels: keys.iter().map(|key| (*key).to_owned()).collect(),
            min_healthy: 7_000,
            otherwise: otherwise
                .iter()
                .map(|(values, from)| LocalityFallback {
                    values: values.iter().map(|value| (*value).to_owned()).collect(),
                    from: from.map(str::to_owned),
                })
                .collect(),
            confined,
        }
    }

    #[track_caller]
    fn check(locality: &Locality, caller: &str, endpoints: &[&str], expected: &[Option<usize>]) {
        let caller = labels(caller);
        let endpoints: Vec<_> = endpoints.iter().map(|text| labels(text)).collect();
        let nearness = Nearness::new(locality, &caller);
        let found = nearness.tiers(endpoints.iter().map(Vec::as_slice));
        assert_eq!(found, expected);
    }

    #[test]
    fn labels_in_their_order() {
        let locality = locality(&["region", "zone"], &[], false);
        check(
            &locality,
            "region=eu zone=a",
            &[
                "region=us zone=a",
                "region=eu zone=b",
                "region=eu zone=a",
                "region=us zone=c",
                "",
            ],
            &[Some(2), Some(1), Some(0), Some(3), Some(3)],
        );
    }

    #[test]
    fn other_values_in_their_order() {
        let locality = locality(
            &["zone"],
            &[
                (&["b", "c"], Some("a")),
                (&["a"], Some("b")),
                (&["d"], None),
            ],
            false,
        );
        let endpoints = ["zone=a", "zone=b", "zone=c", "zone=d", "zone=e"];
        let all = |tiers: [usize; 5]| tiers.map(Some);
        check(&locality, "zone=a", &endpoints, &all([0, 1, 2, 3, 4]));
        check(&locality, "zone=b", &endpoints, &all([1, 0, 3, 2, 3]));
        check(&locality, "", &endpoints, &all([1, 1, 1, 0, 1]));
    }

    #[test]
    fn confined() {
        let locality = locality(&["zone"], &[(&["b"], None)], true);
        check(
            &locality,
            "zone=a",
            &["zone=c", "zone=b", "zone=a"],
            &[None, Some(1), Some(0)],
        );
        check(&locality, "zone=a", &["zone=c", "zone=b"], &[None, Some(0)]);
    }
}
