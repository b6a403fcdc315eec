//! `gateways/certificate-expiry`

use std::collections::BTreeMap;

use mesh_compiler::LinkedMesh;
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A certificate that a gateway or a call out of the mesh shows and that is not valid any more, or for less than
    /// 30 days. Needs an `inventory.kdl` that lists `certificate`; the day is today, or that of the inventory if that is
    /// later. Which names a certificate holds no inventory says.
    ///
    /// ## Why it matters
    /// From that day on no client that verifies the certificate connects, and nothing in the mesh has changed.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test" }
    /// gateway public { listen 8443 { host "shop.example"; tls certificate=shop }; allow unauthenticated }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { certificate shop until="2026-01-20" }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test" }
    /// gateway public { listen 8443 { host "shop.example"; tls certificate=shop }; allow unauthenticated }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { certificate shop until="2026-12-31" }
    /// ```
    pub(crate) static CERTIFICATE_EXPIRY = {
        code: "MSH0706", name: "gateways/certificate-expiry",
        summary: "a certificate that expires",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Time to get a new one and to give it to every proxy.
const SOON_DAYS: i64 = 30;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let shown = shown(facts.mesh());
    if shown.is_empty() {
        return;
    }
    let Some(inventory) = cx.inventory(&CERTIFICATE_EXPIRY) else {
        return;
    };
    if inventory.certificates.is_empty() {
        cx.skip(
            &CERTIFICATE_EXPIRY,
            "needs an inventory file with `certificate`",
        );
        return;
    }
    let found_on = inventory.date.value;
    let day = facts.today().map_or(found_on, |today| today.max(found_on));
    for certificate in &inventory.certificates {
        let name = &certificate.name.value;
        let (until, left) = (
            certificate.until,
            certificate.until.value.days() - day.days(),
        );
        let Some(places) = shown.get(name.as_str()).filter(|_| left < SOON_DAYS) else {
            continue;
        };
        let message = match left {
            ..0 => format!("the certificate `{name}` was valid until {}", until.value),
            0 => format!(
                "the certificate `{name}` is valid until today, {}",
                until.value
            ),
            1 => format!(
                "the certificate `{name}` is valid until tomorrow, {}",
                until.value
            ),
            left => format!(
                "the certificate `{name}` is valid until {}, {left} days from now",
                until.value
            ),
        };
        let mut finding = CERTIFICATE_EXPIRY
            .at(until.span, message)
            .at("the last day");
        for (service, span) in places {
            finding = finding
                .label(*span, format!("`{service}` shows it"))
                .about(service);
        }
        // An inventory tells of the day on which it was made.
        cx.report(
            finding
                .help("give the proxies a new one, and write its last day here")
                .number(
                    "days_left",
                    f64::from(i32::try_from(left).unwrap_or(i32::MIN)),
                )
                .possible(),
        );
    }
}

/// The certificates that are shown, each with who shows it and where that is written.
fn shown(mesh: &LinkedMesh) -> BTreeMap<&str, Vec<(&str, Span)>> {
    let mut shown: BTreeMap<&str, Vec<(&str, Span)>> = BTreeMap::new();
    for service in &mesh.services {
        let gateway = service.gateway();
        let listeners = gateway.into_iter().flat_map(|gateway| &gateway.listeners);
        let inward = listeners.filter_map(|listener| listener.tls.as_ref());
        let outward = service
            .reach
            .dials
            .iter()
            .filter_map(|dial| dial.tls.as_ref());
        for certificate in inward
            .chain(outward)
            .filter_map(|tls| tls.certificate.as_ref())
        {
            let places = shown.entry(&certificate.value).or_default();
            places.push((&service.name.value, certificate.span));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use crate::tester::judged;

    fn on(until: &str) -> String {
        let (found, _) = judged(&format!(
            "mesh example {{ trust-domain \"example.test\" }}
gateway public {{ listen 8443 {{ host \"a.example\"; tls certificate=shop }}; listen 8444 {{ tls certificate=other }}; allow unauthenticated }}
// file: inventory.kdl
inventory \"2025-11-20\" {{ certificate shop until=\"{until}\"; certificate unused until=\"2025-11-21\" }}
"
        ));
        let found = found.split("\n\n").filter(|one| one.contains("MSH0706"));
        found.collect::<Vec<_>>().join("\n\n")
    }

    #[test]
    fn a_certificate_that_ends_soon_is_found() {
        insta::assert_snapshot!(on("2026-01-05"));
        assert!(on("2025-12-31").contains("was valid until 2025-12-31"));
        assert!(on("2026-01-01").contains("until today"));
    }

    #[test]
    fn a_month_is_enough() {
        assert_eq!(on("2026-01-31"), "");
        assert!(on("2026-01-30").contains("29 days"));
    }
}
