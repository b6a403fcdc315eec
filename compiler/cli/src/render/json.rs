//! The JSON of every command. Field names are a contract: fields are added, never renamed or dropped.

use std::collections::BTreeMap;

use mesh_compiler::trial::Outcome;
use mesh_lint::Page;
use mesh_syntax::{Diagnostic, Fix, Level, SourceSet, Span, Witness};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::baseline::{AcceptedFinding, Compared, Entry};
use crate::commands::build::Built;
use crate::compile::Compiled;
use crate::render::effective::{self, EffectiveValue};
use crate::render::expectation;
use crate::render::explanation::Retries;

#[derive(Serialize)]
struct Check<'a> {
    findings: Vec<Finding<'a>>,
    suppressed: Vec<Suppressed<'a>>,
    skipped: Vec<Skipped<'a>>,
    /// Null without one.
    baseline: Option<Baseline<'a>>,
    summary: Summary,
}

#[derive(Serialize)]
struct Baseline<'a> {
    file: &'a str,
    accepted: Vec<Accepted<'a>>,
    unmatched: Vec<Unmatched<'a>>,
}

/// A finding that the baseline lists.
#[derive(Serialize)]
struct Accepted<'a> {
    code: &'a str,
    name: &'a str,
    level: &'a str,
    file: &'a str,
    line: u32,
    message: &'a str,
    fingerprint: &'a str,
}

/// What the baseline lists and is not found any more.
#[derive(Serialize)]
struct Unmatched<'a> {
    code: &'a str,
    place: &'a str,
    message: &'a str,
    fingerprint: &'a str,
    count: usize,
}

#[derive(Serialize)]
pub(crate) struct Finding<'a> {
    code: &'a str,
    name: &'a str,
    level: &'a str,
    confidence: &'a str,
    message: &'a str,
    file: &'a str,
    line: u32,
    column: u32,
    span: Range,
    labels: Vec<Label<'a>>,
    help: Option<&'a str>,
    witness: Option<WitnessOut<'a>>,
    numbers: BTreeMap<&'a str, Value>,
    fixes: Vec<FixOut<'a>>,
    /// The environments that alone have it; empty: all that were checked.
    environments: &'a [String],
}

#[derive(Serialize)]
struct Range {
    start: u32,
    end: u32,
}

#[derive(Serialize)]
struct Label<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    message: &'a str,
}

#[derive(Serialize)]
pub(crate) struct WitnessOut<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
    query: &'a [(String, String)],
    from: Option<&'a str>,
    to: &'a str,
    port: Option<u16>,
    client_ip: Option<std::net::IpAddr>,
    peer_ip: Option<std::net::IpAddr>,
    claims: &'a [(String, String)],
}

#[derive(Serialize)]
struct FixOut<'a> {
    safe: bool,
    title: &'a str,
    edits: Vec<EditOut<'a>>,
}

#[derive(Serialize)]
struct EditOut<'a> {
    file: &'a str,
    start: u32,
    end: u32,
    text: &'a str,
}

#[derive(Serialize)]
struct Suppressed<'a> {
    code: &'a str,
    name: &'a str,
    file: &'a str,
    line: u32,
    message: &'a str,
    reason: &'a str,
    owner: &'a str,
    until: String,
}

#[derive(Serialize)]
struct Skipped<'a> {
    code: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Summary {
    errors: usize,
    warnings: usize,
    notes: usize,
    files: usize,
    /// Null where the policies could not be understood.
    services: Option<usize>,
    routes: Option<usize>,
    edges: Option<usize>,
}

/// `meshc check --format json`
pub(crate) fn check(sources: &SourceSet, compiled: &Compiled) -> serde_json::Result<String> {
    let mesh = compiled.mesh();
    line(&Check {
        findings: compiled
            .findings
            .iter()
            .enumerate()
            .map(|(index, found)| Finding {
                environments: compiled.only_in(index),
                ..finding(sources, found)
            })
            .collect(),
        suppressed: compiled
            .suppressed
            .iter()
            .map(|one| Suppressed {
                code: one.finding.code,
                name: one.finding.name,
                file: sources.path(one.finding.span.file),
                line: sources.line_column(one.finding.span).0,
                message: &one.finding.message,
                reason: &one.reason,
                owner: &one.owner,
                until: one.until.to_string(),
            })
            .collect(),
        skipped: compiled
            .skipped
            .iter()
            .map(|skipped| Skipped {
                code: skipped.code,
                reason: &skipped.reason,
            })
            .collect(),
        baseline: compiled
            .compared
            .as_ref()
            .map(|compared| baseline(sources, compared)),
        summary: Summary {
            errors: compiled.count(Level::Error),
            warnings: compiled.count(Level::Warning),
            notes: compiled.count(Level::Note),
            files: compiled.files,
            services: mesh.map(|mesh| mesh.services.len()),
            routes: mesh.map(|mesh| {
                mesh.services
                    .iter()
                    .map(|service| service.routes.len())
                    .sum()
            }),
            edges: mesh.map(|mesh| mesh.edges.len()),
        },
    })
}

fn baseline<'a>(sources: &'a SourceSet, compared: &'a Compared) -> Baseline<'a> {
    let accepted = |accepted: &'a AcceptedFinding| Accepted {
        code: accepted.finding.code,
        name: accepted.finding.name,
        level: accepted.finding.level.as_str(),
        file: sources.path(accepted.finding.span.file),
        line: sources.line_column(accepted.finding.span).0,
        message: &accepted.finding.message,
        fingerprint: &accepted.fingerprint,
    };
    let unmatched = |entry: &'a Entry| Unmatched {
        code: &entry.code,
        place: &entry.place,
        message: &entry.message,
        fingerprint: &entry.fingerprint,
        count: entry.count,
    };
    Baseline {
        file: &compared.file,
        accepted: compared.accepted.iter().map(accepted).collect(),
        unmatched: compared.unmatched.iter().map(unmatched).collect(),
    }
}

pub(crate) fn finding<'a>(sources: &'a SourceSet, found: &'a Diagnostic) -> Finding<'a> {
    let (line, column) = sources.line_column(found.span);
    Finding {
        code: found.code,
        name: found.name,
        level: found.level.as_str(),
        confidence: found.confidence.as_str(),
        message: &found.message,
        file: sources.path(found.span.file),
        line,
        column,
        span: Range {
            start: found.span.start,
            end: found.span.end,
        },
        labels: found
            .labels
            .iter()
            .map(|each| label(sources, each.span, &each.message))
            .collect(),
        help: found.help.as_deref(),
        witness: found.witness.as_ref().map(witness),
        numbers: found
            .numbers
            .iter()
            .map(|(name, value)| (name.as_str(), number(*value)))
            .collect(),
        fixes: found.fixes.iter().map(|each| fix(sources, each)).collect(),
        environments: &[],
    }
}

fn label<'a>(sources: &'a SourceSet, span: Span, message: &'a str) -> Label<'a> {
    let (line, column) = sources.line_column(span);
    Label {
        file: sources.path(span.file),
        line,
        column,
        message,
    }
}

pub(crate) fn witness(witness: &Witness) -> WitnessOut<'_> {
    WitnessOut {
        method: &witness.method,
        host: &witness.host,
        path: &witness.path,
        headers: &witness.headers,
        query: &witness.query,
        from: witness.from.as_deref(),
        to: &witness.to,
        port: witness.port,
        client_ip: witness.client_ip,
        peer_ip: witness.peer_ip,
        claims: &witness.claims,
    }
}

fn fix<'a>(sources: &'a SourceSet, fix: &'a Fix) -> FixOut<'a> {
    let edit = |edit: &'a mesh_syntax::Edit| EditOut {
        file: sources.path(edit.span.file),
        start: edit.span.start,
        end: edit.span.end,
        text: &edit.text,
    };
    FixOut {
        safe: fix.safe,
        title: &fix.title,
        edits: fix.edits.iter().map(edit).collect(),
    }
}

/// Whole numbers without a fraction; what is no number is null, never 0.
pub(crate) fn number(value: f64) -> Value {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[derive(Serialize)]
struct Explanation<'a> {
    decision: &'static str,
    reason: Option<&'a str>,
    status: Option<u16>,
    /// Where a redirect leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    rule: Option<Rule<'a>>,
    route: Option<&'a str>,
    to: Vec<To<'a>>,
    effective: BTreeMap<&'static str, Effective>,
    losers: Vec<Loser<'a>>,
    other_rules: Vec<LosingRuleOut<'a>>,
    authorizers: Vec<&'a str>,
    rate_limits: Vec<&'a str>,
    retries: Vec<RetriesOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<BehindOut<'a>>,
    normalised_path: Option<&'a str>,
}

#[derive(Serialize)]
struct Rule<'a> {
    name: &'a str,
    source: String,
}

#[derive(Serialize)]
struct To<'a> {
    service: &'a str,
    subset: Option<&'a str>,
    weight: u64,
}

#[derive(Serialize)]
struct Effective {
    value: Value,
    source: String,
}

/// A service behind a gateway.
#[derive(Serialize)]
struct BehindOut<'a> {
    service: &'a str,
    decision: &'static str,
    rule: Option<Rule<'a>>,
    route: Option<&'a str>,
}

#[derive(Serialize)]
struct Loser<'a> {
    route: &'a str,
    because: &'a str,
    source: Option<String>,
}

#[derive(Serialize)]
struct LosingRuleOut<'a> {
    name: &'a str,
    service: &'a str,
    because: &'a str,
    source: String,
}

/// What retries do to calls of a service that the request comes to.
#[derive(Serialize)]
struct RetriesOut<'a> {
    service: &'a str,
    fast: Value,
    slow: Value,
    slow_propagated: Value,
    budgeted: Value,
    class: Option<&'a str>,
    hops: Vec<HopOut<'a>>,
}

#[derive(Serialize)]
struct HopOut<'a> {
    from: &'a str,
    to: &'a str,
    factor: u32,
    source: Option<String>,
}

fn retries_out<'a>(sources: &SourceSet, retries: &'a Retries) -> RetriesOut<'a> {
    let known = |value: Option<f64>| value.map_or(Value::Null, number);
    let hops = retries.hops.iter().map(|(from, to, factor, span)| HopOut {
        from,
        to,
        factor: *factor,
        source: span.map(|span| effective::place_of(sources, span)),
    });
    RetriesOut {
        service: &retries.service,
        fast: known(retries.fast),
        slow: known(retries.slow),
        slow_propagated: known(retries.slow_propagated),
        budgeted: known(retries.budgeted),
        class: retries.class.as_deref(),
        hops: hops.collect(),
    }
}

/// `meshc explain --request … --format json`
pub(crate) fn explanation(
    sources: &SourceSet,
    outcome: &Outcome,
    retries: &[Retries],
) -> serde_json::Result<String> {
    let route = outcome.route.as_ref();
    let branches = expectation::branches(route);
    let fields = route.map_or_else(Vec::new, |route| effective::fields(route, sources));
    let effective = fields.into_iter().map(|field| {
        let value = match field.value {
            EffectiveValue::Text(text) => Value::from(text),
            EffectiveValue::Number(number) => Value::from(number),
            EffectiveValue::List(words) => Value::from(words),
            EffectiveValue::None => Value::Null,
        };
        let source = field.source;
        (field.name, Effective { value, source })
    });
    let refusal = outcome.refusal.as_ref();
    line(&Explanation {
        decision: outcome.decision.as_str(),
        reason: refusal.map(|refusal| refusal.reason.as_str()),
        status: refusal
            .and_then(|refusal| refusal.status)
            .or(outcome.answer.as_ref().map(|answer| answer.status)),
        location: outcome
            .answer
            .as_ref()
            .and_then(|answer| answer.location.as_deref()),
        rule: outcome.rule.as_ref().map(|rule| Rule {
            name: &rule.name,
            source: effective::place(sources, rule.source),
        }),
        route: route.map(|route| route.name.as_str()),
        to: branches
            .iter()
            .map(|branch| To {
                service: &branch.service,
                subset: branch.subset.as_deref(),
                // One branch takes everything, whatever weight the format gives it.
                weight: if branches.len() == 1 {
                    100
                } else {
                    branch.weight
                },
            })
            .collect(),
        effective: effective.collect(),
        losers: outcome
            .losers
            .iter()
            .map(|loser| Loser {
                route: &loser.name,
                because: &loser.because,
                source: loser.span.map(|span| effective::place_of(sources, span)),
            })
            .collect(),
        other_rules: outcome
            .other_rules
            .iter()
            .map(|rule| LosingRuleOut {
                name: &rule.name,
                service: &rule.service,
                because: &rule.because,
                source: effective::place(sources, rule.source),
            })
            .collect(),
        authorizers: outcome
            .asked
            .iter()
            .map(|asked| asked.authorizer.as_str())
            .collect(),
        rate_limits: outcome
            .limits
            .iter()
            .map(|limit| limit.rate.as_str())
            .collect(),
        retries: retries
            .iter()
            .map(|each| retries_out(sources, each))
            .collect(),
        behind: outcome
            .behind
            .iter()
            .map(|behind| BehindOut {
                service: &behind.service,
                decision: behind.decision.as_str(),
                rule: behind.rule.as_ref().map(|rule| Rule {
                    name: &rule.name,
                    source: effective::place(sources, rule.source),
                }),
                route: behind.route.as_ref().map(|route| route.name.as_str()),
            })
            .collect(),
        normalised_path: outcome.normalised_path.as_deref(),
    })
}

#[derive(Serialize)]
struct BuildOut<'a> {
    generation: String,
    epoch: u64,
    sequence: u64,
    emit: u32,
    root: String,
    slices: usize,
    bytes: usize,
    commit: &'a str,
    signatures: usize,
}

/// `meshc build --format json`
pub(crate) fn built(built: &Built) -> serde_json::Result<String> {
    line(&BuildOut {
        generation: built.generation.to_string(),
        epoch: built.order.epoch,
        sequence: built.order.sequence,
        emit: built.order.emit,
        root: built.root.to_string(),
        slices: built.slices,
        bytes: built.bytes,
        commit: &built.commit,
        signatures: built.signatures,
    })
}

#[derive(Serialize)]
struct PageOut<'a> {
    code: &'a str,
    name: &'a str,
    summary: &'a str,
    page: &'a str,
}

/// `meshc explain CODE --format json`
pub(crate) fn page(page: &Page) -> serde_json::Result<String> {
    line(&PageOut {
        code: page.code,
        name: page.name,
        summary: page.summary,
        page: &page.text(),
    })
}

/// Any other value, on one line.
pub(crate) fn line<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_fraction_and_what_is_none_is_null() {
        assert_eq!(number(27.0).to_string(), "27");
        assert_eq!(number(0.5).to_string(), "0.5");
        assert_eq!(number(f64::INFINITY), Value::Null);
    }
}
