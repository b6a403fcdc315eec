//! `access/invariant-violated`

use mesh_compiler::analysis::entrance::Way;
use mesh_compiler::analysis::invariant::{self, Violation};
use mesh_compiler::linked::{Claim, ClaimKind, Invariant};
use mesh_syntax::{Confidence, Diagnostic, Level};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `invariant` that does not hold: somebody else than `only` says reaches a service, a path of
    /// permitted calls leads between what is `isolated`, or a request that must be `allowed` or `denied`
    /// is not. The finding shows the request, or the path with a request of its last hop.
    ///
    /// What is permitted counts, whether or not anybody declares to use it, and by whatever it is let in: a
    /// rule, a `probe`, or an `unmeshed` service, which lets in everybody and comes to others without an
    /// identity. What an authorizer is asked about it may let in or refuse: where a claim stands on that, the
    /// finding is a warning, and possible. Where nothing but a probe breaks `reaches`, it is a warning. A gateway counts as a hop of a service where it lets the service's identity in.
    ///
    /// ## Why it matters
    /// Rules are written service by service, by different teams. What must hold for all of them together
    /// is said once, and holds in every change.
    ///
    /// ## Examples
    /// ```kdl bad
    /// invariant "only checkout calls payments" { reaches payments { only checkout } }
    /// service checkout { port 80; endpoints { static "10.0.0.1:80" }; calls payments }
    /// service batch { port 80; endpoints { static "10.0.0.2:80" } }
    /// service payments { port 80; endpoints { static "10.0.0.3:80" }; allow checkout batch }
    /// ```
    /// ```kdl good
    /// invariant "only checkout calls payments" { reaches payments { only checkout } }
    /// service checkout { port 80; endpoints { static "10.0.0.1:80" }; calls payments }
    /// service batch { port 80; endpoints { static "10.0.0.2:80" } }
    /// service payments { port 80; endpoints { static "10.0.0.3:80" }; allow checkout }
    /// ```
    pub(crate) static INVARIANT_VIOLATED = {
        code: "MSH0817", name: "access/invariant-violated",
        summary: "what must hold for the whole mesh does not",
        level: Error, since: "0.2.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for invariant in &facts.mesh().invariants {
        for claim in &invariant.claims {
            if let Some(finding) = look(facts, invariant, claim) {
                cx.report(finding);
            }
        }
    }
}

fn look(facts: &Facts<'_>, invariant: &Invariant, claim: &Claim) -> Option<Diagnostic> {
    let mesh = facts.mesh();
    let text = &invariant.text.value;
    let violation = match invariant::violation(mesh, claim) {
        Ok(violation) => violation?,
        Err(why) => {
            let finding = INVARIANT_VIOLATED
                .at(
                    claim.span,
                    format!("whether \"{text}\" holds can't be decided: {why}"),
                )
                .help("make the rules that it speaks of simpler");
            return Some(possible(finding));
        }
    };
    let name = |id| mesh.service(id).name.value.as_str();
    Some(match violation {
        Violation::Request {
            to,
            witness,
            way,
            authorizer,
        } => {
            let service = name(to);
            let says = match &claim.kind {
                ClaimKind::Decided { allowed: true, .. } if authorizer.is_some() => {
                    format!(
                        "an authorizer of `{service}` may refuse a request that must be allowed"
                    )
                }
                ClaimKind::Decided { allowed: true, .. } => {
                    format!("`{service}` refuses a request that must be allowed")
                }
                ClaimKind::Decided { .. } => {
                    format!("`{service}` lets a request in that must be denied")
                }
                _ => format!("`{service}` lets in others than those named"),
            };
            let place = way.and_then(|way| way.span(mesh.service(to)));
            let decides = match way {
                Some(Way::Rule(_)) => "lets it in",
                Some(Way::Probe(_)) => "lets it in without an identity",
                Some(Way::Unguarded) => "has no proxy, so that nothing refuses it",
                None => "its rules decide",
            };
            let holds = match authorizer {
                Some(_) => "may not hold",
                None => "does not hold",
            };
            let finding = INVARIANT_VIOLATED
                .at(claim.span, format!("\"{text}\" {holds}: {says}"))
                .label(place.unwrap_or(mesh.service(to).name.span), decides)
                .help("change the rules of the service, or whoever wrote the invariant changes it");
            let finding = match way {
                // Hardly anybody thinks of it, and hardly anybody can do without it.
                Some(Way::Probe(_)) if matches!(claim.kind, ClaimKind::Reaches { .. }) => Diagnostic {
                    level: Level::Warning,
                    ..finding.help("say with `peer-ip` who looks whether the service lives, and suppress this with the reason")
                },
                _ => finding,
            };
            let asked = authorizer.and_then(|by| mesh.service(to).requirements.get(by));
            let finding = match asked {
                Some(asked) => {
                    let finding = match asked.source.span() {
                        Some(span) => {
                            finding.label(span, "an authorizer decides, which nobody knows here")
                        }
                        None => finding,
                    };
                    possible(finding)
                }
                None => finding,
            };
            match witness {
                Some(point) => finding.witness(facts.witness(&point, to)),
                None => possible(finding),
            }
        }
        Violation::Path {
            services,
            ways,
            witness,
            certain,
        } => {
            let path: Vec<&str> = services.iter().map(|id| name(*id)).collect();
            let mut finding = INVARIANT_VIOLATED
                .at(
                    claim.span,
                    format!(
                        "\"{text}\" does not hold: {} is permitted",
                        path.join(" → ")
                    ),
                )
                .help("take one of these permissions away");
            for (pair, way) in services.windows(2).zip(ways) {
                let [caller, callee] = pair else { continue };
                let callee = mesh.service(*callee);
                let place = way.and_then(|way| way.span(callee));
                finding = finding.label(
                    place.unwrap_or(callee.name.span),
                    format!("lets `{}` into `{}`", name(*caller), callee.name.value),
                );
            }
            if !certain {
                finding = possible(finding);
            }
            match (witness, services.last()) {
                (Some(point), Some(to)) => finding.witness(facts.witness(&point, *to)),
                _ => finding,
            }
        }
    })
}

/// What no request of the engine has shown may be wrong only on paper.
fn possible(finding: Diagnostic) -> Diagnostic {
    Diagnostic {
        level: Level::Warning,
        confidence: Confidence::Possible,
        ..finding
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const SERVICES: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" } }
        service checkout { port 80; endpoints { static "10.0.0.2:80" }; allow web { path "/buy/**" } }
        service batch { port 80; endpoints { static "10.0.0.3:80" }; allow web }
        service payments {
            port 80
            endpoints { static "10.0.0.4:80" }
            allow checkout
            allow batch { path "/report" }
            deny batch { method POST }
        }
    "#;

    fn policy(claim: &str) -> String {
        format!("invariant \"as agreed\" {{ {claim} }}\n{SERVICES}")
    }

    #[test]
    fn what_an_authorizer_decides_is_only_possible() {
        let with = |claim: &str, asked: &str| {
            format!(
                r#"
                invariant "as agreed" {{ {claim} }}
                authorizer door {{ to guard }}
                service guard {{ port 80; endpoints {{ static "10.0.0.9:80" }}; allow any }}
                service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
                service shop {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; require authorizer door {asked} }}"#
            )
        };
        let allowed = r#"allowed { from web; to shop; path "/a" }"#;
        let denied = r#"denied { from web; to shop; path "/a/**" }"#;
        insta::assert_snapshot!(findings("MSH0817", &with(allowed, "")));
        insta::assert_snapshot!(findings("MSH0817", &with(denied, "")));
        insta::assert_snapshot!(findings(
            "MSH0817",
            &with("isolated { from web; to shop }", "")
        ));
        // Where nobody is asked, it is as certain as ever.
        none("MSH0817", &with(allowed, r#"{ path "/b" }"#));
        let certain = findings("MSH0817", &with(denied, r#"{ path "/a/x" }"#));
        assert!(certain.starts_with("error"), "{certain}");
    }

    #[test]
    fn another_last_hop_is_shown() {
        insta::assert_snapshot!(findings(
            "MSH0817",
            &policy("reaches payments { only checkout }")
        ));
    }

    #[test]
    fn a_path_is_shown_hop_by_hop() {
        insta::assert_snapshot!(findings(
            "MSH0817",
            &policy("isolated { from web; to payments }")
        ));
    }

    #[test]
    fn a_request_decided_otherwise_is_shown() {
        insta::assert_snapshot!(findings(
            "MSH0817",
            &policy(
                r#"denied { from batch; to payments; method GET }
                   allowed { from checkout batch; to payments; path "/report" }"#
            )
        ));
    }

    #[test]
    fn a_way_through_a_gateway_is_a_way() {
        insta::assert_snapshot!(findings(
            "MSH0817",
            r#"
            invariant "the lab stays away from payments" { isolated { from lab; to payments } }
            gateway inner { listen 8080; allow lab; route pay { to payments } }
            service lab { port 80; endpoints { static "10.0.0.1:80" } }
            service payments { port 80; endpoints { static "10.0.0.4:80" }; allow inner }"#
        ));
    }

    #[test]
    fn ways_in_without_an_identity_are_ways() {
        let with = |how: &str| {
            format!(
                r#"invariant "only checkout calls payments" {{ reaches payments {{ only checkout }} }}
                service checkout {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
                service payments {{ port 80; endpoints {{ static "10.0.0.4:80" }}; allow checkout; {how} }}"#
            )
        };
        none("MSH0817", &with("allow unauthenticated { method GET }"));
        insta::assert_snapshot!(findings("MSH0817", &with("probe \"/healthz\"")));
        insta::assert_snapshot!(findings(
            "MSH0817",
            &with("mtls permissive; allow unauthenticated { method GET }")
        ));
        insta::assert_snapshot!(findings("MSH0817", &with("unmeshed")));
    }

    #[test]
    fn a_way_through_what_has_no_proxy_is_a_way() {
        insta::assert_snapshot!(findings(
            "MSH0817",
            r#"
            invariant "the lab stays away from payments" { isolated { from lab; to payments } }
            service lab { port 80; endpoints { static "10.0.0.1:80" } }
            service legacy { port 80; endpoints { static "10.0.0.3:80" }; unmeshed }
            service payments { port 80; endpoints { static "10.0.0.4:80" }; mtls permissive; allow unauthenticated { path "/pay" } }"#
        ));
    }

    #[test]
    fn what_holds_is_silent() {
        for claim in [
            "reaches payments { only checkout batch }",
            "isolated { from payments; to web batch }",
            "isolated { from checkout; to batch }",
            r#"denied { from batch; to payments; method POST }"#,
            r#"denied { from unauthenticated any; to web }"#,
            r#"allowed { from batch; to payments; path "/report"; not { method POST } }"#,
            r#"allowed { from web; to checkout; path "/buy/*"; header x-y }"#,
        ] {
            none("MSH0817", &policy(claim));
        }
    }
}
