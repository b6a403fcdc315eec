//! In which order, or over which intermediate commit, a change can roll out so that every pair of
//! services works all the time: make before break.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::slice::MtlsMode;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::Change;
use super::access::rules;
use super::skew::{self, Skew};
use crate::analysis::probe;
use crate::linked::{LinkedMesh, Service, ServiceId};

/// How a change that does not fit into one commit can be delivered.
#[derive(Clone, Debug)]
pub struct Staging {
    /// Pairs of services that don't work in the middle, ascending.
    pub skews: Vec<Skew>,
    /// Positions in `skews` of those for which no order of commits will do.
    pub orderless: Vec<usize>,
    /// What an intermediate commit keeps beside the new; nothing if none of this kind works.
    pub kept_beside: Option<Vec<Beside>>,
    /// Pairs that were too large to compare.
    pub unknown: usize,
}

/// What an intermediate commit says of one service besides what the head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The service, in the head.
    pub service: ServiceId,
    /// Identities of before that it keeps, as written.
    pub identities: Vec<String>,
    /// Ports of before that it keeps.
    pub ports: Vec<u16>,
    /// Names of the rules of before that it keeps.
    pub rules: Vec<String>,
    /// Whether it takes both mutual TLS and plaintext, where the commits differ in that.
    pub permissive: bool,
}

/// Looks for pairs that don't work in the middle, and for a way around it.
pub fn of(change: Change<'_>) -> Staging {
    let (skews, unknown) = skew::all(change);
    let orderless = orderless(&skews);
    // Proxies of another scope take neither commit, whatever it keeps.
    let (base, head) = (change.base, change.head);
    let is_same_scope =
        base.name.value == head.name.value && base.trust_domain.value == head.trust_domain.value;
    let kept_beside = (!skews.is_empty() && is_same_scope)
        .then(|| intermediate(change, &skews))
        .flatten();
    Staging {
        skews,
        orderless,
        kept_beside,
        unknown,
    }
}

/// A pair that fails in both directions has no order, nor have pairs that want each other to be first.
fn orderless(skews: &[Skew]) -> Vec<usize> {
    // From who must come first to who must come later.
    let mut order: DiGraph<(), ()> = DiGraph::new();
    let mut nodes: BTreeMap<ServiceId, NodeIndex> = BTreeMap::new();
    for skew in skews {
        let [caller, callee] = [skew.edge.caller.head, skew.edge.callee.head]
            .map(|end| *nodes.entry(end).or_insert_with(|| order.add_node(())));
        if skew.old_caller.is_some() {
            order.add_edge(caller, callee, ());
        }
        if skew.new_caller.is_some() {
            order.add_edge(callee, caller, ());
        }
    }
    let circles: Vec<BTreeSet<NodeIndex>> = tarjan_scc(&order)
        .into_iter()
        .filter(|circle| circle.len() > 1)
        .map(|circle| circle.into_iter().collect())
        .collect();
    let is_in_one = |skew: &Skew| {
        let ends = [skew.edge.caller.head, skew.edge.callee.head];
        let ends = ends.map(|end| nodes.get(&end));
        circles.iter().any(|circle| {
            ends.iter()
                .all(|end| end.is_some_and(|end| circle.contains(end)))
        })
    };
    let positions = skews.iter().enumerate();
    positions
        .filter(|(_, skew)| is_in_one(skew))
        .map(|(position, _)| position)
        .collect()
}

/// The head, with what the broken pairs had before beside what they get; only if every pair then
/// works on the way to it and on the way from it.
fn intermediate(change: Change<'_>, skews: &[Skew]) -> Option<Vec<Beside>> {
    let touched: BTreeMap<ServiceId, ServiceId> = skews
        .iter()
        .flat_map(|skew| [skew.edge.caller, skew.edge.callee])
        .map(|kept| (kept.head, kept.base))
        .collect();
    let mut middle = change.head.clone();
    let mut all = Vec::new();
    for (head, base) in touched {
        let before = change.base.service(base);
        let service = middle.services.get_mut(head.index())?;
        let beside = keep(before, service);
        let keeps_nothing = beside.identities.is_empty()
            && beside.ports.is_empty()
            && beside.rules.is_empty()
            && !beside.permissive;
        if !keeps_nothing {
            all.push(beside);
        }
    }
    (works(change.base, &middle) && works(&middle, change.head)).then_some(all)
}

/// Whether a port that stays asks otherwise for mutual TLS than before.
fn asks_otherwise(before: &Service, service: &Service) -> bool {
    let otherwise = |port: &crate::model::Port| {
        let mut earlier = before.ports.iter();
        let earlier = earlier.find(|earlier| earlier.number.value == port.number.value);
        earlier.is_some_and(|earlier| before.mtls_of(earlier) != service.mtls_of(port))
    };
    before.mtls.value != service.mtls.value || service.ports.iter().any(otherwise)
}

fn keep(before: &Service, service: &mut Service) -> Beside {
    let mut beside = Beside {
        service: service.id,
        identities: Vec::new(),
        ports: Vec::new(),
        rules: Vec::new(),
        permissive: asks_otherwise(before, service),
    };
    if beside.permissive {
        service.mtls.value = Some(MtlsMode::Permissive);
        for port in &mut service.ports {
            port.mtls = None;
        }
    }
    for identity in &before.identities {
        if !service.identities.contains(identity) {
            beside.identities.push(identity.to_string());
            service.identities.push(identity.clone());
        }
    }
    service.identities.sort();
    for port in &before.ports {
        let has = |port: &crate::model::Port| {
            service
                .ports
                .iter()
                .any(|own| own.number.value == port.number.value)
        };
        if !has(port) {
            beside.ports.push(port.number.value);
            service.ports.push(*port);
        }
    }
    service.ports.sort_by_key(|port| port.number.value);
    let own = rules(service);
    for rule in &before.access {
        let mut plain = probe::access_rule(rule);
        plain.name.clear();
        if !own.contains(&plain) {
            beside.rules.push(rule.name.clone());
            service.access.push(rule.clone());
        }
    }
    beside
}

fn works(base: &LinkedMesh, head: &LinkedMesh) -> bool {
    let (skews, unknown) = skew::all(Change::new(base, head));
    skews.is_empty() && unknown == 0
}
