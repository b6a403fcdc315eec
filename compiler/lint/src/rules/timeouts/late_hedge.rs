//! `timeouts/late-delay`

use std::collections::BTreeMap;

use mesh_compiler::value::duration_text;
use mesh_syntax::Diagnostic;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::{At, exchanges};

declare_rule! {
    /// ## What it flags
    /// A `hedge` whose delay is no shorter than the time of a try or of the whole exchange, and a `fault`
    /// that delays requests by as long: each of them then ends in a timeout.
    ///
    /// ## Why it matters
    /// The second try never joins the first: whatever the hedge was to mend stays as it is.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "1s"; hedge "1s" }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "1s"; hedge "200ms" }
    /// ```
    pub(crate) static LATE_HEDGE = {
        code: "MSH0512", name: "timeouts/late-delay",
        summary: "a delay that a timeout does not wait for",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    let mut faults = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        let exchange = at.exchange;
        if let Some(finding) = late_fault(&at) {
            cx.report_once(&mut faults, finding.span, &at.callee.name.value, || finding);
        }
        let Some(delay) = exchange.hedge.value else {
            continue;
        };
        let limits = [&exchange.per_try, &exchange.timeout];
        let limit = limits
            .into_iter()
            .filter(|limit| limit.value.is_some())
            .min_by_key(|limit| limit.value);
        let Some((limit, most)) = limit.and_then(|limit| Some((limit, limit.value?))) else {
            continue;
        };
        let Some(span) = exchange.hedge.source.span().filter(|_| delay >= most) else {
            continue;
        };
        let key = (span, limit.source);
        let mut finding = LATE_HEDGE
            .at(
                span,
                format!(
                    "the second try begins after {}, and the first is given up after {} ({})",
                    duration_text(delay),
                    duration_text(most),
                    at.words(),
                ),
            )
            .help("hedge after about the time that nineteen of twenty calls take");
        if let Some(limit) = limit.source.span() {
            finding = finding.label(limit, "given up");
        }
        cx.report_once(&mut reported, key, &at.callee.name.value, || finding);
    }
}

/// A delay on purpose that is no delay but a timeout.
fn late_fault(at: &At<'_>) -> Option<Diagnostic> {
    // The fault of a gateway's route is told where it leads, and any other with its own route.
    let holder = match (at.caller, at.by) {
        (None, _) => at.route,
        (Some(_), by) => by?,
    };
    let delay = holder.actions.fault?.delay?;
    let timeout = at.exchange.timeout.value?;
    if delay.value.by < timeout {
        return None;
    }
    let finding = LATE_HEDGE
        .at(
            delay.span,
            format!(
                "a delay of {} lets every such request time out after {} ({})",
                duration_text(delay.value.by),
                duration_text(timeout),
                at.words(),
            ),
        )
        .help("delay by less than the timeout, or say `abort 504` if that is what is to happen");
    Some(match at.exchange.timeout.source.span() {
        Some(timeout) => finding.label(timeout, "given up"),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn it_never_joins() {
        insta::assert_snapshot!(findings(
            "MSH0512",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "1s"; hedge "2s" }"#
        ));
    }

    #[test]
    fn a_delay_that_is_a_timeout() {
        insta::assert_snapshot!(findings(
            "MSH0512",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "1s"; route all { fault until="2099-01-01" { delay "2s" } } }"#
        ));
    }

    #[test]
    fn it_joins_in_time() {
        none(
            "MSH0512",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout "1s"; hedge "200ms" }"#,
        );
    }
}
