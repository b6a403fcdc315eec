//! `access/open-on-failure`

use mesh_bundle::slice::OnFailure;
use mesh_compiler::model::RequirementKind;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An authorizer that lets requests in when it gives no answer, and that something requires.
    ///
    /// ## Why it matters
    /// Whoever can make it slow, or reach the service while it is down, is let in unasked.
    ///
    /// ## Examples
    /// ```kdl bad
    /// authorizer gate { to opa; on-failure allow }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; require authorizer gate }
    /// service opa { port 80; endpoints { static "10.0.0.3:80" }; allow a }
    /// ```
    /// ```kdl good
    /// authorizer gate { to opa; on-failure deny }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; require authorizer gate }
    /// service opa { port 80; endpoints { static "10.0.0.3:80" }; allow a }
    /// ```
    pub(crate) static OPEN_ON_FAILURE = {
        code: "MSH0815", name: "access/open-on-failure",
        summary: "an authorizer that lets in what it does not answer",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for (index, authorizer) in mesh.authorizers.iter().enumerate() {
        if authorizer.on_failure.value != OnFailure::Allow {
            continue;
        }
        let requires = |service: &&mesh_compiler::linked::Service| {
            service.requirements.iter().any(|each| {
                each.kind == RequirementKind::RequireAuthorizer && each.provider == index
            })
        };
        let Some(service) = mesh.services.iter().find(requires) else {
            continue;
        };
        cx.report(
            OPEN_ON_FAILURE
                .at(
                    authorizer.on_failure.span,
                    format!(
                        "`{}` lets requests into `{}` when it gives no answer",
                        authorizer.name.value, service.name.value
                    ),
                )
                .at("open when it fails")
                .label(service.name.span, "requires its word")
                .help("write `on-failure deny`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(on_failure: &str, lines: &str) -> String {
        format!(
            r#"
            authorizer gate {{ to opa; {on_failure} }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; {lines} }}
            service opa {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow a }}"#
        )
    }

    #[test]
    fn an_authorizer_that_fails_open_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0815",
            &with("on-failure allow", "require authorizer gate")
        ));
    }

    #[test]
    fn one_that_nothing_requires_opens_nothing() {
        none("MSH0815", &with("on-failure allow", ""));
        none(
            "MSH0815",
            &with("on-failure deny", "require authorizer gate"),
        );
    }
}
