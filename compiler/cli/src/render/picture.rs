//! Pictures of a call graph: DOT and Mermaid for other programs to lay out, SVG and HTML laid out here.

use std::collections::{BTreeMap, BTreeSet};

use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::call_graph::{
    BudgetOf, CallGraph, Edge, NodeId, NodeKind, Origin, Purpose,
};
use mesh_compiler::analysis::retry::{Report, ServiceReport};

use super::graph::{amount, uncounted};

pub(crate) mod dot;
pub(crate) mod html;
mod layout;
pub(crate) mod mermaid;
pub(crate) mod svg;

/// Calls that are only permitted are drawn while there are at most this many for each that is declared.
const PERMITTED_PER_DECLARED: usize = 2;
/// Calls that are few enough to be drawn whatever they are.
const FEW: usize = 12;

/// What is drawn, whatever it is drawn with.
#[derive(Debug)]
pub(crate) struct Picture {
    name: String,
    boxes: Vec<Shape>,
    lines: Vec<Line>,
    /// Calls that are permitted, are not known to happen, and are too many to draw.
    left_out: usize,
    /// What `check` enforces.
    limit: u32,
    /// Whether a limit is passed; otherwise the worst path is only the worst.
    is_storm: bool,
}

/// What a service is drawn as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Gateway,
    External,
    /// A service without a proxy.
    Unmeshed,
    /// Asked by proxies only.
    Side,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Service,
        Self::Gateway,
        Self::External,
        Self::Unmeshed,
        Self::Side,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Gateway => "gateway",
            Self::External => "external",
            Self::Unmeshed => "without a proxy",
            Self::Side => "asked by proxies",
        }
    }

    /// Of one word, for programs.
    const fn class(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Gateway => "gateway",
            Self::External => "external",
            Self::Unmeshed => "unmeshed",
            Self::Side => "side",
        }
    }
}

/// A service.
#[derive(Debug)]
struct Shape {
    name: String,
    kind: Kind,
    /// Where requests come in.
    is_entry: bool,
    /// At the end of a path on which retries multiply beyond the limit.
    is_storm: bool,
    is_in_round: bool,
    /// `27 calls at worst`; none where that is not known or 1.
    calls: Option<String>,
    /// Everything else that is known, line by line.
    facts: Vec<String>,
}

/// How calls are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Nobody says that they happen.
    Permitted,
    /// A question of a proxy, or a copy.
    Side,
    Plain,
    /// In a round.
    Round,
    /// On a path on which retries multiply most.
    Storm,
}

impl Weight {
    const fn class(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Side => "side",
            Self::Plain => "plain",
            Self::Round => "round",
            Self::Storm => "storm",
        }
    }
}

/// Calls of one service to another.
#[derive(Debug)]
struct Line {
    from: usize,
    to: usize,
    weight: Weight,
    /// `3× 20%`; empty: nothing is tried again.
    tag: String,
    /// Everything that is known, line by line.
    facts: Vec<String>,
}

impl Picture {
    /// Chooses what is drawn, and with which words.
    pub(crate) fn of(mesh: &LinkedMesh, graph: &CallGraph, report: &Report) -> Self {
        let limit = mesh.refuse.amplification.value;
        let amplification = |service: &ServiceReport| {
            service
                .worst
                .as_ref()
                .map_or(1.0, |worst| worst.amplification)
        };
        let beyond = |service: &&ServiceReport| amplification(service) > f64::from(limit);
        let is_storm = report.services.iter().any(|service| beyond(&service));
        let mut worst: Vec<&ServiceReport> = report.services.iter().filter(beyond).collect();
        if worst.is_empty() {
            let most = report
                .services
                .iter()
                .filter(|service| amplification(service) > 1.0)
                .max_by(|a, b| {
                    // Of equals that with more calls, and then the shorter path, is the whole story.
                    let calls =
                        |one: &ServiceReport| one.worst.as_ref().map_or(0.0, |worst| worst.calls);
                    amplification(a)
                        .total_cmp(&amplification(b))
                        .then(calls(a).total_cmp(&calls(b)))
                        .then(b.path.len().cmp(&a.path.len()))
                });
            worst.extend(most);
        }
        let hot: BTreeSet<(NodeId, NodeId)> = worst
            .iter()
            .flat_map(|service| service.path.iter().zip(service.path.iter().skip(1)))
            .map(|(from, to)| (*from, *to))
            .collect();
        let ends: BTreeSet<NodeId> = worst
            .iter()
            .filter_map(|one| one.path.last().copied())
            .collect();
        let mut rounds: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (index, round) in report.cycles.iter().enumerate() {
            rounds.extend(round.services.iter().map(|node| (*node, index)));
        }
        let in_round = |edge: &Edge| {
            let (from, to) = (rounds.get(&edge.from), rounds.get(&edge.to));
            edge.origin() == Origin::Declared && from.is_some() && from == to
        };
        let edges = || graph.edges().map(|id| graph.edge(id));
        let permitted = edges()
            .filter(|edge| edge.origin() == Origin::Permitted)
            .count();
        let declared = graph.edges().len() - permitted;
        let draws_permitted = permitted <= FEW.max(declared * PERMITTED_PER_DECLARED);
        let lines = edges()
            .filter(|edge| draws_permitted || edge.origin() == Origin::Declared)
            .map(|edge| Line {
                from: edge.from.0,
                to: edge.to.0,
                weight: match edge.purpose {
                    _ if hot.contains(&(edge.from, edge.to)) => Weight::Storm,
                    _ if in_round(edge) => Weight::Round,
                    _ if edge.origin() == Origin::Permitted => Weight::Permitted,
                    Purpose::Call => Weight::Plain,
                    _ => Weight::Side,
                },
                tag: tag(edge),
                facts: edge_facts(graph, edge),
            });
        let uncounted = uncounted(graph, report);
        let boxes = graph.nodes().zip(&report.services).map(|(id, service)| {
            let mut shape = shape(mesh, graph, id, service);
            if uncounted.contains(&id) {
                let why = "in a round of calls, or behind one: no greatest number of calls";
                shape.facts.push(why.to_owned());
            }
            Shape {
                is_entry: report.entries.contains(&id),
                is_storm: is_storm && ends.contains(&id),
                is_in_round: rounds.contains_key(&id),
                ..shape
            }
        });
        Self {
            name: mesh.name.value.clone(),
            boxes: boxes.collect(),
            lines: lines.collect(),
            left_out: if draws_permitted { 0 } else { permitted },
            limit,
            is_storm,
        }
    }

    /// One sentence about the whole.
    fn summary(&self) -> String {
        format!(
            "The call graph of {}: {} and {}.",
            self.name,
            super::counted(self.boxes.len(), "service"),
            super::counted(self.lines.len(), "call"),
        )
    }

    /// What the thick line means, where there is one.
    fn worst_sentence(&self) -> String {
        let mut lines = self.lines.iter();
        if !lines.any(|line| line.weight == Weight::Storm) {
            return String::new();
        }
        format!(" A thick line shows {}.", self.worst_words())
    }

    /// The same, for a legend.
    fn worst_words(&self) -> String {
        if self.is_storm {
            format!("retries multiply by more than {}", self.limit)
        } else {
            "where retries multiply most".to_owned()
        }
    }
}

fn shape(mesh: &LinkedMesh, graph: &CallGraph, id: NodeId, report: &ServiceReport) -> Shape {
    let node = graph.node(id);
    let service = mesh.service_named(&node.name).map(|id| mesh.service(id));
    let is_unmeshed = service.is_some_and(|service| service.reach.unmeshed.is_some());
    let kind = match node.kind {
        NodeKind::Gateway => Kind::Gateway,
        NodeKind::External => Kind::External,
        NodeKind::Side => Kind::Side,
        NodeKind::Service if is_unmeshed => Kind::Unmeshed,
        NodeKind::Service => Kind::Service,
    };
    let worst = report.worst.as_ref();
    let calls = worst
        .filter(|worst| worst.calls > 1.0)
        .map(|worst| worst.calls);
    let mut facts = vec![kind.word().to_owned()];
    if let Some(worst) = worst {
        facts.push(format!(
            "at most {} calls when it fails ({})",
            amount(worst.calls),
            worst.class
        ));
        facts.push(format!(
            "sustained with budgets: {}",
            amount(worst.budgeted * worst.healthy)
        ));
    }
    if let Some(slow) = report.slow {
        facts.push(format!("at most {} calls when it hangs", amount(slow)));
    }
    if report.path.len() > 1 {
        let names = report
            .path
            .iter()
            .map(|node| graph.node(*node).name.as_str());
        facts.push(format!(
            "worst path: {}",
            names.collect::<Vec<_>>().join(" → ")
        ));
    }
    if let Some(bound) = report.response_bound {
        facts.push(format!(
            "answers in {} s at the latest",
            amount(bound.as_secs_f64())
        ));
    }
    facts.extend(
        report
            .state
            .map(|state| format!("under its load: {}", state.as_str())),
    );
    Shape {
        name: node.name.clone(),
        kind,
        is_entry: false,
        is_storm: false,
        is_in_round: false,
        calls: calls.map(|calls| format!("≤ {} calls", amount(calls))),
        facts,
    }
}

/// The most tries of a call, and what of its requests retries may be.
fn tag(edge: &Edge) -> String {
    let most = edge.policies.iter().max_by_key(|policy| policy.tries());
    let Some(policy) = most.filter(|policy| policy.tries() > 1) else {
        return String::new();
    };
    match &policy.budget {
        Some(budget) => format!("{}× {}%", policy.tries(), amount(budget.share * 100.0)),
        None => format!("{}× ∞", policy.tries()),
    }
}

fn edge_facts(graph: &CallGraph, edge: &Edge) -> Vec<String> {
    let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
    let provenance: Vec<&str> = edge.provenance.names().collect();
    let mut facts = vec![format!("{from} → {to} ({})", provenance.join(", "))];
    for policy in &edge.policies {
        let mut fact = format!(
            "route {}: {}",
            policy.route,
            super::counted(to_usize(policy.tries()), "attempt")
        );
        if let Some(timeout) = policy.timeout {
            fact = format!("{fact}, timeout {} s", amount(timeout.as_secs_f64()));
        }
        if let Some(per_try) = policy.per_try {
            fact = format!("{fact}, per try {} s", amount(per_try.as_secs_f64()));
        }
        fact = match policy
            .budget
            .as_ref()
            .map(|budget| (budget.share, budget.of))
        {
            Some((share, BudgetOf::Requests { min_per_second })) => format!(
                "{fact}, budget {}% of requests and {} per second",
                amount(share * 100.0),
                amount(min_per_second)
            ),
            Some((share, BudgetOf::Active { min_concurrent })) => format!(
                "{fact}, budget {}% of active requests and {} at once",
                amount(share * 100.0),
                amount(min_concurrent)
            ),
            None if policy.tries() > 1 => format!("{fact}, no budget"),
            None => fact,
        };
        facts.push(fact);
    }
    facts
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
