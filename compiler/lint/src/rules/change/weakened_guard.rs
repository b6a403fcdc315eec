//! `rollout/weakened-guard`

use mesh_compiler::LinkedMesh;
use mesh_compiler::diff::Change;
use mesh_compiler::linked::{Claim, ClaimKind, Invariant, ServiceId};
use mesh_compiler::model::Spanned;
use mesh_syntax::{Diagnostic, Span};

use crate::facts::Facts;
use crate::rule::{Rule, RuleContext, declare_rule};
use crate::rules::access::invariant_violated::INVARIANT_VIOLATED;
use crate::rules::change::canary_step::CANARY_STEP;
use crate::rules::retries::amplification::AMPLIFICATION;
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A limit of `refuse` that is raised or taken away, and an invariant that is gone or claims less. Found with
    /// `meshc check --base REF`.
    ///
    /// Whatever else the same change does is judged by the guard as it was: a storm (MSH0401), a step of a canary
    /// (MSH0311) or a broken invariant (MSH0817) that only the weaker guard would let pass is an error of its own, and
    /// whoever wrote the guard may suppress it. A storm that was there before is none of this change.
    ///
    /// ## Why it matters
    /// A guard holds what one change may do. If the change that it would stop could take it away, it would
    /// stop nothing.
    ///
    /// ## Examples
    /// ```kdl base
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    /// ```kdl bad
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="100%" }
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    /// ```kdl good
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="10%" }
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    pub(crate) static WEAKENED_GUARD = {
        code: "MSH1111", name: "rollout/weakened-guard",
        summary: "a limit or an invariant holds less than before",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// A guard of the base that holds less in the head.
struct Weakened {
    /// What became of it.
    message: String,
    /// Where it is in the head, or would be.
    span: Span,
    /// Where it was in the base.
    before: Span,
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let change = change.meshes();
    let mut weakened = limits(change);
    let (claims, invariants) = invariants(change);
    weakened.extend(invariants);
    if weakened.is_empty() {
        return;
    }
    for each in weakened {
        let owner = change.base.owner(each.before.file);
        let owner = owner.map_or("whoever keeps the mesh".to_owned(), |team| {
            format!("the team `{}`", team.name.value)
        });
        cx.report(WEAKENED_GUARD.at(each.span, each.message).help(format!(
            "change a guard by itself, with the approval of {owner}: what else this change does is judged by the guard as it was"
        )));
    }
    for finding in hidden(change, claims) {
        cx.report(finding);
    }
}

/// Limits that are higher, or gone.
fn limits(change: Change<'_>) -> Vec<Weakened> {
    let Change { base, head } = change;
    let (was, is) = (&base.refuse, &head.refuse);
    let mut found = Vec::new();
    let counts = [
        ("amplification", &was.amplification, &is.amplification),
        ("attempts", &was.attempts, &is.attempts),
    ];
    for (name, was, is) in counts {
        if is.value > was.value {
            found.push(Weakened {
                message: format!("`refuse {name}=` was {} and is {}", was.value, is.value),
                span: is.source.span().unwrap_or(head.name.span),
                before: was.source.span().unwrap_or(base.name.span),
            });
        }
    }
    let shares = [
        ("canary-step", was.canary_step, is.canary_step),
        ("blast-radius", was.blast_radius, is.blast_radius),
    ];
    for (name, was, is) in shares {
        let Some(was) = was.filter(|was| is.is_none_or(|is| is.value > was.value)) else {
            continue;
        };
        let percent = |share: u32| number(f64::from(share) / 100.0);
        let becomes = is.map_or("is gone".to_owned(), |is| {
            format!("is {}%", percent(is.value))
        });
        found.push(Weakened {
            message: format!("`refuse {name}=` was {}% and {becomes}", percent(was.value)),
            span: is.map_or(head.name.span, |is| is.span),
            before: was.span,
        });
    }
    found
}

/// What invariants of the base claim of services that are still there, and nothing in the head does: the claims, with
/// the names of the head, and what to say.
fn invariants(change: Change<'_>) -> (Vec<Invariant>, Vec<Weakened>) {
    let Change { base, head } = change;
    let place = head.name.span;
    let (mut lost, mut found) = (Vec::new(), Vec::new());
    for invariant in &base.invariants {
        let claims = invariant.claims.iter();
        let claims = claims.filter_map(|claim| in_head(change, &claim.kind));
        let missing: Vec<Claim> = claims
            .filter(|kind| !is_claimed(head, kind))
            .map(|kind| Claim { kind, span: place })
            .collect();
        if missing.is_empty() {
            continue;
        }
        let text = &invariant.text.value;
        let mut same = head.invariants.iter();
        let same = same.find(|is| is.text.value == *text);
        let becomes = match same {
            Some(_) => "claims less than before",
            None => "is gone",
        };
        found.push(Weakened {
            message: format!("the invariant \"{text}\" {becomes}"),
            span: same.map_or(place, |is| is.span),
            before: invariant.span,
        });
        lost.push(Invariant {
            text: Spanned::new(text.clone(), place),
            claims: missing,
            span: place,
        });
    }
    (lost, found)
}

/// A claim about services as the head has them; none where there is nothing left that it could be about.
fn in_head(change: Change<'_>, claim: &ClaimKind) -> Option<ClaimKind> {
    let one = |id: ServiceId| change.kept_in_head(id).map(|kept| kept.head);
    let all = |ids: &[ServiceId]| {
        let mut kept: Vec<ServiceId> = ids.iter().filter_map(|id| one(*id)).collect();
        kept.sort_unstable();
        kept
    };
    Some(match claim {
        ClaimKind::Reaches { target, only } => ClaimKind::Reaches {
            target: one(*target)?,
            only: all(only),
        },
        ClaimKind::Isolated { from, to } => {
            let (from, to) = (all(from), all(to));
            if from.is_empty() || to.is_empty() {
                return None;
            }
            ClaimKind::Isolated { from, to }
        }
        ClaimKind::Decided {
            allowed,
            from,
            to,
            conditions,
        } => ClaimKind::Decided {
            allowed: *allowed,
            from: from.clone(),
            to: one(*to)?,
            conditions: conditions.clone(),
        },
    })
}

/// Whether the invariants of a mesh claim as much, in whichever words.
fn is_claimed(mesh: &LinkedMesh, claim: &ClaimKind) -> bool {
    let within = |few: &[ServiceId], many: &[ServiceId]| few.iter().all(|id| many.contains(id));
    let mut claims = mesh.invariants.iter().flat_map(|each| &each.claims);
    claims.any(|is| match (&is.kind, claim) {
        (
            ClaimKind::Reaches { target, only },
            ClaimKind::Reaches {
                target: was,
                only: before,
            },
        ) => target == was && within(only, before),
        (
            ClaimKind::Isolated { from, to },
            ClaimKind::Isolated {
                from: were,
                to: before,
            },
        ) => within(were, from) && within(before, to),
        (is, was) => is == was,
    })
}

/// What the guards of the base find in the head, those of the head do not, and was not there before.
fn hidden(change: Change<'_>, claims: Vec<Invariant>) -> Vec<Diagnostic> {
    let Change { base, head } = change;
    let mut guarded = head.clone();
    let mut found = Vec::new();
    if !claims.is_empty() {
        guarded.invariants = claims;
        let here = checked(&INVARIANT_VIOLATED, &Facts::new(&guarded));
        let before = checked(&INVARIANT_VIOLATED, &Facts::new(base));
        let is_new = |found: &Diagnostic| before.iter().all(|was| was.message != found.message);
        found.extend(here.into_iter().filter(is_new));
    }
    let is = &mut guarded.refuse;
    if is.amplification.value > base.refuse.amplification.value {
        is.amplification.value = base.refuse.amplification.value;
        let storm = |found: &Diagnostic| found.numbers.get("amplification").copied();
        let known: Vec<Diagnostic> = checked(&AMPLIFICATION, &Facts::new(head));
        let before = checked(&AMPLIFICATION, &Facts::new(base));
        let here = checked(&AMPLIFICATION, &Facts::new(&guarded));
        let is_new = |found: &Diagnostic| {
            let is_known = known.iter().any(|known| known.span == found.span);
            let mut same = before.iter().filter(|was| was.about == found.about);
            !is_known && same.all(|was| storm(was) < storm(found))
        };
        found.extend(here.into_iter().filter(is_new));
    }
    let is = &mut guarded.refuse;
    let step = is.canary_step.map(|is| is.value);
    if let Some(was) = base.refuse.canary_step
        && step.is_none_or(|is| is > was.value)
    {
        let place = is.canary_step.map_or(head.name.span, |is| is.span);
        is.canary_step = Some(Spanned::new(was.value, place));
        let known = checked(&CANARY_STEP, &Facts::new(head).against(base));
        let here = checked(&CANARY_STEP, &Facts::new(&guarded).against(base));
        let is_new = |found: &Diagnostic| known.iter().all(|known| known.span != found.span);
        found.extend(here.into_iter().filter(is_new));
    }
    for finding in &mut found {
        for label in &mut finding.labels {
            if label.message == "the limit" {
                "the limit was lower before this change".clone_into(&mut label.message);
            }
        }
        let help = finding.help.take();
        // To raise the limit is no way out here.
        let help = help.map(|help| help.replace("; or raise `refuse amplification=`", "") + "; ");
        finding.help = Some(format!(
            "{}it is judged by the guard as it was: weaken that first, in a change of its own",
            help.unwrap_or_default()
        ));
    }
    found
}

fn checked(rule: &Rule, facts: &Facts<'_>) -> Vec<Diagnostic> {
    let mut cx = RuleContext::new(facts);
    rule.check(&mut cx);
    cx.into_parts().0
}

#[cfg(test)]
mod tests {
    use crate::tester::{changes, compared};

    fn codes(base: &str, head: &str) -> Vec<&'static str> {
        let found = compared(base, head);
        let ours = ["MSH0311", "MSH0401", "MSH0817", "MSH1111"];
        let codes = found.iter().map(|found| found.code);
        let mut codes: Vec<_> = codes.filter(|code| ours.contains(code)).collect();
        codes.sort_unstable();
        codes
    }

    fn canary(limit: &str, two: u32) -> String {
        let one = 100 - two;
        format!(
            r#"mesh m {{ trust-domain "m.example"; {limit} }}
            service a {{
                port 80
                endpoints {{ static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }}
                subset v1 {{ labels version=v1 }}
                subset v2 {{ labels version=v2 }}
                route all {{ to v1 weight={one}; to v2 weight={two} }}
            }}"#
        )
    }

    const STEP: &str = r#"refuse canary-step="20%""#;

    #[test]
    fn a_step_is_judged_by_the_limit_that_it_takes_away() {
        let before = canary(STEP, 10);
        insta::assert_snapshot!(changes("MSH0311", &before, &canary("", 90)));
        let raised = canary("refuse canary-step=\"100%\"", 90);
        assert_eq!(codes(&before, &raised), ["MSH0311", "MSH1111"]);
        // Of a limit that was there before nothing is said, and a guard alone may be weakened.
        assert_eq!(codes(&canary("", 10), &canary("", 90)), [""; 0]);
        assert_eq!(codes(&before, &canary("", 10)), ["MSH1111"]);
        assert_eq!(codes(&canary("", 10), &before), [""; 0]);
    }

    fn storm(limit: &str, attempts: u32) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; {limit} }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; calls b; retry "5xx" attempts={attempts} }}
            service b {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow a; retry "5xx" attempts={attempts} }}"#
        )
    }

    #[test]
    fn a_storm_is_judged_by_the_limit_that_it_raises() {
        let (low, high) = ("refuse amplification=5", "refuse amplification=30");
        assert_eq!(
            codes(&storm(low, 2), &storm(high, 3)),
            ["MSH0401", "MSH1111"]
        );
        // It was there before, and whoever raises the limit for it has made nothing worse.
        assert_eq!(codes(&storm(low, 3), &storm(high, 3)), ["MSH1111"]);
        assert_eq!(codes(&storm(high, 3), &storm(high, 3)), [""; 0]);
    }

    fn guarded(invariant: &str, rules: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
            service other {{ port 80; endpoints {{ static "10.0.0.3:80" }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {rules} }}
            {invariant}"#
        )
    }

    const ONLY: &str = r#"invariant "only web calls a" { reaches a { only web } }"#;

    #[test]
    fn an_invariant_holds_for_the_change_that_takes_it_away() {
        let before = guarded(ONLY, "allow web");
        let both = "allow web; allow other";
        insta::assert_snapshot!(changes("MSH1111", &before, &guarded("", both)));
        assert_eq!(codes(&before, &guarded("", both)), ["MSH0817", "MSH1111"]);
        let wider = ONLY.replace("only web }", "only web other }");
        assert_eq!(
            codes(&before, &guarded(&wider, both)),
            ["MSH0817", "MSH1111"]
        );
        assert_eq!(codes(&before, &guarded("", "allow web")), ["MSH1111"]);
    }

    #[test]
    fn the_same_in_other_words_and_more_of_it_is_no_weaker() {
        let before = guarded(ONLY, "allow web");
        let renamed = ONLY.replace("only web calls a", "a is for web");
        assert_eq!(codes(&before, &guarded(&renamed, "allow web")), [""; 0]);
        let wide = ONLY.replace("only web }", "only web other }");
        assert_eq!(codes(&guarded(&wide, "allow web"), &before), [""; 0]);
    }
}
