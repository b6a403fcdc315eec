//! `access/refused-probe`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Condition, FieldMatch, PathPatternKind};
use mesh_compiler::analysis::entrance::{Door, Entrance, Refused, Way};
use mesh_compiler::analysis::request_space::{Repeated, Space};
use mesh_compiler::linked::Service;
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided::{self, Open};

declare_rule! {
    /// ## What it flags
    /// A `probe` that nobody can make: every request that it admits is refused by a `deny`, or for want
    /// of a token that the service requires of everybody.
    ///
    /// ## Why it matters
    /// What looks whether an instance lives takes a refusal for death and restarts it, all instances,
    /// until somebody finds out why.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; probe "/healthz"; deny unauthenticated }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     probe "/healthz"
    ///     deny unauthenticated { not { path "/healthz" } }
    /// }
    /// ```
    pub(crate) static REFUSED_PROBE = {
        code: "MSH0812", name: "access/refused-probe",
        summary: "a probe that is refused, always",
        level: Error, since: "0.1.0", check: check,
    }
}

/// Requests that are tried as a witness.
const SAMPLES_MAX: usize = 16;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    // A probe of `defaults` stands in every service; one place is one finding.
    let mut told: BTreeSet<Span> = BTreeSet::new();
    for service in mesh.services.iter().filter(|each| !each.probes.is_empty()) {
        let Some(door) = Door::of(mesh, service.id) else {
            continue;
        };
        let entrance = Entrance::of(mesh, service.id)
            .and_then(|entrance| Ok((entrance.ways()?, entrance.refused()?)));
        let (ways, refused) = match entrance {
            Ok(entrance) => entrance,
            Err(why) => {
                let open = Open {
                    span: service.name.span,
                    question: format!("whether the probes of `{}` get in", service.name.value),
                    why,
                };
                undecided::report(cx, &REFUSED_PROBE, [open]);
                continue;
            }
        };
        // What looks whether an instance lives brings no token.
        let token = Condition::Claim(FieldMatch {
            name: "iss".to_owned(),
            values: Vec::new(),
        });
        let Ok(token) = Space::of_conditions(&[token], Repeated::One) else {
            continue;
        };
        let refused: Vec<&Space> = refused.iter().chain([&token]).collect();
        for (way, takes) in ways {
            let Way::Probe(index) = way else { continue };
            let Some(probe) = service.probes.get(index) else {
                continue;
            };
            let span = probe.source.span().unwrap_or(service.name.span);
            let nobody = match takes.remainder(&refused, 1) {
                Ok(left) => left.is_empty(),
                Err(why) => {
                    let name = &service.name.value;
                    let question = format!("whether this probe of `{name}` gets in");
                    let open = Open {
                        span,
                        question,
                        why,
                    };
                    undecided::report(cx, &REFUSED_PROBE, [open]);
                    continue;
                }
            };
            if !nobody || takes.is_empty() || !told.insert(span) {
                continue;
            }
            let shown = takes
                .samples(door.likely(), SAMPLES_MAX)
                .filter_map(Result::ok)
                .find_map(|point| Some((door.judge(&point)?.err()?, point)));
            let message = format!("no probe of `{}` gets in", service.name.value);
            let mut finding = REFUSED_PROBE.at(span, message).at("refused, always");
            if let Some((span, what)) = shown.as_ref().and_then(|(why, _)| place(service, *why)) {
                finding = finding.label(span, what);
            }
            let paths = probe.paths.iter().filter_map(|path| match &path.kind {
                PathPatternKind::Template(text) => Some(format!("\"{text}\"")),
                PathPatternKind::Regex(_) => None,
            });
            finding = finding.help(format!(
                "leave out what the probe asks for: `not {{ path {} }}`",
                paths.collect::<Vec<_>>().join(" ")
            ));
            let witness = shown.map(|(_, point)| point);
            cx.report(facts.witnessed(finding, witness.as_ref(), service.id));
        }
    }
}

/// What refuses it.
fn place(service: &Service, why: Refused) -> Option<(Span, &'static str)> {
    match why {
        Refused::Denied(rule) => {
            let rule = service.access.get(rule)?;
            Some((rule.source.span()?, "refuses it"))
        }
        Refused::NoToken(requirement) => {
            let requirement = service.requirements.get(requirement)?;
            let span = requirement.source.span()?;
            Some((span, "asks for a token, of which a probe has none"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(rules: &str) -> String {
        format!(
            r#"service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; probe "/healthz" "/ready"; {rules} }}
            jwt shop {{ issuer "https://id.test"; jwks file="keys/public.jwks.json" }}"#
        )
    }

    #[test]
    fn a_deny_or_a_token_for_everybody_is_found() {
        insta::assert_snapshot!(findings("MSH0812", &with("deny unauthenticated")));
        insta::assert_snapshot!(findings("MSH0812", &with("require jwt shop")));
    }

    #[test]
    fn where_some_probe_gets_in_nothing_is_said() {
        none("MSH0812", &with("deny { path \"/ready\" }"));
        none(
            "MSH0812",
            &with("require jwt shop { not { path \"/healthz\" \"/ready\" } }"),
        );
        none("MSH0812", &with("deny unauthenticated mode=audit"));
    }
}
