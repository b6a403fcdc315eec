//! `timeouts/idle-inversion`

use std::collections::BTreeMap;

use mesh_compiler::value::duration_text;
use mesh_engine::limits::IDLE_TIMEOUT;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;

declare_rule! {
    /// ## What it flags
    /// A `timeout idle=` of a minute or more for calls to a service of the mesh: its proxy ends connections that were silent
    /// for a minute, so it is not the caller's that does. How long applications and services outside keep idle connections
    /// cannot be declared.
    ///
    /// ## Why it matters
    /// Whoever sends must be the first to let go. Else a request goes out on a connection that the other side has just
    /// closed, and fails now and then without a reason that anybody finds.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "5s" idle="5m" }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "5s" idle="30s" }
    /// ```
    pub(crate) static IDLE_INVERSION = {
        code: "MSH0507", name: "timeouts/idle-inversion",
        summary: "the server closes idle connections before the client does",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let idle = &at.exchange.idle;
        let (Some(kept), Some(span)) = (idle.value, idle.source.span()) else {
            continue;
        };
        let is_meshed = !at.callee.is_external() && at.callee.reach.unmeshed.is_none();
        if kept < IDLE_TIMEOUT || !is_meshed {
            continue;
        }
        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            IDLE_INVERSION
                .at(
                    span,
                    format!(
                        "idle connections are kept for {}, and the other proxy ends them after {} ({})",
                        duration_text(kept),
                        duration_text(IDLE_TIMEOUT),
                        at.words(),
                    ),
                )
                .help("let go first: 45 s or less")
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_other_proxy_lets_go_after_a_minute() {
        insta::assert_snapshot!(findings(
            "MSH0507",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; timeout "5s" idle="90s" }"#
        ));
    }

    #[test]
    fn what_is_outside_has_times_of_its_own() {
        none(
            "MSH0507",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; timeout "5s" idle="59s" }
            external a { host "a.example"; port 80; allow web; timeout "5s" idle="90s" }"#,
        );
    }
}
