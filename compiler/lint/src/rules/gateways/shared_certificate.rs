//! `gateways/shared-certificate`

use std::collections::BTreeMap;

use mesh_compiler::linked::Service;
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// One certificate that two gateways show.
    ///
    /// ## Why it matters
    /// A browser that has an HTTP/2 connection to one gateway uses it for every host that the certificate
    /// names and that resolves to the same address (RFC 9113 §9.1.1). A request for the other gateway's
    /// host then comes to the first, which does not know it. And one key that leaks is two gateways lost.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway public { listen 8443 { host "shop.example"; tls certificate=wildcard }; allow unauthenticated }
    /// gateway partners { listen 8443 { host "api.example"; tls certificate=wildcard }; allow unauthenticated }
    /// ```
    /// ```kdl good
    /// gateway public { listen 8443 { host "shop.example"; tls certificate=shop }; allow unauthenticated }
    /// gateway partners { listen 8443 { host "api.example"; tls certificate=api }; allow unauthenticated }
    /// ```
    pub(crate) static SHARED_CERTIFICATE = {
        code: "MSH0707", name: "gateways/shared-certificate",
        summary: "one certificate for two gateways",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    // The first place at each gateway.
    let mut shown: BTreeMap<&str, Vec<(&Service, Span)>> = BTreeMap::new();
    for service in &mesh.services {
        for listener in service.gateway().into_iter().flat_map(|own| &own.listeners) {
            let certificate = listener
                .tls
                .as_ref()
                .and_then(|tls| tls.certificate.as_ref());
            let Some(certificate) = certificate else {
                continue;
            };
            let places = shown.entry(&certificate.value).or_default();
            if places.last().is_none_or(|(last, _)| last.id != service.id) {
                places.push((service, certificate.span));
            }
        }
    }
    for (certificate, places) in shown {
        let Some(((first, first_span), others)) = places.split_first() else {
            continue;
        };
        for (other, span) in others {
            let message = format!(
                "`{}` and `{}` both show the certificate `{certificate}`",
                first.name.value, other.name.value
            );
            cx.report(
                SHARED_CERTIFICATE
                    .at(*span, message)
                    .at("the same certificate")
                    .label(*first_span, "shown here too")
                    .help("give each gateway a certificate for its own hosts")
                    .possible(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(one: &str, two: &str) -> String {
        format!(
            r#"gateway public {{ listen 8443 {{ host "a.test"; tls certificate={one} }}; listen 8443 {{ host "b.test"; tls certificate={one} }}; allow unauthenticated }}
            gateway partners {{ listen 8443 {{ host "c.test"; tls certificate={two} }}; allow unauthenticated }}"#
        )
    }

    #[test]
    fn two_gateways_are_found() {
        insta::assert_snapshot!(findings("MSH0707", &with("wild", "wild")));
    }

    #[test]
    fn two_hosts_of_one_gateway_may_share() {
        none("MSH0707", &with("wild", "own"));
    }
}
