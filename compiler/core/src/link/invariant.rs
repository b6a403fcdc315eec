//! Invariants: their names become ids.

use super::Linker;
use crate::linked::{Claim, ClaimKind, Invariant, ServiceId};
use crate::model::{self, Spanned};

impl Linker<'_, '_> {
    /// Every invariant, in the order of their places.
    pub(super) fn invariants(&mut self, declared: &[model::Invariant]) -> Vec<Invariant> {
        let mut invariants: Vec<Invariant> = declared
            .iter()
            .map(|invariant| {
                let claims = invariant.claims.iter().filter_map(|claim| {
                    Some(Claim {
                        kind: self.claim(&claim.kind)?,
                        span: claim.head,
                    })
                });
                Invariant {
                    claims: claims.collect(),
                    text: invariant.text.clone(),
                    span: invariant.span,
                }
            })
            .collect();
        invariants.sort_by(|a, b| (&a.text.value, a.span).cmp(&(&b.text.value, b.span)));
        invariants
    }

    fn claim(&mut self, claim: &model::ClaimKind) -> Option<ClaimKind> {
        Some(match claim {
            model::ClaimKind::Reaches { target, only } => {
                let only = self.ids(only);
                ClaimKind::Reaches {
                    target: self.find_service(target)?,
                    only: only?,
                }
            }
            model::ClaimKind::Isolated { from, to } => {
                let (from, to) = (self.ids(from), self.ids(to));
                ClaimKind::Isolated {
                    from: from?,
                    to: to?,
                }
            }
            model::ClaimKind::Decided {
                allowed,
                from,
                to,
                conditions,
            } => {
                let principals = self.principals(from, &mut Vec::new());
                let to = self.find_service(to)?;
                let conditions = self.conditions(conditions, None);
                // Names that nothing has were reported, and without them the claim would be another.
                if principals.is_empty() && !from.is_empty() {
                    return None;
                }
                ClaimKind::Decided {
                    allowed: *allowed,
                    from: principals,
                    to,
                    conditions: conditions
                        .into_iter()
                        .map(|condition| condition.value)
                        .collect(),
                }
            }
        })
    }

    /// Nothing if one of them is missing, which is reported.
    fn ids(&mut self, names: &[Spanned<String>]) -> Option<Vec<ServiceId>> {
        let found: Vec<Option<ServiceId>> =
            names.iter().map(|name| self.find_service(name)).collect();
        let mut ids = found.into_iter().collect::<Option<Vec<ServiceId>>>()?;
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }
}
