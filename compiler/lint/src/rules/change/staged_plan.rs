//! `rollout/staged-plan`

use mesh_compiler::diff::staging::Beside;

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A change that MSH0704 or MSH1104 objects to and that two commits can deliver without a failed
    /// request: an intermediate one with the old beside the new, then this one. The compiler has made
    /// the intermediate mesh and found every pair to work on the way to it and on the way from it.
    /// Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Make before break, worked out.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 9080; endpoints { static "10.0.0.2:9080" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 9081; endpoints { static "10.0.0.2:9081" }; allow productpage }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 9080; port 9081; endpoints { static "10.0.0.2:9080" "10.0.0.2:9081" }; allow productpage }
    /// ```
    pub(crate) static STAGED_PLAN = {
        code: "MSH1108", name: "rollout/staged-plan",
        summary: "the change needs an intermediate commit",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let Some(beside) = &change.staging().kept_beside else {
        return;
    };
    let steps: Vec<String> = beside.iter().map(|each| step(facts, each)).collect();
    let mut finding = STAGED_PLAN
        .at(
            facts.mesh().name.span,
            "two commits deliver this change without a failed call",
        )
        .help(format!(
            "first commit: this change, but {}. Second commit, once every proxy serves the first: take the old away",
            steps.join("; ")
        ));
    for each in beside {
        let service = facts.mesh().service(each.service);
        finding = finding.label(
            service.name.span,
            "keeps the old beside the new for a while",
        );
    }
    cx.report(finding);
}

fn step(facts: &Facts<'_>, beside: &Beside) -> String {
    let mut keeps = Vec::new();
    for identity in &beside.identities {
        keeps.push(format!("`identity \"{identity}\"`"));
    }
    for port in &beside.ports {
        keeps.push(format!("`port {port}`"));
    }
    for rule in &beside.rules {
        keeps.push(format!("the rule `{rule}` as it was"));
    }
    if beside.permissive {
        keeps.push("both ways in with `mtls permissive`".to_owned());
    }
    let name = &facts.mesh().service(beside.service).name.value;
    format!("`{name}` keeps {}", keeps.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(identity: &str, port: u16) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; identity "spiffe://example.test/{identity}"; calls a }}
            service a {{ port {port}; endpoints {{ static "10.0.0.2:{port}" }}; allow web }}"#
        )
    }

    #[test]
    fn what_to_keep_is_said_service_by_service() {
        insta::assert_snapshot!(changes("MSH1108", &with("one", 81), &with("two", 82)));
    }

    #[test]
    fn no_plan_leads_into_another_trust_domain() {
        let mesh = |domain: &str| {
            format!(
                r#"mesh m {{ trust-domain "{domain}" }}
                service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web }}"#
            )
        };
        let (before, after) = (mesh("a.example"), mesh("b.example"));
        assert_eq!(changes("MSH1108", &before, &after), "");
        assert!(!changes("MSH1105", &before, &after).is_empty());
    }

    #[test]
    fn a_change_that_breaks_nothing_needs_no_plan() {
        assert_eq!(changes("MSH1108", &with("one", 81), &with("one", 81)), "");
    }
}
