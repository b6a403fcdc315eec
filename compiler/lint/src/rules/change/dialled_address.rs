//! `rollout/dialled-address`

use std::net::SocketAddr;

use mesh_compiler::diff::Change;
use mesh_compiler::linked::{Call, Service};

use crate::rule::{Rule, RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An address of `calls NAME { listen "…" }` that is moved or dropped, or that leads to another service or port than
    /// before, of a caller that stays. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// It is the address that the application of the caller is configured to dial. Its proxy gives the address up as
    /// soon as it has the change, and every connection of an application that was not changed at that very
    /// moment is refused, or ends at somebody else.
    ///
    /// ## Examples
    /// ```kdl base
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls db { listen "127.0.0.1:15432" } }
    /// service db { port 5432 protocol=tcp; endpoints { static "10.0.0.2:5432" }; allow web }
    /// ```
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls db { listen "127.0.0.1:15433" } }
    /// service db { port 5432 protocol=tcp; endpoints { static "10.0.0.2:5432" }; allow web }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls db { listen "127.0.0.1:15432"; timeout connect="1s" } }
    /// service db { port 5432 protocol=tcp; endpoints { static "10.0.0.2:5432" }; allow web }
    /// ```
    pub(crate) static DIALLED_ADDRESS = {
        code: "MSH1113", name: "rollout/dialled-address",
        summary: "an address that an application dials is given up",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let change = change.meshes();
    for kept in change.kept() {
        let before = change.base.service(kept.base);
        let after = change.head.service(kept.head);
        for call in &before.calls {
            if let Some((address, port)) = &call.listen {
                look(cx, change, (call, address.value, *port), after);
            }
        }
    }
}

fn look(
    cx: &mut RuleContext<'_>,
    change: Change<'_>,
    (was, address, port): (&Call, SocketAddr, u16),
    after: &Service,
) {
    let rule: &Rule = &DIALLED_ADDRESS;
    let target = &change.base.service(was.callee.value).name.value;
    let name = |call: &Call| &change.head.service(call.callee.value).name.value;
    let listens = |call: &&Call| {
        let listen = call.listen.as_ref();
        listen.is_some_and(|(listen, _)| listen.value == address)
    };
    let caller = &after.name.value;
    let same = after.calls.iter().find(listens);
    let (span, becomes) = match same {
        Some(call) if name(call) == target => match &call.listen {
            Some((listen, now)) if *now != port => (
                listen.span,
                format!("leads to port {now} of `{target}` instead of {port}"),
            ),
            _ => return,
        },
        Some(call) => {
            let listen = call.listen.as_ref();
            (
                listen.map_or(call.span, |(listen, _)| listen.span),
                format!("leads to `{}` instead of `{target}`", name(call)),
            )
        }
        None => {
            let mut calls = after.calls.iter();
            let call = calls.find(|call| name(call) == target);
            let listen = call.and_then(|call| call.listen.as_ref());
            let gone = match listen {
                Some((now, _)) => format!("is given up for {}", now.value),
                None => "is given up".to_owned(),
            };
            let span = listen.map(|(now, _)| now.span);
            let span = span.or(call.map(|call| call.callee.span));
            (span.unwrap_or(after.name.span), gone)
        }
    };
    let message =
        format!("{address}, where the application of `{caller}` dials `{target}`, {becomes}");
    cx.report(
        rule.at(span, message)
            .about(caller)
            .help("keep the address while any instance of the application dials it; where it is dialled no more, this is right"),
    );
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(calls: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {calls} }}
            service db {{ port 5432 protocol=tcp; endpoints {{ static "10.0.0.2:5432" }}; allow web }}
            service log {{ port 5432 protocol=tcp; endpoints {{ static "10.0.0.3:5432" }}; allow web }}"#
        )
    }

    const LISTENS: &str = r#"calls db { listen "127.0.0.1:15432" }"#;

    #[test]
    fn an_address_that_moves_or_goes_is_found() {
        let check = |calls: &str| changes("MSH1113", &with(LISTENS), &with(calls));
        insta::assert_snapshot!(check(r#"calls db { listen "127.0.0.1:15433" }"#));
        insta::assert_snapshot!(check("calls db"));
        insta::assert_snapshot!(check(""));
        insta::assert_snapshot!(check(r#"calls db; calls log { listen "127.0.0.1:15432" }"#));
    }

    #[test]
    fn an_address_that_stays_or_comes_is_none() {
        let check = |before: &str, after: &str| {
            assert_eq!(changes("MSH1113", &with(before), &with(after)), "");
        };
        check(LISTENS, LISTENS);
        check("calls db", LISTENS);
        check("", LISTENS);
    }
}
