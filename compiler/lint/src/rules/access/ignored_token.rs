//! `access/ignored-token`

use std::collections::BTreeSet;

use mesh_compiler::model::RequirementKind;
use mesh_syntax::Span;

use super::unverified_claim::is_about_claim;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service or gateway that has `accept jwt`, and no rule that asks for a claim.
    ///
    /// ## Why it matters
    /// A token is verified when there is one, and whoever sends none gets in all the same: it protects
    /// nothing. Only a wrong token is refused.
    ///
    /// ## Examples
    /// ```kdl bad
    /// jwt shop { issuer "https://id.example"; audience "shop"; jwks url="https://id.example/keys" }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; accept jwt shop; allow web { method GET } }
    /// ```
    /// ```kdl good
    /// jwt shop { issuer "https://id.example"; audience "shop"; jwks url="https://id.example/keys" }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; require jwt shop; allow web { method GET } }
    /// ```
    pub(crate) static IGNORED_TOKEN = {
        code: "MSH0711", name: "access/ignored-token",
        summary: "a token is optional and nothing asks for it",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    for service in &mesh.services {
        let asks = service
            .access
            .iter()
            .flat_map(|rule| &rule.conditions)
            .any(|condition| is_about_claim(&condition.value));
        let requires = service
            .requirements
            .iter()
            .any(|each| each.kind == RequirementKind::RequireJwt);
        if asks || requires {
            continue;
        }
        for accepted in &service.requirements {
            let Some(span) = accepted.source.span() else {
                continue;
            };
            if accepted.kind != RequirementKind::AcceptJwt || !seen.insert(span) {
                continue;
            }
            cx.report(
                IGNORED_TOKEN
                    .at(
                        span,
                        format!(
                            "`{}` lets requests without a token in like those with one",
                            service.name.value
                        ),
                    )
                    .at("optional, and nothing asks for it")
                    .help("write `require jwt`, or let an `allow` ask for a claim"),
            );
        }
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
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; {lines} }}"#
        )
    }

    #[test]
    fn a_token_that_nobody_needs_is_found() {
        insta::assert_snapshot!(findings("MSH0711", &with("accept jwt shop")));
    }

    #[test]
    fn a_deny_may_ask_for_it() {
        none(
            "MSH0711",
            &with("accept jwt shop; deny { path \"/admin/**\"; not { claim group \"staff\" } }"),
        );
    }
}
