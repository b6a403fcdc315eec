//! `access/access-narrowed`

use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A caller that declares to call a service, and some of whose requests were let in and are
    /// refused now, with one of them. Found with `meshc check --base REF`. Where nothing of it gets in
    /// any more, that is MSH0114.
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
    let mesh = facts.mesh();
    for each in change.access() {
        let callee = mesh.service(each.service.head);
        for loss in each.lost.iter().filter(|loss| !loss.entirely) {
            let caller = mesh.service(loss.caller.head);
            let (from, to) = (&caller.name.value, &callee.name.value);
            // What must change is with the callee; a `deny` that refuses the request is the place.
            let edge = mesh.edge(caller.id, callee.id);
            let admits = edge.and_then(|edge| edge.permitted.first());
            let rule: Option<Span> = admits
                .and_then(|rule| callee.access.get(*rule))
                .and_then(|rule| rule.source.span());
            let mut finding = ACCESS_NARROWED
                .at(
                    rule.unwrap_or(callee.name.span),
                    format!("`{to}` refuses some requests of `{from}` that the base lets in"),
                )
                .at("lets in less than before")
                .help(format!(
                    "if `{from}` still sends such requests, let them in; a `deny … mode=audit` first shows in the logs whether it does"
                ));
            if let Some(call) = edge
                .and_then(|edge| edge.declared.first())
                .and_then(|call| caller.calls.get(*call))
            {
                finding = finding.label(call.callee.span, "declares to call it");
            }
            finding = match &loss.witness {
                Some(point) => finding.witness(facts.witness(point, callee.id)),
                None => finding,
            };
            // That the request is refused is certain, that it is sent is not.
            cx.report(finding.possible());
        }
    }
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
    fn what_is_lost_entirely_has_a_finding_of_its_own() {
        let before = format!("{WEB} allow web }}");
        let after = format!("{WEB} allow other }}");
        assert_eq!(changes("MSH0811", &before, &after), "");
    }
}
