//! `linking/reference-cycle`

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::ServiceId;
use mesh_compiler::model::RequirementKind;
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// Questions that come back to where they began: a service that must ask an authorizer, or a counter of rates
    /// (`rate-limit via=`), which is itself or which must ask it in turn before it lets the question in. Where a
    /// condition may keep the question out of it, it is *possible*. Other references cannot go in circles: a `policy` uses
    /// no policy, and a service's `to service=` takes none of the other's routes.
    ///
    /// ## Why it matters
    /// Each question waits for the next, and none is ever answered. All of them run into their timeouts, and then
    /// whatever `on-failure` says holds for every request.
    ///
    /// As an error it can't be suppressed: no request would get an answer.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; defaults { require authorizer door } }
    /// authorizer door { to keeper }
    /// service keeper { port 80; endpoints { static "10.0.0.3:80" }; allow any }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" }; allow any }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test" }
    /// authorizer door { to keeper }
    /// service keeper { port 80; endpoints { static "10.0.0.3:80" }; allow any }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" }; allow any; require authorizer door }
    /// ```
    pub(crate) static REFERENCE_CYCLE = {
        code: "MSH0105", name: "linking/reference-cycle", summary: "a question that comes back to whoever asks it",
        level: Error, since: "0.1.0", check: check,
    }
}

/// A question that a service's proxy asks about each request that it may let in.
#[derive(Clone, Copy)]
struct Question {
    to: ServiceId,
    /// Whether some requests are let in without it.
    conditional: bool,
    /// Where it is required.
    required: Option<Span>,
    /// Where the one who is asked is named.
    named: Span,
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let asked = questions(mesh);
    for start in asked.keys() {
        let certain = round(&asked, *start, |question| !question.conditional);
        let possible = certain.is_none();
        let Some(round) = certain.or_else(|| round(&asked, *start, |_| true)) else {
            continue;
        };
        let name = |id: ServiceId| mesh.service(id).name.value.as_str();
        let Some(first) = round.first() else { continue };
        let message = match round.as_slice() {
            [_] => format!(
                "`{0}` asks `{0}` before it lets the question in",
                name(*start)
            ),
            several => {
                let names =
                    std::iter::once(*start).chain(several.iter().map(|question| question.to));
                let names: BTreeSet<&str> = names.map(name).collect();
                format!(
                    "{} ask each other before they let the question in",
                    list(names)
                )
            }
        };
        let mut finding = REFERENCE_CYCLE
            .at(first.required.unwrap_or(first.named), message)
            .at("no such question is ever answered")
            .about(name(*start))
            .help(
                "require it where requests come in, and not of whoever answers; or leave the question out of it: \
                 `not { path \"/check/**\" }`",
            );
        for question in &round {
            let asks = format!("asks `{}`", name(question.to));
            finding = finding.label(question.named, asks);
            finding.add_subject(name(question.to));
        }
        for question in round.iter().skip(1) {
            if let Some(span) = question.required {
                finding = finding.label(span, "asks in turn");
            }
        }
        cx.report(if possible {
            finding.possible()
        } else {
            finding
        });
    }
}

/// The questions that those ask who are asked themselves: nobody else can be in a round.
fn questions(mesh: &LinkedMesh) -> BTreeMap<ServiceId, Vec<Question>> {
    let mut all: BTreeMap<ServiceId, Vec<Question>> = BTreeMap::new();
    for service in &mesh.services {
        // Without a proxy nobody asks.
        if service.is_external() || service.reach.unmeshed.is_some() {
            continue;
        }
        let authorize = service.requirements.iter().filter_map(|requirement| {
            let RequirementKind::RequireAuthorizer = requirement.kind else {
                return None;
            };
            let to = &mesh.authorizers.get(requirement.provider)?.to;
            Some(Question {
                to: to.value.service,
                conditional: !requirement.conditions.is_empty() || requirement.route.is_some(),
                required: requirement.source.span(),
                named: to.span,
            })
        });
        let count = service.rate_limits.iter().filter_map(|limit| {
            let (to, _) = limit.via.as_ref()?;
            Some(Question {
                to: to.value.service,
                conditional: !limit.conditions.is_empty() || limit.route.is_some(),
                required: limit.source.span(),
                named: to.span,
            })
        });
        let questions: Vec<Question> = authorize.chain(count).collect();
        if !questions.is_empty() {
            all.insert(service.id, questions);
        }
    }
    let asked: BTreeSet<ServiceId> = all.values().flatten().map(|question| question.to).collect();
    all.retain(|service, _| asked.contains(service));
    all
}

/// The shortest way back to where it starts, over none that stands before: each round is found at its first.
fn round(
    asked: &BTreeMap<ServiceId, Vec<Question>>,
    start: ServiceId,
    takes: impl Fn(&Question) -> bool,
) -> Option<Vec<Question>> {
    let mut seen = BTreeSet::from([start]);
    let mut waiting: VecDeque<(ServiceId, Vec<Question>)> = VecDeque::from([(start, Vec::new())]);
    while let Some((at, way)) = waiting.pop_front() {
        for question in asked
            .get(&at)
            .into_iter()
            .flatten()
            .filter(|question| takes(question))
        {
            let mut longer = way.clone();
            longer.push(*question);
            if question.to == start {
                return Some(longer);
            }
            if question.to > start && seen.insert(question.to) {
                waiting.push_back((question.to, longer));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(keeper: &str, counter: &str) -> String {
        format!(
            r#"
            authorizer door {{ to keeper }}
            service keeper {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow any; {keeper} }}
            service counter {{ port 80; endpoints {{ static "10.0.0.4:80" }}; allow any; {counter} }}
            service cart {{ port 80; endpoints {{ static "10.0.0.1:80" }}; allow any; require authorizer door }}"#
        )
    }

    #[test]
    fn who_answers_may_not_ask_itself() {
        insta::assert_snapshot!(findings("MSH0105", &with("require authorizer door", "")));
    }

    #[test]
    fn a_round_of_two_is_found_once_and_possible_where_conditions_may_end_it() {
        insta::assert_snapshot!(findings(
            "MSH0105",
            &with(
                "rate-limit \"10/s\" via=counter",
                "require authorizer door { not { path \"/check\" } }"
            )
        ));
    }

    #[test]
    fn questions_that_end_somewhere_are_fine() {
        none("MSH0105", &with("rate-limit \"10/s\" via=counter", ""));
    }
}
