//! `retries/impossible-cause`

use std::collections::BTreeMap;

use mesh_bundle::slice::{Protocol, RetryCause};
use mesh_compiler::linked::Service;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::retried;

declare_rule! {
    /// ## What it flags
    /// Causes of retries that cannot occur: a gRPC status where no port speaks gRPC, anything but
    /// `connect-failure` where ports are opaque (`tcp`, `tls`), `per-try-timeout` where no time is
    /// limited, and statuses below 400, which are no failures.
    ///
    /// ## Why it matters
    /// The policy reads as if something were tried again that never is.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a {
    ///     port 80 protocol=http
    ///     endpoints { static "10.0.0.1:80" }
    ///     retry connect-failure grpc-14 attempts=2
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80 protocol=grpc
    ///     endpoints { static "10.0.0.1:80" }
    ///     retry connect-failure grpc-14 attempts=2
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static IMPOSSIBLE_CAUSE = {
        code: "MSH0409", name: "retries/impossible-cause",
        summary: "what is to be tried again cannot occur",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in retried(cx.facts()) {
        let causes = &at.exchange.causes;
        // What everybody's defaults name is meant for those that it fits.
        let own = causes.source.level() >= 3;
        let unlimited = at.exchange.per_try.value.is_none() && at.exchange.timeout.value.is_none();
        let reasons: Vec<String> = (causes.value.iter())
            .filter_map(|cause| impossible(*cause, at.callee, unlimited))
            .collect();
        let Some(span) = causes.source.span().filter(|_| own && !reasons.is_empty()) else {
            continue;
        };

        cx.report_once(&mut reported, span, &at.callee.name.value, || {
            IMPOSSIBLE_CAUSE
                .at(span, format!("{} ({})", reasons.join("; "), at.words()))
                .at("never happens here")
                .help("take it out, or name what does happen")
        });
    }
}

fn impossible(cause: RetryCause, callee: &Service, unlimited: bool) -> Option<String> {
    let speaks = |wanted: Protocol| callee.ports.iter().any(|port| port.protocol == wanted);
    let opaque = !speaks(Protocol::Http) && !speaks(Protocol::Grpc);
    let name = &callee.name.value;
    match cause {
        RetryCause::ConnectFailure => None,
        _ if opaque => Some(format!(
            "the proxy sees no requests to `{name}`, only connections: nothing but `connect-failure` can be tried again"
        )),
        RetryCause::GrpcStatus(status) if !speaks(Protocol::Grpc) => Some(format!(
            "`grpc-{status}` is a status of gRPC, and `{name}` has no port that speaks it"
        )),
        RetryCause::Status(status) if status < 400 => Some(format!(
            "{status} is no failure, and no reason to try again"
        )),
        RetryCause::PerTryTimeout if unlimited => Some(format!(
            "no try of a call to `{name}` has a limit that it could run into"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn grpc_needs_grpc() {
        insta::assert_snapshot!(findings(
            "MSH0409",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; retry grpc-14 connect-failure attempts=2 }"#
        ));
    }

    #[test]
    fn nothing_is_limited() {
        insta::assert_snapshot!(findings(
            "MSH0409",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; timeout none; retry per-try-timeout attempts=2 }"#
        ));
    }

    #[test]
    fn defaults_are_for_those_that_they_fit() {
        none(
            "MSH0409",
            r#"
    mesh m { trust-domain "m.example"; defaults { retry grpc-14 connect-failure attempts=2 } }
    service a { port 80; endpoints { static "10.0.0.1:80" } }"#,
        );
    }
}
