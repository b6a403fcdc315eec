//! `retries/unrepeatable-body`

use std::collections::BTreeMap;

use mesh_bundle::slice::{Condition, Protocol, RetryCause};
use mesh_compiler::linked::Route;
use mesh_engine::limits::REPLAY_BYTES_MAX;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::exchanges;
use crate::rules::words::size;

declare_rule! {
    /// ## What it flags
    /// A service that takes larger bodies (`limits body=`) than a proxy keeps to send them again, 64 KiB, on routes that
    /// retry or hedge requests with bodies.
    ///
    /// ## Why it matters
    /// A request whose body is larger is sent once: what is tried again for small requests fails for large ones. Without
    /// `limits body=` nobody says how large they are, and nothing is flagged.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service uploads {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     limits body="10MiB"
    ///     retry "5xx" attempts=2
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service uploads {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     limits body="64KiB"
    ///     retry "5xx" attempts=2
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static UNREPEATABLE_BODY = {
        code: "MSH0415", name: "retries/unrepeatable-body",
        summary: "bodies that are too large to be sent again",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let kept = u64::try_from(REPLAY_BYTES_MAX).unwrap_or(u64::MAX);
    let mut reported = BTreeMap::new();
    for at in exchanges(cx.facts()) {
        // A subset, or another service that the route leads to, has limits of its own.
        let pools = at.route.destinations.iter();
        let bodies = pools.map(|to| &cx.facts().mesh().pool(to.target).limits.body);
        let largest = bodies.filter(|body| body.value.is_some());
        let Some(body) = largest.max_by_key(|body| body.value) else {
            continue;
        };
        let (Some(most), Some(span)) = (body.value, body.source.span()) else {
            continue;
        };
        let exchange = at.exchange;
        let late = exchange.causes.value.iter().copied().any(comes_late);
        let hedges = exchange.hedge.value.is_some() && exchange.hedge_attempts.value > 1;
        let again = (at.retries() && late).then_some(exchange.causes.source);
        let again = again.or(hedges.then_some(exchange.hedge.source));
        let requests =
            |wanted: Protocol| at.callee.ports.iter().any(|port| port.protocol == wanted);
        let of_requests = requests(Protocol::Http) || requests(Protocol::Grpc);
        let Some(again) =
            again.filter(|_| most > kept && of_requests && at.routes().all(takes_bodies))
        else {
            continue;
        };
        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            let finding = UNREPEATABLE_BODY
                .at(
                    span,
                    format!(
                        "bodies of up to {} are taken, and only those of up to {} are sent again ({})",
                        size(most),
                        size(kept),
                        at.words(),
                    ),
                )
                .help("take smaller bodies, or leave it to the caller to send large ones again")
                .number("kept_bytes", f64::from(u32::try_from(kept).unwrap_or(u32::MAX)));
            match again.span() {
                Some(other) if other != span => finding.label(other, "sent again"),
                _ => finding,
            }
        });
    }
}

/// Whether a part of the body may have gone by then.
const fn comes_late(cause: RetryCause) -> bool {
    !matches!(
        cause,
        RetryCause::ConnectFailure | RetryCause::ResetBeforeRequest
    )
}

/// Methods whose requests have no body that anything reads (RFC 9110, 9.3).
const WITHOUT_BODY: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];

fn takes_bodies(route: &Route) -> bool {
    let without = |condition: &Condition| match condition {
        Condition::Method(methods) => methods
            .iter()
            .all(|method| WITHOUT_BODY.contains(&method.as_str())),
        _ => false,
    };
    let mut matches = route.matches.iter();
    route.matches.is_empty()
        || matches.any(|each| !each.conditions.iter().any(|each| without(&each.value)))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(rest: &str) -> String {
        format!(
            r#"service a {{ port 80; endpoints {{ static "10.0.0.1:80" "10.0.0.2:80" }}; {rest} }}"#
        )
    }

    #[test]
    fn what_is_kept_and_what_is_taken_differ() {
        insta::assert_snapshot!(findings(
            "MSH0415",
            &with("limits body=\"1MiB\"; retry reset \"5xx\" attempts=2")
        ));
    }

    #[test]
    fn small_bodies_none_and_those_that_have_not_gone_can_be_sent_again() {
        for rest in [
            "limits body=\"64KiB\"; retry \"5xx\" attempts=2",
            "limits body=\"1MiB\"; retry connect-failure attempts=2",
            "limits body=\"1MiB\"; retry \"5xx\" attempts=1",
            "limits body=\"1MiB\"; route read { match { method GET }; retry \"5xx\" attempts=2 }; route rest",
            "retry \"5xx\" attempts=2",
        ] {
            none("MSH0415", &with(rest));
        }
    }
}
