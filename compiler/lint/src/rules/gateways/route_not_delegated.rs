//! `gateways/route-not-delegated`

use mesh_compiler::analysis::gateways;
use mesh_compiler::linked::{DelegatedRoute, Gateway, Service};
use mesh_syntax::Diagnostic;

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A route of a gateway in a file of its own, which may take requests that the gateway does not
    /// `delegate` to the team that owns the file. Where this can't be decided, the route is refused too:
    /// delegating is a permission.
    ///
    /// ## Why it matters
    /// A gateway is shared. A route that takes more than its team was given takes requests away from
    /// other teams, or answers for a host that is not theirs.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh m { trust-domain "m.example"; team reviews { owns "reviews/**"; service reviews } }
    /// gateway public { listen 8080; allow unauthenticated; delegate reviews { path "/reviews/**" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow public }
    /// // file: reviews/routes.kdl
    /// route reviews gateway=public { match { path "/**" }; to reviews }
    /// ```
    /// ```kdl good
    /// mesh m { trust-domain "m.example"; team reviews { owns "reviews/**"; service reviews } }
    /// gateway public { listen 8080; allow unauthenticated; delegate reviews { path "/reviews/**" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow public }
    /// // file: reviews/routes.kdl
    /// route reviews gateway=public { match { path "/reviews/**"; method GET }; to reviews }
    /// ```
    pub(crate) static ROUTE_NOT_DELEGATED = {
        code: "MSH0106", name: "gateways/route-not-delegated",
        summary: "a team's route takes requests of a gateway that are not delegated to it",
        level: Error, since: "0.2.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for service in &facts.mesh().services {
        let Some(gateway) = service.gateway() else {
            continue;
        };
        for delegated in &gateway.delegated {
            if let Some(finding) = look(facts, service, gateway, delegated) {
                cx.report(finding);
            }
        }
    }
}

fn look(
    facts: &Facts<'_>,
    service: &Service,
    gateway: &Gateway,
    delegated: &DelegatedRoute,
) -> Option<Diagnostic> {
    let route = service.routes.get(delegated.route)?;
    let (name, owner) = (&route.name.value, &service.name.value);
    let Some(team) = facts.mesh().owner(route.name.span.file) else {
        return Some(
            ROUTE_NOT_DELEGATED
                .at(
                    delegated.gateway_span,
                    format!("the route `{name}` stands in a file that no team owns"),
                )
                .label(
                    service.name.span,
                    format!("`{owner}` delegates to teams only"),
                )
                .help(
                    "write the route inside the gateway, or give the file to a `team` with `owns`",
                ),
        );
    };
    let team = &team.name.value;
    let grants: Vec<_> = gateway
        .delegates
        .iter()
        .filter(|delegate| delegate.team.value == *team)
        .collect();
    if grants.is_empty() {
        return Some(
            ROUTE_NOT_DELEGATED
                .at(
                    delegated.gateway_span,
                    format!("`{owner}` delegates nothing to `{team}`, whose file this is"),
                )
                .label(service.name.span, format!("no `delegate {team}` here"))
                .help(format!(
                    "whoever owns the gateway adds `delegate {team} {{ path \"/{team}/**\" }}`"
                )),
        );
    }
    let finding = |message: String| {
        let mut finding = ROUTE_NOT_DELEGATED.at(route.name.span, message);
        for grant in &grants {
            finding = finding.label(grant.span, format!("what `{owner}` delegates to `{team}`"));
        }
        finding
    };
    let beyond = match gateways::beyond(facts.mesh(), service.id, delegated) {
        Ok(beyond) => beyond?,
        Err(why) => {
            return Some(
                finding(format!(
                    "whether `{name}` stays within what is delegated to `{team}` can't be decided: {why}"
                ))
                .help("make its matches simpler, or delegate more"),
            );
        }
    };
    let finding = finding(format!(
        "the route `{name}` takes requests that `{owner}` does not delegate to `{team}`"
    ))
    .help("narrow its `match`, or have the gateway's owner delegate more");
    Some(match beyond.witness {
        Some(point) => finding.witness(facts.witness(&point, service.id)),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn policy(delegates: &str, route: &str) -> String {
        format!(
            r#"
            mesh m {{ trust-domain "m.example"; team reviews {{ owns "*.kdl"; service reviews }}; team pay {{ owns "pay/**" }} }}
            gateway public {{ listen 8080 {{ host "shop.example" }}; allow unauthenticated; {delegates} }}
            service reviews {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public }}
            route reviews gateway=public {{ {route} to reviews }}"#
        )
    }

    #[test]
    fn a_route_beyond_its_grant_is_found_with_a_request() {
        insta::assert_snapshot!(findings(
            "MSH0106",
            &policy(
                r#"delegate reviews { path "/reviews/**"; method GET }"#,
                r#"match { path "/reviews/**" };"#
            )
        ));
    }

    #[test]
    fn a_team_without_a_grant_is_told_so() {
        insta::assert_snapshot!(findings(
            "MSH0106",
            &policy(r#"delegate pay { path "/pay/**" }"#, "")
        ));
    }

    #[test]
    fn a_file_without_an_owner_has_no_grant() {
        insta::assert_snapshot!(findings(
            "MSH0106",
            r#"
            gateway public { listen 8080; allow unauthenticated }
            service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow public }
            route reviews gateway=public { to reviews }"#
        ));
    }

    #[test]
    fn grants_add_up() {
        none(
            "MSH0106",
            &policy(
                r#"delegate reviews { path "/reviews/**"; method GET }
                   delegate reviews { path "/reviews/**"; not { method GET } }"#,
                r#"match { path "/reviews/*" }; match { path "/reviews/x/{id}"; host "shop.example" };"#,
            ),
        );
    }
}
