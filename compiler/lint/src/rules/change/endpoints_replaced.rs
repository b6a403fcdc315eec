//! `rollout/endpoints-replaced`

use std::collections::BTreeSet;

use mesh_bundle::slice::EndpointAddress;
use mesh_compiler::linked::{Endpoints, Kind, Service};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service that somebody calls and that keeps none of its endpoints: all its addresses and names are others, or
    /// they were discovered and are written in policy now, or the other way round. An override of one environment that
    /// comes or goes does the same there. Another port of the same machine is none of it (MSH0704). Found with
    /// `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Every proxy that gets the change sends all its calls elsewhere from one moment to the next. Whether somebody
    /// answers there shows only then, and no share of requests tries it first.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.9.2:80" }; allow productpage }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" "10.0.9.2:80" }; allow productpage }
    /// ```
    pub(crate) static ENDPOINTS_REPLACED = {
        code: "MSH1112", name: "rollout/endpoints-replaced",
        summary: "a service keeps none of its endpoints",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Addresses that a text names.
const NAMED_MAX: usize = 3;

/// Where calls of a service go.
enum Places {
    /// Addresses and names, without ports.
    Declared(BTreeSet<String>),
    /// Whatever is discovered.
    Discovered,
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let change = change.meshes();
    for kept in change.kept() {
        let before = change.base.service(kept.base);
        let after = change.head.service(kept.head);
        let is_called = change.head.edges.entering(kept.head).next().is_some();
        if !is_called || !is_service(before) || !is_service(after) {
            continue;
        }
        let (was, is) = (places(before), places(after));
        if !shares_nothing(&was, &is) {
            continue;
        }
        let name = &after.name.value;
        let message = format!(
            "calls to `{name}` all go elsewhere at once: to {} instead of {}",
            is.words(),
            was.words()
        );
        cx.report(
            ENDPOINTS_REPLACED
                .at(place(after), message)
                .about(name)
                .help("if both are there for a while, add the new endpoints beside the old, and take the old away in a later change; else have somebody watch who can revert it"),
        );
    }
}

fn is_service(service: &Service) -> bool {
    matches!(service.kind, Kind::Service)
}

fn places(service: &Service) -> Places {
    match &service.endpoints {
        Endpoints::Discovered => Places::Discovered,
        Endpoints::Declared(all) => {
            let all = all.iter().map(|endpoint| match &endpoint.value.address {
                EndpointAddress::Static(address) => address.ip().to_string(),
                EndpointAddress::Dns { name, .. } => name.clone(),
            });
            Places::Declared(all.collect())
        }
    }
}

/// Whether both have endpoints, and none in common.
fn shares_nothing(was: &Places, is: &Places) -> bool {
    match (was, is) {
        (Places::Discovered, Places::Discovered) => false,
        (Places::Declared(was), Places::Declared(is)) => {
            !was.is_empty() && !is.is_empty() && was.is_disjoint(is)
        }
        (Places::Declared(all), Places::Discovered)
        | (Places::Discovered, Places::Declared(all)) => !all.is_empty(),
    }
}

fn place(service: &Service) -> Span {
    match &service.endpoints {
        Endpoints::Declared(all) => all.first().map_or(service.name.span, |first| first.span),
        Endpoints::Discovered => service.name.span,
    }
}

impl Places {
    fn words(&self) -> String {
        match self {
            Self::Discovered => "what is discovered".to_owned(),
            Self::Declared(all) => {
                let named = all.iter().take(NAMED_MAX).map(String::as_str);
                let named = named.collect::<Vec<_>>().join(", ");
                match all.len().saturating_sub(NAMED_MAX) {
                    0 => named,
                    more => format!("{named} and {more} more"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(endpoints: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ {endpoints} }}; allow web }}"#
        )
    }

    const OLD: &str = r#"static "10.0.0.2:80" "10.0.0.3:80""#;

    #[test]
    fn other_machines_are_other_endpoints() {
        let other = with(r#"static "10.0.9.2:80" "10.0.9.3:80" "10.0.9.4:80" "10.0.9.5:80""#);
        insta::assert_snapshot!(changes("MSH1112", &with(OLD), &other));
        insta::assert_snapshot!(changes(
            "MSH1112",
            &with("kubernetes namespace=shop"),
            &with(OLD)
        ));
        assert_ne!(
            changes("MSH1112", &with(OLD), &with("dns \"a.internal:80\"")),
            ""
        );
    }

    #[test]
    fn some_of_them_or_another_port_of_them_is_a_step() {
        let none = |head: &str| assert_eq!(changes("MSH1112", &with(OLD), &with(head)), "");
        none(OLD);
        none(r#"static "10.0.0.2:80""#);
        none(r#"static "10.0.0.3:80" "10.0.9.1:80""#);
        none(r#"static "10.0.0.2:8080""#);
    }

    #[test]
    fn nobody_is_sent_elsewhere_who_does_not_call() {
        let alone = |address: &str| {
            format!(r#"service a {{ port 80; endpoints {{ static "{address}" }} }}"#)
        };
        assert_eq!(
            changes("MSH1112", &alone("10.0.0.1:80"), &alone("10.0.0.2:80")),
            ""
        );
    }
}
