//! `gateways/wide-egress`

use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An external that is no particular place: its host is `**` or everything below a top-level domain,
    /// or its address is the whole internet.
    ///
    /// ## Why it matters
    /// Whoever may call it may call anybody. What is taken from a workload that was broken into leaves by
    /// such a rule, and the log says that policy allowed it.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls anywhere }
    /// external anywhere { host "**"; port 80; endpoints { dns "egress.example:80" }; allow web }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// external stripe { host "api.stripe.example"; port 80 protocol=http dial=443 { tls }; allow web }
    /// ```
    pub(crate) static WIDE_EGRESS = {
        code: "MSH0905", name: "gateways/wide-egress",
        summary: "an external that may be anywhere",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in mesh.services.iter().filter(|service| service.is_external()) {
        let name = &service.name;
        let host = service.hosts.iter().find(|host| is_wide(host));
        let address = service
            .reach
            .addresses
            .iter()
            .find(|address| address.value.prefix_len() == 0);
        let (span, what): (Span, String) = match (host, address) {
            (Some(host), _) => (name.span, format!("the host \"{host}\"")),
            (None, Some(address)) => (address.span, format!("the address {}", address.value)),
            (None, None) => continue,
        };
        cx.report(
            WIDE_EGRESS
                .at(
                    span,
                    format!("`{}` has {what}, and may be anywhere", name.value),
                )
                .at("no particular place")
                .help(
                    "name the hosts that are needed, each service of others an external of its own",
                ),
        );
    }
}

/// `**`, or `**.com`.
fn is_wide(host: &str) -> bool {
    host.strip_prefix("**")
        .is_some_and(|rest| !rest.trim_start_matches('.').contains('.'))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(place: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
            external out {{ {place}; port 80; endpoints {{ dns "egress.test:80" }}; allow web }}"#
        )
    }

    #[test]
    fn everything_and_everything_of_a_country_are_found() {
        insta::assert_snapshot!(findings("MSH0905", &with(r#"host "**""#)));
        insta::assert_snapshot!(findings("MSH0905", &with(r#"host "**.de""#)));
        insta::assert_snapshot!(findings(
            "MSH0905",
            &with(r#"host "a.test"; address "0.0.0.0/0""#)
        ));
    }

    #[test]
    fn what_belongs_to_somebody_is_a_place() {
        none("MSH0905", &with(r#"host "**.bank.test""#));
        none(
            "MSH0905",
            &with(r#"host "*.bank.test"; address "192.0.2.0/24""#),
        );
    }
}
