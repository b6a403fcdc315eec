//! `source/unused-definition`

use std::collections::BTreeSet;

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::{Service, ServiceId, Target};
use mesh_compiler::model::{RequirementKind, Spanned};
use mesh_syntax::{Diagnostic, Edit, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A definition that nothing takes up: a `policy` that nobody uses, a `subset` that no route, `else`, `mirror` or
    /// authorizer leads to, a `jwt` or an `authorizer` that nothing requires. Services are not looked at, for requests may
    /// come to them from outside. Where several environments are checked, one that is used in any of them is used.
    ///
    /// ## Why it matters
    /// It reads like something that is in force. Most often the line that should use it was lost.
    ///
    /// ## Examples
    /// ```kdl bad
    /// policy resilient { retry reset attempts=2; retry-budget "20%" }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// ```
    /// ```kdl good
    /// policy resilient { retry reset attempts=2; retry-budget "20%" }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; use resilient }
    /// ```
    pub(crate) static UNUSED_DEFINITION = {
        code: "MSH0018", name: "source/unused-definition", summary: "definition that nothing uses",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for policy in mesh.policies.iter().filter(|policy| !policy.used) {
        cx.report(finding(
            "policy",
            &policy.name,
            policy.span,
            "no `use` names it",
        ));
    }
    let taken = subsets(mesh);
    for service in &mesh.services {
        for (index, subset) in service.subsets.iter().enumerate() {
            if !taken.contains(&(service.id, index)) {
                cx.report(finding(
                    "subset",
                    &subset.name,
                    subset.span,
                    "nothing leads to it",
                ));
            }
        }
    }
    let required = |wanted: fn(RequirementKind) -> bool| -> BTreeSet<usize> {
        let all = mesh
            .services
            .iter()
            .flat_map(|service| &service.requirements);
        all.filter(|requirement| wanted(requirement.kind))
            .map(|requirement| requirement.provider)
            .collect()
    };
    let jwts = required(|kind| !matches!(kind, RequirementKind::RequireAuthorizer));
    for (index, jwt) in mesh.jwts.iter().enumerate() {
        if !jwts.contains(&index) {
            cx.report(finding(
                "jwt",
                &jwt.name,
                jwt.span,
                "nothing requires or accepts it",
            ));
        }
    }
    let authorizers = required(|kind| matches!(kind, RequirementKind::RequireAuthorizer));
    for (index, authorizer) in mesh.authorizers.iter().enumerate() {
        if !authorizers.contains(&index) {
            cx.report(finding(
                "authorizer",
                &authorizer.name,
                authorizer.span,
                "nothing requires it",
            ));
        }
    }
}

fn finding(kind: &str, name: &Spanned<String>, whole: Span, why: &str) -> Diagnostic {
    UNUSED_DEFINITION
        .at(
            name.span,
            format!("the {kind} `{}` is not used", name.value),
        )
        .at(why.to_owned())
        .help("use it, or remove it")
        .unsafe_fix(format!("remove the {kind}"), vec![Edit::new(whole, "")])
}

/// The subsets that requests are sent to, or may be.
fn subsets(mesh: &LinkedMesh) -> BTreeSet<(ServiceId, usize)> {
    let of_service = |service: &Service| -> Vec<Target> {
        let routes = service.routes.iter();
        let targets = routes.flat_map(|route| {
            let copies = route.actions.mirrors.iter().map(|mirror| mirror.target);
            let sent = route.destinations.iter();
            sent.flat_map(|to| std::iter::once(to.target).chain(to.otherwise.iter().copied()))
                .chain(copies)
        });
        let counted = service.rate_limits.iter();
        let counted = counted.filter_map(|limit| Some(limit.via.as_ref()?.0.value));
        targets.chain(counted).collect()
    };
    let asked = mesh
        .authorizers
        .iter()
        .map(|authorizer| authorizer.to.value);
    let sent = mesh.services.iter().flat_map(of_service);
    sent.chain(asked)
        .filter_map(|target| Some((target.service, target.subset?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, fixed, none};

    const POLICY: &str = r#"
        policy idle { timeout "2s" }
        policy busy { timeout "3s" }
        jwt nobody { issuer "https://id.example"; audience "a"; jwks file="keys/public.jwks.json" }
        authorizer door { to keeper }
        service keeper { port 80; endpoints { static "10.0.0.3:80" } }
        service a {
            port 80
            endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
            subset v1 { labels version=v1 }
            subset v2 { labels version=v2 }
            subset spare { labels version=v1 }
            use busy
            route all { to v1 { else v2 } }
        }"#;

    #[test]
    fn each_kind_is_looked_at_and_can_be_removed() {
        insta::assert_snapshot!(findings("MSH0018", POLICY));
        none("MSH0018", &fixed("MSH0018", POLICY));
    }

    #[test]
    fn what_is_used_anywhere_is_used() {
        none(
            "MSH0018",
            r#"
        mesh m { trust-domain "m.example"; defaults { use busy; require jwt known { not { path "/login" } } } }
        policy busy { timeout "3s" }
        jwt known { issuer "https://id.example"; audience "a"; jwks file="keys/public.jwks.json" }
        gateway public { listen 8080; allow unauthenticated; require authorizer door; route all { to a subset=v1 } }
        authorizer door { to a subset=v2 }
        service a {
            port 80
            endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
            subset v1 { labels version=v1 }
            subset v2 { labels version=v2 }
            allow public
        }"#,
        );
    }
}
