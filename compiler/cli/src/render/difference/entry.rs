//! What is said of one thing that changed, in cells.

use mesh_compiler::trial::request_text;
use mesh_compiler::value::percent_text;
use mesh_syntax::Witness;
use serde_json::Value;

use super::Piece::Text;
use super::{Cell, Entry, said};
use crate::difference::{
    Access, Amplification, Branch, Called, Edge, Moved, Service, Setting, Skew, Slice, Taken,
    Timeout, Unknown,
};
use crate::render::graph;

/// Names of callers or callees that are told one by one.
const NAMES_MAX: usize = 4;

fn ends(from: &str, to: &str) -> Cell {
    vec![said(from), Text(" → "), said(to)]
}

fn request(witness: Option<&Witness>) -> Option<Cell> {
    witness.map(|witness| vec![said(request_text(witness))])
}

fn environments(names: &[String]) -> Option<Cell> {
    (!names.is_empty()).then(|| vec![Text("only in "), said(names.join(", "))])
}

pub(super) fn skew(each: &Skew) -> Entry {
    let why = [&each.old_caller, &each.new_caller].into_iter().flatten();
    let mut details: Vec<Cell> = why.map(|why| vec![said(why.clone())]).collect();
    details.extend(request(each.witness.as_ref()));
    if !each.keep.is_empty() {
        details.push(vec![
            Text("deliver a commit first that keeps "),
            said(each.keep.join(", ")),
        ]);
    }
    let order = if each.orderless {
        "no order of roll-out is safe"
    } else {
        "one order of roll-out is not safe"
    };
    let mut cells = vec![ends(&each.from, &each.to), vec![Text(order)]];
    cells.extend(environments(&each.environments));
    Entry { cells, details }
}

pub(super) fn access(each: &Access) -> Entry {
    let extent = match (each.change, each.entire) {
        ("gained", true) => "had nothing before",
        ("gained", false) => "more than before",
        (_, true) => "has nothing any more",
        (_, false) => "less than before",
    };
    let mut cells = vec![ends(&each.from, &each.to), vec![Text(extent)]];
    cells.push(match &each.rule {
        Some(rule) => vec![
            said(rule.name.clone()),
            Text(" at "),
            said(rule.source.clone()),
        ],
        None => Vec::new(),
    });
    if each.change == "lost" && each.declared {
        cells.push(vec![Text("a declared caller")]);
    }
    cells.extend(environments(&each.environments));
    if let Some(service) = &each.refused_behind {
        cells.push(vec![
            Text("refused by "),
            said(service.clone()),
            Text(" behind it"),
        ]);
    }
    let shown = request(each.witness.as_ref());
    let unseen = || vec![Text("no request to show it was found within bounds")];
    Entry {
        cells,
        details: vec![shown.unwrap_or_else(unseen)],
    }
}

pub(super) fn moved(each: &Moved) -> Entry {
    let (was, is) = (each.before.as_ref(), each.after.as_ref());
    let mut cells = vec![
        vec![said(each.service.clone())],
        vec![said(taken(was, is)), Text("  ⇒  "), said(taken(is, was))],
    ];
    let place = is.or(was).map(|taken| taken.source.clone());
    cells.extend(place.map(|place| vec![said(place)]));
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: request(each.witness.as_ref()).into_iter().collect(),
    }
}

/// A route, and what else it does where the other does not do the same.
fn taken(taken: Option<&Taken>, other: Option<&Taken>) -> String {
    let Some(taken) = taken else {
        return "no route".to_owned();
    };
    let mut parts = Vec::new();
    if let Some(answer) = &taken.answer {
        parts.push(answer.clone());
    } else {
        parts.push(branches(&taken.to));
    }
    let rewrite = other.and_then(|other| other.rewrite.as_ref());
    if taken.rewrite.as_ref() != rewrite {
        parts.extend(taken.rewrite.clone());
    }
    let filters = other.map_or(&[][..], |other| &other.filters);
    let own = taken
        .filters
        .iter()
        .filter(|filter| !filters.contains(filter));
    parts.extend(own.cloned());
    format!("{}: {}", taken.route, parts.join("; "))
}

fn branches(to: &[Branch]) -> String {
    let shares = shares(to);
    let text = to.iter().zip(shares).map(|(branch, share)| {
        let mut name = match &branch.subset {
            Some(subset) => subset.clone(),
            None => branch.service.clone(),
        };
        if let Some(port) = branch.port {
            name = format!("{name}:{port}");
        }
        if to.len() > 1 {
            name = format!("{} {name}", percent_text(share));
        }
        if !branch.otherwise.is_empty() {
            name = format!("{name} else {}", branch.otherwise.join(" "));
        }
        name
    });
    text.collect::<Vec<_>>().join(", ")
}

/// Shares of 10,000 in tenths of a percent, which are all together: those that lose most by it are rounded up.
fn shares(to: &[Branch]) -> Vec<u32> {
    const ALL: u64 = 1_000;
    let total: u64 = to.iter().map(|to| u64::from(to.weight)).sum();
    let total = total.max(1);
    let parts = to.iter().map(|to| ALL * u64::from(to.weight));
    let (mut shares, mut left): (Vec<u64>, Vec<(u64, usize)>) = parts
        .enumerate()
        .map(|(index, part)| (part / total, (part % total, index)))
        .unzip();
    left.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let missing = left.iter().map(|left| left.0).sum::<u64>() / total;
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    for (_, index) in left.into_iter().take(missing) {
        shares[index] += 1;
    }
    let shares = shares.into_iter();
    shares
        .map(|share| u32::try_from(share * 10).unwrap_or(u32::MAX))
        .collect()
}

pub(super) fn amplification(each: &Amplification) -> Entry {
    let calls = |value: &Value| match value.as_f64() {
        Some(calls) => said(graph::amount(calls)),
        None => Text("not there"),
    };
    let mut cells = vec![
        vec![said(each.service.clone())],
        vec![calls(&each.before), Text(" → "), calls(&each.after)],
        vec![said(each.path.join(" → "))],
    ];
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

pub(super) fn timeout(each: &Timeout) -> Entry {
    let value = |value: &Value| match value {
        Value::Null => Text("none"),
        Value::String(text) => said(text.clone()),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            said(if words.is_empty() {
                "none".to_owned()
            } else {
                words.join(" ")
            })
        }
        other => said(other.to_string()),
    };
    let mut cells = vec![
        vec![said(each.field.replace('_', "-"))],
        vec![value(&each.before), Text(" → "), value(&each.after)],
        edges(&each.edges),
        vec![said(each.after_source.clone())],
    ];
    if each.before_source != each.after_source {
        cells.push(vec![Text("was "), said(each.before_source.clone())]);
    }
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

/// `reviews/everyone`, and who calls it where that is not many.
fn edges(edges: &[Edge]) -> Cell {
    let mut routes: Vec<String> = edges
        .iter()
        .map(|edge| match edge.route.as_str() {
            "default" => edge.to.clone(),
            route => format!("{}/{route}", edge.to),
        })
        .collect();
    routes.dedup();
    let mut callers: Vec<String> = edges.iter().map(|edge| edge.from.clone()).collect();
    callers.sort();
    callers.dedup();
    vec![
        said(names(&routes, "routes")),
        Text(" for "),
        said(names(&callers, "callers")),
    ]
}

fn names(names: &[String], what: &str) -> String {
    if names.len() > NAMES_MAX {
        return format!("{} {what}", names.len());
    }
    names.join(", ")
}

pub(super) fn service(each: &Service) -> Entry {
    let sign = if each.change == "added" { "+ " } else { "− " };
    let mut cells = vec![
        vec![
            Text(sign),
            said(each.kind),
            Text(" "),
            said(each.name.clone()),
        ],
        vec![said(each.source.clone())],
    ];
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

pub(super) fn called(each: &Called) -> Entry {
    let sign = if each.change == "added" { "+ " } else { "− " };
    let mut first = vec![Text(sign)];
    first.extend(ends(&each.from, &each.to));
    let mut cells = vec![first];
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

pub(super) fn setting(each: &Setting) -> Entry {
    let of = |service: &Option<String>| {
        let service = service.as_ref();
        service.map_or(Text("the mesh"), |name| said(name.clone()))
    };
    let change = match (&each.before, &each.after) {
        (Some(before), Some(after)) => vec![said(before.clone()), Text(" → "), said(after.clone())],
        (None, Some(after)) => vec![Text("+ "), said(after.clone())],
        (Some(before), None) => vec![Text("− "), said(before.clone())],
        (None, None) => Vec::new(),
    };
    let setting = each.name.replace('_', " ");
    let mark = if each.may_widen { "⚠️ " } else { "" };
    let mut cells = vec![
        vec![Text(mark), of(&each.service)],
        vec![said(setting)],
        change,
    ];
    cells.extend(each.source.iter().map(|source| vec![said(source.clone())]));
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

pub(super) fn unknown(each: &Unknown) -> Entry {
    let mut cells = vec![
        vec![said(each.service.clone().unwrap_or_default())],
        vec![said(each.what)],
        vec![said(each.reason.clone())],
    ];
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

pub(super) fn slice(each: &Slice) -> Entry {
    let size = match (each.bytes_before, &each.after) {
        (None, _) => format!("{} B, new", each.bytes),
        (_, None) => format!("{} B, gone", each.bytes),
        (Some(before), Some(_)) => format!("{before} → {} B", each.bytes),
    };
    let short = |digest: &Option<String>| {
        let digits = digest
            .as_deref()
            .and_then(|text| text.strip_prefix("sha256:"));
        digits
            .and_then(|digits| digits.get(..8))
            .unwrap_or("–")
            .to_owned()
    };
    let mut cells = vec![
        vec![said(each.workload.clone())],
        vec![said(size)],
        vec![
            said(short(&each.before)),
            Text(" → "),
            said(short(&each.after)),
        ],
    ];
    cells.extend(environments(&each.environments));
    Entry {
        cells,
        details: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(weights: &[u32], expected: &str) {
        let to = weights.iter().enumerate().map(|(index, weight)| Branch {
            service: format!("v{}", index + 1),
            subset: None,
            port: None,
            weight: *weight,
            otherwise: Vec::new(),
        });
        let to: Vec<Branch> = to.collect();
        assert_eq!(branches(&to), expected);
        let all: u32 = shares(&to).iter().sum();
        assert!(all == 10_000 || weights.iter().all(|weight| *weight == 0));
    }

    #[test]
    fn shares_of_a_split_are_all_together() {
        check(&[90, 10], "90% v1, 10% v2");
        check(&[50, 10], "83.3% v1, 16.7% v2");
        check(&[1, 1, 1], "33.4% v1, 33.3% v2, 33.3% v3");
        check(&[0, 0], "0% v1, 0% v2");
        check(&[7], "v1");
    }
}
