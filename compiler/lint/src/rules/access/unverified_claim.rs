//! `access/unverified-claim`

use std::collections::BTreeSet;

use mesh_bundle::slice::Condition;
use mesh_compiler::linked::Service;
use mesh_compiler::model::RequirementKind;
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A condition on a claim in a service or gateway that verifies no token: it has neither `require
    /// jwt` nor `accept jwt`.
    ///
    /// ## Why it matters
    /// Claims come from verified tokens only, so there are none. An `allow` then lets nobody in, and a
    /// `deny` stops nobody.
    ///
    /// ## Examples
    /// ```kdl bad
    /// jwt shop { issuer "https://id.example"; audience "shop"; jwks url="https://id.example/keys" }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web { claim group "staff" } }
    /// ```
    /// ```kdl good
    /// jwt shop { issuer "https://id.example"; audience "shop"; jwks url="https://id.example/keys" }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; require jwt shop; allow web { claim group "staff" } }
    /// ```
    pub(crate) static UNVERIFIED_CLAIM = {
        code: "MSH0709", name: "access/unverified-claim",
        summary: "a condition on a claim where no token is verified",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    for service in &mesh.services {
        if verifies(service) {
            continue;
        }
        let rules = service.access.iter().flat_map(|rule| &rule.conditions);
        for condition in rules {
            if !is_about_claim(&condition.value) || !seen.insert(condition.span) {
                continue;
            }
            cx.report(
                UNVERIFIED_CLAIM
                    .at(
                        condition.span,
                        format!(
                            "`{}` verifies no token, so there are no claims",
                            service.name.value
                        ),
                    )
                    .at("is never met")
                    .help("add `require jwt NAME`, or `accept jwt NAME` if a token is optional"),
            );
        }
    }
}

fn verifies(service: &Service) -> bool {
    service.requirements.iter().any(|each| {
        matches!(
            each.kind,
            RequirementKind::RequireJwt | RequirementKind::AcceptJwt
        )
    })
}

pub(crate) fn is_about_claim(condition: &Condition) -> bool {
    match condition {
        Condition::Claim(_) => true,
        Condition::Not(inner) => is_about_claim(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(lines: &str) -> String {
        format!(
            r#"
            jwt shop {{ issuer "https://id.example"; audience "shop"; jwks url="https://id.example/keys" }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {lines} }}"#
        )
    }

    #[test]
    fn claims_without_a_token_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0709",
            &with("allow web; deny { claim suspended \"yes\" }")
        ));
    }

    #[test]
    fn an_optional_token_is_verified_too() {
        none(
            "MSH0709",
            &with("allow web { claim group }; accept jwt shop"),
        );
    }
}
