//! `access/shared-identity`

use std::collections::BTreeMap;

use mesh_bundle::slice::Effect;
use mesh_compiler::linked::{Service, ServiceId};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A rule that names one of several services which share an identity: it lets the others in too.
    ///
    /// ## Why it matters
    /// Rules see identities. Whoever takes over one of the services has the rights of all of them, and
    /// the rule reads as if it had not.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service front { port 80; endpoints { static "10.0.0.1:80" }; identity "spiffe://example.test/shop"; calls reviews }
    /// service batch { port 81; endpoints { static "10.0.0.3:81" }; identity "spiffe://example.test/shop" }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow front }
    /// ```
    /// ```kdl good
    /// service front { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service batch { port 81; endpoints { static "10.0.0.3:81" } }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow front }
    /// ```
    pub(crate) static SHARED_IDENTITY = {
        code: "MSH0714", name: "access/shared-identity",
        summary: "a rule lets in others that share the identity it means",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut owners: BTreeMap<String, Vec<ServiceId>> = BTreeMap::new();
    for service in &mesh.services {
        for identity in &service.identities {
            let owners = owners.entry(identity.to_string()).or_default();
            owners.push(service.id);
        }
    }
    owners.retain(|_, owners| owners.len() > 1);
    if owners.is_empty() {
        return;
    }
    let sharing = |id: ServiceId| -> Vec<&Service> {
        let identities = &mesh.service(id).identities;
        let shared = identities
            .iter()
            .filter_map(|identity| owners.get(&identity.to_string()));
        let mut others: Vec<ServiceId> = shared.flatten().copied().collect();
        others.sort_unstable();
        others.dedup();
        others
            .into_iter()
            .map(|other| mesh.service(other))
            .collect()
    };
    let mut places: BTreeMap<Span, (&Service, String, Vec<&Service>)> = BTreeMap::new();
    for service in &mesh.services {
        for rule in &service.access {
            let Some(span) = rule.source.span().filter(|_| rule.effect == Effect::Allow) else {
                continue;
            };
            for named in &rule.named {
                let mut others = sharing(*named);
                others.retain(|other| !rule.named.contains(&other.id));
                if !others.is_empty() {
                    let meant = mesh.service(*named).name.value.clone();
                    places.entry(span).or_insert((service, meant, others));
                }
            }
        }
    }
    for (span, (service, meant, others)) in places {
        let names = list(others.iter().map(|other| other.name.value.as_str()));
        let mut finding = SHARED_IDENTITY
            .at(
                span,
                format!(
                    "this lets {names} into `{}` as well: they share an identity with `{meant}`",
                    service.name.value
                ),
            )
            .at(format!("says `{meant}` and means its identity"))
            .help("give each service an identity of its own, or name all of them here");
        for other in others {
            finding = finding.label(other.name.span, "has the same identity");
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const TWO: &str = r#"
        service one { port 80; endpoints { static "10.0.0.1:80" }; identity "spiffe://example.test/x"; calls a }
        service two { port 81; endpoints { static "10.0.0.2:81" }; identity "spiffe://example.test/x" }
        service a { port 80; endpoints { static "10.0.0.3:80" }; "#;

    #[test]
    fn the_other_service_is_named() {
        insta::assert_snapshot!(findings("MSH0714", &format!("{TWO} allow one }}")));
    }

    #[test]
    fn rules_that_name_both_or_nobody_are_clear() {
        none(
            "MSH0714",
            &format!("{TWO} allow one two; allow any {{ path \"/x\" }} }}"),
        );
    }
}
