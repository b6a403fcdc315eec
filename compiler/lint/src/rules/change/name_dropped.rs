//! `routing/name-dropped`

use mesh_compiler::diff::dropped::{self, Dropped, What};
use mesh_syntax::Diagnostic;

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A `host` or an `address` by which a service or external is reached in the base and not any more, while somebody
    /// declares to call it. A service with a `host` of its own does not answer to its name any more unless that is written
    /// too. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// An application that still uses it is not refused by a rule: its proxy knows nobody of that name and answers 403. Tests that name the service, and not the host, go on passing.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; host "reviews.internal" }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; host "reviews" "reviews.internal" }
    /// ```
    pub(crate) static NAME_DROPPED = {
        code: "MSH0223", name: "routing/name-dropped",
        summary: "callers no longer find a service by what they called it",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    for each in dropped::of(change.meshes()) {
        cx.report(finding(facts, &each));
    }
}

fn finding(facts: &Facts<'_>, each: &Dropped) -> Diagnostic {
    let mesh = facts.mesh();
    let name = |kept: &mesh_compiler::diff::Kept| &mesh.service(kept.head).name.value;
    let service = name(&each.service);
    let callers: Vec<String> = each
        .callers
        .iter()
        .map(|caller| format!("`{}`", name(caller)))
        .collect();
    let callers = match callers.as_slice() {
        [first, second] => format!("{first} and {second}"),
        [first, rest @ ..] if !rest.is_empty() => format!("{first} and {} others", rest.len()),
        all => all.concat(),
    };
    let becomes = each.now.as_ref().map_or_else(String::new, |now| {
        format!(", and with it gets `{}`", name(now))
    });
    let (message, label, help) = match &each.what {
        What::Host(host) => (
            format!(
                "`{service}` no longer answers to the host \"{host}\", by which {callers} may call it{becomes}"
            ),
            "the base answers to it",
            format!(
                "say both until every caller uses the other: `host \"{host}\"` beside what is there; a service with a `host` has its own name only if it says so"
            ),
        ),
        What::Address(address) => (
            format!(
                "`{service}` is no longer reached at {address}, by which {callers} may call it{becomes}"
            ),
            "the base has this address",
            format!("keep `address \"{address}\"` until every caller uses another"),
        ),
    };
    let mut finding = NAME_DROPPED
        .at(each.span, message)
        .at(label)
        .help(help)
        .about(service);
    for caller in &each.callers {
        finding = finding.about(name(caller));
    }
    // That it is gone is certain, that somebody still uses it is not.
    finding.possible()
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(callee: &str, call: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {call} }}
            service a {{ port 80 protocol=tcp; endpoints {{ static "10.0.0.2:80" }}; allow web; {callee} }}"#
        )
    }

    #[test]
    fn a_service_that_loses_its_name_or_address_is_found() {
        let web = |callee: &str| with(callee, "calls a");
        insta::assert_snapshot!(changes("MSH0223", &web(""), &web("host \"a.internal\"")));
        insta::assert_snapshot!(changes(
            "MSH0223",
            &web("address \"10.9.0.1\""),
            &web("address \"10.9.0.2\"")
        ));
    }

    #[test]
    fn names_that_stay_or_that_nobody_calls_are_not() {
        let web = |callee: &str| with(callee, "calls a");
        assert_eq!(
            changes("MSH0223", &web(""), &web("host \"a\" \"a.internal\"")),
            ""
        );
        assert_eq!(
            changes(
                "MSH0223",
                &web("host \"x.internal\""),
                &web("host \"*.internal\"")
            ),
            ""
        );
        assert_eq!(
            changes("MSH0223", &with("", ""), &with("host \"b\"", "")),
            ""
        );
    }
}
