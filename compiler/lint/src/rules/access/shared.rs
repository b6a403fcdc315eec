//! Rules of `defaults` and policies stand in several services at once.

use std::collections::BTreeMap;

use mesh_compiler::linked::{Access, Service};
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
