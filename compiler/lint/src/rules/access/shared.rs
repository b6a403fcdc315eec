//! Rules of `defaults` and policies stand in several services at once.

use std::collections::BTreeMap;

use mesh_bundle::slice::Condition;
use mesh_compiler::linked::{Access, Service};
use mesh_compiler::model::Port;
use mesh_syntax::Span;

use crate::facts::Facts;

/// A place in a policy file whose rule is idle in every service that holds it.
pub(crate) struct Idle<'m, T> {
    pub(crate) span: Span,
    /// The first service, by name.
    pub(crate) service: &'m Service,
    pub(crate) rule: &'m Access,
    pub(crate) fact: T,
}

/// Rules with some fact about them in every service that holds them. A rule that does something in
/// one of them is of use.
pub(crate) fn idle_everywhere<'m, T>(
    facts: &Facts<'m>,
    mut idle: impl FnMut(&'m Service, usize) -> Option<T>,
) -> Vec<Idle<'m, T>> {
    let mut places: BTreeMap<Span, Option<Idle<'m, T>>> = BTreeMap::new();
    for service in &facts.mesh().services {
        for (index, rule) in service.access.iter().enumerate() {
            let Some(span) = rule.source.span() else {
                continue;
            };
            let found = idle(service, index).map(|fact| Idle {
                span,
                service,
                rule,
                fact,
            });
            match places.get_mut(&span) {
                None => {
                    places.insert(span, found);
                }
                Some(known) if found.is_none() => *known = None,
                Some(_) => {}
            }
        }
    }
    places.into_values().flatten().collect()
}

/// The ports of a service that a rule leaves in question.
pub(crate) fn ports_of<'m>(
    service: &'m Service,
    rule: &'m Access,
) -> impl Iterator<Item = &'m Port> {
    let asked = |port: &Port| {
        let number = port.number.value;
        rule.conditions
            .iter()
            .all(|condition| match &condition.value {
                Condition::Port(numbers) => numbers.contains(&number),
                Condition::Not(inner) => match &**inner {
                    Condition::Port(numbers) => !numbers.contains(&number),
                    _ => true,
                },
                _ => true,
            })
    };
    service.ports.iter().filter(move |port| asked(port))
}

/// Where the mode of mutual TLS is written that holds for a rule; none: nowhere.
pub(crate) fn mode_of(service: &Service, rule: &Access) -> Option<Span> {
    let port = ports_of(service, rule).next()?;
    let own = port.mtls.map(|mode| mode.span);
    own.or_else(|| service.mtls.source.span())
}

/// On which ports that is, where not all ports of the service have one mode.
pub(crate) fn there(service: &Service, rule: &Access) -> String {
    let modes: Vec<_> = service
        .ports
        .iter()
        .map(|port| service.mtls_of(port))
        .collect();
    if modes.windows(2).all(|pair| pair[0] == pair[1]) {
        return String::new();
    }
    let ports: Vec<String> = ports_of(service, rule)
        .map(|port| port.number.value.to_string())
        .collect();
    format!(" on port {}", ports.join(" and "))
}
