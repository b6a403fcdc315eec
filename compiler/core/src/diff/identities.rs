//! Who is who in two meshes. A service whose identity has another text is the same caller to everybody who names it, and
//! so is a whole mesh that moves to another trust domain.

use std::collections::BTreeMap;

use mesh_bundle::slice::{Condition, Principal};
use mesh_bundle::spiffe::SpiffeId;

use super::Change;
use crate::linked::{LinkedMesh, Service, ServiceId};
use crate::model::Spanned;

/// The base with every identity as the head has it; nothing where none differs.
pub(super) fn as_in_head(change: Change<'_>) -> Option<LinkedMesh> {
    let renamed = Renamed::of(change);
    if renamed.domains.is_none() && renamed.identities.is_empty() {
        return None;
    }
    let mut base = change.base.clone();
    for service in &mut base.services {
        renamed.rename(service);
    }
    Some(base)
}

/// What is called otherwise in the head.
struct Renamed {
    /// What identities of the mesh begin with, before and after.
    domains: Option<[String; 2]>,
    /// Those of services that have one each, after the domain is replaced.
    identities: BTreeMap<String, SpiffeId>,
}

impl Renamed {
    fn of(change: Change<'_>) -> Self {
        let of = |mesh: &LinkedMesh| format!("spiffe://{}/", mesh.trust_domain.value);
        let domains = [of(change.base), of(change.head)];
        let mut renamed = Self {
            domains: (domains[0] != domains[1]).then_some(domains),
            identities: BTreeMap::new(),
        };
        let held = |mesh: &LinkedMesh, but: ServiceId, identity: &SpiffeId| {
            let others = mesh.services.iter().filter(|other| other.id != but);
            others
                .flat_map(|other| &other.identities)
                .any(|own| own == identity)
        };
        let mut identities = BTreeMap::new();
        for kept in change.kept() {
            let (old, new) = (
                change.base.service(kept.base),
                change.head.service(kept.head),
            );
            let ([was], [is]) = (old.identities.as_slice(), new.identities.as_slice()) else {
                continue;
            };
            let was = renamed.identity(was);
            // Whoever takes over another's identity is another caller.
            let is_own = |identity: &SpiffeId| {
                let before = change
                    .base
                    .services
                    .iter()
                    .filter(|other| other.id != kept.base);
                let before = before.flat_map(|other| &other.identities);
                before
                    .map(|own| renamed.identity(own))
                    .all(|own| own != *identity)
                    && !held(change.head, kept.head, identity)
            };
            if was != *is && is_own(&was) && is_own(is) {
                identities.insert(was.as_str().to_owned(), is.clone());
            }
        }
        renamed.identities = identities;
        renamed
    }

    fn text(&self, text: &str) -> Option<String> {
        let [before, after] = self.domains.as_ref()?;
        Some(format!("{after}{}", text.strip_prefix(before.as_str())?))
    }

    fn identity(&self, identity: &SpiffeId) -> SpiffeId {
        let moved = self.text(identity.as_str());
        let moved = moved.and_then(|text| SpiffeId::parse(&text).ok());
        let moved = moved.unwrap_or_else(|| identity.clone());
        match self.identities.get(moved.as_str()) {
            Some(renamed) => renamed.clone(),
            None => moved,
        }
    }

    fn principal(&self, who: &mut Principal) {
        match who {
            Principal::SpiffeId(identity) => *identity = self.identity(identity),
            Principal::SpiffePrefix(prefix) => {
                if let Some(moved) = self.text(prefix) {
                    *prefix = moved;
                }
            }
            Principal::Any | Principal::Unauthenticated => {}
        }
    }

    fn condition(&self, condition: &mut Condition) {
        match condition {
            Condition::From(who) => who.iter_mut().for_each(|who| self.principal(who)),
            Condition::Not(inner) => self.condition(inner),
            _ => {}
        }
    }

    fn conditions(&self, conditions: &mut [Spanned<Condition>]) {
        for condition in conditions {
            self.condition(&mut condition.value);
        }
    }

    fn rename(&self, service: &mut Service) {
        for identity in &mut service.identities {
            *identity = self.identity(identity);
        }
        service.identities.sort();
        for rule in &mut service.access {
            rule.who.iter_mut().for_each(|who| self.principal(who));
            self.conditions(&mut rule.conditions);
        }
        for requirement in &mut service.requirements {
            self.conditions(&mut requirement.conditions);
        }
        for limit in &mut service.rate_limits {
            self.conditions(&mut limit.conditions);
        }
        for each in service
            .routes
            .to_mut()
            .iter_mut()
            .flat_map(|route| &mut route.matches)
        {
            self.conditions(&mut each.conditions);
        }
    }
}
