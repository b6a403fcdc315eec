//! `access/access-narrowed`

use mesh_compiler::analysis::entrance::Refused;
use mesh_compiler::diff::Kept;
use mesh_compiler::diff::access::{AccessChange, closed};
use mesh_syntax::{Diagnostic, Span};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A caller that declares to call a service, and some of whose requests were let in and are
    /// refused now, with one of them. Found with `meshc check --base REF`. Where nothing of it gets in
    /// any more, that is MSH0114. The same for peers without an identity: clients of a gateway that lost a
    /// host or a route, or that find the whole gateway gone, and whatever has no proxy of the mesh and came in plaintext.
    ///
    /// ## Why it matters
    /// If the caller sends such requests, they end with 403 the moment this is deployed. Whether it
    /// does, its declaration does not say.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; deny productpage mode=audit { not { method GET } } }
    /// ```
    pub(crate) static ACCESS_NARROWED = {
        code: "MSH0811", name: "access/access-narrowed",
        summary: "a declared caller is refused what it was allowed",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    for each in change.access() {
        for loss in &each.lost {
            let finding = match loss.caller {
                // That it is all is MSH0114.
                Some(_) if loss.entirely => continue,
                Some(caller) => declared(facts, each, caller),
                None => strangers(facts, each),
            };
            let mut finding = match loss.now.and_then(because) {
                Some(because) => {
                    finding.label(facts.mesh().service(each.service.head).name.span, because)
                }
                None => finding,
            };
            finding = match &loss.witness {
                Some(point) => finding.witness(facts.witness(point, each.service.head)),
                None => finding,
            };
            // That the request is refused is certain, that it is sent is not.
            cx.report(finding.possible());
        }
    }
    let base = change.meshes().base;
    for (gateway, point) in closed(change.meshes()) {
        let name = &base.service(gateway).name.value;
        let several = base.service(gateway).ports.len() > 1;
        let message =
            format!("the gateway `{name}` is gone, through which requests came in from outside");
        let finding = ACCESS_NARROWED.at(facts.mesh().name.span, message);
        cx.report(
            finding
                .at("has it no more")
                .help("if clients still send such requests, keep it until they go elsewhere")
                .witness(point.to_witness(None, name.clone(), several))
                .possible(),
        );
    }
}

/// Why the head refuses a request, where that is not its rules.
fn because(now: Refused) -> Option<&'static str> {
    match now {
        Refused::Plaintext => Some("takes only mutual TLS now"),
        Refused::Identity => Some("takes only plaintext now"),
        Refused::NoToken(_) => Some("asks for a token now"),
        Refused::Unheard => Some("does not listen there any more"),
        Refused::NoRoute => Some("no route takes it any more"),
        Refused::Denied(_) | Refused::NoRule | Refused::Answered => None,
    }
}

fn declared(facts: &Facts<'_>, each: &AccessChange, caller: Kept) -> Diagnostic {
    let mesh = facts.mesh();
    let callee = mesh.service(each.service.head);
    let caller = mesh.service(caller.head);
    let (from, to) = (&caller.name.value, &callee.name.value);
    // What must change is with the callee; a `deny` that refuses the request is the place.
    let edge = mesh.edge(caller.id, callee.id);
    let admits = edge.and_then(|edge| edge.permitted.first());
    let rule: Option<Span> = admits
        .and_then(|rule| callee.access.get(*rule))
        .and_then(|rule| rule.source.span());
    let finding = ACCESS_NARROWED
        .at(
            rule.unwrap_or(callee.name.span),
            format!("`{to}` refuses some requests of `{from}` that the base lets in"),
        )
        .at("lets in less than before")
        .about(to)
        .help(format!(
            "if `{from}` still sends such requests, let them in; a `deny … mode=audit` first shows in the logs whether it does"
        ));
    match edge
        .and_then(|edge| edge.declared.first())
        .and_then(|call| caller.calls.get(*call))
    {
        Some(call) => finding.label(call.callee.span, "declares to call it"),
        None => finding,
    }
}

/// Peers without an identity: of a gateway its clients, of a service probes and whoever has no proxy.
fn strangers(facts: &Facts<'_>, each: &AccessChange) -> Diagnostic {
    let service = facts.mesh().service(each.service.head);
    let name = &service.name;
    let (who, help) = if service.gateway().is_some() {
        (
            "some requests from outside",
            "if clients still send such requests, let them in, or answer them with a route of their own",
        )
    } else {
        (
            "some requests in plaintext",
            "if something without a proxy still sends such requests, let it in: `mtls permissive` with `allow unauthenticated`, or `probe`",
        )
    };
    ACCESS_NARROWED
        .at(
            name.span,
            format!("`{}` refuses {who} that the base lets in", name.value),
        )
        .at("lets in less than before")
        .help(help)
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    const WEB: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service other { port 80; endpoints { static "10.0.0.3:80" } }
        service a { port 80; endpoints { static "10.0.0.2:80" }; "#;

    #[test]
    fn a_declared_caller_that_loses_a_part_is_found() {
        insta::assert_snapshot!(changes(
            "MSH0811",
            &format!("{WEB} allow web other }}"),
            &format!("{WEB} allow web other; deny {{ header debug }} }}"),
        ));
    }

    #[test]
    fn who_declares_no_call_may_lose_its_right() {
        let before = format!("{WEB} allow web other }}");
        let after = format!("{WEB} allow web }}");
        assert_eq!(changes("MSH0811", &before, &after), "");
    }

    #[test]
    fn plaintext_and_clients_that_are_refused_now_are_found() {
        let with = |mode: &str| {
            format!("{WEB} {mode}; allow web; allow unauthenticated {{ method GET }} }}")
        };
        insta::assert_snapshot!(changes(
            "MSH0811",
            &with("mtls permissive"),
            &with("mtls strict")
        ));
        let with = |routes: &str| {
            format!(
                r#"gateway public {{ listen 80; allow unauthenticated; route near {{ match {{ path "/a" }}; to a }}; {routes} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public }}"#
            )
        };
        insta::assert_snapshot!(changes("MSH0811", &with("route all { to a }"), &with("")));
    }

    #[test]
    fn what_is_lost_entirely_has_a_finding_of_its_own() {
        let before = format!("{WEB} allow web }}");
        let after = format!("{WEB} allow other }}");
        assert_eq!(changes("MSH0811", &before, &after), "");
    }

    #[test]
    fn a_gateway_that_is_gone_is_missed_outside() {
        let service = r#"service a { port 80; endpoints { static "10.0.0.2:80" }; allow any }"#;
        let gateway = r"gateway public { listen 80; allow unauthenticated; route all { to a } }";
        insta::assert_snapshot!(changes(
            "MSH0811",
            &format!("{gateway}\n{service}"),
            service
        ));
    }
}
