//! `routing/redirect-loop`

use mesh_compiler::analysis::redirects::loops;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// Redirects that lead to each other or to themselves, with a request that never ends. Each step is
    /// taken by the engine, with what the path captured. Rewrites need no such check: a rewritten
    /// request goes to its destination and is not routed again.
    ///
    /// ## Why it matters
    /// The client gives up after some twenty answers, and each of them was load.
    ///
    /// As an error it can't be suppressed: every client of it would be sent in circles, whoever answers for it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway public {
    ///     listen 80 { host "shop.example" }
    ///     allow unauthenticated { method GET }
    ///     route old { match { path "/old/**" }; redirect path="/new/**" }
    ///     route new { match { path "/new/**" }; redirect path="/old/**" }
    /// }
    /// ```
    /// ```kdl good
    /// gateway public {
    ///     listen 80 { host "shop.example" }
    ///     allow unauthenticated { method GET }
    ///     route old { match { path "/old/**" }; redirect path="/new/**" }
    ///     route new { match { path "/new/**" }; respond 200 }
    /// }
    /// ```
    pub(crate) static REDIRECT_LOOP = {
        code: "MSH0209", name: "routing/redirect-loop", summary: "redirects without end",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    for service in &mesh.services {
        for endless in loops(mesh, service.id) {
            let Some(route) = service.routes.get(endless.route) else {
                continue;
            };
            let answer = route.actions.answer.as_ref();
            let names = endless.round.iter();
            let names =
                names.filter_map(|other| Some(service.routes.get(*other)?.name.value.as_str()));
            let round = list(names);
            let message = if endless.returns {
                format!(
                    "a request to `{}` is redirected in a circle by {round}",
                    service.name.value
                )
            } else {
                format!(
                    "a request to `{}` is redirected to ever new places by {round}",
                    service.name.value
                )
            };
            let mut finding = REDIRECT_LOOP
                .at(answer.map_or(route.span, |answer| answer.span), message)
                .at("never ends")
                .help("let one of them ask for more, or answer")
                .witness(facts.witness(&endless.witness, service.id));
            for other in endless
                .round
                .iter()
                .filter(|other| **other != endless.route)
            {
                if let Some(other) = service.routes.get(*other) {
                    finding = finding.label(other.name.span, "sends it on");
                }
            }
            cx.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(routes: &str) -> String {
        format!(
            r#"
            gateway public {{
                listen 80 {{ host "shop.example" "www.shop.example" }}
                listen 443 {{ host "shop.example"; tls certificate=shop }}
                allow unauthenticated {{ method GET }}
                {routes}
            }}"#
        )
    }

    #[test]
    fn circles_and_paths_that_grow_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0209",
            &with(
                "route one { match { path \"/a/{x}\" }; redirect path=\"/b/{x}\" }
                route two { match { path \"/b/{x}\" }; redirect path=\"/a/{x}\" }
                route three { match { path \"/c/**\" }; redirect path=\"/c/more/**\" }"
            )
        ));
    }

    #[test]
    fn another_scheme_or_host_that_answers_is_an_end() {
        none("MSH0209", &with(
            "route to-https { match { port 80; host \"shop.example\" }; redirect scheme=https }
                route www { match { port 80; host \"www.shop.example\" }; redirect host=\"shop.example\" }
                route shop { match { port 443 }; respond 200 }"
        ));
        none(
            "MSH0209",
            &with("route out { redirect host=\"elsewhere.example\" }"),
        );
    }

    #[test]
    fn to_https_and_back_is_a_circle() {
        insta::assert_snapshot!(findings(
            "MSH0209",
            &with(
                "route to-https { match { port 80 }; redirect scheme=https host=\"shop.example\" }
                route back { match { port 443 }; redirect scheme=http }"
            )
        ));
    }
}
