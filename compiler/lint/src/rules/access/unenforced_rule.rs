//! `access/unenforced-rule`

use mesh_compiler::linked::{Service, Source};
use mesh_compiler::model::Effect;
use mesh_syntax::{Level, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// Rules about who may enter a service with `unmeshed`: `allow`, `deny`, `require`, `accept`, `rate-limit` and `probe`, its
    /// own or those of a policy that it uses. An `allow` without conditions is a note: it lets its callers' proxies know
    /// where the service is, and does no more.
    ///
    /// ## Why it matters
    /// Rules are enforced by the proxy of the service that is entered, and beside this one stands none. Whoever reaches its
    /// address gets in; what calls it from within the mesh is not asked for anything either. Only for an `external` the
    /// caller's own proxy judges.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls legacy }
    /// service legacy { port 80; endpoints { static "10.0.0.2:80" }; unmeshed; allow web { method GET } }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls legacy }
    /// service legacy { port 80; endpoints { static "10.0.0.2:80" }; unmeshed }
    /// ```
    pub(crate) static UNENFORCED_RULE = {
        code: "MSH0808", name: "access/unenforced-rule", summary: "rules of a service beside which no proxy stands",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for service in &cx.facts().mesh().services {
        let Some(unmeshed) = service.reach.unmeshed else {
            continue;
        };
        let rules = rules(service);
        let grave = rules.iter().any(|(_, grave)| *grave);
        // What means something comes first.
        let first = rules.iter().find(|(_, own)| *own == grave);
        let Some((span, _)) = first else { continue };
        let mut finding = UNENFORCED_RULE
            .at(
                *span,
                format!(
                    "no proxy stands beside `{}`, so nobody enforces this",
                    service.name.value
                ),
            )
            .at("has no effect on who gets in")
            .label(unmeshed, "no proxy here")
            .help("put a proxy beside it, or protect it by other means and take the rules out");
        for (other, _) in rules.iter().filter(|(other, _)| other != span) {
            finding = finding.label(*other, "nor this");
        }
        if !grave {
            finding.level = Level::Note;
        }
        cx.report(finding);
    }
}

/// Where rules stand that are the service's own or of a policy that it uses, and whether they say more than who may
/// call. What `defaults` say for everybody is meant for those that it fits.
fn rules(service: &Service) -> Vec<(Span, bool)> {
    let own = |source: Source| match source {
        Source::Service(span) | Source::Policy(span) => Some(span),
        _ => None,
    };
    let access = service
        .access
        .iter()
        .filter(|rule| !rule.implied)
        .map(|rule| {
            let plain = rule.effect == Effect::Allow && rule.conditions.is_empty();
            (rule.source, !plain)
        });
    let others = (service.requirements.iter().map(|each| each.source))
        .chain(service.rate_limits.iter().map(|each| each.source))
        .chain(service.probes.iter().map(|each| each.source));
    let mut rules: Vec<(Span, bool)> = access
        .chain(others.map(|source| (source, true)))
        .filter_map(|(source, grave)| Some((own(source)?, grave)))
        .collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(rules: &str) -> String {
        format!(
            r#"
            mesh m {{ trust-domain "m.example"; defaults {{ deny unauthenticated }} }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls legacy }}
            service legacy {{ port 80; endpoints {{ static "10.0.0.2:80" }}; unmeshed; {rules} }}"#
        )
    }

    #[test]
    fn what_nobody_enforces_is_found_once() {
        insta::assert_snapshot!(findings(
            "MSH0808",
            &with("allow web; deny any { path \"/admin/**\" }; rate-limit \"10/s\"")
        ));
    }

    #[test]
    fn who_is_merely_named_is_a_note() {
        insta::assert_snapshot!(findings("MSH0808", &with("allow web")));
    }

    #[test]
    fn nobody_is_refused_where_nobody_judges() {
        none("MSH0114", &with(""));
        none("MSH0808", &with(""));
    }
}
