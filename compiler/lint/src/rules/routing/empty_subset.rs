//! `routing/empty-subset`

use mesh_compiler::linked::Endpoints;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A subset that selects none of the endpoints which its service declares. Endpoints that are
    /// discovered are not known here.
    ///
    /// ## Why it matters
    /// Every request sent there ends with 503 `no_healthy_upstream`.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=90; to v2 weight=10 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" version=v1; static "10.0.0.8:9080" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=90; to v2 weight=10 }
    /// }
    /// ```
    pub(crate) static EMPTY_SUBSET = {
        code: "MSH0306", name: "routing/empty-subset", summary: "subset selects no endpoint",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        let Endpoints::Declared(endpoints) = &service.endpoints else {
            continue;
        };
        for subset in &service.subsets {
            let selects = |endpoint: &mesh_bundle::slice::DeclaredEndpoint| {
                let carries =
                    |label: &mesh_compiler::model::Label| endpoint.labels.contains(&label.value);
                subset.labels.iter().all(carries)
            };
            if endpoints.iter().any(|endpoint| selects(&endpoint.value)) {
                continue;
            }
            let labels: Vec<String> = subset
                .labels
                .iter()
                .map(|label| format!("{}={}", label.value.key, label.value.value))
                .collect();
            let mut finding = EMPTY_SUBSET
                .at(
                    subset.name.span,
                    format!(
                        "no endpoint of `{}` carries {}, so its subset `{}` is empty",
                        service.name.value,
                        labels.join(" "),
                        subset.name.value
                    ),
                )
                .at("selects nothing")
                .help("give the labels to the endpoints that are meant, or correct them here");
            if let Some(first) = endpoints.first() {
                finding = finding.label(first.span, "does not carry them");
            }
            cx.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn labels_that_no_endpoint_carries_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0306",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" version=v1 zone=b; static "10.0.0.2:80" version=v2 zone=a }
                subset one { labels version=v1 zone=a }
                subset two { labels version=v2 }
                route all { to one weight=1; to two weight=1 }
            }"#
        ));
    }

    #[test]
    fn discovered_endpoints_are_not_known() {
        none(
            "MSH0306",
            r#"
            service a {
                port 80
                endpoints { kubernetes namespace=shop }
                subset one { labels version=v1 }
                route all { to one }
            }"#,
        );
    }
}
