//! The route index: from a request to the route that wins it, without walking the routes.
//!
//! By port, then by host, then a trie over path segments; what is left of the conditions is asked of
//! the few routes found there. Everything is visited in order of specificity, so that the first route
//! whose conditions hold is the winner. The order of visit *is* the order of [`super::Specificity`];
//! a property test holds the two together.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_bundle::slice::{Condition, Route, RouteMatch};

use super::RouteError;
use super::precedence::{Choice, Combinations, Tail, joined_tail};
use crate::condition::{ConditionError, ConditionMatcher, Reading};
use crate::host::{HostIndex, HostPattern};
use crate::limits;
use crate::path::{NormalisedPath, PathMatcher};
use crate::request::Request;

mod trie;

use trie::PathTrie;

/// The index of one callee's routes.
#[derive(Clone, Debug)]
pub(crate) struct RouteIndex {
    entries: Box<[Entry]>,
    ports: HashMap<u16, Hosts>,
    any_port: Hosts,
}

/// Tries of the entries that name a host, and of those that name none.
#[derive(Clone, Debug, Default)]
struct Hosts {
    named: HostIndex<PathTrie>,
    any: PathTrie,
}

/// One alternative of one route.
#[derive(Clone, Debug)]
struct Entry {
    route: usize,
    tail: Tail,
    /// The conditions that all alternatives of the match have.
    shared: Arc<[ConditionMatcher]>,
    /// The conditions of this alternative that its place does not imply, compiled once for all
    /// alternatives of the match.
    own: Box<[Arc<ConditionMatcher>]>,
}

/// Where an alternative belongs.
struct Place {
    ports: Vec<u16>,
    host: Option<HostPattern>,
    path: Option<PathMatcher>,
}

impl RouteIndex {
    pub(crate) fn build(routes: &[Route]) -> Result<Self, RouteError> {
        let mut entries = Vec::new();
        let mut places = Vec::new();
        let every_request = [RouteMatch::default()];
        let folded = routes
            .iter()
            .flat_map(|route| &route.matches)
            .any(ignores_case);
        // What the tries will list: an entry once per port that it names.
        let mut listed = 0_usize;
        for (number, route) in routes.iter().enumerate() {
            let matches = if route.matches.is_empty() {
                &every_request
            } else {
                route.matches.as_slice()
            };
            for each in matches {
                let failed = |source| RouteError::Condition {
                    route: route.name.clone(),
                    source,
                };
                let ports = ports(each);
                let shared = shared_conditions(each).map_err(failed)?;
                let combinations = Combinations::of(each).map_err(failed)?;
                for chosen in combinations.iter() {
                    let (place, own) = place(&chosen, &ports, folded);
                    entries.push(Entry {
                        route: number,
                        tail: joined_tail(&chosen),
                        shared: Arc::clone(&shared),
                        own,
                    });
                    places.push(place);
                    listed += ports.len().max(1);
                }
                if listed > limits::INDEX_ENTRIES_MAX {
                    return Err(RouteError::TooMany);
                }
            }
        }
        Ok(Self::arrange(entries, &places, folded))
    }

    fn arrange(entries: Vec<Entry>, places: &[Place], folded: bool) -> Self {
        // Entries go in by falling specificity of what the place does not tell, so that each place's
        // list is in order. Ties, which the compiler refuses, are settled by position, to be stable.
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(entries.get(*number).map(|entry| entry.tail)));
        let mut index = Self {
            entries: entries.into(),
            ports: HashMap::new(),
            any_port: Hosts::default(),
        };
        for number in order {
            let Some(place) = places.get(number) else {
                continue;
            };
            if place.ports.is_empty() {
                index.any_port.insert(place, number, folded);
            }
            for port in &place.ports {
                index
                    .ports
                    .entry(*port)
                    .or_default()
                    .insert(place, number, folded);
            }
        }
        index
    }

    /// The number of the route that wins the request.
    pub(crate) fn find(&self, request: &Request<'_>) -> Option<usize> {
        let accept = |number: usize| {
            self.entries
                .get(number)
                .filter(|entry| entry.holds(request))
                .map(|entry| entry.route)
        };
        self.ports
            .get(&request.port)
            .and_then(|hosts| hosts.find(request.host, request.path, accept))
            .or_else(|| self.any_port.find(request.host, request.path, accept))
    }
}

impl Hosts {
    fn insert(&mut self, place: &Place, number: usize, folded: bool) {
        let trie = match &place.host {
            Some(host) => self.named.entry(host),
            None => &mut self.any,
        };
        trie.insert(place.path.as_ref(), number, folded);
    }

    fn find(
        &self,
        host: &str,
        path: &NormalisedPath<'_>,
        accept: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        self.named
            .find(host, |trie| trie.find(path, &accept))
            .or_else(|| self.any.find(path, &accept))
    }
}

impl Entry {
    fn holds(&self, request: &Request<'_>) -> bool {
        let holds = |condition: &ConditionMatcher| condition.matches(request, Reading::Match);
        self.shared.iter().all(holds) && self.own.iter().all(|condition| holds(condition))
    }
}

/// Whether a path pattern of the match ignores case; then the tries hold lower case.
fn ignores_case(each: &RouteMatch) -> bool {
    each.conditions.iter().any(|condition| match condition {
        Condition::Path(patterns) => patterns.iter().any(|pattern| pattern.ignore_case),
        _ => false,
    })
}

/// Whether alternatives differ in this condition.
fn varies(condition: &Condition) -> bool {
    matches!(
        condition,
        Condition::Host(_) | Condition::Path(_) | Condition::From(_)
    )
}

fn shared_conditions(each: &RouteMatch) -> Result<Arc<[ConditionMatcher]>, ConditionError> {
    let shared = each
        .conditions
        .iter()
        .filter(|condition| !varies(condition));
    shared.map(ConditionMatcher::compile).collect()
}

/// The ports under which a match is listed: those of its first condition on ports; others are asked.
fn ports(each: &RouteMatch) -> Vec<u16> {
    let mut ports = each
        .conditions
        .iter()
        .find_map(|condition| match condition {
            Condition::Port(ports) if !ports.is_empty() => Some(ports.clone()),
            _ => None,
        })
        .unwrap_or_default();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The place of an alternative, and the conditions that the place does not imply.
///
/// Of several path or host conditions, the most specific gives the place, since it also gave the
/// specificity.
fn place(chosen: &[&Choice], ports: &[u16], folded: bool) -> (Place, Box<[Arc<ConditionMatcher>]>) {
    let mut place = Place {
        ports: ports.to_vec(),
        host: None,
        path: None,
    };
    let (mut host, mut path): (Option<&Choice>, Option<&Choice>) = (None, None);
    for choice in chosen {
        let best = match choice.varying.as_deref() {
            Some(ConditionMatcher::Host(_)) => &mut host,
            Some(ConditionMatcher::Path(_)) => &mut path,
            _ => continue,
        };
        if best.is_none_or(|best| best.specificity() < choice.specificity()) {
            *best = Some(choice);
        }
    }
    let is = |best: Option<&Choice>, choice| best.is_some_and(|best| std::ptr::eq(best, choice));
    let mut own = Vec::new();
    for choice in chosen {
        let Some(matcher) = &choice.varying else {
            continue;
        };
        match &**matcher {
            ConditionMatcher::Host(hosts) if is(host, *choice) => {
                place.host = hosts.first().cloned();
                continue;
            }
            ConditionMatcher::Path(paths) if is(path, *choice) => {
                place.path = paths.first().cloned();
                if !folded && paths.iter().all(PathMatcher::is_template) {
                    continue;
                }
            }
            _ => {}
        }
        own.push(Arc::clone(matcher));
    }
    (place, own.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all, exact, host, regex, route};

    /// Otherwise one match with many hosts and a regular expression is as many automata.
    #[test]
    fn alternatives_share_what_they_have_in_common() {
        let several = all([
            Condition::Host(vec!["a".into(), "b".into(), "c".into()]),
            regex("/(a|b)+"),
            Condition::Header(exact("x", "1")),
        ]);
        let index = RouteIndex::build(&[route("r", vec![several])]).unwrap();
        let [first, rest @ ..] = &*index.entries else {
            panic!("an entry per host");
        };
        assert_eq!((first.own.len(), rest.len()), (1, 2));
        for other in rest {
            assert!(Arc::ptr_eq(&first.shared, &other.shared));
            assert!(Arc::ptr_eq(&first.own[0], &other.own[0]));
        }
    }

    #[test]
    fn entries_are_bounded_once_per_port() {
        let ports = |count: u16| {
            let ports = Condition::Port((1..=count).collect());
            let hosts = (0..4096).map(|number| format!("h{number}"));
            RouteIndex::build(&[
                route("many", vec![all([ports, Condition::Host(hosts.collect())])]),
                route("one", vec![all([host("x")])]),
            ])
        };
        assert!(ports(255).is_ok());
        assert_eq!(ports(256).unwrap_err(), RouteError::TooMany);
    }
}
