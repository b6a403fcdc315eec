//! `routing/answered-instead`

use mesh_bundle::slice::Answer;
use mesh_compiler::diff::unserved::{self, Unserved};
use mesh_syntax::Diagnostic;

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// Requests that were sent to a service and that a proxy answers itself after the change, with one of them: by
    /// `respond` in place of `to`, by a `fault` that aborts all of them, or with 404, because no route of a
    /// service takes them any more. Requests that nobody may send are not looked at, and of redirects only those to a
    /// host that is written out, for the others lead back to where they came. What a gateway has no route for is MSH0811, and more traffic to another
    /// version MSH0311. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// For whoever calls, the service is down. No rule of access changes and no step of a canary is too large, so nothing
    /// else says it.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; route all { respond 503 } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; route all { timeout "2s" } }
    /// ```
    pub(crate) static ANSWERED_INSTEAD = {
        code: "MSH0222", name: "routing/answered-instead",
        summary: "requests that were served are answered by the proxy",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let all = unserved::of(change.meshes());
    for (service, why) in all.unknown {
        let name = &facts.mesh().service(service.head).name.value;
        cx.skip(
            &ANSWERED_INSTEAD,
            format!("the routes of `{name}` are too large to compare: {why}"),
        );
    }
    // A route may end what several sent on: it is said once, with the first of them.
    let mut said = Vec::new();
    for each in all.found {
        let key = (each.service, each.route);
        if !said.contains(&key) {
            said.push(key);
            cx.report_some(finding(facts, &each));
        }
    }
}

fn finding(facts: &Facts<'_>, each: &Unserved) -> Option<Diagnostic> {
    let service = facts.mesh().service(each.service.head);
    let name = &service.name;
    let Some(route) = each.route else {
        let message = format!(
            "no route of `{}` takes requests that are sent to it, and the proxies of callers answer 404",
            name.value
        );
        let finding = ANSWERED_INSTEAD.at(name.span, message);
        return Some(
            finding
                .at("the base has a route for them")
                .help("if callers still send such requests, keep a route that takes them")
                .witness(facts.witness(&each.witness, service.id)),
        );
    };
    let route = service.routes.get(route)?;
    let (span, what, help) = match (&route.actions.answer, &route.actions.fault) {
        (Some(answer), _) => {
            let status = match &answer.value {
                Answer::Respond(respond) => respond.status,
                Answer::Redirect(redirect) => redirect.status,
            };
            let help = "if the service is to go on serving them, send them `to` it, or narrow the `match` of the route";
            (
                answer.span,
                format!("{status} to requests that the base serves"),
                help,
            )
        }
        (None, Some(fault)) => {
            let abort = fault.abort?;
            let help = "fail a part of them: `abort` takes `share=`, of all requests if unsaid; or `match` those of testers";
            (
                abort.span,
                format!(
                    "{} to requests that the base serves: its fault ends all of them",
                    abort.value.status
                ),
                help,
            )
        }
        (None, None) => return None,
    };
    let message = format!(
        "route `{}` of `{}` answers {what}",
        route.name.value, name.value
    );
    Some(
        ANSWERED_INSTEAD
            .at(span, message)
            .at("none of them reaches anybody")
            .help(help)
            .witness(facts.witness(&each.witness, service.id)),
    )
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    const WEB: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service a { port 80; endpoints { static "10.0.0.2:80" }; allow web { path "/a/**" }; "#;

    fn service(routes: &str) -> String {
        format!("{WEB} {routes} }}")
    }

    fn gateway(route: &str) -> String {
        format!(
            r#"gateway public {{ listen 80 {{ host "a.test" }}; allow unauthenticated; route all {{ {route} }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public }}"#
        )
    }

    #[test]
    fn a_route_that_answers_what_it_sent_on_is_found() {
        insta::assert_snapshot!(changes(
            "MSH0222",
            &gateway("to a"),
            &gateway("respond 503")
        ));
        insta::assert_snapshot!(changes(
            "MSH0222",
            &service(""),
            &service("route all { respond 200 }")
        ));
    }

    #[test]
    fn a_fault_that_ends_everything_is_found_and_one_that_ends_some_is_not() {
        let with = |share: &str| {
            gateway(&format!(
                "fault until=\"2099-01-01\" {{ abort 503{share} }}; to a"
            ))
        };
        insta::assert_snapshot!(changes("MSH0222", &gateway("to a"), &with("")));
        assert_eq!(
            changes("MSH0222", &gateway("to a"), &with(" share=\"99%\"")),
            ""
        );
    }

    #[test]
    fn what_no_route_takes_any_more_is_found() {
        insta::assert_snapshot!(changes(
            "MSH0222",
            &service(""),
            &service("route some { match { path \"/a/b\" } }")
        ));
    }

    #[test]
    fn what_nobody_may_send_or_was_answered_before_is_not() {
        let refused = "route rest; route other { match { path \"/b\" }; respond 503 }";
        assert_eq!(changes("MSH0222", &service(""), &service(refused)), "");
        assert_eq!(
            changes("MSH0222", &gateway("respond 404"), &gateway("respond 503")),
            ""
        );
        assert_eq!(
            changes("MSH0222", &gateway("respond 404"), &gateway("to a")),
            ""
        );
        assert_eq!(
            changes(
                "MSH0222",
                &gateway("to a"),
                &gateway("redirect scheme=https")
            ),
            ""
        );
        assert_ne!(
            changes(
                "MSH0222",
                &gateway("to a"),
                &gateway("redirect host=\"b.test\"")
            ),
            ""
        );
    }
}
