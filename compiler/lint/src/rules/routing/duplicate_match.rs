//! `routing/duplicate-match`

use mesh_compiler::analysis::probe;
use mesh_engine::route::{Precedence, compare};
use mesh_syntax::Edit;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// Two `match` blocks of one route that ask the same. Two routes that ask the same are MSH0204.
    ///
    /// ## Why it matters
    /// One of them was meant to ask something else, or is left over.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route readers { match { method GET; path "/reviews/**" }; match { path "/reviews/**"; method GET } }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route readers { match { method GET; path "/reviews/**" }; match { path "/ratings/**"; method GET } }
    ///     route rest
    /// }
    /// ```
    pub(crate) static DUPLICATE_MATCH = {
        code: "MSH0203", name: "routing/duplicate-match",
        summary: "two matches of one route ask the same",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        for route in &service.routes {
            if route.matches.len() < 2 {
                continue;
            }
            let plain = probe::matches(route);
            for (later, block) in route.matches.iter().enumerate() {
                let same = |earlier: &usize| {
                    let pair = plain.get(*earlier).zip(plain.get(later));
                    pair.is_some_and(|(a, b)| compare(a, b) == Ok(Precedence::Same))
                };
                let Some(first) = (0..later).find(same).and_then(|at| route.matches.get(at)) else {
                    continue;
                };
                let message = format!(
                    "two `match` blocks of route `{}` of `{}` ask the same",
                    route.name.value, service.name.value
                );
                cx.report(
                    DUPLICATE_MATCH
                        .at(block.span, message)
                        .at("asks the same again")
                        .label(first.span, "the first one")
                        .help("remove it, or let it ask what was meant")
                        .fix("comment the second one out", comment_out(block.span)),
                );
            }
        }
    }
}

/// A node taken out of force. What stands around it stays valid whether lines or semicolons end it.
fn comment_out(span: mesh_syntax::Span) -> Vec<Edit> {
    let mut start = span;
    start.end = start.start;
    vec![Edit::new(start, "/-")]
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, fixed, none};

    const POLICY: &str = r#"
        service a {
            port 80
            endpoints { static "10.0.0.1:80" }
            route one { match { path "/a" "/b"; header x }; match { header x; path "/b" "/a" } }
            route rest
        }"#;

    #[test]
    fn order_makes_no_difference() {
        insta::assert_snapshot!(findings("MSH0203", POLICY));
        none("MSH0203", &fixed("MSH0203", POLICY));
    }

    #[test]
    fn a_narrower_match_ranks_higher_and_is_no_duplicate() {
        none(
            "MSH0203",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                route one { match { path "/a/**" }; match { path "/a/b" } }
                route rest
            }"#,
        );
    }
}
