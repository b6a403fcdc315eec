//! `routing/segment-pitfall`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Condition, PathPattern, PathPatternKind};
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::{Point, Repeated, Space};
use mesh_compiler::linked::Service;
use mesh_compiler::model::Spanned;
use mesh_syntax::{Edit, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A regular expression over paths that begins with plain text and takes whatever follows, also in
    /// the middle of a segment: `/foo.*` takes `/foobar` too. A request that shows it is run through
    /// the engine.
    ///
    /// ## Why it matters
    /// A route takes what belongs to another, or a rule lets in what nobody thought of. `"/foo/**"`
    /// is `/foo` and everything below, and nothing else.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route api { match { path regex="/api.*" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route api { match { path "/api/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    pub(crate) static SEGMENT_PITFALL = {
        code: "MSH0211", name: "routing/segment-pitfall",
        summary: "a path pattern goes on in the middle of a segment",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    for service in &facts.mesh().services {
        let places = places(service);
        if places.is_empty() {
            continue;
        }
        let Some(probe) = Probe::of(facts.mesh(), service.id) else {
            continue;
        };
        for place in places {
            if !seen.insert(place.condition.span) {
                continue;
            }
            let begins = &place.begins;
            let shows = |point: &Point| match place.holder {
                Holder::Route(route) => probe.admits(route, point),
                Holder::Rule(rule) => probe.takes(rule, point),
            };
            let witness = witness(&place, &probe).filter(shows);
            let ignore = if place.ignore_case {
                " case=ignore"
            } else {
                ""
            };
            let text = format!("path \"{begins}/**\"{ignore}");
            let mut finding = SEGMENT_PITFALL
                .at(
                    place.condition.span,
                    format!("this path also takes `{begins}bar`, not only `{begins}` and what is below it"),
                )
                .at("goes on in the middle of a segment")
                .help(format!("write `{text}`"));
            if place.alone {
                finding = finding.unsafe_fix(
                    format!("write `{text}`"),
                    vec![Edit::new(place.condition.span, text)],
                );
            }
            cx.report(facts.witnessed(finding, witness.as_ref(), service.id));
        }
    }
}

/// A condition with such a pattern.
struct Place<'m> {
    holder: Holder,
    conditions: Vec<Condition>,
    condition: &'m Spanned<Condition>,
    begins: String,
    ignore_case: bool,
    /// The condition has no other pattern.
    alone: bool,
}

#[derive(Clone, Copy)]
enum Holder {
    Route(usize),
    Rule(usize),
}

fn places(service: &Service) -> Vec<Place<'_>> {
    let routes = service.routes.iter().enumerate().flat_map(|(route, each)| {
        let matches = each.matches.iter();
        matches.map(move |each| (Holder::Route(route), &each.conditions))
    });
    let rules = service.access.iter().enumerate();
    let rules = rules.map(|(rule, each)| (Holder::Rule(rule), &each.conditions));
    let mut found = Vec::new();
    for (holder, conditions) in routes.chain(rules) {
        for condition in conditions {
            let Condition::Path(patterns) = &condition.value else {
                continue;
            };
            let pitfall = |pattern: &PathPattern| match &pattern.kind {
                PathPatternKind::Regex(text) => Some((beginning(text)?, pattern.ignore_case)),
                PathPatternKind::Template(_) => None,
            };
            let Some((begins, ignore_case)) = patterns.iter().find_map(pitfall) else {
                continue;
            };
            found.push(Place {
                holder,
                conditions: conditions.iter().map(|each| each.value.clone()).collect(),
                condition,
                begins,
                ignore_case,
                alone: patterns.len() == 1,
            });
        }
    }
    found
}

/// The plain text before a final `.*`, where it stops within a segment.
fn beginning(regex: &str) -> Option<String> {
    let text = regex.strip_prefix('^').unwrap_or(regex);
    let text = text.strip_suffix('$').unwrap_or(text);
    let text = text.strip_suffix(".*")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/-_~".contains(letter);
    (text.len() > 1 && text.starts_with('/') && !text.ends_with('/') && text.chars().all(plain))
        .then(|| text.to_owned())
}

/// A request that fits the other conditions too, with more letters in the segment.
fn witness(place: &Place<'_>, probe: &Probe) -> Option<Point> {
    let longer = Condition::Path(vec![PathPattern {
        kind: PathPatternKind::Template(format!("{}bar", place.begins)),
        ignore_case: false,
    }]);
    let mut conditions = place.conditions.clone();
    conditions.push(longer);
    let space = Space::of_conditions(&conditions, Repeated::One).ok()?;
    space.pick(probe.likely()).ok()?
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, fixed, none};

    const POLICY: &str = r#"
        service a {
            port 80
            endpoints { static "10.0.0.1:80" }
            allow any { path regex="^/admin.*$"; method GET }
            route api { match { path regex="/api/v1.*"; header x } }
            route rest
        }"#;

    #[test]
    fn routes_and_rules_are_both_looked_at() {
        insta::assert_snapshot!(findings("MSH0211", POLICY));
        none("MSH0211", &fixed("MSH0211", POLICY));
    }

    #[test]
    fn what_ends_at_a_slash_or_is_no_plain_text_is_meant() {
        none(
            "MSH0211",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                route one { match { path regex="/api/.*" } }
                route two { match { path regex="/v[0-9].*" } }
                route three { match { path regex=".*" } }
            }"#,
        );
    }
}
