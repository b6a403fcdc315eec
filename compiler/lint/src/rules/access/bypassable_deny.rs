//! `access/bypassable-deny`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Condition, PathPatternKind};
use mesh_compiler::analysis::access::Spelling;
use mesh_compiler::model::Spanned;
use mesh_syntax::{Edit, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A `deny` of an exact path, where the same path with a slash at its end, or with other letters in
    /// capitals, gets in; with such a request, run through the engine. Dots, doubled slashes and
    /// escapes need no rule: every path is normalised before any rule sees it.
    ///
    /// ## Why it matters
    /// Many servers take `/admin/` or `/Admin` for `/admin`. A rule that refuses one spelling protects
    /// nothing then.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; deny { path "/admin" } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; deny { path "/admin/**" case=ignore } }
    /// ```
    pub(crate) static BYPASSABLE_DENY = {
        code: "MSH0813", name: "access/bypassable-deny",
        summary: "a deny of a path lets another spelling in",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    for (service, access) in facts.access() {
        for bypass in &access.bypassed {
            let condition = service
                .access
                .get(bypass.rule)
                .and_then(|rule| rule.conditions.get(bypass.condition));
            let Some(condition) = condition.filter(|condition| seen.insert(condition.span)) else {
                continue;
            };
            let other = match bypass.spelling {
                Spelling::TrailingSlash => "with a slash at its end",
                Spelling::Case => "with other letters in capitals",
            };
            let mut finding = BYPASSABLE_DENY
                .at(
                    condition.span,
                    format!(
                        "`{}` refuses this path, and lets `{}` in",
                        service.name.value, bypass.witness.path
                    ),
                )
                .at(format!("not the same path {other}"))
                .help("write `\"/path/**\" case=ignore`: the path, with or without a slash, and everything below it")
                .witness(facts.witness(&bypass.witness, service.id));
            if let Some(text) = wider(condition) {
                let title = format!("write `{text}`");
                finding = finding.unsafe_fix(title, vec![Edit::new(condition.span, text)]);
            }
            cx.report(finding);
        }
    }
}

/// The condition with everything below each exact path, in any case.
fn wider(condition: &Spanned<Condition>) -> Option<String> {
    let Condition::Path(patterns) = &condition.value else {
        return None;
    };
    let mut text = "path".to_owned();
    for pattern in patterns {
        let PathPatternKind::Template(template) = &pattern.kind else {
            return None;
        };
        let wide = if template.ends_with("/**") {
            template.clone()
        } else {
            format!("{}/**", template.strip_suffix('/').unwrap_or(template))
        };
        text = format!("{text} \"{wide}\"");
    }
    Some(format!("{text} case=ignore"))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, fixed, none};

    fn with(rules: &str) -> String {
        format!(
            r#"
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{
                port 80
                endpoints {{ static "10.0.0.2:80" }}
                allow web
                {rules}
            }}"#
        )
    }

    #[test]
    fn another_spelling_is_found_and_can_be_included() {
        let policy = with("deny { path \"/admin\" \"/x/\"; not { method GET } }");
        insta::assert_snapshot!(findings("MSH0813", &policy));
        none("MSH0813", &fixed("MSH0813", &policy));
        insta::assert_snapshot!(findings(
            "MSH0813",
            &with("deny { path \"/admin\" \"/admin/\" }")
        ));
    }

    #[test]
    fn what_another_rule_refuses_is_no_way_around() {
        none(
            "MSH0813",
            &with("deny { path \"/admin\" }; deny { path \"/admin/**\" case=ignore }"),
        );
        none(
            "MSH0813",
            &with("deny { path \"/admin\" mode=audit }")
                .replace("\"/admin\" mode=audit", "\"/admin/**\" case=ignore"),
        );
    }
}
