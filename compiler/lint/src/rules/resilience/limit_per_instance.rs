//! `resilience/limit-per-instance`

use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A `rate-limit` without `via` on a service with several instances (`facts replicas=`): each proxy counts
    /// for itself, so all of them together admit as many times more. Where the sum is above the service's capacity
    /// (`facts capacity=`) and one share of it is not, it is a warning; else a note. Limits with keys or conditions bound a
    /// part of the load and get the note alone. What a limit comes to beside the load is MSH0605.
    ///
    /// ## Why it matters
    /// "100/s" reads like a limit of the service. With twenty instances it is two thousand.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; rate-limit "100/s"; facts replicas=20 capacity="1000/s" }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; rate-limit "100/s"; facts replicas=1 capacity="1000/s" }
    /// ```
    pub(crate) static LIMIT_PER_INSTANCE = {
        code: "MSH0607", name: "resilience/limit-per-instance",
        summary: "a limit that each instance counts for itself",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for service in &cx.facts().mesh().services {
        let Some(replicas) = service.facts.replicas.filter(|replicas| replicas.value > 1) else {
            continue;
        };
        for limit in service
            .rate_limits
            .iter()
            .filter(|limit| limit.via.is_none())
        {
            let (count, time) = limit.rate.value;
            let each = u32::try_from(count).map_or(f64::INFINITY, f64::from) / time.as_secs_f64();
            let all = each * f64::from(replicas.value);
            let whole = limit.keys.is_empty() && limit.conditions.is_empty();
            let capacity = service
                .facts
                .capacity
                .filter(|capacity| whole && each <= capacity.value && capacity.value < all);
            let mut finding = LIMIT_PER_INSTANCE
                .at(
                    limit.rate.span,
                    format!(
                        "each of the {} instances of `{}` counts for itself: together they admit {} requests a second",
                        replicas.value,
                        service.name.value,
                        number(all),
                    ),
                )
                .label(replicas.span, "so many instances")
                .help("divide the rate by the instances, or let one service count for all with `via=`")
                .number("each", each)
                .number("all", all);
            if let Some(capacity) = capacity {
                finding = finding.label(capacity.span, "it can take less");
            }
            if capacity.is_none() {
                finding.level = Level::Note;
            }
            cx.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn twenty_times_a_hundred() {
        insta::assert_snapshot!(findings(
            "MSH0607",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; rate-limit "100/s"; facts replicas=20 capacity="1000/s" load="50/s" }"#
        ));
    }

    #[test]
    fn nobody_says_how_many() {
        none(
            "MSH0607",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; rate-limit "100/s" }"#,
        );
    }
}
