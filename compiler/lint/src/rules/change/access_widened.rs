//! `access/access-widened`

use std::collections::BTreeMap;

use mesh_compiler::diff::access::{AccessChange, Gain};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A rule that lets in requests which the base refuses, with one of them. Found with
    /// `meshc check --base REF`. What is written otherwise and means the same is no change; a rule that
    /// stayed the same is flagged too if a `deny` that stood in its way is gone.
    ///
    /// ## Why it matters
    /// Whoever reviews a change of rules has to see what they let in, not how they read.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/*" } }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/**" } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/{id}" } }
    /// ```
    pub(crate) static ACCESS_WIDENED = {
        code: "MSH0810", name: "access/access-widened",
        summary: "requests are let in that were refused",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let mesh = facts.mesh();
    // A rule of `defaults` or of a policy is one place, however many services hold it.
    let mut places: BTreeMap<Span, Vec<(&AccessChange, &Gain)>> = BTreeMap::new();
    for each in change.access() {
        for gain in &each.gained {
            let rules = &mesh.service(each.service.head).access;
            let span = rules.get(gain.rule).and_then(|rule| rule.source.span());
            let name = mesh.service(each.service.head).name.span;
            let place = places.entry(span.unwrap_or(name)).or_default();
            place.push((each, gain));
        }
    }
    for (span, gains) in places {
        let Some((first, gain)) = gains.first().copied() else {
            continue;
        };
        let service = mesh.service(first.service.head);
        let rule = service.access.get(gain.rule);
        let rule = rule.map_or("a rule", |rule| rule.name.as_str());
        let name = &service.name.value;
        let others = match gains.len() - 1 {
            0 => String::new(),
            1 => " and one other service".to_owned(),
            many => format!(" and {many} other services"),
        };
        let mut finding = ACCESS_WIDENED
            .at(
                span,
                format!("`{rule}` lets requests into `{name}`{others} that the base refuses"),
            )
            .at(if gain.is_old {
                "the same rule as before; a `deny` that overruled it is gone"
            } else {
                "lets in more than before"
            })
            .help("check that the request below is meant to get in; as a test it stays so");
        finding = facts.witnessed(finding, gain.witness.as_ref(), service.id);
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    const WEB: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service a { port 80; endpoints { static "10.0.0.2:80" }; "#;

    #[test]
    fn what_gets_in_now_is_shown() {
        insta::assert_snapshot!(changes(
            "MSH0810",
            &format!("{WEB} allow web {{ method GET; path \"/a\" }} }}"),
            &format!("{WEB} allow web {{ method GET; path regex=\"/a|/b\" }} }}"),
        ));
    }

    #[test]
    fn a_deny_that_is_gone_is_seen_at_the_rule_that_now_admits() {
        insta::assert_snapshot!(changes(
            "MSH0810",
            &format!("{WEB} allow web; deny {{ path \"/admin/**\" }} }}"),
            &format!("{WEB} allow web }}"),
        ));
    }

    #[test]
    fn a_rule_of_defaults_is_one_finding() {
        let with = |rule: &str| {
            format!(
                r#"mesh m {{ trust-domain "m.example"; defaults {{ {rule} }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
                service b {{ port 80; endpoints {{ static "10.0.0.2:80" }} }}"#
            )
        };
        insta::assert_snapshot!(changes("MSH0810", &with(""), &with("allow any")));
    }

    #[test]
    fn the_same_in_other_words_is_no_change() {
        let before = format!("{WEB} allow web {{ path \"/a\" \"/b\" }} }}");
        let after =
            format!("{WEB} allow web {{ path \"/b\" }}; allow web {{ path regex=\"/a\" }} }}");
        assert_eq!(changes("MSH0810", &before, &after), "");
    }
}
