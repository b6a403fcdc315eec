//! `resilience/ejects-all`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `outlier` that may leave out every endpoint: `max-ejected="100%"`.
    ///
    /// ## Why it matters
    /// When all endpoints fail a few times, say because something behind them is down, nobody is left to
    /// send requests to: a part of the failures becomes all of them, for as long as the ejection lasts.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; outlier consecutive-5xx=5 max-ejected="100%" }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; outlier consecutive-5xx=5 max-ejected="50%" }
    /// ```
    pub(crate) static EJECTS_ALL = {
        code: "MSH0601", name: "resilience/ejects-all",
        summary: "every endpoint may be left out",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = std::collections::BTreeMap::new();
    for (service, pool) in crate::rules::pools::pools(cx.facts().mesh()) {
        let outlier = &pool.outlier;
        let all = outlier.counts() && outlier.max_ejected.value.0 >= 10_000;
        let Some(span) = outlier.max_ejected.source.span().filter(|_| all) else {
            continue;
        };

        cx.report_once(&mut reported, span, &service.name.value, || {
            EJECTS_ALL
                .at(
                    span,
                    format!(
                        "all endpoints of `{}` may be left out at once",
                        service.name.value
                    ),
                )
                .at("nobody is left then")
                .help("keep some: `max-ejected=\"50%\"`")
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn nobody_is_left() {
        insta::assert_snapshot!(findings(
            "MSH0601",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; outlier consecutive-5xx=5 max-ejected="100%" }"#
        ));
    }

    #[test]
    fn half_is_left() {
        none(
            "MSH0601",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; outlier consecutive-5xx=5 max-ejected="50%" }"#,
        );
    }
}
