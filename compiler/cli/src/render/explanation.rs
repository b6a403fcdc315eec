//! `meshc explain --request`: what becomes of a request and why, down to the line that set each value.

use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::analysis::retry::{Question, Report};
use mesh_compiler::linked::{LinkedMesh, Source};
use mesh_compiler::trial::{
    Behind, Call, Decision, LosingRoute, LosingRule, Outcome, TakenRoute, percent,
};
use mesh_compiler::value::duration_text;
use mesh_syntax::{SourceSet, Span};

use super::effective::{self, EffectiveValue};
use super::expectation;
use super::human::verdict;

/// What retries do to calls of the service that a request comes to, over every hop.
#[derive(Debug)]
pub(crate) struct Retries {
    /// The service.
    pub(crate) service: String,
    /// Calls of it for one request from outside when it fails at once; none: without end, or nobody calls it.
    pub(crate) fast: Option<f64>,
    /// When it hangs, and abandoned work goes on.
    pub(crate) slow: Option<f64>,
    /// When it hangs, and deadlines are passed on.
    pub(crate) slow_propagated: Option<f64>,
    /// As long as every budget on the way holds.
    pub(crate) budgeted: Option<f64>,
    /// The failure that does it.
    pub(crate) class: Option<String>,
    /// Each hop of the worst path: caller, callee, factor, and where that is set.
    pub(crate) hops: Vec<(String, String, u32, Option<Span>)>,
}

impl Retries {
    /// The numbers of the services that a request comes to.
    pub(crate) fn of(mesh: &LinkedMesh, outcome: &Outcome, to: &str) -> Vec<Self> {
        // The hops of a report are edges of what is declared.
        let graph = CallGraph::of(mesh).declared();
        let report = Report::of(&graph, Question::default());
        let branches = expectation::branches(outcome.route.as_ref());
        let mut names: Vec<&str> = branches
            .iter()
            .map(|branch| branch.service.as_str())
            .collect();
        if names.is_empty() {
            names.push(to);
        }
        names.sort_unstable();
        names.dedup();
        let of = |name: &str| {
            let node = graph.named(name)?;
            let numbers = report.services.get(node.0)?;
            let worst = numbers.worst.as_ref();
            let hops = worst.into_iter().flat_map(|worst| &worst.path).map(|hop| {
                let edge = graph.edge(hop.edge);
                let span = edge
                    .policies
                    .get(hop.policy)
                    .and_then(|policy| policy.attempts_span);
                let name = |node| graph.node(node).name.clone();
                (name(edge.from), name(edge.to), hop.factor, span)
            });
            Some(Self {
                service: name.to_owned(),
                fast: worst.map(|worst| worst.calls),
                slow: numbers.slow,
                slow_propagated: numbers.slow_propagated,
                budgeted: worst.map(|worst| worst.budgeted * worst.healthy),
                class: worst.map(|worst| worst.class.to_string()),
                hops: hops.collect(),
            })
        };
        names.into_iter().filter_map(of).collect()
    }
}

/// What becomes of a request, from the decision down to what each value comes from.
pub(crate) fn human(
    sources: &SourceSet,
    request: &Call,
    outcome: &Outcome,
    retries: &[Retries],
) -> String {
    let query = if request.query.is_empty() {
        String::new()
    } else {
        format!("?{}", request.query)
    };
    let sent = if outcome.is_connection {
        "a connection".to_owned()
    } else {
        format!("{} {}{query}", request.method, request.path)
    };
    let from = request.from.as_deref().unwrap_or("nobody known");
    let mut lines = vec![
        format!("{sent} from {from} to {}", request.to),
        format!("  {}", verdict(sources, outcome)),
    ];
    let read = outcome.normalised_path.as_ref();
    lines.extend(
        read.filter(|path| **path != request.path)
            .map(|path| format!("  read as {path}")),
    );
    lines.extend(outcome.route.iter().flat_map(route));
    lines.extend(outcome.behind.iter().flat_map(|each| behind(sources, each)));
    lines.extend(arrivals(outcome));
    lines.extend(on_the_way(sources, outcome));
    lines.extend(in_force(sources, outcome));
    lines.extend(losers(sources, "  other routes", &outcome.losers));
    lines.extend(rules(sources, outcome));
    lines.extend(retries.iter().flat_map(|retries| chain(sources, retries)));
    lines.join("\n") + "\n"
}

fn route(route: &TakenRoute) -> Vec<String> {
    let mut lines = vec![format!("  route {}", route.name)];
    lines.extend(expectation::branches(Some(route)).iter().map(|branch| {
        let target = branch.subset.as_ref().map_or_else(
            || branch.service.clone(),
            |subset| format!("{}/{subset}", branch.service),
        );
        format!("    to {target} {}", percent(branch.ten_thousandths()))
    }));
    lines
}

fn behind(sources: &SourceSet, behind: &Behind) -> Vec<String> {
    let route = match (&behind.route, behind.decision) {
        (Some(route), _) => format!(", route {}", route.name),
        // A route that leads to another service is the only one that is asked.
        (None, Decision::Allowed) => ", past its own routes".to_owned(),
        (None, Decision::Denied | Decision::NoRoute) => String::new(),
    };
    let rule = behind.rule.as_ref().map_or_else(String::new, |rule| {
        let place = effective::place(sources, rule.source);
        format!(" by `{}` ({place})", rule.name)
    });
    let refusal = behind.refusal.as_ref().map_or_else(String::new, |refusal| {
        let status = refusal
            .status
            .map_or_else(String::new, |status| format!("{status} "));
        format!(" with {status}{}", refusal.reason)
    });
    let decision = behind.decision.as_str().replace('_', " ");
    let mut lines = vec![format!(
        "  behind it {}: {decision}{refusal}{rule}{route}",
        behind.service
    )];
    let title = format!("    other routes of {}", behind.service);
    lines.extend(losers(sources, &title, &behind.losers));
    lines
}

/// How the request arrives, where policy changes it.
fn arrivals(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let received = outcome.normalised_path.as_deref();
    for arrival in &outcome.arrivals {
        let target = arrival.subset.as_ref().map_or_else(
            || arrival.service.clone(),
            |subset| format!("{}/{subset}", arrival.service),
        );
        if received.is_some_and(|path| path != arrival.path) {
            lines.push(format!(
                "  arrives at {target} as {} for host {}",
                arrival.path, arrival.host
            ));
        }
        for name in arrival.edited() {
            let answered = arrival.answered(name);
            let said = if answered.is_kept {
                "what the service says, then "
            } else {
                ""
            };
            let line = match answered.values.as_slice() {
                [] => format!("  its answer loses {name}"),
                values => format!("  its answer has {name}: {said}{}", values.join(", ")),
            };
            lines.push(line);
        }
    }
    lines.dedup();
    lines
}

/// Who is asked, what counts it, and what befalls some on purpose.
fn on_the_way(sources: &SourceSet, outcome: &Outcome) -> Vec<String> {
    let place = |source: Source| effective::place(sources, source);
    let asked = outcome.asked.iter().map(|asked| {
        let fails = if asked.opens_on_failure {
            "goes on"
        } else {
            "is refused"
        };
        format!(
            "  authorizer {} ({}) is asked by {}, and it {fails} without an answer ({})",
            asked.authorizer,
            asked.to,
            asked.service,
            place(asked.source)
        )
    });
    let limits = outcome.limits.iter().map(|limit| {
        let via = limit
            .via
            .as_ref()
            .map_or_else(String::new, |via| format!(", counted by {via}"));
        format!(
            "  limited to {} by {}{via}; beyond it {} ({})",
            limit.rate,
            limit.service,
            limit.status,
            place(limit.source)
        )
    });
    let faults = outcome.faults.iter().map(|fault| {
        let delay = fault
            .delay
            .map(|(by, share)| format!("{} wait {}", percent(share), duration_text(by)));
        let abort = fault
            .abort
            .map(|(status, share)| format!("{} are answered {status}", percent(share)));
        let what: Vec<String> = delay.into_iter().chain(abort).collect();
        let until = fault
            .until
            .map_or_else(String::new, |until| format!(" until {until}"));
        format!(
            "  a fault of route {}: {}{until} ({})",
            fault.route,
            what.join(", "),
            effective::place_of(sources, fault.span)
        )
    });
    asked.chain(limits).chain(faults).collect()
}

fn losers(sources: &SourceSet, title: &str, losers: &[LosingRoute]) -> Vec<String> {
    let lines = losers.iter().map(|loser| {
        let place = loser.span.map_or_else(String::new, |span| {
            format!(" ({})", effective::place_of(sources, span))
        });
        let indent = " ".repeat(title.len() - title.trim_start().len() + 2);
        format!("{indent}{}: {}{place}", loser.name, loser.because)
    });
    let head = (!losers.is_empty()).then(|| title.to_owned());
    head.into_iter().chain(lines).collect()
}

/// Rules that speak of the caller and did not decide; those about others only where nobody's admitted it.
fn rules(sources: &SourceSet, outcome: &Outcome) -> Vec<String> {
    let undecided = outcome.rule.is_none();
    let shown = |rule: &&LosingRule| rule.concerns_peer || undecided;
    let rules: Vec<&LosingRule> = outcome.other_rules.iter().filter(shown).collect();
    let lines = rules.iter().map(|rule| {
        format!(
            "    {} of {}: {} ({})",
            rule.name,
            rule.service,
            rule.because,
            effective::place(sources, rule.source)
        )
    });
    let head = (!rules.is_empty()).then(|| "  other rules".to_owned());
    head.into_iter().chain(lines).collect()
}

/// What retries do to calls of a service, hop by hop.
fn chain(sources: &SourceSet, retries: &Retries) -> Vec<String> {
    let Some(fast) = retries.fast else {
        return Vec::new();
    };
    let number = |value: Option<f64>| value.map_or("–".to_owned(), super::graph::amount);
    let class = retries.class.as_deref().unwrap_or_default();
    let mut lines = vec![format!(
        "  calls of {} for one request from outside: {} when it fails at once ({class}), {} when it hangs, {} with deadlines, {} with budgets",
        retries.service,
        number(Some(fast)),
        number(retries.slow),
        number(retries.slow_propagated),
        number(retries.budgeted)
    )];
    lines.extend(retries.hops.iter().map(|(from, to, factor, span)| {
        let place = span.map_or("built-in".to_owned(), |span| {
            effective::place_of(sources, span)
        });
        format!("    {from} → {to} ×{factor} ({place})")
    }));
    lines
}

/// Each field with its value and who set it, in columns.
fn in_force(sources: &SourceSet, outcome: &Outcome) -> Vec<String> {
    let effective = outcome
        .route
        .as_ref()
        .map_or_else(Vec::new, |route| effective::fields(route, sources));
    let written = |value: &EffectiveValue| match value {
        EffectiveValue::Text(text) => text.clone(),
        EffectiveValue::Number(number) => number.to_string(),
        EffectiveValue::List(words) if words.is_empty() => "none".to_owned(),
        EffectiveValue::List(words) => words.join(" "),
        EffectiveValue::None => "none".to_owned(),
    };
    let values: Vec<String> = effective
        .iter()
        .map(|field| written(&field.value))
        .collect();
    let width = values.iter().map(String::len).max().unwrap_or(0);
    let title = (!values.is_empty()).then(|| "  in force".to_owned());
    let names = effective.iter().map(|field| field.name.len());
    let names = names.max().unwrap_or(0);
    let fields = effective.iter().zip(&values);
    let fields = fields.map(|(field, value)| {
        format!(
            "    {:<names$} {value:<width$}  {}",
            field.name.replace('_', "-"),
            field.source
        )
    });
    title.into_iter().chain(fields).collect()
}
