//! What `meshc diff` found, in words: the shape of its JSON, from which the texts for people are made too. Names of
//! fields are a contract: fields are added, never renamed or dropped.

use std::collections::BTreeMap;

use mesh_syntax::Witness;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::render::json;

mod amplification;
pub(crate) mod collect;
mod named;
pub(crate) mod proof;
mod said;
mod settings;
#[cfg(test)]
mod tests;
mod unnamed;
pub(crate) mod version;
mod written;

/// Everything that changes between two versions of a mesh.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// Whether no proxy, reviewer or check would see a difference.
    pub(crate) no_change: bool,
    /// Whether the files are the very same.
    pub(crate) same_files: bool,
    /// What is compared with.
    pub(crate) base: Side,
    /// What is compared.
    pub(crate) head: Side,
    /// Environments that were compared.
    pub(crate) environments: Vec<String>,
    /// Those of the head alone: everything in them is new.
    pub(crate) environments_added: Vec<String>,
    /// Those of the base alone: everything in them is gone.
    pub(crate) environments_removed: Vec<String>,
    /// Calls that fail while one end has the new generation and the other the old.
    pub(crate) unsafe_skew: Vec<Skew>,
    /// Who is let in and was not, and the other way round.
    pub(crate) access: Vec<Access>,
    /// Requests that are treated otherwise.
    pub(crate) routes: Vec<Moved>,
    /// Services to which retries multiply by more, or by less.
    pub(crate) amplification: Vec<Amplification>,
    /// Timeouts and retries of calls.
    pub(crate) timeouts: Vec<Timeout>,
    /// Calls that are declared, and no longer.
    pub(crate) calls: Vec<Called>,
    /// Services, gateways and externals that come, go or become another kind.
    pub(crate) services: Vec<Service>,
    /// What keeps changes from doing harm and no proxy sees: invariants, limits, suppressions, owners, facts.
    pub(crate) guards: Vec<Setting>,
    /// Everything else that has a name.
    pub(crate) settings: Vec<Setting>,
    /// Workloads that get another slice.
    pub(crate) slices: Vec<Slice>,
    /// What could not be compared, and why.
    pub(crate) unknown: Vec<Unknown>,
}

/// One of the two versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Side {
    /// As it was asked for, or `work tree`.
    pub(crate) name: String,
    /// None for the work tree.
    pub(crate) commit: Option<String>,
    /// Folder of the policy root; none: it has no policies.
    pub(crate) root: Option<String>,
    /// Slices of all compared environments.
    pub(crate) slices: usize,
}

/// A call that works before and after, and not in between.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Skew {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Why a caller that still has the old generation fails.
    pub(crate) old_caller: Option<String>,
    /// Why a caller that already has the new one fails.
    pub(crate) new_caller: Option<String>,
    /// Whether no order of commits helps.
    pub(crate) orderless: bool,
    /// What an intermediate commit has to keep, if one helps.
    pub(crate) keep: Vec<String>,
    #[serde(serialize_with = "witness_out")]
    pub(crate) witness: Option<Witness>,
    pub(crate) environments: Vec<String>,
}

/// Somebody who is let in and was not, or the other way round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Access {
    /// `gained` or `lost`.
    pub(crate) change: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Whether nothing was let in before, or nothing is any more.
    pub(crate) entire: bool,
    /// Whether policy says that this caller calls.
    pub(crate) declared: bool,
    /// The rule that lets the request in, or did.
    pub(crate) rule: Option<Rule>,
    #[serde(serialize_with = "witness_out")]
    pub(crate) witness: Option<Witness>,
    /// Who behind a gateway refuses what the gateway lets in.
    pub(crate) refused_behind: Option<String>,
    pub(crate) environments: Vec<String>,
}

/// An access rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) source: String,
}

/// Requests that are treated otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Moved {
    pub(crate) service: String,
    /// `service`, `gateway` or `external`.
    pub(crate) kind: &'static str,
    /// None: no route took them.
    pub(crate) before: Option<Taken>,
    pub(crate) after: Option<Taken>,
    #[serde(serialize_with = "witness_out")]
    pub(crate) witness: Option<Witness>,
    pub(crate) environments: Vec<String>,
}

/// What a route does with a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Taken {
    pub(crate) route: String,
    pub(crate) source: String,
    pub(crate) to: Vec<Branch>,
    /// As written.
    pub(crate) answer: Option<String>,
    /// As written.
    pub(crate) rewrite: Option<String>,
    /// The other lines of the route that change requests or answers, as written.
    pub(crate) filters: Vec<String>,
}

/// A branch of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Branch {
    pub(crate) service: String,
    pub(crate) subset: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) weight: u32,
    /// In order, where the branch has no healthy endpoint.
    #[serde(rename = "else")]
    pub(crate) otherwise: Vec<String>,
}

/// How many calls one request from outside becomes when a service fails at once or hangs, whichever is more: as `graph`
/// tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Amplification {
    pub(crate) service: String,
    /// None: it was not there.
    pub(crate) before: Value,
    /// None: it is not there.
    pub(crate) after: Value,
    /// The worst path, of the head if there is one.
    pub(crate) path: Vec<String>,
    pub(crate) environments: Vec<String>,
}

/// A field of timeouts and retries that changed in the same way for some calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Timeout {
    pub(crate) field: &'static str,
    pub(crate) before: Value,
    pub(crate) before_source: String,
    pub(crate) after: Value,
    pub(crate) after_source: String,
    pub(crate) edges: Vec<Edge>,
    /// A request of one of the calls.
    #[serde(serialize_with = "witness_out")]
    pub(crate) witness: Option<Witness>,
    pub(crate) environments: Vec<String>,
}

/// Calls by a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Edge {
    pub(crate) to: String,
    pub(crate) route: String,
    pub(crate) from: String,
}

/// A call that is declared, and was not, or the other way round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Called {
    /// `added` or `removed`.
    pub(crate) change: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) environments: Vec<String>,
}

/// A service that comes, goes or becomes another kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Service {
    /// `added`, `removed` or `kind`.
    pub(crate) change: &'static str,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) source: String,
    pub(crate) environments: Vec<String>,
}

/// Something else that changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Setting {
    /// None: it is the whole mesh's.
    pub(crate) service: Option<String>,
    #[serde(rename = "setting")]
    pub(crate) name: String,
    /// Whether somebody may get in who could not, or a guard no longer holds what it held.
    pub(crate) may_widen: bool,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// Where the new value stands, or the old one did.
    pub(crate) source: Option<String>,
    pub(crate) environments: Vec<String>,
}

/// A workload that gets another slice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Slice {
    /// Its identity.
    pub(crate) workload: String,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// In the head; of one that is gone, in the base.
    pub(crate) bytes: usize,
    pub(crate) bytes_before: Option<usize>,
    pub(crate) environments: Vec<String>,
}

/// Something that was too large to compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Unknown {
    pub(crate) what: &'static str,
    pub(crate) service: Option<String>,
    pub(crate) reason: String,
    pub(crate) environments: Vec<String>,
}

#[expect(clippy::ref_option, reason = "so it is called by serde")]
fn witness_out<S: Serializer>(witness: &Option<Witness>, serializer: S) -> Result<S::Ok, S::Error> {
    witness.as_ref().map(json::witness).serialize(serializer)
}

/// What can be the same in several environments.
trait Item: Serialize + Clone {
    fn environments(&mut self) -> &mut Vec<String>;
}

macro_rules! items {
    ($($item:ident)*) => {
        $(impl Item for $item {
            fn environments(&mut self) -> &mut Vec<String> {
                &mut self.environments
            }
        })*
    };
}

items! { Skew Access Moved Amplification Timeout Called Service Setting Slice Unknown }

impl Difference {
    /// Puts what was found in each environment together: what all have is told once, of the rest it is said who has it.
    pub(crate) fn together(runs: Vec<(String, Self)>) -> Self {
        let names: Vec<String> = runs.iter().map(|(name, _)| name.clone()).collect();
        let mut found = Self::default();
        let mut parts: Vec<(String, Self)> = runs;
        found.unsafe_skew = merge(&mut parts, |one| &mut one.unsafe_skew);
        found.access = merge(&mut parts, |one| &mut one.access);
        found.routes = merge(&mut parts, |one| &mut one.routes);
        found.amplification = merge(&mut parts, |one| &mut one.amplification);
        found.timeouts = merge(&mut parts, |one| &mut one.timeouts);
        found.calls = merge(&mut parts, |one| &mut one.calls);
        found.services = merge(&mut parts, |one| &mut one.services);
        found.guards = merge(&mut parts, |one| &mut one.guards);
        found.settings = merge(&mut parts, |one| &mut one.settings);
        found.slices = merge(&mut parts, |one| &mut one.slices);
        found.unknown = merge(&mut parts, |one| &mut one.unknown);
        found.environments = names;
        found.sort();
        found
    }

    /// The gravest first, and what belongs together side by side.
    fn sort(&mut self) {
        self.access.sort_by_key(|each| {
            let is_open = matches!(each.from.as_str(), "unauthenticated" | "any");
            let lost = each.change == "lost";
            // Nobody misses what nobody says they use.
            (lost, !is_open, lost && !each.declared, each.to.clone())
        });
        let grown = |each: &Amplification| {
            let of = |value: &Value| value.as_f64().unwrap_or(1.0);
            of(&each.after) - of(&each.before)
        };
        self.amplification
            .sort_by(|a, b| grown(b).total_cmp(&grown(a)));
        self.settings.sort_by_key(|each| !each.may_widen);
        self.guards.sort_by_key(|each| !each.may_widen);
        self.routes.sort_by(|a, b| a.service.cmp(&b.service));
        self.slices.sort_by(|a, b| a.workload.cmp(&b.workload));
    }

    /// How many slices change, counted in each environment.
    pub(crate) fn changed_slices(&self) -> usize {
        let every = self.environments.len();
        let of = |slice: &Slice| match slice.environments.len() {
            0 => every.max(1),
            some => some,
        };
        self.slices.iter().map(of).sum()
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_nothing(&self) -> bool {
        self.unsafe_skew.is_empty()
            && self.access.is_empty()
            && self.routes.is_empty()
            && self.amplification.is_empty()
            && self.timeouts.is_empty()
            && self.calls.is_empty()
            && self.services.is_empty()
            && self.guards.is_empty()
            && self.settings.is_empty()
            && self.slices.is_empty()
            && self.unknown.is_empty()
            && self.environments_added.is_empty()
            && self.environments_removed.is_empty()
    }
}

fn merge<T: Item>(
    runs: &mut [(String, Difference)],
    list: impl Fn(&mut Difference) -> &mut Vec<T>,
) -> Vec<T> {
    let every = runs.len();
    let mut merged: Vec<T> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (name, found) in runs {
        for mut item in std::mem::take(list(found)) {
            // Its JSON says everything about an item; one that has none is told for each environment.
            let key = serde_json::to_string(&item).unwrap_or_else(|_| format!("{name} {every}"));
            let index = *known.entry(key).or_insert_with(|| {
                item.environments().clear();
                merged.push(item);
                merged.len() - 1
            });
            if let Some(item) = merged.get_mut(index)
                && item.environments().last() != Some(name)
            {
                item.environments().push(name.clone());
            }
        }
    }
    for item in &mut merged {
        if item.environments().len() == every {
            item.environments().clear();
        }
    }
    merged
}
