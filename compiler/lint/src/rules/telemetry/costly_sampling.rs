//! `telemetry/costly-sampling`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service of which more than 1,000 requests each second are traced, by its `facts load=` and the
    /// share of `traces`.
    ///
    /// ## Why it matters
    /// Every trace has a span at each hop. At such rates a collector drops most of them, or its bill is
    /// what somebody notices first; a hundredth tells as much about where time goes.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; telemetry { traces otlp="http://collector:4317" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; facts load="4000/s" }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test"; telemetry { traces otlp="http://collector:4317" share="1%" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; facts load="4000/s" }
    /// ```
    pub(crate) static COSTLY_SAMPLING = {
        code: "MSH1004", name: "telemetry/costly-sampling",
        summary: "more traces than a collector takes",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Traced requests of one service, per second.
const TRACED_MAX: f64 = 1_000.0;

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        let (Some(traces), Some(load)) = (&service.telemetry.traces, service.facts.load) else {
            continue;
        };
        let traced = load.value * f64::from(traces.share) / 10_000.0;
        if traced <= TRACED_MAX {
            continue;
        }
        cx.report(
            COSTLY_SAMPLING
                .at(
                    traces.span,
                    format!("{traced:.0} requests to `{}` are traced each second", service.name.value),
                )
                .at("this share of them")
                .label(load.span, "its load")
                .help("trace a smaller share: `traces share=\"1%\" …`, here or in the `telemetry` of the service")
                .number("traced", traced)
                .possible(),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(share: &str, load: &str) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; telemetry {{ traces otlp="http://c:4317" {share} }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {load} }}
            service b {{ port 80; endpoints {{ static "10.0.0.2:80" }}; facts load="9000/s"; telemetry {{ traces otlp="http://c:4317" share="1%" }} }}"#
        )
    }

    #[test]
    fn a_large_share_of_much_is_found() {
        insta::assert_snapshot!(findings(
            "MSH1004",
            &with("share=\"50%\"", "facts load=\"2500/s\"")
        ));
    }

    #[test]
    fn little_or_unknown_is_fine() {
        none("MSH1004", &with("share=\"10%\"", "facts load=\"2500/s\""));
        none("MSH1004", &with("", ""));
    }
}
