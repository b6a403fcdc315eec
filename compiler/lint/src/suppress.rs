//! Which findings somebody answers for, and which of those answers do not hold: expired, without use, or
//! given by somebody whose it is not.

use std::collections::BTreeMap;

use mesh_compiler::LinkedMesh;
use mesh_compiler::date::Date;
use mesh_compiler::linked::{Service, ServiceId, Team};
use mesh_compiler::model::{Spanned, SuppressedAt, Suppression};
use mesh_syntax::{Diagnostic, Edit, FileId, Level, Span};

use crate::rules::governance::expired_suppression::EXPIRED_SUPPRESSION;
use crate::rules::governance::foreign_file::{FOREIGN_FILE, foreign_suppression};
use crate::rules::governance::unused_suppression::UNUSED_SUPPRESSION;

/// What fails for certain once it is deployed, or has no meaning of its own: nobody can answer for that, and what was
/// built from it would not do what anything else says of it. Only where such a finding is possible it may be let pass.
pub(crate) const NEVER: &[&str] = &[
    "MSH0105", "MSH0114", "MSH0204", "MSH0209", "MSH0306", "MSH0312", "MSH0701", "MSH0703",
];

/// A finding that somebody answers for.
#[derive(Clone, Debug)]
pub struct Suppressed {
    /// What was found.
    pub finding: Diagnostic,
    /// Why it is right as it is.
    pub reason: String,
    /// The team that answers for it.
    pub owner: String,
    /// The last day that it holds.
    pub until: Date,
}

/// Takes out the findings that somebody answers for on this day, and adds what is wrong with the answers.
pub(crate) fn apply(
    mesh: &LinkedMesh,
    today: Date,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Suppressed> {
    let mut suppressed = Vec::new();
    if mesh.suppressions.is_empty() {
        return suppressed;
    }
    let places = Places::of(mesh);
    let mut by_code: BTreeMap<&str, Vec<(usize, &Suppression)>> = BTreeMap::new();
    for (index, suppression) in mesh.suppressions.iter().enumerate() {
        let code = suppression.code.value.as_str();
        by_code.entry(code).or_default().push((index, suppression));
    }
    let mut used = vec![false; mesh.suppressions.len()];
    let mut foreign: BTreeMap<usize, Diagnostic> = BTreeMap::new();
    let mut kept = Vec::new();
    // What is not theirs to give has no effect, unless whoever keeps the mesh lets it pass: so that is judged first.
    let all = mesh.suppressions.iter();
    let mut given: Vec<bool> = all
        .map(|suppression| foreign_suppression(mesh, suppression).is_none())
        .collect();
    findings.sort_by_key(|finding| finding.code != FOREIGN_FILE.page.code);
    for mut finding in findings.drain(..) {
        let stays = finding.level == Level::Error && NEVER.contains(&finding.code);
        let candidates = by_code.get(finding.code).into_iter().flatten();
        let mut answers = Vec::new();
        for (index, suppression) in candidates {
            if !places.speaks_of(suppression, &finding) {
                continue;
            }
            used[*index] = true;
            if stays {
                finding = finding.label(
                    suppression.code.span,
                    "has no effect: what is certain to fail can't be suppressed",
                );
            } else if given.get(*index) != Some(&true) {
                // The finding about it says why.
            } else if let Some(writer) = not_theirs(mesh, &finding, suppression) {
                foreign
                    .entry(*index)
                    .or_insert_with(|| writers_only(suppression, writer));
            } else if let Some(service) = places.of_others(&finding, suppression) {
                foreign
                    .entry(*index)
                    .or_insert_with(|| users_only(suppression, service));
            } else if suppression.until.value >= today {
                answers.push(*suppression);
            }
        }
        match answer(mesh, &answers, places.concerned(&finding)) {
            Some(answer) => {
                if finding.code == FOREIGN_FILE.page.code {
                    for (suppression, given) in mesh.suppressions.iter().zip(&mut given) {
                        *given |= is_within(finding.span, suppression.span);
                    }
                }
                suppressed.push(Suppressed {
                    finding,
                    reason: answer.reason.clone(),
                    owner: answer.owner.value.clone(),
                    until: answer.until.value,
                });
            }
            None => kept.push(finding),
        }
    }
    *findings = kept;
    findings.extend(foreign.into_values());
    for (suppression, used) in mesh.suppressions.iter().zip(used) {
        if !used {
            findings.push(unused(suppression));
        } else if suppression.until.value < today {
            findings.push(expired(suppression));
        }
    }
    suppressed
}

/// The suppression in whose name a finding is let pass: one that speaks of everything that the finding is about, or the
/// last of several that do so together.
fn answer<'s>(
    mesh: &LinkedMesh,
    answers: &[&'s Suppression],
    concerned: &[String],
) -> Option<&'s Suppression> {
    let names = |answer: &&&Suppression, wanted: &str| match answer.at.as_ref().map(|at| &at.value)
    {
        Some(SuppressedAt::Definition(name)) => name == wanted,
        // What lies in a file may be wrong for services of others, for whom its owner does not speak.
        Some(SuppressedAt::File { .. }) | None => {
            let Some(team) = mesh.owner(answer.span.file) else {
                return true;
            };
            let service = mesh.service_named(wanted);
            let owns = |other: &Team| service.is_some_and(|id| other.services.contains(&id));
            owns(team) || !mesh.teams.iter().any(owns)
        }
    };
    let mut last = answers.last();
    for name in concerned {
        last = Some(answers.iter().rev().find(|answer| names(answer, name))?);
    }
    last.copied()
}

fn unused(suppression: &Suppression) -> Diagnostic {
    let code = &suppression.code.value;
    UNUSED_SUPPRESSION
        .at(
            suppression.span,
            format!("nothing here has the finding {code}"),
        )
        .help("remove it: the next such finding would go unseen")
        .fix("remove it", vec![Edit::new(suppression.span, "")])
}

fn expired(suppression: &Suppression) -> Diagnostic {
    let Spanned { value: until, span } = suppression.until;
    EXPIRED_SUPPRESSION
        .at(
            span,
            format!(
                "this suppression of {} held until {until}",
                suppression.code.value
            ),
        )
        .at("the last day that it held")
        .help(format!(
            "resolve what it hides; if `{}` still answers for it, let them say until when",
            suppression.owner.value
        ))
}

/// Limits of `refuse` and invariants are set by somebody for everybody, and so is who owns what: only they may let one
/// pass.
fn not_theirs(mesh: &LinkedMesh, finding: &Diagnostic, suppression: &Suppression) -> Option<Span> {
    let writer = match finding.code {
        "MSH0401" | "MSH0402" => mesh
            .refuse
            .amplification
            .source
            .span()
            .unwrap_or(mesh.name.span),
        "MSH0311" | "MSH0107" => mesh.name.span,
        // The gateway, or what it delegates.
        "MSH0106" => finding.labels.first()?.span,
        "MSH0817" => finding.span,
        _ => return None,
    };
    let owner = |file: FileId| mesh.ownership.owner(file);
    (owner(writer.file) != owner(suppression.span.file)).then_some(writer)
}

fn writers_only(suppression: &Suppression, writer: Span) -> Diagnostic {
    let code = &suppression.code.value;
    FOREIGN_FILE
        .at(
            suppression.code.span,
            format!("{code} can't be suppressed in this file"),
        )
        .label(writer, "who wrote this decides about it")
        .help("move the suppression to a file of theirs, in a change that they approve")
}

/// What a shared policy does to a service is for whoever owns the service.
fn users_only(suppression: &Suppression, service: &Service) -> Diagnostic {
    let (code, name) = (&suppression.code.value, &service.name.value);
    FOREIGN_FILE
        .at(
            suppression.code.span,
            format!("{code} can't be suppressed in this file: it is about `{name}`, which uses the policy"),
        )
        .label(service.name.span, "who owns this decides about it")
        .help(format!("whoever owns `{name}` suppresses it in a file of theirs, with `at={name}`"))
}

fn is_within(inner: Span, outer: Span) -> bool {
    outer.file == inner.file && outer.start <= inner.start && inner.end <= outer.end
}

/// Where each service is spoken of: its definition, and what the environment changes of it.
struct Places<'m> {
    mesh: &'m LinkedMesh,
    /// Ascending by span, not nested.
    definitions: Vec<(Span, ServiceId)>,
}

impl<'m> Places<'m> {
    fn of(mesh: &'m LinkedMesh) -> Self {
        let own = mesh
            .services
            .iter()
            .map(|service| (service.span, service.id));
        let overridings = mesh.overridings.iter().filter_map(|overriding| {
            Some((overriding.span, mesh.service_named(&overriding.name.value)?))
        });
        let mut definitions: Vec<(Span, ServiceId)> = own.chain(overridings).collect();
        definitions.sort_unstable();
        Self { mesh, definitions }
    }

    /// The service in whose definition a place lies.
    fn service_at(&self, span: Span) -> Option<ServiceId> {
        let after = self.definitions.partition_point(|(definition, _)| {
            (definition.file, definition.start) <= (span.file, span.start)
        });
        let (definition, service) = self.definitions.get(after.checked_sub(1)?)?;
        (definition.file == span.file && span.end <= definition.end).then_some(*service)
    }

    fn speaks_of(&self, suppression: &Suppression, finding: &Diagnostic) -> bool {
        let at = match suppression.at.as_ref().map(|at| &at.value) {
            None => return true,
            Some(SuppressedAt::File { file, .. }) => return *file == Some(finding.span.file),
            Some(SuppressedAt::Definition(name)) => name,
        };
        let Some(service) = self.mesh.service_named(at) else {
            return false;
        };
        let about = match self.service_at(finding.span) {
            Some(found) => found == service || finding.about.contains(at),
            None if !finding.about.is_empty() => finding.about.contains(at),
            // What is written for all services is about those at which it points.
            None => {
                let mut labels = finding.labels.iter().map(|label| label.span);
                let witness = finding.witness.as_ref();
                labels.any(|span| self.service_at(span) == Some(service))
                    || witness.is_some_and(|witness| witness.to == *at)
            }
        };
        about && is_in_route(suppression, self.mesh.service(service), finding)
    }

    /// A service of another team that a finding in a named policy is about, where the suppression does not name it.
    fn of_others(&self, finding: &Diagnostic, suppression: &Suppression) -> Option<&'m Service> {
        let at = suppression.at.as_ref().map(|at| &at.value);
        let mut policies = self.mesh.policies.iter();
        if matches!(at, Some(SuppressedAt::Definition(_)))
            || !policies.any(|policy| is_within(finding.span, policy.span))
        {
            return None;
        }
        let team = self.mesh.owner(suppression.span.file)?;
        let asked = finding.witness.iter().map(|witness| &witness.to);
        let mut about = finding.about.iter().chain(asked);
        let other = about.find_map(|name| {
            let id = self.mesh.service_named(name)?;
            let owns = |team: &Team| team.services.contains(&id);
            (!owns(team) && self.mesh.teams.iter().any(owns)).then_some(id)
        });
        other.map(|id| self.mesh.service(id))
    }

    /// The services for each of which somebody must answer before a finding is let pass: those that a value which is
    /// written for several is wrong for.
    fn concerned<'f>(&self, finding: &'f Diagnostic) -> &'f [String] {
        match self.service_at(finding.span) {
            Some(_) => &[],
            None => &finding.about,
        }
    }
}

/// Whether a finding is about the route that a suppression names, if it names one.
fn is_in_route(suppression: &Suppression, service: &Service, finding: &Diagnostic) -> bool {
    let Some(name) = &suppression.route else {
        return true;
    };
    let Some(route) = service
        .routes
        .iter()
        .find(|route| route.name.value == name.value)
    else {
        return false;
    };
    let within = |span: Span| {
        route.span.file == span.file && route.span.start <= span.start && span.end <= route.span.end
    };
    within(finding.span) || finding.labels.iter().any(|label| within(label.span))
}

#[cfg(test)]
mod tests {
    use super::NEVER;
    use crate::tester::{load, sources, today};

    #[test]
    fn a_team_lets_nothing_pass_that_its_policy_does_to_a_service_of_others() {
        let with = |own: &str, rule: &str| {
            let text = format!(
                "mesh m {{
    trust-domain \"m.example\"
    team shop {{ owns \"shop/**\"; service cart }}
    team money {{ owns \"money/**\"; service pay }}
}}
// file: shop/cart.kdl
service cart {{ port 80; endpoints {{ static \"10.0.0.1:80\" }}; calls pay; {own} }}
policy fast {{ timeout \"2s\"; {rule} }}
suppress MSH0810 at=\"shop/cart.kdl\" reason=\"so\" owner=shop until=\"2099-01-01\"
// file: money/pay.kdl
service pay {{ port 80; endpoints {{ static \"10.0.0.2:80\" }}; allow cart {{ method GET }}; {} }}
",
                if own.is_empty() { "use fast" } else { "" }
            );
            sources(&text)
        };
        let found = |own: &str| {
            let base = load(&with(own, "")).mesh.unwrap();
            let mut head = load(&with(own, "allow cart"));
            let judgement = crate::judge(&mut head, Some(&base), today());
            let gains = judgement
                .findings
                .iter()
                .filter(|one| one.code == "MSH0810");
            (gains.count(), judgement.suppressed.len())
        };
        assert_eq!(found(""), (1, 0), "`pay` is not theirs");
        assert_eq!(found("use fast"), (0, 1), "`cart` is");
    }

    #[test]
    fn pages_say_what_nobody_can_suppress() {
        for page in crate::pages::pages() {
            let says = page.text().contains("As an error it can't be suppressed");
            assert_eq!(says, NEVER.contains(&page.code), "{}", page.code);
        }
    }
}
