//! `resilience/cannot-eject`

use mesh_compiler::linked::{Service, Source};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `outlier` for a service with a single endpoint, as policy declares it or `facts replicas=` says; and one that
    /// compares endpoints with each other (`success-rate-deviations=`, `failure-percentage=`) where there are fewer than
    /// `min-hosts=`. Names that DNS resolves may be many and are not counted.
    ///
    /// ## Why it matters
    /// There is no other endpoint to send the requests to, or too few of them to tell who stands out. What reads like a
    /// protection does nothing, or turns a few failures into an outage.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; outlier consecutive-5xx=5 }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; outlier consecutive-5xx=5 }
    /// ```
    pub(crate) static CANNOT_EJECT = {
        code: "MSH0602", name: "resilience/cannot-eject",
        summary: "too few endpoints to leave one out",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for service in &cx.facts().mesh().services {
        let outlier = &service.pool.outlier;
        let set_at = outlier
            .counted_by()
            .into_iter()
            .find(|source| source.level() >= 3)
            .and_then(Source::span);
        let endpoints = crate::rules::pools::endpoints(service);
        let single = endpoints == Some(1);
        if let Some(endpoints) = endpoints.filter(|_| !single && outlier.compares()) {
            too_few(cx, service, endpoints);
        }
        let Some(span) = set_at.filter(|_| outlier.counts() && single) else {
            continue;
        };
        cx.report(
            CANNOT_EJECT
                .at(
                    span,
                    format!(
                        "`{}` has a single endpoint, and none to take its place",
                        service.name.value
                    ),
                )
                .help("add endpoints, or take the `outlier` away"),
        );
    }
}

fn too_few(cx: &mut RuleContext<'_>, service: &Service, endpoints: u64) {
    let outlier = &service.pool.outlier;
    let min_hosts = outlier.min_hosts.value;
    let sources = [
        outlier.min_hosts.source,
        outlier.success_rate_deviations.source,
        outlier.failure_percentage.source,
    ];
    let mut set_at = sources.into_iter().filter(|source| source.level() >= 3);
    let Some(span) = set_at.find_map(Source::span) else {
        return;
    };
    if endpoints >= u64::from(min_hosts) {
        return;
    }
    cx.report(
        CANNOT_EJECT
            .at(
                span,
                format!(
                    "`{}` has {endpoints} endpoints, and fewer than {min_hosts} are never compared",
                    service.name.value
                ),
            )
            .help(format!(
                "write `min-hosts={endpoints}`, or count failures in a row"
            )),
    );
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_only_one_stays() {
        insta::assert_snapshot!(findings(
            "MSH0602",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; outlier consecutive-5xx=5 }"#
        ));
    }

    #[test]
    fn too_few_to_compare() {
        let with = |outlier: &str| {
            format!(
                r#"service a {{ port 80; endpoints {{ static "10.0.0.1:80" "10.0.0.2:80" "10.0.0.3:80" }}; outlier {outlier} }}"#
            )
        };
        insta::assert_snapshot!(findings("MSH0602", &with(r#"failure-percentage="50%""#)));
        none("MSH0602", &with(r#"failure-percentage="50%" min-hosts=3"#));
        none("MSH0602", &with("consecutive-local=5"));
    }

    #[test]
    fn who_is_discovered_is_not_counted() {
        none(
            "MSH0602",
            r#"service a { port 80; endpoints { kubernetes namespace=x }; outlier consecutive-5xx=5 }"#,
        );
    }
}
